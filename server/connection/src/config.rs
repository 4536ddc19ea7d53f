//! The bounds and time-outs of a connection.

use std::time::Duration;

use crate::http::date::DateCell;

/// What bounds a connection. Shared by all connections of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The longest request or response head, in bytes. At most 65,535.
    pub head_bytes_max: u16,
    /// The largest request body, in bytes; one that claims more is refused before a byte of it is read.
    pub body_bytes_max: usize,
    /// The largest WebSocket message or peer frame, in bytes.
    pub message_bytes_max: usize,
    /// How many requests may wait for their answers before reading pauses.
    pub requests_in_flight_max: usize,
    /// How much unsent output makes a connection stop reading and refuse streamed chunks and messages.
    /// A queued item is never cut, so that the queue may exceed this by one item.
    pub output_bytes_max: usize,
    /// How much received input is kept for a caller that goes on reading although `wants_read` is false.
    pub input_bytes_max: usize,
    /// Whether the caller is asked before more is taken than shows who speaks: at the head of a request whose body has
    /// not come with it ([`Event::RequestHead`](crate::Event::RequestHead)), and at the first frame of a bare stream.
    pub asks_first: bool,
    /// The longest frame on a bare stream before the caller has admitted its sender.
    pub greeting_bytes_max: usize,
    /// Whether bodies with a `Content-Encoding` reach the caller; if not, they are refused with 415.
    pub encoded_bodies: bool,
    /// The time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// The time for a head, from its first byte to its last.
    pub head_timeout: Duration,
    /// The time for a session's first message, from the moment that it may be sent; and for the first frame of a bare
    /// stream.
    pub greeting_timeout: Duration,
    /// The time in which a message, or the body of a response, must grow by 1 KiB or end.
    pub progress_timeout: Duration,
    /// How often the growth of a request's body is looked at.
    pub body_window: Duration,
    /// How much of a request's body must have come in each such window, in bytes, unless it has ended.
    pub body_window_bytes_min: usize,
    /// The time for a request's body as a whole.
    pub body_timeout: Duration,
    /// How long a connection without any request is kept.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what waits to be sent.
    pub write_timeout: Duration,
    /// How long a client waits for the head of a response.
    pub response_timeout: Duration,
    /// How long we wait for the peer's end of the stream after a refusal or a closing handshake.
    pub linger_timeout: Duration,
    /// What the answers of a server say in their `Date`.
    pub date: DateCell,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            body_bytes_max: 8 * 1024 * 1024,
            message_bytes_max: 8 * 1024 * 1024,
            requests_in_flight_max: 64,
            output_bytes_max: 256 * 1024,
            input_bytes_max: 256 * 1024,
            asks_first: false,
            greeting_bytes_max: 8 * 1024,
            encoded_bodies: false,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            greeting_timeout: Duration::from_secs(15),
            progress_timeout: Duration::from_secs(30),
            body_window: Duration::from_secs(10),
            body_window_bytes_min: 10 * BODY_BYTES_PER_SECOND_MIN,
            body_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(75),
            linger_timeout: Duration::from_secs(2),
            date: DateCell::default(),
        }
    }
}

/// The least rate of a request's body: slower senders hold memory for longer than their request is worth.
const BODY_BYTES_PER_SECOND_MIN: usize = 4 * 1024;

impl Config {
    /// How long `timer` runs.
    #[must_use]
    pub const fn timeout(&self, timer: Timer) -> Duration {
        match timer {
            Timer::Handshake => self.handshake_timeout,
            Timer::Head => self.head_timeout,
            Timer::Greeting => self.greeting_timeout,
            Timer::Progress => self.progress_timeout,
            Timer::Body => self.body_window,
            Timer::Idle => self.idle_timeout,
            Timer::Response => self.response_timeout,
            Timer::Linger => self.linger_timeout,
            Timer::Write => self.write_timeout,
        }
    }
}

/// The deadlines a connection acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The TLS handshake must end.
    Handshake,
    /// A head that has begun must end.
    Head,
    /// A session must say its first word.
    Greeting,
    /// A message, or the body of a response, that has begun must grow.
    Progress,
    /// The body of a request that has begun must grow, and end.
    Body,
    /// Nothing has happened; the connection is given up.
    Idle,
    /// A response must begin.
    Response,
    /// The peer should have closed its side after we said our last word.
    Linger,
    /// The peer must take some of what waits to be sent.
    Write,
}

/// What counts as growth of a message within one [`Timer::Progress`]: less is a peer that holds on to memory.
pub(crate) const PROGRESS_BYTES: usize = 1024;

/// How many undelivered events make a connection stop reading.
pub(crate) const EVENTS_MAX: usize = 64;
