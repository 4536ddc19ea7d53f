//! The calls that all connections share, and how a protocol is driven by them.

use bigpeer_core::time::Instant;
use bytes::Bytes;

use crate::config::Timer;
use crate::error::{CloseReason, SendError};
use crate::event::Event;
use crate::wire::{Linger, Phase, Wire};

/// One connection that speaks protocol `P`; see the aliases [`ServerConnection`](crate::ServerConnection),
/// [`ClientConnection`](crate::ClientConnection) and [`FramedConnection`](crate::FramedConnection).
///
/// A driver's turn, in this order:
///
/// 1. `handle_*` for whatever happened: bytes were read, bytes were sent, a deadline passed;
/// 2. [`poll_event`](Self::poll_event) until `None`, answering as it likes, now or later;
/// 3. [`poll_transmit`](Self::poll_transmit) if nothing is being written; hand the bytes to the kernel and call
///    [`handle_sent`](Self::handle_sent) for those that it took;
/// 4. read on if [`wants_read`](Self::wants_read); shut down the write side once if
///    [`wants_shutdown`](Self::wants_shutdown); close the socket if [`is_closed`](Self::is_closed);
/// 5. sleep until [`poll_timeout`](Self::poll_timeout), which every call may change.
///
/// Events wait until they are taken: a caller that cannot cope with more messages leaves them, and reading pauses.
#[derive(Debug)]
pub struct Machine<P> {
    pub(crate) wire: Wire,
    pub(crate) protocol: P,
}

#[expect(private_bounds, reason = "the three protocols are this crate's own")]
impl<P: Protocol> Machine<P> {
    pub(crate) fn from_parts(wire: Wire, protocol: P) -> Self {
        let mut machine = Self { wire, protocol };
        machine.settle();
        machine
    }

    /// Takes bytes that were read from the socket. All of them are taken; a caller that goes on although
    /// [`wants_read`](Self::wants_read) was false has its connection closed at `input_bytes_max`.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.wire.observe(now);
        if !self.wire.is_open() || self.wire.eof {
            return;
        }
        self.wire.note_progress(bytes.len());
        let overrun = self.wire.stash.len() + bytes.len() > self.wire.config.input_bytes_max;
        if overrun && !self.wants_read() {
            self.wire.close_now(CloseReason::InputOverrun);
        } else if self.wire.tls.is_some() {
            self.feed_ciphertext(bytes);
        } else {
            self.feed(bytes);
        }
        self.settle();
    }

    /// The peer has shut down its side: nothing more will be read.
    pub fn handle_eof(&mut self, now: Instant) {
        self.wire.observe(now);
        self.wire.eof = true;
        self.settle();
    }

    /// The socket has failed; nothing can be read or written.
    pub fn handle_reset(&mut self, now: Instant) {
        self.wire.observe(now);
        self.wire.close_now(CloseReason::Reset);
    }

    /// The kernel has taken `count` bytes of those that [`poll_transmit`](Self::poll_transmit) gave out.
    pub fn handle_sent(&mut self, count: usize, now: Instant) {
        self.wire.observe(now);
        let pending_before = self.wire.pending_output_bytes();
        assert!(count <= self.wire.unsent_bytes, "no more is sent than was given out");
        self.wire.unsent_bytes -= count;
        if count > 0 {
            self.wire.write_deadline = None;
            self.wire.note_drained(pending_before);
            self.protocol.on_sent(&mut self.wire);
        }
        self.settle();
    }

    /// Time has passed. Acts on deadlines that have been reached; an early call does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.wire.observe(now);
        if self.wire.write_deadline.is_some_and(|deadline| deadline <= now) {
            self.wire.close_now(CloseReason::Timeout(Timer::Write));
        }
        if let Some((timer, deadline)) = self.wire.read_deadline
            && deadline <= now
        {
            self.wire.read_deadline = None;
            match timer {
                Timer::Handshake => self.wire.close_now(CloseReason::Timeout(timer)),
                Timer::Linger if !self.wire.is_open() => self.wire.finish_lingering(),
                _ => self.protocol.on_timeout(&mut self.wire, timer),
            }
        }
        self.settle();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let write = self.wire.write_deadline.map(|deadline| (deadline, Timer::Write));
        let read = self.wire.read_deadline.map(|(timer, deadline)| (deadline, timer));
        read.into_iter().chain(write).min()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.wire.pop_event();
        if event.is_some() && self.wire.events.is_empty() {
            // Reading may have paused at the bound on undelivered events.
            self.settle();
        }
        event
    }

    /// Appends at most `bytes_max` bytes to `out`, to be sent in the order given; returns how many.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> usize {
        let before = out.len();
        self.wire.transmit(out, bytes_max);
        let count = out.len() - before;
        self.wire.unsent_bytes += count;
        self.settle();
        count
    }

    /// Whether to read from the socket: false while too much waits, for an answer, for the caller or to be sent.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        match self.wire.phase {
            Phase::Open => {
                !self.wire.eof && !self.wire.is_backed_up() && !self.protocol.is_blocked(&self.wire)
            }
            // Read and dropped: two sides that only write would wait for each other.
            Phase::Flushing { .. } | Phase::Lingering { .. } => !self.wire.eof,
            Phase::Closed => false,
        }
    }

    /// Whether all that will ever be sent has been, and the write side should be shut down (once) while we
    /// still wait for the peer to close its own.
    #[must_use]
    pub fn wants_shutdown(&self) -> bool {
        matches!(self.wire.phase, Phase::Lingering { .. })
    }

    /// Whether the socket should be closed. Events may still wait.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.wire.phase, Phase::Closed)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something to give.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.wire.has_output()
    }

    /// How many bytes wait to be sent, those given to the driver and not yet confirmed included.
    #[must_use]
    pub fn pending_output_bytes(&self) -> usize {
        self.wire.pending_output_bytes()
    }

    /// How many bytes may be queued before the bound. [`Event::OutputDrained`] says when it is worth asking again.
    #[must_use]
    pub fn output_credit(&self) -> usize {
        self.wire.credit()
    }

    /// Queues one message: a binary WebSocket message, or a peer frame.
    ///
    /// # Errors
    ///
    /// `Closed` if no message stream is open, `NoCredit` at the bound, `TooLarge` beyond what peers accept.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), SendError> {
        let limit_bytes = self.wire.config.message_bytes_max;
        if !self.wire.is_open() {
            return Err(SendError::Closed);
        }
        if message.len() > limit_bytes {
            return Err(SendError::TooLarge { bytes: message.len(), limit_bytes });
        }
        if self.wire.credit() == 0 {
            return Err(SendError::NoCredit);
        }
        self.protocol.send_message(&mut self.wire, message)?;
        self.settle();
        Ok(())
    }

    /// Asks for an orderly end: what has been asked is answered, nothing new is taken, and a WebSocket is closed
    /// with `code` (1000 for done, 1001 for going away).
    pub fn close(&mut self, code: u16, now: Instant) {
        self.wire.observe(now);
        if self.wire.is_open() {
            self.protocol.on_close(&mut self.wire, code);
        }
        self.settle();
    }

    /// How much is held of the peer's making that no caller has taken: unfinished heads, bodies and messages, and
    /// events that wait.
    #[must_use]
    pub fn held_input_bytes(&self) -> usize {
        self.wire.held_input_bytes() + self.protocol.held_bytes()
    }

    /// Gives up the input that is held: a request is answered 503, and the connection ends. For a caller whose
    /// connections hold too much altogether.
    pub fn shed(&mut self, now: Instant) {
        self.wire.observe(now);
        if self.wire.is_open() {
            self.protocol.on_shed(&mut self.wire);
        }
        self.settle();
    }

    fn feed_ciphertext(&mut self, bytes: &[u8]) {
        let mut tls = self.wire.tls.take().expect("only a connection with TLS is fed ciphertext");
        let received = tls.receive(bytes, |plaintext| self.feed(plaintext));
        self.wire.tls = Some(tls);
        match received {
            Ok(()) => {}
            Err(error) => {
                // What the caller was told so far stays true; the alert is all that is still sent.
                self.wire.output.clear();
                self.wire.begin_close(CloseReason::Tls(Box::new(error)), Linger::No);
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.wire.stash.is_empty() {
            let used = self.advance_over(bytes);
            self.wire.stash.push(&bytes[used..]);
        } else {
            self.wire.stash.push(bytes);
            self.advance_stash();
        }
    }

    fn advance_stash(&mut self) {
        let mut stash = std::mem::take(&mut self.wire.stash);
        let used = self.advance_over(stash.as_slice());
        stash.consume(used);
        self.wire.stash = stash;
    }

    fn advance_over(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            if !self.wire.is_open() {
                return bytes.len();
            }
            if self.wire.is_backed_up() {
                break;
            }
            let step = self.protocol.advance(&mut self.wire, &bytes[used..]);
            if step == 0 {
                break;
            }
            used += step;
        }
        used
    }

    /// Brings everything to rest after a call: resumes reading where something was unblocked, notices the end,
    /// and sets the deadlines.
    pub(crate) fn settle(&mut self) {
        let mut is_paused = self.is_paused();
        if self.wire.is_open() && !is_paused {
            if !self.wire.stash.is_empty() {
                self.advance_stash();
                is_paused = self.is_paused();
            }
            let ended = self.wire.eof || self.wire.tls.as_ref().is_some_and(|tls| tls.is_ended());
            if ended && self.wire.is_open() && !is_paused {
                self.wire.eof = true;
                self.protocol.on_eof(&mut self.wire);
                is_paused = self.is_paused();
            }
        }
        self.wire.advance_phase();
        debug_assert!(!self.wire.is_open() || is_paused == self.is_paused(), "as it was");
        self.set_deadlines(is_paused);
    }

    fn is_paused(&self) -> bool {
        self.wire.is_backed_up() || self.protocol.is_blocked(&self.wire)
    }

    fn set_deadlines(&mut self, is_paused: bool) {
        let awaited = match self.wire.phase {
            Phase::Open if self.wire.is_handshaking() => Some(Timer::Handshake),
            Phase::Open if is_paused => None,
            Phase::Open => self.protocol.awaited(&self.wire),
            Phase::Lingering { .. } => Some(Timer::Linger),
            Phase::Flushing { .. } | Phase::Closed => None,
        };
        self.wire.set_read_deadline(awaited);
        self.wire.set_write_deadline();
    }
}

/// The part of a connection that differs between protocols.
pub(crate) trait Protocol {
    /// Consumes what it can from the front of `bytes`, which holds everything received and not yet consumed, and
    /// returns how much. Zero: more bytes are needed, or something must be unblocked first.
    fn advance(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize;

    /// Whether more bytes could not be used before the caller does something.
    fn is_blocked(&self, wire: &Wire) -> bool;

    /// What the peer owes us, as the deadline that runs for it.
    fn awaited(&self, wire: &Wire) -> Option<Timer>;

    /// The deadline of what was [`awaited`](Self::awaited) has passed.
    fn on_timeout(&mut self, wire: &mut Wire, timer: Timer);

    /// Nothing more will be received, and everything received has been offered to `advance`. May be called again.
    fn on_eof(&mut self, wire: &mut Wire);

    /// The caller asks for an orderly end.
    fn on_close(&mut self, wire: &mut Wire, code: u16);

    /// What is held of unfinished input beside the wire's own queues, in bytes.
    fn held_bytes(&self) -> usize;

    /// The caller gives up unfinished input.
    fn on_shed(&mut self, wire: &mut Wire);

    /// Some output has left, so that there may be credit.
    fn on_sent(&mut self, wire: &mut Wire);

    /// Queues a message, whose size and credit have been checked.
    fn send_message(&mut self, wire: &mut Wire, message: Bytes) -> Result<(), SendError>;
}
