//! What the peer's thread is told, by the application and by its helper threads.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bigpeer_core::disk::DiskDone;
use bigpeer_core::node::Outcome;
use bigpeer_core::value::Object;
use bytes::Bytes;

use crate::error::PeerError;
use crate::observer::{Callback, Observed};
use crate::wake::Waker;

/// One thing to do.
pub(crate) enum Command {
    /// Run a statement.
    Execute { statement: Arc<str>, args: Object, reply: SyncSender<Answer> },
    /// Ask servers for what a query selects.
    Subscribe { id: u64, query: Box<str>, args: Object, reply: SyncSender<Result<(), PeerError>> },
    /// Stop asking.
    Unsubscribe { id: u64 },
    /// Watch what a query selects.
    Observe { id: u64, observed: Box<Observed> },
    /// Stop watching.
    Unobserve { id: u64 },
    /// A callback has returned, or panicked.
    Delivered { id: u64, callback: Option<Callback> },
    /// Reach the server, now and whenever it is lost.
    StartSync { reply: SyncSender<Result<(), PeerError>> },
    /// Leave the server alone.
    StopSync,
    /// Say when both sides agree.
    WaitSynced { timeout: Duration, reply: SyncSender<Result<(), PeerError>> },
    /// An attempt to connect has ended.
    Dialed { attempt: u64, result: io::Result<TcpStream> },
    /// The disk has done something.
    Disk(DiskDone),
    /// Finish what is under way, and end.
    Close,
}

/// What comes of a statement: its rows as JSON objects joined by commas, and how it ended.
pub(crate) type Answer = Result<(Vec<Bytes>, Outcome), PeerError>;

/// Where commands are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    sender: SyncSender<Command>,
    waker: Waker,
}

/// How many commands may wait; at the bound their senders wait too.
pub(crate) const COMMANDS_MAX: usize = 1024;

impl Inbox {
    pub(crate) fn new(sender: SyncSender<Command>, waker: Waker) -> Self {
        Self { sender, waker }
    }

    /// Hands over a command; `Closed` once the thread has ended.
    pub(crate) fn send(&self, command: Command) -> Result<(), PeerError> {
        self.sender.send(command).map_err(|_| PeerError::Closed)?;
        self.waker.wake();
        Ok(())
    }

    /// Makes the thread look again.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}
