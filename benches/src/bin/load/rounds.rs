//! The workloads in turns: bare responder, empty handler, statement; for INSERT and for point read.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::Plan;
use crate::client::Load;
use crate::figures::median;
use crate::perf::{self, Rates};
use crate::process::{Process, Server};
use crate::request::{self, Ids, Target, Template};

/// What is asked, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// The body of an INSERT, answered by the bare responder.
    BareInsert,
    /// The same, answered by the empty handler.
    EmptyInsert,
    /// The INSERT, answered when it is durable.
    Insert,
    /// The body of a point read, answered by the bare responder.
    BareRead,
    /// The same, answered by the empty handler.
    EmptyRead,
    /// The point read.
    Read,
}

/// In the order of a round.
pub(crate) const WORKLOADS: [Workload; 6] = {
    use Workload::{BareInsert, BareRead, EmptyInsert, EmptyRead, Insert, Read};
    [BareInsert, EmptyInsert, Insert, BareRead, EmptyRead, Read]
};

/// One workload in one round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Answers per second.
    pub(crate) per_second: f64,
    /// CPU time of the server for each answer.
    pub(crate) cpu_us: f64,
    /// CPU time of the load for each answer.
    pub(crate) client_us: f64,
    /// Syncs that the log issued for 1,000 answers.
    pub(crate) syncs_per_1000: f64,
    /// The median latency.
    pub(crate) p50_us: f64,
    /// The latency that one in a hundred exceeds.
    pub(crate) p99_us: f64,
}

/// All rounds with one number of connections.
#[derive(Debug)]
pub(crate) struct Measured {
    /// How many connections.
    pub(crate) connections: usize,
    /// By round, then in the order of [`WORKLOADS`].
    pub(crate) rounds: Vec<[Figures; WORKLOADS.len()]>,
    /// Calls into the kernel and syncs for each answer, in the order of [`WORKLOADS`]; `None` when perf was refused.
    pub(crate) kernel: [Option<Rates>; WORKLOADS.len()],
}

impl Measured {
    /// The median over the rounds of a figure.
    pub(crate) fn of(&self, workload: Workload, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round[workload as usize])))
    }

    /// The median over the rounds of a ratio between two workloads of one round.
    pub(crate) fn ratio(
        &self,
        of: Workload,
        to: Workload,
        figure: impl Fn(&Figures) -> f64,
    ) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| figure(&round[of as usize]) / figure(&round[to as usize])),
        )
    }
}

impl Workload {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareInsert => "INSERT body, bare tokio + httparse",
            Self::EmptyInsert => "INSERT body, empty handler",
            Self::Insert => "durable INSERT",
            Self::BareRead => "read body, bare tokio + httparse",
            Self::EmptyRead => "read body, empty handler",
            Self::Read => "point read",
        }
    }
}

/// Documents that point reads choose from.
const DOCUMENTS_READ: u64 = 10_000;

/// How many documents one statement inserts.
const BATCH: u64 = 500;

/// Measures every number of connections of the plan.
///
/// # Errors
///
/// When a process does not start, or a request fails.
pub(crate) fn measure(plan: &Plan, driver: &str, data: &Path) -> io::Result<Vec<Measured>> {
    let mut bench = Bench::start(plan, driver, data)?;
    plan.connections.iter().map(|&connections| bench.measure(connections)).collect()
}

/// Runs one workload, one line for every number of connections and round.
///
/// # Errors
///
/// When a process does not start, or a request fails.
pub(crate) fn only(plan: &Plan, driver: &str, data: &Path, workload: Workload) -> io::Result<()> {
    let mut bench = Bench::start(plan, driver, data)?;
    let process = bench.process(workload).id();
    writeln!(io::stdout(), "{driver}, process {process}: {}", workload.name())?;
    for &connections in &plan.connections {
        for _ in 0..plan.rounds {
            let figures = bench.run(workload, connections, plan.time)?;
            writeln!(io::stdout(), "{connections} connections: {figures:.1?}")?;
        }
    }
    Ok(())
}

/// Inserts `count` documents.
///
/// # Errors
///
/// When the server refuses them.
pub(crate) fn fill(
    server: &Server,
    collection: &str,
    count: u64,
    document: impl Fn(u64) -> String,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(server.process.address)?;
    let mut answer = vec![0; 256 * 1024];
    for first in (0..count).step_by(BATCH as usize) {
        let documents: Vec<_> = (first..count.min(first + BATCH)).map(&document).collect();
        stream.write_all(&request::bulk(&server.access, collection, &documents))?;
        let mut length = 0;
        // The answer names every document, and ends with the brace that nothing else ends with.
        while !answer[..length].ends_with(b"}") {
            match stream.read(&mut answer[length..])? {
                0 => return Err(io::Error::other("the server closed the connection")),
                count => length += count,
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            let text = String::from_utf8_lossy(&answer[..length.min(2_000)]);
            return Err(io::Error::other(format!("not inserted: {text}")));
        }
    }
    Ok(())
}

struct Bench<'a> {
    plan: &'a Plan,
    server: Server,
    bare: Process,
    fresh: Ids,
}

/// What is read at both ends of a measured time.
struct Sample {
    cpu: Duration,
    syncs: f64,
}

impl<'a> Bench<'a> {
    fn start(plan: &'a Plan, driver: &str, data: &Path) -> io::Result<Self> {
        let server = Server::start(&plan.bigpeer, data, driver, plan.shards)?;
        let bare = Process::bare_responder(plan.shards)?;
        fill(&server, "bench", DOCUMENTS_READ, request::small_document)?;
        Ok(Self { plan, server, bare, fresh: Ids::Fresh { next: DOCUMENTS_READ } })
    }

    fn measure(&mut self, connections: usize) -> io::Result<Measured> {
        let mut rounds = Vec::new();
        for _ in 0..self.plan.rounds {
            let mut round = [Figures::default(); WORKLOADS.len()];
            for workload in WORKLOADS {
                round[workload as usize] = self.run(workload, connections, self.plan.time)?;
            }
            rounds.push(round);
        }
        let mut kernel = [None; WORKLOADS.len()];
        for workload in WORKLOADS {
            // perf fails when a thread of the process ends while it attaches: then it may once more.
            let counted = self.count(workload, connections)?;
            kernel[workload as usize] = match counted {
                None if perf::is_there() => self.count(workload, connections)?,
                counted => counted,
            };
        }
        Ok(Measured { connections, rounds, kernel })
    }

    fn run(
        &mut self,
        workload: Workload,
        connections: usize,
        time: Duration,
    ) -> io::Result<Figures> {
        use Workload::{BareInsert, BareRead, EmptyInsert, EmptyRead, Insert, Read};
        let target = match workload {
            Insert | Read => Target::Execute,
            BareInsert | EmptyInsert | BareRead | EmptyRead => Target::Empty,
        };
        let access = &self.server.access;
        let mut template = match workload {
            BareInsert | EmptyInsert | Insert => Template::insert(access, target),
            BareRead | EmptyRead | Read => Template::read(access, target),
        };
        let mut known = Ids::Known { below: DOCUMENTS_READ, state: 88_172_645_463_325_252 };
        let ids = if workload == Insert { &mut self.fresh } else { &mut known };
        let server = &self.server;
        let process = match workload {
            BareInsert | BareRead => &self.bare,
            EmptyInsert | Insert | EmptyRead | Read => &server.process,
        };
        let address = process.address;
        let load = Load { address, connections, time, template: &mut template, ids };
        let (answered, first, last) = load.run(|| {
            let syncs = server.counters()?.get("bigpeer_log_syncs_total");
            Ok(Sample { cpu: process.cpu()?, syncs })
        })?;
        let count = answered.latencies.len().max(1) as f64;
        Ok(Figures {
            per_second: answered.per_second(),
            cpu_us: (last.cpu.saturating_sub(first.cpu)).as_secs_f64() * 1e6 / count,
            client_us: answered.client_cpu.as_secs_f64() * 1e6 / count,
            syncs_per_1000: (last.syncs - first.syncs) * 1e3 / count,
            p50_us: answered.latencies.quantile_us(0.5),
            p99_us: answered.latencies.quantile_us(0.99),
        })
    }

    /// A run of its own, because counting costs the server time.
    fn count(&mut self, workload: Workload, connections: usize) -> io::Result<Option<Rates>> {
        let counted = perf::count(self.process(workload).id(), COUNT_TIME);
        let figures = self.run(workload, connections, COUNT_TIME + Duration::from_millis(300))?;
        let rates = counted.join().expect("counting does not panic");
        let per_answer = |rate: f64| rate / figures.per_second.max(1.0);
        Ok(rates.map(|rates| Rates {
            syscalls: per_answer(rates.syscalls),
            syncs: per_answer(rates.syncs),
        }))
    }

    fn process(&self, workload: Workload) -> &Process {
        match workload {
            Workload::BareInsert | Workload::BareRead => &self.bare,
            _ => &self.server.process,
        }
    }
}

/// How long the kernel's events are counted.
const COUNT_TIME: Duration = Duration::from_millis(500);
