//! The command line.

use std::ops::Range;

use clap::Parser;

/// Runs a server, devices and clients in a virtual world, and judges what they promise.
///
/// One seed fixes a whole run: who there is, what they do, which faults happen and when. The world has virtual
/// time, disks that lose unsynced sectors, mailboxes that delay, and a network that delays, cuts and partitions.
/// Without --seed, --seeds or --planted the seeds 0..100 are run.
#[derive(Debug, Parser)]
#[command(name = "bigpeer-sim", version, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Run this one seed; print its coverage, the hash of its trace and, if it fails, the end of its timeline.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "planted"])]
    pub(crate) seed: Option<u64>,
    /// Run the seeds from A up to, but without, B; fail if one fails, or if a fault or state was too rare. With
    /// --planted: look for the bugs in these.
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub(crate) seeds: Option<Range<u64>>,
    /// Test the tester: make each planted bug in turn; succeed only when a judge finds every one, in a seed that
    /// passes without it. Needs a build with --features planted-bugs.
    #[arg(long)]
    pub(crate) planted: bool,
    /// With --planted: only the bug of this name.
    #[arg(long, value_name = "NAME", requires = "planted")]
    pub(crate) bug: Option<String>,
    /// With --bug: make the bug of this name as well, also in the run that must pass. So it is shown which mechanism heals
    /// a bug that no judge finds alone.
    #[arg(long, value_name = "NAME", requires = "bug")]
    pub(crate) also: Option<String>,
    /// Run so many seeds at once; the number of cores by default.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// With --seeds: fail when a fault or state occurred fewer times than this; 20 by default for 1000 seeds or
    /// more, else 0.
    #[arg(long, value_name = "N")]
    pub(crate) coverage: Option<u64>,
    /// With --seed: print every line of the timeline, and every frame, as it happens (on standard error).
    #[arg(long, requires = "seed")]
    pub(crate) loud: bool,
}

const EXAMPLES: &str = "\
Examples:
  bigpeer-sim --seeds 0..1000        the usual check
  bigpeer-sim --seed 48 --loud       one run, line by line
  bigpeer-sim --planted --bug SnapshotIgnored

Exit codes: 0 all is well, 1 something failed, was too rare or was not found, 2 usage.";

/// So many seeds must have met every fault and state.
const SEEDS_COVERING: u64 = 1_000;

/// So often each of them.
const COVERAGE: u64 = 20;

impl Options {
    /// How often each fault and state must occur in so many seeds.
    pub(crate) fn coverage_for(&self, seeds: u64) -> u64 {
        self.coverage.unwrap_or(if seeds >= SEEDS_COVERING { COVERAGE } else { 0 })
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").ok_or("expected A..B")?;
    let number = |text: &str| text.parse().map_err(|error| format!("`{text}`: {error}"));
    let range = number(bounds.0)?..number(bounds.1)?;
    if range.is_empty() { Err("the range is empty".into()) } else { Ok(range) }
}
