//! What is printed: tables for people, or one JSON object.

use std::io::{self, Write};

use bigpeer_core::value::{Object, Value, json};

use crate::beside::Beside;
use crate::instructions::Instructions;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::recovery::Recovery;
use crate::rounds::{Figures, Measured, WORKLOADS, Workload};

/// Collects what was measured. Tables are printed as they come.
#[derive(Debug)]
pub(crate) struct Report {
    is_json: bool,
    whole: Object,
    drivers: Vec<Value>,
    verdicts: Vec<Verdict>,
}

/// A measured value and its bar.
#[derive(Debug)]
struct Verdict {
    what: String,
    found: f64,
    bar: Bar,
    /// Counts decide about the exit code, times are reported.
    is_count: bool,
}

#[derive(Clone, Copy, Debug)]
enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing is asked of it.
    None,
}

impl Bar {
    fn holds(self, found: f64) -> bool {
        match self {
            Self::AtLeast(bar) => found >= bar,
            Self::AtMost(bar) => found <= bar,
            Self::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bar) => format!("≥ {bar}"),
            Self::AtMost(bar) => format!("≤ {bar}"),
            Self::None => "-".to_owned(),
        }
    }

    fn verdict(self, found: f64) -> &'static str {
        match self {
            Self::None => "told",
            _ if self.holds(found) => "met",
            _ => "missed",
        }
    }
}

/// The bars.
const INSERT_TO_EMPTY_MIN: f64 = 0.5;
const READ_TO_EMPTY_MIN: f64 = 0.8;
const EMPTY_CPU_TO_BARE_MAX: f64 = 1.5;
const SYNCS_PER_1000_MAX: f64 = 40.0;
const BUSY_TO_IDLE_P99_MAX: f64 = 3.0;
const UNREAD_MIB_MAX: f64 = 8.0;
const RECOVERY_MS_MAX: f64 = 1_000.0;

const INSTRUCTIONS_TO_RIVAL_MAX: f64 = 1.03;

/// The number of connections that the bars on durable INSERTs speak of: fewer clients cannot share a sync as widely.
const INSERTS_JUDGED_CONNECTIONS: usize = 256;

type Count = fn(&Instructions) -> f64;

/// The requests whose instructions are counted.
const WORKLOADS_COUNTED: [(&str, Count); 3] = [
    ("empty handler", |of| of.empty),
    ("point read", |of| of.read),
    ("durable INSERT", |of| of.insert),
];

impl Report {
    /// An empty report.
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json, whole: Object::new(), drivers: Vec::new(), verdicts: Vec::new() }
    }

    /// What it was measured on.
    ///
    /// # Errors
    ///
    /// When standard output is gone; so for all that follows.
    pub(crate) fn machine(&mut self, machine: &Machine) -> io::Result<()> {
        let Machine { cores, processor, kernel, disk, load } = machine;
        self.whole.insert("cores", count(*cores));
        for (name, text) in
            [("processor", processor), ("kernel", kernel), ("disk", disk), ("load", load)]
        {
            self.whole.insert(name, Value::from(text.as_str()));
        }
        self.say(&format!(
            "machine      {cores} cores, {processor}; Linux {kernel}; {disk}; load average {load}"
        ))
    }

    /// What the machine can do.
    pub(crate) fn limits(&mut self, limits: &Limits) -> io::Result<()> {
        let Limits { round_trip, sync, copy_bytes_per_second } = limits;
        let mut object = Object::new();
        for (name, latencies) in [("roundTrip", round_trip), ("sync", sync)] {
            object.insert(format!("{name}P50Us"), number(latencies.quantile_us(0.5)));
            object.insert(format!("{name}P99Us"), number(latencies.quantile_us(0.99)));
        }
        object.insert("copyBytesPerSecond", number(*copy_bytes_per_second));
        self.whole.insert("limits", Value::Object(object));
        let line = |latencies: &crate::figures::Latencies| {
            let (p50, p99) = (latencies.quantile_us(0.5), latencies.quantile_us(0.99));
            format!("p50 {p50:.0} µs, p99 {p99:.0} µs")
        };
        self.say(&format!(
            "round trip   loopback TCP, 512 B there, 256 B back: {}",
            line(round_trip)
        ))?;
        self.say(&format!("fdatasync    4 KiB in a pre-written file: {}", line(sync)))?;
        self.say(&format!("memcpy       {:.1} GB/s", copy_bytes_per_second / 1e9))
    }

    /// The workloads with one number of connections.
    pub(crate) fn rounds(
        &mut self,
        driver: &str,
        shards: usize,
        measured: &Measured,
    ) -> io::Result<()> {
        let connections = measured.connections;
        self.say(&format!(
            "\n{driver}, {shards} shards, {connections} connections; medians of {} rounds\n{:<36}{:>9}{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}",
            measured.rounds.len(), "", "req/s", "CPU µs", "load µs", "syscalls", "syncs/k", "p50 µs", "p99 µs"
        ))?;
        let mut rows = Vec::new();
        for workload in WORKLOADS {
            rows.push(self.row(measured, workload)?);
        }
        let mut object = Object::new();
        object.insert("driver", Value::from(driver));
        object.insert("shards", count(shards));
        object.insert("connections", count(connections));
        object.insert("workloads", Value::Array(rows));
        self.drivers.push(Value::Object(object));
        self.judge_rounds(driver, measured);
        Ok(())
    }

    /// Point reads beside a scan, and the unread answer.
    pub(crate) fn beside(&mut self, driver: &str, beside: &Beside) -> io::Result<()> {
        let Beside { documents, scan_ms, reads, answer_bytes, unread_bytes, unread_clients } =
            beside;
        self.say(&format!(
            "\n{driver}, 1 shard, {documents} documents; a scan alone takes {scan_ms:.0} ms"
        ))?;
        for reads in reads {
            let connections = reads.connections;
            self.say(&format!(
                "point reads on {connections} connections: p99 {:.0} µs idle, {:.0} µs beside {:.1} scans/s",
                reads.idle_p99_us, reads.busy_p99_us, reads.scans_per_second
            ))?;
            let what =
                format!("{driver}: read p99 beside a scan, to idle, {connections} connections");
            self.judge(what, reads.ratio, Bar::AtMost(BUSY_TO_IDLE_P99_MAX), false);
        }
        let unread_mib = *unread_bytes as f64 / f64::from(1 << 20);
        self.say(&format!(
            "an answer of {:.0} MB that is not read: {unread_mib:.1} MiB each for {unread_clients} clients",
            *answer_bytes as f64 / 1e6
        ))?;
        let what = format!("{driver}: MiB for a client that never reads");
        self.judge(what, unread_mib, Bar::AtMost(UNREAD_MIB_MAX), true);
        Ok(())
    }

    /// The start on a long log.
    pub(crate) fn recovery(&mut self, driver: &str, recovery: &Recovery) -> io::Result<()> {
        let Recovery { transactions, millis } = recovery;
        self.say(&format!("a start on a log of {transactions} transactions: {millis:.0} ms"))?;
        let what = format!("{driver}: ms to answer again, per 100,000 transactions");
        let found = millis * 1e5 / *transactions as f64;
        self.judge(what, found, Bar::AtMost(RECOVERY_MS_MAX), false);
        Ok(())
    }

    /// The instructions of a request, and how many they are to those of a rival.
    ///
    /// # Errors
    ///
    /// If standard output is gone.
    pub(crate) fn instructions(
        &mut self,
        driver: &str,
        ours: &Instructions,
        rival: Option<&Instructions>,
    ) -> io::Result<()> {
        self.say(&format!("\n{driver}, instructions of one request"))?;
        let mut object = Object::new();
        object.insert("driver", Value::from(driver));
        for (name, of) in WORKLOADS_COUNTED {
            let (found, empty) = (of(ours), ours.empty);
            self.say(&format!("{name:<16}{found:>9.0}{:>7.2} x the empty handler", found / empty))?;
            object.insert(name, number(found));
            if let Some(rival) = rival {
                let what =
                    format!("{driver}: instructions of {name} to the rival's {:.0}", of(rival));
                let bar = Bar::AtMost(INSTRUCTIONS_TO_RIVAL_MAX);
                self.judge(what, found / of(rival), bar, true);
            }
        }
        self.drivers.push(Value::Object(object));
        Ok(())
    }

    /// Prints the verdicts. True when no count missed its bar.
    pub(crate) fn finish(mut self) -> io::Result<bool> {
        self.say("")?;
        let mut verdicts = Vec::new();
        for verdict in &self.verdicts {
            let Verdict { what, found, bar, is_count } = verdict;
            let word = bar.verdict(*found);
            let kind = if *is_count { "count" } else { "time" };
            self.say(&format!("{word:<7}{found:>8.2}  {:<7}{kind:<6}{what}", bar.text()))?;
            let mut object = Object::new();
            object.insert("what", Value::from(what.as_str()));
            object.insert("found", number(*found));
            object.insert("bar", Value::from(bar.text()));
            object.insert("met", Value::Bool(bar.holds(*found)));
            object.insert("kind", Value::from(kind));
            verdicts.push(Value::Object(object));
        }
        if self.is_json {
            self.whole.insert("runs", Value::Array(self.drivers));
            self.whole.insert("verdicts", Value::Array(verdicts));
            let mut out = Vec::new();
            json::write(&Value::Object(self.whole), &mut out);
            out.push(b'\n');
            io::stdout().write_all(&out)?;
        }
        Ok(self
            .verdicts
            .iter()
            .all(|verdict| !verdict.is_count || verdict.bar.holds(verdict.found)))
    }

    fn row(&self, measured: &Measured, workload: Workload) -> io::Result<Value> {
        type Pick = fn(&Figures) -> f64;
        let picks: [(&str, Pick); 6] = [
            ("perSecond", |figures| figures.per_second),
            ("cpuUs", |figures| figures.cpu_us),
            ("clientUs", |figures| figures.client_us),
            ("syncsPer1000", |figures| figures.syncs_per_1000),
            ("p50Us", |figures| figures.p50_us),
            ("p99Us", |figures| figures.p99_us),
        ];
        let values = picks.map(|(_, pick)| measured.of(workload, pick));
        let [rate, cpu, client, syncs, p50, p99] = values;
        let kernel = measured.kernel[workload as usize];
        let syscalls =
            kernel.map_or("refused".to_owned(), |kernel| format!("{:.2}", kernel.syscalls));
        self.say(&format!(
            "{:<36}{rate:>9.0}{cpu:>9.1}{client:>9.1}{syscalls:>10}{syncs:>9.1}{p50:>9.0}{p99:>9.0}",
            workload.name()
        ))?;
        let mut row = Object::new();
        row.insert("name", Value::from(workload.name()));
        for ((name, _), value) in picks.into_iter().zip(values) {
            row.insert(name, number(value));
        }
        if let Some(kernel) = kernel {
            row.insert("syscalls", number(kernel.syscalls));
            row.insert("syncCallsPer1000", number(kernel.syncs * 1e3));
        }
        Ok(Value::Object(row))
    }

    fn judge_rounds(&mut self, driver: &str, measured: &Measured) {
        use Workload::{BareInsert, BareRead, EmptyInsert, EmptyRead, Insert, Read};
        let connections = measured.connections;
        let rate = |figures: &Figures| figures.per_second;
        let cpu = |figures: &Figures| figures.cpu_us;
        let is_crowd = connections >= INSERTS_JUDGED_CONNECTIONS;
        let insert = if is_crowd { Bar::AtLeast(INSERT_TO_EMPTY_MIN) } else { Bar::None };
        // The package enters the kernel for each operation, and has no way to be told otherwise.
        let empty_cpu = match driver {
            "glommio" => Bar::None,
            _ => Bar::AtMost(EMPTY_CPU_TO_BARE_MAX),
        };
        let ratios = [
            ("INSERT rate to empty handler", measured.ratio(Insert, EmptyInsert, rate), insert),
            (
                "point read rate to empty handler",
                measured.ratio(Read, EmptyRead, rate),
                Bar::AtLeast(READ_TO_EMPTY_MIN),
            ),
            (
                "empty handler CPU to bare, INSERT body",
                measured.ratio(EmptyInsert, BareInsert, cpu),
                empty_cpu,
            ),
            (
                "empty handler CPU to bare, read body",
                measured.ratio(EmptyRead, BareRead, cpu),
                empty_cpu,
            ),
        ];
        for (what, found, bar) in ratios {
            self.judge(format!("{driver}: {what}, {connections} connections"), found, bar, false);
        }
        if is_crowd {
            let syncs = measured.of(Insert, |figures| figures.syncs_per_1000);
            let what = format!(
                "{driver}: syncs for 1,000 acknowledged INSERTs, {connections} connections"
            );
            self.judge(what, syncs, Bar::AtMost(SYNCS_PER_1000_MAX), true);
        }
    }

    fn judge(&mut self, what: String, found: f64, bar: Bar, is_count: bool) {
        self.verdicts.push(Verdict { what, found, bar, is_count });
    }

    fn say(&self, line: &str) -> io::Result<()> {
        if self.is_json { Ok(()) } else { writeln!(io::stdout(), "{line}") }
    }
}

fn count(count: usize) -> Value {
    number(count as f64)
}

/// Whole numbers stay whole; three digits behind the point say all that a measurement knows.
fn number(number: f64) -> Value {
    let rounded = (number * 1e3).round() / 1e3;
    if rounded.fract() == 0.0 {
        Value::from(rounded as i64)
    } else {
        Value::finite(rounded).unwrap_or(Value::Null)
    }
}
