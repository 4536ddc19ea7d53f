//! Durable bytes that changed: the log must refuse and say where, never cut in silence.

use super::*;

/// A log that was stopped in order, so that everything in it is stated to be durable.
fn sealed_log(segment_bytes: u64) -> Bench {
    let mut bench = Bench::new(3, segment_bytes);
    bench.open_whole();
    for size in [100, 900, 40, 1_500, 700, 700, 700, 300, 30] {
        bench.append_sizes(&[size, 20]);
        bench.settle();
    }
    bench.seal();
    bench
}

fn segments(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let names = bench.disk.files().map(|(name, _)| name.to_owned());
    let content = |name: &str| bench.disk.content(name).expect("it was listed").to_vec();
    names
        .map(|name| {
            let content = content(&name);
            (name, content)
        })
        .collect()
}

#[test]
fn a_flipped_bit_in_the_durable_part_is_refused_with_file_and_offset() {
    let bench = sealed_log(4_096);
    let files = segments(&bench);
    let mut refused = 0;
    for (name, content) in &files {
        for offset in (0..content.len() as u64).step_by(37) {
            let mut hurt = Bench {
                acked: bench.acked.clone(),
                config: bench.config.clone(),
                ..Bench::new(4, 4_096)
            };
            hurt.disk = bench.disk.clone();
            hurt.disk.flip_bit(name, offset, 3);
            hurt.reopen();
            hurt.settle();
            match &hurt.failed {
                Some(LogError::Damaged(damage)) => {
                    refused += 1;
                    assert_eq!(&*damage.file, name);
                    assert!(damage.offset_bytes <= offset, "{damage}");
                }
                Some(other) => panic!("{name} at {offset}: {other}"),
                // Padding, what lies behind the end, or the last seal itself.
                None => hurt.open_whole(),
            }
        }
    }
    assert!(refused > 100, "{refused} refusals");
}

#[test]
fn a_missing_segment_is_refused() {
    let bench = sealed_log(4_096);
    let used = bench.log.fill().segment_count - u64::from(bench.log.fill().spare_ready);
    assert!(used >= 3, "{used}");
    for number in 1..=used {
        let mut hurt = Bench {
            acked: bench.acked.clone(),
            config: bench.config.clone(),
            ..Bench::new(5, 4_096)
        };
        hurt.disk = bench.disk.clone();
        hurt.disk.remove(&segment::segment_file(number));
        hurt.reopen();
        hurt.settle();
        assert!(matches!(hurt.failed, Some(LogError::Damaged(_))), "segment {number}");
    }
}

#[test]
fn a_log_that_ends_below_the_checkpoint_is_refused() {
    let mut bench = sealed_log(16_384);
    bench.config.replay_from = Txn(1_000);
    bench.reopen();
    bench.settle();
    let Some(LogError::Damaged(damage)) = &bench.failed else { panic!("{:?}", bench.failed) };
    assert!(matches!(damage.kind, DamageKind::EndsBefore { .. }));
}

#[test]
fn an_empty_directory_is_refused_when_there_is_a_checkpoint() {
    let mut bench = sealed_log(16_384);
    bench.disk = VirtualDisk::new(&[0; 32]);
    bench.config.replay_from = Txn(3);
    bench.reopen();
    bench.settle();
    assert!(matches!(bench.failed, Some(LogError::Damaged(_))));
}

#[test]
fn a_lost_write_of_a_whole_page_is_refused() {
    let bench = sealed_log(16_384);
    let name = "log/0000000000000001.seg";
    for page in 0..1 {
        let mut hurt = Bench {
            acked: bench.acked.clone(),
            config: bench.config.clone(),
            ..Bench::new(6, 16_384)
        };
        hurt.disk = bench.disk.clone();
        hurt.disk.overwrite(name, page * 4_096, &[0; 4_096]);
        hurt.reopen();
        hurt.settle();
        assert!(matches!(hurt.failed, Some(LogError::Damaged(_))));
    }
}
