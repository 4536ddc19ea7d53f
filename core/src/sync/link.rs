//! The way out of a session: what it has to send, to ask and to tell, in order.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ident::Txn;
use crate::time::Hlc;

use super::error::CloseReason;
use super::frame::{self, Frame, Hello};
use super::host::{CommandId, DocKey, HostCommand, RejectReason};

/// Something that the owner of a session must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOutput {
    /// Send these bytes as one message.
    Frame(Bytes),
    /// Carry out a command and answer it.
    Host(HostCommand),
    /// Tell whoever is interested.
    Event(SessionEvent),
    /// The session is over: close the connection once the frames before this are sent, forget its watches and
    /// scans. Nothing follows.
    Close {
        /// Why.
        reason: CloseReason,
    },
}

/// Something that happened, for status and for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The remote introduced itself.
    Connected(Box<Hello>),
    /// An update of the remote is durable here.
    Applied {
        /// Our position of it.
        txn: Txn,
        /// How many documents it concerned.
        count: usize,
    },
    /// Everything of ours up to here is durable at the remote, or settled in another way.
    SettledThere {
        /// Our position.
        upto: Txn,
    },
    /// A round begins: what counts as settled at the remote is said anew. It may have been put back and have lost what
    /// was settled before.
    UnsettledThere,
    /// The remote refused documents of ours in one update. All of them are kept in `owed`.
    Rejected {
        /// Which and why, the first [`REJECTED_LISTED_MAX`].
        listed: Vec<(DocKey, RejectReason)>,
        /// How many there are in all.
        count: u64,
    },
    /// The remote does not let us read everything. Said before each `Start`, anew for each.
    Granted {
        /// What it lets us read, as JSON: see [`Access::to_value`](crate::auth::Access::to_value).
        read: Bytes,
    },
    /// What `probe` asked for holds: we have everything that the remote had applied when it received the probe,
    /// and the remote has everything that was durable here when we asked.
    Synced {
        /// The probe.
        probe: u64,
    },
    /// What the remote knows of us proves that our store was rolled back or cloned; a new epoch was asked for.
    StoreDiverged {
        /// It keeps a nonce of ours that we do not know.
        stale: bool,
        /// The clock value that it knows of our actor.
        seen: Option<Hlc>,
    },
}

/// How many refused documents of one update an event names.
pub const REJECTED_LISTED_MAX: usize = 1_000;

/// Queues outputs and numbers commands.
#[derive(Debug, Default)]
pub(crate) struct Link {
    outputs: VecDeque<SessionOutput>,
    command_last: u64,
    frames_sent: u64,
    bytes_sent: u64,
}

impl Link {
    pub(crate) fn frame(&mut self, frame: &Frame) {
        let bytes = frame::encode(frame);
        self.count(&bytes);
        self.outputs.push_back(SessionOutput::Frame(bytes));
    }

    /// Counts a frame that leaves without waiting here.
    pub(crate) fn count(&mut self, bytes: &Bytes) {
        self.frames_sent += 1;
        self.bytes_sent += bytes.len() as u64;
    }

    /// Issues a command made from a fresh id.
    pub(crate) fn command(&mut self, make: impl FnOnce(CommandId) -> HostCommand) -> CommandId {
        self.command_last += 1;
        let id = CommandId(self.command_last);
        self.host(make(id));
        id
    }

    /// Issues a command that repeats an id.
    pub(crate) fn host(&mut self, command: HostCommand) {
        self.outputs.push_back(SessionOutput::Host(command));
    }

    pub(crate) fn event(&mut self, event: SessionEvent) {
        self.outputs.push_back(SessionOutput::Event(event));
    }

    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.outputs.push_back(SessionOutput::Close { reason });
    }

    /// Drops frames and events that wait. Commands stay: what the remote has answered is kept by the host even if
    /// the session ends, or the next one begins where this one did.
    pub(crate) fn keep_commands(&mut self) {
        self.outputs.retain(|output| matches!(output, SessionOutput::Host(_)));
    }

    /// Drops everything that waits: it was prepared for a session that is over.
    pub(crate) fn clear(&mut self) {
        self.outputs.clear();
    }

    pub(crate) fn poll(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Frames and bytes handed out or queued so far.
    pub(crate) fn sent(&self) -> (u64, u64) {
        (self.frames_sent, self.bytes_sent)
    }
}
