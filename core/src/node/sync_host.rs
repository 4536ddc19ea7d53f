//! The host of sync sessions: turns what a session asks into questions to the owners of documents, and their
//! answers back.
//!
//! A session lives at the node of the thread that accepted its connection. The first frame of each side is a
//! greeting with its peer key; the session begins when both are known. An update that a session sends is read at
//! one durable position from every partition, so that a transaction is in it whole or not at all; an update that
//! it receives becomes one record.

mod commands;
mod interest;
mod lifecycle;
mod remotes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::interest::compile_subscription;
pub use self::interest::{check_subscription, subscription_bytes};
use super::message::Body;
use super::request::Credential;
use super::sync_applied::Applying;
use super::sync_ask::{Answer, Ask, FromSession, GatherId, RemoteFilter, ToSession};
use super::sync_gather::Gather;
use super::sync_owed::Refusals;
use super::sync_remotes::Remotes;
use super::sync_source::Stir;
use super::sync_watch::Watch;
use super::sync_wire::RecordChange;
use super::{Node, NodeLimits, Output};
use crate::auth::Grant;
use crate::ident::{AppId, PartitionId, PeerKey, StoreId, Txn, TxnId};
use crate::plant::{Plant, is_planted};
use crate::rng::Rng;
use crate::seam::Now;
use crate::sync::{
    BootTable, ByeReason, CloseReason, CommandId, DocKey as SyncKey, HostEvent, Part, RejectReason,
    RemoteRecord, Session, SessionEvent, SessionOutput,
};
use crate::time::Instant;
use crate::value::{Object, Value};

/// Names a session on its thread; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How a session begins. The connection is up; nothing was sent yet.
#[derive(Clone, Debug)]
pub struct SessionOpen {
    /// Whose documents.
    pub app: AppId,
    /// What the remote showed: a server checks it, a device passes `Credential::Local`.
    pub credential: Credential,
}

/// Something that happened to a session.
#[derive(Clone, Debug)]
pub enum SessionInput {
    /// Its connection is up.
    Open(SessionOpen),
    /// A whole frame arrived, not yet decoded, not yet trusted.
    Frame(Bytes),
    /// The application asks for the documents of these queries, instead of those before.
    Subscribe(Vec<(Box<str>, Object)>),
    /// The application wants to know when both sides agree.
    Probe,
    /// The application ends it.
    Close,
    /// The connection is gone.
    Closed,
}

/// What the owner of a session may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionReport {
    /// Introductions are over: documents may flow.
    Ready {
        /// Who it is.
        peer: PeerKey,
    },
    /// Every local commit that was durable when the probe was made is durable at the remote, and the remote has
    /// nothing for our subscriptions that is newer than what it had applied when it received the probe.
    Synced,
    /// A newer session of our own identity took this one's place at the remote: two that are one are alive.
    Replaced,
    /// The remote does not let us read all that we ask for. Said at each beginning of its sending, until nothing of
    /// the kind is left; nothing is said when there never was.
    Restricted {
        /// The collections of which we subscribe to documents that we may not read: none of the collection may be
        /// read, or we hold documents of others, from a time when we might. They stay as they are.
        collections: Vec<Box<str>>,
    },
    /// The remote does not take documents of ours.
    Rejected {
        /// Which, the first [`REJECTED_LISTED_MAX`](crate::sync::REJECTED_LISTED_MAX) of an update.
        listed: Vec<RejectedDocument>,
        /// How many of that update there are in all.
        count: u64,
    },
}

/// A document that a remote does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedDocument {
    /// Its collection.
    pub collection: Box<str>,
    /// Its id.
    pub id: Value,
    /// Why, for people.
    pub reason: Box<str>,
}

/// Who this store is, for its sessions.
#[derive(Clone, Debug)]
pub struct SyncIdentity {
    /// The directory.
    pub store: StoreId,
    /// The log and its boots.
    pub boots: BootTable,
    /// The public identity.
    pub peer_key: PeerKey,
    /// For people.
    pub name: Box<str>,
}

/// Sessions of this node, and what this partition keeps for sessions anywhere.
#[derive(Debug)]
pub(crate) struct SyncHost {
    pub(crate) sessions: BTreeMap<SessionId, Hosted>,
    pub(crate) gathers: BTreeMap<GatherId, Gather>,
    /// Received updates between their append and what apply made of them; one for each session at most.
    pub(crate) applying: BTreeMap<TxnId, Applying>,
    gather_next: u64,
    rng: Rng,
    pub(crate) remotes: Remotes,
    /// Records of sessions that are on their way to the log.
    appends_open: BTreeMap<SessionId, usize>,
    /// Sessions that are over while records of them are on their way.
    leaving: BTreeMap<SessionId, Leaving>,
    /// Questions about positions that are not applied yet.
    pub(crate) deferred: Vec<(PartitionId, FromSession)>,
    pub(crate) stirs: BTreeMap<(PartitionId, SessionId), Stir>,
    pub(crate) evict_generations: BTreeMap<AppId, u64>,
    settled_there: BTreeMap<AppId, Txn>,
    /// On a device: what of this partition's documents its remotes have refused.
    pub(crate) refusals: Refusals,
    subscriptions: Vec<(Box<str>, Object)>,
}

/// One session with what its host knows about it.
#[derive(Debug)]
pub(crate) struct Hosted {
    app: AppId,
    credential: Credential,
    /// What the credential was worth when the session began. The session ends with it, and when it changes.
    grant: Grant,
    /// None until the remote has greeted.
    pub(crate) session: Option<Box<Session>>,
    pub(crate) peer: PeerKey,
    /// The question by which the session asked for the record of its remote: it is admitted there, and must leave.
    visit: Option<GatherId>,
    /// What is kept about the remote, without `owed`.
    record: RemoteRecord,
    /// Nothing durable is kept about the remote. Then neither are its first nonces, until something of it is.
    is_unknown: bool,
    /// What is kept about the remote once something of it is, or with the next record that is written anyway.
    unwritten: Vec<RecordChange>,
    pub(crate) watches: BTreeMap<CommandId, Watch>,
    pub(crate) scans: BTreeMap<CommandId, Scan>,
    /// The bits of the remote's Hello; none before it.
    features: u64,
    was_ready: bool,
    was_restricted: bool,
    /// A new epoch was taken because of what it found.
    is_renewed: bool,
}

/// A session that is over, and whom it must leave.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    app: AppId,
    peer: PeerKey,
    visit: GatherId,
}

/// A scan over all partitions, one after the other.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) part: Part,
    pub(crate) filter: Arc<RemoteFilter>,
    pub(crate) started_at: Txn,
    pub(crate) batch_count: usize,
    pub(crate) partition: PartitionId,
    pub(crate) after: Option<(Arc<str>, crate::ident::DocId)>,
}

/// What to tell a session when its record is committed or refused.
#[derive(Clone, Debug)]
pub(crate) struct SessionAppend {
    pub(crate) session: SessionId,
    pub(crate) answer: AppendAnswer,
}

#[derive(Clone, Debug)]
pub(crate) enum AppendAnswer {
    Saved(CommandId),
    Renewed(CommandId),
    /// With the tombstones that were not taken.
    Settled(CommandId, Vec<(SyncKey, RejectReason)>),
    /// What apply made of the update with this id is being gathered.
    Applied(TxnId),
}

impl SyncHost {
    /// Everything that is kept for sessions is bounded by the sessions that there are.
    pub(crate) fn check_invariants(&self, partitions: u16, limits: &NodeLimits) {
        self.remotes.check_invariants(limits);
        // What a session appended is applied also when it has ended meanwhile: that ends with the record.
        let mut appenders = BTreeSet::new();
        let mut of_sessions =
            self.applying.values().filter(|of| self.sessions.contains_key(&of.session));
        let is_only_one = of_sessions.all(|applying| appenders.insert(applying.session));
        assert!(is_only_one, "a session has one update between append and apply");
        let is_of_a_session = |gather: &Gather| self.sessions.contains_key(&gather.session());
        assert!(self.gathers.values().all(is_of_a_session), "a gather ends with its session");
        let bound = self.sessions.len() * (GATHERS_OF_SESSION_MAX + usize::from(partitions));
        assert!(
            self.gathers.len() <= bound,
            "{} gathers are more than {bound}",
            self.gathers.len()
        );
    }

    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            sessions: BTreeMap::new(),
            gathers: BTreeMap::new(),
            applying: BTreeMap::new(),
            gather_next: 0,
            rng,
            remotes: Remotes::default(),
            appends_open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            deferred: Vec::new(),
            stirs: BTreeMap::new(),
            evict_generations: BTreeMap::new(),
            settled_there: BTreeMap::new(),
            refusals: Refusals::default(),
            subscriptions: Vec::new(),
        }
    }

    /// The next moment at which something is to be done for a session, or one of them ends.
    pub(crate) fn next_timer(&self, now: Now) -> Option<Instant> {
        if self.sessions.is_empty() {
            return None;
        }
        let sessions = self.sessions.values().filter_map(|hosted| hosted.session.as_ref());
        let timeout = sessions.filter_map(|session| session.poll_timeout()).min();
        Instant::earliest([timeout, self.next_expiry(now)])
    }

    /// When the first credential of a session expires, if wall time goes on as monotonic time does.
    pub(crate) fn next_expiry(&self, now: Now) -> Option<Instant> {
        if is_planted(Plant::PermissionKept) {
            return None;
        }
        let expiries = self.sessions.values().filter_map(|hosted| hosted.grant.expires);
        let left_ms = expiries.min()?.0.saturating_sub(now.wall.0);
        // Whoever never expires has an end beyond every clock.
        (left_ms <= EXPIRY_TIMER_MS_MAX).then(|| now.mono.after(Duration::from_millis(left_ms)))
    }

    /// True when nothing here waits for the log to be applied further.
    pub(crate) fn is_settled(&self) -> bool {
        self.deferred.is_empty()
    }

    /// How often documents of `app` were evicted here: a remote must offer them again.
    pub(crate) fn evict_generation(&self, app: AppId) -> u64 {
        self.evict_generations.get(&app).copied().unwrap_or(0)
    }

    /// How often anything was evicted here.
    pub(crate) fn evictions(&self) -> u64 {
        self.evict_generations.values().sum()
    }

    /// Every edit of `app` up to here is settled at a server: taken, or refused and then named in `owed`.
    pub(crate) fn settled_there(&self, app: AppId) -> Txn {
        self.settled_there.get(&app).copied().unwrap_or_default()
    }

    pub(crate) fn note_settled_there(&mut self, app: AppId, upto: Txn) {
        let settled = self.settled_there.entry(app).or_default();
        *settled = upto.max(*settled);
    }

    pub(crate) fn forget_settled_there(&mut self, app: AppId) {
        self.settled_there.remove(&app);
    }

    pub(crate) fn count_evict(&mut self, app: AppId) {
        *self.evict_generations.entry(app).or_default() += 1;
    }
}

impl Node {
    /// Documents that remotes have refused for their clock, each as often as there are such remotes.
    #[must_use]
    pub fn parked_count(&self) -> usize {
        self.sync.remotes.parked_count()
    }

    pub(crate) fn on_session(&mut self, id: SessionId, input: SessionInput, now: Now) {
        match input {
            SessionInput::Open(open) => self.open_session(id, open, now),
            SessionInput::Frame(frame) => self.on_session_frame(id, &frame, now),
            SessionInput::Subscribe(queries) => self.subscribe(id, queries, now),
            SessionInput::Probe => {
                self.with_session(id, now, |session| {
                    session.probe(now);
                });
            }
            SessionInput::Close => {
                self.with_session(id, now, |session| session.close(ByeReason::Shutdown));
            }
            SessionInput::Closed => self.forget_session(id),
        }
    }

    /// Acts on a session and carries out what it asks for.
    pub(crate) fn with_session(&mut self, id: SessionId, now: Now, act: impl FnOnce(&mut Session)) {
        let Some(session) = self.sync.sessions.get_mut(&id).and_then(|h| h.session.as_mut()) else {
            return;
        };
        act(session);
        self.drain_session(id, now);
    }

    fn drain_session(&mut self, id: SessionId, now: Now) {
        while let Some(output) = self
            .sync
            .sessions
            .get_mut(&id)
            .and_then(|hosted| hosted.session.as_mut())
            .and_then(|session| session.poll_output())
        {
            match output {
                SessionOutput::Frame(frame) => {
                    self.outputs.push_back(Output::Frame { session: id, frame });
                }
                SessionOutput::Host(command) => self.on_host_command(id, command, now),
                SessionOutput::Close { reason } => {
                    if matches!(reason, CloseReason::Remote { reason: ByeReason::Replaced, .. }) {
                        let report = SessionReport::Replaced;
                        self.outputs.push_back(Output::SessionReport { session: id, report });
                    }
                    self.close_connection(id, &reason.to_string());
                    return;
                }
                SessionOutput::Event(event) => self.on_session_event(id, event, now),
            }
        }
    }

    /// What a server has of a device's edits, every partition has to know: each judges EVICT of its documents.
    fn tell_settled_there(&mut self, app: AppId, upto: Txn) {
        if !self.config.is_device || self.sync.settled_there(app) >= upto {
            return;
        }
        self.sync.note_settled_there(app, upto);
        self.tell_others(app, || Ask::SettledThere(upto));
    }

    /// A server that was put back may have lost what a device would now forget.
    fn take_back_settled_there(&mut self, app: AppId) {
        if self.config.is_device && !is_planted(Plant::SettledForGood) {
            self.sync.forget_settled_there(app);
            self.tell_others(app, || Ask::UnsettledThere);
        }
    }

    fn tell_others(&mut self, app: AppId, ask: impl Fn() -> Ask) {
        for partition in (0..self.config.partitions).map(PartitionId) {
            if partition != self.config.partition {
                self.ask(partition, GatherId(0), app, Txn(0), ask());
            }
        }
    }

    fn on_session_event(&mut self, id: SessionId, event: SessionEvent, now: Now) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        if let SessionEvent::Connected(hello) = &event {
            hosted.features = hello.features;
        }
        let report = match event {
            SessionEvent::Synced { .. } => SessionReport::Synced,
            SessionEvent::SettledThere { upto } => {
                let app = hosted.app;
                return self.tell_settled_there(app, upto);
            }
            SessionEvent::UnsettledThere => {
                let app = hosted.app;
                return self.take_back_settled_there(app);
            }
            SessionEvent::Rejected { listed, count } => {
                let listed = listed.into_iter().map(|(key, reason)| RejectedDocument {
                    collection: key.collection.into(),
                    id: key.id.to_value(),
                    reason: format!("{reason:?}").into(),
                });
                SessionReport::Rejected { listed: listed.collect(), count }
            }
            SessionEvent::Granted { read } => return self.find_unreadable(id, &read, now),
            _ if !hosted.was_ready => {
                hosted.was_ready = true;
                SessionReport::Ready { peer: hosted.peer }
            }
            _ => return,
        };
        self.outputs.push_back(Output::SessionReport { session: id, report });
    }

    pub(crate) fn tell(&mut self, id: SessionId, event: HostEvent, now: Now) {
        self.with_session(id, now, |session| session.handle_host(event, now));
    }

    pub(crate) fn session_app(&self, id: SessionId) -> Option<AppId> {
        self.sync.sessions.get(&id).map(|hosted| hosted.app)
    }

    pub(crate) fn add_gather(&mut self, gather: Gather) -> GatherId {
        self.sync.gather_next += 1;
        let id = GatherId(self.sync.gather_next);
        self.sync.gathers.insert(id, gather);
        id
    }

    pub(crate) fn ask(&mut self, to: PartitionId, gather: GatherId, app: AppId, at: Txn, ask: Ask) {
        self.send(to, Body::FromSession(FromSession { gather, app, at, ask }));
    }

    pub(crate) fn on_to_session(&mut self, from: PartitionId, reply: ToSession, now: Now) {
        let ToSession { gather, answer } = reply;
        if let Answer::Replaced(session) = answer {
            return self.on_replaced(session, gather, now);
        }
        let Some(mut waiting) = self.sync.gathers.remove(&gather) else { return };
        if let Answer::Stirred = answer {
            return self.on_stirred(waiting.session(), waiting.command(), now);
        }
        if waiting.take(answer) {
            self.on_gathered(gather, from, waiting, now);
        } else {
            self.sync.gathers.insert(gather, waiting);
        }
    }
}

/// Questions that a session may have under way: batches of both offers, groups, scans, reads and verdicts.
const GATHERS_OF_SESSION_MAX: usize = 32;

/// Expiries further away than this are looked at again when they have come nearer: a year.
const EXPIRY_TIMER_MS_MAX: u64 = 366 * 24 * 3_600_000;
