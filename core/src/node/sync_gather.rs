//! Answers of several partitions to one command of a session, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::sync_ask::{Answer, Ask, GatherId};
use super::sync_host::SessionId;
use crate::document::Delta;
use crate::ident::{DocId, PartitionId};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::ChangeCursor;
use crate::sync::{
    CommandId, Cursor, DocKey as SyncKey, Final, HostEvent, Interest, ItemBody, Offered, Outcome,
    Part, Position, RemoteRecord, UpdateItem, Verdict, Wanted,
};
use crate::time::CLOCK_AHEAD_MS;

/// What is being gathered for one command.
#[derive(Debug)]
pub(crate) struct Gather {
    session: SessionId,
    command: CommandId,
    /// How many partitions are still to answer.
    missing: usize,
    pub(crate) parts: Parts,
}

#[derive(Debug)]
pub(crate) enum Parts {
    Remote(Box<RemoteRecord>),
    /// Of a watch, from one partition.
    Collected {
        items: Vec<UpdateItem>,
        next: Option<ChangeCursor>,
    },
    /// Waits for a touch.
    Stir,
    /// Of a scan, from one partition.
    Scanned {
        items: Vec<Offered>,
        next: Option<(Arc<str>, DocId)>,
    },
    /// Collections of which we ask for more than we may read.
    Unreadable(BTreeSet<Box<str>>),
    Verdicts(Vec<Verdict>),
    /// Those that were given so far; a place may be without an answer for want of credit.
    Diffs(Vec<Option<Option<ItemBody>>>),
    Judged {
        keys: Vec<SyncKey>,
        /// The places of those of which the sender says that they left: nothing of them is merged.
        left: BTreeSet<usize>,
        verdict_for: JudgedFor,
        outcomes: Vec<Outcome>,
        deltas: Vec<Option<Arc<Delta>>>,
    },
}

/// Why items were judged.
#[derive(Debug)]
pub(crate) enum JudgedFor {
    /// They are an update, which leads to this cursor. The remote's log had come so far when it read them.
    Update { cursor: Option<Cursor>, reached: Option<Position> },
    /// They are the tombstones of an acknowledgement, beside which these items have ended.
    Acknowledgement { ends: Vec<(SyncKey, Final)>, reached: Option<Position> },
}

impl Gather {
    fn new(session: SessionId, command: CommandId, missing: usize, parts: Parts) -> Self {
        Self { session, command, missing, parts }
    }

    pub(crate) fn remote(session: SessionId, command: CommandId) -> Self {
        Self::new(session, command, 1, Parts::Remote(Box::default()))
    }

    pub(crate) fn collect(session: SessionId, watch: CommandId) -> Self {
        Self::new(session, watch, 1, Parts::Collected { items: Vec::new(), next: None })
    }

    pub(crate) fn stir(session: SessionId, watch: CommandId, partitions: u16) -> Self {
        Self::new(session, watch, usize::from(partitions), Parts::Stir)
    }

    pub(crate) fn unreadable(
        session: SessionId,
        collections: BTreeSet<Box<str>>,
        partitions: u16,
    ) -> Self {
        let command = CommandId::default();
        Self::new(session, command, usize::from(partitions), Parts::Unreadable(collections))
    }

    fn scan(session: SessionId, scan: CommandId) -> Self {
        Self::new(session, scan, 1, Parts::Scanned { items: Vec::new(), next: None })
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn command(&self) -> CommandId {
        self.command
    }

    /// Takes one partition's answer; true when it was the last.
    pub(crate) fn take(&mut self, answer: Answer) -> bool {
        match (&mut self.parts, answer) {
            (Parts::Remote(record), Answer::Remote(found)) => *record = found,
            (Parts::Collected { items, next }, Answer::Collected { items: more, next: place }) => {
                items.extend(more);
                *next = place;
            }
            (Parts::Scanned { items, next }, Answer::Scanned { items: more, next: place }) => {
                items.extend(more);
                *next = place;
            }
            (Parts::Unreadable(collections), Answer::Unreadable(found)) => {
                collections.extend(found);
            }
            (Parts::Verdicts(verdicts), Answer::Compared(answers)) => {
                for (place, verdict) in answers {
                    verdicts[place] = verdict;
                }
            }
            (Parts::Diffs(diffs), Answer::Diffs(answers)) => {
                for (place, diff) in answers {
                    diffs[place] = Some(diff);
                }
            }
            (Parts::Judged { outcomes, deltas, .. }, Answer::Judged(answers)) => {
                for (place, outcome, delta) in answers {
                    outcomes[place] = outcome;
                    deltas[place] = delta;
                }
            }
            // An answer of another shape is a bug of ours, but no reason to lose the session's other answers.
            (_, answer) => debug_assert!(false, "an answer fits its question: {answer:?}"),
        }
        self.missing -= 1;
        self.missing == 0
    }
}

impl Node {
    pub(crate) fn on_gathered(
        &mut self,
        gather: GatherId,
        from: PartitionId,
        gathered: Gather,
        now: Now,
    ) {
        let Gather { session, command: id, parts, .. } = gathered;
        match parts {
            Parts::Remote(record) => self.on_remote_record(session, id, record, now),
            Parts::Collected { items, next } => {
                if self.is_awaited(session, id, gather, from) {
                    self.on_collected(session, id, items, next, now);
                }
            }
            Parts::Stir => {}
            Parts::Scanned { items, next } => self.on_scanned(session, id, items, next, now),
            Parts::Unreadable(collections) => self.on_unreadable(session, collections),
            Parts::Verdicts(verdicts) => {
                self.tell(session, HostEvent::Verdicts { id, verdicts }, now);
            }
            Parts::Diffs(items) => {
                // In order: what comes behind the first that is missing is asked for again.
                let items = items.into_iter().map_while(|given| given).collect();
                self.tell(session, HostEvent::Diffs { id, items }, now);
            }
            Parts::Judged { keys, left, verdict_for, mut outcomes, mut deltas } => {
                match verdict_for {
                    JudgedFor::Update { cursor, reached } => {
                        let is_group = self.config.is_device && cursor.is_some();
                        if is_group && !is_planted(Plant::UpdateHalved) {
                            hold_together(&mut outcomes, &mut deltas, &left);
                        }
                        self.on_judged(session, id, keys, (cursor, reached), outcomes, deltas, now);
                    }
                    JudgedFor::Acknowledgement { ends, reached } => {
                        let judged = keys.into_iter().zip(outcomes).zip(deltas);
                        let judged = judged.map(|((key, outcome), delta)| (key, outcome, delta));
                        self.finish_settling(session, id, ends, judged.collect(), reached, now);
                    }
                }
            }
        }
    }

    pub(crate) fn start_scan(
        &mut self,
        session: SessionId,
        scan: CommandId,
        part: Part,
        interest: &Interest,
        batch_count: usize,
        now: Now,
    ) {
        let theirs = match part {
            Part::Provide => interest.clone(),
            Part::Hold => Interest::default(),
        };
        match self.filter(session, &theirs) {
            Ok(filter) => {
                let started = super::sync_host::Scan {
                    part,
                    filter,
                    started_at: now.durable,
                    batch_count,
                    partition: PartitionId(0),
                    after: None,
                };
                if let Some(hosted) = self.sync.sessions.get_mut(&session) {
                    hosted.scans.insert(scan, started);
                }
                self.scan_more(session, scan);
            }
            Err(reason) => self.tell(session, HostEvent::Failed { reason }, now),
        }
    }

    pub(crate) fn scan_more(&mut self, session: SessionId, scan: CommandId) {
        let Some(app) = self.session_app(session) else { return };
        let Some(state) = self.sync.sessions.get(&session).and_then(|h| h.scans.get(&scan)) else {
            return;
        };
        let ask = Ask::Scan {
            filter: state.filter.clone(),
            part: state.part,
            after: state.after.clone(),
            count: state.batch_count,
        };
        let (to, at) = (state.partition, state.started_at);
        let gather = self.add_gather(Gather::scan(session, scan));
        self.ask(to, gather, app, at, ask);
    }

    fn on_scanned(
        &mut self,
        session: SessionId,
        scan: CommandId,
        items: Vec<Offered>,
        next: Option<(Arc<str>, DocId)>,
        now: Now,
    ) {
        let partitions = self.config.partitions;
        let Some(hosted) = self.sync.sessions.get_mut(&session) else { return };
        let Some(state) = hosted.scans.get_mut(&scan) else { return };
        let started_at =
            if is_planted(Plant::PositionReadLate) { now.durable } else { state.started_at };
        let mut done = false;
        if next.is_some() {
            state.after = next;
        } else {
            state.after = None;
            state.partition.0 += 1;
            done = state.partition.0 == partitions;
        }
        if done {
            hosted.scans.remove(&scan);
        } else if items.is_empty() {
            return self.scan_more(session, scan);
        }
        self.tell(session, HostEvent::Held { scan, started_at, items, done }, now);
    }

    pub(crate) fn gather_compare(
        &mut self,
        session: SessionId,
        id: CommandId,
        part: Part,
        offered: Vec<Offered>,
        now: Now,
    ) {
        let verdicts = vec![Verdict::Same; offered.len()];
        if offered.is_empty() {
            return self.tell(session, HostEvent::Verdicts { id, verdicts }, now);
        }
        let theirs = self.remote_interest(session);
        let asks = self.by_owner(session, offered, |offered| &offered.key);
        let ask = |offered| Ask::Compare { filter: theirs.clone(), part, offered };
        self.gather(session, id, Parts::Verdicts(verdicts), asks, ask, now);
    }

    pub(crate) fn gather_diff(
        &mut self,
        session: SessionId,
        id: CommandId,
        wanted: Vec<Wanted>,
        credit_bytes: usize,
        now: Now,
    ) {
        let items = vec![None; wanted.len()];
        if wanted.is_empty() {
            return self.tell(session, HostEvent::Diffs { id, items: Vec::new() }, now);
        }
        let filter = self.remote_interest(session);
        let asks = self.by_owner(session, wanted, |wanted| &wanted.key);
        let credit_bytes = credit_bytes / asks.len().max(1);
        let ask = |wanted| Ask::Diff { filter: filter.clone(), wanted, credit_bytes };
        self.gather(session, id, Parts::Diffs(items), asks, ask, now);
    }

    pub(crate) fn gather_judge(
        &mut self,
        session: SessionId,
        id: CommandId,
        items: Vec<UpdateItem>,
        verdict_for: JudgedFor,
        now: Now,
    ) {
        let keys: Vec<SyncKey> = items.iter().map(|item| item.key.clone()).collect();
        let is_left = |item: &UpdateItem| matches!(item.body, ItemBody::Left { .. });
        let parts = Parts::Judged {
            outcomes: vec![Outcome::Accepted; keys.len()],
            deltas: vec![None; keys.len()],
            left: (0..items.len()).filter(|place| is_left(&items[*place])).collect(),
            keys,
            verdict_for,
        };
        if items.is_empty() {
            // Nobody is asked, and nothing is waited for.
            let gathered = Gather::new(session, id, 0, parts);
            return self.on_gathered(GatherId(0), self.config.partition, gathered, now);
        }
        let filter = self.remote_interest(session);
        let ahead = if self.config.is_device { DEVICE_CLOCK_AHEAD_MS } else { CLOCK_AHEAD_MS };
        let clock_ms_max = now.wall.0.max(self.clock_wall_max.0).saturating_add(ahead);
        let asks = self.by_owner(session, items, |item| &item.key);
        let ask = |items| Ask::Judge { filter: filter.clone(), clock_ms_max, items };
        self.gather(session, id, parts, asks, ask, now);
    }

    #[allow(clippy::too_many_arguments, reason = "one call site, all of it the judged update")]
    fn on_judged(
        &mut self,
        session: SessionId,
        id: CommandId,
        keys: Vec<SyncKey>,
        (cursor, reached): (Option<Cursor>, Option<Position>),
        outcomes: Vec<Outcome>,
        deltas: Vec<Option<Arc<Delta>>>,
        now: Now,
    ) {
        let settled = outcomes.iter().all(|outcome| *outcome == Outcome::Accepted)
            || is_planted(Plant::CursorBeforeAck);
        let newest = deltas
            .iter()
            .flatten()
            .flat_map(|delta| delta.raised())
            .filter(|dot| dot.actor.0[..8] == self.session_peer(session).0[..8])
            .max_by_key(|dot| dot.hlc)
            .map(|dot| (dot.actor, dot.hlc));
        let cursor = cursor.filter(|_| settled);
        let seen = self.advance_record(session, None, newest);
        self.write_later(session, seen);
        self.append_update(session, id, keys, deltas, outcomes, (cursor, reached), now);
    }

    fn gather<T>(
        &mut self,
        session: SessionId,
        id: CommandId,
        parts: Parts,
        asks: BTreeMap<PartitionId, Vec<(usize, T)>>,
        ask: impl Fn(Vec<(usize, T)>) -> Ask,
        now: Now,
    ) {
        let Some(app) = self.session_app(session) else { return };
        let gather: GatherId = self.add_gather(Gather::new(session, id, asks.len(), parts));
        for (owner, items) in asks {
            self.ask(owner, gather, app, now.durable, ask(items));
        }
    }

    fn by_owner<T>(
        &self,
        session: SessionId,
        items: Vec<T>,
        key: impl Fn(&T) -> &SyncKey,
    ) -> BTreeMap<PartitionId, Vec<(usize, T)>> {
        let mut groups: BTreeMap<PartitionId, Vec<(usize, T)>> = BTreeMap::new();
        let Some(app) = self.session_app(session) else { return groups };
        for (place, item) in items.into_iter().enumerate() {
            let owner = self.owner(app, &key(&item).collection, &key(&item).id);
            groups.entry(owner).or_default().push((place, item));
        }
        groups
    }
}

/// Holds a whole group back when we have another state of one of its documents than the sender thought: what is written
/// together shall be seen together. The sender tells a group of one update anew.
///
/// A document that left for the sender and not for us, or that we do not have, holds nothing back: that is how documents
/// leave and enter an interest, and it comes by itself.
fn hold_together(
    outcomes: &mut [Outcome],
    deltas: &mut [Option<Arc<Delta>>],
    left: &BTreeSet<usize>,
) {
    let is_mistaken = |(place, outcome): (usize, &Outcome)| {
        matches!(outcome, Outcome::NeedBase { vector: Some(_) }) && !left.contains(&place)
    };
    if !outcomes.iter().enumerate().any(is_mistaken) {
        return;
    }
    for outcome in outcomes.iter_mut() {
        if let Outcome::NeedBase { vector: vector @ None } = outcome {
            *vector = Some(Bytes::new());
        }
    }
    for (outcome, delta) in outcomes.iter_mut().zip(deltas) {
        if delta.take().is_some() {
            *outcome = Outcome::NeedBase { vector: None };
        }
    }
}

/// A device accepts what its server has accepted, whatever its own clock says within a day.
const DEVICE_CLOCK_AHEAD_MS: u64 = 24 * 3_600_000;
