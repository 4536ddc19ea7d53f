//! The command line.

use std::ops::Range;

use clap::Parser;

/// Runs servers and devices in a virtual world, and judges what they promise.
#[derive(Debug, Parser)]
#[command(name = "bigpeer-sim", version)]
pub(crate) struct Options {
    /// Run this one seed and print its timeline.
    #[arg(long, conflicts_with_all = ["seeds", "planted"])]
    pub(crate) seed: Option<u64>,
    /// Run the seeds from A up to, but without, B.
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub(crate) seeds: Option<Range<u64>>,
    /// Run the planted bugs; succeed only when each is found. Needs the feature `planted-bugs`.
    #[arg(long)]
    pub(crate) planted: bool,
    /// With --planted: only the bug of this name.
    #[arg(long, requires = "planted")]
    pub(crate) bug: Option<String>,
    /// Run as many seeds at once; the number of cores by default.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Fail when a fault or state occurred fewer times than this.
    #[arg(long, default_value_t = 0)]
    pub(crate) coverage: u64,
    /// With --seed: print every line of the timeline as it happens.
    #[arg(long)]
    pub(crate) loud: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").ok_or("expected A..B")?;
    let number = |text: &str| text.parse().map_err(|error| format!("`{text}`: {error}"));
    let range = number(bounds.0)?..number(bounds.1)?;
    if range.is_empty() { Err("the range is empty".into()) } else { Ok(range) }
}
