//! One sync session with one authenticated remote.

mod dispatch;
mod handshake;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::auth::SharedPermissions;
use crate::ident::{Actor, AppId, PeerKey, StoreId, Txn};
use crate::rng::Rng;
use crate::seam::Now;
use crate::time::{Hlc, Instant};

use super::cursor::{BootTable, Cursor};
use super::error::{ByeReason, CloseReason};
use super::frame::{BYE_BYTES_MAX, Bye, CHUNK_BYTES_MAX, Frame, Role, Subs};
use super::host::{HostEvent, Part};
use super::link::{Link, SessionEvent, SessionOutput};
use super::receiving::Receiving;
use super::reconcile::Comparing;
use super::sending::Sending;
use super::subscription::{Interest, Subscription};
use handshake::Handshake;

/// What a session is told at its start.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// What we are. A device says Hello first; a server waits for it.
    pub role: Role,
    /// The app of both sides.
    pub app: AppId,
    /// Whom the connection was authenticated as.
    pub remote: PeerKey,
    /// Who we are.
    pub local: LocalIdentity,
    /// What we want. A server asks for [`Interest::Everything`].
    pub interest: Interest,
    /// What the remote may read and write here. A session never lives longer than this holds.
    pub permissions: SharedPermissions,
    /// Bounds.
    pub limits: Limits,
}

/// Our own identities at the start of a session.
#[derive(Clone, Debug)]
pub struct LocalIdentity {
    /// Our store.
    pub store: StoreId,
    /// Our log and its boots; the last row is the running one.
    pub boots: BootTable,
    /// Our actor, epoch included.
    pub actor: Actor,
    /// Our public identity.
    pub peer_key: PeerKey,
    /// Our hybrid clock, above everything that our actor has issued.
    pub hlc: Hlc,
    /// For people; cut to 64 bytes.
    pub device_name: String,
    /// How long our tombstones stay whole.
    pub tombstone_ttl_hours: u32,
    /// How often we evicted.
    pub evict_generation: u64,
}

/// Bounds of a session. The defaults are those of the protocol; a test makes them small, on both sides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How much the host is asked for at once, and the aim for an update of single documents.
    pub update_target_bytes: usize,
    /// No update is larger, give or take one item: what was touched up to one position is cut above it alone. An
    /// update is one record at its receiver, which holds 64 MiB with what comes beside the documents.
    pub update_bytes_max: usize,
    /// No item's body is larger: a document whose state is, stays here, and is in `owed` as too large.
    pub item_bytes_max: usize,
    /// Bytes of an update that may be under way: what a connection and its receiver buffer at most.
    pub window_bytes: u64,
    /// Outputs that one call may leave for an owner who drains them after each call.
    pub outputs_max: usize,
    /// Refused documents that are named for one remote. When it has refused more, all documents are offered to it
    /// again once it lets us write others.
    pub owed_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::PROTOCOL
    }
}

impl Limits {
    /// What every build of this protocol keeps to.
    pub const PROTOCOL: Self = Self {
        update_target_bytes: 8 << 20,
        update_bytes_max: 32 << 20,
        item_bytes_max: 16 << 20,
        window_bytes: 1 << 20,
        outputs_max: 4_096,
        owed_max: 10_000,
    };

    /// The receiver says how far it is each time so many bytes have come. A chunk is never longer, so that the
    /// window does not close for good.
    pub(crate) fn got_bytes(&self) -> u64 {
        self.window_bytes / 2
    }

    /// Payload of one chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        usize::try_from(self.got_bytes()).map_or(CHUNK_BYTES_MAX, |got| got.min(CHUNK_BYTES_MAX))
    }
}

/// One sync session with one remote: no socket, no store, no clock.
///
/// The owner calls any `handle_*` or verb, then [`poll_output`](Self::poll_output) until `None`, then
/// [`poll_timeout`](Self::poll_timeout) for the moment of the next [`handle_timeout`](Self::handle_timeout).
/// After [`SessionOutput::Close`] every call is without effect.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    link: Link,
    handshake: Handshake,
    sending: Sending,
    receiving: Receiving,
    comparing: Comparing,
    probes: Probes,
    timers: Timers,
    /// The remote does not know our newest wishes yet.
    is_subs_due: bool,
    is_closed: bool,
    frames_received: u64,
    bytes_received: u64,
}

/// Probes in both directions.
#[derive(Debug, Default)]
struct Probes {
    last: u64,
    /// Asked here: our durable position at that time, and whether the question has left and come back.
    asked: BTreeMap<u64, Asked>,
    /// Asked by the remote: what must be settled there before we reply.
    owed: VecDeque<(u64, Txn)>,
}

#[derive(Debug)]
struct Asked {
    own: Txn,
    is_sent: bool,
    is_replied: bool,
}

/// Every deadline that is acted on, by name.
#[derive(Debug)]
struct Timers {
    opened: Instant,
    heard: Instant,
    ping: Instant,
    advance: Instant,
    /// When what the remote refused for its clock is offered again.
    parked: Instant,
    /// How long after that, if it is refused again.
    parked_wait: Duration,
    /// Since when the remote has owed something without any sign of work.
    stalled: Option<Instant>,
}

/// How a session does, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Where it stands.
    pub state: SessionState,
    /// Everything of ours up to here is settled at the remote.
    pub settled_there: Txn,
    /// How far we are in the remote's log.
    pub cursor: Option<Cursor>,
    /// Documents that the remote refused in this session.
    pub rejected_count: u64,
    /// Frames sent and received.
    pub frames: (u64, u64),
    /// Bytes of frames sent and received.
    pub bytes: (u64, u64),
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Introductions.
    Connecting,
    /// We send what the remote's cursor does not cover.
    Reconciling,
    /// What is touched is sent as it comes.
    Live,
    /// Over.
    Closed,
}

impl Session {
    /// Begins a session with an authenticated remote.
    #[must_use]
    pub fn new(config: SessionConfig, rng: &mut Rng, now: Now) -> Self {
        let mut link = Link::default();
        let handshake = Handshake::begin(&config, rng, &mut link);
        Self {
            sending: Sending::new(config.limits, &config.permissions.read),
            receiving: Receiving::new(config.limits, config.interest.clone()),
            comparing: Comparing::default(),
            probes: Probes::default(),
            timers: Timers {
                opened: now.mono,
                heard: now.mono,
                ping: now.mono.after(PING_AFTER),
                advance: now.mono.after(ADVANCE_EVERY),
                parked: now.mono.after(PARKED_FIRST),
                parked_wait: PARKED_FIRST,
                stalled: None,
            },
            is_subs_due: false,
            is_closed: false,
            frames_received: 0,
            bytes_received: 0,
            config,
            link,
            handshake,
        }
    }

    /// One whole message from the remote: not decoded, not trusted.
    pub fn handle_frame(&mut self, bytes: &[u8], now: Now) {
        if self.is_closed {
            return;
        }
        self.frames_received += 1;
        self.bytes_received += bytes.len() as u64;
        self.timers.heard = now.mono;
        let result = self.on_frame(bytes, now);
        self.finish(result, now);
    }

    /// An answer of the host, or news from it.
    pub fn handle_host(&mut self, event: HostEvent, now: Now) {
        if self.is_closed {
            return;
        }
        let result = self.on_host(event);
        self.finish(result, now);
    }

    /// Replaces our subscriptions. The remote reconciles if they are others than before.
    pub fn set_subscriptions(&mut self, subscriptions: Vec<Subscription>, now: Now) {
        if self.is_closed || !self.receiving.set_interest(Interest::of(subscriptions)) {
            return;
        }
        self.is_subs_due = true;
        self.finish(Ok(()), now);
    }

    /// Asks to be told, by [`SessionEvent::Synced`], when both sides have what the other has now.
    pub fn probe(&mut self, now: Now) -> u64 {
        self.probes.last += 1;
        let probe = self.probes.last;
        if self.probes.asked.len() == PROBES_MAX {
            self.probes.asked.pop_first();
        }
        let asked = Asked { own: now.durable, is_sent: false, is_replied: false };
        self.probes.asked.insert(probe, asked);
        if !self.is_closed {
            self.sending.want_through(now.durable);
            self.finish(Ok(()), now);
        }
        probe
    }

    /// Says goodbye.
    pub fn close(&mut self, reason: ByeReason) {
        self.end(CloseReason::Local(reason));
    }

    /// A moment of [`poll_timeout`](Self::poll_timeout) is reached; harmless at any other.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.is_closed {
            return;
        }
        let result = self.on_timeout(now);
        self.finish(result, now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        let timers = &self.timers;
        let hello = (!self.handshake.is_met()).then(|| timers.opened.after(HELLO_WITHIN));
        let stalled = timers.stalled.map(|since| since.after(STALLED_AFTER));
        let round = self.sending.poll_timeout();
        let always = timers.ping.min(timers.advance).min(timers.heard.after(DEAD_AFTER));
        let parked = self.sending.is_parking().then_some(timers.parked);
        Instant::earliest([hello, stalled, round, parked, Some(always)])
    }

    /// What has to be done next. Control frames leave before the bytes of an update.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        if let Some(output) = self.link.poll() {
            return Some(output);
        }
        if self.is_closed {
            return None;
        }
        let bytes: Bytes = self.sending.poll_frame()?;
        self.link.count(&bytes);
        Some(SessionOutput::Frame(bytes))
    }

    /// How the session does.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        let state = match () {
            () if self.is_closed => SessionState::Closed,
            () if self.sending.round() == 0 => SessionState::Connecting,
            () if self.sending.is_reconciling() => SessionState::Reconciling,
            () => SessionState::Live,
        };
        let (frames_sent, bytes_sent) = self.link.sent();
        SessionStatus {
            state,
            settled_there: self.sending.settled(),
            cursor: self.receiving.cursor(),
            rejected_count: self.sending.rejected_count(),
            frames: (frames_sent, self.frames_received),
            bytes: (bytes_sent, self.bytes_received),
        }
    }

    /// Takes every part as far as it goes, or ends the session.
    fn finish(&mut self, result: Result<(), CloseReason>, now: Now) {
        if let Err(reason) = result.and_then(|()| self.pump(now)) {
            self.end(reason);
        }
        if self.link.len() > self.config.limits.outputs_max {
            let waiting = self.link.len();
            self.link.keep_commands();
            self.end(CloseReason::OutputsFull(waiting));
        }
    }

    fn pump(&mut self, now: Now) -> Result<(), CloseReason> {
        if self.is_closed {
            return Ok(());
        }
        self.pump_subs();
        self.receiving.pump(&mut self.link);
        let is_hold_compared = self.comparing.is_idle(Part::Hold);
        let table = &self.config.local.boots;
        self.sending.pump(table, now, is_hold_compared, &mut self.link)?;
        for ticket in self.sending.take_released() {
            self.comparing.release(ticket, &mut self.link);
        }
        self.pump_probes();
        let is_owed = self.sending.is_awaiting() || self.receiving.is_awaiting();
        self.timers.stalled = is_owed.then(|| self.timers.stalled.unwrap_or(now.mono));
        if !self.sending.is_parking() {
            self.timers.parked_wait = PARKED_FIRST;
            self.timers.parked = now.mono.after(PARKED_FIRST);
        }
        Ok(())
    }

    fn pump_probes(&mut self) {
        while let Some((probe, target)) = self.probes.owed.front().copied()
            && self.sending.is_settled(target)
        {
            self.probes.owed.pop_front();
            self.link.frame(&Frame::ProbeReply { probe });
        }
        // Before the remote has begun to send under our newest wishes its reply would be about older ones.
        let is_current = self.receiving.is_current() && !self.is_subs_due;
        let (sending, link) = (&self.sending, &mut self.link);
        self.probes.asked.retain(|&probe, asked| {
            if !asked.is_sent && is_current {
                asked.is_sent = true;
                link.frame(&Frame::Probe { probe });
            }
            // The reply stands behind answers that tell of deletions: those come to us by no update.
            let is_synced =
                asked.is_replied && sending.is_settled(asked.own) && !sending.is_settling();
            if is_synced {
                link.event(SessionEvent::Synced { probe });
            }
            !is_synced
        });
    }

    /// Tells the remote what we want, once it may know, and once it has begun to send what we wanted before: an
    /// application that subscribes a hundred times at once makes two rounds of it.
    fn pump_subs(&mut self) {
        let is_answered = self.receiving.is_current() || self.receiving.is_unsaid();
        if !self.is_subs_due || !self.handshake.is_open() || !is_answered {
            return;
        }
        self.is_subs_due = false;
        let subs = Subs {
            version: self.receiving.next_version(),
            interest: self.receiving.interest().clone(),
            evict_generation: self.config.local.evict_generation,
            write_permission: self.config.permissions.write.hash().short(),
            cursor: self.receiving.cursor(),
            stale: self.handshake.is_stale(),
            seen: self.handshake.seen(),
            reached: self.handshake.reached(),
        };
        self.link.frame(&Frame::Subs(Box::new(subs)));
    }

    fn on_timeout(&mut self, now: Now) -> Result<(), CloseReason> {
        let timers = &mut self.timers;
        if !self.handshake.is_met() && now.mono >= timers.opened.after(HELLO_WITHIN) {
            return Err(CloseReason::HelloTimeout(HELLO_WITHIN.as_secs()));
        }
        if now.mono >= timers.heard.after(DEAD_AFTER) {
            return Err(CloseReason::Dead(DEAD_AFTER.as_secs()));
        }
        if timers.stalled.is_some_and(|since| now.mono >= since.after(STALLED_AFTER)) {
            return Err(CloseReason::Stalled(STALLED_AFTER.as_secs()));
        }
        if now.mono >= timers.advance {
            timers.advance = now.mono.after(ADVANCE_EVERY);
            self.sending.on_advance_timer(now.durable);
        }
        if self.sending.is_parking() && now.mono >= timers.parked {
            timers.parked_wait = (timers.parked_wait * 2).min(PARKED_EVERY);
            timers.parked = now.mono.after(timers.parked_wait);
            self.sending.offer_parked();
        }
        if now.mono >= timers.ping {
            timers.ping = now.mono.after(PING_AFTER);
            if now.mono.since(timers.heard) >= PING_AFTER {
                self.link.frame(&Frame::Ping);
            } else {
                timers.ping = timers.heard.after(PING_AFTER);
            }
        }
        Ok(())
    }

    fn end(&mut self, reason: CloseReason) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        if reason.bye() == ByeReason::PermissionChanged {
            self.link.clear();
        }
        if !matches!(reason, CloseReason::Remote { .. }) {
            let mut text = reason.to_string();
            cut(&mut text, BYE_BYTES_MAX);
            self.link.frame(&Frame::Bye(Bye { reason: reason.bye(), text }));
        }
        self.link.close(reason);
    }
}

/// Cuts at a character boundary.
fn cut(text: &mut String, bytes_max: usize) {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or(0));
}

/// The remote introduces itself within this time.
pub(crate) const HELLO_WITHIN: Duration = Duration::from_secs(15);
/// Silence after which we ask for a sign of life.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(30);
/// Silence after which the connection counts as gone.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(75);
/// How long a remote that is alive may owe an answer without sending anything but signs of life.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(120);
/// How often a cursor moves on for which nothing had to be sent. Each time costs the receiver a record, which in
/// turn moves its own log on: often enough that a replay stays short, too rarely to be a load.
pub(crate) const ADVANCE_EVERY: Duration = Duration::from_secs(600);
/// How long what the remote refused for its clock waits before it is offered again; each time twice as long, because
/// nobody here knows the remote's clock.
pub(crate) const PARKED_FIRST: Duration = Duration::from_secs(15);
/// But never longer than this: so much later than its time an item may come.
pub(crate) const PARKED_EVERY: Duration = Duration::from_secs(240);
/// Probes that may be under way.
const PROBES_MAX: usize = 16;
