//! Observers on the peer's thread: when their queries run again, and what is delivered.
//!
//! A commit marks every observer; a marked one is evaluated once, however many commits there were, and never while
//! its callback runs. What equals the last delivery is not delivered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use bigpeer_core::node::Outcome;
use bigpeer_core::value::Object;
use bytes::Bytes;

use super::Engine;
use super::statements::Asker;
use crate::error::PeerError;
use crate::observer::{Callback, Deliverer, Delivery, Observed};

/// How many observers a peer keeps.
const OBSERVERS_MAX: usize = 1000;

/// All observers, and the thread that calls them back.
#[derive(Default)]
pub(super) struct Observers {
    by_id: BTreeMap<u64, Watched>,
    deliverer: Option<Deliverer>,
}

struct Watched {
    statement: Arc<str>,
    args: Object,
    cancelled: Arc<AtomicBool>,
    /// `None` while it runs.
    callback: Option<Callback>,
    /// What was delivered last, as text.
    last: Option<Vec<u8>>,
    /// Something was committed since the last evaluation began.
    is_stale: bool,
    is_evaluating: bool,
    /// Who waits for the first evaluation.
    reply: Option<SyncSender<Result<(), PeerError>>>,
}

impl Watched {
    fn is_due(&self) -> bool {
        self.is_stale && !self.is_evaluating && self.callback.is_some()
    }
}

impl Observers {
    /// Something was committed.
    pub(super) fn touch(&mut self) {
        self.by_id.values_mut().for_each(|watched| watched.is_stale = true);
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.by_id.remove(&id);
    }

    pub(super) fn cancel_all(&mut self) {
        for watched in std::mem::take(&mut self.by_id).into_values() {
            watched.cancelled.store(true, Ordering::Release);
            if let Some(reply) = watched.reply {
                let _ = reply.send(Err(PeerError::Closed));
            }
        }
    }
}

impl Engine {
    pub(super) fn observe(&mut self, id: u64, observed: Observed) {
        let Observed { statement, args, callback, cancelled, reply } = observed;
        if let Err(error) = self.prepare_observer() {
            let _ = reply.send(Err(error));
            return;
        }
        let watched = Watched {
            statement,
            args,
            cancelled,
            callback: Some(callback),
            last: None,
            is_stale: true,
            is_evaluating: false,
            reply: Some(reply),
        };
        self.observers.by_id.insert(id, watched);
    }

    fn prepare_observer(&mut self) -> Result<(), PeerError> {
        if !matches!(self.phase, super::Phase::Running) {
            return Err(PeerError::Closed);
        }
        if self.observers.by_id.len() >= OBSERVERS_MAX {
            return Err(PeerError::TooMany { what: "observers", limit: OBSERVERS_MAX });
        }
        if self.observers.deliverer.is_none() {
            self.observers.deliverer = Some(Deliverer::start(self.inbox.clone())?);
        }
        Ok(())
    }

    pub(super) fn evaluate_observers(&mut self) {
        let due = self.observers.by_id.iter_mut().filter(|(_, watched)| watched.is_due());
        let due: Vec<(u64, Arc<str>, Object)> = due
            .map(|(id, watched)| {
                watched.is_stale = false;
                watched.is_evaluating = true;
                (*id, watched.statement.clone(), watched.args.clone())
            })
            .collect();
        for (id, statement, args) in due {
            self.begin(statement, args, Asker::Observer(id));
        }
    }

    pub(super) fn on_observed(&mut self, id: u64, rows: Vec<Bytes>, outcome: Outcome) {
        // It may have been cancelled meanwhile.
        let Some(watched) = self.observers.by_id.get_mut(&id) else { return };
        watched.is_evaluating = false;
        if let Some(error) = outcome.error {
            return self.on_observer_failed(id, PeerError::Statement(error));
        }
        if let Some(reply) = watched.reply.take() {
            let _ = reply.send(Ok(()));
        }
        let text = rows.join(&b","[..]);
        if watched.last.as_ref() == Some(&text) {
            return;
        }
        watched.last = Some(text);
        let callback = watched.callback.take().expect("it is not evaluated while it runs");
        let cancelled = watched.cancelled.clone();
        let deliverer = self.observers.deliverer.as_ref().expect("started with the first observer");
        deliverer.deliver(Delivery { id, callback, cancelled, rows });
    }

    /// A query that cannot run at all ends its observer; one that fails later is tried again at the next commit.
    fn on_observer_failed(&mut self, id: u64, error: PeerError) {
        let Some(watched) = self.observers.by_id.get_mut(&id) else { return };
        match watched.reply.take() {
            Some(reply) => {
                self.observers.remove(id);
                let _ = reply.send(Err(error));
            }
            None => {
                let error = format!("an observer's query failed: {error}");
                self.status.update(|status| status.last_error = Some(error));
            }
        }
    }

    pub(super) fn on_delivered(&mut self, id: u64, callback: Option<Callback>) {
        let Some(watched) = self.observers.by_id.get_mut(&id) else { return };
        watched.callback = callback;
        if watched.callback.is_none() {
            self.observers.remove(id);
            let error = "an observer's callback panicked: it is not called again".to_owned();
            self.status.update(|status| status.last_error = Some(error));
        }
    }
}
