//! What passes through the seam in every call: the moment, and how far the process has come.

use crate::ident::Txn;
use crate::time::{Instant, WallMs};

/// What a driver knows about time at the moment of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock; never runs backwards between calls.
    pub mono: Instant,
    /// Wall clock; may jump.
    pub wall: WallMs,
    /// The process-wide durable position of the log: every transaction up to here is on stable storage.
    pub durable: Txn,
    /// No read registered anywhere in the process is older than this position, and none will be.
    pub oldest_read: Txn,
}
