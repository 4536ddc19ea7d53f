//! Live delivery: what was touched since everything settled, told by the host and sent group by group.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Phase, Rejections, Sending, body_bytes, item_bytes};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::sync::host::{
    CommandId, DocKey, Final, HostCommand, Lacking, Owed, RejectReason, UpdateItem, Wanted,
};
use crate::sync::link::{Link, SessionEvent};

/// Items touched since the settled position, as far as the host has told.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) watch: CommandId,
    pub(super) items: VecDeque<UpdateItem>,
    pub(super) items_bytes: usize,
    pub(super) upto: Option<Txn>,
    /// A `WatchMore` is unanswered; it has this limit.
    pub(super) pull: Option<Option<Txn>>,
    /// An update with a part of the group has left.
    pub(super) is_in_parts: bool,
    /// States that the remote has of documents of which we thought that it had others, since everything settled.
    pub(super) lacking: Arc<Lacking>,
    /// How often what was touched since then was told anew.
    pub(super) retold: u8,
}

impl Sending {
    pub(super) fn go_live(&mut self, from: Txn, link: &mut Link) {
        let interest = self.subs.as_ref().map(|subs| subs.interest.clone()).unwrap_or_default();
        let watch = link.command(|watch| HostCommand::Watch { watch, interest });
        self.settled = from;
        self.phase = Phase::Live(Live {
            watch,
            items: VecDeque::new(),
            items_bytes: 0,
            upto: None,
            pull: None,
            is_in_parts: false,
            lacking: Arc::default(),
            retold: 0,
        });
        link.event(SessionEvent::SettledThere { upto: from });
    }

    /// Asks the host for what was touched since everything settled.
    pub(super) fn pull(&mut self, link: &mut Link) {
        let is_moving = self.flight.as_ref().is_some_and(|flight| flight.goal.is_some());
        let (after, until) =
            (self.settled, Some(self.target).filter(|until| *until > self.settled));
        let Phase::Live(live) = &mut self.phase else { return };
        let is_more_urgent = live.pull.is_none_or(|former| former.is_none() && until.is_some())
            || live.pull.flatten().zip(until).is_some_and(|(former, until)| former < until);
        // A group is one update as long as that has room: what `take_part` does not give out yet is pulled on.
        let bytes_max = match is_planted(Plant::PulledToTargetAlone) {
            true => self.limits.update_target_bytes,
            false => self.limits.update_bytes_max,
        };
        let held_bytes = if is_planted(Plant::PulledBeyondRoom) { 0 } else { live.items_bytes };
        let room_bytes = bytes_max.saturating_sub(held_bytes);
        let credit_bytes = room_bytes.min(self.limits.update_target_bytes);
        if is_moving
            || self.is_restarting
            || live.upto.is_some()
            || !is_more_urgent
            || credit_bytes == 0
        {
            return;
        }
        live.pull = Some(until);
        let watch = live.watch;
        let lacking = live.lacking.clone();
        link.host(HostCommand::WatchMore { watch, after, until, credit_bytes, lacking });
    }

    pub(crate) fn on_touched(
        &mut self,
        watch: CommandId,
        mut items: Vec<UpdateItem>,
        upto: Option<Txn>,
        link: &mut Link,
    ) {
        let Phase::Live(live) = &mut self.phase else { return };
        if live.watch == watch && live.pull.is_some() {
            live.pull = None;
            let refused = take_oversized(&mut items, self.limits.item_bytes_max);
            live.items_bytes += items.iter().map(item_bytes).sum::<usize>();
            live.items.extend(items);
            live.upto = upto;
            self.keep_oversized(refused, link);
        }
    }

    /// True when everything touched since the settled position was told before: its refusals were heard of.
    pub(super) fn is_retold(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.retold > 0)
    }

    /// Gives up an update of which a device has merged nothing, since it has another state of something in it than we
    /// thought, and tells what was touched until now instead, as of one later position. Sent after the rest, what it
    /// lacked would be newer than the rest, and a transaction in between would be seen in half.
    pub(super) fn tell_anew(&mut self) {
        let (Phase::Live(live), Some(flight)) = (&mut self.phase, self.flight.take()) else {
            unreachable!("what was touched is told while we are live, and an update is under way");
        };
        assert!(live.items.is_empty() && live.upto.is_none(), "the group was this one update");
        let goal = flight.goal.expect("a group ends with its position");
        self.target = self.target.max(goal.txn);
        live.retold += 1;
        let lacking = Arc::make_mut(&mut live.lacking);
        for Wanted { key, base } in flight.wanted {
            // Without a base it is only held back.
            if let Some(base) = base {
                // A document whose base was wrong a second time is told in full.
                let is_known = !base.is_empty() && !lacking.contains_key(&key);
                lacking.insert(key, is_known.then_some(base));
            }
        }
    }

    /// Items larger than any may be are not sent, as if the remote had refused them: all else goes on, and their
    /// documents are named in `owed`.
    pub(super) fn keep_oversized(&mut self, mut keys: Vec<DocKey>, link: &mut Link) {
        let reason = RejectReason::TooLarge;
        if self.is_retold() {
            keys.retain(|key| !self.owed.holds(key, reason));
        }
        if keys.is_empty() {
            return;
        }
        let write_permission = self.subs.as_ref().map_or(0, |subs| subs.write_permission);
        let mut rejected = Rejections::default();
        for key in &keys {
            rejected.add(key, reason);
            self.owed.insert(Owed { key: key.clone(), reason, write_permission });
        }
        self.rejected_count += rejected.count;
        rejected.report(link);
        // Not waited for: if it is lost in a crash, the document is met again and named again.
        let end = Final::Rejected { reason, write_permission };
        let items = keys.into_iter().map(|key| (key, end.clone())).collect();
        link.command(|id| HostCommand::Settle { id, items, reached: None });
    }

    /// The host shall report when it has matched through `txn`, even if nothing matched.
    pub(crate) fn want_through(&mut self, txn: Txn) {
        self.target = self.target.max(txn);
    }

    /// From time to time the receiver's cursor moves on without data.
    pub(crate) fn on_advance_timer(&mut self, durable: Txn) {
        if self.recorded < durable {
            self.is_advance_due = true;
            self.want_through(durable);
        }
    }
}

impl Live {
    /// The items of one update: all of a closed group, or as much as fits when the group is larger.
    pub(super) fn take_part(&mut self, bytes_max: usize) -> Option<Vec<UpdateItem>> {
        let is_full = self.items_bytes >= bytes_max;
        if self.upto.is_none() && !is_full {
            return None;
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(item) = self.items.front() {
            bytes += item_bytes(item);
            if bytes > bytes_max && !items.is_empty() {
                break;
            }
            self.items_bytes -= item_bytes(item);
            items.extend(self.items.pop_front());
        }
        Some(items)
    }
}

/// Takes out the items that no update may carry.
pub(super) fn take_oversized(items: &mut Vec<UpdateItem>, bytes_max: usize) -> Vec<DocKey> {
    let taken = items.extract_if(.., |item| body_bytes(&item.body) > bytes_max);
    taken.map(|item| item.key).collect()
}
