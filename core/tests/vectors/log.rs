//! Files: the segments of a log that two processes wrote, and a checkpoint.

use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::ident::{BootId, LogId, Txn, Uuid};
use bigpeer_core::log::checkpoint::{CheckpointInfo, CheckpointWriter, WriterOutput};
use bigpeer_core::log::{Log, LogConfig, LogOutput, LogRecord};
use bigpeer_core::seam::Now;
use bigpeer_core::time::{Instant, WallMs};
use bigpeer_core::value::Value;
use bytes::Bytes;

use super::{Vectors, agree};

const SEED: [u8; 32] = [5; 32];
const BOOTS: [BootId; 2] = [BootId(Uuid([0xB1; 16])), BootId(Uuid([0xB2; 16]))];

/// A log on a virtual disk, driven until it is quiet.
struct Process {
    disk: VirtualDisk,
    log: Log,
    now: Now,
    tickets: u64,
    committed: Vec<(u64, Bytes)>,
    sealed: bool,
}

impl Process {
    fn open(disk: VirtualDisk, boot: BootId) -> Self {
        let now = Now { wall: WallMs(1_700_000_000_000), ..Now::default() };
        let config = LogConfig { segment_bytes: 4_096, ..LogConfig::new(boot, SEED) };
        let log = Log::open(config, now);
        let mut process = Self { disk, log, now, tickets: 0, committed: Vec::new(), sealed: false };
        process.settle();
        process.log.replay_more(u64::MAX, process.now);
        process.settle();
        process
    }

    fn append(&mut self, records: &[&[u8]]) {
        self.tickets += 1;
        let record = |bytes: &&[u8]| LogRecord::critical(Bytes::copy_from_slice(bytes));
        self.log.append(self.tickets, records.iter().map(record).collect(), self.now);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            while let Some(output) = self.log.poll_output() {
                match output {
                    LogOutput::Disk(op, command) => self.disk.submit(op, command),
                    LogOutput::Committed { first, records } => {
                        let records =
                            (first.0..).zip(records.into_iter().map(LogRecord::into_bytes));
                        self.committed.extend(records);
                    }
                    LogOutput::Sealed { is_whole } => self.sealed = is_whole,
                    LogOutput::Failed { error } => panic!("the disk has no faults: {error}"),
                    LogOutput::Refused { reason, .. } => panic!("there is room: {reason}"),
                    LogOutput::Short => panic!("there is space"),
                    LogOutput::Opened(_) | LogOutput::Appended { .. } => {}
                }
            }
            match self.disk.step() {
                Some(done) => self.log.handle_disk(done, self.now),
                None => return,
            }
            self.now.mono = Instant { ns: self.now.mono.ns + 1_000 };
        }
    }

    fn seal(mut self) -> (VirtualDisk, Vec<(u64, Bytes)>) {
        self.log.seal(self.now);
        self.settle();
        assert!(self.sealed, "a healthy log seals");
        (self.disk, self.committed)
    }
}

/// One process appends and stops, the next goes on into further segments; the last file is the spare one.
fn written() -> (VirtualDisk, Vec<(u64, Bytes)>) {
    let mut first = Process::open(VirtualDisk::new(&SEED), BOOTS[0]);
    first.append(&[b"one", b"two"]);
    first.append(&[b""]);
    let (disk, _) = first.seal();
    let mut second = Process::open(disk, BOOTS[1]);
    second.append(&[&[b'x'; 600]]);
    second.append(&[&[b'y'; 700], b"six"]);
    second.seal()
}

fn checkpoint() -> VirtualDisk {
    let mut disk = VirtualDisk::new(&SEED);
    disk.install_dir("checkpoint");
    let log_id = LogId(Uuid([0x10; 16]));
    let info = CheckpointInfo { log_id, at: Txn(6), created: WallMs(1_700_000_000_000) };
    let mut writer = CheckpointWriter::start(info, 1, 0);
    let mut chunks = vec![&b"second chunk"[..], &[b'c'; 600]];
    let mut finished = false;
    loop {
        while let Some(output) = writer.poll_output() {
            match output {
                WriterOutput::Disk(op, command) => disk.submit(op, command),
                WriterOutput::Failed { error } => panic!("the disk has no faults: {error}"),
                WriterOutput::Done { .. } => {}
                WriterOutput::Cleared { .. } => return disk,
            }
        }
        if writer.is_ready() && !finished {
            match chunks.pop() {
                Some(chunk) => writer.push(&[chunk]),
                None => {
                    writer.finish();
                    finished = true;
                }
            }
        } else {
            writer.handle_disk(disk.step().expect("a writer that is not ready waits for the disk"));
        }
    }
}

#[test]
fn log_files_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    let (disk, _) = written();
    let files: Vec<String> = disk.files().map(|(name, _)| name.to_owned()).collect();
    for file in files {
        vectors.push(file.as_str(), disk.content(&file).expect("it is listed"));
    }
    vectors.check("log");
}

#[test]
fn a_checkpoint_is_written_as_it_was() {
    let mut vectors = Vectors::default();
    let disk = checkpoint();
    let name = "checkpoint/0000000000000006.ckpt";
    vectors.push(name, disk.content(name).expect("it was renamed to its position"));
    vectors.check("checkpoint");
}

#[test]
fn the_decoder_reads_the_log_that_was_written() {
    let (_, committed) = written();
    let record = |(position, bytes): (u64, Bytes)| {
        Value::from(format!("{position}: {}", String::from_utf8_lossy(&bytes)))
    };
    let committed: Vec<Value> = committed.into_iter().map(record).collect();
    for (number, records) in [(1, &committed[..3]), (2, &committed[3..4]), (3, &committed[4..])] {
        agree("log", &segment(number), "records", records.to_vec());
    }
    let boots = vec![
        Value::from(format!("{} from 1", BOOTS[0])),
        Value::from(format!("{} from 4", BOOTS[1])),
    ];
    agree("log", &segment(3), "groups.0.boots", boots);
}

fn segment(number: u64) -> String {
    format!("log/{number:016x}.seg")
}

#[test]
fn the_decoder_reads_the_checkpoint_that_was_written() {
    let name = "checkpoint/0000000000000006.ckpt";
    agree("checkpoint", name, "header.at", 6);
    agree("checkpoint", name, "header.log", "10101010-1010-1010-1010-101010101010");
    agree("checkpoint", name, "chunks.1", "second chunk");
    agree("checkpoint", name, "footer.payload_bytes", 612);
}
