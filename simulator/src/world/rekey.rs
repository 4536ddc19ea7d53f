//! Credentials that are given other rights while their sessions live.
//!
//! A key is changed as an operator does it: it is revoked and made anew with the same text, in two transactions or in one.
//! The server may go down before it has answered, so the change is tried until it is made; until then the old rights and
//! the new ones may be in force. Before some changes the old rights are given once more, for a while, and expire.

use bigpeer_core::auth::{ApiKey, CatalogOp};
use bigpeer_core::node::{ErrorKind, Outcome, Request};

use super::clock::{MS, SECOND};
use super::final_phase::key;
use super::network::Owner;
use super::process::{APP, SERVER, wall};
use super::{Asker, Event, World};
use crate::check::Failure;
use crate::coverage::Seen;
use crate::profile::{Profile, Rights, own_key};

/// A change under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rekeying {
    /// Whose key: the number of the first device that had it.
    key: usize,
    to: Profile,
    /// The former rights, as long as they are to be given once more for a while.
    lent: Option<Profile>,
    /// Since then the key has expired: nobody is told anything by it until it is made anew.
    expired_ns: Option<u64>,
    /// The server's clock has not jumped since the change began.
    is_clock_steady: bool,
    is_revoked: bool,
    /// The key is revoked and made in one transaction: it is always there.
    is_in_one: bool,
    is_asked: bool,
}

impl World {
    /// Begins a change, or goes on with it.
    pub(crate) fn rekey(&mut self) {
        if self.rekeying.is_none() {
            if !self.is_working() || self.is_finale() {
                return;
            }
            self.begin_rekey();
        }
        // A run is over once the change is made.
        let is_late = self.clock.now_ns() >= self.work_ends_ns;
        let usual_ns = 300 * MS + self.delays.below(2 * SECOND);
        self.clock.after(if is_late { 100 * MS } else { usual_ns }, Event::Rekey);
        let (now_ns, is_ready) = (self.clock.now_ns(), self.is_ready(SERVER));
        let expires = wall(self.processes[SERVER].wall_offset_ms, now_ns + LENT_NS);
        let Some(change) = &mut self.rekeying else { return };
        if change.is_asked || !is_ready || change.expired_ns.is_some_and(|at_ns| now_ns < at_ns) {
            return;
        }
        change.is_asked = true;
        let (text, name) = own_key(change.key);
        let (revokes, makes) = (!change.is_revoked, change.is_revoked || change.is_in_one);
        let made = match change.lent {
            None => key(&name, &text, change.to),
            Some(lent) => ApiKey { expires, ..key(&name, &text, lent) },
        };
        if makes && change.lent.is_none() {
            change.expired_ns = None;
        }
        let revoke = CatalogOp::DeleteKey { app: APP, name: name.into() };
        let make = CatalogOp::PutKey { app: APP, key: made };
        let ops = revokes.then_some(revoke).into_iter().chain(makes.then_some(make)).collect();
        self.ask(SERVER, 0, Request::Catalog(ops), Asker::Rekey);
    }

    fn begin_rekey(&mut self) {
        let place = self.faults.below(self.devices.len() as u64) as usize;
        let device = &self.devices[place];
        if !device.has_own_key() {
            return;
        }
        let to = Profile::ALL[self.faults.below(Profile::ALL.len() as u64) as usize];
        let (key, former) = (device.key, device.rights.now);
        let to = former.other_writer().filter(|_| self.lending.one_in(2)).unwrap_or(to);
        self.line(format!("the key of device {key} becomes {to:?}"));
        let is_time = self.clock.now_ns() + LENDING_NS < self.work_ends_ns;
        let lent = (self.lending.one_in(2) && is_time).then_some(former);
        self.rekeying = Some(Rekeying {
            key,
            to,
            lent,
            expired_ns: None,
            is_clock_steady: true,
            is_revoked: false,
            is_in_one: self.lists.one_in(2),
            is_asked: false,
        });
        self.change_rights(key, |rights| rights.change(to));
    }

    pub(super) fn on_rekey_answer(&mut self, outcome: &Outcome) {
        let Some(change) = &mut self.rekeying else { return };
        change.is_asked = false;
        let is_in_one = change.is_in_one;
        // Each attempt finds the key, whether or not the ones before it were made.
        let refused = outcome.error.as_ref().filter(|error| error.kind == ErrorKind::Conflict);
        if let Some(error) = refused.filter(|_| is_in_one) {
            let text = format!("a key was revoked and made in one transaction, and then: {error}");
            return self.fail(Failure::new("transaction", text));
        }
        // Whatever an earlier attempt has done: revoke, then make.
        let is_done = (change.is_revoked || is_in_one) && outcome.error.is_none();
        change.is_revoked = !change.is_revoked && !is_in_one;
        if is_done && is_in_one {
            self.saw(Seen::KeyReplaced);
        }
        let Some(change) = &mut self.rekeying else { return };
        if is_done && change.lent.take().is_some() {
            // Its sessions end at that second, on every thread.
            change.expired_ns = Some(self.clock.now_ns() + LENT_NS + SECOND);
        } else if is_done {
            let key = change.key;
            self.rekeying = None;
            self.saw(Seen::RightsChanged);
            let now_ns = self.clock.now_ns();
            self.line(format!("the key of device {key} is changed"));
            self.change_rights(key, |rights| rights.settle(now_ns, now_ns + SECOND));
        }
    }

    pub(super) fn on_rekey_vanished(&mut self) {
        if let Some(change) = &mut self.rekeying {
            change.is_asked = false;
            change.is_revoked = false;
        }
    }

    /// Whether the key of a device has expired, and is not made anew.
    pub(super) fn has_expired(&self, owner: Owner) -> bool {
        let (Owner::Device(device), Some(change)) = (owner, &self.rekeying) else { return false };
        let is_judged = self.devices[device - 1].key == change.key && change.is_clock_steady;
        is_judged && change.expired_ns.is_some_and(|expired_ns| expired_ns <= self.clock.now_ns())
    }

    /// The server's clock jumps: a key that was to expire may do so earlier, later, or twice.
    pub(super) fn lose_expiry(&mut self) {
        if let Some(change) = &mut self.rekeying {
            change.is_clock_steady = false;
        }
    }

    /// All devices that share the key, and everything that they did before.
    fn change_rights(&mut self, key: usize, change: impl Fn(&mut Rights)) {
        for device in self.devices.iter_mut().filter(|device| device.key == key) {
            change(&mut device.rights);
            device.is_partial = true;
            if let Some(id) = device.connection
                && let Some(connection) = self.connections.get_mut(&id)
            {
                connection.promises.iter_mut().for_each(|promise| promise.is_void = true);
                connection.wire.asks_anew();
            }
        }
        self.ledger.change_rights(key, change);
    }
}

/// About as long as it takes until they have expired and others are given.
const LENDING_NS: u64 = 5 * SECOND;

/// How long rights are given that expire.
const LENT_NS: u64 = SECOND;
