//! What every connection has: TLS, the two queues, deadlines and an orderly end. The protocols sit on top.

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_core::time::Instant;
use bytes::Bytes;

use crate::buffer::{OutputQueue, Stash};
use crate::config::{Config, EVENTS_MAX, PROGRESS_BYTES, Timer};
use crate::error::{CloseReason, SendError};
use crate::event::Event;
use crate::tls::Tls;

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
        if self.wire.is_open() && !self.is_paused() {
            if !self.wire.stash.is_empty() {
                self.advance_stash();
            }
            let ended = self.wire.eof || self.wire.tls.as_ref().is_some_and(|tls| tls.is_ended());
            if ended && self.wire.is_open() && !self.is_paused() {
                self.wire.eof = true;
                self.protocol.on_eof(&mut self.wire);
            }
        }
        self.wire.advance_phase();
        self.set_deadlines();
    }

    fn is_paused(&self) -> bool {
        self.wire.is_backed_up() || self.protocol.is_blocked(&self.wire)
    }

    fn set_deadlines(&mut self) {
        let awaited = match self.wire.phase {
            Phase::Open if self.wire.is_handshaking() => Some(Timer::Handshake),
            Phase::Open if self.is_paused() => None,
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

    /// Queues a message, whose size and credit have been checked.
    fn send_message(&mut self, wire: &mut Wire, message: Bytes) -> Result<(), SendError>;
}

/// What lies between a protocol and the bytes of the driver.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) config: Arc<Config>,
    pub(crate) output: OutputQueue,
    tls: Option<Box<Tls>>,
    stash: Stash,
    events: VecDeque<Event>,
    events_bytes: usize,
    drained: bool,
    /// Given to the driver and not yet taken by the kernel.
    unsent_bytes: usize,
    /// One at a time: a peer owes one thing after the other.
    read_deadline: Option<(Timer, Instant)>,
    write_deadline: Option<Instant>,
    /// Received since the read deadline was set.
    progress_bytes: usize,
    phase: Phase,
    eof: bool,
    now: Instant,
}

/// How far the end of a connection has come.
#[derive(Debug)]
enum Phase {
    Open,
    /// Input is read and dropped; what is queued is still sent.
    Flushing {
        reason: CloseReason,
        linger: Linger,
    },
    /// Everything is sent; input is read and dropped until the peer closes too.
    Lingering {
        reason: CloseReason,
    },
    Closed,
}

/// Whether to wait for the peer's end of the stream after the last byte is sent. A socket closed with input unread
/// resets the connection, and the peer may never see our last words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linger {
    Yes,
    No,
}

impl Wire {
    pub(crate) fn new(config: Arc<Config>, tls: Option<Box<Tls>>, now: Instant) -> Self {
        Self {
            config,
            output: OutputQueue::default(),
            tls,
            stash: Stash::default(),
            events: VecDeque::new(),
            events_bytes: 0,
            drained: false,
            unsent_bytes: 0,
            read_deadline: None,
            write_deadline: None,
            progress_bytes: 0,
            phase: Phase::Open,
            eof: false,
            now,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether received bytes wait that no protocol has consumed.
    pub(crate) fn has_unconsumed_input(&self) -> bool {
        !self.stash.is_empty()
    }

    pub(crate) fn has_received_eof(&self) -> bool {
        self.eof
    }

    /// Whether the end of the input is the peer's word, and not a cut that anyone on the path can make.
    pub(crate) fn is_end_trusted(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_ended())
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.events_bytes += event.held_bytes();
        self.events.push_back(event);
    }

    /// Tells the caller that there is credit, once however often it is said before the caller looks.
    pub(crate) fn notice_drained(&mut self) {
        self.drained = true;
    }

    pub(crate) fn pending_output_bytes(&self) -> usize {
        self.output.len() + self.unsent_bytes
    }

    pub(crate) fn credit(&self) -> usize {
        self.config.output_bytes_max.saturating_sub(self.pending_output_bytes())
    }

    /// The peer has finished what it owed and may owe the same again: the next deadline starts afresh.
    pub(crate) fn restart_read_deadline(&mut self) {
        self.read_deadline = None;
    }

    /// Ends the connection once everything queued is sent.
    pub(crate) fn begin_close(&mut self, reason: CloseReason, linger: Linger) {
        if self.is_open() {
            self.stash.clear();
            self.phase = Phase::Flushing { reason, linger };
        }
    }

    /// Ends the connection at once; what is queued is lost.
    pub(crate) fn close_now(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Closed;
        self.stash.clear();
        self.output.clear();
        self.tls = None;
        self.unsent_bytes = 0;
        self.push_event(Event::Closed { reason });
    }

    fn observe(&mut self, now: Instant) {
        assert!(self.now <= now, "a driver's clock never runs backwards");
        self.now = now;
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn is_backed_up(&self) -> bool {
        self.events.len() >= EVENTS_MAX
            || self.events_bytes >= self.config.message_bytes_max.max(self.config.body_bytes_max)
            || self.credit() == 0
    }

    fn has_output(&self) -> bool {
        if self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            return true;
        }
        !self.output.is_empty() && !self.is_handshaking()
    }

    fn pop_event(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.drained) {
            return Some(Event::OutputDrained);
        }
        let event = self.events.pop_front()?;
        self.events_bytes -= event.held_bytes();
        Some(event)
    }

    fn note_drained(&mut self, pending_before: usize) {
        let low_water = self.config.output_bytes_max / 2;
        if self.is_open() && pending_before > low_water && self.pending_output_bytes() <= low_water
        {
            self.notice_drained();
        }
    }

    fn note_progress(&mut self, count: usize) {
        self.progress_bytes += count;
        if self.progress_bytes >= PROGRESS_BYTES
            && matches!(self.read_deadline, Some((Timer::Progress, _)))
        {
            self.restart_read_deadline();
        }
    }

    fn transmit(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        match &mut self.tls {
            Some(tls) => tls.transmit(&mut self.output, out, bytes_max),
            None => self.output.take_into(out, bytes_max),
        }
    }

    fn finish_lingering(&mut self) {
        if let Phase::Lingering { reason } = &self.phase {
            self.close_now(reason.clone());
        }
    }

    fn advance_phase(&mut self) {
        if let Phase::Flushing { .. } = self.phase {
            self.advance_flushing();
        }
        if self.eof {
            self.finish_lingering();
        }
    }

    fn advance_flushing(&mut self) {
        if self.is_handshaking() {
            // Nothing of ours can be sent under a session that was never agreed; an alert can.
            self.output.clear();
        }
        if let Some(tls) = &mut self.tls
            && self.output.is_empty()
        {
            tls.send_close_notify();
        }
        if self.has_output() || self.unsent_bytes > 0 {
            return;
        }
        let Phase::Flushing { reason, linger } = &self.phase else { return };
        match linger {
            Linger::No => self.close_now(reason.clone()),
            Linger::Yes => self.phase = Phase::Lingering { reason: reason.clone() },
        }
    }

    fn set_read_deadline(&mut self, awaited: Option<Timer>) {
        if self.read_deadline.map(|(timer, _)| timer) == awaited {
            return;
        }
        self.progress_bytes = 0;
        self.read_deadline =
            awaited.map(|timer| (timer, self.now.after(self.config.timeout(timer))));
    }

    fn set_write_deadline(&mut self) {
        let waiting =
            !matches!(self.phase, Phase::Closed) && (self.has_output() || self.unsent_bytes > 0);
        if !waiting {
            self.write_deadline = None;
        } else if self.write_deadline.is_none() {
            self.write_deadline = Some(self.now.after(self.config.write_timeout));
        }
    }
}
