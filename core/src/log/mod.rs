//! The embedded transaction log: one totally ordered sequence of records in segment files.
//!
//! [`Log`] is a machine without I/O. It sits beside a `Node`, is driven with [`DiskDone`]s and the time, and
//! answers with [`LogOutput`]s; whoever owns it carries out the [`DiskCommand`]s. A record is opaque here: one
//! transaction, at one position. Nothing is `Committed` before it is on stable storage.
//!
//! Calling order: [`Log::open`], then drain [`Log::poll_output`] after every call. After `Opened`, what lies above
//! [`LogConfig::replay_from`] comes as `Committed`, as far as [`Log::replay_more`] gives leave; live records follow
//! in the same stream, in order. Calls of [`Log::append`] wait until the replay has ended. [`Log::seal`] stops.
//!
//! The bytes on disk are described in `LAYOUT.md` beside this file.

mod boots;
mod cadence;
pub mod checkpoint;
pub(crate) mod frame;
mod group;
mod live;
mod output;
mod reader;
mod record;
mod recovery;
mod replay;
mod search;
mod segment;
mod shelf;
#[cfg(test)]
mod tests;
pub mod transaction;
mod writer;

use std::collections::VecDeque;
use std::time::Duration;

use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp, FileName};
use crate::ident::{BootId, LogId, Txn};
use crate::rng::Seed;
use crate::seam::Now;
use crate::time::Instant;

pub use boots::{BOOTS_MAX, BootEntry, BootTable};
pub use output::{
    DamageKind, LogDamage, LogError, LogFill, LogOpened, LogOutput, Refusal, TailCut,
};
pub use record::LogRecord;
pub use segment::LOG_DIR;

use live::Live;
use recovery::{Recovery, RecoveryStep};

/// The largest record, and the largest sum of the records of one append: 64 MiB.
pub const APPEND_BYTES_MAX: u64 = 64 << 20;

/// The most records in one append.
pub const APPEND_RECORDS_MAX: usize = 1 << 16;

/// The smallest segment that is made, whatever the configuration says.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;

/// The largest segment that is made, unless one append needs a larger one: 64 MiB.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Of what nothing needs, at most this is kept: 1 GiB.
const RETAIN_BYTES_MAX: u64 = 1 << 30;

/// The part of a volume that a log may take beside what is needed: an eighth.
pub(crate) const VOLUME_SHARE: u64 = 8;

/// The smallest segment on a volume of known size: 1 MiB.
const VOLUME_SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// A restored log goes on this far behind its old end, so that positions that were lost are never used twice.
pub const RESTORE_GAP: u64 = 1 << 32;

/// The pause before a command is tried again that the disk refused for want of space, or because it takes no writes.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The pause before a command is given again that the disk could not begin.
const AGAIN_RETRY: Duration = Duration::from_millis(10);

/// The reason why a volume takes no writes for the time being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It has no space for them.
    Space,
    /// The leave to write: it is mounted read-only.
    Leave,
}

impl Lack {
    const fn of(error: &DiskError) -> Option<Self> {
        match error {
            DiskError::Full => Some(Self::Space),
            DiskError::ReadOnly => Some(Self::Leave),
            _ => None,
        }
    }

    const fn refusal(self) -> Refusal {
        match self {
            Self::Space => Refusal::Full,
            Self::Leave => Refusal::ReadOnly,
        }
    }
}

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Bytes of a new segment file, 1 to 64 MiB; brought into range and rounded up to 512.
    pub segment_bytes: u64,
    /// Segments below the trim point stay while all segments together are no more than this, and the disk has space
    /// for another one.
    pub retain_bytes: u64,
    /// Space that a new segment leaves free, until [`Log::keep_free`] says otherwise: room for a checkpoint.
    pub keep_free_bytes: u64,
    /// The most bytes that may wait for the disk; beyond it appends are refused as `Busy`.
    pub pending_bytes_max: u64,
    /// Replay what lies above this position: the position of the checkpoint that was loaded, or zero.
    pub replay_from: Txn,
    /// This start of the process; a fresh one every time.
    pub boot: BootId,
    /// Randomness for a new log's identity.
    pub seed: Seed,
    /// The directory was restored from a copy: go on [`RESTORE_GAP`] behind its end.
    pub restored: bool,
    /// What the directory's owner knows of the log.
    pub expected: LogExpected,
}

/// What the owner of a directory knows of its log before it is opened. A log that was lost must not become a new one
/// in silence: its successor would author, acknowledge and delete under the name of a database that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogExpected {
    /// Nothing: a log is opened, and made if there is none.
    #[default]
    Anything,
    /// No start of the directory ever came to its end, so no record can have been written. A log without one is opened,
    /// and made if there is none.
    Unwritten,
    /// There is a log. None is made.
    Existing,
    /// There is this log. None is made.
    This(LogId),
}

impl LogConfig {
    /// A configuration for this boot: 64 MiB segments, 1 GiB kept, 128 MiB pending, replay of everything.
    #[must_use]
    pub fn new(boot: BootId, seed: Seed) -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_MAX,
            retain_bytes: RETAIN_BYTES_MAX,
            keep_free_bytes: 0,
            pending_bytes_max: 2 * APPEND_BYTES_MAX,
            replay_from: Txn(0),
            boot,
            seed,
            restored: false,
            expected: LogExpected::Anything,
        }
    }

    /// Fits the log to a volume of so many bytes: a segment is a 64th of it, 1 to 64 MiB, and an eighth of it,
    /// at most 1 GiB, is kept that nothing needs.
    #[must_use]
    pub fn on_volume(self, volume_bytes: u64) -> Self {
        Self {
            segment_bytes: (volume_bytes / 64).clamp(VOLUME_SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            retain_bytes: (volume_bytes / VOLUME_SHARE).min(RETAIN_BYTES_MAX),
            ..self
        }
    }
}

/// The log machine. See the module for the calling order.
#[derive(Debug)]
pub struct Log {
    io: Io,
    state: State,
    /// Sealed or failed: completions that still come are of no interest.
    is_closed: bool,
    is_sealing: bool,
}

#[derive(Debug)]
enum State {
    Opening(Box<Recovery>),
    Live(Box<Live>),
}

impl Log {
    /// Starts to open the log below [`LOG_DIR`]. The outcome is `Opened` or `Failed`.
    #[must_use]
    pub fn open(config: LogConfig, now: Now) -> Self {
        let mut io = Io::default();
        let recovery = Recovery::start(config, now, &mut io);
        Self { io, state: State::Opening(Box::new(recovery)), is_closed: false, is_sealing: false }
    }

    /// Takes the completion of a command.
    pub fn handle_disk(&mut self, done: DiskDone, now: Now) {
        if self.is_closed {
            return;
        }
        match &mut self.state {
            State::Opening(recovery) => match recovery.handle_disk(done, now.mono, &mut self.io) {
                Ok(RecoveryStep::Pending) => {}
                Ok(RecoveryStep::Done(recovered)) => {
                    let live = Live::start(*recovered, now, &mut self.io);
                    self.state = State::Live(Box::new(live));
                }
                Err(error) => self.fail(error),
            },
            State::Live(live) => {
                if let Err(error) = live.handle_disk(done, now, &mut self.io) {
                    self.fail(error);
                }
            }
        }
        self.close_if_sealed();
    }

    /// Appends records at consecutive positions. Answered by `Appended` and later `Committed`, or by `Refused`.
    /// Positions are given in the order of the calls.
    pub fn append(&mut self, ticket: u64, records: Vec<LogRecord>, now: Now) {
        self.append_records(ticket, records, false, now);
    }

    /// As [`append`](Self::append), of records that make room, or without which nothing can: on a full disk they get
    /// the end of the last segment, which all others leave free.
    pub fn append_freeing(&mut self, ticket: u64, records: Vec<LogRecord>, now: Now) {
        self.append_records(ticket, records, true, now);
    }

    fn append_records(&mut self, ticket: u64, records: Vec<LogRecord>, frees: bool, now: Now) {
        match &mut self.state {
            State::Live(live) if !self.is_closed => {
                if let Err(error) = live.append(ticket, records, frees, now, &mut self.io) {
                    self.fail(error);
                }
            }
            _ => self.io.refuse(ticket, Refusal::Closed),
        }
    }

    /// Acts on time alone. An early call does no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        if let State::Opening(recovery) = &mut self.state
            && !self.is_closed
        {
            recovery.handle_timeout(now.mono, &mut self.io);
        }
        self.with_live(|live, io| live.handle_timeout(now, io));
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            _ if self.is_closed => None,
            State::Opening(recovery) => recovery.again_at(),
            State::Live(live) => live.poll_timeout(),
        }
    }

    /// The next thing to do. Call until `None` after every other call.
    pub fn poll_output(&mut self) -> Option<LogOutput> {
        self.io.outputs.pop_front()
    }

    /// Gives leave to replay about `bytes` more bytes of records; the group that reaches the limit comes whole.
    pub fn replay_more(&mut self, bytes: u64, now: Now) {
        self.with_live(|live, io| live.replay_more(bytes, now, io));
    }

    /// Positions below `below` are not needed to recover. Whole segments below it are deleted or used again, as
    /// far as [`LogConfig::retain_bytes`] allows.
    pub fn trim(&mut self, below: Txn, now: Now) {
        self.with_live(|live, io| live.trim(below, now, io));
    }

    /// The next checkpoint may take so much of the volume: a new segment leaves that free, and what more segments need.
    pub fn keep_free(&mut self, bytes: u64) {
        if let State::Live(live) = &mut self.state {
            live.keep_free(bytes);
        }
    }

    /// The answer to [`LogOutput::Short`] when nothing can be given up: what waits for a segment is refused as
    /// `Full`, and so is what comes, until the disk has space. It is looked at every second.
    pub fn deny_space(&mut self, now: Now) {
        self.with_live(|live, io| live.deny_space(now, io));
    }

    /// True while the disk had no space for another segment at the last try.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.live().is_some_and(Live::is_short)
    }

    /// True from [`LogOutput::Short`] on, until there is space or none was to be had.
    #[must_use]
    pub fn waits_for_space(&self) -> bool {
        !self.is_closed && self.live().is_some_and(Live::waits_for_space)
    }

    /// Stops in order: refuses what comes, makes durable what was appended, then `Sealed`. A log that has failed, or
    /// fails meanwhile, says `Sealed` as well: nothing more becomes durable.
    pub fn seal(&mut self, now: Now) {
        self.is_sealing = true;
        match &mut self.state {
            _ if self.is_closed => self.io.sealed(false),
            State::Opening(_) => {
                self.is_closed = true;
                self.io.sealed(false);
            }
            State::Live(_) => self.with_live(|live, io| live.seal(now, io)),
        }
    }

    /// The last durable position.
    #[must_use]
    pub fn durable(&self) -> Txn {
        self.live().map_or(Txn(0), |live| live.writer().durable())
    }

    /// The last position given out.
    #[must_use]
    pub fn end(&self) -> Txn {
        self.live().map_or(Txn(0), |live| live.writer().end())
    }

    /// The boots of this log; nothing until it is open.
    #[must_use]
    pub fn boots(&self) -> Option<&BootTable> {
        self.live().map(|live| live.writer().boots())
    }

    /// The identity of this log; nothing until it is open.
    #[must_use]
    pub fn log_id(&self) -> Option<LogId> {
        self.live().map(|live| live.writer().log_id())
    }

    /// How full the log is.
    #[must_use]
    pub fn fill(&self) -> LogFill {
        self.live().map_or_else(LogFill::default, Live::fill)
    }

    /// Walks what is too slow for the hot path.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold: a bug of ours.
    pub fn check_invariants(&self) {
        if let State::Live(live) = &self.state {
            live.check_invariants();
        }
    }

    fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            State::Opening(_) => None,
        }
    }

    fn with_live(&mut self, act: impl FnOnce(&mut Live, &mut Io) -> Result<(), LogError>) {
        if self.is_closed {
            return;
        }
        if let State::Live(live) = &mut self.state
            && let Err(error) = act(live, &mut self.io)
        {
            self.fail(error);
        }
        self.close_if_sealed();
    }

    fn close_if_sealed(&mut self) {
        if let State::Live(live) = &self.state
            && live.is_sealed()
            && !self.is_closed
        {
            self.is_closed = true;
            self.io.sealed(live.is_whole());
        }
    }

    /// Nothing more is written: what a failed sync left behind must not be built upon.
    fn fail(&mut self, error: LogError) {
        if let State::Live(live) = &mut self.state {
            for ticket in live.take_waiting() {
                self.io.refuse(ticket, Refusal::Closed);
            }
        }
        self.is_closed = true;
        self.io.outputs.push_back(LogOutput::Failed { error });
        if self.is_sealing {
            self.io.sealed(false);
        }
    }
}

/// What leaves the machine, and the numbers of its disk commands.
#[derive(Debug, Default)]
pub(crate) struct Io {
    outputs: VecDeque<LogOutput>,
    next_op: u64,
}

impl Io {
    fn disk(&mut self, command: DiskCommand) -> DiskOp {
        self.next_op += 1;
        let op = DiskOp(self.next_op);
        self.outputs.push_back(LogOutput::Disk(op, command));
        op
    }

    fn sealed(&mut self, is_whole: bool) {
        self.outputs.push_back(LogOutput::Sealed { is_whole });
    }

    fn refuse(&mut self, ticket: u64, reason: Refusal) {
        self.outputs.push_back(LogOutput::Refused { ticket, reason });
    }
}

/// The log's error for a failed command on `file`.
fn disk_error(file: &FileName, error: DiskError) -> LogError {
    LogError::Disk { file: file.clone(), error }
}

/// The log's error for damage in segment `number`.
fn damaged(number: u64, offset_bytes: u64, kind: DamageKind) -> LogError {
    LogDamage { file: segment::segment_file(number), offset_bytes, kind }.into()
}
