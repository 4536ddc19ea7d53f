//! Credentials that are given other rights while their sessions live.
//!
//! A key is changed as an operator does it: it is revoked and made anew with the same text. The server may go down
//! in between, so the change is tried until it is made; until then the old rights and the new ones may be in force.

use bigpeer_core::auth::CatalogOp;
use bigpeer_core::node::{Outcome, Request};

use super::clock::{MS, SECOND};
use super::final_phase::key;
use super::process::{APP, SERVER};
use super::{Asker, Event, World};
use crate::coverage::Seen;
use crate::profile::{Profile, Rights, own_key};

/// A change under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rekeying {
    /// Whose key: the number of the first device that had it.
    key: usize,
    to: Profile,
    is_revoked: bool,
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
        let pause_ns = 300 * MS + self.delays.below(2 * SECOND);
        self.clock.after(pause_ns, Event::Rekey);
        let Some(change) = &mut self.rekeying else { return };
        if change.is_asked || !self.is_ready(SERVER) {
            return;
        }
        let Some(change) = &mut self.rekeying else { return };
        change.is_asked = true;
        let op = if change.is_revoked {
            let (text, name) = own_key(change.key);
            CatalogOp::PutKey { app: APP, key: key(&name, &text, change.to) }
        } else {
            CatalogOp::DeleteKey { app: APP, name: own_key(change.key).1.into() }
        };
        self.ask(SERVER, 0, Request::Catalog(op), Asker::Rekey);
    }

    fn begin_rekey(&mut self) {
        let place = self.faults.below(self.devices.len() as u64) as usize;
        let device = &self.devices[place];
        if !device.has_own_key() {
            return;
        }
        let to = Profile::ALL[self.faults.below(Profile::ALL.len() as u64) as usize];
        let key = device.key;
        self.line(format!("the key of device {key} becomes {to:?}"));
        self.rekeying = Some(Rekeying { key, to, is_revoked: false, is_asked: false });
        self.change_rights(key, |rights| rights.change(to));
    }

    pub(super) fn on_rekey_answer(&mut self, outcome: &Outcome) {
        let Some(change) = &mut self.rekeying else { return };
        change.is_asked = false;
        // Whatever an earlier attempt has done: revoke, then make.
        let is_done = change.is_revoked && outcome.error.is_none();
        change.is_revoked = !change.is_revoked;
        if is_done {
            let key = change.key;
            self.rekeying = None;
            self.saw(Seen::RightsChanged);
            let until_ns = self.clock.now_ns() + SECOND;
            self.line(format!("the key of device {key} is changed"));
            self.change_rights(key, |rights| rights.settle(until_ns));
        }
    }

    pub(super) fn on_rekey_vanished(&mut self) {
        if let Some(change) = &mut self.rekeying {
            change.is_asked = false;
            change.is_revoked = false;
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
