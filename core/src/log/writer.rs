//! The end of the log that is written: records with positions, the groups on their way to the disk, and the one
//! sync that is in flight.
//!
//! A segment is left only when everything in it is durable, its end included; so a header in the next segment
//! proves the whole of this one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::boots::{BootEntry, BootTable};
use super::cadence::Cadence;
use super::group::{
    self, BLOCK_BYTES, GROUP_RECORDS_MAX, GroupKind, GroupPlace, LogIdentity, boot_record,
    record_cost,
};
use super::recovery::{Recovered, Segment};
use super::segment::{LOG_DIR, SEGMENT_HEADER_BYTES, SegmentHeader, segment_file};
use super::shelf::{Need, Shelf};
use super::{AGAIN_RETRY, FULL_RETRY, Io, Lack, LogOutput, LogRecord, RESTORE_GAP};
use crate::disk::{DiskCommand, DiskError, DiskOp, FileName};
use crate::ident::{BootId, LogId, Txn};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::time::Instant;

/// A group is closed when its records reach this size.
const GROUP_BYTES: u64 = 1 << 20;

/// Records are written while a sync is in flight once this much waits, so that the disk is not idle.
const EARLY_WRITE_BYTES: u64 = 256 << 10;

/// Left free behind the records of a segment: one block for a seal, one for the end of the segment.
pub(crate) const TAIL_BYTES: u64 = 2 * BLOCK_BYTES;

/// The last segment that there is keeps so much of a usual segment for what makes room.
const RESERVE_SHARE: u64 = 16;

/// A record that has its position and is in no group yet.
#[derive(Debug)]
struct Queued {
    record: LogRecord,
    segment: u64,
    starts_append: bool,
}

/// A group whose write was issued and that is not known to be durable.
#[derive(Debug)]
struct InFlight {
    seq: u64,
    kind: GroupKind,
    is_written: bool,
    first: Txn,
    records: Vec<LogRecord>,
    append_count: u64,
    offset_bytes: u64,
    end_bytes: u64,
    /// The bytes of the group, until they are durable: a disk that had no space for them gets them again.
    data: Bytes,
    /// Its write is out.
    is_out: bool,
}

/// The disk has refused a write or a sync for the moment. Nothing of the groups in flight counts as durable: when the
/// time has come all of them are written again, and synced.
#[derive(Clone, Copy, Debug)]
struct Stall {
    until: Instant,
}

#[derive(Debug)]
struct SyncInFlight {
    covers: u64,
    started: Instant,
}

impl InFlight {
    fn write(&self, file: &FileName) -> DiskCommand {
        let (file, data) = (file.clone(), self.data.clone());
        DiskCommand::Write { file, offset_bytes: self.offset_bytes, data }
    }
}

/// What the end of a sync means for the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    /// The boot group of this boot became durable: the log is open.
    pub(crate) boot: bool,
}

/// The written end of the log.
#[derive(Debug)]
pub(crate) struct Writer {
    log: LogIdentity,
    boot: BootId,
    boots: BootTable,
    current: Segment,
    /// The file of the current segment, which every group is written to.
    file: FileName,
    offset_bytes: u64,
    /// The next position to give out.
    next: Txn,
    durable: Txn,
    durable_offset_bytes: u64,
    boot_owed: bool,
    /// The end of the current segment was written: nothing more goes into it.
    is_ended: bool,
    last_kind: Option<GroupKind>,
    queue: VecDeque<Queued>,
    queue_bytes: u64,
    /// Bytes of all records that are not durable, and the appends they came in.
    pending_bytes: u64,
    pending_appends: u64,
    /// What the queued records will take at most, in the current segment and in the following one.
    cost_current: u64,
    cost_following: u64,
    groups: VecDeque<InFlight>,
    seq: u64,
    sync: Option<SyncInFlight>,
    /// A sync is wanted that covers groups up to this one.
    sync_to: Option<u64>,
    stall: Option<Stall>,
    /// The cause for which the disk refused something that is not durable yet.
    lack: Option<Lack>,
    /// Left free in the last segment for what makes room: see [`Self::place`].
    reserve_bytes: u64,
    cadence: Cadence,
}

impl Writer {
    pub(crate) fn new(found: &Recovered) -> Self {
        let boot = found.config.boot;
        let gap = if found.config.restored && found.last > Txn(0) { RESTORE_GAP } else { 0 };
        let next = Txn(found.next.0 + gap);
        let mut boots = found.boots.clone();
        boots.push(BootEntry { boot, first: next });
        Self {
            log: found.log,
            boot,
            boots,
            current: found.current,
            file: segment_file(found.current.number),
            offset_bytes: found.offset_bytes,
            next,
            durable: found.last,
            durable_offset_bytes: found.offset_bytes,
            boot_owed: true,
            is_ended: found.is_ended,
            last_kind: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            pending_bytes: 0,
            pending_appends: 0,
            cost_current: 0,
            cost_following: 0,
            groups: VecDeque::new(),
            seq: 0,
            sync: None,
            sync_to: None,
            stall: None,
            lack: None,
            reserve_bytes: found.config.segment_bytes / RESERVE_SHARE / BLOCK_BYTES * BLOCK_BYTES,
            cadence: Cadence::default(),
        }
    }

    // Giving out positions.

    /// Places records in one segment. Gives them back when neither the current segment nor a ready spare one has
    /// room; nothing has changed then. The end of the last segment that there is takes only what `frees`: a full
    /// volume must still take deletions.
    pub(crate) fn place(
        &mut self,
        records: Vec<LogRecord>,
        frees: bool,
        shelf: &Shelf,
    ) -> Result<Txn, Vec<LogRecord>> {
        let cost = records.iter().map(|record| record_cost(record.bytes().len())).sum::<u64>();
        let reserve_bytes = if frees { 0 } else { self.reserve_bytes };
        let behind_bytes = if shelf.spare().is_some() { 0 } else { reserve_bytes };
        let end_bytes = self.offset_bytes + self.cost_current + cost + TAIL_BYTES + behind_bytes;
        let fits_current = !self.is_ended
            && !self.boot_owed
            && self.cost_following == 0
            && end_bytes <= self.current.len_bytes;
        let segment = if fits_current {
            self.cost_current += cost;
            self.current.number
        } else {
            let needed_bytes = self.fresh_bytes() + self.cost_following + cost + reserve_bytes;
            if shelf.spare().is_none_or(|spare| spare.len_bytes < needed_bytes) {
                return Err(records);
            }
            self.cost_following += cost;
            self.current.number + 1
        };
        let first = self.next;
        self.pending_appends += 1;
        for (index, record) in records.into_iter().enumerate() {
            self.queue_bytes += record.bytes().len() as u64;
            self.pending_bytes += record.bytes().len() as u64;
            self.queue.push_back(Queued { record, segment, starts_append: index == 0 });
            self.next = self.next.next();
        }
        Ok(first)
    }

    /// The length of a segment that holds these records and nothing else.
    pub(crate) fn segment_bytes_for(&self, records: &[LogRecord]) -> u64 {
        let cost = records.iter().map(|record| record_cost(record.bytes().len())).sum::<u64>();
        self.fresh_bytes() + cost + self.reserve_bytes
    }

    /// What a segment takes before and behind its records.
    fn fresh_bytes(&self) -> u64 {
        SEGMENT_HEADER_BYTES + record_cost(self.boots.encode().len()) + TAIL_BYTES
    }

    // Writing groups.

    /// Writes what should be written. The returned operations are those of the writes, by group.
    pub(crate) fn write(
        &mut self,
        now: Now,
        shelf: &mut Shelf,
        io: &mut Io,
        ops: &mut Vec<(DiskOp, u64)>,
    ) {
        if !self.resume(now.mono, io, ops) {
            return;
        }
        loop {
            if self.is_ended {
                if !self.groups.is_empty() {
                    return;
                }
                let fresh_bytes = self.fresh_bytes();
                let Some(spare) = shelf.spare().filter(|spare| spare.len_bytes >= fresh_bytes)
                else {
                    shelf.want(fresh_bytes);
                    return;
                };
                debug_assert_eq!(spare.number, self.current.number + 1);
                self.enter(shelf, now, io, ops);
            } else if self.boot_owed {
                let boot = boot_record(&self.boots);
                let end_bytes = self.offset_bytes + record_cost(boot.bytes().len());
                if end_bytes + TAIL_BYTES <= self.current.len_bytes {
                    self.boot_owed = false;
                    self.push_group(GroupKind::Boot, vec![boot], 0, io, ops);
                    self.sync_to = Some(self.seq);
                } else if shelf.spare().is_some_and(|spare| spare.len_bytes >= self.fresh_bytes()) {
                    self.end_segment(io, ops);
                } else {
                    shelf.want_for(Need::Boot, self.fresh_bytes());
                    return;
                }
            } else if let Some(front) = self.queue.front() {
                if front.segment != self.current.number {
                    self.end_segment(io, ops);
                } else if self.may_write(now.mono) {
                    self.write_records(io, ops);
                } else {
                    return;
                }
            } else {
                return;
            }
        }
    }

    /// Writes a seal, which no sync follows: it states that everything before it is durable.
    pub(crate) fn write_seal(&mut self, io: &mut Io, ops: &mut Vec<(DiskOp, u64)>) {
        assert!(self.can_seal(), "the caller asked");
        self.push_group(GroupKind::Seal, Vec::new(), 0, io, ops);
    }

    /// True when everything is durable, the last group is no seal, and there is room for one.
    pub(crate) fn can_seal(&self) -> bool {
        let has_room = self.offset_bytes + TAIL_BYTES <= self.current.len_bytes;
        let is_quiet = self.queue.is_empty() && self.groups.is_empty() && !self.boot_owed;
        is_quiet && has_room && !self.is_ended && self.last_kind != Some(GroupKind::Seal)
    }

    /// True when nothing waits for the disk but a seal that has been written.
    pub(crate) fn is_at_rest(&self) -> bool {
        let only_seal =
            self.groups.iter().all(|group| group.kind == GroupKind::Seal && group.is_written);
        self.queue.is_empty() && only_seal && self.sync.is_none()
    }

    fn write_records(&mut self, io: &mut Io, ops: &mut Vec<(DiskOp, u64)>) {
        let mut records = Vec::new();
        let (mut bytes, mut cost, mut append_count) = (0, 0, 0);
        while let Some(front) = self.queue.front() {
            let more_bytes = front.record.bytes().len() as u64;
            let is_full = bytes + more_bytes > GROUP_BYTES || records.len() == GROUP_RECORDS_MAX;
            if front.segment != self.current.number || (is_full && !records.is_empty()) {
                break;
            }
            let queued = self.queue.pop_front().expect("it was just seen");
            bytes += more_bytes;
            cost += record_cost(queued.record.bytes().len());
            append_count += u64::from(queued.starts_append);
            records.push(queued.record);
        }
        self.queue_bytes -= bytes;
        // The group takes no more than what was set aside for its records one by one.
        self.cost_current -= cost;
        self.push_group(GroupKind::Data, records, append_count, io, ops);
    }

    fn end_segment(&mut self, io: &mut Io, ops: &mut Vec<(DiskOp, u64)>) {
        assert_eq!(self.cost_current, 0, "the queue's part for this segment was written");
        self.push_group(GroupKind::SegmentEnd, Vec::new(), 0, io, ops);
        self.is_ended = true;
        self.sync_to = Some(self.seq);
    }

    /// Goes on in the spare segment: its header and the boot table are written in one piece.
    fn enter(&mut self, shelf: &mut Shelf, now: Now, io: &mut Io, ops: &mut Vec<(DiskOp, u64)>) {
        let previous_end_bytes = self.offset_bytes;
        let mut current = shelf.exchange(self.current);
        current.first = self.write_next();
        let header = SegmentHeader {
            log: self.log,
            number: current.number,
            len_bytes: current.len_bytes,
            first: current.first,
            previous_last: self.durable,
            previous_end_bytes,
            boot: self.boot,
            created: now.wall,
        };
        self.file = segment_file(current.number);
        self.current = current;
        self.durable_offset_bytes = 0;
        self.is_ended = false;
        self.cost_current = std::mem::take(&mut self.cost_following);
        self.offset_bytes = SEGMENT_HEADER_BYTES;
        self.boot_owed = false;
        let boot = boot_record(&self.boots);
        let table = group::encode(&self.log, GroupKind::Boot, &self.group_place(), &[boot]);
        let mut data = BytesMut::from(&header.encode()[..]);
        data.extend_from_slice(&table);
        let group = InFlight {
            seq: 0,
            kind: GroupKind::Boot,
            is_written: false,
            first: self.write_next(),
            records: Vec::new(),
            append_count: 0,
            offset_bytes: 0,
            end_bytes: data.len() as u64,
            data: data.freeze(),
            is_out: false,
        };
        self.issue_write(group, io, ops);
        self.sync_to = Some(self.seq);
    }

    fn push_group(
        &mut self,
        kind: GroupKind,
        records: Vec<LogRecord>,
        append_count: u64,
        io: &mut Io,
        ops: &mut Vec<(DiskOp, u64)>,
    ) {
        let mut place = self.group_place();
        if kind == GroupKind::Data {
            // The records have left the queue: they lie just below the first that is still in it.
            place.first = Txn(place.first.0 - records.len() as u64);
        }
        let data = group::encode(&self.log, kind, &place, &records);
        let kept = if kind == GroupKind::Data { records } else { Vec::new() };
        let group = InFlight {
            seq: 0,
            kind,
            is_written: false,
            first: place.first,
            records: kept,
            append_count,
            offset_bytes: self.offset_bytes,
            end_bytes: self.offset_bytes + data.len() as u64,
            data,
            is_out: false,
        };
        self.issue_write(group, io, ops);
    }

    fn issue_write(&mut self, mut group: InFlight, io: &mut Io, ops: &mut Vec<(DiskOp, u64)>) {
        assert!(group.end_bytes <= self.current.len_bytes, "room was set aside for every group");
        self.seq += 1;
        group.seq = self.seq;
        group.is_out = true;
        ops.push((io.disk(group.write(&self.file)), self.seq));
        self.offset_bytes = group.end_bytes;
        self.last_kind = Some(group.kind);
        self.groups.push_back(group);
    }

    fn group_place(&self) -> GroupPlace {
        GroupPlace {
            // Until this boot's table is written, the newest boot that readers know speaks for it.
            boot: if self.boot_owed && self.boots.entries().len() > 1 {
                self.boots.entries()[self.boots.entries().len() - 2].boot
            } else {
                self.boot
            },
            segment: self.current.number,
            offset_bytes: self.offset_bytes,
            first: self.write_next(),
            durable_end: self.durable,
            durable_offset_bytes: self.durable_offset_bytes,
        }
    }

    /// The position of the first record that is in no group.
    fn write_next(&self) -> Txn {
        Txn(self.next.0 - self.queue.len() as u64)
    }

    // Syncing.

    pub(crate) fn on_written(&mut self, seq: u64) {
        let group = self.group_mut(seq);
        (group.is_written, group.is_out) = (true, false);
    }

    /// The disk has no space for a group, or could not begin to write it.
    pub(crate) fn on_write_refused(&mut self, seq: u64, error: &DiskError, now: Instant) {
        self.group_mut(seq).is_out = false;
        self.stall(error, now);
    }

    /// The disk found no space for what was written, or could not begin to sync it.
    pub(crate) fn on_sync_refused(&mut self, error: &DiskError, now: Instant) {
        self.sync = None;
        self.stall(error, now);
    }

    fn stall(&mut self, error: &DiskError, now: Instant) {
        assert!(error.is_passing(), "after any other error nothing may be written");
        self.lack = Lack::of(error).or(self.lack);
        let pause = if self.lack.is_some() { FULL_RETRY } else { AGAIN_RETRY };
        self.stall = Some(Stall { until: now.after(pause) });
    }

    /// Writes again what the disk refused, once nothing is out and the time has come. False while it has not.
    fn resume(&mut self, now: Instant, io: &mut Io, ops: &mut Vec<(DiskOp, u64)>) -> bool {
        let Some(stall) = self.stall else { return true };
        if self.is_busy() || now < stall.until {
            return false;
        }
        self.stall = None;
        for group in &mut self.groups {
            // What a refused sync had covered may be taken for clean by the system without having been written.
            if group.is_written && is_planted(Plant::RefusedSyncTrusted) {
                continue;
            }
            (group.is_written, group.is_out) = (false, true);
            ops.push((io.disk(group.write(&self.file)), group.seq));
        }
        self.sync_to = self.groups.back().map(|group| group.seq);
        true
    }

    /// True while a write or the sync is out.
    fn is_busy(&self) -> bool {
        self.sync.is_some() || self.groups.iter().any(|group| group.is_out)
    }

    /// The lack that a write into a segment met: space, though the volume had promised it, or the leave.
    /// It holds until what was refused is durable: who appends meanwhile is refused, and does not wait with it.
    pub(crate) fn lack(&self) -> Option<Lack> {
        self.lack
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// When to write again what the disk refused.
    pub(crate) fn stall_deadline(&self) -> Option<Instant> {
        self.stall.filter(|_| !self.is_busy()).map(|stall| stall.until)
    }

    fn group_mut(&mut self, seq: u64) -> &mut InFlight {
        let group = self.groups.iter_mut().find(|group| group.seq == seq);
        group.expect("a group stays until a sync covers its completed write")
    }

    /// Starts a sync if one is wanted and what it must cover has been written.
    pub(crate) fn start_sync(&mut self, now: Instant, io: &mut Io) -> Option<DiskOp> {
        if self.sync.is_some() || self.stall.is_some() {
            return None;
        }
        if self.sync_to.is_none() && self.is_due(now) {
            self.sync_to = self.groups.back().map(|group| group.seq);
        }
        let wanted = self.sync_to?;
        let covers = self.groups.iter().take_while(|group| group.is_written).last()?.seq;
        if covers < wanted {
            return None;
        }
        self.sync_to = None;
        self.sync = Some(SyncInFlight { covers, started: now });
        if is_planted(Plant::WrongSync) {
            return Some(io.disk(DiskCommand::SyncDir { dir: LOG_DIR.into() }));
        }
        Some(io.disk(DiskCommand::Sync { file: self.file.clone() }))
    }

    /// What the sync covered is durable: records leave as committed.
    pub(crate) fn on_synced(&mut self, now: Instant, io: &mut Io) -> Synced {
        let sync = self.sync.take().expect("a sync was in flight");
        let mut synced = Synced { boot: false };
        let (records, appends) = (self.pending_records(), self.pending_appends);
        while self.groups.front().is_some_and(|group| group.seq <= sync.covers) {
            let group = self.groups.pop_front().expect("it was just seen");
            synced.boot |= group.kind == GroupKind::Boot;
            self.durable_offset_bytes = group.end_bytes;
            self.pending_appends -= group.append_count;
            if !group.records.is_empty() {
                let bytes = group.records.iter().map(|record| record.bytes().len() as u64);
                self.pending_bytes -= bytes.sum::<u64>();
                self.durable = Txn(group.first.0 + group.records.len() as u64 - 1);
                let (first, records) = (group.first, group.records);
                io.outputs.push_back(LogOutput::Committed { first, records });
            }
        }
        if self.stall.is_none() {
            self.lack = None;
        }
        self.cadence.on_sync_done(sync.started, now, records, appends);
        synced
    }

    /// When records that wait must be synced even if no more come.
    pub(crate) fn sync_deadline(&self) -> Option<Instant> {
        let idle =
            self.sync.is_none() && self.sync_to.is_none() && !self.is_ended && !self.is_stalled();
        (idle && self.pending_records() > 0).then(|| self.cadence.deadline())
    }

    /// When everything became durable, for the idle seal.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        self.can_seal().then(|| self.cadence.last_end())
    }

    /// Records are written when a sync shall follow. While one waits for a write of records, those that come are
    /// left for the next: else each of them would be a write of its own, for as long as the first takes.
    fn may_write(&self, now: Instant) -> bool {
        let has_records = |group: &InFlight| !group.records.is_empty();
        let is_taken = self.sync_to.is_some() && self.groups.iter().any(has_records);
        (self.is_due(now) && !is_taken) || self.queue_bytes >= EARLY_WRITE_BYTES
    }

    fn is_due(&self, now: Instant) -> bool {
        self.sync.is_none() && self.cadence.is_due(self.pending_records(), now)
    }

    /// The last position below the first that is not durable: a restore leaves a gap behind the durable ones.
    fn durable_or_gap(&self) -> Txn {
        let first = self.groups.iter().find(|group| !group.records.is_empty());
        Txn(first.map_or_else(|| self.write_next(), |group| group.first).0 - 1)
    }

    // What is known.

    pub(crate) fn durable(&self) -> Txn {
        self.durable
    }

    pub(crate) fn next(&self) -> Txn {
        self.next
    }

    /// The last position given out.
    pub(crate) fn end(&self) -> Txn {
        let pending = self.pending_records();
        if pending == 0 { self.durable } else { Txn(self.next.0 - 1) }
    }

    pub(crate) fn boots(&self) -> &BootTable {
        &self.boots
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log.id
    }

    pub(crate) fn current(&self) -> &Segment {
        &self.current
    }

    /// The file of the current segment.
    pub(crate) fn file(&self) -> &FileName {
        &self.file
    }

    pub(crate) fn cadence(&self) -> &Cadence {
        &self.cadence
    }

    /// True until this boot's table was written: there was no room for it yet.
    pub(crate) fn owes_boot(&self) -> bool {
        self.boot_owed
    }

    /// True when this segment's boot table is durable, so that the segment before it is not needed for it.
    pub(crate) fn has_durable_boots(&self) -> bool {
        self.durable_offset_bytes > SEGMENT_HEADER_BYTES
    }

    /// Records that have a position and are not durable.
    pub(crate) fn pending_records(&self) -> u64 {
        self.next.0 - 1 - self.durable_or_gap().0
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.durable < self.next, "what is durable has a position");
        assert!(self.durable_offset_bytes <= self.offset_bytes, "what is durable was written");
        assert!(self.offset_bytes <= self.current.len_bytes, "groups lie inside their segment");
        let in_current = self.queue.iter().filter(|queued| queued.segment == self.current.number);
        let cost: u64 = in_current.map(|queued| record_cost(queued.record.bytes().len())).sum();
        assert_eq!(cost, self.cost_current, "room is set aside for exactly the queued records");
        assert!(self.queue.iter().is_sorted_by_key(|queued| queued.segment), "queue is in order");
    }
}
