//! Watches: what was touched since a position, read from all partitions at one later position.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Node;
use super::sync_ask::{Ask, GatherId, RemoteFilter};
use super::sync_gather::Gather;
use super::sync_host::SessionId;
use super::sync_source::body_size_bytes;
use crate::ident::{PartitionId, PeerKey, Txn};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::ChangeCursor;
use crate::sync::{CommandId, DocKey, HostEvent, Lacking, UpdateItem};

/// One watch of a session.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) filter: Arc<RemoteFilter>,
    wish: Option<Wish>,
    group: Option<Group>,
    /// The owners were asked to tell of the next touch.
    stir: Option<GatherId>,
    /// States that the remote has of documents of which it was thought to have others.
    lacking: Arc<Lacking>,
}

/// What the session waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) after: Txn,
    pub(crate) until: Option<Txn>,
    pub(crate) credit_bytes: usize,
}

/// An update being read: everything touched in `(after, at]`, as of `at`.
#[derive(Debug)]
struct Group {
    after: Txn,
    at: Txn,
    partition: PartitionId,
    from: ChangeCursor,
    items: Vec<UpdateItem>,
    items_bytes: usize,
    has_given: bool,
    /// Documents of the partition that were given although they were touched after `at`. A touch moves a document to the
    /// end of what is looked through: without this, a remote that answers what it is told by touching it again would
    /// be told the same for ever.
    given_beyond: BTreeSet<DocKey>,
    /// The question that is under way. Its answer alone belongs to this group: one that was asked for a former
    /// group says nothing about what was committed since.
    asked: Option<GatherId>,
}

impl Watch {
    pub(crate) fn new(filter: Arc<RemoteFilter>) -> Self {
        Self { filter, wish: None, group: None, stir: None, lacking: Arc::default() }
    }

    /// The questions under way, whose answers nobody waits for any more.
    fn take_asked(&mut self) -> impl Iterator<Item = GatherId> + use<> {
        let asked = self.group.take().and_then(|group| group.asked);
        asked.into_iter().chain(self.stir.take())
    }

    /// The position that the open group reads at: versions as of there must be kept.
    pub(crate) fn read_at(&self) -> Option<Txn> {
        self.group.as_ref().map(|group| group.at)
    }
}

impl Node {
    pub(crate) fn watch_more(
        &mut self,
        session: SessionId,
        id: CommandId,
        wish: Wish,
        lacking: Arc<Lacking>,
        now: Now,
    ) {
        let Some(watch) = self.watch(session, id) else { return };
        watch.wish = Some(wish);
        watch.lacking = lacking;
        let is_open = watch.group.as_ref().is_some_and(|group| group.after == wish.after);
        if !is_open {
            self.open_group(session, id, wish.after, now);
        }
        self.collect_next(session, id);
    }

    /// Begins a group as of now. What was asked for a former one is not waited for.
    fn open_group(&mut self, session: SessionId, id: CommandId, after: Txn, now: Now) {
        self.forget_asked(session, id);
        if let Some(watch) = self.watch(session, id) {
            watch.open(after, now.durable);
        }
    }

    /// Gives up the open group of a watch and its wait for a touch: answers to either are dropped.
    fn forget_asked(&mut self, session: SessionId, id: CommandId) {
        let Some(watch) = self.watch(session, id) else { return };
        for gather in watch.take_asked() {
            self.sync.gathers.remove(&gather);
        }
    }

    pub(crate) fn unwatch(&mut self, session: SessionId, id: CommandId) {
        self.forget_asked(session, id);
        if let Some(hosted) = self.sync.sessions.get_mut(&session) {
            hosted.watches.remove(&id);
        }
    }

    /// Asks the next partition for its part of the open group, unless it is asked already.
    fn collect_next(&mut self, session: SessionId, id: CommandId) {
        let Some(app) = self.session_app(session) else { return };
        let Some(watch) = self.watch(session, id) else { return };
        let (Some(wish), Some(group)) = (watch.wish, watch.group.as_ref()) else { return };
        if group.asked.is_some() && !is_planted(Plant::LateAnswerTaken) {
            return;
        }
        let ask = Ask::Collect {
            filter: watch.filter.clone(),
            lacking: watch.lacking.clone(),
            after: group.after,
            from: group.from,
            credit_bytes: wish.credit_bytes.saturating_sub(group.items_bytes).max(1),
        };
        let (to, at) = (group.partition, group.at);
        let gather = self.add_gather(Gather::collect(session, id));
        if let Some(group) = self.watch(session, id).and_then(|watch| watch.group.as_mut()) {
            group.asked = Some(gather);
        }
        self.ask(to, gather, app, at, ask);
    }

    /// True for the answer that the open group waits for. Another was asked for a former one.
    pub(crate) fn is_awaited(
        &mut self,
        session: SessionId,
        id: CommandId,
        gather: GatherId,
        from: PartitionId,
    ) -> bool {
        let group = self.watch(session, id).and_then(|watch| watch.group.as_ref());
        group.is_some_and(|group| match is_planted(Plant::LateAnswerTaken) {
            true => group.partition == from,
            false => group.asked == Some(gather),
        })
    }

    pub(crate) fn on_collected(
        &mut self,
        session: SessionId,
        id: CommandId,
        items: Vec<UpdateItem>,
        next: Option<ChangeCursor>,
        now: Now,
    ) {
        let partitions = self.config.partitions;
        let Some(watch) = self.watch(session, id) else { return };
        let (Some(wish), Some(group)) = (watch.wish, watch.group.as_mut()) else { return };
        group.asked = None;
        let mut items = items;
        if group.from.txn > group.at && !is_planted(Plant::ToldAtEachTouch) {
            items.retain(|item| group.given_beyond.insert(item.key.clone()));
        }
        group.items_bytes += items.iter().map(|item| body_size_bytes(&item.body)).sum::<usize>();
        group.items.extend(items);
        match next {
            Some(place) => group.from = place,
            None => {
                group.partition.0 += 1;
                group.from = ChangeCursor::after(group.after);
                group.given_beyond.clear();
            }
        }
        let skipped = u16::from(partitions > 1 && is_planted(Plant::PartitionSkipped));
        if group.partition.0 == partitions - skipped {
            return self.close_group(session, id, wish, now);
        }
        if next.is_some() || group.items_bytes >= wish.credit_bytes {
            group.has_given = true;
            group.items_bytes = 0;
            let items = std::mem::take(&mut group.items);
            watch.wish = None;
            return self.tell(session, HostEvent::Touched { watch: id, items, upto: None }, now);
        }
        self.collect_next(session, id);
    }

    /// Every partition has given its part: hands the group over, or waits for a touch when it is empty.
    fn close_group(&mut self, session: SessionId, id: CommandId, wish: Wish, now: Now) {
        let Some(watch) = self.watch(session, id) else { return };
        let Some(group) = watch.group.take() else { return };
        let is_wanted = group.has_given
            || !group.items.is_empty()
            || wish.until.is_some_and(|until| until <= group.at);
        if is_wanted {
            watch.wish = None;
            let event = HostEvent::Touched { watch: id, items: group.items, upto: Some(group.at) };
            return self.tell(session, event, now);
        }
        if let Some(until) = wish.until {
            // It became durable while the group was read, and perhaps no commit follows. The call that made the wish may
            // have come with a message of a thread that had looked at the log later than this one has so far.
            let durable = now.durable.max(until);
            let is_known = durable == now.durable || !is_planted(Plant::ThreadsLookAtOnce);
            assert!(is_known, "a session wants what was durable when it was called");
            self.open_group(session, id, wish.after, Now { durable, ..now });
            return self.collect_next(session, id);
        }
        let Some(app) = self.session_app(session) else { return };
        let gather = self.add_gather(Gather::stir(session, id, self.config.partitions));
        if let Some(watch) = self.watch(session, id) {
            watch.stir = Some(gather);
        }
        for partition in 0..self.config.partitions {
            self.ask(PartitionId(partition), gather, app, group.at, Ask::Stir(session));
        }
    }

    /// Something was touched since an empty group was closed.
    pub(crate) fn on_stirred(&mut self, session: SessionId, id: CommandId, now: Now) {
        let Some(watch) = self.watch(session, id) else { return };
        let Some(wish) = watch.wish.filter(|_| watch.group.is_none()) else { return };
        self.open_group(session, id, wish.after, now);
        self.collect_next(session, id);
    }

    fn watch(&mut self, session: SessionId, id: CommandId) -> Option<&mut Watch> {
        self.sync.sessions.get_mut(&session)?.watches.get_mut(&id)
    }

    pub(crate) fn session_peer(&self, session: SessionId) -> PeerKey {
        self.sync.sessions.get(&session).map_or_else(PeerKey::default, |hosted| hosted.peer)
    }

    /// The filter of the session's newest watch: what the remote asks for, and what we ask of it.
    pub(crate) fn remote_interest(&self, session: SessionId) -> Arc<RemoteFilter> {
        self.sync
            .sessions
            .get(&session)
            .and_then(|hosted| hosted.watches.values().next_back())
            .map(|watch| watch.filter.clone())
            .or_else(|| self.filter(session, &crate::sync::Interest::default()).ok())
            .unwrap_or_else(RemoteFilter::nothing)
    }
}

impl Watch {
    fn open(&mut self, after: Txn, at: Txn) {
        self.group = Some(Group {
            after,
            at: at.max(after),
            partition: PartitionId(0),
            from: ChangeCursor::after(after),
            items: Vec::new(),
            items_bytes: 0,
            has_given: false,
            given_beyond: BTreeSet::new(),
            asked: None,
        });
    }
}

impl RemoteFilter {
    /// Permits and asks for nothing: for a session that is over.
    fn nothing() -> Arc<Self> {
        Arc::new(Self {
            peer: PeerKey::default(),
            permissions: Arc::default(),
            theirs: Arc::new(super::sync_ask::CompiledInterest::Queries(Vec::new())),
            ours: Arc::new(super::sync_ask::CompiledInterest::Queries(Vec::new())),
            recalls_bases: false,
        })
    }
}
