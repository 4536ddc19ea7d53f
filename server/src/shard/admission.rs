//! Who has a place on this thread, and how much of what they say is held.
//!
//! A place is free, or is taken from the stranger that has been idle longest: somebody who has shown a credential is
//! never put out for somebody who has not. Administrators have places of their own. What connections hold of
//! unfinished input has one bound for the whole thread, and at the bound the slowest senders go.

use std::collections::VecDeque;
use std::time::Duration;

use bigpeer_connection::{FramedConnection, Request, ServerConnection};
use bigpeer_core::auth::AuthError;
use bigpeer_core::dql::Fuel;
use bigpeer_core::ident::AppId;
use bigpeer_core::time::Instant;

use super::Shard;
use super::connection::{ConnId, Entry, Machine, either};
use crate::api::{self, AtHead, Door, reply};
use crate::metrics::Metric;
use crate::refusals::{AddressSlot, Refusal};
use crate::shared::Phase;

/// A connection that was accepted.
#[derive(Debug)]
pub struct Arrival {
    /// Through which door it came.
    pub door: Door,
    /// Its place in the count of its address, where that is bounded.
    pub slot: Option<AddressSlot>,
}

impl From<Door> for Arrival {
    fn from(door: Door) -> Self {
        Self { door, slot: None }
    }
}

/// The connections that share a number of places.
#[derive(Debug)]
pub(super) struct Crowd {
    places: usize,
    taken: usize,
    /// Those that had shown no credential when they were last looked at, with the moment of their last word as of
    /// then. Those who have spoken since go to the end when their turn comes.
    strangers: VecDeque<(u64, Instant)>,
}

/// How many strangers are looked at for one that has been idle; then the next is taken as it is.
const LOOKS_MAX: usize = 64;

/// How far the queue of strangers may outgrow the connections before those that are gone are dropped from it.
const GONE_MAX: usize = 64;

/// Places of administrators and of whoever reads metrics, on each thread, beside those of all others.
const ADMIN_PLACES: usize = 64;

impl Crowd {
    pub(super) fn of_strangers(places: usize) -> Self {
        Self { places, taken: 0, strangers: VecDeque::new() }
    }

    /// How many strangers are remembered; for the tests.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.strangers.len()
    }

    pub(super) fn of_administrators() -> Self {
        Self::of_strangers(ADMIN_PLACES)
    }
}

/// What a connection holds of unfinished input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    bytes: usize,
    /// Since when it holds something, and what has come since.
    since: Instant,
    received: u64,
}

impl Held {
    /// Bytes a second, and whether the sender has had the time to show its pace.
    fn pace(&self, now: Instant) -> (bool, u64) {
        let millis = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        (millis < 1000, self.received.saturating_mul(1000) / millis.max(1))
    }

    /// Counts what has come.
    pub(super) fn note(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }
}

/// The moment to give memory back: a second after the last large piece of input was dropped, or after statements have
/// done much. While such pieces come and go, the allocator has use for what they leave, but not for ever.
#[derive(Debug, Default)]
pub(super) struct Purge {
    released_bytes: usize,
    /// The work of statements so far when memory was last given back for it, or will be.
    worked: Fuel,
    at: Option<Instant>,
    /// The latest moment to which more pieces may put it off.
    latest: Option<Instant>,
}

impl Purge {
    /// So many bytes of input were dropped.
    pub(super) fn note(&mut self, bytes: usize, now: Instant) {
        self.released_bytes += bytes;
        if bytes > 0 && self.released_bytes >= PURGE_BYTES_MIN {
            let latest = *self.latest.get_or_insert(self.at.unwrap_or(now.after(PURGE_AT_LAST)));
            self.at = Some(now.after(PURGE_AFTER).min(latest));
        }
    }

    /// Takes notice of the work that statements have done since the start.
    pub(super) fn note_work(&mut self, total: Fuel, now: Instant) {
        if total - self.worked >= PURGE_WORK_MIN {
            self.worked = total;
            self.at.get_or_insert(now.after(PURGE_AFTER));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// True when it is time, once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            *self = Self { worked: self.worked, ..Self::default() };
        }
        is_due
    }
}

/// What must have been dropped for a purge to be worth its walk, in bytes.
const PURGE_BYTES_MIN: usize = 1 << 20;
/// The work that statements must have done for it: a tenth of a second's work.
pub(super) const PURGE_WORK_MIN: Fuel = 100_000_000;

const PURGE_AFTER: Duration = Duration::from_secs(1);
const PURGE_AT_LAST: Duration = Duration::from_secs(5);

/// After a shedding so much of the bound is free, as a part: an eighth. One search then serves many senders.
const SHED_PART: usize = 8;

/// What a request may bring along whose route reads no body.
const BODY_IGNORED_BYTES_MAX: usize = 8 * 1024;

impl Shard {
    /// Takes a connection. `None`: there is no place for it, or the server is stopping; close the socket.
    pub fn open_connection(&mut self, arrival: impl Into<Arrival>) -> Option<ConnId> {
        let Arrival { door, slot } = arrival.into();
        assert!(self.rack.is_some() || door == Door::Admin, "the admin door takes administrators");
        if self.stop.is_stopping() {
            return self.refuse_connection(Refusal::Stopping);
        }
        if self.crowd(door).taken >= self.crowd(door).places && !self.make_room(door) {
            return self.refuse_connection(Refusal::Limit);
        }
        let (config, now) = (self.config.connection.clone(), self.now.mono);
        let tls = match door {
            Door::Data | Door::Peer => self.config.tls.clone(),
            Door::Admin => self.config.admin_tls.clone(),
        };
        let machine = match door {
            Door::Peer => {
                Machine::Framed(Box::new(FramedConnection::server(config, tls, now).ok()?))
            }
            Door::Data | Door::Admin => {
                Machine::Http(Box::new(ServerConnection::new(config, tls, now).ok()?))
            }
        };
        let conn = ConnId(self.connections.insert(Entry::new(machine, door, slot, now)));
        let open = self.connections.len();
        let crowd = self.crowd(door);
        crowd.taken += 1;
        crowd.strangers.push_back((conn.0, now));
        if crowd.strangers.len() > open * 2 + GONE_MAX {
            self.forget_gone(door);
        }
        self.metrics().add(Metric::ConnectionsOpened, 1);
        self.touch(conn);
        Some(conn)
    }

    /// The place of a connection that has ended is free.
    pub(super) fn give_back_place(&mut self, conn: ConnId) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        if std::mem::take(&mut entry.has_place) {
            let door = entry.door;
            let bytes = std::mem::take(&mut entry.held).bytes;
            self.held_bytes -= bytes;
            self.purge.note(bytes, self.now.mono);
            self.crowd(door).taken -= 1;
        }
    }

    /// Whoever speaks on a connection has shown a credential.
    pub(super) fn note_known(&mut self, conn: ConnId) {
        if let Some(entry) = self.connections.get_mut(conn.0) {
            entry.is_known = true;
        }
    }

    /// Whether whoever speaks on a connection has shown a credential.
    #[must_use]
    pub fn is_known(&self, conn: ConnId) -> bool {
        self.connections.get(conn.0).is_some_and(|entry| entry.is_known)
    }

    /// Keeps the count of what a connection holds, and sheds the slowest senders at the bound.
    pub(super) fn note_held(&mut self, conn: ConnId) {
        let now = self.now.mono;
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        if !entry.has_place {
            return;
        }
        let bytes = either!(&entry.machine, it => it.held_input_bytes());
        if entry.held.bytes == 0 || bytes == 0 {
            entry.held.since = now;
            entry.held.received = bytes as u64;
        }
        self.held_bytes = self.held_bytes - entry.held.bytes + bytes;
        self.purge.note(entry.held.bytes.saturating_sub(bytes), now);
        entry.held.bytes = bytes;
        if self.held_bytes > self.config.input_bytes_max && !self.is_shedding {
            self.shed();
        }
    }

    /// Decides on a request whose body has not come: nobody who may not ask is listened to any further.
    pub(super) fn on_request_head(&mut self, conn: ConnId, request: &Request) {
        let Some(entry) = self.connections.get(conn.0) else { return };
        let at_head = match self.config.gate.refuse(request, false, entry.door) {
            Some(response) => AtHead::Refuse(response),
            None => api::route_head(request, entry.door, &self.config.admin_token),
        };
        let decision = match at_head {
            AtHead::Refuse(response) => Err(response),
            AtHead::NoBody => Ok(BODY_IGNORED_BYTES_MAX),
            AtHead::Administrator => Ok(usize::MAX),
            AtHead::Statement { .. } if self.shared.phase() == Phase::Starting => {
                Err(reply::message(503, STARTING))
            }
            AtHead::Statement { app, bearer } => self
                .check_key(app, bearer.as_deref())
                .map(|()| usize::MAX)
                .map_err(|error| reply::unauthorized(&error)),
        };
        if decision == Ok(usize::MAX) {
            self.note_known(conn);
        }
        if let Err(response) = &decision {
            self.metrics().answered(response.status);
        }
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        match decision {
            Ok(bytes_max) => entry.http().accept_body(bytes_max),
            Err(response) => entry.http().refuse_body(response),
        }
    }

    /// As [`Shard::check_key`], of a request that is whole; without looking for a key that opened the app on this
    /// connection before. One that was revoked since costs the reading of one more body: execution finds it out.
    pub(super) fn check_shown(
        &mut self,
        conn: ConnId,
        app: AppId,
        bearer: Option<&str>,
    ) -> Result<(), AuthError> {
        let Some(entry) = self.connections.get(conn.0) else { return Ok(()) };
        let shown = entry.shown.as_deref().map(|(app, key)| (*app, &**key));
        if shown.is_some() && shown == bearer.map(|key| (app, key)) {
            return Ok(());
        }
        self.check_key(app, bearer)?;
        let entry = self.connections.get_mut(conn.0).expect("it was there a moment ago");
        entry.is_known = true;
        entry.shown = bearer.map(|key| Box::new((app, key.into())));
        Ok(())
    }

    /// Whether a key opens an app over HTTP, as execution will find.
    pub(super) fn check_key(&self, app: AppId, bearer: Option<&str>) -> Result<(), AuthError> {
        self.catalog().authorize(app, bearer, self.now.wall).map(drop)
    }

    /// Whether a token opens an app to a device, as its session will find.
    pub(super) fn check_device(&self, app: AppId, bearer: Option<&str>) -> Result<(), AuthError> {
        let catalog = self.catalog();
        if bearer.is_some_and(|token| catalog.is_development_token(app, token)) {
            return Ok(());
        }
        self.check_key(app, bearer)
    }

    fn refuse_connection(&mut self, reason: Refusal) -> Option<ConnId> {
        self.shared.refusals().note(reason, self.now.wall.0 / 1000);
        None
    }

    fn crowd(&mut self, door: Door) -> &mut Crowd {
        match door {
            Door::Admin => &mut self.administrators,
            Door::Data | Door::Peer => &mut self.strangers,
        }
    }

    /// Puts out the stranger that has been idle longest. False if all have shown a credential.
    fn make_room(&mut self, door: Door) -> bool {
        let Some(key) = self.longest_idle(door) else { return false };
        let now = self.now.mono;
        self.shared.refusals().note(Refusal::Idle, self.now.wall.0 / 1000);
        self.drive(ConnId(key), |machine| either!(machine, it => it.handle_reset(now)));
        true
    }

    fn longest_idle(&mut self, door: Door) -> Option<u64> {
        let mut looks = 0;
        while let Some((key, seen)) = self.crowd(door).strangers.pop_front() {
            let Some(entry) = self.connections.get(key) else { continue };
            if !entry.has_place || entry.is_known {
                continue;
            }
            looks += 1;
            if entry.active == seen || looks > LOOKS_MAX {
                return Some(key);
            }
            let active = entry.active;
            self.crowd(door).strangers.push_back((key, active));
        }
        None
    }

    fn forget_gone(&mut self, door: Door) {
        let mut strangers = std::mem::take(&mut self.crowd(door).strangers);
        strangers.retain(|(key, _)| {
            self.connections.get(*key).is_some_and(|entry| entry.has_place && !entry.is_known)
        });
        self.crowd(door).strangers = strangers;
    }

    /// Gives up unfinished input, the slowest first, until an eighth of the bound is free.
    fn shed(&mut self) {
        let now = self.now.mono;
        let mut paces: Vec<_> = self
            .connections
            .keys()
            .filter_map(|key| {
                let held = self.connections.get(key)?.held;
                (held.bytes > 0).then(|| (held.pace(now), key))
            })
            .collect();
        paces.sort_unstable();
        let goal = self.config.input_bytes_max - self.config.input_bytes_max / SHED_PART;
        self.is_shedding = true;
        for (_, key) in paces {
            if self.held_bytes <= goal {
                break;
            }
            self.metrics().add(Metric::InputShed, 1);
            self.drive(ConnId(key), |machine| either!(machine, it => it.shed(now)));
        }
        self.is_shedding = false;
    }
}

/// What a client hears before the log is read.
pub(super) const STARTING: &str = "the server is starting: try again in a moment";
