//! Sessions on connections: what goes in, the frames that come out, and what they report.

use bigpeer_core::ident::{PeerKey, Txn};
use bigpeer_core::node::{Rack, RackInput, SessionId, SessionInput, SessionOpen, SessionReport};
use bigpeer_core::sync::FrameFacts;
use bytes::Bytes;

use super::clock::{MS, SECOND};
use super::final_phase::Phase;
use super::network::{Connection, ConnectionId, Owner, Side};
use super::process::{APP, ProcessId, SERVER, wall};
use super::{Event, Failure, World};
use crate::check::Documents;
use crate::check::ledger::judge_whole;
use crate::check::promise::Promise;
use crate::check::wire::{Told, Wholeness};
use crate::coverage::Seen;
use crate::profile::Rights;

impl World {
    pub(super) fn open_session(&mut self, device: ProcessId, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.has_near_session = true;
        }
        let queries = self.devices[device - 1].queries();
        self.session(device, 0, id, SessionInput::Subscribe(queries));
        let open = SessionOpen { app: APP, credential: bigpeer_core::node::Credential::Local };
        self.session(device, 0, id, SessionInput::Open(open));
    }

    /// Hands something to a session, if its process is there.
    pub(crate) fn session(
        &mut self,
        process: ProcessId,
        thread: u16,
        id: ConnectionId,
        input: SessionInput,
    ) {
        if self.is_ready(process) {
            self.rack(process, thread, RackInput::Session { session: SessionId(id), input });
        }
    }

    pub(crate) fn on_frame_out(&mut self, process: ProcessId, session: SessionId, frame: Bytes) {
        self.note_frame(process, session.0, &frame);
        let id = session.0;
        let to = if process == SERVER { Side::Near } else { Side::Far };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.waiting[to as usize].push_back(frame);
        let waiting = connection.waiting[to as usize].len();
        if waiting > FRAMES_WAITING_MAX {
            let text = format!("{waiting} frames wait for one connection");
            return self.fail(Failure::new("bounds", text));
        }
        self.flush(id, to);
        self.clock.after(0, Event::Pump(id));
    }

    pub(super) fn flush(&mut self, id: ConnectionId, to: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        while let Some(frame) = connection.waiting[to as usize].pop_front() {
            let sent = match to {
                Side::Far => connection.near.send_message(frame.clone()),
                Side::Near => connection.far.send_message(frame.clone()),
            };
            match sent {
                Ok(()) => {}
                Err(bigpeer_connection::SendError::NoCredit) => {
                    connection.waiting[to as usize].push_front(frame);
                    return;
                }
                Err(_) => return connection.waiting[to as usize].clear(),
            }
        }
    }

    pub(crate) fn on_close_session(
        &mut self,
        process: ProcessId,
        session: SessionId,
        reason: &str,
    ) {
        let id = session.0;
        self.line(format!("{} closes session {id}: {reason}", self.name(process)));
        if reason.contains("eplaced") {
            self.coverage.saw(Seen::ReplacedSession);
        }
        let owner = self.connections.get(&id).map(|connection| connection.owner);
        if !matches!(owner, Some(Owner::Hostile(_))) {
            self.judge_close(process, reason);
        }
        let now = self.instant();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if process == SERVER {
            connection.has_far_session = false;
            connection.far.close(1000, now);
        } else {
            connection.has_near_session = false;
            connection.near.close(1000, now);
        }
        self.clock.after(0, Event::Pump(id));
    }

    pub(crate) fn on_report(
        &mut self,
        process: ProcessId,
        session: SessionId,
        report: &SessionReport,
    ) {
        match report {
            SessionReport::Ready { .. } => {
                self.line(format!("{}: session {} is ready", self.name(process), session.0));
                self.on_session_ready(process, session.0);
            }
            SessionReport::Synced => {
                self.coverage.saw(Seen::Synced);
                self.keep_promise(process, session.0);
            }
            SessionReport::Rejected { .. }
            | SessionReport::Restricted { .. }
            | SessionReport::Replaced => {}
        }
    }

    /// The server has one session of a peer, on whichever threads that peer has connected: the newer one is admitted
    /// when the older has ended.
    fn judge_alone(&mut self, id: ConnectionId, owner: Owner) {
        let peer = self.peer_of(owner);
        let is_other = |(other, it): &(&ConnectionId, &Connection)| {
            let is_going_on = it.has_far_session && it.wire.is_admitted();
            **other != id && is_going_on && self.peer_of(it.owner) == peer
        };
        if let Some((other, _)) = self.connections.iter().find(is_other) {
            let text = format!("session {id} of {owner:?} begins while {other} goes on");
            self.fail(Failure::new("identity", text));
        }
    }

    fn peer_of(&self, owner: Owner) -> Option<PeerKey> {
        match owner {
            Owner::Client(_) => None,
            Owner::Device(device) => Some(self.processes[device].peer_key),
            Owner::Hostile(index) => Some(self.hostile[index].peer_key),
        }
    }

    /// A device asks whether both sides agree: what each holds now, the other must have when the answer comes.
    pub(crate) fn probe(&mut self, device: ProcessId) {
        let Some(id) = self.devices[device - 1].connection else { return };
        let Some(connection) = self.connections.get(&id) else { return };
        let promise = Promise {
            local: self.documents(device),
            server: self.documents(SERVER),
            interest: self.devices[device - 1].interest.clone(),
            round: match self.phase {
                Phase::Syncing(round) => Some(round),
                _ => None,
            },
            is_partial: false,
            // What is ahead of the server's clock waits for its time, and "synced" is said without it.
            is_void: !self.is_ready(SERVER)
                || (self.is_working() && self.may_be_ahead())
                || !self.devices[device - 1].rights.are_of_sessions_since(connection.opened_ns),
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.promises.push_back(promise);
        self.session(device, 0, id, SessionInput::Probe);
    }

    /// While it works, a device asks now and then.
    pub(crate) fn device_probes(&mut self, device: ProcessId) {
        if !self.is_working() {
            return;
        }
        let pause_ns = match self.asks_often {
            true => 10 * MS + self.delays.below(50 * MS),
            false => 500 * MS + self.delays.below(2 * SECOND),
        };
        self.clock.after(pause_ns, Event::Probe(device));
        let Some(id) = self.devices[device - 1].ready else { return };
        let is_idle = self.connections.get(&id).is_some_and(|it| it.promises.is_empty());
        if is_idle && self.devices[device - 1].connection == Some(id) && self.is_ready(device) {
            self.probe(device);
        }
    }

    /// The answer is yes: judge it.
    fn keep_promise(&mut self, device: ProcessId, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(promise) = connection.promises.pop_front() else { return };
        if promise.is_void || !self.is_ready(SERVER) {
            return self.on_synced(device, id, promise.round);
        }
        let (local, server) = (self.documents(device), self.documents(SERVER));
        let site = self.processes[device].peer_key.site();
        let judged = promise.judge(device, &self.devices[device - 1].rights, site, &local, &server);
        if let Err(failure) = judged {
            return self.fail(failure);
        }
        let refuses = !self.devices[device - 1].refused.is_empty();
        self.devices[device - 1].is_partial &= promise.is_partial || refuses;
        self.on_synced(device, id, promise.round);
    }

    /// A reconciliation has no order, and neither has a group that is too large for one update; an item that was not
    /// taken may come later than its transaction.
    fn note_partial(
        &mut self,
        device: ProcessId,
        from: ProcessId,
        id: ConnectionId,
        facts: &FrameFacts,
    ) {
        let is_partial = if from == SERVER {
            facts.reconciles || facts.is_part
        } else {
            // An item that is not taken may come again by itself, read at a later position than the rest.
            facts.need_base + facts.rejected + facts.deleted + facts.evicted > 0
        };
        if from == SERVER && facts.reconciles {
            // All that it refused is offered again, and what it refuses again is noted again.
            self.devices[device - 1].refused.clear();
        }
        if is_partial {
            self.devices[device - 1].is_partial = true;
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.promises.iter_mut().for_each(|promise| promise.is_partial = true);
            }
        }
    }

    /// A reconciliation has no order, a large group comes in parts, an item that lacks its base comes later than
    /// its transaction, and one that is refused when its time has come. While the device's key is changed, the end of a group is the end of what either rights let
    /// it read.
    fn note_wholeness(&mut self, owner: Owner, wholeness: Option<Wholeness>) {
        let now_ns = self.clock.now_ns();
        if let (Owner::Device(device), Some(wholeness)) = (owner, wholeness) {
            let device = &mut self.devices[device - 1];
            device.is_partial = wholeness == Wholeness::Part
                || device.rights.is_changing(now_ns)
                || !device.refused.is_empty();
        }
    }

    /// A peer that goes on saying what it wants, and waits for no answer, is sent away.
    pub(super) fn judge_subs(&mut self, id: ConnectionId, waiting: u32) {
        let is_open = self.connections.get(&id).is_some_and(|it| it.has_far_session);
        if waiting > SUBS_WAITING_MAX && is_open {
            let text = format!("{waiting} Subs frames wait for one session");
            self.fail(Failure::new("bounds", text));
        }
    }

    /// Judges that a device shows as one what the server writes in one statement.
    pub(super) fn judge_whole_store(&mut self, device: ProcessId) {
        let site = self.devices[device - 1].site;
        if !self.is_ready(device) || !self.is_whole_at(site) {
            return;
        }
        let Some(running) = &self.processes[device].running else { return };
        let rows = Documents::kept(running.racks.iter().flat_map(Rack::nodes));
        if let Err(Failure { rule, text }) = judge_whole(&rows, &self.written_together()) {
            self.fail(Failure::new(rule, format!("device {device}: {text}")));
        }
    }

    fn judge_frame(&mut self, process: ProcessId, id: ConnectionId, frame: &Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let owner = connection.owner;
        if process != SERVER {
            if self.is_cut_due && connection.wire.acknowledges_part(frame) {
                self.is_cut_due = false;
                self.clock.after(0, Event::CutShort(id));
            }
            if let Owner::Device(device) = owner {
                connection.wire.note_refused(frame, &mut self.devices[device - 1].refused);
            }
            let wholeness = connection.wire.device_says(frame);
            return self.note_wholeness(owner, wholeness);
        }
        let durable = self.processes[SERVER].running.as_ref().map_or(Txn(0), |it| it.durable);
        let was_admitted = connection.wire.is_admitted();
        let now_ns = self.clock.now_ns();
        let (told, wholeness) = connection.wire.server_says(frame, durable);
        if let Owner::Device(device) = owner {
            let limit_ms = wall(self.processes[device].wall_offset_ms, now_ns).0 + AHEAD_MS;
            let device = &mut self.devices[device - 1];
            connection.wire.note_ahead(frame, limit_ms, &mut device.refused);
            device.is_partial |= !device.refused.is_empty();
        }
        let misplaced = connection.wire.misplaced();
        if connection.wire.is_admitted() && !was_admitted {
            self.judge_alone(id, owner);
        }
        if let Some(position) = misplaced {
            let text = format!("{position} is told to {owner:?} before all that leads to it");
            self.fail(Failure::new("cursor", text));
        }
        self.note_wholeness(owner, wholeness);
        self.judge_told(owner, told);
    }

    /// The server tells a peer nothing about documents that its credential may not read, and nothing at all once that
    /// has expired.
    fn judge_told(&mut self, owner: Owner, told: Vec<Told>) {
        let now_ns = self.clock.now_ns();
        let (rights, peer) = match owner {
            Owner::Client(_) => return,
            Owner::Device(device) => {
                (self.devices[device - 1].rights.clone(), format!("device {device}"))
            }
            Owner::Hostile(index) => {
                (Rights::new(self.hostile[index].profile), "the peer that lies".to_owned())
            }
        };
        let has_expired = self.has_expired(owner);
        let is_leak =
            |told: &Told| has_expired || !rights.may_be_told(&told.collection, &told.id, now_ns);
        let leak = told.into_iter().find(is_leak);
        if let Some(Told { collection, id, what }) = leak {
            let when = if has_expired { ", which have expired" } else { "" };
            let text = format!("{collection} {id} {what}, to {peer} with {rights:?}{when}");
            self.fail(Failure::new("permission", text));
        }
    }

    fn note_frame(&mut self, process: ProcessId, id: ConnectionId, frame: &Bytes) {
        self.judge_frame(process, id, frame);
        let facts = FrameFacts::of(frame);
        if let Some(Owner::Device(device)) = self.connections.get(&id).map(|it| it.owner) {
            self.note_partial(device, process, id, &facts);
        }
        let counts = [
            (Seen::ReplaySync, u32::from(facts.replays)),
            (Seen::Reconciliation, u32::from(facts.reconciles)),
            (Seen::StaleNonce, u32::from(facts.stale)),
            (Seen::OfferCompared, facts.offered),
            (Seen::Left, facts.left),
            (Seen::Tombstone, facts.tombstones),
            (Seen::EvictedAnswer, facts.evicted),
            (Seen::DeletedAnswer, facts.deleted),
            (Seen::NeedFull, facts.need_base),
            (Seen::Rejected, facts.rejected),
        ];
        for (seen, count) in counts {
            if count > 0 {
                self.coverage.add(seen, u64::from(count));
            }
        }
        if self.is_loud {
            let whole = bigpeer_core::sync::wire::decode(frame);
            let text: String = format!("{whole:?}").chars().take(FRAME_CHARS).collect();
            self.line(format!("{} sends on {id} {text}", self.name(process)));
        }
    }
}

/// Wishes that may wait at a server.
const SUBS_WAITING_MAX: u32 = 16;

/// A device takes from its server what is no further ahead of its own clock.
const AHEAD_MS: u64 = 24 * 3_600_000;

/// Characters of a frame that are printed.
const FRAME_CHARS: usize = 400;

/// Frames that may wait for credit: a session's window keeps them far below.
const FRAMES_WAITING_MAX: usize = 20_000;
