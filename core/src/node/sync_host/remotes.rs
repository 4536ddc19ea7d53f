//! Records of remotes: what is kept about each, and the one record that an update of it becomes.

use std::sync::Arc;

use super::{AppendAnswer, Leaving, SessionAppend, SessionId};
use crate::document::Delta;
use crate::ident::{Actor, AppId, PartitionId, PeerKey, StoreId, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction, remote_slot};
use crate::node::append::Then;
use crate::node::message::Body;
use crate::node::request::RequestError;
use crate::node::sync_ask::{Ask, GatherId};
use crate::node::sync_gather::{Gather, JudgedFor};
use crate::node::sync_wire::{RecordChange, encode_changes};
use crate::node::{Node, Output};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::sync::{
    ByeReason, CommandId, Cursor, DocKey as SyncKey, Final, HostEvent, ItemBody, Nonce, Outcome,
    Owed, Position, RejectReason, RemoteRecord, UpdateItem,
};
use crate::time::Hlc;

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
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.visit = Some(gather);
        }
        let ask = Ask::Remote { peer, session: id };
        self.ask(owner, gather, app, self.last_now.durable, ask);
    }

    /// A newer session of the same remote has come: this one ends. `visit` tells it from one that has its name by
    /// now.
    pub(super) fn on_replaced(&mut self, id: SessionId, visit: GatherId, now: Now) {
        let hosted = self.sync.sessions.get(&id);
        if hosted.is_some_and(|hosted| hosted.visit == Some(visit)) {
            self.with_session(id, now, |session| session.close(ByeReason::Replaced));
        }
    }

    /// Tells the owner of the remote's record that the session is over, once the last record of it is applied here.
    pub(super) fn leave_remote(&mut self, id: SessionId, leaving: Leaving) {
        if self.sync.appends_open.contains_key(&id) {
            self.sync.leaving.insert(id, leaving);
        } else {
            self.say_leave(id, leaving, self.last_now.durable);
        }
    }

    fn say_leave(&mut self, session: SessionId, leaving: Leaving, at: Txn) {
        let Leaving { app, peer, visit } = leaving;
        let owner = remote_slot(app, &peer).partition(self.config.partitions);
        let gather = GatherId::default();
        self.ask(owner, gather, app, at, Ask::Leave { peer, session, visit });
    }

    /// What the log says about a remote, if this partition owns it.
    pub(crate) fn remember_remote(
        &mut self,
        app: AppId,
        peer: PeerKey,
        changes: Vec<RecordChange>,
    ) {
        let partitions = self.config.partitions;
        if remote_slot(app, &peer).partition(partitions) == self.config.partition {
            // Each partition has its share of the bound, so that none must know of the others.
            let count_max = self.config.limits.remotes_max.div_ceil(usize::from(partitions));
            let owed_max = self.config.limits.owed_max;
            self.sync.remotes.apply(app, peer, changes, count_max, owed_max);
        }
    }

    /// The record of a remote has arrived from its owner.
    pub(crate) fn on_remote_record(
        &mut self,
        id: SessionId,
        command: CommandId,
        record: Box<RemoteRecord>,
        now: Now,
    ) {
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.is_unknown = *record == RemoteRecord::default() && !self.config.is_device;
            hosted.record = RemoteRecord { owed: Vec::new(), ..(*record).clone() };
        }
        self.tell_all_owed(id, &record);
        self.tell(id, HostEvent::Remote { id: command, record }, now);
    }

    /// Keeps the nonces of a session, and what comes with them. Of a remote about which nothing durable is kept
    /// they wait for its first update, cursor or owed document: there is nothing yet that a rollback could lose,
    /// and whoever invents peer keys leaves nothing behind. A device, which speaks first, writes them always: a
    /// nonce that was told must not be forgotten in a crash.
    pub(super) fn save_remote(
        &mut self,
        id: SessionId,
        answer: AppendAnswer,
        nonces: Nonces,
        now: Now,
    ) {
        // Once this record is written we say what we want, and with that the remote lets go of the proof that the store
        // was rolled back. Were the epoch renewed only once the session is open, a crash in between would leave a store
        // that knows nothing of it and authors as before.
        if nonces.is_stale && !is_planted(Plant::EpochAfterProof) {
            self.renew_epoch_for(id);
        }
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        let record = &mut hosted.record;
        let mut changes = Vec::new();
        if let Some(store) = nonces.store
            && let former = record.store.replace(store)
            && former != Some(store)
        {
            record.seen = None;
            changes.push(RecordChange::Store(store));
            // The other store's sessions are over, and what they appended is applied.
            if former.is_some() && !is_planted(Plant::NonceIgnored) {
                record.shared = Some(now.durable);
                changes.push(RecordChange::Shared(now.durable));
            }
        }
        if record.ours != nonces.ours {
            record.ours.clone_from(&nonces.ours);
            changes.push(RecordChange::Ours(nonces.ours));
        }
        if let Some(theirs) = nonces.theirs {
            record.theirs = Some(theirs);
            changes.push(RecordChange::Theirs(theirs));
        }
        if nonces.is_stale && record.cursor.take().is_some() {
            changes.push(RecordChange::Cursor(None));
        }
        if hosted.is_unknown && !is_planted(Plant::StrangersKept) {
            hosted.unwritten.extend(changes);
            return self.session_answer(id, answer, Ok(now.durable));
        }
        self.append_for(id, Vec::new(), changes, answer, now);
    }

    /// The cursor does not cover what we lost: with a new epoch it is forgotten.
    pub(super) fn forget_cursor(&mut self, id: SessionId) -> Vec<RecordChange> {
        let cursor = self.sync.sessions.get_mut(&id).and_then(|hosted| hosted.record.cursor.take());
        cursor.map(|_| RecordChange::Cursor(None)).into_iter().collect()
    }

    /// Takes a new epoch because of what a session found, once for each session. A server never does: it has had one of
    /// its own since its start, and each that a peer could talk it into would stay in the vectors of documents.
    pub(super) fn renew_epoch_for(&mut self, id: SessionId) {
        if !self.config.is_device {
            return;
        }
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        if !std::mem::replace(&mut hosted.is_renewed, true) {
            self.renew_epoch();
        }
    }

    /// Takes a new epoch, so that what an older copy of this store has authored, or another one, can never share a
    /// dot with what is authored here; what the remote says it has seen of the older actor needs no answer, and must
    /// not move our clock. Of a device all partitions take it: they were copied together. A server has had a new
    /// epoch since its start, and what a peer claims is no reason to give its other partitions one more.
    ///
    /// The driver hears of it before any append that follows, of whichever partition.
    pub(crate) fn renew_epoch(&mut self) {
        let epoch = self.rng.next_u64();
        self.config.epoch = epoch;

        self.outputs.push_back(Output::NewEpoch { epoch });
        if !self.config.is_device {
            return;
        }
        let own = self.config.partition;
        for to in (0..self.config.partitions).map(PartitionId).filter(|to| *to != own) {
            self.send(to, Body::NewEpoch { epoch });
        }
    }

    /// Keeps how items ended. A tombstone with which the remote has answered is judged first: it is the remote's
    /// word, as any item of an update is.
    pub(super) fn settle_items(
        &mut self,
        id: SessionId,
        command: CommandId,
        items: Vec<(SyncKey, Final)>,
        reached: Option<Position>,
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
        if is_planted(Plant::AcknowledgementBelieved) {
            let taken = tombstones.into_iter().filter_map(|UpdateItem { key, body }| {
                let ItemBody::Tombstone { bytes } = body else { return None };
                Some((key, Outcome::Accepted, Delta::from_bytes(&bytes).ok().map(Arc::new)))
            });
            return self.finish_settling(id, command, ends, taken.collect(), reached, now);
        }
        if tombstones.is_empty() {
            return self.finish_settling(id, command, ends, Vec::new(), reached, now);
        }
        let verdict_for = JudgedFor::Acknowledgement { ends, reached };
        self.gather_judge(id, command, tombstones, verdict_for, now);
    }

    /// The tombstones among the ends are judged: one that is not taken leaves the document here as it is. Only a
    /// clock gets better by waiting, so only then the document is offered again.
    pub(crate) fn finish_settling(
        &mut self,
        id: SessionId,
        command: CommandId,
        mut ends: Vec<(SyncKey, Final)>,
        tombstones: Vec<(SyncKey, Outcome, Option<Arc<Delta>>)>,
        reached: Option<Position>,
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
        let change = |(key, end)| match end {
            Final::Rejected { reason, write_permission } => {
                RecordChange::Owed(Owed { key, reason, write_permission })
            }
            _ => RecordChange::NotOwed(key),
        };
        let mut changes: Vec<RecordChange> = ends.into_iter().map(change).collect();
        self.tell_owed(id, &changes);
        changes.extend(self.reach(id, reached));
        self.append_for(id, ops, changes, AppendAnswer::Settled(command, refused), now);
    }

    /// Appends operations of a session together with what they change about its remote, as one record. Nothing at
    /// all is answered at once.
    pub(crate) fn append_for(
        &mut self,
        id: SessionId,
        ops: Vec<Op>,
        changes: Vec<RecordChange>,
        answer: AppendAnswer,
        now: Now,
    ) {
        let txn_id = TxnId(self.rng.uuid());
        self.append_as(txn_id, id, ops, changes, answer, now);
    }

    /// As [`append_for`](Self::append_for), for a record that others speak about by its id.
    pub(crate) fn append_as(
        &mut self,
        txn_id: TxnId,
        id: SessionId,
        mut ops: Vec<Op>,
        changes: Vec<RecordChange>,
        answer: AppendAnswer,
        now: Now,
    ) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        if ops.is_empty() && changes.is_empty() {
            return self.session_answer(id, answer, Ok(now.durable));
        }
        hosted.is_unknown = false;
        let mut written = std::mem::take(&mut hosted.unwritten);
        written.extend(changes);
        if !written.is_empty() {
            ops.push(Op::Remote { peer: hosted.peer, state: encode_changes(&written) });
        }
        let transaction = Transaction {
            id: txn_id,
            app: hosted.app,
            origin: Origin::Peer { key: hosted.peer, home: self.config.partition },
            wall: now.wall,
            ops,
        };
        let then = Then::Session(SessionAppend { session: id, answer });
        match self.append(transaction, false, then) {
            Ok(()) => *self.sync.appends_open.entry(id).or_default() += 1,
            Err(error) => {
                self.sync.applying.remove(&txn_id);
                self.tell(id, HostEvent::Failed { reason: error.to_string() }, now);
            }
        }
    }

    /// What the session's next record is to say as well.
    pub(crate) fn write_later(&mut self, id: SessionId, changes: Vec<RecordChange>) {
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.unwritten.extend(changes);
        }
    }

    /// The record of a session is committed, or was refused.
    pub(crate) fn session_appended(
        &mut self,
        append: SessionAppend,
        result: Result<Txn, RequestError>,
    ) {
        let id = append.session;
        let at = *result.as_ref().unwrap_or(&self.last_now.durable);
        self.session_answer(id, append.answer, result);
        let Some(open) = self.sync.appends_open.get_mut(&id) else { return };
        *open -= 1;
        if *open == 0 {
            self.sync.appends_open.remove(&id);
            if let Some(leaving) = self.sync.leaving.remove(&id) {
                self.say_leave(id, leaving, at);
            }
        }
    }

    fn session_answer(
        &mut self,
        id: SessionId,
        answer: AppendAnswer,
        result: Result<Txn, RequestError>,
    ) {
        let now = self.last_now;
        let event = match (result, answer) {
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
        self.tell(id, event, now);
    }

    /// The change of the remote's record that goes with whatever rests on its log as it stood at `reached`.
    pub(crate) fn reach(
        &mut self,
        id: SessionId,
        reached: Option<Position>,
    ) -> Option<RecordChange> {
        let reached = reached.filter(|_| !is_planted(Plant::ReachedNotKept))?;
        let kept = &mut self.sync.sessions.get_mut(&id)?.record.reached;
        let Some(former) = kept.filter(|it| (it.log, it.boot) == (reached.log, reached.boot))
        else {
            *kept = Some(reached);
            return Some(RecordChange::Reached(reached));
        };
        if reached.txn <= former.txn {
            return None;
        }
        *kept = Some(reached);
        Some(RecordChange::ReachedOn(reached.txn))
    }

    /// What changes about the remote when an update of it is accepted.
    pub(crate) fn advance_record(
        &mut self,
        id: SessionId,
        cursor: Option<Cursor>,
        seen: Option<(Actor, Hlc)>,
    ) -> Vec<RecordChange> {
        let mut changes = Vec::new();
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return changes };
        let record = &mut hosted.record;
        if let Some(cursor) = cursor {
            record.cursor = Some(cursor);
            changes.push(RecordChange::Cursor(Some(cursor)));
        }
        if let Some((actor, hlc)) = seen
            && record.seen.is_none_or(|(known, at)| known != actor || at < hlc)
        {
            record.seen = Some((actor, hlc));
            changes.push(RecordChange::Seen(actor, hlc));
        }
        changes
    }
}

/// What a session wants kept about its remote when both introduce themselves.
pub(super) struct Nonces {
    pub(super) store: Option<StoreId>,
    pub(super) ours: Vec<Nonce>,
    pub(super) theirs: Option<Nonce>,
    pub(super) is_stale: bool,
}
