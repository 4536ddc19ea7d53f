//! What became of a received update: its items are judged by their owners, appended as one record, and applied. The
//! sender hears what *apply* made of them: between judgement and append an EVICT may get into the log, and an edit of
//! what is gone by then is void; and so is what no longer fits, where other items have come into the document meanwhile.
//!
//! Each owner that applies a part of the record tells the session's node of every operation that did not take effect,
//! or that all did. The acknowledgement leaves when the last has spoken. Owners say so by the record's id, which is
//! drawn before the append: an owner on another thread may have applied the record before the session's node hears
//! of its position.
//!
//! The cursor is part of the record of its update on a device. On a server what is merged may become void, by an EVICT or
//! for want of room, and a cursor that is durable before it is known that all of it took effect would, after a crash
//! between the two, say of a void edit that it is here. Then it is written with the next record of the session, and if
//! there is none, the last update is sent again at the next meeting. A device that evicts asks for everything anyway.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Node;
use super::message::Body;
use super::sync_host::{AppendAnswer, SessionId};
use super::sync_source::store_key;
use super::sync_wire::encode_vector;
use crate::document::Delta;
use crate::ident::{Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::Outcome as ApplyOutcome;
use crate::sync::{
    CommandId, Cursor, DocKey as SyncKey, HostEvent, Outcome, Position, RejectReason,
};

/// A received update between its append and what apply made of it.
#[derive(Debug)]
pub(crate) struct Applying {
    pub(super) session: SessionId,
    command: CommandId,
    /// One for each item: judged, and corrected by what apply says.
    outcomes: Vec<Outcome>,
    /// The item of each operation of the record, and whether the remote may read the document: else it hears nothing of
    /// what was there.
    places: Vec<(usize, bool)>,
    /// The owners that have not spoken yet, and our own commit.
    missing: usize,
    txn: Option<Txn>,
    /// The cursor to keep once all of the update has taken effect, when the record does not carry it.
    cursor: Option<Cursor>,
    is_void_somewhere: bool,
}

impl Node {
    /// Appends what was judged good of a received update; `cursor` is how far we are if all of it is, `reached` how far
    /// the remote's log had come when it read it.
    #[allow(clippy::too_many_arguments, reason = "one call site, all of it the judged update")]
    pub(crate) fn append_update(
        &mut self,
        session: SessionId,
        command: CommandId,
        keys: Vec<SyncKey>,
        deltas: Vec<Option<Arc<Delta>>>,
        outcomes: Vec<Outcome>,
        (cursor, reached): (Option<Cursor>, Option<Position>),
        now: Now,
    ) {
        let Some(app) = self.session_app(session) else { return };
        let may_become_void = !self.config.is_device
            && deltas.iter().any(Option::is_some)
            && !is_planted(Plant::CursorBeforeAck);
        let (at_once, later) = if may_become_void { (None, cursor) } else { (cursor, None) };
        let mut changes = self.advance_record(session, at_once, None);
        let filter = self.remote_interest(session);
        let (mut ops, mut places, mut owners) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (place, (key, delta)) in keys.into_iter().zip(deltas).enumerate() {
            let Some(delta) = delta else { continue };
            owners.insert(self.owner(app, &key.collection, &key.id));
            places.push((place, filter.may_read(&store_key(app, &key))));
            let collection = key.collection.as_str().into();
            ops.push(Op::Merge { collection, id: key.id, delta });
        }
        if !ops.is_empty() || !changes.is_empty() {
            changes.extend(self.reach(session, reached));
        }
        let txn_id = TxnId(self.rng.uuid());
        let applying = Applying {
            session,
            command,
            outcomes,
            places,
            missing: owners.len() + 1,
            txn: None,
            cursor: later,
            is_void_somewhere: false,
        };
        self.sync.applying.insert(txn_id, applying);
        self.append_as(txn_id, session, ops, changes, AppendAnswer::Applied(txn_id), now);
    }

    /// A record was applied here: the node that appended a peer's update is told what became of our part of it.
    /// Records of former boots are only replayed: nobody waits for them.
    pub(crate) fn report_applied(
        &mut self,
        txn: Txn,
        transaction: &Transaction,
        outcomes: Vec<(u32, ApplyOutcome)>,
    ) {
        let Origin::Peer { home, .. } = transaction.origin else { return };
        let boot = self.config.identity.boots.rows.last();
        let is_replayed = boot.is_some_and(|boot| txn < boot.first);
        if is_replayed || outcomes.is_empty() {
            return;
        }
        let mut void = outcomes;
        void.retain(|(_, outcome)| *outcome != ApplyOutcome::Applied);
        self.send(home, Body::Applied { id: transaction.id, void });
    }

    /// Our own commit of an update.
    pub(crate) fn on_update_committed(&mut self, id: TxnId, txn: Txn, now: Now) {
        if let Some(applying) = self.sync.applying.get_mut(&id) {
            applying.txn = Some(txn);
        }
        self.on_applied(id, Vec::new(), now);
    }

    /// An owner has applied its part of an update; of a record that is no update of ours nothing is waited for.
    pub(crate) fn on_applied(&mut self, id: TxnId, void: Vec<(u32, ApplyOutcome)>, now: Now) {
        let Some(applying) = self.sync.applying.get_mut(&id) else { return };
        for (op, outcome) in void {
            let (place, may_read) = applying.places[op as usize];
            if let Some(outcome) = outcome_of(outcome, may_read)
                && !is_planted(Plant::JudgementTold)
            {
                applying.outcomes[place] = outcome;
                applying.is_void_somewhere = true;
            }
        }
        applying.missing -= 1;
        if applying.missing == 0
            && let Some(applying) = self.sync.applying.remove(&id)
        {
            self.finish_update(applying, now);
        }
    }

    /// All owners have spoken: the update can be acknowledged.
    fn finish_update(&mut self, applying: Applying, now: Now) {
        let Applying { session, command: id, outcomes, txn, cursor, is_void_somewhere, .. } =
            applying;
        let txn = txn.expect("our own commit is one of those that were missing");
        let reached = self.advance_record(session, cursor.filter(|_| !is_void_somewhere), None);
        self.write_later(session, reached);
        self.tell(session, HostEvent::Applied { id, txn, outcomes }, now);
    }
}

/// The outcome that a peer hears of an operation that did not take effect. That its item is too large is the one thing that it hears
/// of a document that it may not read.
fn outcome_of(outcome: ApplyOutcome, may_read: bool) -> Option<Outcome> {
    match outcome {
        ApplyOutcome::TooLarge => Some(Outcome::Rejected(RejectReason::TooLarge)),
        ApplyOutcome::Applied => None,
        _ if !may_read => None,
        ApplyOutcome::Evicted => Some(Outcome::Evicted),
        // It knows more than what was evicted: in full it lives again.
        ApplyOutcome::BaseEvicted => Some(Outcome::NeedBase { vector: None }),
        ApplyOutcome::NeedBase(vector) => {
            let vector = (!vector.is_empty()).then(|| encode_vector(&vector));
            Some(Outcome::NeedBase { vector })
        }
    }
}
