//! The words between a session and its host: commands out, answers in.
//!
//! A session holds no document. The host is the node that owns the session; it asks the partitions that own
//! the documents and answers when all of them have. Each command that is answered carries an id, and the answer
//! repeats it; answers may come in any order and at any later time. An answer to a command that the session has
//! meanwhile given up is ignored, so the host never has to cancel anything but `Watch` and `Scan`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::ident::{Actor, DocId, PeerKey, StoreId, Txn};
use crate::time::Hlc;

use super::cursor::{Cursor, Position};
use super::subscription::Interest;

/// Names a command of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// A document's name within the session's app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocKey {
    /// The collection.
    pub collection: String,
    /// The canonical id.
    pub id: DocId,
}

/// The additive 128-bit digest of a document's vector: equal digests mean equal states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

/// A number that a store draws for each session and that both sides keep: see [`RemoteRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nonce(pub u64);

/// One document's part of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateItem {
    /// Which document.
    pub key: DocKey,
    /// What about it.
    pub body: ItemBody,
}

/// What an update says about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBody {
    /// An encoded delta. Without a base it is the full state.
    Delta {
        /// The digest of the vector that the delta builds on; the vector itself is inside the bytes.
        base: Option<Digest>,
        /// The encoded delta.
        bytes: Bytes,
    },
    /// An encoded tombstone: the exact vector, the deletion dots and the strict flag.
    Tombstone {
        /// The encoded tombstone.
        bytes: Bytes,
    },
    /// The document changed and does not match the receiver's interest any more.
    Left {
        /// The digest of its vector at the sender.
        digest: Digest,
    },
    /// The sender evicted the state that was offered to it and does not want it back.
    Evicted,
}

/// What a side says in an offer: this is the version that I hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Which document.
    pub key: DocKey,
    /// The digest of its vector.
    pub digest: Digest,
    /// True for a tombstone.
    pub tombstone: bool,
}

/// The two kinds of offer in a reconciliation of one direction, from provider to holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The provider lists what it would send: all that matches the holder's interest.
    Provide,
    /// The holder lists what it has in the collections of its interest, so that the provider can tell which of
    /// it was deleted, evicted or has left.
    Hold,
}

/// The answer to one offered document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to say: equal, or of no interest.
    Same,
    /// We want it. Only an answer to [`Part::Provide`]; for [`Part::Hold`] it counts as `Same`.
    Need {
        /// Our encoded vector; none when we hold nothing.
        vector: Option<Bytes>,
    },
    /// The other side has to hear of this: our newer state whether or not it matches, our tombstone, `Left`,
    /// or `Evicted`.
    Answer(ItemBody),
}

/// A document that the other side asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which document.
    pub key: DocKey,
    /// The other side's encoded vector; none asks for the full state.
    pub base: Option<Bytes>,
}

/// Documents with the encoded vector that their deltas to a remote start from; none where all of it is to be sent.
pub type Lacking = BTreeMap<DocKey, Option<Bytes>>;

/// Why a receiver refuses a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RejectReason {
    /// The sender may not write it.
    Forbidden,
    /// Its clock is further ahead than allowed.
    ClockSkew,
    /// The document would exceed the size limit.
    TooLarge,
    /// The bytes do not decode.
    Malformed,
}

/// What became of one item of a received update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Merged, known already, or of no interest.
    Accepted,
    /// Refused whole; the rest of the update applies.
    Rejected(RejectReason),
    /// The receiver lacks the base of the delta, or holds an older matching copy of a document that left.
    ///
    /// A device that takes nothing of an update, since it holds another state of something in it than the sender
    /// thought, answers so for all: without a vector for what is only held back, and with an empty one for what is
    /// not there at all.
    NeedBase {
        /// Its encoded vector; none asks for the full state.
        vector: Option<Bytes>,
    },
    /// The receiver evicted a state that covers this one. The sender keeps its copy, marked.
    Evicted,
    /// The document is deleted there, as this tombstone says.
    Deleted {
        /// The encoded tombstone.
        tombstone: Bytes,
    },
}

/// How an item that was not simply accepted ended. Kept durably by its author before the receiver's cursor
/// passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Final {
    /// It was owed and is accepted: forget it.
    Accepted,
    /// Refused: keep it in `owed` with the reason and the hash of our write permission there.
    Rejected {
        /// Why.
        reason: RejectReason,
        /// The hash of the permission under which it was refused.
        write_permission: u64,
    },
    /// Keep the copy, marked as evicted there.
    Evicted,
    /// Judge the tombstone as if it had come in an update, and apply it if it passes.
    Deleted {
        /// The encoded tombstone.
        tombstone: Bytes,
    },
}

/// A document that a remote refused and that may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Which document.
    pub key: DocKey,
    /// Why it was refused.
    pub reason: RejectReason,
    /// The hash of our write permission at the remote at that time, as its `Subs` named it.
    pub write_permission: u64,
}

/// What a store keeps durably about a remote peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteRecord {
    /// The remote's store when we last met.
    pub store: Option<StoreId>,
    /// How far we have come in the remote's log.
    pub cursor: Option<Cursor>,
    /// The nonces that this remote may keep of us, newest last; at most [`NONCES_KEPT`].
    pub ours: Vec<Nonce>,
    /// The nonce of the last session in which the remote told what it wants: it had judged by then what we said in
    /// our Hello about the one before.
    pub theirs: Option<Nonce>,
    /// How far the remote's log had come when we last took something of it, or relied on its having taken something
    /// of ours. A remote whose log does not hold this position has lost what it told us.
    pub reached: Option<Position>,
    /// Another store had the remote's key up to this position of our log. What that one wrote counts as the remote's
    /// own, so a cursor below it may pass over things that this store has never seen.
    pub shared: Option<Txn>,
    /// The greatest clock value seen of the remote's last actor.
    pub seen: Option<(Actor, Hlc)>,
    /// What the remote refused.
    pub owed: Vec<Owed>,
    /// The remote refused more documents than `owed` may name: under this write permission, 0 standing for several
    /// and for documents refused for their clock. Under another permission all of ours is offered to it again.
    pub unlisted: Option<u64>,
}

impl Owed {
    /// The write permission under which an offer would be refused again; 0 when time alone may change that.
    pub(crate) fn refused_under(&self) -> u64 {
        if self.reason == RejectReason::ClockSkew { 0 } else { self.write_permission }
    }
}

/// Notes in [`RemoteRecord::unlisted`] that one more document cannot be named which was refused under
/// `write_permission`.
pub(crate) fn add_unlisted(unlisted: &mut Option<u64>, write_permission: u64) {
    let is_same = unlisted.is_none_or(|former| former == write_permission);
    *unlisted = Some(if is_same { write_permission } else { 0 });
}

/// How many of its own nonces a store remembers for each remote. A session that dies before the other side has
/// saved the newest one must not look like a restored store; after so many deaths the newest is used again.
pub const NONCES_KEPT: usize = 8;

/// What the session asks of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostCommand {
    /// Read what we keep about `peer`; the default record when we never met. Answer: [`HostEvent::Remote`].
    LoadRemote {
        /// Repeated in the answer.
        id: CommandId,
        /// Whom.
        peer: PeerKey,
    },
    /// Write these fields of the record of `peer`; `cursor`, `seen`, `reached` and `owed` stay as they are, unless
    /// `store` is another than before: then `seen` is forgotten. Answer, once durable: [`HostEvent::Saved`].
    ///
    /// Of a remote that nothing is kept about, a server may wait with these fields until it writes something else
    /// of it, and answer at once: whatever comes first goes with them.
    ///
    /// With `is_stale` the cursor is forgotten in the same write: it does not cover what we sent ourselves and
    /// have lost, and once the remote keeps our new nonce nothing else tells.
    SaveRemote {
        /// Repeated in the answer.
        id: CommandId,
        /// Whom.
        peer: PeerKey,
        /// The remote's store; none before its first Subs: keep what is there.
        store: Option<StoreId>,
        /// Our nonces, newest last.
        ours: Vec<Nonce>,
        /// The remote's nonce; none before its first Subs: keep what is there.
        theirs: Option<Nonce>,
        /// Our store was rolled back or cloned.
        is_stale: bool,
    },
    /// The remote has proof that our store was rolled back or cloned: take a new actor epoch before the next
    /// authored edit and author unacknowledged edits again under it. When `stale` is false and our actor has
    /// itself come to `seen` by now, no new epoch is needed. When `stale`, the cursor is forgotten as well: see
    /// `SaveRemote`. A server keeps the epoch of its start, under which nobody else authors, whatever a remote claims.
    /// Answer, once durable: [`HostEvent::EpochChanged`].
    NewEpoch {
        /// Repeated in the answer.
        id: CommandId,
        /// The remote keeps a nonce of ours that we do not know, or a position in our log that we never reached.
        stale: bool,
        /// The greatest clock value that the remote knows of our actor.
        seen: Option<Hlc>,
    },
    /// From here on, match what is touched against `interest` on behalf of the remote. Not answered by itself.
    Watch {
        /// Names the watch.
        watch: CommandId,
        /// What the remote asks for; permission and scope are the host's to add.
        interest: Interest,
    },
    /// Collect everything touched since `after` (exclusive) that concerns the watch, without what came from the
    /// remote itself, each document once and in its current state, the delta based on the vector that it had at
    /// `after`. A touched document that does not match goes as `Left`, a deleted one as `Tombstone`.
    ///
    /// Answer: [`HostEvent::Touched`], at the latest when all partitions have matched through `until`, even
    /// if nothing matched; without `until`, as soon as something matched. A later `WatchMore` of the same watch
    /// replaces one that is still unanswered. While a group is open (`upto` was `None`), a `WatchMore` with the
    /// same `after` continues it.
    WatchMore {
        /// The watch.
        watch: CommandId,
        /// Everything up to here is settled.
        after: Txn,
        /// Answer when this is passed, also with nothing.
        until: Option<Txn>,
        /// Close the group, or the answer, when its bytes pass this.
        credit_bytes: usize,
        /// The remote has other states of these than it was thought to have: their deltas start from what it has,
        /// and what has left is sent all the same.
        lacking: Arc<Lacking>,
    },
    /// Forget the watch.
    Unwatch {
        /// The watch.
        watch: CommandId,
    },
    /// List what we hold, in any order. `Provide`: all that matches the remote's `interest` and that it may
    /// read, tombstones of matching collections included. `Hold`: all that we hold, tombstones included, in the
    /// collections of our own `interest`. Answer: [`HostEvent::Held`], one batch for `Scan` and one for each
    /// `ScanMore`.
    Scan {
        /// Names the scan.
        scan: CommandId,
        /// For what.
        part: Part,
        /// Whose documents: the remote's interest for `Provide`, our own for `Hold`.
        interest: Interest,
        /// How many documents a batch may have.
        batch_count: usize,
    },
    /// The next batch.
    ScanMore {
        /// The scan.
        scan: CommandId,
    },
    /// Forget the scan.
    ScanStop {
        /// The scan.
        scan: CommandId,
    },
    /// Compare what the remote holds with what we hold, permission first. For `Provide` the remote would send
    /// it: answer `Need` when it interests us and our digest differs; a deletion or eviction of ours that the
    /// remote's state may not know is an `Answer`. For `Hold` the remote lacks our news about it: an `Answer`
    /// when ours differs and we do not provide it ourselves. Residue counts as a tombstone, and is always looked up.
    /// Answer: [`HostEvent::Verdicts`].
    Compare {
        /// Repeated in the answer.
        id: CommandId,
        /// What the offer is.
        part: Part,
        /// The remote's versions.
        offered: Vec<Offered>,
    },
    /// The deltas from the remote's bases to our current states. Answer: [`HostEvent::Diffs`].
    Diff {
        /// Repeated in the answer.
        id: CommandId,
        /// What it asks for. Permission is checked again.
        wanted: Vec<Wanted>,
        /// Stop after this many bytes, but not before the first item.
        credit_bytes: usize,
    },
    /// Apply a received update as *one* record: permission of the remote to write, interest, size, clock, then
    /// merge. `cursor` is written if and only if every outcome is `Accepted`, in the same record or in a later
    /// one of this remote; an item that was not accepted is settled by the remote, which then sends the position
    /// again. `reached` is written whenever anything is, whatever became of the rest. Answer, once durable and
    /// applied: [`HostEvent::Applied`].
    Apply {
        /// Repeated in the answer.
        id: CommandId,
        /// What the update says; may be empty.
        items: Vec<UpdateItem>,
        /// How far we are once all of it is accepted.
        cursor: Option<Cursor>,
        /// How far the remote's log had come: the new value of [`RemoteRecord::reached`].
        reached: Option<Position>,
    },
    /// Keep how these items ended, durably. Answer: [`HostEvent::Settled`].
    Settle {
        /// Repeated in the answer.
        id: CommandId,
        /// Each item with its end. A rejected document for which `owed` has no room is not named there: the host then
        /// marks the record by [`RemoteRecord::unlisted`], and drops nothing else.
        items: Vec<(DocKey, Final)>,
        /// How far the remote's log had come: the new value of [`RemoteRecord::reached`].
        reached: Option<Position>,
    },
    /// Every document of ours was offered to the remote once more: keep under which write permission it refused some
    /// that `owed` does not name, or that there is none. Answer, which nobody needs to wait for:
    /// [`HostEvent::Settled`].
    KeepUnlisted {
        /// Repeated in the answer.
        id: CommandId,
        /// The new value of [`RemoteRecord::unlisted`].
        unlisted: Option<u64>,
        /// How far the remote's log had come: the new value of [`RemoteRecord::reached`].
        reached: Option<Position>,
    },
}

/// What the host answers, or has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// Answers `LoadRemote`.
    Remote {
        /// Of the command.
        id: CommandId,
        /// What we keep.
        record: Box<RemoteRecord>,
    },
    /// Answers `SaveRemote`: it is durable.
    Saved {
        /// Of the command.
        id: CommandId,
    },
    /// Answers `NewEpoch`: our actor from here on.
    EpochChanged {
        /// Of the command.
        id: CommandId,
        /// The actor.
        actor: Actor,
    },
    /// Answers `WatchMore`.
    Touched {
        /// The watch.
        watch: CommandId,
        /// What was touched.
        items: Vec<UpdateItem>,
        /// Closes the group: all partitions have matched through here, and all that matched has been given.
        upto: Option<Txn>,
    },
    /// Answers `Scan` and `ScanMore`.
    Held {
        /// The scan.
        scan: CommandId,
        /// The durable position that was read before the first item of the scan.
        started_at: Txn,
        /// What we hold; at most the batch size.
        items: Vec<Offered>,
        /// True with the last batch.
        done: bool,
    },
    /// Answers `Compare`: one verdict for each offered document, in order.
    Verdicts {
        /// Of the command.
        id: CommandId,
        /// In order.
        verdicts: Vec<Verdict>,
    },
    /// Answers `Diff`: for the first of the wanted documents, in order, at least one; none where there is
    /// nothing to send.
    Diffs {
        /// Of the command.
        id: CommandId,
        /// In order; may be fewer than were asked for.
        items: Vec<Option<ItemBody>>,
    },
    /// Answers `Apply`: it is durable, and this is what applying has made of it.
    Applied {
        /// Of the command.
        id: CommandId,
        /// Our own position of the record.
        txn: Txn,
        /// One for each item, in order.
        outcomes: Vec<Outcome>,
    },
    /// Answers `Settle`: it is durable.
    Settled {
        /// Of the command.
        id: CommandId,
        /// Tombstones that were not taken, and why. The documents are here as before; those refused for their
        /// clock are in `owed`.
        refused: Vec<(DocKey, RejectReason)>,
    },
    /// An `EVICT` here raised our generation: what we evicted must be offered to us again if it still matches.
    Evicted {
        /// The new generation.
        generation: u64,
    },
    /// What the remote may read or write has changed. Closes the session, so that nothing that was prepared
    /// under the old permission leaves.
    PermissionChanged,
    /// A command cannot be carried out: the disk is full or failed. Closes the session.
    Failed {
        /// For the log.
        reason: String,
    },
}
