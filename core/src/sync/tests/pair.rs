//! Two sessions, two stand-in hosts, the queues between them, and a clock that jumps.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::host::{TestHost, queries};
use crate::ident::Txn;
use crate::rng::Rng;
use crate::seam::Now;
use crate::sync::*;
use crate::time::Instant;

pub(crate) struct Side {
    pub(crate) host: TestHost,
    pub(crate) session: Option<Session>,
    commands: Vec<HostCommand>,
    inbox: VecDeque<Bytes>,
    pub(crate) events: Vec<SessionEvent>,
    pub(crate) closed: Option<CloseReason>,
    /// The host takes commands and does nothing.
    pub(crate) freeze_host: bool,
}

pub(crate) struct Pair {
    pub(crate) sides: [Side; 2],
    pub(crate) rng: Rng,
    pub(crate) time: Instant,
    /// Frames that reached the other side, and their bytes.
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Frames go nowhere from here on.
    pub(crate) is_cut: bool,
    /// Every frame, when it is there.
    pub(crate) record: Option<Vec<Bytes>>,
}

pub(crate) const DEVICE: usize = 0;
pub(crate) const SERVER: usize = 1;

impl Pair {
    /// A device that subscribes to `texts`, and a server.
    pub(crate) fn new(seed: u64, texts: &[&str]) -> Self {
        let device = TestHost::new(Role::Device, 1, queries(texts));
        let server = TestHost::new(Role::Server, 2, Interest::Everything);
        Self::of(seed, device, server)
    }

    pub(crate) fn of(seed: u64, device: TestHost, server: TestHost) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let side = |host| Side {
            host,
            session: None,
            commands: Vec::new(),
            inbox: VecDeque::new(),
            events: Vec::new(),
            closed: None,
            freeze_host: false,
        };
        Self {
            sides: [side(device), side(server)],
            rng: Rng::new(&bytes, "pair"),
            time: Instant::default(),
            frames: 0,
            bytes: 0,
            is_cut: false,
            record: None,
        }
    }

    pub(crate) fn host(&mut self, at: usize) -> &mut TestHost {
        &mut self.sides[at].host
    }

    pub(crate) fn session(&mut self, at: usize) -> &mut Session {
        self.sides[at].session.as_mut().expect("connected")
    }

    pub(crate) fn now(&self, at: usize) -> Now {
        Now { mono: self.time, durable: Txn(self.sides[at].host.txn), ..Now::default() }
    }

    pub(crate) fn connect(&mut self) {
        self.is_cut = false;
        for at in [DEVICE, SERVER] {
            let remote = self.sides[1 - at].host.peer_key;
            let now = self.now(at);
            let config = self.sides[at].host.config(remote);
            let mut rng = self.rng.split();
            let side = &mut self.sides[at];
            side.closed = None;
            side.session = Some(Session::new(config, &mut rng, now));
        }
        self.drain();
    }

    /// A connection that breaks when so many events have happened on it.
    pub(crate) fn break_off_after(&mut self, events: u64) {
        self.connect();
        (0..events).for_each(|_| {
            self.step();
        });
        self.disconnect();
    }

    /// The connection is gone. Of the commands that wait, some were carried out and some were not.
    pub(crate) fn disconnect(&mut self) {
        for at in [DEVICE, SERVER] {
            let remote = self.sides[1 - at].host.peer_key;
            let side = &mut self.sides[at];
            for command in side.commands.drain(..) {
                if self.rng.one_in(2) {
                    side.host.command(remote, command);
                }
            }
            side.session = None;
            side.inbox.clear();
            side.host.disconnect();
        }
    }

    /// One event somewhere; false when nothing is left to happen without time.
    pub(crate) fn step(&mut self) -> bool {
        let first = self.rng.below(4) as usize;
        for offset in 0..4 {
            let choice = (first + offset) % 4;
            let at = choice % 2;
            let done = if choice < 2 { self.deliver(at) } else { self.work(at) };
            if done {
                self.drain();
                return true;
            }
        }
        false
    }

    fn deliver(&mut self, at: usize) -> bool {
        let now = self.now(at);
        let side = &mut self.sides[at];
        let (Some(session), Some(frame)) = (&mut side.session, side.inbox.pop_front()) else {
            return false;
        };
        session.handle_frame(&frame, now);
        true
    }

    fn work(&mut self, at: usize) -> bool {
        let remote = self.sides[1 - at].host.peer_key;
        if self.sides[at].freeze_host {
            return false;
        }
        let count = self.sides[at].commands.len() as u64;
        let event = if count > 0 {
            let chosen = self.rng.below(count) as usize;
            let chosen = self.in_order(at, chosen);
            let command = self.sides[at].commands.remove(chosen);
            self.sides[at].host.command(remote, command)
        } else {
            let Some(event) = self.sides[at].host.report(remote) else { return false };
            Some(event)
        };
        let now = self.now(at);
        if let (Some(event), Some(session)) = (event, &mut self.sides[at].session) {
            session.handle_host(event, now);
        }
        true
    }

    /// Commands of one watch, scan or peer record are carried out in order; all others in any.
    fn in_order(&self, at: usize, chosen: usize) -> usize {
        let is_free = |command: &HostCommand| {
            matches!(
                command,
                HostCommand::Compare { .. }
                    | HostCommand::Diff { .. }
                    | HostCommand::Apply { .. }
                    | HostCommand::Settle { .. }
            )
        };
        let commands = &self.sides[at].commands;
        if is_free(&commands[chosen]) {
            return chosen;
        }
        commands.iter().position(|command| !is_free(command)).unwrap_or(chosen)
    }

    pub(crate) fn drain(&mut self) {
        for at in [DEVICE, SERVER] {
            let mut frames = Vec::new();
            let side = &mut self.sides[at];
            while let Some(output) = side.session.as_mut().and_then(Session::poll_output) {
                match output {
                    SessionOutput::Frame(frame) => frames.push(frame),
                    SessionOutput::Host(command) => side.commands.push(command),
                    SessionOutput::Event(event) => side.events.push(event),
                    SessionOutput::Close { reason } => side.closed = Some(reason),
                }
            }
            if !self.is_cut {
                self.frames += frames.len() as u64;
                self.bytes += frames.iter().map(Bytes::len).sum::<usize>() as u64;
                if let Some(record) = &mut self.record {
                    record.extend(frames.iter().cloned());
                }
                self.sides[1 - at].inbox.extend(frames);
            }
        }
    }

    /// Until nothing is left to do without time.
    pub(crate) fn run(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 200_000, "a quiet pair comes to rest");
        }
        for side in &self.sides {
            assert_eq!(side.closed, None, "a session between honest peers stays open");
        }
    }

    /// Jumps to the next deadline and acts on it.
    pub(crate) fn jump(&mut self) {
        let sessions = self.sides.iter().filter_map(|side| side.session.as_ref());
        let next = sessions.filter_map(Session::poll_timeout).min();
        self.time = next.unwrap_or(self.time).max(self.time);
        for at in [DEVICE, SERVER] {
            let now = self.now(at);
            if let Some(session) = &mut self.sides[at].session {
                session.handle_timeout(now);
            }
        }
        self.drain();
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.time.after(duration);
        while self.time < end {
            self.jump();
            while self.step() {}
            if self.sides.iter().all(|side| side.session.is_none() || side.closed.is_some()) {
                return;
            }
        }
    }

    pub(crate) fn sync(&mut self) {
        self.connect();
        self.run();
    }

    pub(crate) fn resync(&mut self) {
        self.disconnect();
        self.sync();
    }

    /// Both sides have the same live documents of the device's interest, and the server has all of the device's.
    #[track_caller]
    pub(crate) fn assert_converged(&self) {
        let interest = &self.sides[DEVICE].host.interest;
        let [device, server] = &self.sides;
        let there = server.host.live(interest);
        let mut here = device.host.live(interest);
        here.retain(|key, _| !device.host.docs[key].is_evicted_there);
        assert_eq!(here, there);
        for (key, stored) in &device.host.docs {
            let Some(other) = server.host.docs.get(key) else {
                assert!(stored.is_evicted_there, "{key:?} never reached the server");
                continue;
            };
            if !stored.doc.deleted && matches(&device.host, key, stored) {
                assert_eq!(stored.doc, other.doc, "{key:?}");
            }
        }
    }

    /// The facts of recorded frames for which `is` holds.
    pub(crate) fn frames_with(
        &self,
        is: impl Fn(&FrameFacts) -> bool,
    ) -> impl Iterator<Item = FrameFacts> {
        let frames = self.record.iter().flatten();
        frames.map(|frame| FrameFacts::of(frame)).filter(move |facts| is(facts))
    }

    pub(crate) fn count(&self, at: usize, is: impl Fn(&SessionEvent) -> bool) -> usize {
        self.sides[at].events.iter().filter(|event| is(event)).count()
    }
}

fn matches(host: &TestHost, key: &DocKey, stored: &super::host::Stored) -> bool {
    super::host::matches(&host.interest, key, &stored.doc)
}
