//! When a checkpoint is made, and how the parts of all partitions become its chunks.
//!
//! ```text
//! chunk:   flags (1: the part ends here), partition (2 bytes, little-endian), a piece of the part
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::disk::{DiskDone, FileName};
use crate::ident::{LogId, PartitionId, Txn};
use crate::log::checkpoint::{CheckpointInfo, CheckpointWriter, WriterOutput};
use crate::node::snapshot::SnapshotAsk;
use crate::time::WallMs;

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
}

/// The making of checkpoints, one at a time.
#[derive(Debug)]
pub(super) struct Checkpoints {
    partitions: u16,
    /// The least weight of the log that is worth one.
    after_bytes: u64,
    /// What replaying the log since the newest checkpoint costs.
    weight_bytes: u64,
    /// What reading the newest one costs.
    newest_bytes: u64,
    making: Option<Making>,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Making {
    writer: CheckpointWriter,
    /// Who is asked; the count of partitions when all have given everything.
    partition: u16,
    is_asked: bool,
    chunks: VecDeque<Chunk>,
    is_finished: bool,
}

impl Checkpoints {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            partitions,
            after_bytes: AFTER_BYTES,
            weight_bytes: 0,
            newest_bytes: 0,
            making: None,
            steps: VecDeque::new(),
        }
    }

    pub(super) fn set_after(&mut self, bytes: u64) {
        self.after_bytes = bytes;
    }

    /// The checkpoint that was read at the start.
    pub(super) fn note_read(&mut self, bytes: u64) {
        self.newest_bytes += bytes;
    }

    /// Records that a start would replay.
    pub(super) fn note_records(&mut self, count: usize, bytes: usize) {
        self.weight_bytes += bytes as u64 + count as u64 * RECORD_BYTES;
    }

    /// True when replaying the log has come to cost as much as reading the newest checkpoint.
    pub(super) fn is_due(&self) -> bool {
        let least_bytes = self.after_bytes.max(NEWEST_SHARE * self.newest_bytes);
        self.making.is_none() && self.weight_bytes >= least_bytes
    }

    /// Starts one. `at` was committed last, and everybody is about to hear of it.
    pub(super) fn begin(&mut self, log_id: LogId, at: Txn, created: WallMs) {
        self.weight_bytes = 0;
        let writer = CheckpointWriter::start(CheckpointInfo { log_id, at, created }, KEPT);
        let chunks = VecDeque::new();
        let making = Making { writer, partition: 0, is_asked: false, chunks, is_finished: false };
        self.making = Some(making);
        self.ask_all(SnapshotAsk::Begin { at });
        self.pump();
    }

    /// Takes what a partition gave.
    pub(super) fn on_part(&mut self, partition: PartitionId, part: Option<&Bytes>) {
        let Some(making) = &mut self.making else { return };
        if !making.is_asked || making.partition != partition.0 {
            return;
        }
        making.is_asked = false;
        match part {
            Some(part) => making.chunks.extend(to_chunks(partition, part)),
            None => making.partition += 1,
        }
        self.pump();
    }

    pub(super) fn handle_disk(&mut self, done: DiskDone) {
        if let Some(making) = &mut self.making {
            making.writer.handle_disk(done);
            self.pump();
        }
    }

    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn ask_all(&mut self, ask: SnapshotAsk) {
        let all = (0..self.partitions).map(PartitionId);
        self.steps.extend(all.map(|partition| Step::Ask(partition, ask)));
    }

    fn pump(&mut self) {
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
            has_failed |= matches!(output, WriterOutput::Failed { .. });
            if matches!(output, WriterOutput::Done { .. }) {
                self.newest_bytes = making.writer.payload_bytes();
            }
            self.steps.push_back(Step::Writer(output));
        }
        if making.writer.is_ended() {
            self.making = None;
        }
        if has_failed {
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

    #[test]
    fn the_log_outweighs_the_newest_checkpoint_twice_before_the_next_is_due() {
        let mut checkpoints = Checkpoints::new(1);
        checkpoints.set_after(1_000);
        checkpoints.note_records(1, 1_000 - RECORD_BYTES as usize - 1);
        assert!(!checkpoints.is_due());
        checkpoints.note_records(0, 1);
        assert!(checkpoints.is_due(), "the least weight is enough where there is no checkpoint");
        checkpoints.note_read(600);
        checkpoints.note_records(0, 199);
        assert!(!checkpoints.is_due());
        checkpoints.note_records(0, 1);
        assert!(checkpoints.is_due());
    }
}
