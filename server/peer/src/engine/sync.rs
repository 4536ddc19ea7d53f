//! The link to the server: reaching it, losing it, coming back, and the question whether both sides agree.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bigpeer_core::ident::{AppId, Txn};
use bigpeer_core::node::{
    Credential, RackInput, SessionId, SessionInput, SessionOpen, SessionReport, check_subscription,
    subscription_bytes,
};
use bigpeer_core::rng::Rng;
use bigpeer_core::sync::{SUBSCRIPTION_COUNT_MAX, SUBSCRIPTIONS_BYTES_MAX};
use bigpeer_core::time::Instant;
use bigpeer_core::value::Object;
use bytes::Bytes;

use super::{Engine, Phase};
use crate::backoff::Backoff;
use crate::command::Inbox;
use crate::connection::{Connection, LinkEnd, LinkEvent};
use crate::dial::dial;
use crate::endpoint::Endpoint;
use crate::error::PeerError;
use crate::status::{SyncState, clock_ahead};
use crate::wake::Readiness;

/// What to do about a second device of one identity.
const REPLACED: &str = "another device with the identity of this directory has connected: a directory is one device, \
    begin the other with an empty one";

/// The least time between two probes that nobody waits for.
const PROBE_PACE: Duration = Duration::from_millis(500);

/// Everything about the server.
#[derive(Debug)]
pub(super) struct SyncLink {
    app: AppId,
    endpoint: Option<Endpoint>,
    token: Option<Box<str>>,
    inbox: Inbox,
    rng: Rng,
    /// The application wants to be in sync.
    is_wanted: bool,
    state: State,
    /// The last attempt to connect: an older one that succeeds after all is dropped.
    attempt: u64,
    session_next: u64,
    /// The present session had to give way to one of the same identity.
    is_replaced: bool,
    backoff: Backoff,
    probes: Probes,
    subscriptions: BTreeMap<u64, (Box<str>, Object)>,
}

#[derive(Debug)]
enum State {
    Down,
    /// Connect again at this moment.
    Waiting(Instant),
    Dialing,
    Up(Box<Connection>),
}

/// The question whether both sides agree. One is asked at a time, so that an answer belongs to its question.
#[derive(Debug, Default)]
struct Probes {
    /// The last position here that changed a document.
    changed: Txn,
    /// Introductions are over: a question will be answered.
    is_ready: bool,
    /// What was durable here when the question that is under way was asked.
    asked: Option<Txn>,
    /// Both sides agreed on what was durable here then; forgotten with the session and with the subscriptions.
    settled: Option<Txn>,
    next_at: Instant,
    /// Waiting for the answer that is under way.
    asking: Vec<Waiter>,
    /// Waiting for the next question: the present one was asked before they came.
    waiting: Vec<Waiter>,
}

impl Probes {
    fn is_settled(&self) -> bool {
        self.settled.is_some_and(|settled| settled >= self.changed)
    }

    /// Whether to ask for the sake of the status.
    fn wants_one(&self) -> bool {
        self.is_ready && self.asked.is_none() && !self.is_settled()
    }
}

#[derive(Debug)]
struct Waiter {
    deadline: Instant,
    waited: Duration,
    reply: SyncSender<Result<(), PeerError>>,
}

impl SyncLink {
    pub(super) fn new(
        app: AppId,
        endpoint: Option<Endpoint>,
        token: Option<Box<str>>,
        inbox: Inbox,
        mut rng: Rng,
        changed: Txn,
    ) -> Self {
        let backoff = Backoff::new(rng.split());
        Self {
            app,
            endpoint,
            token,
            inbox,
            rng,
            is_wanted: false,
            state: State::Down,
            attempt: 0,
            session_next: 0,
            is_replaced: false,
            backoff,
            probes: Probes { changed, ..Probes::default() },
            subscriptions: BTreeMap::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    pub(super) fn interest(&self) -> Option<(&TcpStream, Readiness)> {
        match &self.state {
            State::Up(connection) => Some(connection.interest()),
            _ => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let link = match &self.state {
            State::Waiting(at) => Some(*at),
            State::Up(connection) => connection.poll_timeout(),
            State::Down | State::Dialing => None,
        };
        let waiters = self.probes.asking.iter().chain(&self.probes.waiting);
        let probe = self.probes.wants_one().then_some(self.probes.next_at);
        let deadline = waiters.map(|waiter| waiter.deadline).min();
        [link, probe, deadline].into_iter().flatten().min()
    }

    /// Sends a frame of a session, if its connection is still the present one.
    pub(super) fn send(&mut self, session: SessionId, frame: Bytes) {
        if let Some(connection) = self.connection(session) {
            connection.send(frame);
        }
    }

    fn connection(&mut self, session: SessionId) -> Option<&mut Connection> {
        match &mut self.state {
            State::Up(connection) if connection.session == session => Some(connection),
            _ => None,
        }
    }

    /// The session that is up, or a name that none has.
    fn session(&self) -> SessionId {
        match &self.state {
            State::Up(connection) => connection.session,
            _ => SessionId(self.session_next),
        }
    }

    /// What a server would close the session for is refused here, where the application hears of it.
    fn check_room(&self, query: &str, args: &Object) -> Result<(), PeerError> {
        if self.subscriptions.len() >= SUBSCRIPTION_COUNT_MAX {
            return Err(PeerError::TooMany {
                what: "subscriptions",
                limit: SUBSCRIPTION_COUNT_MAX,
            });
        }
        let present =
            self.subscriptions.values().map(|(query, args)| subscription_bytes(query, args));
        let bytes = present.sum::<usize>() + subscription_bytes(query, args);
        if bytes > SUBSCRIPTIONS_BYTES_MAX {
            return Err(PeerError::SubscriptionsTooLarge { bytes, limit: SUBSCRIPTIONS_BYTES_MAX });
        }
        Ok(())
    }

    fn subscription_list(&self) -> Vec<(Box<str>, Object)> {
        self.subscriptions.values().cloned().collect()
    }
}

impl Engine {
    pub(super) fn subscribe(
        &mut self,
        id: u64,
        query: Box<str>,
        args: Object,
        reply: &SyncSender<Result<(), PeerError>>,
    ) {
        let result = self
            .link
            .check_room(&query, &args)
            .and_then(|()| check_subscription(&query, &args).map_err(PeerError::Statement));
        if result.is_ok() {
            self.link.subscriptions.insert(id, (query, args));
            self.tell_subscriptions();
        }
        let _ = reply.send(result);
    }

    pub(super) fn unsubscribe(&mut self, id: u64) {
        if self.link.subscriptions.remove(&id).is_some() {
            self.tell_subscriptions();
        }
    }

    /// Told without a session as well: the node keeps them for the next one.
    fn tell_subscriptions(&mut self) {
        let input = SessionInput::Subscribe(self.link.subscription_list());
        self.session_input(self.link.session(), input);
        self.link.probes.settled = None;
        self.note_sync_state();
    }

    fn session_input(&mut self, session: SessionId, input: SessionInput) {
        self.input(RackInput::Session { session, input });
        self.drain();
    }

    pub(super) fn start_sync(&mut self, reply: &SyncSender<Result<(), PeerError>>) {
        if self.link.endpoint.is_none() {
            let _ = reply.send(Err(PeerError::NoServer));
            return;
        }
        if matches!(self.phase, Phase::Running) {
            self.link.is_wanted = true;
            self.link.backoff.reset();
            if matches!(self.link.state, State::Down | State::Waiting(_)) {
                self.link.state = State::Waiting(self.now.mono);
            }
            self.note_sync_state();
        }
        let _ = reply.send(Ok(()));
    }

    pub(super) fn stop_sync(&mut self) {
        self.link.is_wanted = false;
        match &self.link.state {
            State::Up(connection) => {
                let session = connection.session;
                self.session_input(session, SessionInput::Close);
                // A session that is not introduced yet has no farewell to say.
                if !self.link.probes.is_ready
                    && let Some(connection) = self.link.connection(session)
                {
                    connection.close();
                }
            }
            _ => self.link.state = State::Down,
        }
        self.fail_waiters(|_| PeerError::NotStarted);
        self.note_sync_state();
    }

    pub(super) fn wait_synced(
        &mut self,
        timeout: Duration,
        reply: SyncSender<Result<(), PeerError>>,
    ) {
        if !self.link.is_wanted {
            let error = match self.link.endpoint {
                Some(_) => PeerError::NotStarted,
                None => PeerError::NoServer,
            };
            let _ = reply.send(Err(error));
            return;
        }
        let deadline = self.now.mono.after(timeout);
        self.link.probes.waiting.push(Waiter { deadline, waited: timeout, reply });
    }

    /// Moves bytes of the connection and acts on what came of it.
    pub(super) fn turn_link(&mut self, ready: Readiness) {
        let now = self.now.mono;
        if let State::Up(connection) = &mut self.link.state {
            connection.turn(ready, now);
        }
        while let State::Up(connection) = &mut self.link.state {
            let session = connection.session;
            let Some(event) = connection.poll_event() else { return };
            match event {
                LinkEvent::Open => self.open_session(session),
                LinkEvent::Frame(frame) => self.session_input(session, SessionInput::Frame(frame)),
                LinkEvent::Ended(end) => self.on_link_ended(session, end),
            }
        }
    }

    /// What is due: an attempt to connect, a question, the end of someone's patience.
    pub(super) fn advance_sync(&mut self) {
        if matches!(self.link.state, State::Waiting(at) if at <= self.now.mono) {
            self.begin_dial();
        }
        self.expire_waiters();
        self.probe_if_due();
        // What was said just now leaves in this turn.
        self.drain();
        self.turn_link(Readiness::default());
    }

    fn begin_dial(&mut self) {
        let Some(endpoint) = self.link.endpoint.clone() else { return };
        self.link.attempt += 1;
        self.link.state = State::Dialing;
        if let Err(error) = dial(endpoint, self.link.attempt, self.link.inbox.clone()) {
            self.retry(LinkEnd::failure(&error.to_string()));
        }
    }

    pub(super) fn on_dialed(&mut self, attempt: u64, result: io::Result<TcpStream>) {
        if attempt != self.link.attempt || !matches!(self.link.state, State::Dialing) {
            return;
        }
        let connection = result.and_then(|socket| self.connect(socket));
        match connection {
            Ok(connection) => self.link.state = State::Up(Box::new(connection)),
            Err(error) => self.retry(LinkEnd::failure(&error.to_string())),
        }
    }

    fn connect(&mut self, socket: TcpStream) -> io::Result<Connection> {
        let link = &mut self.link;
        let session = SessionId(link.session_next);
        link.session_next += 1;
        let endpoint = link.endpoint.as_ref().expect("there is no dialing without an address");
        let rng = link.rng.split();
        let token = link.token.as_deref();
        Connection::new(session, socket, endpoint, link.app, token, rng, self.now.mono)
    }

    fn open_session(&mut self, session: SessionId) {
        let subscriptions = self.link.subscription_list();
        self.session_input(session, SessionInput::Subscribe(subscriptions));
        let open = SessionOpen { app: self.app, credential: Credential::Local };
        self.session_input(session, SessionInput::Open(open));
    }

    /// The connection is gone.
    fn on_link_ended(&mut self, session: SessionId, mut end: LinkEnd) {
        let was_ready = self.link.probes.is_ready;
        self.link.state = State::Down;
        self.session_input(session, SessionInput::Closed);
        self.forget_probes();
        if std::mem::take(&mut self.link.is_replaced) {
            // Two that come back at once would take turns for ever.
            end.is_refusal = true;
            end.cause = REPLACED.to_owned();
        } else if was_ready {
            self.link.backoff.reset();
        } else if end.is_orderly {
            end.cause.push_str(" before the session began: are the app and the token right?");
        }
        self.retry(end);
    }

    fn retry(&mut self, end: LinkEnd) {
        if !self.link.is_wanted {
            self.link.state = State::Down;
            return self.note_sync_state();
        }
        let wait = match end.is_refusal {
            true => self.link.backoff.after_refusal(),
            false => self.link.backoff.after_failure(),
        };
        self.link.state = State::Waiting(self.now.mono.after(wait));
        let endpoint = self.link.endpoint.as_ref().map(Endpoint::to_string).unwrap_or_default();
        let error = format!("{endpoint}: {}", end.cause);
        self.status.update(|status| status.last_error = Some(error));
        self.note_sync_state();
    }

    /// The node has ended a session: what it said last still leaves.
    pub(super) fn on_session_over(&mut self, session: SessionId, reason: &str) {
        let Some(connection) = self.link.connection(session) else { return };
        connection.close();
        if self.link.is_wanted {
            let error = format!("the session ended: {reason}");
            self.status.update(|status| status.last_error = Some(error));
        }
    }

    pub(super) fn on_report(&mut self, session: SessionId, report: SessionReport) {
        if self.link.connection(session).is_none() {
            return;
        }
        match report {
            SessionReport::Ready { peer } => {
                self.link.probes.is_ready = true;
                self.link.backoff.reset();
                self.status.update(|status| {
                    status.server = Some(peer);
                    status.last_error = None;
                    status.restricted.clear();
                });
                self.note_sync_state();
            }
            SessionReport::Synced => self.on_synced(),
            SessionReport::Replaced => self.link.is_replaced = true,
            SessionReport::Restricted { collections } => {
                self.status.update(|status| status.restricted = collections);
            }
            SessionReport::Rejected { listed, count } => {
                self.status.update(|status| status.reject(listed, count));
            }
        }
    }

    fn on_synced(&mut self) {
        let Some(asked) = self.link.probes.asked.take() else { return };
        self.link.probes.settled = Some(asked);
        self.status.update(|status| status.synced = Some(asked));
        self.note_sync_state();
        for waiter in std::mem::take(&mut self.link.probes.asking) {
            let _ = waiter.reply.send(Ok(()));
        }
    }

    fn probe_if_due(&mut self) {
        let now = self.now;
        let probes = &mut self.link.probes;
        let is_urgent = probes.is_ready && probes.asked.is_none() && !probes.waiting.is_empty();
        let is_due = probes.wants_one() && probes.next_at <= now.mono;
        if !is_urgent && !is_due {
            return;
        }
        probes.next_at = now.mono.after(PROBE_PACE);
        probes.asked = Some(now.durable);
        probes.asking.append(&mut probes.waiting);
        let session = self.link.session();
        self.session_input(session, SessionInput::Probe);
    }

    /// A commit changed documents.
    pub(super) fn note_changed(&mut self, upto: Txn) {
        let changed = &mut self.link.probes.changed;
        *changed = upto.max(*changed);
        let changed = *changed;
        self.status.update(|status| status.changed = changed);
        self.note_sync_state();
    }

    fn forget_probes(&mut self) {
        let probes = &mut self.link.probes;
        probes.is_ready = false;
        probes.asked = None;
        probes.settled = None;
        // They ask again once the server is back.
        let mut asking = std::mem::take(&mut probes.asking);
        probes.waiting.append(&mut asking);
        self.status.update(|status| status.server = None);
    }

    fn expire_waiters(&mut self) {
        let now = self.now.mono;
        let cause = self.waiting_for();
        let probes = &mut self.link.probes;
        for list in [&mut probes.asking, &mut probes.waiting] {
            for waiter in list.extract_if(.., |waiter| waiter.deadline <= now) {
                let error = PeerError::TimedOut { waited: waiter.waited, cause: cause.clone() };
                let _ = waiter.reply.send(Err(error));
            }
        }
    }

    fn waiting_for(&self) -> String {
        match (self.status.read().last_error, self.link.probes.is_ready) {
            (Some(error), _) => error,
            (None, true) => "the server is reached, and something is under way".to_owned(),
            (None, false) => "the server was not reached yet".to_owned(),
        }
    }

    fn fail_waiters(&mut self, error: impl Fn(&Waiter) -> PeerError) {
        let probes = &mut self.link.probes;
        for waiter in probes.asking.drain(..).chain(probes.waiting.drain(..)) {
            let _ = waiter.reply.send(Err(error(&waiter)));
        }
    }

    pub(super) fn note_sync_state(&self) {
        let state = match (&self.link.state, self.link.is_wanted) {
            (_, false) => SyncState::Stopped,
            (State::Up(_), true) if self.link.probes.is_ready => {
                match self.link.probes.is_settled() {
                    true => SyncState::Synced,
                    false => SyncState::Connected,
                }
            }
            _ => SyncState::Offline,
        };
        let clock_ahead = clock_ahead(self.rack.newest_clock(), self.now.wall);
        self.status.update(|status| {
            status.state = state;
            status.clock_ahead = clock_ahead;
        });
    }
}
