//! A log that was recovered: appends come in, groups and syncs go out, segments are made and trimmed, and what
//! was found is replayed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::recovery::Recovered;
use super::recovery::mend::Mend;
use super::replay::{Replay, ReplayStep};
use super::segment::{LOG_DIR, segment_file};
use super::shelf::{Keep, Need, Shelf};
use super::writer::Writer;
use super::{
    APPEND_BYTES_MAX, APPEND_RECORDS_MAX, Io, Lack, LogError, LogFill, LogOpened, LogOutput,
    LogRecord, Refusal, disk_error,
};
use crate::disk::{DiskDone, DiskError, DiskOp, DiskReply};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::time::Instant;

/// A log that has been quiet for this long writes a seal.
const IDLE_SEAL: Duration = Duration::from_millis(200);

/// The most appends that wait for a position.
const WAITING_APPENDS_MAX: usize = 4_096;

/// What a disk command was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Group(u64),
    Sync,
    Shelf,
    Replay,
    Mend,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    records: Vec<LogRecord>,
    bytes: u64,
    frees: bool,
}

/// Where the next segment is to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    /// From the disk, or from the segments that may go.
    Found,
    /// The owner of the log was asked.
    Asked,
    /// From nowhere, until the disk is looked at again, or more than this is durable, which a checkpoint may take.
    Denied { durable: Txn },
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Live {
    writer: Writer,
    shelf: Shelf,
    replay: Option<Replay>,
    /// Changes to the log that was found, which come before anything is written.
    mend: Option<Mend>,
    /// The opened log, to be told once this boot's table is durable, or cannot be for the moment.
    opening: Option<Box<LogOpened>>,
    /// This boot's table is durable. Without it nothing is appended.
    has_boot: bool,
    ops: BTreeMap<DiskOp, Purpose>,
    /// Appends that have no position yet: there is no room, or the replay goes on.
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    pending_bytes_max: u64,
    space: Space,
    is_stopping: bool,
    is_sealed: bool,
}

type Done = Result<(), LogError>;

impl Live {
    pub(crate) fn start(mut found: Recovered, now: Now, io: &mut Io) -> Self {
        let writer = Writer::new(&found);
        let opening = Box::new(LogOpened {
            log_id: found.log.id,
            boots: writer.boots().clone(),
            durable: found.last,
            proven: found.proven,
            next: writer.next(),
            created: found.created,
            seal_seen: found.seal_seen,
            cut: found.cut.take(),
        });
        let current = found.current;
        let shelf = Shelf::new(&found.config, found.sealed, found.spare);
        let replay = found.replay.map(|start| {
            let segment = shelf.segment(start.segment).unwrap_or(current);
            Replay::new(start, segment, found.config.replay_from, found.last)
        });
        let mut live = Self {
            writer,
            shelf,
            replay,
            mend: Some(found.mend).filter(|mend| !mend.is_done()),
            opening: Some(opening),
            has_boot: false,
            ops: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pending_bytes_max: found.config.pending_bytes_max,
            space: Space::Found,
            is_stopping: false,
            is_sealed: false,
        };
        live.pump_mend(now, io);
        live.pump_writes(now, io);
        live
    }

    pub(crate) fn append(
        &mut self,
        ticket: u64,
        records: Vec<LogRecord>,
        frees: bool,
        now: Now,
        io: &mut Io,
    ) -> Done {
        let bytes: u64 = records.iter().map(|record| record.bytes().len() as u64).sum();
        let pending_bytes = self.writer.pending_bytes() + self.waiting_bytes;
        let is_empty = records.is_empty();
        let end = self.writer.next().0.saturating_add(records.len() as u64);
        if self.is_stopping || end > Txn::MAX.0 {
            io.refuse(ticket, Refusal::Closed);
        } else if is_empty || bytes > APPEND_BYTES_MAX || records.len() > APPEND_RECORDS_MAX {
            io.refuse(ticket, Refusal::TooLarge);
        } else if pending_bytes > 0 && pending_bytes + bytes > self.pending_bytes_max
            || self.waiting.len() >= WAITING_APPENDS_MAX
        {
            io.refuse(ticket, Refusal::Busy);
        } else {
            self.waiting_bytes += bytes;
            self.waiting.push_back(Waiting { ticket, records, bytes, frees });
        }
        self.pump(now, io)
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, io: &mut Io) -> Done {
        self.pump(now, io)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let idle_seal = self.quiet_since().map(|since| since.after(IDLE_SEAL));
        let stall = self.writer.stall_deadline();
        let replay = self.replay.as_ref().and_then(Replay::again_at);
        let mend = self.mend.as_ref().and_then(Mend::retry_at);
        let (sync, shelf) = (self.writer.sync_deadline(), self.shelf.retry_at());
        Instant::earliest([sync, idle_seal, shelf, stall, replay, mend])
    }

    pub(crate) fn replay_more(&mut self, bytes: u64, now: Now, io: &mut Io) -> Done {
        if let Some(replay) = &mut self.replay {
            replay.grant(bytes);
        }
        self.pump(now, io)
    }

    pub(crate) fn trim(&mut self, below: Txn, now: Now, io: &mut Io) -> Done {
        self.shelf.trim(below);
        // What was needed up to here is gone elsewhere, too: an older checkpoint.
        self.shelf.look_again();
        self.pump(now, io)
    }

    pub(crate) fn keep_free(&mut self, bytes: u64) {
        self.shelf.keep_free(bytes);
    }

    pub(crate) fn deny_space(&mut self, now: Now, io: &mut Io) -> Done {
        if self.space == Space::Asked {
            self.space = Space::Denied { durable: self.writer.durable() };
        }
        self.pump(now, io)
    }

    pub(crate) fn is_short(&self) -> bool {
        self.shelf.is_short()
    }

    pub(crate) fn waits_for_space(&self) -> bool {
        self.space == Space::Asked
    }

    pub(crate) fn seal(&mut self, now: Now, io: &mut Io) -> Done {
        self.is_stopping = true;
        for ticket in self.take_waiting() {
            io.refuse(ticket, Refusal::Closed);
        }
        self.pump(now, io)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// True once this boot's table is on the disk: it is written after all that was found is mended and synced.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_boot
    }

    /// The appends without a position, which are given up.
    pub(crate) fn take_waiting(&mut self) -> Vec<u64> {
        self.waiting_bytes = 0;
        self.waiting.drain(..).map(|waiting| waiting.ticket).collect()
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn fill(&self) -> LogFill {
        let (segment_count, segment_bytes) = self.shelf.size();
        LogFill {
            segment_count: segment_count + 1,
            segment_bytes: segment_bytes + self.writer.current().len_bytes,
            pending_records: self.writer.pending_records(),
            pending_bytes: self.writer.pending_bytes() + self.waiting_bytes,
            waiting_appends: self.waiting.len() as u64,
            spare_ready: self.shelf.spare().is_some(),
            disk_full: matches!(self.space, Space::Denied { .. })
                || self.lack() == Some(Lack::Space),
            read_only: self.lack() == Some(Lack::Leave) || self.shelf.is_read_only(),
            is_unmended: self.mend.is_some(),
            reserve_bytes: self.shelf.reserve_bytes(),
            sync_time: self.writer.cadence().last_time(),
        }
    }

    pub(crate) fn check_invariants(&self) {
        self.writer.check_invariants();
        let bytes: u64 = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        assert_eq!(bytes, self.waiting_bytes, "waiting bytes are counted");
    }

    pub(crate) fn handle_disk(&mut self, done: DiskDone, now: Now, io: &mut Io) -> Done {
        let purpose = self.ops.remove(&done.op).expect("a completion answers a command once");
        let segment = self.writer.file().clone();
        match purpose {
            Purpose::Group(seq) => match done.result {
                Ok(_) => self.writer.on_written(seq),
                Err(error) if may_pass(&error) => {
                    self.writer.on_write_refused(seq, &error, now.mono);
                }
                Err(error) => return Err(disk_error(&segment, error)),
            },
            Purpose::Sync => match done.result {
                Ok(_) => {
                    self.has_boot |= self.writer.on_synced(now.mono, io).boot;
                    if self.has_boot {
                        self.tell_opened(io);
                    }
                }
                Err(error) if may_pass(&error) => self.writer.on_sync_refused(&error, now.mono),
                Err(error) => return Err(disk_error(&segment, error)),
            },
            Purpose::Shelf => {
                let current = self.writer.current();
                let next = self.shelf.on_done(done.result, current, now.mono, io)?;
                self.ops.extend(next.map(|op| (op, Purpose::Shelf)));
            }
            Purpose::Mend => {
                let mend = self.mend.as_mut().expect("its command was out");
                mend.on_done(done.result, now.mono)?;
            }
            Purpose::Replay => {
                let file = &segment_file(self.replay.as_ref().map_or(0, Replay::segment));
                match done.result {
                    Ok(DiskReply::Read(bytes)) => self.replay_mut().on_read(bytes),
                    Ok(_) => return Err(disk_error(file, wrong_reply())),
                    Err(DiskError::Again(_)) => self.replay_mut().on_read_refused(now.mono),
                    Err(error) => return Err(disk_error(file, error)),
                }
            }
        }
        self.pump(now, io)
    }

    /// Does everything that can be done at this moment.
    fn pump(&mut self, now: Now, io: &mut Io) -> Done {
        self.pump_replay(now, io)?;
        self.admit(now, io);
        self.pump_mend(now, io);
        self.pump_writes(now, io);
        if self.is_stopping
            && self.writer.is_stalled()
            && let Some(lack) = self.writer.lack()
        {
            // Nobody knows how long it will lack it: who stops does not wait for it.
            let error = if lack == Lack::Space { DiskError::Full } else { DiskError::ReadOnly };
            return Err(disk_error(self.writer.file(), error));
        }
        let is_stuck = self.shelf.is_stuck() && self.writer.owes_boot();
        let lacks_leave = self.shelf.is_read_only() && self.writer.owes_boot();
        if is_stuck || lacks_leave || self.lack().is_some() {
            if is_planted(Plant::FullVolumeNotOpened) && self.opening.is_some() {
                return Err(disk_error(&LOG_DIR.into(), DiskError::Full));
            }
            // This boot's table cannot be written: what there is can be read all the same.
            self.tell_opened(io);
        }
        self.look_for_space(io);
        self.seal_if_quiet(now, io);
        Ok(())
    }

    /// The lack that the last write met.
    fn lack(&self) -> Option<Lack> {
        self.mend.as_ref().and_then(Mend::lack).or(self.writer.lack())
    }

    fn tell_opened(&mut self, io: &mut Io) {
        io.outputs.extend(self.opening.take().map(LogOutput::Opened));
    }

    fn pump_replay(&mut self, now: Now, io: &mut Io) -> Done {
        if self.opening.is_some() {
            return Ok(());
        }
        while let Some(replay) = &mut self.replay {
            match replay.step(now.mono, io)? {
                ReplayStep::Reading(op) => {
                    self.ops.insert(op, Purpose::Replay);
                    return Ok(());
                }
                ReplayStep::Waiting => return Ok(()),
                ReplayStep::Segment(number) => {
                    let current = *self.writer.current();
                    let segment = self.shelf.segment(number).unwrap_or(current);
                    assert_eq!(segment.number, number, "replay reads segments that are kept");
                    replay.enter(segment);
                }
                ReplayStep::Done => self.replay = None,
            }
        }
        Ok(())
    }

    /// Asks the owner of the log for space, once each time that the disk was looked at and had none.
    fn look_for_space(&mut self, io: &mut Io) {
        if !self.shelf.is_stuck() {
            self.space = Space::Found;
        } else if self.space == Space::Found {
            self.space = Space::Asked;
            io.outputs.push_back(LogOutput::Short);
        }
    }

    /// Gives positions to what waits, in order, as far as there is room for it on the disk.
    fn admit(&mut self, now: Now, io: &mut Io) {
        if self.opening.is_some() || self.replay.is_some() {
            return;
        }
        let is_bootless = self.is_denied() && self.shelf.is_paused(now.mono) && !self.has_boot;
        let lack = self.lack().or(self.shelf.is_read_only().then_some(Lack::Leave));
        if let Some(lack) = lack.or(is_bootless.then_some(Lack::Space)) {
            return self.refuse_waiting(lack, io);
        }
        if self.writer.is_stalled() || !self.has_boot {
            return;
        }
        while let Some(mut front) = self.waiting.pop_front() {
            match self.writer.place(front.records, front.frees, &self.shelf) {
                Ok(first) => {
                    self.waiting_bytes -= front.bytes;
                    io.outputs.push_back(LogOutput::Appended { ticket: front.ticket, first });
                }
                Err(records) => {
                    let need = if front.frees { Need::Freeing } else { Need::Usual };
                    self.shelf.want_for(need, self.writer.segment_bytes_for(&records));
                    front.records = records;
                    self.waiting.push_front(front);
                    if self.is_denied() && self.shelf.is_paused(now.mono) {
                        self.shelf.want_usual();
                        // What waits behind it may build on it, and could still fit where it does not.
                        self.refuse_waiting(Lack::Space, io);
                    } else if matches!(self.space, Space::Denied { .. }) {
                        self.shelf.look_again();
                    }
                    return;
                }
            }
        }
    }

    fn is_denied(&self) -> bool {
        self.space == Space::Denied { durable: self.writer.durable() }
    }

    fn refuse_waiting(&mut self, lack: Lack, io: &mut Io) {
        for ticket in self.take_waiting() {
            io.refuse(ticket, lack.refusal());
        }
    }

    fn pump_mend(&mut self, now: Now, io: &mut Io) {
        let Some(mend) = &mut self.mend else { return };
        if mend.is_done() {
            self.mend = None;
            return;
        }
        let op = mend.work(now.mono, io);
        self.ops.extend(op.map(|op| (op, Purpose::Mend)));
    }

    /// Nothing is written before the log is mended.
    fn pump_writes(&mut self, now: Now, io: &mut Io) {
        if self.mend.is_some() {
            return;
        }
        let mut writes = Vec::new();
        self.writer.write(now, &mut self.shelf, io, &mut writes);
        self.ops.extend(writes.into_iter().map(|(op, seq)| (op, Purpose::Group(seq))));
        let sync = self.writer.start_sync(now.mono, io);
        self.ops.extend(sync.map(|op| (op, Purpose::Sync)));
        let step = self.shelf.work(self.writer.current(), self.keep(), now.mono, io);
        self.ops.extend(step.map(|op| (op, Purpose::Shelf)));
    }

    /// Segments are kept while replay reads them, and while the newest boot table is only in them.
    fn keep(&self) -> Keep {
        let from = if self.opening.is_some() || !self.writer.has_durable_boots() {
            Txn(0)
        } else {
            self.replay.as_ref().map_or(Txn::MAX, Replay::keep_from)
        };
        // A table that is owed may need a segment; one that was written needs its sync alone.
        Keep { from, is_brief: !self.writer.owes_boot() }
    }

    fn seal_if_quiet(&mut self, now: Now, io: &mut Io) {
        let is_idle = self.quiet_since().is_some_and(|since| now.mono >= since.after(IDLE_SEAL));
        if self.writer.can_seal() && (is_idle || self.is_stopping) {
            let mut writes = Vec::new();
            self.writer.write_seal(io, &mut writes);
            self.ops.extend(writes.into_iter().map(|(op, seq)| (op, Purpose::Group(seq))));
        }
        self.is_sealed = self.is_stopping && self.writer.is_at_rest();
    }

    fn quiet_since(&self) -> Option<Instant> {
        if self.opening.is_some() { None } else { self.writer.quiet_since() }
    }

    fn replay_mut(&mut self) -> &mut Replay {
        self.replay.as_mut().expect("a read was out for it")
    }
}

/// Whether a write or a sync that failed so may be tried again.
fn may_pass(error: &DiskError) -> bool {
    error.is_passing() && !is_planted(Plant::PassingErrorFatal)
}

fn wrong_reply() -> DiskError {
    DiskError::Io("the reply does not fit the command".into())
}
