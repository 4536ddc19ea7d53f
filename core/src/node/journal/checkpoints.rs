//! When a checkpoint is made, and how the parts of all partitions become its chunks.
//!
//! ```text
//! chunk:   flags (1: the part ends here), partition (2 bytes, little-endian), a piece of the part
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::disk::{DiskDone, DiskError, FileName};
use crate::ident::{LogId, PartitionId, Txn};
use crate::log::checkpoint::{CheckpointInfo, CheckpointWriter, WriterOutput};
use crate::node::snapshot::SnapshotAsk;
use crate::seam::Now;
use crate::time::Instant;

/// A chunk that is to be written.
#[derive(Debug)]
struct Chunk {
    head: [u8; CHUNK_HEAD_BYTES],
    piece: Bytes,
}

/// Cuts a part into chunks.
fn to_chunks(partition: PartitionId, part: &Bytes) -> impl Iterator<Item = Chunk> {
    let count = part.len().div_ceil(PIECE_BYTES).max(1);
    (0..count).map(move |index| {
        let from = index * PIECE_BYTES;
        let [low, high] = partition.0.to_le_bytes();
        Chunk {
            head: [u8::from(index + 1 == count), low, high],
            piece: part.slice(from..part.len().min(from + PIECE_BYTES)),
        }
    })
}

/// Puts parts together again.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pieces: BytesMut,
}

impl Assembly {
    /// Takes the next chunk; the answer is a part when it ends one.
    pub(super) fn add(
        &mut self,
        chunk: &[u8],
        partitions: u16,
    ) -> Result<Option<(PartitionId, Bytes)>, String> {
        let Some((head, piece)) = chunk.split_first_chunk::<CHUNK_HEAD_BYTES>() else {
            return Err(format!("a chunk of {} bytes has no head", chunk.len()));
        };
        let [flags, low, high] = *head;
        let partition = PartitionId(u16::from_le_bytes([low, high]));
        if partition.0 >= partitions || flags > 1 {
            return Err(format!("a chunk of partition {}, of {partitions}", partition.0));
        }
        self.pieces.extend_from_slice(piece);
        Ok((flags == 1).then(|| (partition, self.pieces.split().freeze())))
    }
}

/// What is to be done for a checkpoint.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask a partition.
    Ask(PartitionId, SnapshotAsk),
    /// What the writer says.
    Writer(WriterOutput),
    /// No checkpoint is being made any more.
    Ended,
}

/// The making of checkpoints, one at a time.
#[derive(Debug)]
pub(super) struct Checkpoints {
    partitions: u16,
    /// The least weight of the log that is worth one.
    after_bytes: u64,
    /// Records of the log behind the newest checkpoint.
    since: Since,
    /// What reading the newest one costs.
    newest_bytes: u64,
    newest_at: Option<Txn>,
    /// Nothing older than the newest is on the disk.
    is_alone: bool,
    /// After a checkpoint that failed.
    retry: Pause,
    /// The disk refused that one for want of what it was to leave free: one that leaves nothing may find room at once.
    lacked_reserve: bool,
    /// After one that was made for the log's sake and let nothing of it go.
    relief: Pause,
    making: Option<Making>,
    /// Partitions that owe an answer to a checkpoint which was given up. They answer in order, so what comes next of
    /// each is of that one, and not of the one that is being made.
    answers_owed: Vec<u16>,
    steps: VecDeque<Step>,
}

/// Records of the log that no checkpoint holds.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    /// The cost of replaying them.
    weight_bytes: u64,
    record_bytes: u64,
}

/// The time between one try that brought nothing and the next, twice as long each time.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl Pause {
    fn lengthen(&mut self, now: Instant) {
        self.length = (2 * self.length).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = Some(now.after(self.length));
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

/// The outcome of making room for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relief {
    /// It has begun: the log will hear of what may go.
    Begun,
    /// A checkpoint of everything that is committed lets segments go. [`Checkpoints::begin`] makes it.
    Checkpoint,
    /// Nothing of it can go.
    None,
}

#[derive(Debug)]
struct Making {
    writer: CheckpointWriter,
    /// Where it will be, and what it holds that was not in the one before; none where older ones are taken away.
    of: Option<(Txn, Since)>,
    /// It is refused unless it leaves room for the next one.
    leaves_free: bool,
    /// Who is asked; the count of partitions when all have given everything.
    partition: u16,
    is_asked: bool,
    chunks: VecDeque<Chunk>,
    is_finished: bool,
}

impl Making {
    fn new(writer: CheckpointWriter, of: Option<(Txn, Since)>) -> Self {
        let (leaves_free, is_asked, is_finished) = (false, false, false);
        let chunks = VecDeque::new();
        Self { writer, of, leaves_free, partition: 0, is_asked, chunks, is_finished }
    }
}

impl Checkpoints {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            partitions,
            after_bytes: AFTER_BYTES,
            since: Since::default(),
            newest_bytes: 0,
            newest_at: None,
            is_alone: false,
            retry: Pause::default(),
            lacked_reserve: false,
            relief: Pause::default(),
            making: None,
            answers_owed: Vec::new(),
            steps: VecDeque::new(),
        }
    }

    pub(super) fn set_after(&mut self, bytes: u64) {
        self.after_bytes = bytes;
    }

    pub(super) fn limit_after(&mut self, bytes: u64) {
        self.after_bytes = self.after_bytes.min(bytes);
    }

    /// The checkpoint that the log is replayed from, or none.
    pub(super) fn note_found(&mut self, at: Option<Txn>) {
        self.newest_at = at;
        self.is_alone = at.is_none();
    }

    /// A piece of the checkpoint that was read at the start.
    pub(super) fn note_read(&mut self, bytes: u64) {
        self.newest_bytes += bytes;
    }

    /// Records that a start would replay.
    pub(super) fn note_records(&mut self, count: usize, bytes: usize) {
        self.since.record_bytes += bytes as u64;
        self.since.weight_bytes += bytes as u64 + count as u64 * RECORD_BYTES;
    }

    /// True when replaying the log has come to cost as much as reading the newest checkpoint.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_heavy() && self.retry.is_over(now)
    }

    /// When a checkpoint that is due is tried again after it failed.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry.until.filter(|_| self.is_heavy())
    }

    fn is_heavy(&self) -> bool {
        let least_bytes = self.after_bytes.max(NEWEST_SHARE * self.newest_bytes);
        self.making.is_none() && self.since.weight_bytes >= least_bytes
    }

    /// Starts one. `at` was committed last, and everybody is about to hear of it, or has. Where the log is short of
    /// space, nothing older stays when it is done.
    pub(super) fn begin(&mut self, log_id: LogId, at: Txn, now: Now, is_short: bool) {
        // The next one must find room as well, or the log could not be trimmed any more. Where it is short already
        // there is no choice.
        let keep_free_bytes = if is_short { 0 } else { 2 * self.room_bytes() };
        let since = std::mem::take(&mut self.since);
        let kept = if is_short { 1 } else { KEPT };
        self.is_alone = self.newest_at.is_none() || is_short;
        let writer = CheckpointWriter::start(
            CheckpointInfo { log_id, at, created: now.wall },
            kept,
            keep_free_bytes,
        );
        let making = Making::new(writer, Some((at, since)));
        self.making = Some(Making { leaves_free: keep_free_bytes > 0, ..making });
        self.ask_all(SnapshotAsk::Begin { at });
        self.pump(now.mono);
    }

    /// Makes room for the log: first the older checkpoint goes, which is kept for the case that the newest cannot be
    /// read, and with it what of the log is needed only there; then a new one takes the place of what was logged
    /// since, up to `committed`.
    pub(super) fn relieve(&mut self, committed: Txn, now: Instant) -> Relief {
        if self.making.is_some() {
            return Relief::Begun;
        }
        if let Some(newest) = self.newest_at.filter(|_| !self.is_alone) {
            self.is_alone = true;
            self.making = Some(Making::new(CheckpointWriter::clear(newest), None));
            self.pump(now);
            return Relief::Begun;
        }
        let is_newer = self.newest_at.unwrap_or(Txn(0)) < committed;
        let is_worth = self.since.record_bytes >= self.newest_bytes / RELIEF_SHARE;
        let may_succeed = self.lacked_reserve || self.retry.is_over(now);
        let is_time = may_succeed && (is_worth || self.relief.is_over(now));
        if !is_newer || !is_time {
            return Relief::None;
        }
        self.relief.lengthen(now);
        Relief::Checkpoint
    }

    /// Notes that a checkpoint for the log's sake has helped, or the next one may.
    pub(super) fn note_relieved(&mut self) {
        self.relief = Pause::default();
    }

    /// The most that the next checkpoint will take: the documents of the newest one, and everything since as if none
    /// of it had replaced anything.
    pub(super) fn room_bytes(&self) -> u64 {
        let is_made =
            |making: &Making| making.of.map(|(_, since)| (since, making.writer.payload_bytes()));
        let (of, written_bytes) = self.making.as_ref().and_then(is_made).unwrap_or_default();
        let bytes = self.newest_bytes + self.since.record_bytes + of.record_bytes;
        (bytes + bytes / ROOM_SHARE + ROOM_BYTES_MIN).saturating_sub(written_bytes)
    }

    /// Takes what a partition gave.
    pub(super) fn on_part(&mut self, partition: PartitionId, part: Option<&Bytes>, now: Instant) {
        if let Some(place) = self.answers_owed.iter().position(|owing| *owing == partition.0) {
            self.answers_owed.remove(place);
            return;
        }
        let Some(making) = &mut self.making else { return };
        assert!(making.is_asked && making.partition == partition.0, "each part was asked for");
        making.is_asked = false;
        match part {
            Some(part) => making.chunks.extend(to_chunks(partition, part)),
            None => making.partition += 1,
        }
        self.pump(now);
    }

    pub(super) fn handle_disk(&mut self, done: DiskDone, now: Instant) {
        if let Some(making) = &mut self.making {
            making.writer.handle_disk(done);
            self.pump(now);
        }
    }

    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn ask_all(&mut self, ask: SnapshotAsk) {
        let all = (0..self.partitions).map(PartitionId);
        self.steps.extend(all.map(|partition| Step::Ask(partition, ask)));
    }

    fn pump(&mut self, now: Instant) {
        let Some(making) = &mut self.making else { return };
        while making.writer.is_ready() && !making.is_finished {
            if let Some(chunk) = making.chunks.pop_front() {
                making.writer.push(&[&chunk.head, &chunk.piece]);
            } else if making.partition == self.partitions {
                making.is_finished = true;
                making.writer.finish();
            } else if making.is_asked {
                break;
            } else {
                making.is_asked = true;
                self.steps.push_back(Step::Ask(PartitionId(making.partition), SnapshotAsk::More));
            }
        }
        let mut has_failed = false;
        while let Some(output) = making.writer.poll_output() {
            match &output {
                WriterOutput::Done { at } => {
                    self.newest_bytes = making.writer.payload_bytes();
                    self.newest_at = Some(*at);
                    self.retry = Pause::default();
                    self.lacked_reserve = false;
                    making.of = None;
                }
                WriterOutput::Failed { error, .. } => {
                    self.retry.lengthen(now);
                    self.lacked_reserve = *error == DiskError::Full && making.leaves_free;
                    has_failed = true;
                }
                WriterOutput::Disk(..) | WriterOutput::Cleared { .. } => {}
            }
            self.steps.push_back(Step::Writer(output));
        }
        let lost = making.of.filter(|_| has_failed);
        if making.writer.is_ended() {
            self.answers_owed.extend(Some(making.partition).filter(|_| making.is_asked));
            self.making = None;
            self.steps.push_back(Step::Ended);
        }
        if let Some((_, since)) = lost {
            self.since.weight_bytes += since.weight_bytes;
            self.since.record_bytes += since.record_bytes;
            self.ask_all(SnapshotAsk::Cancel);
        }
    }
}

/// The file name of a failure that concerns no single file.
pub(super) fn directory() -> FileName {
    crate::log::checkpoint::CHECKPOINT_DIR.into()
}

/// A log that weighs less is replayed within a second by one core: some 140,000 inserted cars.
const AFTER_BYTES: u64 = 128 << 20;

/// A failed checkpoint is tried again after a second, then after twice as long each time, up to this.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// The log behind the newest checkpoint is worth another one for its own sake when it is this part of
/// it. Less than that is worth one now and then.
const RELIEF_SHARE: u64 = 8;

/// Documents take more room in a checkpoint than their records in the log: a quarter more, and some for each part.
const ROOM_SHARE: u64 = 4;
const ROOM_BYTES_MIN: u64 = 64 << 10;

/// What one record costs beside its bytes when it is replayed.
const RECORD_BYTES: u64 = 512;

/// The log may weigh so many times what the newest checkpoint takes. A start takes back a byte of a checkpoint in
/// the time of almost two of the log's weight (an inserted car is 460 bytes there, 407 and 512 here, and takes 5.5
/// and 6.7 µs), so it is little more than twice as long as right after a checkpoint.
///
/// A checkpoint holds everything, so this also bounds what is written. A store that keeps its size is written once
/// while twice its size passes through the log. One that only grows about doubles from one checkpoint to the next:
/// all its checkpoints together have written each document twice at most.
const NEWEST_SHARE: u64 = 2;

/// The newest, and one before it for the case that the newest cannot be read.
const KEPT: usize = 2;

const CHUNK_HEAD_BYTES: usize = 3;

/// The largest piece of a part in one chunk.
const PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskCommand, DiskReply};

    #[test]
    fn the_log_outweighs_the_newest_checkpoint_twice_before_the_next_is_due() {
        let mut checkpoints = Checkpoints::new(1);
        checkpoints.set_after(1_000);
        checkpoints.note_records(1, 1_000 - RECORD_BYTES as usize - 1);
        assert!(!checkpoints.is_due(NOW));
        checkpoints.note_records(0, 1);
        assert!(checkpoints.is_due(NOW), "the least weight is enough where there is no checkpoint");
        checkpoints.note_read(600);
        checkpoints.note_records(0, 199);
        assert!(!checkpoints.is_due(NOW));
        checkpoints.note_records(0, 1);
        assert!(checkpoints.is_due(NOW));
    }

    const NOW: Instant = Instant { ns: 0 };

    #[test]
    fn a_try_that_brought_nothing_is_repeated_after_ever_longer_pauses() {
        let mut pause = Pause::default();
        let mut now = NOW;
        let mut lengths = Vec::new();
        for _ in 0..8 {
            assert!(pause.is_over(now));
            pause.lengthen(now);
            assert!(!pause.is_over(now));
            now = pause.until.expect("it has an end");
            lengths.push(pause.length.as_secs());
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn little_of_the_log_is_worth_a_checkpoint_only_now_and_then() {
        let mut checkpoints = Checkpoints::new(1);
        (checkpoints.newest_at, checkpoints.is_alone) = (Some(Txn(5)), true);
        checkpoints.note_read(8_000);
        checkpoints.note_records(1, 999);
        assert_eq!(checkpoints.relieve(Txn(5), NOW), Relief::None, "it holds everything");
        assert_eq!(checkpoints.relieve(Txn(6), NOW), Relief::Checkpoint);
        assert_eq!(checkpoints.relieve(Txn(6), NOW), Relief::None, "not for each refused write");
        let later = checkpoints.relief.until.expect("it has an end");
        assert_eq!(checkpoints.relieve(Txn(6), later), Relief::Checkpoint);
        assert_eq!(checkpoints.relieve(Txn(6), later), Relief::None);
        checkpoints.note_records(0, 1);
        assert_eq!(checkpoints.relieve(Txn(6), later), Relief::Checkpoint, "an eighth is enough");
    }

    /// Makes a checkpoint on a disk that may be full, to its end; how often that is told, and how many partitions were
    /// told that no more is wanted of them.
    fn make(checkpoints: &mut Checkpoints, is_full: bool) -> (usize, usize) {
        let mut let_go = 0;
        let mut parts = VecDeque::from([Some(Bytes::from_static(b"head")), None]);
        let mut ends = 0;
        checkpoints.begin(LogId::default(), Txn(5), Now::default(), true);
        while let Some(step) = checkpoints.poll_step() {
            match step {
                Step::Writer(WriterOutput::Disk(op, command)) => {
                    let is_refused = is_full && matches!(command, DiskCommand::Write { .. });
                    let result =
                        if is_refused { Err(DiskError::Full) } else { Ok(reply(&command)) };
                    checkpoints.handle_disk(DiskDone { op, result }, NOW);
                }
                Step::Ask(partition, SnapshotAsk::More) => {
                    let part = parts.pop_front().expect("two are asked for");
                    checkpoints.on_part(partition, part.as_ref(), NOW);
                }
                Step::Ended => ends += 1,
                Step::Ask(_, SnapshotAsk::Cancel) => let_go += 1,
                Step::Ask(..) | Step::Writer(_) => {}
            }
        }
        (ends, let_go)
    }

    #[test]
    fn the_end_of_a_checkpoint_is_told_once_and_partitions_are_let_go() {
        for is_full in [false, true] {
            let let_go = usize::from(is_full);
            assert_eq!(make(&mut Checkpoints::new(1), is_full), (1, let_go), "full: {is_full}");
        }
    }

    #[test]
    fn a_checkpoint_that_failed_is_due_again_when_its_pause_is_over() {
        let mut checkpoints = Checkpoints::new(1);
        checkpoints.set_after(100);
        checkpoints.note_records(1, 100);
        assert_eq!((checkpoints.is_due(NOW), checkpoints.retry_at()), (true, None), "at once");
        make(&mut checkpoints, true);
        let again = NOW.after(PAUSE_MIN);
        assert_eq!((checkpoints.is_due(NOW), checkpoints.retry_at()), (false, Some(again)));
        assert!(checkpoints.is_due(again));
        make(&mut checkpoints, false);
        assert_eq!(checkpoints.retry_at(), None, "nothing is left to be made");
    }

    fn reply(command: &DiskCommand) -> DiskReply {
        match command {
            DiskCommand::List { .. } => DiskReply::Listed(Vec::new()),
            _ => DiskReply::Done,
        }
    }

    #[test]
    fn an_answer_to_a_former_checkpoint_is_not_taken_for_the_next() {
        let mut checkpoints = Checkpoints::new(1);
        let mut asked = 0;
        let mut carry = |checkpoints: &mut Checkpoints| {
            let mut writes = Vec::new();
            while let Some(step) = checkpoints.poll_step() {
                match step {
                    Step::Ask(..) => asked += 1,
                    Step::Writer(WriterOutput::Disk(op, command)) => writes.push((op, command)),
                    _ => {}
                }
            }
            (asked, writes)
        };
        let done = |op| DiskDone { op, result: Ok(DiskReply::Done) };
        checkpoints.note_records(1, 100);
        checkpoints.begin(LogId::default(), Txn(5), Now::default(), false);
        for (op, _) in carry(&mut checkpoints).1 {
            checkpoints.handle_disk(done(op), NOW);
        }
        checkpoints.on_part(PartitionId(0), Some(&Bytes::from_static(b"head")), NOW);
        // The next part is not given yet, and the disk is full.
        let (asked, writes) = carry(&mut checkpoints);
        assert_eq!(asked, 3, "to begin, and for two parts");
        for (op, command) in writes {
            let is_write = matches!(command, DiskCommand::Write { .. });
            let result = if is_write { Err(DiskError::Full) } else { Ok(DiskReply::Done) };
            checkpoints.handle_disk(DiskDone { op, result }, NOW);
        }
        for (op, _) in carry(&mut checkpoints).1 {
            checkpoints.handle_disk(done(op), NOW);
        }
        assert_eq!(checkpoints.relieve(Txn(9), NOW), Relief::Checkpoint, "at once");
        checkpoints.begin(LogId::default(), Txn(9), Now::default(), true);
        for (op, _) in carry(&mut checkpoints).1 {
            checkpoints.handle_disk(done(op), NOW);
        }
        let mut written = |part: &'static [u8]| {
            checkpoints.on_part(PartitionId(0), Some(&Bytes::from_static(part)), NOW);
            let writes = carry(&mut checkpoints).1;
            writes.iter().any(|(_, command)| match command {
                DiskCommand::Write { data, .. } => data.windows(part.len()).any(|w| w == part),
                _ => false,
            })
        };
        assert!(!written(b"as of 5"), "it is in no checkpoint of 9");
        assert!(written(b"as of 9"));
    }
}
