//! One thread's share of the server: its nodes ([`Rack`]) joined with its connections, and on the first thread
//! the log. One more thread has connections and no nodes: the admin door's (`door`). No I/O: a driver hands in bytes, mail and completions, and carries out [`ShardOutput`]s.
//!
//! A driver's turn:
//!
//! 1. [`Shard::begin_turn`] with the time;
//! 2. whatever happened: [`Shard::open_connection`], [`Shard::handle_bytes`], [`Shard::handle_mail`], …;
//! 3. [`Shard::settle`], then [`Shard::poll_output`] until `None`; carrying out an output may call for another
//!    round, as long as [`Shard::has_output`] says so;
//! 4. [`Shard::run_on`] once, then the third step again if that did something;
//! 5. sleep until [`Shard::poll_timeout`], or until something happens.

mod admission;
mod answer;
mod bootstrap;
mod connection;
mod door;
mod journal;
mod leaving;
mod mail;
mod reading;
mod session;
mod stop;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_connection::{Config as ConnectionConfig, DateCell};
use bigpeer_core::auth::Catalog;
use bigpeer_core::disk::{DiskCommand, DiskOp};
use bigpeer_core::ident::Txn;
use bigpeer_core::node::{Rack, RackInput, RackOutput};
use bigpeer_core::seam::Now;
use bigpeer_core::time::{Instant, WallMs};
use bytes::Bytes;

pub use admission::Arrival;
use admission::{Crowd, Purge};
use answer::Pending;
pub use connection::ConnId;
use connection::Entry;
use door::Question;
use journal::LogOwner;
pub use journal::{LogSizes, OpenLog, open_log};
use leaving::Leaving;
pub use mail::Mail;
use reading::Unread;
use stop::Stop;
use timers::Timers;

use crate::admin_token::AdminToken;
use crate::api::gate::Gate;
use crate::first_start::FirstStart;
use crate::metrics::Metric;
use crate::secrets::FillRandom;
use crate::shared::Shared;
use crate::slab::Slab;

/// What a shard is told when it is made.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The number of the thread, from zero. The one behind the last that has nodes is that of the admin door.
    pub thread: u16,
    /// How many threads have nodes.
    pub threads: u16,
    /// The admin door has a thread of its own.
    pub has_door_thread: bool,
    /// Into how many partitions the directory is cut.
    pub partitions: u16,
    /// The bounds of connections.
    pub connection: Arc<ConnectionConfig>,
    /// The certificate for data and peer connections.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The certificate for admin connections.
    pub admin_tls: Option<Arc<rustls::ServerConfig>>,
    /// Opens the admin routes.
    pub admin_token: AdminToken,
    /// Which names and pages may ask at all.
    pub gate: Arc<Gate>,
    /// Where keys and tokens come from.
    pub random: FillRandom,
    /// The most connections at once, administrators apart.
    pub connections_max: usize,
    /// The most that connections together may hold of unfinished input, in bytes.
    pub input_bytes_max: usize,
    /// Stop once the log has failed.
    pub exit_on_log_failure: bool,
    /// Serve the empty handler of [`crate::api::bench`].
    pub has_empty_handler: bool,
    /// Panic on request: see [`crate::api::bench`].
    pub has_panic_handler: bool,
}

impl ShardConfig {
    /// How many threads take mail.
    #[must_use]
    pub fn threads_of_all(&self) -> u16 {
        self.threads + u16::from(self.has_door_thread)
    }
}

/// Something the driver must do.
#[derive(Debug)]
pub enum ShardOutput {
    /// Look after this connection: send what it has, read on or not, close it if it is closed.
    Service(ConnId),
    /// Put this into the mailbox of another thread.
    Mail {
        /// Whose mailbox.
        thread: u16,
        /// What.
        mail: Mail,
    },
    /// Read this body of a statement beside this thread, and hand back what it says under this name.
    Read(u64, Bytes),
    /// Carry out a disk command and hand back its completion. Only on the first thread.
    Disk(DiskOp, DiskCommand),
    /// Give memory that was freed back to the system.
    Purge,
    /// Requests are answered from here on. Only on the first thread, once.
    Ready(Option<Box<FirstStart>>),
    /// The process shall stop in order: the log has failed, and that was asked for.
    Stop,
    /// Nothing follows: end the thread.
    Stopped,
    /// The process must stop and say why.
    Fatal(String),
}

/// One thread's share of the server. See the module's text for the calling order.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    shared: Arc<Shared>,
    /// None at the admin door's thread.
    rack: Option<Rack>,
    log: Option<LogOwner>,
    now: Now,
    connections: Slab<Entry>,
    strangers: Crowd,
    administrators: Crowd,
    /// What all connections hold of unfinished input.
    held_bytes: usize,
    is_shedding: bool,
    purge: Purge,
    pending: Slab<Pending>,
    unread: Unread,
    questions: Slab<Question>,
    leaving: Leaving,
    timers: Timers,
    outputs: VecDeque<ShardOutput>,
    /// Nothing has been reported in this turn.
    is_new_turn: bool,
    stop: Stop,
    /// The app and key that are on their way to the log of a first start.
    bootstrap: Option<FirstStart>,
    applied_reported: Option<Txn>,
    sessions_open: u64,
}

/// Why nodes are there where they are needed.
const HAS_NODES: &str = "the admin door takes connections alone that ask for nothing of the nodes";

/// How long a statement may take. What was appended by then is committed and answered.
const STATEMENT_NS_MAX: u64 = 30_000_000_000;

impl Shard {
    /// A shard with its nodes, or without any that of the admin door. The first thread's has the log.
    ///
    /// # Panics
    ///
    /// When another thread than the first is given a log, or the first none; or when another than that of the admin
    /// door has no nodes.
    #[must_use]
    pub fn new(
        config: ShardConfig,
        shared: Arc<Shared>,
        rack: Option<Rack>,
        log: Option<OpenLog>,
        mono: Instant,
        wall: WallMs,
    ) -> Self {
        assert!(log.is_some() == (config.thread == 0), "the first thread has the log");
        assert!(rack.is_some() == (config.thread < config.threads), "the door alone has no nodes");
        let now = Now { mono, wall, ..Now::default() };
        let log = log.map(|log| LogOwner::new(log, config.threads));
        let mut config = config;
        // A cell of its own for each thread's date.
        let connection = (*config.connection).clone();
        config.connection = Arc::new(ConnectionConfig { date: DateCell::default(), ..connection });
        Self {
            strangers: Crowd::of_strangers(config.connections_max),
            administrators: Crowd::of_administrators(),
            held_bytes: 0,
            is_shedding: false,
            purge: Purge::default(),
            config,
            shared,
            rack,
            log,
            now,
            connections: Slab::default(),
            pending: Slab::default(),
            unread: Unread::default(),
            questions: Slab::default(),
            leaving: Leaving::default(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            is_new_turn: true,
            stop: Stop::default(),
            bootstrap: None,
            applied_reported: None,
            sessions_open: 0,
        }
    }

    /// Begins a turn: everything up to the next call happens at this moment.
    pub fn begin_turn(&mut self, mono: Instant, wall: WallMs) {
        let durable = self.shared.durable();
        if let Some(rack) = &self.rack {
            let oldest_read = rack.oldest_read().map_or(durable, |oldest| oldest.min(durable));
            self.shared.publish_turn(self.config.thread, oldest_read, rack.applied());
            self.shared.publish_newest_clock(self.config.thread, rack.newest_clock());
        }
        self.now = Now { mono, wall, durable, oldest_read: self.shared.oldest_read() };
        self.config.connection.date.set(wall.0 / 1000);
        self.is_new_turn = true;
    }

    /// Takes what another thread sent.
    pub fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Message(message) => self.input(RackInput::Message(message)),
            Mail::Append(append) => self.on_append(*append),
            Mail::Appended { from, ticket, result } => {
                self.input(RackInput::Appended { from, ticket, result });
            }
            Mail::Committed { first, records, upto } => {
                // The position was published before the mail was sent, perhaps after this turn began.
                self.now.durable = self.now.durable.max(upto);
                self.input(RackInput::Committed { first, records, upto });
            }
            Mail::Restore { partition, at, part } => {
                self.input(RackInput::Restore { partition, at, part });
            }
            Mail::Snapshot { partition, ask } => self.input(RackInput::Snapshot { partition, ask }),
            Mail::SnapshotPart { partition, part } => {
                self.on_snapshot_part(partition, part.as_ref());
            }
            Mail::Applied { thread, upto } => self.on_applied(thread, upto),
            Mail::Ask { question, call } => self.on_question(question, *call),
            Mail::Answer { question, response } => self.on_answer(question, *response),
            Mail::Drained => self.on_thread_drained(),
            Mail::Stop => self.outputs.push_back(ShardOutput::Stopped),
        }
    }

    /// Gives a long statement its share of the turn, once all others have been answered: else every one of them
    /// would wait for it twice. True when something was due: a statement that waits for its turn, or a timer.
    pub fn run_on(&mut self) -> bool {
        let timeout = self.rack.as_ref().and_then(Rack::poll_timeout);
        let is_due = timeout.is_some_and(|at| at <= self.now.mono);
        if is_due {
            self.input(RackInput::Time);
            self.purge.note_work(self.rack().work().total, self.now.mono);
        }
        is_due
    }

    /// Acts on deadlines, and turns what the nodes and the log said into outputs.
    pub fn settle(&mut self) {
        self.expire_connections();
        self.end_reads_of_leaving();
        let (now, mut is_quiet) = (self.now, false);
        if let Some(log) = &mut self.log
            && log.journal.poll_timeout().is_some_and(|at| at <= now.mono)
        {
            log.journal.handle_timeout(now);
            log.has_news = true;
        }
        if self.purge.take_due(now.mono) {
            self.outputs.push_back(ShardOutput::Purge);
        }
        self.advance_stop();
        let mut has_news = std::mem::take(&mut self.is_new_turn);
        while !is_quiet {
            is_quiet = true;
            while let Some(output) = self.rack.as_mut().and_then(Rack::poll_output) {
                is_quiet = false;
                self.on_rack_output(output);
            }
            while let Some(output) = self.log.as_mut().and_then(|log| log.journal.poll_output()) {
                is_quiet = false;
                self.on_log_output(output);
            }
            is_quiet &= !self.report_applied();
            has_news |= !is_quiet;
        }
        // A turn settles many times, mostly with nothing to report.
        if has_news {
            self.report_fill();
            self.publish_metrics();
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ShardOutput> {
        let output = self.outputs.pop_front()?;
        if let ShardOutput::Service(conn) = output
            && let Some(entry) = self.connections.get_mut(conn.0)
        {
            entry.is_listed = false;
        }
        Some(output)
    }

    /// True while there is something to do at once, be it to call [`Shard::settle`]: what the nodes and the log say is
    /// among the outputs only then, and nothing else wakes a thread that holds it.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let nodes_say = self.rack.as_ref().is_some_and(Rack::has_output);
        let log_says = self.log.as_ref().is_some_and(|log| log.journal.has_output());
        !self.outputs.is_empty() || nodes_say || log_says
    }

    /// When to begin a turn although nothing happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let log = self.log.as_ref().and_then(|log| log.journal.poll_timeout());
        let stop = self.stop.deadline();
        let rack = self.rack.as_ref().and_then(Rack::poll_timeout);
        let leaving = self.leaving.deadline();
        let (connections, purge) = (self.timers.next(), self.purge.deadline());
        Instant::earliest([rack, connections, leaving, log, stop, purge])
    }

    /// How much waits for other threads, behind mailboxes that are full; for the metrics.
    pub fn note_mail_waiting(&self, count: usize) {
        self.metrics().set(Metric::MailWaiting, count as u64);
    }

    fn input(&mut self, input: RackInput) {
        let now = self.now;
        self.rack.as_mut().expect(HAS_NODES).handle_input(input, now);
    }

    fn rack(&self) -> &Rack {
        self.rack.as_ref().expect(HAS_NODES)
    }

    /// The apps and keys, as this thread has applied them.
    fn catalog(&self) -> &Catalog {
        self.rack().nodes()[0].catalog()
    }

    fn on_rack_output(&mut self, output: RackOutput) {
        match output {
            RackOutput::Reply { request, reply } => self.on_reply(request, reply),
            RackOutput::Append(append) => {
                self.metrics().add(Metric::LogAppends, 1);
                self.post(0, Mail::Append(Box::new(append)));
            }
            RackOutput::Message { thread, message } => self.post(thread, Mail::Message(message)),
            // Every block is in memory so far.
            RackOutput::FetchBlock { partition, block } => {
                self.input(RackInput::BlockArrived { partition, block });
            }
            RackOutput::Frame { session, frame } => self.on_frame(session, frame),
            RackOutput::CloseSession { session, reason } => self.on_close_session(session, &reason),
            // A server has another epoch at each start, and keeps none.
            RackOutput::SessionReport { .. }
            | RackOutput::Changed { .. }
            | RackOutput::NewEpoch { .. } => {}
            RackOutput::Snapshot { partition, part } => {
                self.post(0, Mail::SnapshotPart { partition, part });
            }
            RackOutput::Damaged { txn, cause } => {
                let text = format!("the record at position {txn} cannot be read: {cause}");
                self.outputs.push_back(ShardOutput::Fatal(text));
            }
        }
    }

    /// Sends mail, to this thread without a detour.
    fn post(&mut self, thread: u16, mail: Mail) {
        if thread == self.config.thread {
            self.handle_mail(mail);
        } else {
            self.metrics().add(Metric::MailSent, 1);
            self.outputs.push_back(ShardOutput::Mail { thread, mail });
        }
    }

    fn metrics(&self) -> &crate::metrics::ThreadMetrics {
        self.shared.metrics(self.config.thread)
    }

    fn publish_metrics(&self) {
        let metrics = self.metrics();
        if let Some(rack) = &self.rack {
            metrics.set(Metric::RackLoad, rack.load() as u64);
            metrics.set(Metric::ClockParkedItems, rack.parked_count() as u64);
            metrics.set(Metric::StatementWork, rack.work().total);
            metrics.set(Metric::StatementWorkAtOnce, rack.work().moment_max);
        }
        metrics.set(Metric::ConnectionsOpen, self.connections.len() as u64);
        metrics.set(Metric::InputHeldBytes, self.held_bytes as u64);
        metrics.set(Metric::SessionsOpen, self.sessions_open);
        metrics.set(Metric::RequestsPending, self.pending.len() as u64);
    }
}

#[cfg(test)]
mod tests;
