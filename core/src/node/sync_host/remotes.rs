//! Records of remotes: what is kept about each, and the one record that an update of it becomes.

use std::sync::Arc;

use bytes::Bytes;

use super::{AppendAnswer, SessionAppend, SessionId};
use crate::document::Delta;
use crate::ident::{Actor, PeerKey, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction, remote_slot};
use crate::node::Node;
use crate::node::append::Then;
use crate::node::request::RequestError;
use crate::node::sync_ask::Ask;
use crate::node::sync_gather::{Gather, JudgedFor};
use crate::node::sync_wire::{decode_record, encode_record};
use crate::seam::Now;
use crate::sync::{
    CommandId, DocKey as SyncKey, Final, HostEvent, ItemBody, Outcome, Owed, RejectReason,
    RemoteRecord, UpdateItem,
};

impl Node {
    pub(super) fn load_remote(
        &mut self,
        id: SessionId,
        command: CommandId,
        peer: PeerKey,
        _now: Now,
    ) {
        let Some(app) = self.session_app(id) else { return };
        let owner = remote_slot(app, &peer).partition(self.config.partitions);
        let gather = self.add_gather(Gather::remote(id, command));
        self.ask(owner, gather, app, self.last_now.durable, Ask::Remote(peer));
    }

    /// The record of a remote has arrived from its owner.
    pub(crate) fn on_remote_record(
        &mut self,
        id: SessionId,
        command: CommandId,
        bytes: Option<&Bytes>,
        now: Now,
    ) {
        let record = match bytes.map(|bytes| decode_record(bytes)) {
            None => RemoteRecord::default(),
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                let reason = format!("what is kept about the remote cannot be read: {error}");
                return self.tell(id, HostEvent::Failed { reason }, now);
            }
        };
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.record = record.clone();
        }
        let record = Box::new(record);
        self.tell(id, HostEvent::Remote { id: command, record }, now);
    }

    /// Takes a new epoch for this partition's actor. Every start takes one anyway, so that what an older copy of
    /// this store has authored can never share a dot with what is authored here; what the remote says it has seen
    /// of the older actor needs no answer, and must not move our clock.
    pub(crate) fn renew_epoch(&mut self) {
        self.config.epoch = self.rng.next_u64();
    }

    /// Keeps how items ended. A tombstone with which the remote has answered is judged first: it is the remote's
    /// word, as any item of an update is.
    pub(super) fn settle_items(
        &mut self,
        id: SessionId,
        command: CommandId,
        items: Vec<(SyncKey, Final)>,
        now: Now,
    ) {
        let mut ends = Vec::new();
        let mut tombstones = Vec::new();
        for (key, end) in items {
            match end {
                Final::Deleted { tombstone: bytes } => {
                    tombstones.push(UpdateItem { key, body: ItemBody::Tombstone { bytes } });
                }
                end => ends.push((key, end)),
            }
        }
        if tombstones.is_empty() {
            return self.finish_settling(id, command, ends, Vec::new(), now);
        }
        self.gather_judge(id, command, tombstones, JudgedFor::Acknowledgement(ends), now);
    }

    /// The tombstones among the ends are judged: one that is not taken leaves the document here as it is. Only a
    /// clock gets better by waiting, so only then the document is offered again.
    pub(crate) fn finish_settling(
        &mut self,
        id: SessionId,
        command: CommandId,
        mut ends: Vec<(SyncKey, Final)>,
        tombstones: Vec<(SyncKey, Outcome, Option<Arc<Delta>>)>,
        now: Now,
    ) {
        let mut ops = Vec::new();
        let mut refused = Vec::new();
        for (key, outcome, delta) in tombstones {
            if let Some(delta) = delta {
                let collection = key.collection.as_str().into();
                ops.push(Op::Merge { collection, id: key.id.clone(), delta });
            }
            let end = match outcome {
                Outcome::Rejected(reason @ RejectReason::ClockSkew) => {
                    Final::Rejected { reason, write_permission: 0 }
                }
                // Nothing of it is owed: the remote has deleted the document, and goes on without ours.
                _ => Final::Accepted,
            };
            if let Outcome::Rejected(reason) = outcome {
                refused.push((key.clone(), reason));
            }
            ends.push((key, end));
        }
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        for (key, end) in ends {
            hosted.record.owed.retain(|owed| owed.key != key);
            if let Final::Rejected { reason, write_permission } = end
                && hosted.record.owed.len() < OWED_MAX
            {
                hosted.record.owed.push(Owed { key, reason, write_permission });
            }
        }
        self.append_for(id, ops, AppendAnswer::Settled(command, refused), now);
    }

    /// Appends operations of a session together with what is kept about its remote.
    pub(crate) fn append_for(
        &mut self,
        id: SessionId,
        ops: Vec<Op>,
        answer: AppendAnswer,
        now: Now,
    ) {
        let txn_id = TxnId(self.rng.uuid());
        self.append_as(txn_id, id, ops, answer, now);
    }

    /// As [`append_for`](Self::append_for), for a record that others speak about by its id.
    pub(crate) fn append_as(
        &mut self,
        txn_id: TxnId,
        id: SessionId,
        mut ops: Vec<Op>,
        answer: AppendAnswer,
        now: Now,
    ) {
        let Some(hosted) = self.sync.sessions.get(&id) else { return };
        ops.push(Op::Remote { peer: hosted.peer, state: encode_record(&hosted.record) });
        let transaction = Transaction {
            id: txn_id,
            app: hosted.app,
            origin: Origin::Peer { key: hosted.peer, home: self.config.partition },
            wall: now.wall,
            ops,
        };
        let then = Then::Session(SessionAppend { session: id, answer });
        if let Err(error) = self.append(transaction, false, then) {
            self.sync.applying.remove(&txn_id);
            self.tell(id, HostEvent::Failed { reason: error.to_string() }, now);
        }
    }

    /// The record of a session is committed, or was refused.
    pub(crate) fn session_appended(
        &mut self,
        append: SessionAppend,
        result: Result<Txn, RequestError>,
    ) {
        let now = self.last_now;
        let event = match (result, append.answer) {
            (Ok(_), AppendAnswer::Saved(id)) => HostEvent::Saved { id },
            (Ok(_), AppendAnswer::Renewed(id)) => {
                HostEvent::EpochChanged { id, actor: self.actor() }
            }
            (Ok(_), AppendAnswer::Settled(id, refused)) => HostEvent::Settled { id, refused },
            (Ok(txn), AppendAnswer::Applied(txn_id)) => {
                return self.on_update_committed(txn_id, txn, now);
            }
            (Err(error), AppendAnswer::Applied(txn_id)) => {
                self.sync.applying.remove(&txn_id);
                HostEvent::Failed { reason: error.to_string() }
            }
            (Err(error), _) => HostEvent::Failed { reason: error.to_string() },
        };
        self.tell(append.session, event, now);
    }

    /// The record of the remote after an update of it was accepted.
    pub(crate) fn advance_record(
        &mut self,
        id: SessionId,
        cursor: Option<crate::sync::Cursor>,
        seen: Option<(Actor, crate::time::Hlc)>,
    ) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        if let Some(cursor) = cursor {
            hosted.record.cursor = Some(cursor);
        }
        if let Some((actor, hlc)) = seen {
            let newer = hosted.record.seen.is_none_or(|(known, at)| known != actor || at < hlc);
            if newer {
                hosted.record.seen = Some((actor, hlc));
            }
        }
    }
}

/// How many refused documents are remembered for one remote.
const OWED_MAX: usize = 10_000;
