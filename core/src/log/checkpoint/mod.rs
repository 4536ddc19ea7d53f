//! Checkpoints: files that hold what the log would otherwise have to be replayed for.
//!
//! The content is a run of chunks that are opaque here. [`CheckpointWriter`] streams them into
//! `checkpoint/<16 hex digits of the position>.tmp` and renames the file once it is whole and durable;
//! [`CheckpointReader`] finds the newest file in which everything checks, and streams the chunks back. Neither
//! knows the [`Log`](super::Log): the caller reads the newest checkpoint, then opens the log with
//! [`replay_from`](super::LogConfig::replay_from) at its position.
//!
//! ```text
//! header block    frame of kind 2: CheckpointHeaderV1 { log id, position, created }
//! chunk blocks    frames of kind 3: raw bytes, one frame per chunk
//! footer block    frame of kind 4: CheckpointFooterV1 { position, chunk count, payload bytes }
//! ```
//!
//! Every frame starts on a 512-byte boundary, is padded with zeros, and is checked against the position and its
//! own offset. The footer is the last block of the file.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

use super::frame::{self, FrameAddress, FrameError};
use super::group::padded;
use crate::disk::FileName;
use crate::ident::{LogId, Txn, Uuid};
use crate::time::WallMs;

pub use reader::{CheckpointReader, ReaderOutput};
pub use writer::{CheckpointWriter, WriterOutput};

/// The directory of checkpoints, below the data directory.
pub const CHECKPOINT_DIR: &str = "checkpoint";

/// The largest chunk.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

const SCHEMA: u16 = 1;

/// Header and footer fill one block each.
const BLOCK_BYTES: usize = 512;

/// What a checkpoint says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// The log it was made from.
    pub log_id: LogId,
    /// It holds everything up to this position, and nothing above it.
    pub at: Txn,
    /// When it was made.
    pub created: WallMs,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CheckpointHeaderV1 {
    log_id: [u8; 16],
    at: u64,
    created_ms: u64,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CheckpointFooterV1 {
    at: u64,
    chunk_count: u64,
    payload_bytes: u64,
}

fn encode_header(info: &CheckpointInfo) -> Bytes {
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&CheckpointHeaderV1 {
        log_id: info.log_id.0.0,
        at: info.at.0,
        created_ms: info.created.0,
    })
    .expect("a struct of integers archives without fail");
    block(frame::KIND_CHECKPOINT_HEADER, info.at, 0, &[&archive])
}

fn decode_header(at: Txn, bytes: &[u8]) -> Result<CheckpointInfo, FrameError> {
    let address = address(at, 0);
    let payload = frame::decode(frame::KIND_CHECKPOINT_HEADER, SCHEMA, address, bytes)?;
    let archive = frame::aligned(payload);
    let header = rkyv::from_bytes::<CheckpointHeaderV1, rkyv::rancor::Error>(&archive)
        .map_err(|_| FrameError::Archive)?;
    if header.at != at.0 {
        return Err(FrameError::Archive);
    }
    let log_id = LogId(Uuid(header.log_id));
    Ok(CheckpointInfo { log_id, at, created: WallMs(header.created_ms) })
}

/// What a checkpoint must hold to be whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    chunk_count: u64,
    payload_bytes: u64,
}

fn encode_footer(at: Txn, offset_bytes: u64, totals: Totals) -> Bytes {
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&CheckpointFooterV1 {
        at: at.0,
        chunk_count: totals.chunk_count,
        payload_bytes: totals.payload_bytes,
    })
    .expect("a struct of integers archives without fail");
    block(frame::KIND_CHECKPOINT_FOOTER, at, offset_bytes, &[&archive])
}

fn decode_footer(at: Txn, offset_bytes: u64, bytes: &[u8]) -> Result<Totals, FrameError> {
    let address = address(at, offset_bytes);
    let payload = frame::decode(frame::KIND_CHECKPOINT_FOOTER, SCHEMA, address, bytes)?;
    let archive = frame::aligned(payload);
    let footer = rkyv::from_bytes::<CheckpointFooterV1, rkyv::rancor::Error>(&archive)
        .map_err(|_| FrameError::Archive)?;
    if footer.at != at.0 {
        return Err(FrameError::Archive);
    }
    Ok(Totals { chunk_count: footer.chunk_count, payload_bytes: footer.payload_bytes })
}

/// A frame around these pieces, padded to whole blocks.
fn block(kind: u16, at: Txn, offset_bytes: u64, pieces: &[&[u8]]) -> Bytes {
    let mut out =
        frame::encode_pieces(kind, SCHEMA, address(at, offset_bytes), pieces, BLOCK_BYTES);
    out.resize(padded(out.len() as u64) as usize, 0);
    out.into()
}

const fn address(at: Txn, offset_bytes: u64) -> FrameAddress {
    FrameAddress { file: at.0, offset_bytes }
}

pub(super) fn checkpoint_file(at: Txn) -> FileName {
    format!("{CHECKPOINT_DIR}/{:016x}.ckpt", at.0).into()
}

fn temporary_file(at: Txn) -> FileName {
    format!("{CHECKPOINT_DIR}/{:016x}.tmp", at.0).into()
}

/// The position in a checkpoint's name (without directory), or nothing when it is no checkpoint's.
fn checkpoint_position(name: &str) -> Option<Txn> {
    let digits = name.strip_suffix(".ckpt")?;
    let position = u64::from_str_radix(digits, 16).ok()?;
    let is_canonical = format!("{position:016x}") == digits;
    (is_canonical && position <= Txn::MAX.0).then_some(Txn(position))
}
