//! Observers: what the application registers, and the thread that calls it back.
//!
//! Callbacks run on a thread of their own, so that they may take their time and use the peer they observe.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

use bigpeer_core::value::{Object, Value};
use bytes::Bytes;

use crate::command::{Command, Inbox};
use crate::error::PeerError;
use crate::result::parse_rows;

/// What an application wants called with the items of a result.
pub(crate) type Callback = Box<dyn FnMut(&[Value]) + Send>;

/// A registration on its way to the peer's thread.
pub(crate) struct Observed {
    pub(crate) statement: Arc<str>,
    pub(crate) args: Object,
    pub(crate) callback: Callback,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) reply: SyncSender<Result<(), PeerError>>,
}

/// An observer. Dropping it cancels it.
#[derive(Debug)]
#[must_use = "an observer is cancelled when it is dropped"]
pub struct Observer {
    pub(crate) id: u64,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) inbox: Inbox,
}

impl Observer {
    /// No call begins after this one has returned; one that has begun goes on to its end.
    pub fn cancel(self) {}

    /// Whether no more calls come: its callback has panicked, or the peer is closed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        // A peer that is closed has forgotten it already.
        let _ = self.inbox.send(Command::Unobserve { id: self.id });
    }
}

/// A call to make.
pub(crate) struct Delivery {
    pub(crate) id: u64,
    pub(crate) callback: Callback,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) rows: Vec<Bytes>,
}

/// The thread that makes the calls. It ends after its last call once this is dropped; nobody waits for it, because
/// a callback may be what closes the peer.
pub(crate) struct Deliverer(Sender<Delivery>);

impl Deliverer {
    pub(crate) fn start(inbox: Inbox) -> Result<Self, PeerError> {
        let (sender, work) = channel();
        std::thread::Builder::new()
            .name("bigpeer-observers".to_owned())
            .spawn(move || run(&work, &inbox))
            .map_err(PeerError::io("start a thread"))?;
        Ok(Self(sender))
    }

    pub(crate) fn deliver(&self, delivery: Delivery) {
        self.0.send(delivery).expect("the thread lives as long as there is work");
    }
}

fn run(work: &Receiver<Delivery>, inbox: &Inbox) {
    while let Ok(Delivery { id, mut callback, cancelled, rows }) = work.recv() {
        if cancelled.load(Ordering::Acquire) {
            continue;
        }
        let items = parse_rows(&rows);
        // What a callback leaves behind when it panics is never called again.
        let result = catch_unwind(AssertUnwindSafe(|| callback(&items)));
        if result.is_err() {
            cancelled.store(true, Ordering::Release);
        }
        let callback = result.is_ok().then_some(callback);
        // A peer that is closed wants no more calls.
        let _ = inbox.send(Command::Delivered { id, callback });
    }
}
