//! The host of sync sessions: turns what a session asks into questions to the owners of documents, and their
//! answers back.
//!
//! A session lives at the node of the thread that accepted its connection. The first frame of each side is a
//! greeting with its peer key; the session begins when both are known. An update that a session sends is read at
//! one durable position from every partition, so that a transaction is in it whole or not at all; an update that
//! it receives becomes one record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::append::Then;
use super::message::Body;
use super::request::{Credential, ErrorKind, RequestError};
use super::sync_ask::{
    Answer, Ask, CompiledInterest, FromSession, GatherId, RemoteFilter, ToSession,
};
use super::sync_gather::Gather;
use super::sync_source::Stir;
use super::sync_watch::Watch;
use super::sync_wire::{decode_record, encode_record};
use super::{Node, Output};
use crate::auth::{AuthError, Permissions, SharedPermissions};
use crate::dql::{Bound, Statement, SubscriptionQuery};
use crate::ident::{Actor, AppId, PartitionId, PeerKey, StoreId, Txn, TxnId};
use crate::log::transaction::{Op, Origin, Transaction, remote_slot};
use crate::rng::Rng;
use crate::seam::Now;
use crate::sync::{
    BootTable, ByeReason, CommandId, DocKey as SyncKey, Final, HostCommand, HostEvent, Interest,
    Limits, LocalIdentity, Owed, Part, RemoteRecord, Role, Session, SessionConfig, SessionEvent,
    SessionOutput, Subscription,
};
use crate::time::Instant;
use crate::value::{Object, Value, json};

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
    /// The remote does not take a document of ours.
    Rejected {
        /// Its collection.
        collection: Box<str>,
        /// Its id.
        id: Value,
        /// Why.
        reason: Box<str>,
    },
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
    gather_next: u64,
    rng: Rng,
    /// Records of remotes whose slot this partition owns.
    pub(crate) remotes: BTreeMap<(AppId, PeerKey), Bytes>,
    /// Questions about positions that are not applied yet.
    pub(crate) deferred: Vec<(PartitionId, FromSession)>,
    pub(crate) stirs: BTreeMap<(PartitionId, SessionId), Stir>,
    /// Watches that wait for a position that is not durable yet.
    pub(crate) waiting_commit: Vec<(SessionId, CommandId)>,
    pub(crate) evict_generations: BTreeMap<AppId, u64>,
    settled_there: BTreeMap<AppId, Txn>,
    subscriptions: Vec<(Box<str>, Object)>,
}

/// One session with what its host knows about it.
#[derive(Debug)]
pub(crate) struct Hosted {
    app: AppId,
    permissions: SharedPermissions,
    credential: Credential,
    /// None until the remote has greeted.
    pub(crate) session: Option<Box<Session>>,
    pub(crate) peer: PeerKey,
    record: RemoteRecord,
    pub(crate) watches: BTreeMap<CommandId, Watch>,
    pub(crate) scans: BTreeMap<CommandId, Scan>,
    was_ready: bool,
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
    Settled(CommandId),
    Applied(CommandId, Vec<crate::sync::Outcome>),
}

impl SyncHost {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            sessions: BTreeMap::new(),
            gathers: BTreeMap::new(),
            gather_next: 0,
            rng,
            remotes: BTreeMap::new(),
            deferred: Vec::new(),
            stirs: BTreeMap::new(),
            waiting_commit: Vec::new(),
            evict_generations: BTreeMap::new(),
            settled_there: BTreeMap::new(),
            subscriptions: Vec::new(),
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|hosted| hosted.session.as_ref()?.poll_timeout()).min()
    }

    /// True when nothing here waits for the log to be applied further.
    pub(crate) fn is_settled(&self) -> bool {
        self.deferred.is_empty() && self.waiting_commit.is_empty()
    }

    pub(crate) fn remember_remote(&mut self, app: AppId, peer: PeerKey, state: Bytes) {
        self.remotes.insert((app, peer), state);
    }

    /// How often documents of `app` were evicted here: a remote must offer them again.
    pub(crate) fn evict_generation(&self, app: AppId) -> u64 {
        self.evict_generations.get(&app).copied().unwrap_or(0)
    }

    /// How often anything was evicted here.
    pub(crate) fn evictions(&self) -> u64 {
        self.evict_generations.values().sum()
    }

    /// Every edit of `app` up to here is settled at a server.
    pub(crate) fn settled_there(&self, app: AppId) -> Txn {
        self.settled_there.get(&app).copied().unwrap_or_default()
    }

    pub(crate) fn count_evict(&mut self, app: AppId) {
        *self.evict_generations.entry(app).or_default() += 1;
    }
}

impl Node {
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

    fn open_session(&mut self, id: SessionId, open: SessionOpen, now: Now) {
        let permissions = self.session_permissions(open.app, &open.credential, now);
        let permissions = match permissions {
            Ok(permissions) => permissions,
            Err(error) => return self.close_connection(id, &error.to_string()),
        };
        let mut greeting = Vec::with_capacity(GREETING_BYTES);
        greeting.extend_from_slice(GREETING_MAGIC);
        greeting.extend_from_slice(&self.config.identity.peer_key.0);
        self.outputs.push_back(Output::Frame { session: id, frame: greeting.into() });
        let hosted = Hosted {
            app: open.app,
            permissions,
            credential: open.credential,
            session: None,
            peer: PeerKey::default(),
            record: RemoteRecord::default(),
            watches: BTreeMap::new(),
            scans: BTreeMap::new(),
            was_ready: false,
        };
        self.sync.sessions.insert(id, hosted);
    }

    fn session_permissions(
        &self,
        app: AppId,
        credential: &Credential,
        now: Now,
    ) -> Result<SharedPermissions, AuthError> {
        match credential {
            Credential::Local => Ok(Arc::new(Permissions::everything())),
            Credential::Bearer(Some(token)) if self.catalog.is_development_token(app, token) => {
                Ok(Arc::new(Permissions::everything()))
            }
            Credential::Bearer(token) => self.catalog.authorize(app, token.as_deref(), now.wall),
        }
    }

    fn on_session_frame(&mut self, id: SessionId, frame: &Bytes, now: Now) {
        let Some(hosted) = self.sync.sessions.get(&id) else { return };
        if hosted.session.is_some() {
            return self.with_session(id, now, |session| session.handle_frame(frame, now));
        }
        let key = frame
            .strip_prefix(GREETING_MAGIC)
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .map(PeerKey);
        match key {
            Some(peer) if peer != self.config.identity.peer_key => {
                self.begin_session(id, peer, now);
            }
            Some(_) => self.close_connection(id, "the remote has our own peer key"),
            None => self.close_connection(id, "the first frame is not a greeting of this protocol"),
        }
    }

    /// The remote has greeted. A newer connection of the same peer replaces the older.
    fn begin_session(&mut self, id: SessionId, peer: PeerKey, now: Now) {
        let Some(app) = self.sync.sessions.get(&id).map(|hosted| hosted.app) else { return };
        let older: Vec<SessionId> = self
            .sync
            .sessions
            .iter()
            .filter(|(other, hosted)| {
                **other != id
                    && hosted.app == app
                    && hosted.peer == peer
                    && hosted.session.is_some()
            })
            .map(|(other, _)| *other)
            .collect();
        for other in older {
            self.with_session(other, now, |session| session.close(ByeReason::Replaced));
        }
        let identity = &self.config.identity;
        let local = LocalIdentity {
            store: identity.store,
            boots: identity.boots.clone(),
            actor: self.actor(),
            peer_key: identity.peer_key,
            hlc: self.clock.last(),
            device_name: identity.name.to_string(),
            tombstone_ttl_hours: TOMBSTONE_TTL_HOURS,
            evict_generation: self.sync.evict_generation(app),
        };
        let (role, interest) = if self.config.is_device {
            (Role::Device, Interest::of(compiled_texts(&self.sync.subscriptions)))
        } else {
            (Role::Server, Interest::Everything)
        };
        let config = SessionConfig {
            role,
            app,
            remote: peer,
            local,
            interest,
            read_generation: 0,
            write_generation: 0,
            limits: Limits { update_bytes_max: UPDATE_BYTES_MAX, ..Limits::default() },
        };
        let mut rng = self.sync.rng.split();
        let session = Session::new(config, &mut rng, now);
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.peer = peer;
            hosted.session = Some(Box::new(session));
        }
        self.drain_session(id, now);
    }

    fn subscribe(&mut self, id: SessionId, queries: Vec<(Box<str>, Object)>, now: Now) {
        let subscriptions = compiled_texts(&queries);
        self.sync.subscriptions = queries;
        self.renew_filters();
        self.with_session(id, now, |session| session.set_subscriptions(subscriptions, now));
    }

    /// What we ask for has changed: what remotes send is judged by it from now on.
    fn renew_filters(&mut self) {
        let Ok(interest) = self.our_interest() else { return };
        let ours = Arc::new(interest);
        for watch in self.sync.sessions.values_mut().flat_map(|hosted| hosted.watches.values_mut())
        {
            watch.filter = Arc::new(RemoteFilter {
                peer: watch.filter.peer,
                permissions: watch.filter.permissions.clone(),
                theirs: watch.filter.theirs.clone(),
                ours: ours.clone(),
            });
        }
    }

    fn our_interest(&self) -> Result<CompiledInterest, String> {
        if self.config.is_device {
            CompiledInterest::compile(&Interest::of(compiled_texts(&self.sync.subscriptions)))
        } else {
            Ok(CompiledInterest::Everything)
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
                    self.close_connection(id, &reason.to_string());
                    return;
                }
                SessionOutput::Event(event) => self.on_session_event(id, event),
            }
        }
    }

    fn on_session_event(&mut self, id: SessionId, event: SessionEvent) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        let report = match event {
            SessionEvent::Synced { .. } => SessionReport::Synced,
            SessionEvent::SettledThere { upto } => {
                let settled = self.sync.settled_there.entry(hosted.app).or_default();
                *settled = upto.max(*settled);
                return;
            }
            SessionEvent::Rejected { key, reason } => SessionReport::Rejected {
                collection: key.collection.into(),
                id: key.id.to_value(),
                reason: format!("{reason:?}").into(),
            },
            _ if !hosted.was_ready => {
                hosted.was_ready = true;
                SessionReport::Ready { peer: hosted.peer }
            }
            _ => return,
        };
        self.outputs.push_back(Output::SessionReport { session: id, report });
    }

    fn close_connection(&mut self, id: SessionId, reason: &str) {
        self.outputs.push_back(Output::CloseSession { session: id, reason: reason.into() });
        self.forget_session(id);
    }

    fn forget_session(&mut self, id: SessionId) {
        let Some(hosted) = self.sync.sessions.remove(&id) else { return };
        self.sync.gathers.retain(|_, gather| gather.session() != id);
        if !hosted.watches.is_empty() {
            for partition in 0..self.config.partitions {
                let gather = GatherId(0);
                self.ask(PartitionId(partition), gather, hosted.app, Txn(0), Ask::StirStop(id));
            }
        }
    }

    pub(crate) fn sync_timeout(&mut self, now: Now) {
        let due: Vec<SessionId> = self
            .sync
            .sessions
            .iter()
            .filter(|(_, hosted)| {
                let timeout = hosted.session.as_ref().and_then(|session| session.poll_timeout());
                timeout.is_some_and(|at| at <= now.mono)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.with_session(id, now, |session| session.handle_timeout(now));
        }
    }

    fn on_host_command(&mut self, id: SessionId, command: HostCommand, now: Now) {
        match command {
            HostCommand::LoadRemote { id: command, peer } => {
                self.load_remote(id, command, peer, now);
            }
            HostCommand::SaveRemote { id: command, store, ours, theirs, is_stale, .. } => {
                let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
                if let Some(store) = store
                    && hosted.record.store != Some(store)
                {
                    hosted.record.store = Some(store);
                    hosted.record.seen = None;
                }
                hosted.record.ours = ours;
                if theirs.is_some() {
                    hosted.record.theirs = theirs;
                }
                hosted.record.cursor = hosted.record.cursor.filter(|_| !is_stale);
                self.append_for(id, Vec::new(), AppendAnswer::Saved(command), now);
            }
            HostCommand::NewEpoch { id: command, stale, .. } => {
                self.renew_epoch();
                let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
                hosted.record.cursor = hosted.record.cursor.filter(|_| !stale);
                self.append_for(id, Vec::new(), AppendAnswer::Renewed(command), now);
            }
            HostCommand::Watch { watch, interest } => match self.filter(id, &interest) {
                Ok(filter) => {
                    if let Some(hosted) = self.sync.sessions.get_mut(&id) {
                        hosted.watches.insert(watch, Watch::new(filter));
                    }
                }
                Err(reason) => self.tell(id, HostEvent::Failed { reason }, now),
            },
            HostCommand::WatchMore { watch, after, until, credit_bytes } => {
                self.watch_more(id, watch, after, until, credit_bytes, now);
            }
            HostCommand::Unwatch { watch } => {
                if let Some(hosted) = self.sync.sessions.get_mut(&id) {
                    hosted.watches.remove(&watch);
                }
            }
            HostCommand::Scan { scan, part, interest, batch_count } => {
                self.start_scan(id, scan, part, &interest, batch_count, now);
            }
            HostCommand::ScanMore { scan } => self.scan_more(id, scan),
            HostCommand::ScanStop { scan } => {
                if let Some(hosted) = self.sync.sessions.get_mut(&id) {
                    hosted.scans.remove(&scan);
                }
            }
            HostCommand::Compare { id: command, part, offered } => {
                self.gather_compare(id, command, part, offered, now);
            }
            HostCommand::Diff { id: command, wanted, .. } => {
                self.gather_diff(id, command, wanted, now);
            }
            HostCommand::Apply { id: command, items, cursor } => {
                self.gather_judge(id, command, items, cursor, now);
            }
            HostCommand::Settle { id: command, items } => {
                self.settle_items(id, command, items, now);
            }
        }
    }

    pub(crate) fn tell(&mut self, id: SessionId, event: HostEvent, now: Now) {
        self.with_session(id, now, |session| session.handle_host(event, now));
    }

    fn load_remote(&mut self, id: SessionId, command: CommandId, peer: PeerKey, _now: Now) {
        let Some(app) = self.session_app(id) else { return };
        let owner = remote_slot(app, &peer).partition(self.config.partitions);
        let gather = self.add_gather(Gather::remote(id, command));
        self.ask(owner, gather, app, self.last_now.durable, Ask::Remote(peer));
    }

    /// The record of a remote has arrived from its owner.
    pub(crate) fn on_remote_record(
        &mut self,
        id: SessionId,
        command: CommandId,
        bytes: Option<&Bytes>,
        now: Now,
    ) {
        let record = match bytes.map(|bytes| decode_record(bytes)) {
            None => RemoteRecord::default(),
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                let reason = format!("what is kept about the remote cannot be read: {error}");
                return self.tell(id, HostEvent::Failed { reason }, now);
            }
        };
        if let Some(hosted) = self.sync.sessions.get_mut(&id) {
            hosted.record = record.clone();
        }
        let record = Box::new(record);
        self.tell(id, HostEvent::Remote { id: command, record }, now);
    }

    /// Takes a new epoch for this partition's actor. Every start takes one anyway, so that what an older copy of
    /// this store has authored can never share a dot with what is authored here; what the remote says it has seen
    /// of the older actor needs no answer, and must not move our clock.
    fn renew_epoch(&mut self) {
        self.config.epoch = self.rng.next_u64();
    }

    fn settle_items(
        &mut self,
        id: SessionId,
        command: CommandId,
        items: Vec<(SyncKey, Final)>,
        now: Now,
    ) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        let mut tombstones = Vec::new();
        for (key, end) in items {
            hosted.record.owed.retain(|owed| owed.key != key);
            match end {
                Final::Accepted | Final::Evicted => {}
                Final::Rejected { reason, write_generation } => {
                    if hosted.record.owed.len() < OWED_MAX {
                        hosted.record.owed.push(Owed { key, reason, write_generation });
                    }
                }
                Final::Deleted { tombstone } => {
                    if let Ok(delta) = crate::document::Delta::from_bytes(&tombstone) {
                        tombstones.push(Op::Merge {
                            collection: key.collection.as_str().into(),
                            id: key.id,
                            delta: Arc::new(delta),
                        });
                    }
                }
            }
        }
        self.append_for(id, tombstones, AppendAnswer::Settled(command), now);
    }

    /// Appends operations of a session together with what is kept about its remote.
    pub(crate) fn append_for(
        &mut self,
        id: SessionId,
        mut ops: Vec<Op>,
        answer: AppendAnswer,
        now: Now,
    ) {
        let Some(hosted) = self.sync.sessions.get(&id) else { return };
        ops.push(Op::Remote { peer: hosted.peer, state: encode_record(&hosted.record) });
        let transaction = Transaction {
            id: TxnId(self.rng.uuid()),
            app: hosted.app,
            origin: Origin::Peer { key: hosted.peer, home: self.config.partition },
            wall: now.wall,
            ops,
        };
        let then = Then::Session(SessionAppend { session: id, answer });
        if let Err(error) = self.append(transaction, false, then) {
            self.tell(id, HostEvent::Failed { reason: error.to_string() }, now);
        }
    }

    /// The record of a session is committed, or was refused.
    pub(crate) fn session_appended(
        &mut self,
        append: SessionAppend,
        result: Result<Txn, RequestError>,
    ) {
        let now = self.last_now;
        let event = match (result, append.answer) {
            (Ok(_), AppendAnswer::Saved(id)) => HostEvent::Saved { id },
            (Ok(_), AppendAnswer::Renewed(id)) => {
                HostEvent::EpochChanged { id, actor: self.actor() }
            }
            (Ok(_), AppendAnswer::Settled(id)) => HostEvent::Settled { id },
            (Ok(txn), AppendAnswer::Applied(id, outcomes)) => {
                HostEvent::Applied { id, txn, outcomes }
            }
            (Err(error), _) => HostEvent::Failed { reason: error.to_string() },
        };
        self.tell(append.session, event, now);
    }

    /// The record of the remote after an update of it was accepted.
    pub(crate) fn advance_record(
        &mut self,
        id: SessionId,
        cursor: Option<crate::sync::Cursor>,
        seen: Option<(Actor, crate::time::Hlc)>,
    ) {
        let Some(hosted) = self.sync.sessions.get_mut(&id) else { return };
        if let Some(cursor) = cursor {
            hosted.record.cursor = Some(cursor);
        }
        if let Some((actor, hlc)) = seen {
            let newer = hosted.record.seen.is_none_or(|(known, at)| known != actor || at < hlc);
            if newer {
                hosted.record.seen = Some((actor, hlc));
            }
        }
    }

    pub(crate) fn filter(
        &self,
        id: SessionId,
        theirs: &Interest,
    ) -> Result<Arc<RemoteFilter>, String> {
        let Some(hosted) = self.sync.sessions.get(&id) else {
            return Err("the session is over".to_owned());
        };
        Ok(Arc::new(RemoteFilter {
            peer: hosted.peer,
            permissions: hosted.permissions.clone(),
            theirs: Arc::new(CompiledInterest::compile(theirs)?),
            ours: Arc::new(self.our_interest()?),
        }))
    }

    /// What was evicted here must be offered again where it still matches.
    pub(crate) fn announce_evictions(&mut self, now: Now) {
        let sessions: Vec<(SessionId, AppId)> =
            self.sync.sessions.iter().map(|(id, hosted)| (*id, hosted.app)).collect();
        for (id, app) in sessions {
            let generation = self.sync.evict_generation(app);
            self.tell(id, HostEvent::Evicted { generation }, now);
        }
    }

    /// The catalog has changed: what was prepared for a session that lost its credential must not leave.
    pub(crate) fn recheck_sessions(&mut self, now: Now) {
        let refused: Vec<SessionId> = self
            .sync
            .sessions
            .iter()
            .filter(|(_, hosted)| {
                self.session_permissions(hosted.app, &hosted.credential, now).is_err()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in refused {
            self.tell(id, HostEvent::PermissionChanged, now);
            if self.sync.sessions.contains_key(&id) {
                self.close_connection(id, "the credential is not valid any more");
            }
        }
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
        let Some(mut waiting) = self.sync.gathers.remove(&gather) else { return };
        if let Answer::Stirred = answer {
            return self.on_stirred(waiting.session(), waiting.command(), now);
        }
        if waiting.take(answer) {
            self.on_gathered(from, waiting, now);
        } else {
            self.sync.gathers.insert(gather, waiting);
        }
    }
}

/// Parses one subscription.
pub(crate) fn compile_subscription(
    subscription: &Subscription,
) -> Result<SubscriptionQuery, String> {
    let args = if subscription.args.is_empty() {
        Object::default()
    } else {
        match json::parse(&subscription.args, json::Limits::default()) {
            Ok(Value::Object(args)) => args,
            _ => return Err("the arguments of a subscription are not a JSON object".to_owned()),
        }
    };
    let bound = Statement::parse(&subscription.text)
        .and_then(|statement| Bound::new(Arc::new(statement), &args))
        .map_err(|error| error.to_string())?;
    crate::dql::subscription(bound).map_err(|error| error.to_string())
}

fn compiled_texts(queries: &[(Box<str>, Object)]) -> Vec<Subscription> {
    let one = |(text, args): &(Box<str>, Object)| {
        let mut bytes = Vec::new();
        if !args.is_empty() {
            json::write(&Value::Object(args.clone()), &mut bytes);
        }
        Subscription { text: text.to_string(), args: bytes.into() }
    };
    queries.iter().map(one).collect()
}

/// Says that a subscription cannot be used.
pub fn check_subscription(text: &str, args: &Object) -> Result<(), RequestError> {
    let texts = compiled_texts(&[(text.into(), args.clone())]);
    match compile_subscription(&texts[0]) {
        Ok(_) => Ok(()),
        Err(error) => Err(RequestError::new(ErrorKind::Invalid, error)),
    }
}

/// The first frame of each side: these bytes, then the peer key.
const GREETING_MAGIC: &[u8] = b"BPG1";
const GREETING_BYTES: usize = 36;

/// Announced to remotes; tombstones do not expire yet.
const TOMBSTONE_TTL_HOURS: u32 = 720;

/// An update is one record at its receiver, which holds 64 MiB with what comes beside the documents.
const UPDATE_BYTES_MAX: usize = 32 << 20;

/// How many refused documents are remembered for one remote.
const OWED_MAX: usize = 10_000;
