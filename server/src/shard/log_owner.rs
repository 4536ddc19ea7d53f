//! The log and what stands around it on the first thread: the gate for appends, who waits for which position,
//! and the pace of the replay.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bigpeer_core::disk::{DiskCommand, DiskDone, DiskOp};
use bigpeer_core::ident::{PartitionId, Txn};
use bigpeer_core::log::{
    Log, LogConfig, LogError, LogFill, LogOpened, LogOutput, LogRecord, Refusal,
};
use bigpeer_core::node::{AppendGate, AppendRefused, Ticket};
use bigpeer_core::seam::Now;
use bigpeer_core::time::Instant;
use bytes::Bytes;

use super::mail::AppendMail;

/// How much of the log may be under way to the threads while it is replayed.
const REPLAY_BYTES_MAX: u64 = 32 << 20;

/// What the owner of a log must do.
#[derive(Debug)]
pub(crate) enum LogEffect {
    Disk(DiskOp, DiskCommand),
    /// All threads reflect what was durable when the log was opened.
    Recovered,
    Appended { from: PartitionId, ticket: Ticket, result: Result<Txn, AppendRefused> },
    Committed { first: Txn, records: Arc<[Bytes]>, upto: Txn },
    Failed(String),
    Sealed,
}

/// A log that is whole and accepts appends once it has been replayed.
#[derive(Debug)]
pub struct OpenLog {
    log: Log,
    /// What was found.
    pub opened: Box<LogOpened>,
}

/// Opens a log; `execute` carries out its disk commands.
///
/// # Errors
///
/// What the log says about itself.
pub fn open_log(
    config: LogConfig,
    now: Now,
    mut execute: impl FnMut(DiskOp, DiskCommand) -> DiskDone,
) -> Result<OpenLog, LogError> {
    let mut log = Log::open(config, now);
    while let Some(output) = log.poll_output() {
        match output {
            LogOutput::Disk(op, command) => log.handle_disk(execute(op, command), now),
            LogOutput::Opened(opened) => return Ok(OpenLog { log, opened }),
            LogOutput::Failed { error } => return Err(error),
            _ => {}
        }
    }
    unreachable!("a log that waits for nothing has opened or failed")
}

/// The log, with what it needs to answer those who append.
#[derive(Debug)]
pub(crate) struct LogOwner {
    log: Log,
    gate: AppendGate,
    /// Appends without a position, by the number that the log knows them by.
    waiting: BTreeMap<u64, Waiting>,
    ticket_next: u64,
    /// Appends with a position that is not durable, in order.
    placed: VecDeque<(Txn, PartitionId, Ticket)>,
    replay: Replay,
    effects: VecDeque<LogEffect>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    from: PartitionId,
    ticket: Ticket,
    epoch: u32,
}

#[derive(Debug)]
struct Replay {
    /// Where it ends.
    target: Txn,
    given: Txn,
    /// Bytes given since leave was last given.
    given_bytes: u64,
    /// How far each thread has come.
    applied: Vec<Txn>,
    is_done: bool,
}

impl LogOwner {
    /// Takes a log that has been opened, and goes through what is in it.
    pub(crate) fn new(log: OpenLog, partitions: u16, threads: u16, now: Now) -> Self {
        let OpenLog { log, opened } = log;
        let mut owner = Self {
            log,
            gate: AppendGate::new(partitions),
            waiting: BTreeMap::new(),
            ticket_next: 0,
            placed: VecDeque::new(),
            replay: Replay {
                target: opened.durable,
                given: Txn(0),
                given_bytes: 0,
                applied: vec![Txn(0); usize::from(threads)],
                is_done: false,
            },
            effects: VecDeque::new(),
        };
        owner.log.replay_more(REPLAY_BYTES_MAX, now);
        owner.go_on(now);
        owner
    }

    /// Gives an append to the log, unless it may build on one that was refused.
    pub(crate) fn append(&mut self, append: AppendMail, now: Now) {
        let AppendMail { from, ticket, epoch, record } = append;
        let probe = bigpeer_core::node::Append { from, ticket, epoch, record: Bytes::new() };
        if !self.gate.admits(&probe) {
            let result = Err(AppendRefused::Superseded);
            self.effects.push_back(LogEffect::Appended { from, ticket, result });
            return;
        }
        self.ticket_next += 1;
        self.waiting.insert(self.ticket_next, Waiting { from, ticket, epoch });
        self.log.append(self.ticket_next, vec![record], now);
    }

    pub(crate) fn handle_disk(&mut self, done: DiskDone, now: Now) {
        self.log.handle_disk(done, now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.log.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.log.handle_timeout(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.log.poll_timeout()
    }

    pub(crate) fn seal(&mut self, now: Now) {
        self.log.seal(now);
    }

    pub(crate) fn fill(&self) -> LogFill {
        self.log.fill()
    }

    /// A thread reflects everything up to `upto`.
    pub(crate) fn applied(&mut self, thread: u16, upto: Txn, now: Now) {
        if !self.replay.is_done {
            self.replay.applied[usize::from(thread)] = upto;
            self.go_on(now);
        }
    }

    pub(crate) fn is_recovered(&self) -> bool {
        self.replay.is_done
    }

    pub(crate) fn poll_effect(&mut self) -> Option<LogEffect> {
        while self.effects.is_empty() {
            let output = self.log.poll_output()?;
            self.on_output(output);
        }
        self.effects.pop_front()
    }

    fn on_output(&mut self, output: LogOutput) {
        match output {
            LogOutput::Disk(op, command) => self.effects.push_back(LogEffect::Disk(op, command)),
            LogOutput::Opened(_) => {}
            LogOutput::Appended { ticket, first } => self.on_appended(ticket, first),
            LogOutput::Committed { first, records } => self.on_committed(first, records),
            LogOutput::Refused { ticket, reason } => self.on_refused(ticket, reason),
            LogOutput::Failed { error } => self.on_failed(&error.to_string()),
            LogOutput::Sealed => self.effects.push_back(LogEffect::Sealed),
        }
    }

    /// Goes on with the replay once all threads have taken what was given, so that mailboxes stay short.
    fn go_on(&mut self, now: Now) {
        let replay = &mut self.replay;
        let applied = replay.applied.iter().min().copied().unwrap_or_default();
        if applied >= replay.target {
            replay.is_done = true;
            self.effects.push_back(LogEffect::Recovered);
            // Nothing holds the log back once it is caught up.
            self.log.replay_more(REPLAY_BYTES_MAX, now);
        } else if applied >= replay.given && replay.given_bytes > 0 {
            let bytes = std::mem::take(&mut replay.given_bytes);
            self.log.replay_more(bytes, now);
        }
    }

    fn on_appended(&mut self, number: u64, txn: Txn) {
        let append = self.waiting.remove(&number).expect("the log answers each append once");
        let Waiting { from, ticket, .. } = append;
        self.placed.push_back((txn, from, ticket));
        self.effects.push_back(LogEffect::Appended { from, ticket, result: Ok(txn) });
    }

    fn on_committed(&mut self, first: Txn, records: Vec<LogRecord>) {
        let count = u64::try_from(records.len()).expect("lengths fit");
        if count == 0 {
            return;
        }
        let upto = Txn(first.0 + count - 1);
        while self.placed.front().is_some_and(|(txn, ..)| *txn <= upto) {
            self.placed.pop_front();
        }
        let records: Arc<[Bytes]> = records.into_iter().map(LogRecord::into_bytes).collect();
        if !self.replay.is_done {
            self.replay.given = upto;
            self.replay.given_bytes += records.iter().map(|record| record.len() as u64).sum::<u64>();
        }
        self.effects.push_back(LogEffect::Committed { first, records, upto });
    }

    fn on_refused(&mut self, number: u64, reason: Refusal) {
        let Some(append) = self.waiting.remove(&number) else { return };
        let Waiting { from, ticket, epoch } = append;
        self.gate.refused(from, epoch);
        let result = Err(match reason {
            Refusal::Full => AppendRefused::Full,
            _ => AppendRefused::Closed,
        });
        self.effects.push_back(LogEffect::Appended { from, ticket, result });
    }

    /// What had a position and is not durable may or may not be there after the next start.
    fn on_failed(&mut self, cause: &str) {
        self.effects.push_back(LogEffect::Failed(cause.to_owned()));
        let waiting = std::mem::take(&mut self.waiting).into_values();
        let waiting = waiting.map(|Waiting { from, ticket, .. }| (from, ticket));
        let placed = std::mem::take(&mut self.placed).into_iter();
        for (from, ticket) in placed.map(|(_, from, ticket)| (from, ticket)).chain(waiting) {
            let result = Err(AppendRefused::OutcomeUnknown);
            self.effects.push_back(LogEffect::Appended { from, ticket, result });
        }
    }
}
