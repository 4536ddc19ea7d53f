//! `load`: what durable INSERTs and point reads cost over HTTP, as ratios to what this machine and our own empty
//! handler can do, measured in the same run.
//!
//! The machine's limits come first. Then, for every driver, a server is started on a directory of its own, and the
//! workloads take turns: a bare tokio + httparse responder, the empty handler and the real statement, with one body,
//! again and again. Every ratio is taken within one round, and the median of the rounds is shown. Smaller
//! measurements follow: point reads beside a scan and a client that never reads, both on a server with one thread,
//! and a start on a log of 100,000 transactions.
//!
//! `--instructions` counts instructions under Valgrind instead, for one build or for two: what a change costs shows there
//! also on a machine whose times say nothing.
//!
//! Times are reported; only counts (syncs, bytes) make the exit code 1, because machines are noisy.

mod bare;
mod beside;
mod client;
mod figures;
mod instructions;
mod limits;
mod machine;
mod perf;
mod process;
mod recovery;
mod report;
mod request;
mod rounds;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::report::Report;

/// Measures `bigpeer serve` and the machine below it
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Options {
    /// The release build of the server; beside this program unless given
    #[arg(long, value_name = "FILE")]
    bigpeer: Option<PathBuf>,
    /// Where data directories are made and removed: on a real disk, not on tmpfs
    #[arg(long, value_name = "DIR", default_value = "target/load-data")]
    data: PathBuf,
    /// The drivers to measure, one after the other
    #[arg(long, value_delimiter = ',', default_value = "epoll")]
    driver: Vec<String>,
    /// Numbers of connections, each in a closed loop of one request
    #[arg(long, value_delimiter = ',', default_value = "64,256")]
    connections: Vec<usize>,
    /// How many times the workloads take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each workload runs in a round, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Threads of the server and of the bare responder; as many as cores unless given
    #[arg(long)]
    shards: Option<usize>,
    /// Documents of 1 KiB in the scanned collection
    #[arg(long, default_value_t = 100_000)]
    documents: usize,
    /// Short, for continuous integration: 256 connections, one round, counts alone are judged
    #[arg(long)]
    smoke: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Run one workload and nothing else, to look at the server with a profiler: its process id is printed first
    #[arg(long, value_name = "WORKLOAD")]
    only: Option<rounds::Workload>,
    /// Count the instructions of a request instead, under Valgrind: they repeat on a busy machine, where times do not
    #[arg(long)]
    instructions: bool,
    /// Another build of the server, whose instructions are counted in the same run
    #[arg(long, value_name = "FILE", requires = "instructions")]
    rival: Option<PathBuf>,
    /// Be the bare responder, with this many threads, until standard input ends
    #[arg(long, hide = true, value_name = "THREADS")]
    bare_responder: Option<usize>,
}

/// What is measured, after the options of the command line are settled.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    bigpeer: PathBuf,
    data: PathBuf,
    connections: Vec<usize>,
    rounds: usize,
    time: Duration,
    shards: usize,
    documents: usize,
}

impl Options {
    fn plan(&self) -> io::Result<Plan> {
        let seconds = if self.smoke { 0.8 } else { self.seconds };
        let bigpeer = match &self.bigpeer {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("bigpeer"),
        };
        if !bigpeer.is_file() {
            return Err(io::Error::other(format!(
                "{} is missing: cargo build --release -p bigpeer-server, or name it with --bigpeer",
                bigpeer.display()
            )));
        }
        Ok(Plan {
            bigpeer,
            data: self.data.clone(),
            connections: if self.smoke { vec![256] } else { self.connections.clone() },
            rounds: if self.smoke { 1 } else { self.rounds.max(1) },
            time: Duration::from_secs_f64(seconds),
            shards: self.shards.unwrap_or_else(machine::cores).max(1),
            documents: self.documents.max(1),
        })
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

/// True when no count missed its bar.
fn run(options: &Options) -> io::Result<bool> {
    if let Some(threads) = options.bare_responder {
        bare::serve(threads)?;
        return Ok(true);
    }
    let plan = options.plan()?;
    std::fs::create_dir_all(&plan.data)?;
    if let Some(workload) = options.only {
        return run_only(&plan, &options.driver, workload);
    }
    let mut report = Report::new(options.json);
    report.machine(&machine::describe(&plan.data)?)?;
    if !options.instructions {
        report.limits(&limits::measure(&plan.data)?)?;
    }
    for driver in &options.driver {
        match options.instructions {
            true => count_instructions(&plan, driver, options.rival.as_deref(), &mut report)?,
            false => measure_driver(&plan, driver, &mut report)?,
        }
    }
    report.finish()
}

fn count_instructions(
    plan: &Plan,
    driver: &str,
    rival: Option<&Path>,
    report: &mut Report,
) -> io::Result<()> {
    let directory = plan.data.join(format!("{driver}-{}", std::process::id()));
    let measure = |bigpeer| instructions::measure(plan, bigpeer, driver, &directory);
    let result = measure(&plan.bigpeer).and_then(|ours| {
        let rivals = rival.map(measure).transpose()?;
        report.instructions(driver, &ours, rivals.as_ref())
    });
    let removed = std::fs::remove_dir_all(&directory);
    result.and(removed)
}

fn run_only(plan: &Plan, drivers: &[String], workload: rounds::Workload) -> io::Result<bool> {
    for driver in drivers {
        let directory = plan.data.join(format!("{driver}-{}", std::process::id()));
        let result = rounds::only(plan, driver, &directory, workload);
        let removed = std::fs::remove_dir_all(&directory);
        result.and(removed)?;
    }
    Ok(true)
}

fn measure_driver(plan: &Plan, driver: &str, report: &mut Report) -> io::Result<()> {
    let directory = plan.data.join(format!("{driver}-{}", std::process::id()));
    let result = measure_in(plan, driver, &directory, report);
    // What a failed run leaves behind would only fill the disk.
    let removed = std::fs::remove_dir_all(&directory);
    result.and(removed)
}

fn measure_in(plan: &Plan, driver: &str, directory: &Path, report: &mut Report) -> io::Result<()> {
    let rounds = directory.join("rounds");
    for measured in rounds::measure(plan, driver, &rounds)? {
        report.rounds(driver, plan.shards, &measured)?;
    }
    report.beside(driver, &beside::measure(plan, driver, &directory.join("beside"))?)?;
    report.recovery(driver, &recovery::measure(plan, driver, &directory.join("recovery"))?)
}
