//! A disk that lacks something for a while: space, or a descriptor.

use super::*;
use crate::disk_sim::{CommandKind, FaultOdds};

fn again() -> DiskError {
    DiskError::Again("no descriptor is left".into())
}

#[test]
fn what_the_disk_had_no_space_for_is_written_again_when_there_is_some() {
    for (kind, error) in [
        (CommandKind::Write, DiskError::Full),
        (CommandKind::Sync, DiskError::Full),
        (CommandKind::Write, again()),
        (CommandKind::Sync, again()),
    ] {
        let mut bench = Bench::new(1, 16_384);
        bench.open_whole();
        bench.append_sizes(&[700]);
        bench.settle();
        bench.disk.fail_next(kind, error.clone());
        bench.append_sizes(&[600, 50]);
        bench.settle();
        assert_eq!((bench.commits, &bench.failed), (1, &None), "{kind:?} {error}");
        assert_eq!(bench.log.fill().disk_full, error == DiskError::Full);
        let ticket = bench.append_sizes(&[10]);
        let is_refused = bench.refused.contains(&(ticket, Refusal::Full));
        assert_eq!(is_refused, error == DiskError::Full, "nothing is promised on a full disk");
        bench.settle_timers(4);
        assert_eq!(bench.commits, 3 + u64::from(!is_refused), "{kind:?} {error}");
        assert!(!bench.log.fill().disk_full);
        bench.crash_and_open();
        bench.append_sizes(&[10]);
        bench.settle();
        bench.crash_and_open();
    }
}

#[test]
fn nothing_is_taken_before_what_the_disk_had_no_space_for_is_durable() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.disk.fail_next(CommandKind::Write, DiskError::Full);
    bench.append_sizes(&[600]);
    bench.settle();
    assert!(bench.log.fill().disk_full);
    assert!(bench.tick(), "it is written again when its time has come");
    assert!(bench.log.fill().disk_full, "and may be refused again");
    let ticket = bench.append_sizes(&[10]);
    assert_eq!(bench.refused, [(ticket, Refusal::Full)]);
    bench.settle();
    assert_eq!((bench.commits, bench.log.fill().disk_full), (1, false));
    bench.append_sizes(&[10]);
    bench.settle();
    assert_eq!(bench.commits, 2);
}

#[test]
fn a_disk_that_refuses_for_the_moment_neither_ends_the_log_nor_loses_anything() {
    let mut commits = 0;
    for seed in 0..400 {
        let mut bench = Bench::new(seed, [4_096, 6_144, 16_384][(seed % 3) as usize]);
        for _ in 0..3 {
            bench.open_whole();
            bench.disk.set_faults(FaultOdds { full: 12, again: 8, ..FaultOdds::default() });
            for _ in 0..60 {
                match bench.rng.below(8) {
                    0 | 1 => drop(bench.append_sizes(&[bench.tickets as usize % 700, 100])),
                    2 => drop(bench.tick()),
                    _ => drop(bench.step()),
                }
                assert_eq!(bench.failed, None, "seed {seed}");
            }
            bench.disk.set_faults(FaultOdds::default());
            if bench.rng.one_in(2) {
                bench.disk.crash();
            }
            bench.reopen();
        }
        bench.open_whole();
        bench.settle_timers(6);
        assert_eq!(bench.failed, None, "seed {seed}");
        bench.crash_and_open();
        commits += bench.commits;
    }
    assert!(commits > 4_000, "{commits} commits: the schedules do real work");
}

#[test]
fn a_log_that_cannot_record_its_boot_for_want_of_space_opens_to_be_read() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    bench.append_sizes(&[700, 10]);
    bench.settle();
    let used_bytes = bench.disk.files().map(|(_, bytes)| bytes).sum();
    bench.disk.set_capacity(used_bytes);
    let mut is_short = false;
    for _ in 0..12 {
        bench.crash_and_open();
        assert_eq!(bench.next, 3, "all there is can be read");
        is_short |= bench.log.fill().disk_full;
    }
    assert!(is_short, "the boots have filled what there was");
    let ticket = bench.append_sizes(&[10]);
    bench.settle();
    assert_eq!(bench.refused, [(ticket, Refusal::Full)]);
    bench.disk.set_capacity(u64::MAX);
    bench.settle_timers(2);
    bench.append_sizes(&[10]);
    bench.settle();
    assert_eq!(bench.log.durable(), Txn(3), "the log takes writes by itself when there is space");
    bench.crash_and_open();
    let boots = bench.opened.as_ref().map(|opened| opened.boots.entries().len());
    assert!(boots.is_some_and(|count| count > 2));
}

#[test]
fn a_closed_log_says_at_once_that_it_is_sealed() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.disk.fail_next(CommandKind::Sync, DiskError::Io("gone".into()));
    bench.append_sizes(&[10]);
    bench.settle();
    assert!(bench.failed.is_some() && bench.sealed.is_none());
    bench.log.seal(bench.now);
    bench.drain();
    assert_eq!(
        bench.sealed,
        Some(false),
        "nothing more becomes durable: there is nothing to wait for"
    );
}

#[test]
fn a_log_that_fails_while_it_is_sealed_ends_all_the_same() {
    for error in [DiskError::Io("gone".into()), DiskError::Full] {
        let mut bench = Bench::new(1, 16_384);
        bench.open_whole();
        bench.append_sizes(&[10]);
        bench.disk.fail_next(CommandKind::Sync, error);
        bench.log.seal(bench.now);
        bench.drain();
        bench.settle();
        assert!(bench.sealed == Some(false) && bench.failed.is_some());
        bench.crash_and_open();
    }
}

#[test]
fn the_end_of_the_last_segment_is_left_for_what_makes_room() {
    let mut bench = Bench::new(1, 64 << 10);
    bench.open_whole();
    bench.disk.set_capacity(3 * (64 << 10));
    while bench.refused.is_empty() {
        bench.append_sizes(&[700]);
        bench.settle();
    }
    let before = bench.commits;
    for _ in 0..3 {
        bench.tickets += 1;
        let record = payload(bench.boots, bench.tickets, 0, 400);
        bench.given.insert(bench.tickets, vec![record.clone()]);
        let records = vec![LogRecord::new(flags_of(&record), record)];
        bench.log.append_freeing(bench.tickets, records, bench.now);
        bench.drain();
        bench.settle();
    }
    assert_eq!(bench.commits - before, 3, "and only that");
    bench.append_sizes(&[700]);
    bench.settle();
    assert_eq!(bench.commits - before, 3);
    bench.crash_and_open();
}

#[test]
fn a_log_whose_end_cannot_be_mended_at_the_start_opens_to_be_read_and_is_mended_later() {
    for (kind, error) in [
        (CommandKind::Write, DiskError::Full),
        (CommandKind::Sync, DiskError::Full),
        (CommandKind::Write, DiskError::ReadOnly),
        (CommandKind::SyncDir, DiskError::ReadOnly),
        (CommandKind::Write, again()),
        (CommandKind::SyncDir, again()),
        (CommandKind::List, again()),
        (CommandKind::Read, again()),
    ] {
        let mut bench = Bench::new(1, 16_384);
        bench.open_whole();
        bench.append_sizes(&[700, 10]);
        bench.settle();
        // No header states these records to be durable: what is found of them is written once more.
        bench.disk.fail_next(kind, error.clone());
        bench.reopen();
        bench.settle();
        let lacks = !matches!(error, DiskError::Again(_));
        assert_eq!(bench.opened.is_some(), lacks, "{kind:?} {error}: {:?}", bench.failed);
        if lacks {
            bench.open_whole();
            assert_eq!(bench.next, 3, "all there is can be read");
            let fill = bench.log.fill();
            assert_eq!(
                (fill.disk_full, fill.read_only),
                (error == DiskError::Full, error != DiskError::Full)
            );
            let ticket = bench.append_sizes(&[10]);
            let refusal = if error == DiskError::Full { Refusal::Full } else { Refusal::ReadOnly };
            assert_eq!(bench.refused, [(ticket, refusal)], "{kind:?} {error}");
        }
        bench.settle_timers(2);
        bench.open_whole();
        bench.append_sizes(&[10]);
        bench.settle();
        assert_eq!(bench.log.durable(), Txn(3), "{kind:?} {error}: the log mends itself");
        bench.crash_and_open();
    }
}

#[test]
fn a_log_that_was_not_mended_is_sealed_and_not_called_whole() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.append_sizes(&[700]);
    bench.settle();
    bench.disk.fail_next(CommandKind::Sync, DiskError::Full);
    bench.reopen();
    bench.open_whole();
    assert_eq!(bench.next, 2, "all there is can be read");
    bench.log.seal(bench.now);
    bench.drain();
    assert_eq!(bench.sealed, Some(false), "what was read may be in the memory of the kernel alone");
    bench.reopen();
    bench.open_whole();
    bench.seal();
}

#[test]
fn a_volume_that_is_read_only_for_a_while_is_read_and_loses_nothing() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.append_sizes(&[700]);
    bench.settle();
    bench.disk.set_read_only(true);
    // The first write meets it, and waits; then the log knows.
    bench.append_sizes(&[600]);
    bench.settle();
    assert!(bench.failed.is_none() && bench.log.fill().read_only);
    let ticket = bench.append_sizes(&[10]);
    assert_eq!(bench.refused, [(ticket, Refusal::ReadOnly)]);
    bench.reopen();
    bench.open_whole();
    assert_eq!(bench.next, 2, "a start on it reads what there is");
    assert!(bench.log.fill().read_only);
    bench.settle_timers(3);
    assert!(bench.log.fill().read_only, "it stays so as long as the volume does");
    bench.disk.set_read_only(false);
    bench.settle_timers(3);
    assert!(!bench.log.fill().read_only);
    bench.append_sizes(&[10]);
    bench.settle();
    assert_eq!(bench.log.durable(), Txn(2), "the log takes writes by itself");
    bench.crash_and_open();
}

#[test]
fn a_log_waits_for_segments_that_may_go_once_its_boot_table_is_durable() {
    let mut commits = 0;
    for seed in 0..100 {
        let mut bench = Bench::new(seed, 4_096);
        // Only a full volume lets anything go.
        bench.config.retain_bytes = u64::MAX;
        bench.reopen();
        bench.open_whole();
        bench.disk.set_capacity(14 * 4_096);
        let mut trimmed = Txn(0);
        for _ in 0..60 {
            bench.append_sizes(&[700]);
            for _ in 0..bench.rng.below(12) {
                if !bench.step() {
                    bench.tick();
                }
                // All that is durable lies in a checkpoint.
                if bench.log.durable() > trimmed {
                    trimmed = bench.log.durable();
                    bench.log.trim(trimmed.next(), bench.now);
                    bench.drain();
                }
            }
        }
        assert_eq!(bench.refused, [], "seed {seed}: the volume is full of what nothing needs");
        commits += bench.commits;
    }
    assert!(commits > 4_000, "{commits} commits: many a segment was left for the next");
}
