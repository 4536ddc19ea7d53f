//! Watches: what was touched since a position, read from all partitions at one later position.

use std::sync::Arc;

use super::Node;
use super::sync_ask::{Ask, RemoteFilter};
use super::sync_gather::Gather;
use super::sync_host::SessionId;
use crate::ident::{PartitionId, PeerKey, Txn};
use crate::plant::{Plant, is_planted};
use crate::seam::Now;
use crate::store::ChangeCursor;
use crate::sync::{CommandId, HostEvent, UpdateItem};

/// One watch of a session.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) filter: Arc<RemoteFilter>,
    wish: Option<Wish>,
    group: Option<Group>,
}

/// What the session waits for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    after: Txn,
    until: Option<Txn>,
    credit_bytes: usize,
}

/// An update being read: everything touched in `(after, at]`, as of `at`.
#[derive(Debug)]
struct Group {
    after: Txn,
    at: Txn,
    partition: PartitionId,
    from: ChangeCursor,
    items: Vec<UpdateItem>,
    has_given: bool,
}

impl Watch {
    pub(crate) fn new(filter: Arc<RemoteFilter>) -> Self {
        Self { filter, wish: None, group: None }
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
        after: Txn,
        until: Option<Txn>,
        credit_bytes: usize,
        now: Now,
    ) {
        let Some(watch) = self.watch(session, id) else { return };
        watch.wish = Some(Wish { after, until, credit_bytes });
        if watch.group.as_ref().is_some_and(|group| group.after != after) {
            watch.group = None;
        }
        if watch.group.is_none() {
            watch.open(after, now.durable);
        }
        self.collect_next(session, id);
    }

    /// Asks the next partition for its part of the open group.
    fn collect_next(&mut self, session: SessionId, id: CommandId) {
        let Some(app) = self.session_app(session) else { return };
        let Some(watch) = self.watch(session, id) else { return };
        let (Some(wish), Some(group)) = (watch.wish, watch.group.as_ref()) else { return };
        let ask = Ask::Collect {
            filter: watch.filter.clone(),
            after: group.after,
            from: group.from,
            credit_bytes: wish.credit_bytes,
        };
        let (to, at) = (group.partition, group.at);
        let gather = self.add_gather(Gather::collect(session, id));
        self.ask(to, gather, app, at, ask);
    }

    pub(crate) fn on_collected(
        &mut self,
        session: SessionId,
        id: CommandId,
        from: PartitionId,
        items: Vec<UpdateItem>,
        next: Option<ChangeCursor>,
        now: Now,
    ) {
        let partitions = self.config.partitions;
        let Some(watch) = self.watch(session, id) else { return };
        let (Some(wish), Some(group)) = (watch.wish, watch.group.as_mut()) else { return };
        if group.partition != from {
            return;
        }
        group.items.extend(items);
        match next {
            Some(place) => group.from = place,
            None => {
                group.partition.0 += 1;
                group.from = ChangeCursor::after(group.after);
            }
        }
        let skipped = u16::from(partitions > 1 && is_planted(Plant::PartitionSkipped));
        if group.partition.0 == partitions - skipped {
            return self.close_group(session, id, wish, now);
        }
        if next.is_some() {
            group.has_given = true;
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
            if until <= now.durable {
                // It became durable while the group was read, and perhaps no commit follows.
                watch.open(wish.after, now.durable);
                return self.collect_next(session, id);
            }
            self.sync.waiting_commit.push((session, id));
            return;
        }
        let Some(app) = self.session_app(session) else { return };
        let gather = self.add_gather(Gather::stir(session, id, self.config.partitions));
        for partition in 0..self.config.partitions {
            self.ask(PartitionId(partition), gather, app, group.at, Ask::Stir(session));
        }
    }

    /// Something was touched since an empty group was closed.
    pub(crate) fn on_stirred(&mut self, session: SessionId, id: CommandId, now: Now) {
        let Some(watch) = self.watch(session, id) else { return };
        let Some(wish) = watch.wish.filter(|_| watch.group.is_none()) else { return };
        watch.open(wish.after, now.durable);
        self.collect_next(session, id);
    }

    /// A commit was applied: watches that wait for a position look again.
    pub(crate) fn wake_watches(&mut self, now: Now) {
        for (session, id) in std::mem::take(&mut self.sync.waiting_commit) {
            self.on_stirred(session, id, now);
        }
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
            has_given: false,
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
        })
    }
}
