//! A node's part in checkpoints: it gives what it holds as of one position, part by part, and takes it back.
//!
//! ```text
//! part: version (1), kind, content
//!   kind 1, the first part: clock (varint),
//!           catalog operation count, operations (length first),
//!           eviction count, (app (16), evictions (varint)),
//!           remote count, (app (16), peer key (32), state (length first)),
//!           greatest wall clock (varint), greatest clock of a document (varint); a part may end before these
//!           greatest clock that was issued here (varint); a part may end before this
//!   kind 2: a part of the store
//! ```

use bytes::Bytes;

use super::sync_wire::decode_changes;
use super::{Node, Output};
use crate::auth::CatalogOp;
use crate::codec::{DecodeError, Reader, Writer};
use crate::ident::{AppId, PeerKey, Txn, Uuid};
use crate::seam::Now;
use crate::store::DocKey;
use crate::time::{Hlc, WallMs};

/// What a node is asked for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotAsk {
    /// Keep what there is as of this position, which is the one that was committed last.
    Begin {
        /// The position.
        at: Txn,
    },
    /// Give the next part.
    More,
    /// No more is wanted.
    Cancel,
}

/// A snapshot that is being taken.
#[derive(Debug)]
pub(crate) struct Snapshot {
    at: Txn,
    /// What is small, as it was at the beginning; taken by the first part.
    head: Option<Bytes>,
    after: Option<DocKey>,
}

/// Why a part cannot be taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("checkpoint: {0}")]
    Decode(#[from] DecodeError),
    #[error("checkpoint: {0}")]
    Catalog(#[from] crate::auth::CatalogError),
}

impl Node {
    pub(crate) fn on_snapshot(&mut self, ask: SnapshotAsk) {
        match ask {
            SnapshotAsk::Begin { at } => {
                assert_eq!(at, self.store.applied(), "it follows the commit of its position");
                self.snapshot = Some(Snapshot { at, head: Some(self.encode_head()), after: None });
            }
            SnapshotAsk::More => {
                let part = self.next_part();
                if part.is_none() {
                    self.snapshot = None;
                }
                self.outputs.push_back(Output::Snapshot(part));
            }
            SnapshotAsk::Cancel => self.snapshot = None,
        }
    }

    /// Drops older versions that neither a read nor a snapshot needs, after `applied` operations came to the documents:
    /// twice as many, so that they never become more, and some in any case. One statement may have changed every
    /// document, and to drop what they were before would take longer than a thread may be away.
    pub(crate) fn fold(&mut self, applied: usize, now: Now) {
        let kept = self.snapshot.as_ref().map_or(Txn::MAX, |snapshot| snapshot.at);
        let at_most = self.config.limits.folded_at_once + 2 * applied;
        self.is_fold_due = !self.store.fold(now.oldest_read.min(kept), at_most);
    }

    /// True while older versions wait to be dropped, or for the oldest read to move on.
    #[must_use]
    pub fn has_foldable(&self) -> bool {
        self.is_fold_due || (self.snapshot.is_none() && self.store.has_foldable())
    }

    fn next_part(&mut self) -> Option<Bytes> {
        let snapshot = self.snapshot.as_mut()?;
        if let Some(head) = snapshot.head.take() {
            return Some(head);
        }
        let head = [VERSION, KIND_STORE];
        let part = self.store.snapshot_part(snapshot.at, snapshot.after.as_ref(), &head)?;
        snapshot.after = Some(part.last);
        Some(part.bytes.into())
    }

    fn encode_head(&self) -> Bytes {
        let mut to = Writer::new();
        to.byte(VERSION);
        to.byte(KIND_HEAD);
        to.varint(self.clock.last().0);
        let ops: Vec<CatalogOp> = self.catalog.to_ops().collect();
        to.varint(ops.len() as u64);
        ops.iter().for_each(|op| to.bytes(&op.encode()));
        to.varint(self.sync.evict_generations.len() as u64);
        for (app, count) in &self.sync.evict_generations {
            to.raw(&app.0.0);
            to.varint(*count);
        }
        let remotes = self.sync.remotes.encoded();
        to.varint(remotes.len() as u64);
        for (app, peer, record) in remotes {
            to.raw(&app.0.0);
            to.raw(&peer.0);
            to.bytes(&record);
        }
        to.varint(self.clock_wall_max.0);
        to.varint(self.newest.0);
        to.varint(self.issued.0);
        to.into_bytes().into()
    }

    /// Takes back a part of a snapshot as of `at`, before any transaction.
    pub(crate) fn restore(&mut self, at: Txn, part: &[u8]) -> Result<(), RestoreError> {
        let mut from = Reader::new(part);
        from.version("part", VERSION)?;
        match from.byte("kind")? {
            KIND_HEAD => self.restore_head(&mut from),
            KIND_STORE => {
                let (app, upto) = self.store.restore_part(at, &part[2..])?;
                self.outputs.push_back(Output::Changed { app, upto });
                Ok(())
            }
            _ => Err(from.invalid("kind").into()),
        }
    }

    fn restore_head(&mut self, from: &mut Reader<'_>) -> Result<(), RestoreError> {
        let clock = Hlc(from.varint("clock")?);
        self.clock.receive(clock);
        for _ in 0..from.count("catalog operations", 1)? {
            self.catalog.apply(CatalogOp::decode(from.bytes("catalog operation")?)?);
        }
        for _ in 0..from.count("evictions", 17)? {
            let app = AppId(Uuid(from.array("app")?));
            self.sync.evict_generations.insert(app, from.varint("evictions")?);
        }
        for _ in 0..from.count("remotes", 49)? {
            let app = AppId(Uuid(from.array("app")?));
            let peer = PeerKey(from.array("peer key")?);
            let changes = decode_changes(from.bytes("remote state")?)?;
            self.remember_remote(app, peer, changes);
        }
        if from.finish().is_err() {
            let wall = WallMs(from.varint("wall clock")?);
            self.clock_wall_max = self.clock_wall_max.max(wall);
            self.newest = self.newest.max(Hlc(from.varint("greatest clock")?));
        }
        // What the log told of our own actor may be trimmed. An edit of a document from a time far ahead is above
        // the clock.
        let is_told = from.finish().is_err();
        let issued = if is_told { Hlc(from.varint("greatest issued clock")?) } else { clock };
        self.issued = self.issued.max(issued);
        Ok(from.finish()?)
    }
}

const VERSION: u8 = 1;
const KIND_HEAD: u8 = 1;
const KIND_STORE: u8 = 2;
