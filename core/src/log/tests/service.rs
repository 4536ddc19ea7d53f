//! What a healthy log does for its owner.

use super::*;
use crate::disk_sim::CommandKind;

#[test]
fn an_empty_directory_becomes_a_log_and_keeps_its_identity() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    let first = bench.opened.clone().expect("it is open");
    assert!(first.created && first.durable == Txn(0) && first.next == Txn(1));
    bench.crash_and_open();
    let second = bench.opened.clone().expect("it is open");
    assert_eq!(second.log_id, first.log_id);
    assert!(!second.created);
    assert_eq!(second.boots.entries().len(), 2);
}

#[test]
fn records_come_back_with_positions_flags_and_bytes() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.append_sizes(&[10, 0, 3_000]);
    bench.settle();
    assert_eq!((bench.log.durable(), bench.log.end()), (Txn(3), Txn(3)));
    bench.crash_and_open();
    assert_eq!(bench.next, 4);
    bench.append_sizes(&[1]);
    bench.settle();
    let boots = bench.log.boots().expect("it is open").clone();
    assert_eq!(boots.entries().last().map(|entry| entry.first), Some(Txn(4)));
    assert!(boots.contains(bench.config.boot, Txn(4)));
}

#[test]
fn a_lone_append_is_synced_without_waiting_for_a_timer() {
    let mut bench = Bench::new(1, 65_536);
    bench.open_whole();
    for _ in 0..10 {
        bench.append_sizes(&[100]);
        bench.settle();
        assert_eq!(bench.log.fill().pending_records, 0);
    }
}

#[test]
fn appends_during_a_sync_share_the_next_one() {
    let mut bench = Bench::new(1, 65_536);
    bench.open_whole();
    bench.append_sizes(&[100]);
    let syncs = |bench: &Bench| {
        bench
            .disk
            .pending()
            .filter(|(_, command)| matches!(command, DiskCommand::Sync { .. }))
            .count()
    };
    while syncs(&bench) == 0 {
        bench.step();
    }
    for _ in 0..100 {
        bench.append_sizes(&[100]);
        assert!(syncs(&bench) <= 1);
    }
    let before = bench.commits;
    let mut finished = 0;
    while bench.log.fill().pending_records > 0 {
        let durable = bench.log.durable();
        if !bench.step() {
            bench.tick();
        }
        finished += u32::from(bench.log.durable() > durable);
    }
    assert_eq!(bench.commits - before, 101);
    assert_eq!(finished, 2, "one sync for the first append, one for the hundred others");
}

#[test]
fn replay_hands_out_no_more_than_it_was_given_leave_for() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    for _ in 0..20 {
        bench.append_sizes(&[100]);
        bench.settle();
    }
    bench.disk.crash();
    bench.reopen();
    bench.settle();
    let before = bench.commits;
    bench.settle();
    assert_eq!(bench.commits, before, "no leave, no records");
    let ticket = bench.append_sizes(&[10]);
    bench.replay(250);
    bench.settle();
    assert_eq!(bench.commits - before, 3);
    assert!(bench.given.contains_key(&ticket), "an append waits for the end of the replay");
    bench.replay(u64::MAX);
    bench.settle();
    assert_eq!(bench.commits - before, 21);
}

#[test]
fn replay_starts_above_the_checkpoint() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    for _ in 0..20 {
        bench.append_sizes(&[100, 300]);
        bench.settle();
    }
    bench.config.replay_from = Txn(31);
    let before = bench.commits;
    bench.crash_and_open();
    assert_eq!(bench.commits - before, 9);
}

#[test]
fn trimmed_segments_are_used_again_and_never_confuse() {
    let mut bench = Bench::new(1, 8_192);
    bench.open_whole();
    for round in 0..200 {
        bench.append_sizes(&[500, 700]);
        bench.settle();
        if round % 5 == 0 {
            bench.config.replay_from = bench.log.durable();
            bench.log.trim(bench.log.durable().next(), bench.now);
            bench.drain();
            bench.settle();
        }
        if round % 17 == 0 {
            bench.crash_and_open();
        }
    }
    assert!(bench.disk.files().count() <= 5, "{:?}", bench.disk.files().collect::<Vec<_>>());
}

#[test]
fn trimming_keeps_the_bytes_it_was_told_to_keep() {
    let mut bench = Bench::new(1, 8_192);
    bench.config.retain_bytes = 5 * 8_192;
    bench.reopen();
    bench.open_whole();
    for _ in 0..60 {
        bench.append_sizes(&[500, 700]);
        bench.settle();
        bench.log.trim(bench.log.durable().next(), bench.now);
        bench.drain();
    }
    let used = bench.log.fill().segment_count - u64::from(bench.log.fill().spare_ready);
    assert!((5..=6).contains(&used), "{used}");
}

#[test]
fn a_record_longer_than_a_segment_gets_a_segment_of_its_own() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    bench.append_sizes(&[50_000]);
    bench.append_sizes(&[10]);
    bench.settle();
    bench.append_sizes(&[70_000, 80_000]);
    bench.settle_timers(4);
    assert_eq!(bench.log.durable(), Txn(4));
    bench.crash_and_open();
}

#[test]
fn a_full_disk_refuses_before_a_position_is_promised() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    bench.disk.set_capacity(8_192);
    let mut accepted = 0;
    for _ in 0..20 {
        bench.append_sizes(&[700]);
        bench.settle();
        accepted = bench.commits;
    }
    assert!(bench.refused.iter().all(|(_, reason)| *reason == Refusal::Full));
    assert!(!bench.refused.is_empty() && accepted >= 4, "{accepted}");
    assert_eq!(accepted + bench.refused.len() as u64, 20, "every append was answered");
    assert!(bench.log.fill().disk_full && bench.failed.is_none());
    bench.disk.set_capacity(u64::MAX);
    bench.settle_timers(2);
    bench.append_sizes(&[700]);
    bench.settle();
    assert_eq!(bench.commits, accepted + 1, "there is space again");
    bench.crash_and_open();
}

#[test]
fn what_waits_behind_a_refused_append_is_refused_with_it() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.disk.set_capacity(32_768);
    let mut both = 0;
    let is_refused =
        |bench: &Bench, ticket| bench.refused.iter().any(|(refused, _)| *refused == ticket);
    for _ in 0..10 {
        // It is not known any more that the disk is full: the next append waits for another try.
        bench.now.mono.ns += 2_000_000_000;
        let large = bench.append_sizes(&[9_000]);
        let is_waiting = !is_refused(&bench, large);
        // This one would fit into what is left of the segment.
        let small = bench.append_sizes(&[10]);
        bench.settle();
        if is_waiting && is_refused(&bench, large) {
            assert!(is_refused(&bench, small), "it may build on what was refused");
            both += 1;
        }
    }
    assert!(both > 0, "the disk was full");
    bench.disk.set_capacity(u64::MAX);
    bench.crash_and_open();
}

#[test]
fn after_a_failed_sync_nothing_is_accepted() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.append_sizes(&[10]);
    bench.settle();
    bench.disk.fail_next(CommandKind::Sync, DiskError::Io("gone".into()));
    bench.append_sizes(&[20]);
    bench.settle();
    assert!(matches!(bench.failed, Some(LogError::Disk { .. })));
    assert_eq!(bench.commits, 1);
    let ticket = bench.append_sizes(&[30]);
    assert_eq!(bench.refused, [(ticket, Refusal::Closed)]);
    assert_eq!(bench.log.durable(), Txn(1), "reads go on at what is durable");
    // The process starts again on the same machine, and only then the power fails.
    bench.disk.kill();
    bench.reopen();
    bench.open_whole();
    bench.crash_and_open();
}

#[test]
fn an_idle_log_states_what_is_durable() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.append_sizes(&[10]);
    bench.settle();
    bench.settle_timers(3);
    assert_eq!(bench.log.poll_timeout(), None, "a quiet log has no timers");
    bench.disk.kill();
    bench.reopen();
    bench.open_whole();
    assert!(bench.opened.as_ref().is_some_and(|opened| opened.seal_seen));
}

#[test]
fn sealing_makes_durable_what_was_appended() {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    for _ in 0..10 {
        bench.append_sizes(&[100, 200]);
    }
    bench.seal();
    assert_eq!(bench.commits, 20);
    let late = bench.append_sizes(&[1]);
    assert_eq!(bench.refused, [(late, Refusal::Closed)]);
    bench.crash_and_open();
}

#[test]
fn bounds_are_refused() {
    let mut bench = Bench::new(1, 16_384);
    bench.config.pending_bytes_max = 2_000;
    bench.reopen();
    bench.open_whole();
    let empty = bench.append_sizes(&[]);
    bench.append_sizes(&[1_500]);
    let busy = bench.append_sizes(&[600]);
    assert_eq!(bench.refused, [(empty, Refusal::TooLarge), (busy, Refusal::Busy)]);
    let many = vec![0; APPEND_RECORDS_MAX + 1];
    let many = bench.append_sizes(&many);
    assert_eq!(bench.refused.last(), Some(&(many, Refusal::TooLarge)));
    bench.settle();
    assert_eq!(bench.commits, 1);
}

#[test]
fn a_restored_log_goes_on_far_behind_its_end() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    bench.append_sizes(&[10, 10]);
    bench.settle();
    bench.config.restored = true;
    bench.crash_and_open();
    let next = 3 + RESTORE_GAP;
    assert_eq!(bench.opened.as_ref().map(|opened| opened.next), Some(Txn(next)));
    assert_eq!(bench.log.end(), Txn(2));
    bench.config.restored = false;
    for _ in 0..8 {
        bench.append_sizes(&[600]);
        bench.settle();
    }
    assert_eq!(bench.log.durable(), Txn(next + 7));
    bench.crash_and_open();
    assert_eq!(bench.opened.as_ref().map(|opened| opened.next), Some(Txn(next + 8)));
    bench.config.replay_from = Txn(2);
    bench.crash_and_open();
}

#[test]
fn many_boots_without_a_record_do_not_grow_the_log_without_bound() {
    let mut bench = Bench::new(1, 4_096);
    bench.open_whole();
    bench.append_sizes(&[10]);
    bench.settle();
    for _ in 0..300 {
        bench.crash_and_open();
        bench.config.replay_from = bench.log.durable();
        bench.log.trim(bench.log.durable().next(), bench.now);
        bench.drain();
        bench.settle();
    }
    let bytes = bench.log.fill().segment_bytes;
    assert!(bytes < 200_000, "{bytes}");
}
