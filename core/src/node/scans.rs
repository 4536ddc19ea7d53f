//! Statements that look through a collection, counted by the key that asks: a key with many of them waits for
//! itself, and not everybody else for it.

use std::collections::{BTreeMap, VecDeque};

use super::Node;
use super::coordinate::{Call, Work};
use super::message::CallId;
use super::request::Credential;
use crate::auth::hash;
use crate::ident::AppId;
use crate::seam::Now;

/// Whose statement it is: the app, and a hash of the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asker(AppId, [u8; 32]);

impl Asker {
    /// Nobody for the process itself, which asks for nothing that has to wait.
    pub(crate) fn of(app: AppId, credential: &Credential) -> Option<Self> {
        match credential {
            Credential::Bearer(Some(token)) => Some(Self(app, hash(token))),
            Credential::Bearer(None) | Credential::Local => None,
        }
    }
}

/// Whether a read is among those of its key that look through a collection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seat {
    /// It names its documents, or the process itself asks: nobody counts it.
    Uncounted,
    Taken(Asker),
    /// It waits for its client, or for a seat after that: what neither works nor holds much keeps nobody waiting.
    Left(Asker),
}

impl Seat {
    pub(crate) fn taken(asker: Option<Asker>) -> Self {
        asker.map_or(Self::Uncounted, Self::Taken)
    }
}

/// The statements of each key that has any.
#[derive(Debug, Default)]
pub(crate) struct Scans {
    by_asker: BTreeMap<Asker, Counted>,
    /// Those that have a seat and may begin, or go on, now.
    startable: VecDeque<(Asker, CallId)>,
}

#[derive(Debug, Default)]
struct Counted {
    /// How many have a seat.
    running: usize,
    /// In the order in which they began to wait.
    waiting: VecDeque<CallId>,
}

impl Scans {
    /// Counts one more, if there is room for it.
    pub(crate) fn take_seat(&mut self, asker: Asker, max: usize) -> bool {
        let counted = self.by_asker.entry(asker).or_default();
        let has_room = counted.running < max;
        counted.running += usize::from(has_room);
        has_room
    }

    pub(crate) fn wait(&mut self, asker: Asker, call: CallId) {
        self.by_asker.entry(asker).or_default().waiting.push_back(call);
    }

    /// A call waits no longer. One that has a seat already keeps it until its turn to begin.
    pub(crate) fn forget(&mut self, asker: Asker, call: CallId) {
        if let Some(counted) = self.by_asker.get_mut(&asker)
            && let Some(place) = counted.waiting.iter().position(|waiting| *waiting == call)
        {
            counted.waiting.remove(place);
        }
    }

    /// One has ended, or works no more: its seat goes to the next that waits.
    pub(crate) fn release(&mut self, asker: Asker) {
        let Some(counted) = self.by_asker.get_mut(&asker) else { return };
        match counted.waiting.pop_front() {
            Some(next) => self.startable.push_back((asker, next)),
            None => {
                counted.running -= 1;
                if counted.running == 0 {
                    self.by_asker.remove(&asker);
                }
            }
        }
    }
}

impl Node {
    /// Lets one statement that has waited for a seat begin, or go on. False when there is none.
    pub(crate) fn seat_waiting_scan(&mut self, now: Now) -> bool {
        let Some((asker, call)) = self.scans.startable.pop_front() else { return false };
        if let Some(Call { work: Work::Select(select), .. }) = self.calls.get_mut(&call) {
            select.seat = Seat::Taken(asker);
            self.go_on(call);
            return true;
        }
        match self.end_call(call) {
            Some(Call { work: Work::Queued(start), .. }) => self.run_select(*start, now),
            // It was cancelled, or has had its time: the seat goes on to the next.
            _ => self.scans.release(asker),
        }
        true
    }
}
