//! `bigpeer-sim`: deterministic simulation of a server, devices, disks and networks.
//!
//! One seed fixes everything that happens. A failing seed is printed with the command that replays it, the rule
//! that was broken, and the last lines of its timeline.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks on its standard output")]

mod check;
mod coverage;
mod options;
mod planted;
mod profile;
mod run;
mod shape;
mod trace;
mod workload;
mod world;

use std::ops::Range;
use std::process::ExitCode;

use clap::Parser;

use coverage::Coverage;
use options::Options;
use run::{Outcome, run_seed, run_seeds};

fn main() -> ExitCode {
    let options = Options::parse();
    run::keep_panics_quiet();
    let threads = options.threads.unwrap_or_else(cores);
    if options.planted {
        let (bug, also) = (options.bug.as_deref(), options.also.as_deref());
        return code(planted::run(threads, bug, also, options.seeds.clone()));
    }
    if let Some(seed) = options.seed {
        return code(one(seed, options.loud));
    }
    code(many(options.seeds.clone().unwrap_or(0..100), threads, &options))
}

fn many(seeds: Range<u64>, threads: usize, options: &Options) -> bool {
    let began = std::time::Instant::now();
    let count = seeds.end - seeds.start;
    let (mut coverage, mut failed, mut events) = (Coverage::default(), Vec::new(), 0);
    run_seeds(seeds, threads, |outcome| {
        coverage.merge(&outcome.coverage);
        events += outcome.events;
        if outcome.failure.is_some() {
            failed.push(outcome);
        }
    });
    failed.sort_by_key(|outcome| outcome.seed);
    for (index, outcome) in failed.iter().take(REPORTS_MAX).enumerate() {
        report(outcome, index == 0);
    }
    if failed.len() > REPORTS_MAX {
        let more: Vec<u64> = failed[REPORTS_MAX..].iter().map(|outcome| outcome.seed).collect();
        println!("these seeds failed as well: {more:?}");
    }
    println!("{}", coverage.table());
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {} failed, {events} events, {seconds:.1} s, {:.1} seeds/s on {threads} threads",
        failed.len(),
        count as f64 / seconds
    );
    let least = options.coverage_for(count);
    let rare = coverage.below(least);
    if !rare.is_empty() {
        println!("occurred fewer than {least} times: {rare:?}");
    }
    failed.is_empty() && rare.is_empty()
}

fn one(seed: u64, is_loud: bool) -> bool {
    println!("bigpeer-sim {} seed {seed}", env!("CARGO_PKG_VERSION"));
    let outcome = run_seed(seed, is_loud);
    println!("{}", outcome.coverage.table());
    report(&outcome, true);
    println!("trace {:016x} after {} events", outcome.hash, outcome.events);
    outcome.failure.is_none()
}

fn report(outcome: &Outcome, with_timeline: bool) {
    let Some(failure) = &outcome.failure else { return };
    println!("seed {} failed: {failure}", outcome.seed);
    println!("  replay with: cargo run --release -p bigpeer-simulator -- --seed {}", outcome.seed);
    if with_timeline {
        outcome.timeline.iter().for_each(|line| println!("  {line}"));
    }
}

/// Failures that are shown in words; the first with the end of its timeline.
const REPORTS_MAX: usize = 10;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

fn code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        let (a, b) = (run_seed(1, false), run_seed(1, false));
        assert_eq!((a.hash, a.events), (b.hash, b.events));
        assert_ne!(a.hash, run_seed(2, false).hash);
    }

    #[test]
    fn a_few_seeds_pass() {
        run_seeds(0..6, 2, |outcome| assert_eq!(outcome.failure, None, "seed {}", outcome.seed));
    }
}
