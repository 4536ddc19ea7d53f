//! The one update in flight: its bytes on the way out, its outcomes on the way back, and what is still owed
//! before its position counts.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ident::Txn;
use crate::sync::cursor::Position;
use crate::sync::error::ProtocolError;
use crate::sync::frame::compact::Writer;
use crate::sync::frame::{Ack, Frame, Got, UpdBegin, UpdChunk, UpdEnd};
use crate::sync::host::{CommandId, DocKey, Final, ItemBody, Outcome, UpdateItem, Wanted};
use crate::sync::reconcile::Ticket;
use crate::sync::session::Limits;

/// An update, from its first byte until its position counts.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) update: u64,
    /// The position that counts once everything is settled.
    pub(crate) goal: Option<Position>,
    pub(crate) keys: Vec<DocKey>,
    pub(crate) tickets: Vec<Ticket>,
    /// How many acknowledgements came back with something to settle.
    pub(crate) attempt: u8,
    pub(crate) stage: Stage,
    /// Documents that the receiver lacks, to be sent in follow-ups, or with all else when that is told anew.
    pub(crate) wanted: VecDeque<Wanted>,
    /// All that was touched up to the goal is in this one update, and may be told anew.
    pub(crate) is_whole: bool,
    /// The receiver has another state of something than we thought.
    pub(crate) is_mistaken: bool,
    /// The goal comes in an update of its own.
    is_withheld: bool,
    /// The places of items that say "left".
    left: Vec<u32>,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// Bytes leave.
    Outgoing(Outgoing),
    /// All bytes are out; outcomes collect.
    Unacked { outcomes: Vec<(u32, Outcome)> },
    /// Acknowledged; what was not accepted is settled here and followed up there.
    Settling(Settling),
}

/// What stands between an acknowledgement and the end of a flight.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// How items ended, as far as the host was not told yet.
    pub(crate) finals: VecDeque<(DocKey, Final)>,
    pub(crate) settle: Option<CommandId>,
    pub(crate) diff: Option<(CommandId, Vec<Wanted>)>,
    pub(crate) items: VecDeque<UpdateItem>,
    pub(crate) items_bytes: usize,
    /// The receiver has written the goal.
    pub(crate) is_recorded: bool,
}

impl Settling {
    /// How the next items ended: so many and so large that the host writes them as one record.
    pub(crate) fn next_finals(&mut self, bytes_max: usize) -> Vec<(DocKey, Final)> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some((_, end)) = self.finals.front() {
            bytes += final_bytes(end);
            let is_full = batch.len() == SETTLE_COUNT_MAX || bytes > bytes_max;
            if is_full && !batch.is_empty() {
                break;
            }
            batch.extend(self.finals.pop_front());
        }
        batch
    }
}

fn final_bytes(end: &Final) -> usize {
    match end {
        Final::Deleted { tombstone } => tombstone.len(),
        Final::Accepted | Final::Rejected { .. } | Final::Evicted => 0,
    }
}

/// Items that the host is told about at once.
pub(crate) const SETTLE_COUNT_MAX: usize = 1_000;

/// The bytes of an update.
#[derive(Debug)]
pub(crate) struct Outgoing {
    begin: Option<UpdBegin>,
    payload: Bytes,
    hash: [u8; 16],
    sent_bytes: usize,
    got_bytes: u64,
    seq: u32,
    chunk_bytes: usize,
    window_bytes: u64,
}

impl Flight {
    /// An update of these items, which were read when our log had come to `at`; `upto` travels in it.
    pub(crate) fn launch(
        limits: Limits,
        update: u64,
        items: impl IntoIterator<Item = UpdateItem>,
        upto: Option<Position>,
        at: Txn,
    ) -> Self {
        let mut list = Writer::default();
        let (mut keys, mut left) = (Vec::new(), Vec::new());
        for (place, item) in (0..).zip(items) {
            list.update(&item);
            keys.push(item.key);
            left.extend(matches!(item.body, ItemBody::Left { .. }).then_some(place));
        }
        let payload = list.finish();
        let begin = UpdBegin {
            update,
            upto,
            item_count: u32::try_from(keys.len()).expect("an update's bytes are bounded"),
            payload_bytes: payload.len() as u64,
            at: Some(at),
        };
        let hash = payload_hash(&payload);
        let outgoing = Outgoing {
            begin: Some(begin),
            payload,
            hash,
            sent_bytes: 0,
            got_bytes: 0,
            seq: 0,
            chunk_bytes: limits.chunk_bytes(),
            window_bytes: limits.window_bytes,
        };
        Self {
            update,
            goal: upto,
            keys,
            tickets: Vec::new(),
            attempt: 0,
            stage: Stage::Outgoing(outgoing),
            wanted: VecDeque::new(),
            is_whole: false,
            is_mistaken: false,
            is_withheld: false,
            left,
        }
    }

    /// Sends the goal after the items, so that the receiver holds none of them back.
    pub(crate) fn withhold_goal(&mut self) {
        if let Stage::Outgoing(Outgoing { begin: Some(begin), .. }) = &mut self.stage {
            begin.upto = None;
            self.is_withheld = true;
        }
    }

    /// Sends next, in the place of what the receiver has answered, what it lacks.
    pub(crate) fn follow_up(&mut self, next: Self) {
        (self.update, self.keys, self.left, self.stage) =
            (next.update, next.keys, next.left, next.stage);
        (self.is_whole, self.is_withheld) = (false, false);
    }

    /// Notes that the receiver lacks the base of an item, of which it has `vector`.
    pub(crate) fn note_lacking(&mut self, place: u32, vector: Option<Bytes>) {
        let has_another = vector.as_ref().is_some_and(|vector| !vector.is_empty());
        self.is_mistaken |= has_another && self.left.binary_search(&place).is_err();
        let key = self.keys[place as usize].clone();
        // A document whose base was wrong again is told in full.
        self.wanted.push_back(Wanted { key, base: vector.filter(|_| self.attempt == 0) });
    }

    /// The acknowledged update carried the goal, and nothing in it has to be settled.
    pub(crate) fn is_recorded(&self, is_exceptional: bool) -> bool {
        // A follow-up before the last one carries no position: the goal is still to be sent.
        !is_exceptional && !self.is_withheld && self.wanted.is_empty()
    }

    /// The next frame, if the window is open.
    pub(crate) fn poll_frame(&mut self) -> Option<Frame> {
        let update = self.update;
        let Stage::Outgoing(outgoing) = &mut self.stage else { return None };
        if let Some(begin) = outgoing.begin.take() {
            return Some(Frame::UpdBegin(begin));
        }
        if outgoing.sent_bytes == outgoing.payload.len() {
            let hash = outgoing.hash;
            self.stage = Stage::Unacked { outcomes: Vec::new() };
            return Some(Frame::UpdEnd(UpdEnd { update, hash }));
        }
        outgoing.next_chunk(update)
    }

    pub(crate) fn on_got(&mut self, got: Got) -> Result<(), ProtocolError> {
        if let Stage::Outgoing(outgoing) = &mut self.stage {
            if got.payload_bytes > outgoing.sent_bytes as u64 {
                return Err(ProtocolError::Malformed { frame: "Got", field: "payload bytes" });
            }
            outgoing.got_bytes = outgoing.got_bytes.max(got.payload_bytes);
        }
        Ok(())
    }

    /// Collects outcomes; gives them back, in order of the items, when the acknowledgement is whole.
    pub(crate) fn on_ack(
        &mut self,
        ack: Ack,
    ) -> Result<Option<Vec<(u32, Outcome)>>, ProtocolError> {
        let Stage::Unacked { outcomes } = &mut self.stage else {
            return Err(ProtocolError::OutOfOrder {
                frame: "Ack",
                state: "before the update ended",
            });
        };
        for (index, outcome) in ack.outcomes {
            let rises = outcomes.last().is_none_or(|(last, _)| *last < index);
            if !rises || index as usize >= self.keys.len() {
                return Err(ProtocolError::Malformed { frame: "Ack", field: "index" });
            }
            outcomes.push((index, outcome));
        }
        Ok(ack.last.then(|| std::mem::take(outcomes)))
    }

    /// The host has not yet written how every item ended.
    pub(crate) fn is_settling(&self) -> bool {
        let Stage::Settling(settling) = &self.stage else { return false };
        !settling.finals.is_empty() || settling.settle.is_some()
    }

    /// The remote owes us something.
    pub(crate) fn is_awaiting(&self) -> bool {
        match &self.stage {
            Stage::Outgoing(outgoing) => outgoing.is_blocked(),
            Stage::Unacked { .. } => true,
            Stage::Settling(_) => false,
        }
    }
}

impl Outgoing {
    fn is_blocked(&self) -> bool {
        self.sent_bytes as u64 + self.chunk_bytes as u64 > self.got_bytes + self.window_bytes
    }

    fn next_chunk(&mut self, update: u64) -> Option<Frame> {
        if self.is_blocked() {
            return None;
        }
        let end = self.payload.len().min(self.sent_bytes + self.chunk_bytes);
        let payload = self.payload.slice(self.sent_bytes..end);
        let seq = self.seq;
        self.sent_bytes = end;
        self.seq += 1;
        Some(Frame::UpdChunk(UpdChunk { update, seq, payload }))
    }
}

/// blake3, cut to 128 bits.
pub(crate) fn payload_hash(payload: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(payload).as_bytes()[..16]);
    out
}
