//! The direction from the remote to us: our wishes, our cursor, and the update that is coming in.

use bytes::Bytes;

use crate::ident::LogId;

use super::cursor::{Cursor, InterestHash, Position};
use super::error::{CloseReason, ProtocolError};
use super::frame::compact::Reader;
use super::frame::{
    Ack, CHUNK_BYTES_MAX, Frame, Got, Need, OfferEnd, Start, UpdBegin, UpdChunk, UpdEnd,
    VECTOR_BYTES_MAX,
};
use super::host::{CommandId, HostCommand, Offered, Outcome, Part, RejectReason, UpdateItem};
use super::link::{Link, SessionEvent};
use super::reconcile::Offering;
use super::sending::payload_hash;
use super::session::Limits;
use super::subscription::Interest;

/// The receiving half of a session.
#[derive(Debug)]
pub(crate) struct Receiving {
    limits: Limits,
    interest: Interest,
    /// Of our Subs; rises with each.
    version: u64,
    cursor: Option<Cursor>,
    /// Answers to our wishes up to this version build on a cursor that means nothing: they lead to none.
    void_version: u64,
    round: Option<Start>,
    offering: Option<Offering>,
    incoming: Option<Incoming>,
    applying: Option<Applying>,
    update_last: u64,
}

/// An update that is not whole yet. The buffer grows with what comes, never with what was announced.
#[derive(Debug)]
struct Incoming {
    begin: UpdBegin,
    /// How far the sender's log had come.
    reached: Option<Position>,
    payload: Vec<u8>,
    seq: u32,
    told_bytes: u64,
}

#[derive(Debug)]
struct Applying {
    id: CommandId,
    update: u64,
    item_count: usize,
    cursor: Option<Cursor>,
}

impl Receiving {
    pub(crate) fn new(limits: Limits, interest: Interest) -> Self {
        Self {
            limits,
            interest,
            version: 0,
            cursor: None,
            void_version: 0,
            round: None,
            offering: None,
            incoming: None,
            applying: None,
            update_last: 0,
        }
    }

    pub(crate) fn load_cursor(&mut self, cursor: Option<Cursor>, log: LogId) {
        self.cursor = cursor.filter(|cursor| cursor.position.log == log);
    }

    pub(crate) fn set_interest(&mut self, interest: Interest) -> bool {
        let is_changed = self.interest != interest;
        self.interest = interest;
        is_changed
    }

    /// Documents that we evicted, or have lost, have to be offered again. The remote may be sending already what it takes
    /// us to lack: with that we are not where it believes us to be.
    pub(crate) fn forget_cursor(&mut self) {
        self.cursor = None;
        self.void_version = self.version;
    }

    /// The next version of our wishes.
    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(crate) fn interest(&self) -> &Interest {
        &self.interest
    }

    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    pub(crate) fn on_start(&mut self, start: Start, link: &mut Link) -> Result<(), ProtocolError> {
        if start.version == 0 || start.version > self.version {
            return Err(ProtocolError::Malformed { frame: "Start", field: "version" });
        }
        if self.round.is_some_and(|former| former.round >= start.round) {
            return Err(ProtocolError::OutOfOrder { frame: "Start", state: "with an older round" });
        }
        if self.incoming.is_some() {
            return Err(ProtocolError::OutOfOrder { frame: "Start", state: "inside an update" });
        }
        if let Some(former) = self.offering.take() {
            former.stop(link);
        }
        self.round = Some(start);
        if start.unknown.is_some() {
            self.offer_held(start.round, link);
        }
        Ok(())
    }

    /// Lists what we have, so that the remote can tell what of it is gone. Who takes everything never holds what
    /// the other side would not offer.
    fn offer_held(&mut self, round: u64, link: &mut Link) {
        if self.interest == Interest::Everything {
            link.frame(&Frame::OfferEnd(OfferEnd { part: Part::Hold, round }));
        } else {
            let interest = self.interest.clone();
            self.offering = Some(Offering::begin(Part::Hold, round, interest, link));
        }
    }

    pub(crate) fn pump(&mut self, link: &mut Link) {
        if let Some(offering) = &mut self.offering {
            offering.pump(true, link);
        }
    }

    pub(crate) fn on_held(
        &mut self,
        scan: CommandId,
        started_at: crate::ident::Txn,
        items: &mut Vec<Offered>,
        done: bool,
    ) {
        if let Some(offering) = &mut self.offering {
            offering.on_held(scan, started_at, items, done);
        }
    }

    /// The provider answers a batch of what we hold.
    pub(crate) fn on_need(&mut self, need: Need) -> Result<(), ProtocolError> {
        match &mut self.offering {
            Some(offering) => offering.on_need(need, &mut std::collections::VecDeque::new()),
            None => {
                Err(ProtocolError::OutOfOrder { frame: "Need", state: "when nothing was offered" })
            }
        }
    }

    /// `reached`: how far the sender's log had come when it read what the update tells.
    pub(crate) fn on_begin(
        &mut self,
        begin: UpdBegin,
        reached: Option<Position>,
        log: LogId,
    ) -> Result<(), ProtocolError> {
        if self.round.is_none() {
            return Err(ProtocolError::OutOfOrder { frame: "UpdBegin", state: "before Start" });
        }
        if self.incoming.is_some() || self.applying.is_some() {
            return Err(ProtocolError::UpdateOverlap);
        }
        if begin.update <= self.update_last {
            return Err(ProtocolError::UnknownUpdate { frame: "UpdBegin", found: begin.update });
        }
        if begin.upto.is_some_and(|upto| upto.log != log) {
            return Err(ProtocolError::ForeignPosition);
        }
        // The sender fills an update up to its bound, and one more item may pass it.
        let limit_bytes = (self.limits.update_bytes_max + self.limits.item_bytes_max) as u64;
        if begin.payload_bytes > limit_bytes {
            let found_bytes = begin.payload_bytes;
            return Err(ProtocolError::UpdateTooLarge { found_bytes, limit_bytes });
        }
        self.update_last = begin.update;
        self.incoming =
            Some(Incoming { begin, reached, payload: Vec::new(), seq: 0, told_bytes: 0 });
        Ok(())
    }

    pub(crate) fn on_chunk(
        &mut self,
        chunk: &UpdChunk,
        link: &mut Link,
    ) -> Result<(), ProtocolError> {
        let unknown = ProtocolError::UnknownUpdate { frame: "UpdChunk", found: chunk.update };
        let incoming =
            self.incoming.as_mut().filter(|incoming| incoming.begin.update == chunk.update);
        let incoming = incoming.ok_or(unknown)?;
        if chunk.seq != incoming.seq {
            return Err(ProtocolError::ChunkOutOfOrder {
                expected: incoming.seq,
                found: chunk.seq,
            });
        }
        let payload_bytes = (incoming.payload.len() + chunk.payload.len()) as u64;
        if payload_bytes > incoming.begin.payload_bytes || chunk.payload.is_empty() {
            let (found_bytes, limit_bytes) = (payload_bytes, incoming.begin.payload_bytes);
            return Err(ProtocolError::UpdateTooLarge { found_bytes, limit_bytes });
        }
        incoming.payload.extend_from_slice(&chunk.payload);
        incoming.seq += 1;
        if payload_bytes - incoming.told_bytes >= self.limits.got_bytes() {
            incoming.told_bytes = payload_bytes;
            link.frame(&Frame::Got(Got { update: chunk.update, payload_bytes }));
        }
        Ok(())
    }

    pub(crate) fn on_end(&mut self, end: UpdEnd, link: &mut Link) -> Result<(), ProtocolError> {
        let unknown = ProtocolError::UnknownUpdate { frame: "UpdEnd", found: end.update };
        let incoming = self.incoming.take_if(|incoming| incoming.begin.update == end.update);
        let Incoming { begin, reached, payload, .. } = incoming.ok_or(unknown)?;
        if payload.len() as u64 != begin.payload_bytes || payload_hash(&payload) != end.hash {
            return Err(ProtocolError::HashMismatch { update: end.update });
        }
        let items = decode_items(payload.into(), begin.item_count)?;
        let interest = self.round.map_or_else(InterestHash::default, |round| round.interest);
        let is_void = self.round.is_some_and(|round| round.version <= self.void_version);
        let upto = begin.upto.filter(|_| !is_void);
        let cursor = upto.map(|position| Cursor { position, interest });
        let item_count = items.len();
        let id = link.command(|id| HostCommand::Apply { id, items, cursor, reached });
        self.applying = Some(Applying { id, update: end.update, item_count, cursor });
        Ok(())
    }

    /// The update is durable: only now may the remote forget it.
    pub(crate) fn on_applied(
        &mut self,
        id: CommandId,
        txn: crate::ident::Txn,
        outcomes: Vec<Outcome>,
        link: &mut Link,
    ) -> Result<(), CloseReason> {
        let Some(applying) = self.applying.take_if(|applying| applying.id == id) else {
            return Ok(());
        };
        let count = applying.item_count;
        if outcomes.len() != count {
            let answered = outcomes.len();
            return Err(CloseReason::HostFailed(format!("{answered} outcomes for {count} items")));
        }
        let is_accepted = outcomes.iter().all(|outcome| *outcome == Outcome::Accepted);
        if is_accepted && applying.cursor.is_some() {
            self.cursor = applying.cursor;
        }
        acknowledge(applying.update, outcomes, txn, link);
        link.event(SessionEvent::Applied { txn, count });
        Ok(())
    }

    /// The remote owes us something: the answer to our wishes, to an offer, or the rest of an update.
    pub(crate) fn is_awaiting(&self) -> bool {
        let is_unstarted =
            self.version > 0 && self.round.is_none_or(|round| round.version < self.version);
        is_unstarted
            || self.incoming.is_some()
            || self.offering.as_ref().is_some_and(Offering::is_awaiting)
    }

    pub(crate) fn round(&self) -> u64 {
        self.round.map_or(0, |round| round.round)
    }

    /// We have not said yet what we want.
    pub(crate) fn is_unsaid(&self) -> bool {
        self.version == 0
    }

    /// The remote replays, or has reconciled and goes on live, under our newest wishes.
    pub(crate) fn is_current(&self) -> bool {
        self.round.is_some_and(|round| round.version == self.version)
    }
}

/// The least an item takes: two lengths, one byte of id, the kind.
const ITEM_BYTES_MIN: usize = 4;

fn decode_items(payload: Bytes, item_count: u32) -> Result<Vec<UpdateItem>, ProtocolError> {
    let (found, limit) = (u64::from(item_count), (payload.len() / ITEM_BYTES_MIN) as u64);
    if found > limit {
        return Err(ProtocolError::TooMany { frame: "update", field: "items", found, limit });
    }
    let mut list = Reader::new(payload, "update");
    let mut items = Vec::new();
    while !list.is_empty() {
        items.push(list.update()?);
    }
    if items.len() as u64 != found {
        return Err(ProtocolError::Malformed { frame: "update", field: "item count" });
    }
    Ok(items)
}

fn acknowledge(update: u64, outcomes: Vec<Outcome>, txn: crate::ident::Txn, link: &mut Link) {
    let mut part = Vec::new();
    let mut bytes = 0;
    for (index, outcome) in (0..).zip(outcomes) {
        let outcome = shorten(outcome);
        if outcome == Outcome::Accepted {
            continue;
        }
        if bytes > CHUNK_BYTES_MAX {
            let outcomes = std::mem::take(&mut part);
            link.frame(&Frame::Ack(Ack { update, last: false, outcomes, at: None }));
            bytes = 0;
        }
        bytes += outcome_bytes(&outcome);
        part.push((index, outcome));
    }
    link.frame(&Frame::Ack(Ack { update, last: true, outcomes: part, at: Some(txn) }));
}

/// A vector that is too long for a frame is left out: the full state comes instead. A tombstone that long does
/// not fit at all.
fn shorten(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::NeedBase { vector } => {
            Outcome::NeedBase { vector: vector.filter(|vector| vector.len() <= VECTOR_BYTES_MAX) }
        }
        Outcome::Deleted { tombstone } if tombstone.len() > VECTOR_BYTES_MAX => {
            Outcome::Rejected(RejectReason::TooLarge)
        }
        outcome => outcome,
    }
}

fn outcome_bytes(outcome: &Outcome) -> usize {
    16 + match outcome {
        Outcome::NeedBase { vector } => vector.as_ref().map_or(0, Bytes::len),
        Outcome::Deleted { tombstone } => tombstone.len(),
        _ => 0,
    }
}
