//! The direction from us to the remote: rounds, updates, and what counts as settled there.
//!
//! A round begins with `Start` each time the remote says what it wants. When its cursor lets us replay, we are
//! *live* at once: the host collects what was touched since, we send it as one update, and the position counts
//! once every item is accepted there, or settled here. Otherwise we are *reconciling* first.

mod flight;
mod live;
mod owing;
mod rounds;

pub(crate) use flight::payload_hash;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::{Access, AccessHash};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::time::Instant;

use super::cursor::{BootTable, Position};
use super::error::{CloseReason, ProtocolError};
use super::frame::{Ack, GRANT_BYTES_MAX, Got, Need, Role, Subs};
use super::host::{
    CommandId, DocKey, Final, HostCommand, ItemBody, Outcome, Owed, RejectReason, UpdateItem,
    Wanted,
};
use super::link::{Link, REJECTED_LISTED_MAX, SessionEvent};
use super::reconcile::{Offering, Queued, Ticket};
use super::session::Limits;
use flight::{Flight, Settling, Stage};
use live::{Live, take_oversized};
use owing::Owing;

/// Documents that the remote asked for and that we have not read yet; above it no more is offered.
const WANTED_MAX: usize = 2_048;
/// How often an update may come back with something to settle.
const FOLLOW_UPS_MAX: u8 = 8;
/// How often what was touched is told anew before a device is no longer asked to take all of it or nothing: each time
/// takes as long as the first, and it may be needed again for what was touched meanwhile.
const RETOLD_MAX: u8 = 2;

/// Wishes that a remote may say before we have begun to send what it wanted before.
pub(crate) const SUBS_WAITING_MAX: u64 = 16;
/// Rounds that may begin one right after the other.
pub(crate) const ROUNDS_AT_ONCE: u64 = 16;
/// How often a round may begin in the long run.
pub(crate) const ROUND_EVERY: Duration = Duration::from_secs(1);

/// The sending half of a session.
#[derive(Debug)]
pub(crate) struct Sending {
    limits: Limits,
    /// The remote merges nothing of a group in which it has another state of something than we thought.
    is_to_device: bool,
    /// What the remote may read here.
    readable: Readable,
    /// What the remote wants; nothing is sent before we know.
    subs: Option<Subs>,
    /// A newer wish waits for the update in flight, or for its turn.
    is_restarting: bool,
    /// Wishes since the last round began; the newest alone counts.
    subs_waiting: u64,
    /// What is taken up of the pace at which rounds may begin.
    rounds_until: Instant,
    /// Nothing is sent until a new epoch is taken.
    is_held: bool,
    /// One of the stores was rolled back or cloned: no cursor of the remote counts in this session.
    is_diverged: bool,
    /// No cursor of the remote below this position counts.
    shared: Txn,
    round: u64,
    phase: Phase,
    queue: VecDeque<Queued>,
    wanted: VecDeque<Wanted>,
    diff: Option<(CommandId, Vec<Wanted>)>,
    flight: Option<Flight>,
    update_last: u64,
    /// Everything of ours up to here is durable there, or settled.
    settled: Txn,
    /// The receiver has written this position.
    recorded: Txn,
    /// How far our log has come: nothing that was read for the remote is newer.
    durable: Txn,
    /// How far the remote's log had come when it acknowledged last.
    reached: Option<Position>,
    /// The host shall report at the latest when it has matched through here.
    target: Txn,
    is_advance_due: bool,
    owed: Owing,
    released: Vec<Ticket>,
    rejected_count: u64,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Reconciling {
        offering: Offering,
        /// The holder has offered all that it has.
        is_hold_ended: bool,
    },
    Live(Live),
}

impl Sending {
    pub(crate) fn new(limits: Limits, access: &Access) -> Self {
        Self {
            limits,
            is_to_device: false,
            readable: Readable::new(access),
            subs: None,
            is_restarting: false,
            subs_waiting: 0,
            rounds_until: Instant::default(),
            is_held: false,
            is_diverged: false,
            shared: Txn(0),
            round: 0,
            phase: Phase::Waiting,
            queue: VecDeque::new(),
            wanted: VecDeque::new(),
            diff: None,
            flight: None,
            update_last: 0,
            settled: Txn(0),
            recorded: Txn(0),
            durable: Txn(0),
            reached: None,
            target: Txn(0),
            is_advance_due: false,
            owed: Owing::new(limits.owed_max),
            released: Vec::new(),
            rejected_count: 0,
        }
    }

    pub(crate) fn load_owed(&mut self, owed: Vec<Owed>, unlisted: Option<u64>) {
        self.owed.load(owed, unlisted);
    }

    /// The remote has said what it is.
    pub(crate) fn meet(&mut self, role: Role) {
        self.is_to_device = role == Role::Device && !is_planted(Plant::LackedFollows);
    }

    /// Our own history is not the one that the remote knows: its cursor means nothing, and nothing leaves before
    /// a new epoch is taken.
    pub(crate) fn diverge(&mut self) {
        self.is_diverged = true;
        self.is_held = true;
    }

    /// The remote's store was rolled back or cloned: whatever it presents, offer everything.
    pub(crate) fn distrust_cursors(&mut self) {
        self.is_diverged = true;
    }

    /// Another store had the remote's key up to this position of our log.
    pub(crate) fn distrust_below(&mut self, shared: Option<Txn>) {
        self.shared = shared.unwrap_or_default();
    }

    /// The new epoch is taken.
    pub(crate) fn resume(&mut self) {
        self.is_held = false;
    }

    /// We know what the remote wants.
    pub(crate) fn is_begun(&self) -> bool {
        self.subs.is_some()
    }

    /// When a round begins that waits for nothing but its turn.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let is_free = !self.is_held && self.flight.is_none() && self.diff.is_none();
        (self.is_restarting && is_free).then(|| self.round_at())
    }

    /// Does whatever can be done. `is_hold_compared`: no batch of the holder's offer waits for the host.
    pub(crate) fn pump(
        &mut self,
        table: &BootTable,
        now: Now,
        is_hold_compared: bool,
        link: &mut Link,
    ) -> Result<(), CloseReason> {
        self.durable = self.durable.max(now.durable);
        if self.is_held || self.subs.is_none() {
            return Ok(());
        }
        self.pump_flight(link)?;
        let is_due = self.is_restarting && self.round_at() <= now.mono;
        if is_due && self.flight.is_none() && self.diff.is_none() {
            self.rounds_until = self.rounds_until.max(now.mono).after(ROUND_EVERY);
            self.begin_round(table, now.durable, link);
        }
        let room = self.wanted.len() < WANTED_MAX;
        if let Phase::Reconciling { offering, .. } = &mut self.phase {
            offering.pump(room, link);
        }
        self.pump_wanted(link);
        if self.flight.is_none() && !self.is_restarting {
            self.launch_next(table, is_hold_compared, link);
        }
        self.pull(link);
        self.check_progress();
        Ok(())
    }

    /// Something is always about to happen while we are live: what was touched is told in parts, and the last part
    /// or the wait for the next touch is the host's to answer.
    fn check_progress(&self) {
        if let Phase::Live(live) = &self.phase
            && self.flight.is_none()
            && !self.is_restarting
        {
            assert!(live.pull.is_some(), "with nothing in flight, the host is asked for more");
        }
    }

    /// Sends what waits: answers and wanted documents first, then the end of a reconciliation or what was
    /// touched.
    fn launch_next(&mut self, table: &BootTable, is_hold_compared: bool, link: &mut Link) {
        let is_live_first = is_planted(Plant::LiveBeforeOwed)
            && matches!(&self.phase, Phase::Live(live) if live.upto.is_some());
        if !self.queue.is_empty() && !is_live_first {
            return self.launch_queued();
        }
        let is_drained = self.wanted.is_empty() && self.diff.is_none();
        match &mut self.phase {
            Phase::Waiting => {}
            Phase::Reconciling { offering, is_hold_ended } => {
                let is_done = offering.is_answered() && *is_hold_ended && is_hold_compared;
                if let (true, Some(from)) = (is_done && is_drained, offering.started_at()) {
                    self.launch(Vec::new(), Some(table.position(from)));
                }
            }
            Phase::Live(live) => {
                let upto = live.upto;
                let Some(items) = live.take_part(self.limits.update_bytes_max) else {
                    return;
                };
                let is_last = live.items.is_empty() && upto.is_some();
                if is_last {
                    live.upto = None;
                }
                let is_whole = is_last && !live.is_in_parts;
                let is_taken_apart = is_whole && live.retold == RETOLD_MAX;
                live.is_in_parts = !is_last;
                if !items.is_empty() {
                    let is_placed = is_last || is_planted(Plant::PositionWithEveryPart);
                    self.launch(items, upto.filter(|_| is_placed).map(|txn| table.position(txn)));
                    let flight = self.flight.as_mut().expect("it was launched a line ago");
                    flight.is_whole = is_whole && !is_taken_apart;
                    if is_taken_apart {
                        flight.withhold_goal();
                    }
                } else if let Some(upto) = upto {
                    self.settle(upto, link);
                    self.advance(table);
                }
            }
        }
    }

    /// Lets the receiver write a position that nothing had to be sent for, so that its cursor does not age.
    fn advance(&mut self, table: &BootTable) {
        if std::mem::take(&mut self.is_advance_due) && self.recorded < self.settled {
            self.launch(Vec::new(), Some(table.position(self.settled)));
        }
    }

    fn launch_queued(&mut self) {
        let mut bytes = 0;
        let mut items = Vec::new();
        let mut tickets = Vec::new();
        while let Some(queued) = self.queue.front() {
            bytes += item_bytes(&queued.item);
            if bytes > self.limits.update_target_bytes && !items.is_empty() {
                break;
            }
            let Queued { item, ticket } = self.queue.pop_front().expect("the front was just seen");
            items.push(item);
            tickets.extend(ticket);
        }
        self.launch(items, None);
        if let Some(flight) = &mut self.flight {
            flight.tickets = tickets;
        }
    }

    fn launch(&mut self, items: Vec<UpdateItem>, upto: Option<Position>) {
        self.update_last += 1;
        self.flight =
            Some(Flight::launch(self.limits, self.update_last, items, upto, self.durable));
    }

    /// Takes an acknowledged update further: settle here, read what the receiver lacks, send it, end.
    fn pump_flight(&mut self, link: &mut Link) -> Result<(), CloseReason> {
        let (target_bytes, reached) = (self.limits.update_target_bytes, self.reached);
        let is_anew_allowed = self.is_to_device
            && matches!(&self.phase, Phase::Live(live) if live.retold < RETOLD_MAX);
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let Stage::Settling(settling) = &mut flight.stage else { return Ok(()) };
        let credit_bytes = target_bytes.saturating_sub(settling.items_bytes);
        let is_told_anew = is_anew_allowed && flight.is_whole && flight.is_mistaken;
        if !is_told_anew && settling.diff.is_none() && !flight.wanted.is_empty() && credit_bytes > 0
        {
            let wanted = flight.wanted.drain(..).collect();
            settling.diff = Some(issue_diff(wanted, credit_bytes, link));
        }
        if settling.settle.is_none() && !settling.finals.is_empty() {
            let items = settling.next_finals(target_bytes);
            let settle = link.command(|id| HostCommand::Settle { id, items, reached });
            settling.settle = Some(settle);
        }
        if settling.diff.is_some() || settling.settle.is_some() {
            return Ok(());
        }
        if is_told_anew {
            self.tell_anew();
            return Ok(());
        }
        let is_owing_goal = flight.goal.is_some() && !settling.is_recorded;
        if settling.items.is_empty() && !is_owing_goal {
            self.end_flight(link);
            return Ok(());
        }
        if flight.attempt > FOLLOW_UPS_MAX {
            return Err(CloseReason::NeverSettles(FOLLOW_UPS_MAX));
        }
        self.update_last += 1;
        let items = std::mem::take(&mut settling.items);
        let upto = flight.goal.filter(|_| flight.wanted.is_empty());
        let next = Flight::launch(self.limits, self.update_last, items, upto, self.durable);
        flight.follow_up(next);
        Ok(())
    }

    fn end_flight(&mut self, link: &mut Link) {
        let Some(flight) = self.flight.take() else { return };
        self.released.extend(flight.tickets);
        let Some(goal) = flight.goal else { return };
        self.recorded = goal.txn;
        match self.phase {
            Phase::Waiting => {}
            Phase::Reconciling { .. } => {
                if let Some(unlisted) = self.owed.end_recount() {
                    let reached = self.reached;
                    link.command(|id| HostCommand::KeepUnlisted { id, unlisted, reached });
                }
                self.leave_phase(link);
                self.go_live(goal.txn, link);
            }
            Phase::Live(_) => self.settle(goal.txn, link),
        }
    }

    /// Everything up to here has ended there.
    fn settle(&mut self, upto: Txn, link: &mut Link) {
        self.settled = upto;
        if let Phase::Live(live) = &mut self.phase {
            (live.lacking, live.retold) = (Arc::default(), 0);
        }
        link.event(SessionEvent::SettledThere { upto });
    }

    pub(crate) fn on_held(
        &mut self,
        scan: CommandId,
        started_at: Txn,
        items: &mut Vec<super::host::Offered>,
        done: bool,
    ) {
        if let Phase::Reconciling { offering, .. } = &mut self.phase {
            offering.on_held(scan, started_at, items, done);
        }
    }

    /// The holder answers a batch that we offered.
    pub(crate) fn on_need(&mut self, need: Need) -> Result<(), ProtocolError> {
        match &mut self.phase {
            Phase::Reconciling { offering, .. } => offering.on_need(need, &mut self.wanted),
            _ => {
                Err(ProtocolError::OutOfOrder { frame: "Need", state: "when nothing was offered" })
            }
        }
    }

    /// The holder has offered all that it has.
    pub(crate) fn on_hold_end(&mut self) {
        if let Phase::Reconciling { is_hold_ended, .. } = &mut self.phase {
            *is_hold_ended = true;
        }
    }

    /// True when the answer was for this half.
    pub(crate) fn on_diffs(
        &mut self,
        id: CommandId,
        items: Vec<Option<ItemBody>>,
        link: &mut Link,
    ) -> Result<(), CloseReason> {
        let bytes_max = self.limits.item_bytes_max;
        if self.diff.as_ref().is_some_and(|(diff, _)| *diff == id)
            && let Some((_, wanted)) = self.diff.take()
        {
            let (mut found, rest) = match_diffs(wanted, items)?;
            let refused = take_oversized(&mut found, bytes_max);
            self.keep_oversized(refused, link);
            self.queue.extend(found.into_iter().map(|item| Queued { item, ticket: None }));
            rest.into_iter().rev().for_each(|wanted| self.wanted.push_front(wanted));
            return Ok(());
        }
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let Stage::Settling(settling) = &mut flight.stage else { return Ok(()) };
        if settling.diff.as_ref().is_some_and(|(diff, _)| *diff == id)
            && let Some((_, wanted)) = settling.diff.take()
        {
            let (mut found, rest) = match_diffs(wanted, items)?;
            let refused = take_oversized(&mut found, bytes_max);
            settling.items_bytes += found.iter().map(item_bytes).sum::<usize>();
            settling.items.extend(found);
            rest.into_iter().rev().for_each(|wanted| flight.wanted.push_front(wanted));
            self.keep_oversized(refused, link);
        }
        Ok(())
    }

    pub(crate) fn on_settled(
        &mut self,
        id: CommandId,
        refused: Vec<(DocKey, RejectReason)>,
        link: &mut Link,
    ) {
        let mut rejected = Rejections::default();
        for (key, reason) in refused {
            rejected.add(&key, reason);
            if reason == RejectReason::ClockSkew {
                self.owed.insert(Owed { key, reason, write_permission: 0 });
            }
        }
        self.rejected_count += rejected.count;
        rejected.report(link);
        if let Some(Flight { stage: Stage::Settling(settling), .. }) = &mut self.flight
            && settling.settle == Some(id)
        {
            settling.settle = None;
        }
    }

    pub(crate) fn on_got(&mut self, got: Got) -> Result<(), ProtocolError> {
        match &mut self.flight {
            Some(flight) if flight.update == got.update => flight.on_got(got),
            // Told before the end came: the acknowledgement may overtake nothing, but the update may be over.
            _ if got.update <= self.update_last => Ok(()),
            _ => Err(ProtocolError::UnknownUpdate { frame: "Got", found: got.update }),
        }
    }

    /// `reached`: how far the remote's log has come with what it acknowledges.
    pub(crate) fn on_ack(
        &mut self,
        ack: Ack,
        reached: Option<Position>,
        link: &mut Link,
    ) -> Result<(), ProtocolError> {
        let update = ack.update;
        self.reached = reached.or(self.reached);
        let flight = self.flight.as_mut().filter(|flight| flight.update == update);
        let flight = flight.ok_or(ProtocolError::UnknownUpdate { frame: "Ack", found: update })?;
        let Some(outcomes) = flight.on_ack(ack)? else { return Ok(()) };
        let is_exceptional = !outcomes.is_empty();
        let is_recorded = flight.is_recorded(is_exceptional);
        let mut settling = Settling { is_recorded, ..Settling::default() };
        settling.finals = self.forget_owed(&outcomes);
        let is_retold = self.is_retold();
        let mut rejected = Rejections::default();
        let flight = self.flight.as_mut().expect("it was there a line ago");
        for (index, outcome) in outcomes {
            let key = flight.keys[index as usize].clone();
            match outcome {
                Outcome::Accepted => {}
                Outcome::NeedBase { vector } => flight.note_lacking(index, vector),
                Outcome::Rejected(reason) if is_retold && self.owed.holds(&key, reason) => {}
                Outcome::Rejected(reason) => {
                    rejected.add(&key, reason);
                    let write_permission =
                        self.subs.as_ref().map_or(0, |subs| subs.write_permission);
                    self.owed.insert(Owed { key: key.clone(), reason, write_permission });
                    let end = Final::Rejected { reason, write_permission };
                    settling.finals.push_back((key, end));
                }
                Outcome::Evicted => {
                    self.owed.remove(&key);
                    settling.finals.push_back((key, Final::Evicted));
                }
                Outcome::Deleted { tombstone } => {
                    self.owed.remove(&key);
                    settling.finals.push_back((key, Final::Deleted { tombstone }));
                }
            }
        }
        flight.attempt += u8::from(is_exceptional);
        flight.stage = Stage::Settling(settling);
        self.rejected_count += rejected.count;
        rejected.report(link);
        Ok(())
    }

    /// What was owed and is now accepted, or answered for good, leaves `owed`.
    fn forget_owed(&mut self, outcomes: &[(u32, Outcome)]) -> VecDeque<(DocKey, Final)> {
        let mut finals = VecDeque::new();
        let Some(flight) = self.flight.as_ref().filter(|_| !self.owed.is_empty()) else {
            return finals;
        };
        let mut outcomes = outcomes.iter().peekable();
        for (index, key) in (0..).zip(&flight.keys) {
            let is_accepted = outcomes.next_if(|(at, _)| *at == index).is_none();
            if is_accepted && self.owed.remove(key) {
                finals.push_back((key.clone(), Final::Accepted));
            }
        }
        finals
    }

    /// A frame of the update in flight, made when there is room for it.
    pub(crate) fn poll_frame(&mut self) -> Option<Bytes> {
        let frame = self.flight.as_mut()?.poll_frame()?;
        Some(super::frame::encode(&frame))
    }

    /// Tickets whose item is settled.
    pub(crate) fn take_released(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.released)
    }

    pub(crate) fn queue_mut(&mut self) -> &mut VecDeque<Queued> {
        &mut self.queue
    }

    /// Everything up to `txn` is settled there, and no reconciliation is under way. What was refused under another
    /// permission counts by no position: while it is offered again, nothing is settled.
    pub(crate) fn is_settled(&self, txn: Txn) -> bool {
        let is_live = matches!(self.phase, Phase::Live(_)) && !self.is_restarting;
        let is_offering = self.is_offering_again() && !is_planted(Plant::SyncedBeforeOwed);
        is_live && !is_offering && self.settled >= txn
    }

    /// The remote's answers are being kept: a deletion that one of them told is not here yet.
    pub(crate) fn is_settling(&self) -> bool {
        self.flight.as_ref().is_some_and(Flight::is_settling)
    }

    /// Documents are read or under way that no position covers.
    fn is_offering_again(&self) -> bool {
        let is_in_flight = self.flight.as_ref().is_some_and(|flight| flight.goal.is_none());
        is_in_flight || self.diff.is_some() || !self.wanted.is_empty() || !self.queue.is_empty()
    }

    /// The remote owes us an answer.
    pub(crate) fn is_awaiting(&self) -> bool {
        let is_offering = match &self.phase {
            Phase::Reconciling { offering, is_hold_ended } => {
                offering.is_awaiting() || !is_hold_ended
            }
            _ => false,
        };
        is_offering || self.flight.as_ref().is_some_and(Flight::is_awaiting)
    }

    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    pub(crate) fn settled(&self) -> Txn {
        self.settled
    }

    pub(crate) fn is_reconciling(&self) -> bool {
        matches!(self.phase, Phase::Reconciling { .. })
    }

    pub(crate) fn rejected_count(&self) -> u64 {
        self.rejected_count
    }
}

/// The documents that one acknowledgement refuses.
#[derive(Debug, Default)]
struct Rejections {
    listed: Vec<(DocKey, RejectReason)>,
    count: u64,
}

impl Rejections {
    fn add(&mut self, key: &DocKey, reason: RejectReason) {
        self.count += 1;
        if self.listed.len() < REJECTED_LISTED_MAX {
            self.listed.push((key.clone(), reason));
        }
    }

    /// Tells of all of them at once: an event for each would fill the queue of outputs.
    fn report(self, link: &mut Link) {
        if self.count > 0 {
            link.event(SessionEvent::Rejected { listed: self.listed, count: self.count });
        }
    }
}

/// What the remote may read, as its cursor names it and as it is told.
#[derive(Debug)]
struct Readable {
    hash: AccessHash,
    /// JSON; none when it is everything.
    text: Option<Bytes>,
}

impl Readable {
    fn new(access: &Access) -> Self {
        let text = (!access.is_everything()).then(|| Bytes::from(access.to_text()));
        let is_sayable = text.as_ref().is_none_or(|text| text.len() <= GRANT_BYTES_MAX);
        assert!(is_sayable, "no session is opened for permissions that it could not say");
        Self { hash: access.hash(), text }
    }
}

/// What an item adds to an update, at most.
fn item_bytes(item: &UpdateItem) -> usize {
    let key_bytes = item.key.collection.len() + item.key.id.as_bytes().len();
    ITEM_OVERHEAD_BYTES + key_bytes + body_bytes(&item.body)
}

fn body_bytes(body: &ItemBody) -> usize {
    match body {
        ItemBody::Delta { bytes, .. } | ItemBody::Tombstone { bytes } => bytes.len(),
        ItemBody::Left { .. } | ItemBody::Evicted => 0,
    }
}

/// Kind, digest and the three lengths.
const ITEM_OVERHEAD_BYTES: usize = 32;

fn issue_diff(
    wanted: Vec<Wanted>,
    credit_bytes: usize,
    link: &mut Link,
) -> (CommandId, Vec<Wanted>) {
    let asked = wanted.clone();
    let id = link.command(|id| HostCommand::Diff { id, wanted: asked, credit_bytes });
    (id, wanted)
}

/// Pairs what was asked for with what was answered; the rest is asked for again.
fn match_diffs(
    mut wanted: Vec<Wanted>,
    items: Vec<Option<ItemBody>>,
) -> Result<(Vec<UpdateItem>, Vec<Wanted>), CloseReason> {
    if items.is_empty() || items.len() > wanted.len() {
        let (answered, asked) = (items.len(), wanted.len());
        return Err(CloseReason::HostFailed(format!("{answered} diffs for {asked} documents")));
    }
    let rest = wanted.split_off(items.len());
    let found = wanted.into_iter().zip(items);
    let found =
        found.filter_map(|(wanted, body)| Some(UpdateItem { key: wanted.key, body: body? }));
    Ok((found.collect(), rest))
}
