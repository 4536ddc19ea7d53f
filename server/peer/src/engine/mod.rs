//! The peer's thread: drives the journal, the rack, the disk and the connection, one turn after the other.
//!
//! A turn takes the commands that wait, lets the machines run until they have nothing more to say, moves bytes of
//! the connection, and sleeps until something happens.

mod observers;
mod open;
mod statements;
mod sync;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bigpeer_core::ident::AppId;
use bigpeer_core::node::{Journal, JournalOutput, Rack, RackInput, RackOutput};
use bigpeer_core::seam::Now;
use bigpeer_core::time::Instant;

use crate::clock::Clock;
use crate::command::{COMMANDS_MAX, Command, Inbox};
use crate::directory::Directory;
use crate::disk::Disk;
use crate::fork_guard::ForkGuard;
use crate::status::StatusCell;
use crate::wake::{Readiness, Sleeper};

use observers::Observers;
pub(crate) use open::OpenParts;
use statements::Statements;
use sync::SyncLink;

/// How long statements that are under way may take when the peer closes.
const CLOSE_STATEMENTS_MAX: Duration = Duration::from_secs(10);

/// How long the farewell to the server may take.
const CLOSE_LINK_MAX: Duration = Duration::from_secs(1);

/// Everything that the thread owns.
pub(crate) struct Engine {
    // Dropped first: whoever waits to hand in a command learns that nobody takes it.
    commands: Receiver<Command>,
    inbox: Inbox,
    sleeper: Sleeper,
    clock: Clock,
    now: Now,
    app: AppId,
    journal: Journal,
    is_log_failed: bool,
    /// Nothing more is carried out: it would build on what cannot be read, or must not be kept.
    is_broken: bool,
    rack: Rack,
    statements: Statements,
    observers: Observers,
    link: SyncLink,
    status: Arc<StatusCell>,
    phase: Phase,
    // The disk's thread has ended before the directory is given free.
    disk: Disk,
    guard: ForkGuard,
    _directory: Directory,
}

/// How far the peer's life has come.
#[derive(Debug)]
enum Phase {
    Running,
    /// Statements under way and the farewell to the server end before these moments.
    Draining {
        statements: Instant,
        link: Instant,
    },
    /// The log makes durable what was appended.
    Sealing,
    Ended,
}

impl Drop for Engine {
    /// Also when a bug of ours ends the thread.
    fn drop(&mut self) {
        self.observers.cancel_all();
        self.status.close();
    }
}

impl Engine {
    /// Lives until the peer is closed.
    pub(crate) fn run(mut self) {
        let mut ready = Readiness::default();
        while !matches!(self.phase, Phase::Ended) {
            self.tick();
            self.take_commands();
            self.turn_link(ready);
            self.settle();
            self.advance_close();
            ready = match self.phase {
                Phase::Ended => Readiness::default(),
                _ => self.sleep(),
            };
        }
        let status = self.status.clone();
        self.statements.fail_all(|| status.end_error());
    }

    fn tick(&mut self) {
        self.now.mono = self.clock.mono();
        self.now.wall = Clock::wall();
        self.now.oldest_read = self.rack.oldest_read().unwrap_or(self.now.durable);
    }

    fn take_commands(&mut self) {
        for _ in 0..COMMANDS_MAX {
            let Ok(command) = self.commands.try_recv() else { return };
            self.on_command(command);
        }
        // More may wait, and nobody writes to the pipe again for what is there already.
        self.inbox.wake();
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Execute { statement, args, reply } => self.execute(statement, args, reply),
            Command::Subscribe { id, query, args, reply } => {
                self.subscribe(id, query, args, &reply);
            }
            Command::Unsubscribe { id } => self.unsubscribe(id),
            Command::Observe { id, observed } => self.observe(id, *observed),
            Command::Unobserve { id } => self.observers.remove(id),
            Command::Delivered { id, callback } => self.on_delivered(id, callback),
            Command::StartSync { reply } => self.start_sync(&reply),
            Command::StopSync => self.stop_sync(),
            Command::WaitSynced { timeout, reply } => self.wait_synced(timeout, reply),
            Command::Dialed { attempt, result } => self.on_dialed(attempt, result),
            Command::Disk(done) => {
                self.journal.handle_disk(done, self.now);
                self.drain();
            }
            Command::Close => self.close(),
        }
    }

    /// Runs what is due.
    fn settle(&mut self) {
        self.drain();
        // Also when nothing is due: older versions of documents are folded as time passes.
        self.rack.handle_input(RackInput::Time, self.now);
        if self.journal.poll_timeout().is_some_and(|at| at <= self.now.mono) {
            self.journal.handle_timeout(self.now);
        }
        self.drain();
        self.evaluate_observers();
        self.advance_sync();
        self.drain();
    }

    /// Carries outputs to where they belong until there are none, or nothing more may be done.
    fn drain(&mut self) {
        while !self.is_broken {
            if let Some(output) = self.journal.poll_output() {
                self.on_journal(output);
            } else if let Some(output) = self.rack.poll_output() {
                self.on_rack(output);
            } else {
                return;
            }
        }
    }

    fn input(&mut self, input: RackInput) {
        self.rack.handle_input(input, self.now);
    }

    fn on_journal(&mut self, output: JournalOutput) {
        match output {
            JournalOutput::Disk(op, command) => self.disk.submit(op, command),
            JournalOutput::Appended { from, ticket, result } => {
                self.input(RackInput::Appended { from, ticket, result });
            }
            JournalOutput::Committed { first, records, upto } => {
                self.now.durable = upto;
                self.input(RackInput::Committed { first, records, upto });
            }
            JournalOutput::Failed(error) => {
                let error =
                    format!("the log failed, writes are refused until the next start: {error}");
                self.status.update(|status| status.last_error = Some(error));
                self.is_log_failed = true;
                if matches!(self.phase, Phase::Sealing) {
                    self.phase = Phase::Ended;
                }
            }
            JournalOutput::Sealed { is_whole } => {
                if is_whole {
                    self.guard.seal(self.now.durable);
                }
                self.phase = Phase::Ended;
            }
            JournalOutput::Restore { partition, at, part } => {
                self.input(RackInput::Restore { partition, at, part });
            }
            JournalOutput::Snapshot { partition, ask } => {
                self.input(RackInput::Snapshot { partition, ask });
            }
            JournalOutput::Opened(_) | JournalOutput::Replayed | JournalOutput::Checkpoint(_) => {}
        }
    }

    fn on_rack(&mut self, output: RackOutput) {
        match output {
            RackOutput::Reply { request, reply } => self.on_reply(request, reply),
            RackOutput::Append(append) => self.journal.append(append, self.now),
            RackOutput::FetchBlock { partition, block } => {
                self.input(RackInput::BlockArrived { partition, block });
            }
            RackOutput::Frame { session, frame } => self.link.send(session, frame),
            RackOutput::CloseSession { session, reason } => self.on_session_over(session, &reason),
            RackOutput::SessionReport { session, report } => self.on_report(session, report),
            RackOutput::Changed { app, upto } if app == self.app => {
                self.observers.touch();
                self.note_changed(upto);
            }
            RackOutput::Changed { .. } => {}
            RackOutput::Snapshot { partition, part } => {
                self.journal.snapshot_part(partition, part.as_ref(), self.now);
            }
            RackOutput::Message { .. } => unreachable!("there is one thread with all partitions"),
            RackOutput::NewEpoch { epoch } => self.keep_epoch(epoch),
            RackOutput::Damaged { txn, cause } => {
                self.break_off(format!("record {txn} of the log is damaged: {cause}"));
            }
        }
    }

    /// Whatever follows, an edit under the new epoch or the end of what proves that the old one is not ours alone,
    /// must not be durable before the new one is.
    fn keep_epoch(&mut self, epoch: u64) {
        if let Err(error) = self.guard.renew(epoch) {
            self.break_off(format!(
                "a new epoch could not be recorded, so that what is written from here on might be taken for what \
                 another copy of this store writes: {error}; let the directory be written, and open it again"
            ));
        }
    }

    fn break_off(&mut self, error: String) {
        self.status.fail(error);
        self.is_broken = true;
        self.phase = Phase::Ended;
    }

    fn close(&mut self) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.observers.cancel_all();
        self.stop_sync();
        self.phase = Phase::Draining {
            statements: self.now.mono.after(CLOSE_STATEMENTS_MAX),
            link: self.now.mono.after(CLOSE_LINK_MAX),
        };
    }

    fn advance_close(&mut self) {
        let Phase::Draining { statements, link } = self.phase else { return };
        let now = self.now.mono;
        let busy = !self.statements.is_empty() && now < statements;
        if busy || (self.link.is_up() && now < link) {
            return;
        }
        self.phase = Phase::Sealing;
        self.journal.seal(self.now);
        self.drain();
        if self.is_log_failed {
            // It answers nothing, a seal neither.
            self.phase = Phase::Ended;
        }
    }

    fn sleep(&mut self) -> Readiness {
        let close = match self.phase {
            Phase::Draining { statements, link } => {
                Some(if self.link.is_up() { link } else { statements })
            }
            _ => None,
        };
        let moments = [
            self.rack.poll_timeout(),
            self.journal.poll_timeout(),
            self.link.poll_timeout(),
            close,
        ];
        let timeout = moments.into_iter().flatten().min();
        let timeout = timeout.map(|at| at.since(self.clock.mono()));
        self.sleeper.sleep(self.link.interest(), timeout)
    }
}
