//! Finds the newest checkpoint in which everything checks, and streams its chunks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    BLOCK_BYTES, CHECKPOINT_DIR, CHUNK_BYTES_MAX, CheckpointInfo, SCHEMA, Totals, address,
    checkpoint_file, checkpoint_position, decode_footer, decode_header,
};
use crate::disk::{DiskCommand, DiskDone, DiskError, DiskOp, DiskReply, FileName};
use crate::ident::Txn;
use crate::log::frame::{self, FRAME_HEADER_BYTES, FrameError};
use crate::log::group::padded;

/// Read this much at a time; a larger chunk is read in one piece.
const READ_BYTES: u64 = 1 << 20;

/// What the owner of a reader must do, or has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderOutput {
    /// Carry out a disk command and answer it under this number.
    Disk(DiskOp, DiskCommand),
    /// This checkpoint does not check and was passed over.
    Skipped {
        /// The file.
        file: FileName,
        /// What is wrong with it.
        reason: String,
    },
    /// The newest whole checkpoint. Its chunks follow as far as [`CheckpointReader::more`] gives leave.
    Found(CheckpointInfo),
    /// The next chunk.
    Chunk(Bytes),
    /// All chunks were handed out.
    Finished,
    /// There is no checkpoint: everything is in the log.
    Empty,
    /// There are checkpoints, and none can be read.
    Failed {
        /// The file, or the directory when no file checks.
        file: FileName,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the newest whole checkpoint. The file is read twice: to check everything before the first chunk leaves,
/// then to hand the chunks out.
#[derive(Debug)]
pub struct CheckpointReader {
    /// Candidates, oldest first, with the lengths of their files.
    candidates: Vec<(Txn, u64)>,
    /// Files of checkpoints that were never finished. They go away first: they may hold the space that is missing.
    leftovers: Vec<FileName>,
    skipped: bool,
    stage: Stage,
    credit_bytes: u64,
    outputs: VecDeque<ReaderOutput>,
    op: DiskOp,
}

#[derive(Debug)]
enum Stage {
    Listing,
    DeletingLeftovers,
    ReadingFooter,
    Checking(Pass),
    /// A read is out.
    Streaming(Pass),
    /// No leave.
    Holding(Pass),
    Ended,
}

/// One pass over a file.
#[derive(Debug)]
struct Pass {
    at: Txn,
    expected: Totals,
    /// Where the footer starts: chunks end here.
    end_bytes: u64,
    offset_bytes: u64,
    seen: Totals,
    info: Option<CheckpointInfo>,
    window: Bytes,
    window_offset_bytes: u64,
    asked_bytes: u32,
}

enum PassStep {
    Need { offset_bytes: u64, len_bytes: u32 },
    Chunk(Bytes),
    End,
}

impl CheckpointReader {
    /// Starts to look for a checkpoint.
    #[must_use]
    pub fn start() -> Self {
        let mut reader = Self {
            candidates: Vec::new(),
            leftovers: Vec::new(),
            skipped: false,
            stage: Stage::Listing,
            credit_bytes: 0,
            outputs: VecDeque::new(),
            op: DiskOp(0),
        };
        reader.issue(DiskCommand::List { dir: CHECKPOINT_DIR.into() });
        reader
    }

    /// Gives leave for about `bytes` more bytes of chunks; the chunk that reaches the limit comes whole.
    pub fn more(&mut self, bytes: u64) {
        self.credit_bytes = self.credit_bytes.saturating_add(bytes);
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Holding(pass) => self.stream(pass),
            stage => self.stage = stage,
        }
    }

    /// The length of the newest file that was not passed over; zero when there is none.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.candidates.last().map_or(0, |&(_, len_bytes)| len_bytes)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ReaderOutput> {
        self.outputs.pop_front()
    }

    /// Takes the completion of a command.
    pub fn handle_disk(&mut self, done: DiskDone) {
        if done.op != self.op {
            return;
        }
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Listing => self.on_listed(done.result),
            // One that stays does no harm: the next checkpoint takes it away.
            Stage::DeletingLeftovers => self.delete_leftovers(),
            Stage::ReadingFooter => self.on_footer(done.result),
            Stage::Checking(mut pass) => match read_bytes(done.result).and_then(|b| pass.fill(b)) {
                Ok(()) => self.check(pass),
                Err(reason) => self.skip(reason),
            },
            Stage::Streaming(mut pass) => {
                match read_bytes(done.result).and_then(|b| pass.fill(b)) {
                    Ok(()) => self.stream(pass),
                    Err(reason) => self.fail(checkpoint_file(pass.at), reason),
                }
            }
            stage @ (Stage::Holding(_) | Stage::Ended) => self.stage = stage,
        }
    }

    fn on_listed(&mut self, result: Result<DiskReply, DiskError>) {
        let names = match result {
            Ok(DiskReply::Listed(names)) => names,
            Ok(_) => return self.fail(CHECKPOINT_DIR.into(), wrong_reply()),
            Err(error) => return self.fail(CHECKPOINT_DIR.into(), error.to_string()),
        };
        let found = names.iter().filter_map(|(name, len_bytes)| {
            checkpoint_position(name).map(|position| (position, *len_bytes))
        });
        self.candidates = found.collect();
        self.candidates.sort_unstable();
        let temporary = names.iter().filter(|(name, _)| name.ends_with(".tmp"));
        self.leftovers =
            temporary.map(|(name, _)| format!("{CHECKPOINT_DIR}/{name}").into()).collect();
        self.delete_leftovers();
    }

    fn delete_leftovers(&mut self) {
        match self.leftovers.pop() {
            Some(file) => {
                self.stage = Stage::DeletingLeftovers;
                self.issue(DiskCommand::Delete { file });
            }
            None => self.try_newest(),
        }
    }

    fn try_newest(&mut self) {
        let Some(&(at, len_bytes)) = self.candidates.last() else {
            if self.skipped {
                self.fail(CHECKPOINT_DIR.into(), "no checkpoint is whole".into());
            } else {
                self.outputs.push_back(ReaderOutput::Empty);
            }
            return;
        };
        let block_bytes = BLOCK_BYTES as u64;
        if len_bytes < 2 * block_bytes || !len_bytes.is_multiple_of(block_bytes) {
            return self.skip(format!("{len_bytes} bytes are no whole checkpoint"));
        }
        self.stage = Stage::ReadingFooter;
        self.issue(DiskCommand::Read {
            file: checkpoint_file(at),
            offset_bytes: len_bytes - block_bytes,
            len_bytes: BLOCK_BYTES as u32,
        });
    }

    fn on_footer(&mut self, result: Result<DiskReply, DiskError>) {
        let &(at, len_bytes) = self.candidates.last().expect("a candidate is being read");
        let end_bytes = len_bytes - BLOCK_BYTES as u64;
        let footer = read_bytes(result).and_then(|bytes| {
            decode_footer(at, end_bytes, &bytes).map_err(|error| at_offset(end_bytes, &error))
        });
        match footer {
            Ok(expected) => self.check(Pass::new(at, expected, end_bytes)),
            Err(reason) => self.skip(reason),
        }
    }

    fn check(&mut self, mut pass: Pass) {
        loop {
            match pass.step() {
                Ok(PassStep::Need { offset_bytes, len_bytes }) => {
                    let file = checkpoint_file(pass.at);
                    self.stage = Stage::Checking(pass);
                    return self.issue(DiskCommand::Read { file, offset_bytes, len_bytes });
                }
                Ok(PassStep::Chunk(_)) => {}
                Ok(PassStep::End) => break,
                Err(reason) => return self.skip(reason),
            }
        }
        self.outputs.push_back(ReaderOutput::Found(pass.info.expect("the pass began with it")));
        self.stream(Pass::new(pass.at, pass.expected, pass.end_bytes));
    }

    fn stream(&mut self, mut pass: Pass) {
        while self.credit_bytes > 0 {
            match pass.step() {
                Ok(PassStep::Need { offset_bytes, len_bytes }) => {
                    let file = checkpoint_file(pass.at);
                    self.stage = Stage::Streaming(pass);
                    return self.issue(DiskCommand::Read { file, offset_bytes, len_bytes });
                }
                Ok(PassStep::Chunk(chunk)) => {
                    let taken_bytes = (chunk.len() as u64).max(1);
                    self.credit_bytes = self.credit_bytes.saturating_sub(taken_bytes);
                    self.outputs.push_back(ReaderOutput::Chunk(chunk));
                }
                Ok(PassStep::End) => return self.outputs.push_back(ReaderOutput::Finished),
                Err(reason) => return self.fail(checkpoint_file(pass.at), reason),
            }
        }
        self.stage = Stage::Holding(pass);
    }

    fn skip(&mut self, reason: String) {
        let (at, _) = self.candidates.pop().expect("a candidate is being read");
        self.skipped = true;
        self.outputs.push_back(ReaderOutput::Skipped { file: checkpoint_file(at), reason });
        self.try_newest();
    }

    fn fail(&mut self, file: FileName, reason: String) {
        self.stage = Stage::Ended;
        self.outputs.push_back(ReaderOutput::Failed { file, reason });
    }

    fn issue(&mut self, command: DiskCommand) {
        self.op = DiskOp(self.op.0 + 1);
        self.outputs.push_back(ReaderOutput::Disk(self.op, command));
    }
}

impl Pass {
    fn new(at: Txn, expected: Totals, end_bytes: u64) -> Self {
        Self {
            at,
            expected,
            end_bytes,
            offset_bytes: 0,
            seen: Totals::default(),
            info: None,
            window: Bytes::new(),
            window_offset_bytes: 0,
            asked_bytes: 0,
        }
    }

    /// Takes what was read; a file that gives less than its length promises is not whole.
    fn fill(&mut self, bytes: Bytes) -> Result<(), String> {
        if bytes.len() < self.asked_bytes as usize {
            return Err(self.here(&FrameError::Truncated));
        }
        self.window = bytes;
        self.window_offset_bytes = self.offset_bytes;
        Ok(())
    }

    fn step(&mut self) -> Result<PassStep, String> {
        if self.offset_bytes == self.end_bytes && self.info.is_some() {
            return if self.seen == self.expected {
                Ok(PassStep::End)
            } else {
                Err(format!("{:?} found, {:?} expected", self.seen, self.expected))
            };
        }
        let Some(block) = self.available(BLOCK_BYTES as u64) else {
            return self.need(BLOCK_BYTES as u64);
        };
        if self.info.is_none() {
            let info = decode_header(self.at, &block).map_err(|error| at_offset(0, &error))?;
            self.info = Some(info);
            self.offset_bytes += BLOCK_BYTES as u64;
            return self.step();
        }
        let head = frame::decode_head(&block).map_err(|error| self.here(&error))?;
        if head.payload_bytes > CHUNK_BYTES_MAX {
            return Err(self.here(&FrameError::Truncated));
        }
        let frame_bytes = padded((FRAME_HEADER_BYTES + head.payload_bytes) as u64);
        let Some(bytes) = self.available(frame_bytes) else { return self.need(frame_bytes) };
        let address = address(self.at, self.offset_bytes);
        let payload = frame::decode(frame::KIND_CHECKPOINT_CHUNK, SCHEMA, address, &bytes)
            .map_err(|error| self.here(&error))?;
        self.seen.chunk_count += 1;
        self.seen.payload_bytes += payload.len() as u64;
        self.offset_bytes += frame_bytes;
        Ok(PassStep::Chunk(bytes.slice_ref(payload)))
    }

    fn available(&self, len_bytes: u64) -> Option<Bytes> {
        let start = self.offset_bytes.checked_sub(self.window_offset_bytes)?;
        let end = start + len_bytes;
        (end <= self.window.len() as u64).then(|| self.window.slice(start as usize..end as usize))
    }

    fn need(&mut self, len_bytes: u64) -> Result<PassStep, String> {
        let rest_bytes = self.end_bytes - self.offset_bytes;
        if len_bytes > rest_bytes {
            return Err(self.here(&FrameError::Truncated));
        }
        let len_bytes = len_bytes.max(READ_BYTES).min(rest_bytes) as u32;
        self.asked_bytes = len_bytes;
        Ok(PassStep::Need { offset_bytes: self.offset_bytes, len_bytes })
    }

    fn here(&self, error: &FrameError) -> String {
        at_offset(self.offset_bytes, error)
    }
}

fn at_offset(offset_bytes: u64, error: &FrameError) -> String {
    format!("at byte {offset_bytes}: {error}")
}

fn read_bytes(result: Result<DiskReply, DiskError>) -> Result<Bytes, String> {
    match result {
        Ok(DiskReply::Read(bytes)) => Ok(bytes),
        Ok(_) => Err(wrong_reply()),
        Err(error) => Err(error.to_string()),
    }
}

fn wrong_reply() -> String {
    "the reply does not fit the command".into()
}
