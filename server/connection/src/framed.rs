//! Peer frames on a bare stream: `u32` length (little-endian), then as many bytes. Both sides are alike.

use std::sync::Arc;

use bigpeer_core::time::Instant;
use bytes::Bytes;

use crate::buffer::extend_towards;
use crate::config::{Config, Timer};
use crate::error::{CloseReason, SendError};
use crate::event::Event;
use crate::machine::{Machine, Protocol};
use crate::tls::{ClientTls, Tls, TlsError};
use crate::wire::{Linger, Wire};

/// A stream of peer frames over TCP, or TLS over TCP: emits [`Event::Message`], [`Event::OutputDrained`] and
/// [`Event::Closed`].
pub type FramedConnection = Machine<Framed>;

impl FramedConnection {
    /// The side that accepted the socket.
    ///
    /// # Errors
    ///
    /// If TLS is asked for and its configuration is of no use.
    pub fn server(
        config: Arc<Config>,
        tls: Option<Arc<rustls::ServerConfig>>,
        now: Instant,
    ) -> Result<Self, TlsError> {
        let tls = tls.map(Tls::server).transpose()?;
        let gate = if config.asks_first { Gate::Shut } else { Gate::Open };
        Ok(Self::from_parts(Wire::new(config, tls, now), Framed::new(gate, false)))
    }

    /// Admits the sender of the first frame: from here on frames may be as long as messages. For a connection that
    /// asks first; nothing more is read before.
    pub fn admit(&mut self) {
        if self.protocol.gate == Gate::Asked {
            self.protocol.gate = Gate::Open;
        }
        self.settle();
    }

    /// The side that opened the socket.
    ///
    /// # Errors
    ///
    /// If TLS is asked for and its configuration is of no use.
    pub fn client(
        config: Arc<Config>,
        tls: Option<ClientTls>,
        now: Instant,
    ) -> Result<Self, TlsError> {
        let tls = tls.map(Tls::client).transpose()?;
        Ok(Self::from_parts(Wire::new(config, tls, now), Framed::new(Gate::Open, true)))
    }
}

/// The protocol of a [`FramedConnection`].
#[derive(Debug)]
pub struct Framed {
    header: [u8; HEADER_BYTES],
    header_len: usize,
    payload: Vec<u8>,
    /// What the payload still lacks, once its header is whole.
    missing_bytes: Option<usize>,
    gate: Gate,
    /// A session says for itself when it is dead; before its first frame there is no session to say so.
    has_greeted: bool,
    /// We opened the socket: the other side speaks when it is spoken to.
    is_client: bool,
}

/// Whether the other side has shown who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Its first frame has not come.
    Shut,
    /// The caller has it and decides.
    Asked,
    /// It may speak.
    Open,
}

const HEADER_BYTES: usize = 4;

impl Framed {
    fn new(gate: Gate, is_client: bool) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_len: 0,
            payload: Vec::new(),
            missing_bytes: None,
            gate,
            has_greeted: false,
            is_client,
        }
    }

    fn frame_bytes_max(&self, config: &Config) -> usize {
        match self.gate {
            Gate::Shut | Gate::Asked => config.greeting_bytes_max,
            Gate::Open => config.message_bytes_max,
        }
    }

    fn advance_header(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        let count = bytes.len().min(HEADER_BYTES - self.header_len);
        self.header[self.header_len..][..count].copy_from_slice(&bytes[..count]);
        self.header_len += count;
        if self.header_len == HEADER_BYTES {
            let claimed_bytes = u32::from_le_bytes(self.header);
            let limit_bytes = self.frame_bytes_max(&wire.config);
            match usize::try_from(claimed_bytes) {
                Ok(size) if size <= limit_bytes => self.begin_payload(wire, size),
                _ => {
                    let reason = CloseReason::FrameTooLarge { claimed_bytes, limit_bytes };
                    wire.begin_close(reason, Linger::No);
                }
            }
        }
        count
    }

    fn begin_payload(&mut self, wire: &mut Wire, size: usize) {
        self.missing_bytes = Some(size);
        if size == 0 {
            self.on_frame(wire);
        }
    }

    fn advance_payload(&mut self, wire: &mut Wire, bytes: &[u8], missing: usize) -> usize {
        let count = bytes.len().min(missing);
        extend_towards(&mut self.payload, &bytes[..count], missing - count);
        self.missing_bytes = Some(missing - count);
        if missing == count {
            self.on_frame(wire);
        }
        count
    }

    fn on_frame(&mut self, wire: &mut Wire) {
        self.header_len = 0;
        self.missing_bytes = None;
        match self.gate {
            Gate::Shut => self.gate = Gate::Asked,
            Gate::Asked | Gate::Open => self.has_greeted = true,
        }
        wire.push_event(Event::Message(Bytes::from(std::mem::take(&mut self.payload))));
        wire.restart_read_deadline();
    }

    fn is_mid_frame(&self) -> bool {
        self.header_len > 0
    }
}

impl Protocol for Framed {
    fn advance(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        match self.missing_bytes {
            _ if self.gate == Gate::Asked => 0,
            None => self.advance_header(wire, bytes),
            Some(missing) => self.advance_payload(wire, bytes, missing),
        }
    }

    fn is_blocked(&self, _wire: &Wire) -> bool {
        self.gate == Gate::Asked
    }

    fn awaited(&self, _wire: &Wire) -> Option<Timer> {
        if !self.has_greeted && !self.is_client {
            // The beginning of a frame is no first word.
            Some(Timer::Greeting)
        } else if self.is_mid_frame() {
            Some(Timer::Progress)
        } else if !self.has_greeted {
            Some(Timer::Idle)
        } else {
            None
        }
    }

    fn on_timeout(&mut self, wire: &mut Wire, timer: Timer) {
        wire.begin_close(CloseReason::Timeout(timer), Linger::No);
    }

    fn on_eof(&mut self, wire: &mut Wire) {
        let reason =
            if self.is_mid_frame() { CloseReason::Truncated } else { CloseReason::PeerClosed };
        wire.begin_close(reason, Linger::No);
    }

    fn on_close(&mut self, wire: &mut Wire, _code: u16) {
        wire.begin_close(CloseReason::Finished, Linger::Yes);
    }

    fn held_bytes(&self) -> usize {
        self.payload.capacity()
    }

    fn on_shed(&mut self, wire: &mut Wire) {
        self.payload = Vec::new();
        wire.begin_close(CloseReason::Shed, Linger::Yes);
    }

    fn on_sent(&mut self, _wire: &mut Wire) {}

    fn send_message(&mut self, wire: &mut Wire, message: Bytes) -> Result<(), SendError> {
        let size = u32::try_from(message.len()).map_err(|_| SendError::TooLarge {
            bytes: message.len(),
            limit_bytes: u32::MAX as usize,
        })?;
        wire.output.tail_mut().extend_from_slice(&size.to_le_bytes());
        wire.output.push(message);
        Ok(())
    }
}
