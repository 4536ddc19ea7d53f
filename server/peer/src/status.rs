//! What is known about the sync of a peer, for its application.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bigpeer_core::ident::{PeerKey, Txn};
use bigpeer_core::node::RejectedDocument;
use bigpeer_core::time::{Hlc, WallMs, is_far_ahead};
use bigpeer_core::value::Value;

use crate::error::PeerError;

/// How a peer stands towards its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncState {
    /// Sync is not started.
    #[default]
    Stopped,
    /// The server is not reached; the peer tries again by itself.
    Offline,
    /// The session is up, and something is under way.
    Connected,
    /// The session is up, and both sides agree.
    Synced,
}

impl SyncState {
    /// One lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Offline => "offline",
            Self::Connected => "connected",
            Self::Synced => "synced",
        }
    }
}

/// A document that the server does not take. It stays as it is on this peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Its collection.
    pub collection: Box<str>,
    /// Its id.
    pub id: Value,
    /// Why, in the server's words.
    pub reason: Box<str>,
}

/// A moment's view of the sync of a peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerStatus {
    /// How it stands.
    pub state: SyncState,
    /// The server of the session that is up.
    pub server: Option<PeerKey>,
    /// The last position of this peer's log that changed a document.
    pub changed: Txn,
    /// Everything up to this position of this peer's log was durable at the server, or settled in another way,
    /// when both sides last agreed since this peer was opened.
    pub synced: Option<Txn>,
    /// What the server has refused since this peer was opened, at most [`REJECTED_MAX`] documents.
    pub rejected: Vec<Rejected>,
    /// How many refusals there were that `rejected` had no room for. A document that is refused again counts again.
    pub rejected_unlisted: u64,
    /// Collections of which this peer subscribes to documents that the server of the present session does not let it
    /// read: none at all, or some that it holds from a time when it might. What it holds stays as it is.
    pub restricted: Vec<Box<str>>,
    /// By how much documents here bear times ahead of this machine's clock, to the second, if that is so far that a
    /// server refuses edits of them until their time has come. The clock is wrong, or was.
    pub clock_ahead: Option<Duration>,
    /// What went wrong last, and has not gone well since.
    pub last_error: Option<String>,
}

/// How many refused documents a status lists.
pub const REJECTED_MAX: usize = 1000;

impl PeerStatus {
    /// Whether a session is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.state, SyncState::Connected | SyncState::Synced)
    }

    /// Lists what was refused of one update, `count` documents in all.
    pub(crate) fn reject(&mut self, listed: Vec<RejectedDocument>, count: u64) {
        let mut unlisted = count.saturating_sub(listed.len() as u64);
        for RejectedDocument { collection, id, reason } in listed {
            let rejected = Rejected { collection, id, reason };
            let same = |known: &Rejected| {
                known.collection == rejected.collection && known.id == rejected.id
            };
            self.rejected.retain(|known| !same(known));
            if self.rejected.len() < REJECTED_MAX {
                self.rejected.push(rejected);
            } else {
                unlisted += 1;
            }
        }
        self.rejected_unlisted += unlisted;
    }
}

/// See [`PeerStatus::clock_ahead`]; `newest` is the greatest clock value of any document.
pub(crate) fn clock_ahead(newest: Hlc, wall: WallMs) -> Option<Duration> {
    let ahead_s = newest.physical_ms().saturating_sub(wall.0) / 1_000;
    is_far_ahead(newest, wall).then(|| Duration::from_secs(ahead_s))
}

/// The status, as the peer's thread writes it and others read it.
#[derive(Debug, Default)]
pub(crate) struct StatusCell {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    status: PeerStatus,
    generation: u64,
    is_closed: bool,
    /// Why the peer stopped by itself.
    fatal: Option<String>,
}

impl StatusCell {
    pub(crate) fn read(&self) -> PeerStatus {
        self.slot().status.clone()
    }

    /// Changes the status, and tells those who watch if that made a difference.
    pub(crate) fn update(&self, change: impl FnOnce(&mut PeerStatus)) {
        let mut slot = self.slot();
        let before = slot.status.clone();
        change(&mut slot.status);
        if slot.status != before {
            slot.generation += 1;
            self.changed.notify_all();
        }
    }

    /// The peer stops by itself.
    pub(crate) fn fail(&self, cause: String) {
        self.slot().fatal = Some(cause);
    }

    /// Why nothing is answered any more.
    pub(crate) fn end_error(&self) -> PeerError {
        match &self.slot().fatal {
            Some(cause) => PeerError::Stopped(cause.clone()),
            None => PeerError::Closed,
        }
    }

    pub(crate) fn close(&self) {
        let mut slot = self.slot();
        slot.status.state = SyncState::Stopped;
        slot.is_closed = true;
        self.changed.notify_all();
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Whoever panicked here held no half-made status: each field is whole by itself.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the status of a peer. What changes back between two looks is not seen.
#[derive(Debug)]
pub struct StatusWatch {
    cell: Arc<StatusCell>,
    seen: Option<u64>,
}

impl StatusWatch {
    pub(crate) fn new(cell: Arc<StatusCell>) -> Self {
        Self { cell, seen: None }
    }

    /// The status, the first time, and then whenever it has changed; `None` after `timeout` without a change, and
    /// once the peer is closed.
    pub fn next(&mut self, timeout: Duration) -> Option<PeerStatus> {
        let deadline = Instant::now().checked_add(timeout);
        let mut slot = self.cell.slot();
        while self.seen == Some(slot.generation) && !slot.is_closed {
            let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            let woken = self.cell.changed.wait_timeout(slot, left);
            slot = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if slot.is_closed {
            return None;
        }
        self.seen = Some(slot.generation);
        Some(slot.status.clone())
    }

    /// Whether the peer is closed: nothing changes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cell.slot().is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_when_a_server_would_refuse_its_edits() {
        let wall = WallMs(1_700_000_000_000);
        let newest = |ahead_ms: u64| Hlc((wall.0 + ahead_ms) << 16);
        assert_eq!(clock_ahead(newest(0), wall), None);
        assert_eq!(clock_ahead(newest(299_000), wall), None);
        let ahead = clock_ahead(newest(600_900), wall);
        assert_eq!(ahead, Some(Duration::from_secs(600)));
        assert_eq!(clock_ahead(newest(0), WallMs(wall.0 + 600_000)), None);
    }

    #[test]
    fn a_watch_sees_each_change_once() {
        let cell = Arc::new(StatusCell::default());
        let mut watch = StatusWatch::new(cell.clone());
        assert_eq!(watch.next(Duration::ZERO), Some(PeerStatus::default()));
        cell.update(|_| {});
        assert_eq!(watch.next(Duration::ZERO), None);
        cell.update(|status| status.state = SyncState::Offline);
        assert_eq!(watch.next(Duration::ZERO).map(|status| status.state), Some(SyncState::Offline));
        assert_eq!(watch.next(Duration::ZERO), None);
        cell.close();
        assert_eq!(watch.next(Duration::from_secs(60)), None);
        assert!(watch.is_closed());
    }

    #[test]
    fn a_document_is_listed_once_and_the_list_has_a_bound() {
        let mut status = PeerStatus::default();
        for id in 0..REJECTED_MAX as i64 + 5 {
            for reason in ["first", "second"] {
                let (collection, id) = ("cars".into(), Value::from(id));
                let rejected = RejectedDocument { collection, id, reason: reason.into() };
                status.reject(vec![rejected], 1);
            }
        }
        assert_eq!(status.rejected.len(), REJECTED_MAX);
        assert!(status.rejected.iter().all(|rejected| &*rejected.reason == "second"));
        assert_eq!(status.rejected_unlisted, 10);
        status.reject(Vec::new(), 90);
        assert_eq!(status.rejected_unlisted, 100, "what is only counted is counted");
    }
}
