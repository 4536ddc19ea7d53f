//! What every connection has below its protocol: TLS, the two queues, deadlines and an orderly end.

use std::collections::VecDeque;
use std::sync::Arc;

use bigpeer_core::time::Instant;

use crate::buffer::{OutputQueue, QUEUE_RETAINED_MAX, Stash};
use crate::config::{Config, EVENTS_MAX, PROGRESS_BYTES, Timer};
use crate::error::CloseReason;
use crate::event::Event;
use crate::tls::Tls;

/// What lies between a protocol and the bytes of the driver.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) config: Arc<Config>,
    pub(crate) output: OutputQueue,
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) stash: Stash,
    pub(crate) events: VecDeque<Event>,
    events_bytes: usize,
    drained: bool,
    /// Given to the driver and not yet taken by the kernel.
    pub(crate) unsent_bytes: usize,
    /// One at a time: a peer owes one thing after the other.
    pub(crate) read_deadline: Option<(Timer, Instant)>,
    pub(crate) write_deadline: Option<Instant>,
    /// Received since the read deadline was set.
    progress_bytes: usize,
    pub(crate) phase: Phase,
    pub(crate) eof: bool,
    now: Instant,
}

/// How far the end of a connection has come.
#[derive(Debug)]
pub(crate) enum Phase {
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

    /// Received bytes that wait, for the protocol or for the caller.
    pub(crate) fn held_input_bytes(&self) -> usize {
        self.stash.len() + self.events_bytes
    }

    /// The moment of the last call.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// How much was received since the read deadline was set.
    pub(crate) fn progress_bytes(&self) -> usize {
        self.progress_bytes
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
        self.push_event(Event::Closed { reason });
    }

    pub(crate) fn observe(&mut self, now: Instant) {
        assert!(self.now <= now, "a driver's clock never runs backwards");
        self.now = now;
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether the caller has to take events before more input can be used. Unsent output is no reason to stop: two
    /// peers that both wait to be read before they read would wait for ever.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.events.len() >= EVENTS_MAX
            || self.events_bytes >= self.config.message_bytes_max.max(self.config.body_bytes_max)
    }

    pub(crate) fn has_output(&self) -> bool {
        if self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            return true;
        }
        !self.output.is_empty() && !self.is_handshaking()
    }

    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.drained) {
            return Some(Event::OutputDrained);
        }
        let event = self.events.pop_front()?;
        self.events_bytes -= event.held_bytes();
        if self.events.is_empty() {
            self.events.shrink_to(QUEUE_RETAINED_MAX);
        }
        Some(event)
    }

    pub(crate) fn note_drained(&mut self, pending_before: usize) {
        let low_water = self.config.output_bytes_max / 2;
        if self.is_open() && pending_before > low_water && self.pending_output_bytes() <= low_water
        {
            self.notice_drained();
        }
    }

    pub(crate) fn note_progress(&mut self, count: usize) {
        self.progress_bytes += count;
        if self.progress_bytes >= PROGRESS_BYTES
            && matches!(self.read_deadline, Some((Timer::Progress, _)))
        {
            self.restart_read_deadline();
        }
    }

    pub(crate) fn transmit(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        match &mut self.tls {
            Some(tls) => tls.transmit(&mut self.output, out, bytes_max),
            None => self.output.take_into(out, bytes_max),
        }
    }

    pub(crate) fn finish_lingering(&mut self) {
        if let Phase::Lingering { reason } = &self.phase {
            self.close_now(reason.clone());
        }
    }

    pub(crate) fn advance_phase(&mut self) {
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

    pub(crate) fn set_read_deadline(&mut self, awaited: Option<Timer>) {
        if self.read_deadline.map(|(timer, _)| timer) == awaited {
            return;
        }
        self.progress_bytes = 0;
        self.read_deadline =
            awaited.map(|timer| (timer, self.now.after(self.config.timeout(timer))));
    }

    pub(crate) fn set_write_deadline(&mut self) {
        let waiting =
            !matches!(self.phase, Phase::Closed) && (self.has_output() || self.unsent_bytes > 0);
        if !waiting {
            self.write_deadline = None;
        } else if self.write_deadline.is_none() {
            self.write_deadline = Some(self.now.after(self.config.write_timeout));
        }
    }
}
