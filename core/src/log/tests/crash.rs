//! Seeded schedules: appends, trims, power losses, kills and failures at any moment.

use super::*;
use crate::disk_sim::FaultOdds;

/// One life of a directory: several processes on it, each ended somehow.
fn live(seed: u64, faults: FaultOdds) -> Bench {
    let segment_bytes = [4_096, 6_144, 16_384][(seed % 3) as usize];
    let mut bench = Bench::new(seed, segment_bytes);
    for _ in 0..4 + bench.rng.below(4) {
        bench.disk.set_faults(faults);
        live_once(&mut bench);
        bench.disk.set_faults(FaultOdds::default());
        end_somehow(&mut bench);
        bench.reopen();
    }
    bench.open_whole();
    bench.crash_and_open();
    bench
}

fn live_once(bench: &mut Bench) {
    let steps = bench.rng.below(120);
    for _ in 0..steps {
        if bench.failed.is_some() || bench.sealed.is_some() {
            break;
        }
        match bench.rng.below(20) {
            0..=3 => {
                let count = 1 + bench.rng.below(4) as usize;
                let largest = if bench.rng.one_in(20) { 9_000 } else { 700 };
                let sizes: Vec<usize> =
                    (0..count).map(|_| bench.rng.below(largest) as usize).collect();
                bench.append_sizes(&sizes);
            }
            4 => {
                bench.tick();
            }
            5 => {
                let bytes = bench.rng.below(3_000);
                bench.replay(bytes);
            }
            6 if bench.rng.one_in(4) => trim(bench),
            7 if bench.rng.one_in(10) => {
                bench.log.seal(bench.now);
                bench.drain();
            }
            _ => {
                bench.step();
            }
        }
    }
}

/// A checkpoint of what was replayed and committed so far, and a trim below it.
fn trim(bench: &mut Bench) {
    let replayed = bench.next.saturating_sub(1);
    if bench.opened.is_some() && replayed > bench.config.replay_from.0 {
        bench.config.replay_from = Txn(replayed);
        bench.log.trim(Txn(replayed).next(), bench.now);
        bench.drain();
    }
}

fn end_somehow(bench: &mut Bench) {
    match bench.rng.below(4) {
        0 => bench.disk.kill(),
        1 => {
            bench.disk.kill();
            bench.disk.crash();
        }
        _ => bench.disk.crash(),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_lost_comes_back() {
    let mut commits = 0;
    for seed in 0..1_500 {
        commits += live(seed, FaultOdds::default()).commits;
    }
    assert!(commits > 10_000, "{commits} commits: the schedules do real work");
}

#[test]
fn a_failed_command_loses_nothing_acknowledged() {
    for seed in 10_000..10_600 {
        live(seed, FaultOdds { read: 0, write: 60, sync: 30, name: 60, ..FaultOdds::default() });
    }
}

#[test]
fn a_seed_decides_everything() {
    let faults = FaultOdds { read: 0, write: 80, sync: 40, name: 80, ..FaultOdds::default() };
    let (first, second) = (live(7, faults), live(7, faults));
    assert_eq!(first.acked, second.acked);
    assert_eq!(first.disk.synced_bytes(), second.disk.synced_bytes());
    assert!(first.disk.files().eq(second.disk.files()));
}

#[test]
fn a_crash_at_every_step_of_a_segment_switch_loses_nothing() {
    for crash_at in 0..60 {
        let mut bench = Bench::new(crash_at, 4_096);
        bench.open_whole();
        // Fills the first segment up to its end, then switches.
        bench.append_sizes(&[300, 300]);
        bench.settle();
        for _ in 0..4 {
            bench.append_sizes(&[700]);
        }
        for _ in 0..crash_at {
            if !bench.step() {
                bench.tick();
            }
        }
        bench.crash_and_open();
        bench.append_sizes(&[100]);
        bench.settle();
        bench.crash_and_open();
    }
}
