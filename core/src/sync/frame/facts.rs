//! What a frame says, in counts: for traces and for coverage. Nothing acts on it.

use super::{Frame, compact};
use crate::sync::host::{ItemBody, Outcome};

/// What can be told of one frame without its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameFacts {
    /// The frame's name; empty when it does not decode.
    pub name: &'static str,
    /// It begins a round that replays what was touched since the cursor.
    pub replays: bool,
    /// It begins a round that compares what both sides hold.
    pub reconciles: bool,
    /// It says that the remote's store was rolled back or cloned.
    pub stale: bool,
    /// It begins an update that carries no position: others with documents of the same transactions may follow.
    pub is_part: bool,
    /// Documents offered.
    pub offered: u32,
    /// Documents that left the receiver's interest.
    pub left: u32,
    /// Deletions.
    pub tombstones: u32,
    /// Answers "evicted", in either direction.
    pub evicted: u32,
    /// Answers "deleted".
    pub deleted: u32,
    /// Answers "send me the full state".
    pub need_base: u32,
    /// Refused documents.
    pub rejected: u32,
}

impl FrameFacts {
    /// Looks at one frame. The items of an update are seen as far as they lie in its first chunk.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let Ok(Some(frame)) = super::decode(bytes) else { return Self::default() };
        let mut facts = Self { name: frame.name(), ..Self::default() };
        match frame {
            Frame::Start(start) => {
                facts.replays = start.unknown.is_none();
                facts.reconciles = start.unknown.is_some();
            }
            Frame::Subs(subs) => facts.stale = subs.stale,
            Frame::UpdBegin(begin) => facts.is_part = begin.upto.is_none(),
            Frame::Offer(offer) => {
                facts.offered = u32::try_from(offer.items.len()).unwrap_or(u32::MAX);
            }
            Frame::Ack(ack) => ack.outcomes.iter().for_each(|(_, outcome)| facts.count(outcome)),
            Frame::UpdChunk(chunk) if chunk.seq == 0 => facts.count_items(chunk.payload),
            _ => {}
        }
        facts
    }

    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted => {}
            Outcome::Rejected(_) => self.rejected += 1,
            Outcome::NeedBase { .. } => self.need_base += 1,
            Outcome::Evicted => self.evicted += 1,
            Outcome::Deleted { .. } => self.deleted += 1,
        }
    }

    fn count_items(&mut self, payload: bytes::Bytes) {
        let mut list = compact::Reader::new(payload, "update");
        while !list.is_empty() {
            match list.update().map(|item| item.body) {
                Ok(ItemBody::Left { .. }) => self.left += 1,
                Ok(ItemBody::Tombstone { .. }) => self.tombstones += 1,
                Ok(ItemBody::Evicted) => self.evicted += 1,
                Ok(ItemBody::Delta { .. }) => {}
                Err(_) => return,
            }
        }
    }
}
