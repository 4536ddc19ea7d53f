//! Why something could not be done.

use std::io;
use std::time::Duration;

use bigpeer_core::log::LogError;
use bigpeer_core::node::RequestError;

use crate::directory::DirectoryError;
use crate::endpoint::EndpointError;

/// Why a peer could not do what was asked. Every text names the cause, and what to do where there is a choice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log in the directory does not open.
    #[error("the log does not open: {0}")]
    Log(LogError),
    /// The statement failed; its kind says what to do differently.
    #[error(transparent)]
    Statement(RequestError),
    /// The address of the server cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is nothing to sync with.
    #[error("this peer was opened without the address of a server")]
    NoServer,
    /// Nobody waits for a sync that is not running.
    #[error("sync is not started")]
    NotStarted,
    /// Both sides did not agree in time.
    #[error("not synced within {waited:?}: {cause}")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
        /// What stood in the way, as far as it is known.
        cause: String,
    },
    /// More than a peer keeps.
    #[error("there are {limit} {what} already: cancel some first")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The texts and arguments of all subscriptions together are longer than a server takes.
    #[error(
        "all subscriptions together would have {bytes} bytes of text and arguments, at most {limit} are taken: cancel some first, or shorten them"
    )]
    SubscriptionsTooLarge {
        /// How many bytes there would be.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The operating system refuses.
    #[error("cannot {action}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// The peer is closed.
    #[error("the peer is closed")]
    Closed,
    /// The peer had to stop: what it read of its own data is wrong.
    #[error("the peer has stopped: {0}")]
    Stopped(String),
}

impl PeerError {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, error }
    }
}
