//! Sessions on connections: what goes in, the frames that come out, and what they report.

use bigpeer_core::node::{RackInput, SessionId, SessionInput, SessionOpen, SessionReport};
use bigpeer_core::sync::FrameFacts;
use bytes::Bytes;

use super::network::{ConnectionId, Owner, Side};
use super::process::{APP, ProcessId, SERVER};
use super::{Event, Failure, World};
use crate::check::wire::Told;
use crate::coverage::Seen;

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
        self.judge_close(process, reason);
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
                self.on_synced(process, session.0);
            }
            SessionReport::Rejected { .. }
            | SessionReport::Restricted { .. }
            | SessionReport::Replaced => {}
        }
    }

    /// The server tells a peer nothing about documents that its credential may not read.
    fn judge_frame(&mut self, process: ProcessId, id: ConnectionId, frame: &Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if process != SERVER {
            return connection.wire.device_says(frame);
        }
        let told = connection.wire.server_says(frame);
        let Owner::Device(device) = connection.owner else { return };
        let profile = self.devices[device - 1].profile;
        let leak = told.into_iter().find(|told| !profile.may_read(&told.collection, &told.id));
        if let Some(Told { collection, id, what }) = leak {
            let text = format!("{collection} {id} {what}, to device {device} with {profile:?}");
            self.fail(Failure::new("permission", text));
        }
    }

    fn note_frame(&mut self, process: ProcessId, id: ConnectionId, frame: &Bytes) {
        self.judge_frame(process, id, frame);
        let facts = FrameFacts::of(frame);
        let counts = [
            (Seen::ReplaySync, u32::from(facts.replays)),
            (Seen::Reconciliation, u32::from(facts.reconciles)),
            (Seen::StaleNonce, u32::from(facts.stale)),
            (Seen::NewEpoch, u32::from(facts.stale)),
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
            self.line(format!("{} sends on {id} {facts:?}", self.name(process)));
        }
    }
}

/// Frames that may wait for credit: a session's window keeps them far below.
const FRAMES_WAITING_MAX: usize = 20_000;
