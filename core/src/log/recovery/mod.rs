//! Opening: finds the segments, walks the ones that will be replayed to their end, and tells a torn tail from damage.
//!
//! One command is out at a time, and apart from a log that is made, all of them read. The result is where the log goes
//! on, and the [`Mend`] that must be done before anything is written there.

mod expected;
mod founding;
pub(crate) mod mend;
mod tail;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::boots::BootTable;
use super::frame::FrameError;
use super::group::{GroupKind, LogIdentity, padded};
use super::reader::{ReadStep, SegmentReader, Walk};
use super::search::TailSearch;
use super::segment::{LOG_DIR, SEGMENT_HEADER_BYTES, SegmentHeader, segment_file, segment_number};
use founding::Founding;
use mend::Mend;

use super::{
    AGAIN_RETRY, DamageKind, Io, LogConfig, LogError, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
    TailCut, damaged, disk_error,
};
use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp, DiskReply, FileName};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::time::Instant;

/// A segment file that is in use, or ready to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) len_bytes: u64,
    /// The first position that may lie in it.
    pub(crate) first: Txn,
}

/// Where replay starts.
#[derive(Clone, Debug)]
pub(crate) struct ReplayStart {
    pub(crate) segment: u64,
    pub(crate) offset_bytes: u64,
    pub(crate) walk: Walk,
}

/// A log that was found whole, or made.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) config: LogConfig,
    pub(crate) log: LogIdentity,
    /// Segments before the current one, oldest first.
    pub(crate) sealed: Vec<Segment>,
    pub(crate) current: Segment,
    /// Where the next group goes.
    pub(crate) offset_bytes: u64,
    /// The current segment ends here: the log goes on in the spare one.
    pub(crate) is_ended: bool,
    pub(crate) spare: Option<Segment>,
    pub(crate) boots: BootTable,
    pub(crate) next: Txn,
    pub(crate) last: Txn,
    /// The last position that the log itself states to be durable.
    pub(crate) proven: Txn,
    pub(crate) replay: Option<ReplayStart>,
    pub(crate) created: bool,
    pub(crate) seal_seen: bool,
    pub(crate) cut: Option<TailCut>,
    /// Changes that come before anything is written.
    pub(crate) mend: Mend,
}

/// What came of a completion.
pub(crate) enum RecoveryStep {
    /// A command is out.
    Pending,
    /// The log can be read, and written once it is mended.
    Done(Box<Recovered>),
}

/// The opening of a log.
#[derive(Debug)]
pub(crate) struct Recovery {
    config: LogConfig,
    now: Now,
    op: DiskOp,
    /// The command that is out, or waits to be given again.
    command: DiskCommand,
    /// The disk could not begin that command, and is asked again at this moment.
    again_at: Option<Instant>,
    stage: Stage,
    /// Every segment file, with its length.
    files: BTreeMap<u64, u64>,
    headers: BTreeMap<u64, SegmentHeader>,
    /// Files that are left over and go away first.
    leftovers: Vec<FileName>,
    walk: Option<Walk>,
    replay: Option<ReplayStart>,
    last_kind: Option<GroupKind>,
    /// Where the newest segment in use ends.
    end: (u64, u64),
    /// Up to here the newest segment states itself to be durable.
    proven_bytes: u64,
    /// Up to here the log states itself to be durable.
    proven: Txn,
    /// Ranges to overwrite: segment, from, to.
    cuts: Vec<(u64, u64, u64)>,
    cut: Option<TailCut>,
}

#[derive(Debug)]
enum Stage {
    Listing,
    DeletingLeftovers,
    SyncingRoot,
    SyncingNames,
    Founding(Founding),
    ReadingHeader(u64),
    Walking { reader: SegmentReader, asked: (u64, u32) },
    Searching(TailSearch),
}

type Outcome = Result<RecoveryStep, LogError>;

/// The data directory, as disk commands name it.
fn root_dir() -> FileName {
    let root = if is_planted(Plant::MadeDirNotSynced) { LOG_DIR } else { "" };
    root.into()
}

impl Recovery {
    pub(crate) fn start(mut config: LogConfig, now: Now, io: &mut Io) -> Self {
        let segment_bytes = config.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        config.segment_bytes = padded(segment_bytes);
        let command = DiskCommand::List { dir: LOG_DIR.into() };
        Self {
            config,
            now,
            op: io.disk(command.clone()),
            command,
            again_at: None,
            stage: Stage::Listing,
            files: BTreeMap::new(),
            headers: BTreeMap::new(),
            leftovers: Vec::new(),
            walk: None,
            replay: None,
            last_kind: None,
            end: (0, 0),
            proven_bytes: 0,
            proven: Txn(0),
            cuts: Vec::new(),
            cut: None,
        }
    }

    pub(crate) fn handle_disk(&mut self, done: DiskDone, now: Instant, io: &mut Io) -> Outcome {
        assert_eq!(done.op, self.op, "recovery has one command out");
        let reply = match done.result {
            Ok(reply) => reply,
            Err(DiskError::NotFound) if matches!(self.stage, Stage::DeletingLeftovers) => {
                DiskReply::Done
            }
            Err(DiskError::Again(_)) => {
                self.again_at = Some(now.after(AGAIN_RETRY));
                return Ok(RecoveryStep::Pending);
            }
            Err(error) => return Err(disk_error(self.command.file(), error)),
        };
        match reply {
            DiskReply::Listed(names) => self.on_listed(&names, io),
            DiskReply::Read(bytes) => self.on_read(bytes, io),
            DiskReply::Done => self.on_done(io),
        }
    }

    /// When the disk is asked again.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, io: &mut Io) {
        if self.again_at.is_some_and(|at| now >= at) {
            self.again_at = None;
            self.op = io.disk(self.command.clone());
        }
    }

    fn on_done(&mut self, io: &mut Io) -> Outcome {
        match self.stage {
            Stage::DeletingLeftovers => self.delete_leftovers(io),
            Stage::SyncingRoot => {
                self.stage = Stage::SyncingNames;
                self.sync_dir(LOG_DIR, io)
            }
            Stage::SyncingNames => self.found(Founding::Creating, io),
            Stage::Founding(step) => self.on_founding(step, io),
            Stage::Listing
            | Stage::ReadingHeader(_)
            | Stage::Walking { .. }
            | Stage::Searching(_) => Err(self.wrong_reply()),
        }
    }

    fn on_read(&mut self, bytes: Bytes, io: &mut Io) -> Outcome {
        match &mut self.stage {
            Stage::ReadingHeader(number) => {
                let number = *number;
                self.on_header(number, &bytes, io)
            }
            Stage::Walking { reader, asked } => {
                reader.fill(asked.0, asked.1, bytes);
                self.walk_on(io)
            }
            Stage::Searching(search) => {
                search.fill(&bytes);
                self.search_on(io)
            }
            _ => Err(self.wrong_reply()),
        }
    }

    // Finding the segments.

    fn on_listed(&mut self, names: &[(String, u64)], io: &mut Io) -> Outcome {
        for (name, len_bytes) in names {
            match segment_number(name) {
                Some(number) => {
                    self.files.insert(number, *len_bytes);
                }
                None if name.ends_with(".tmp") => {
                    self.leftovers.push(format!("{LOG_DIR}/{name}").into());
                }
                None => {}
            }
        }
        self.check_listed()?;
        match self.files.keys().next() {
            Some(&first) => self.read_header(first, io),
            None => self.delete_leftovers(io),
        }
    }

    /// There is no log, and one will be made in a directory that is whole: see [`Self::plan_mend`].
    fn delete_leftovers(&mut self, io: &mut Io) -> Outcome {
        if let Some(file) = self.leftovers.pop() {
            self.stage = Stage::DeletingLeftovers;
            return self.issue(DiskCommand::Delete { file }, io);
        }
        self.stage = Stage::SyncingRoot;
        self.sync_dir(&root_dir(), io)
    }

    fn read_header(&mut self, number: u64, io: &mut Io) -> Outcome {
        self.stage = Stage::ReadingHeader(number);
        let len_bytes = SEGMENT_HEADER_BYTES as u32;
        self.read(number, 0, len_bytes, io)
    }

    fn on_header(&mut self, number: u64, block: &[u8], io: &mut Io) -> Outcome {
        match SegmentHeader::decode(number, block) {
            Ok(header) => {
                self.headers.insert(number, header);
            }
            Err(FrameError::Schema { found, .. }) => {
                return Err(LogError::TooNew { file: segment_file(number), version: found });
            }
            Err(_) => {}
        }
        match self.files.range(number + 1..).next() {
            Some((&after, _)) => self.read_header(after, io),
            None => self.on_headers(io),
        }
    }

    /// Segments in use are a run without holes from the lowest file on; those above it are spare.
    fn on_headers(&mut self, io: &mut Io) -> Outcome {
        let lowest = *self.files.keys().next().expect("a header was read from each file");
        let Some(newest) = self.newest() else {
            return Err(damaged(lowest, 0, DamageKind::SegmentHeader));
        };
        let log = self.headers[&newest].log;
        self.check_log(newest, log.id)?;
        for number in lowest..=newest {
            let Some(&found_bytes) = self.files.get(&number) else {
                return Err(damaged(number, 0, DamageKind::MissingSegment));
            };
            let Some(header) = self.headers.get(&number) else {
                return Err(damaged(number, 0, DamageKind::SegmentHeader));
            };
            if header.log != log {
                return Err(damaged(number, 0, DamageKind::Foreign));
            }
            let expected_bytes = header.len_bytes;
            if found_bytes != expected_bytes {
                let kind = DamageKind::Length { found_bytes, expected_bytes };
                return Err(damaged(number, found_bytes, kind));
            }
        }
        self.check_start(lowest)?;
        let wanted = self.config.replay_from.next();
        let start = (lowest..=newest).rfind(|number| self.headers[number].first <= wanted);
        self.walk_from(start.unwrap_or(lowest), io)
    }

    fn check_start(&self, lowest: u64) -> Result<(), LogError> {
        let header = &self.headers[&lowest];
        if header.previous_last > self.config.replay_from {
            let (wanted, first) = (self.config.replay_from.next(), header.first);
            return Err(damaged(lowest, 0, DamageKind::StartsAfter { wanted, first }));
        }
        Ok(())
    }

    // Walking the groups.

    fn walk_from(&mut self, number: u64, io: &mut Io) -> Outcome {
        let header = &self.headers[&number];
        self.proven = header.previous_last;
        self.walk = Some(Walk {
            log: header.log,
            boots: None,
            next: header.first,
            last: header.previous_last,
        });
        self.replay = None;
        self.walk_segment(number, io)
    }

    fn walk_segment(&mut self, number: u64, io: &mut Io) -> Outcome {
        self.last_kind = None;
        self.proven_bytes = 0;
        let reader = SegmentReader::new(number, self.files[&number]);
        self.stage = Stage::Walking { reader, asked: (0, 0) };
        self.walk_on(io)
    }

    fn walk_on(&mut self, io: &mut Io) -> Outcome {
        loop {
            let Stage::Walking { reader, asked } = &mut self.stage else {
                unreachable!("only a walk goes on walking")
            };
            let walk = self.walk.as_mut().expect("a walk has begun");
            let number = reader.number();
            let before = (reader.offset_bytes(), walk.clone());
            match reader.step(walk) {
                ReadStep::Need { offset_bytes, len_bytes } => {
                    *asked = (offset_bytes, len_bytes);
                    return self.read(number, offset_bytes, len_bytes, io);
                }
                ReadStep::Group(group) => {
                    let is_wanted = walk.last > self.config.replay_from;
                    if is_wanted && self.replay.is_none() {
                        let (offset_bytes, walk) = before;
                        self.replay = Some(ReplayStart { segment: number, offset_bytes, walk });
                    }
                    self.last_kind = Some(group.header.kind);
                    self.proven_bytes = self.proven_bytes.max(group.header.durable_offset_bytes);
                    self.proven = self.proven.max(group.header.durable_end);
                    if group.header.kind == GroupKind::SegmentEnd {
                        let end_bytes = reader.offset_bytes();
                        return self.on_segment_end(number, end_bytes, io);
                    }
                }
                ReadStep::Stop => {
                    let offset_bytes = reader.offset_bytes();
                    return self.on_stop(number, offset_bytes, io);
                }
                ReadStep::Unknown { kind } => {
                    let (file, offset_bytes) = (segment_file(number), reader.offset_bytes());
                    return Err(LogError::UnknownGroup { file, offset_bytes, kind });
                }
            }
        }
    }

    fn on_segment_end(&mut self, number: u64, end_bytes: u64, io: &mut Io) -> Outcome {
        if let Some(after) = self.headers.get(&(number + 1)) {
            if after.previous_end_bytes != end_bytes || after.first < self.walked().next {
                return Err(damaged(number, end_bytes, DamageKind::Group));
            }
            self.walk.as_mut().expect("a walk has begun").next = after.first;
            return self.walk_segment(number + 1, io);
        }
        // The spare segment was durable before this end was written.
        if !self.files.contains_key(&(number + 1)) {
            return Err(damaged(number + 1, 0, DamageKind::MissingSegment));
        }
        self.on_end(number, end_bytes, io)
    }

    fn on_stop(&mut self, number: u64, offset_bytes: u64, io: &mut Io) -> Outcome {
        if self.headers.contains_key(&(number + 1)) {
            return Err(damaged(number, offset_bytes, DamageKind::Group));
        }
        let has_boots = self.walked().boots.is_some();
        if !has_boots && self.headers.contains_key(&(number - 1)) {
            // The first group of the newest segment is torn: the boot table is in the segment before it.
            return self.walk_from(number - 1, io);
        }
        self.on_end(number, offset_bytes, io)
    }

    // The result.

    fn finish(&mut self) -> Recovered {
        let (number, offset_bytes) = self.end;
        let mend = self.plan_mend();
        let walk = self.walk.take().expect("a log was walked or made");
        let segment = |number: u64| Segment {
            number,
            len_bytes: self.files[&number],
            first: self.headers.get(&number).map_or(Txn(0), |header| header.first),
        };
        let lowest = *self.files.keys().next().expect("there is a segment");
        Recovered {
            log: walk.log,
            sealed: (lowest..number).map(segment).collect(),
            current: segment(number),
            offset_bytes,
            is_ended: self.is_ended(),
            spare: self.files.contains_key(&(number + 1)).then(|| segment(number + 1)),
            boots: walk.boots.map(Arc::unwrap_or_clone).unwrap_or_default(),
            next: walk.next,
            last: walk.last,
            proven: self.proven.min(walk.last),
            replay: self.replay.take(),
            created: false,
            seal_seen: self.last_kind == Some(GroupKind::Seal),
            cut: self.cut.take(),
            mend,
            config: self.config.clone(),
        }
    }

    fn newest(&self) -> Option<u64> {
        self.headers.keys().next_back().copied()
    }

    fn is_ended(&self) -> bool {
        self.last_kind == Some(GroupKind::SegmentEnd)
    }

    fn walked(&self) -> &Walk {
        self.walk.as_ref().expect("a walk has begun")
    }

    // Commands.

    fn read(&mut self, number: u64, offset_bytes: u64, len_bytes: u32, io: &mut Io) -> Outcome {
        self.issue(DiskCommand::Read { file: segment_file(number), offset_bytes, len_bytes }, io)
    }

    fn sync_dir(&mut self, dir: &str, io: &mut Io) -> Outcome {
        self.issue(DiskCommand::SyncDir { dir: dir.into() }, io)
    }

    fn issue(&mut self, command: DiskCommand, io: &mut Io) -> Outcome {
        self.op = io.disk(command.clone());
        self.command = command;
        Ok(RecoveryStep::Pending)
    }

    /// The driver answered with another kind of reply than the command has.
    fn wrong_reply(&self) -> LogError {
        disk_error(self.command.file(), DiskError::Io("the reply does not fit the command".into()))
    }
}
