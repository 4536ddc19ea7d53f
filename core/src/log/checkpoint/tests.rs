use super::*;
use crate::disk::{DiskCommand, DiskError};
use crate::disk_sim::{CommandKind, VirtualDisk};

fn info(at: u64) -> CheckpointInfo {
    CheckpointInfo { log_id: LogId(Uuid([5; 16])), at: Txn(at), created: WallMs(9) }
}

fn chunks(at: u64) -> Vec<Vec<u8>> {
    let large = if at == 77 { 1_500_000 } else { 6_000 };
    [0_usize, 1, 500, large, 496, 5_000].map(|size| vec![at as u8; size]).to_vec()
}

/// Runs a writer for at most `steps` completions; what it said, without commands.
fn write(disk: &mut VirtualDisk, at: u64, keep: usize, steps: usize) -> Vec<WriterOutput> {
    let mut writer = CheckpointWriter::start(info(at), keep, 0);
    let mut left = chunks(at).into_iter();
    let (mut said, mut is_finished) = (Vec::new(), false);
    for _ in 0..steps {
        while writer.is_ready() && !is_finished {
            match left.next() {
                Some(chunk) => writer.push(&[&chunk]),
                None => {
                    writer.finish();
                    is_finished = true;
                }
            }
        }
        while let Some(output) = writer.poll_output() {
            match output {
                WriterOutput::Disk(op, command) => disk.submit(op, command),
                output => said.push(output),
            }
        }
        let Some(done) = disk.step() else { break };
        writer.handle_disk(done);
    }
    said
}

fn write_whole(disk: &mut VirtualDisk, at: u64, keep: usize) {
    let said = write(disk, at, keep, usize::MAX);
    assert_eq!(said[0], WriterOutput::Done { at: Txn(at) });
    assert!(matches!(said[1], WriterOutput::Cleared { .. }));
}

fn read(disk: &mut VirtualDisk, credit_bytes: u64) -> Vec<ReaderOutput> {
    let mut reader = CheckpointReader::start();
    let mut said = Vec::new();
    loop {
        while let Some(output) = reader.poll_output() {
            match output {
                ReaderOutput::Disk(op, command) => disk.submit(op, command),
                output => said.push(output),
            }
        }
        match disk.step() {
            Some(done) => reader.handle_disk(done),
            None if matches!(
                said.last(),
                Some(ReaderOutput::Finished | ReaderOutput::Empty | ReaderOutput::Failed { .. })
            ) =>
            {
                return said;
            }
            None => reader.more(credit_bytes),
        }
    }
}

/// The position of the checkpoint that was read whole, after how many were skipped.
fn found(said: &[ReaderOutput]) -> Option<(u64, usize)> {
    let skipped =
        said.iter().filter(|output| matches!(output, ReaderOutput::Skipped { .. })).count();
    let at = said.iter().find_map(|output| match output {
        ReaderOutput::Found(info) => Some(info.at.0),
        _ => None,
    })?;
    let read: Vec<Vec<u8>> = said
        .iter()
        .filter_map(|output| match output {
            ReaderOutput::Chunk(chunk) => Some(chunk.to_vec()),
            _ => None,
        })
        .collect();
    assert_eq!(read, chunks(at));
    assert_eq!(said.last(), Some(&ReaderOutput::Finished));
    Some((at, skipped))
}

fn disk(seed: u8) -> VirtualDisk {
    let mut disk = VirtualDisk::new(&[seed; 32]);
    disk.install_dir(CHECKPOINT_DIR);
    disk
}

#[test]
fn a_checkpoint_reads_back_after_a_crash() {
    let mut disk = disk(1);
    assert_eq!(read(&mut disk, 1), [ReaderOutput::Empty]);
    write_whole(&mut disk, 77, 1);
    disk.crash();
    assert_eq!(found(&read(&mut disk, 1)), Some((77, 0)));
    assert_eq!(found(&read(&mut disk, u64::MAX)), Some((77, 0)));
}

#[test]
fn a_crash_at_any_step_leaves_the_old_one_or_the_new_one_whole() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..30 {
        for steps in 0..22 {
            let mut disk = disk(seed);
            write_whole(&mut disk, 10, 1);
            let said = write(&mut disk, 20, 1, steps);
            disk.crash();
            let (at, skipped) = found(&read(&mut disk, u64::MAX)).expect("one of them is whole");
            assert_eq!(skipped, 0, "a checkpoint has its name only once it is whole");
            if said.contains(&WriterOutput::Done { at: Txn(20) }) {
                assert_eq!(at, 20);
            }
            old += u32::from(at == 10);
            new += u32::from(at == 20);
        }
    }
    assert!(old > 100 && new > 100, "{old} old, {new} new");
}

#[test]
fn any_flipped_bit_in_the_newest_falls_back_to_the_one_before() {
    let mut whole = disk(1);
    write_whole(&mut whole, 10, 2);
    write_whole(&mut whole, 20, 2);
    let name = "checkpoint/0000000000000014.ckpt";
    let len = whole.content(name).expect("it was written").len() as u64;
    let spots =
        (0..2_048).step_by(61).chain((2_048..len).step_by(331)).chain([len - 512, len - 480]);
    let mut fell_back = 0;
    for offset in spots {
        let mut disk = whole.clone();
        disk.flip_bit(name, offset, 2);
        let (at, skipped) = found(&read(&mut disk, u64::MAX)).expect("one of them is whole");
        assert!((at, skipped) == (10, 1) || (at, skipped) == (20, 0));
        fell_back += usize::from(at == 10);
    }
    assert!(fell_back > 20, "{fell_back}; the others hit padding");
}

#[test]
fn when_no_checkpoint_is_whole_the_reader_says_so() {
    let mut disk = disk(1);
    write_whole(&mut disk, 10, 1);
    disk.flip_bit("checkpoint/000000000000000a.ckpt", 40, 0);
    let said = read(&mut disk, u64::MAX);
    assert!(matches!(said[..], [ReaderOutput::Skipped { .. }, ReaderOutput::Failed { .. }]));
}

#[test]
fn only_as_many_as_asked_for_are_kept() {
    let mut disk = disk(1);
    for at in [10, 20, 30, 40] {
        write_whole(&mut disk, at, 2);
    }
    let said = write(&mut disk, 50, 2, usize::MAX);
    assert_eq!(said[1], WriterOutput::Cleared { oldest: Txn(40) });
    assert_eq!(disk.files().count(), 2);
}

#[test]
fn a_large_checkpoint_is_synced_as_it_grows_and_fails_with_any_of_its_syncs() {
    let syncs = |fails_at: Option<usize>| {
        let mut disk = disk(1);
        let mut writer = CheckpointWriter::start(info(20), 1, 0);
        let chunk = vec![7; CHUNK_BYTES_MAX / 8];
        let (mut said, mut left, mut syncs) = (Vec::new(), 8 * 4, 0);
        loop {
            while writer.is_ready() && left > 0 {
                writer.push(&[&chunk]);
                left -= 1;
                if left == 0 {
                    writer.finish();
                }
            }
            while let Some(output) = writer.poll_output() {
                match output {
                    WriterOutput::Disk(op, command) => {
                        if matches!(command, DiskCommand::Sync { .. }) {
                            syncs += 1;
                            if fails_at == Some(syncs) {
                                disk.fail_next(CommandKind::Sync, DiskError::Io("lost".into()));
                            }
                        }
                        disk.submit(op, command);
                    }
                    output => said.push(output),
                }
            }
            match disk.step() {
                Some(done) => writer.handle_disk(done),
                None => return (syncs, said, disk.files().count()),
            }
        }
    };
    let (count, said, _) = syncs(None);
    assert_eq!(said[0], WriterOutput::Done { at: Txn(20) });
    assert!(count > 4, "{count} syncs of 16 MiB");
    for fails_at in 1..=count {
        let (_, said, files) = syncs(Some(fails_at));
        assert!(matches!(said[..], [WriterOutput::Failed { .. }]), "sync {fails_at}: {said:?}");
        assert_eq!(files, 0, "sync {fails_at}: the half-made file is taken away");
    }
}

#[test]
fn a_failure_leaves_the_older_checkpoint_and_no_half_file() {
    let kinds = [CommandKind::Create, CommandKind::Write, CommandKind::Sync, CommandKind::Rename];
    for kind in kinds {
        let mut disk = disk(1);
        write_whole(&mut disk, 10, 1);
        disk.fail_next(kind, DiskError::Full);
        let said = write(&mut disk, 20, 1, usize::MAX);
        assert_eq!(said, [WriterOutput::Failed { error: DiskError::Full }], "{kind:?}");
        assert_eq!(found(&read(&mut disk, u64::MAX)), Some((10, 0)));
        let whole = disk.files().filter(|(name, _)| name.ends_with(".ckpt")).count();
        let half = disk.files().count() - whole;
        assert!(whole == 1 && half <= usize::from(kind == CommandKind::Rename), "{kind:?}");
    }
}

#[test]
fn the_bytes_of_version_1_are_frozen() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&encode_header(&info(77))[..48]), HEADER);
    let totals = Totals { chunk_count: 3, payload_bytes: 1_000 };
    assert_eq!(hex(&encode_footer(Txn(77), 4_096, totals)[..40]), FOOTER);
    assert_eq!(decode_footer(Txn(77), 4_096, &encode_footer(Txn(77), 4_096, totals)), Ok(totals));
}

const HEADER: &str = concat!(
    "425041520200010020000000596a3928",
    "050505050505050505050505050505054d000000000000000900000000000000",
);
const FOOTER: &str =
    "425041520400010018000000d92a76cb4d000000000000000300000000000000e803000000000000";

#[test]
fn a_full_disk_fails_the_checkpoint_and_takes_nothing() {
    let mut disk = disk(1);
    write_whole(&mut disk, 10, 1);
    let used: u64 = disk.files().map(|(_, len_bytes)| len_bytes).sum();
    disk.set_capacity(used + 5_000);
    let said = write(&mut disk, 20, 1, usize::MAX);
    assert_eq!(said, [WriterOutput::Failed { error: DiskError::Full }]);
    assert_eq!(disk.files().count(), 1);
}
