//! An open WebSocket: frames in, messages out, control frames answered on the way.

use bigpeer_core::rng::Rng;
use bytes::Bytes;

use crate::buffer::extend_towards;
use crate::config::Timer;
use crate::error::{CloseReason, SendError, WebSocketError};
use crate::event::Event;
use crate::websocket::frame::{
    CONTROL_BYTES_MAX, FrameHeader, HEADER_BYTES_MAX, Opcode, apply_mask, header_len,
};
use crate::wire::{Linger, Wire};

/// Close codes of RFC 6455 that never stand in a frame.
const CODE_NONE: u16 = 1005;
const CODE_ABNORMAL: u16 = 1006;

/// The close code that asks to come back later.
const CODE_TRY_LATER: u16 = 1013;

/// Which side we are; a client masks what it sends.
#[derive(Debug)]
pub(crate) enum Role {
    Server,
    Client { mask_keys: Rng },
}

/// One open WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    role: Role,
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The payload of a control frame, which may stand between the fragments of a message.
    control: Vec<u8>,
    /// The payload of a ping that waits for credit to be answered.
    pong_owed: Option<Bytes>,
    message: Vec<u8>,
    is_mid_message: bool,
    /// The peer has said a first whole message, or is a server, which speaks when it is spoken to.
    has_greeted: bool,
    /// We have sent a close frame: nothing more is sent, and messages are dropped.
    is_closing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    header: FrameHeader,
    received_bytes: u64,
}

impl WebSocket {
    pub(crate) fn new(role: Role) -> Box<Self> {
        let has_greeted = matches!(role, Role::Client { .. });
        Box::new(Self {
            role,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            frame: None,
            control: Vec::new(),
            pong_owed: None,
            message: Vec::new(),
            is_mid_message: false,
            has_greeted,
            is_closing: false,
        })
    }

    /// Consumes from the front of `bytes`; never zero of some.
    pub(crate) fn advance(&mut self, wire: &mut Wire, bytes: &[u8]) -> usize {
        let advanced = match self.frame {
            None => self.advance_header(wire, bytes),
            Some(frame) => self.advance_payload(wire, bytes, frame),
        };
        advanced.unwrap_or_else(|error| {
            self.fail(wire, error);
            bytes.len()
        })
    }

    /// What is held of an unfinished message.
    pub(crate) fn held_bytes(&self) -> usize {
        self.message.capacity()
    }

    /// Gives up an unfinished message: the peer is asked to come back later.
    pub(crate) fn shed(&mut self, wire: &mut Wire) {
        self.close(wire, CODE_TRY_LATER);
        self.end(wire, CODE_TRY_LATER, CloseReason::Shed, Linger::Yes);
    }

    /// What the peer owes us: its first word, the rest of what it has begun, or its close frame.
    pub(crate) fn awaited(&self) -> Option<Timer> {
        if self.is_closing {
            Some(Timer::Linger)
        } else if !self.has_greeted {
            // Neither a ping nor the beginning of a message is a first word.
            Some(Timer::Greeting)
        } else if self.is_mid_message || self.header_bytes > 0 {
            Some(Timer::Progress)
        } else {
            None
        }
    }

    pub(crate) fn on_timeout(&mut self, wire: &mut Wire, timer: Timer) {
        self.end(wire, CODE_ABNORMAL, CloseReason::Timeout(timer), Linger::No);
    }

    pub(crate) fn on_eof(&mut self, wire: &mut Wire) {
        let reason = if self.is_mid_message || self.header_bytes > 0 {
            CloseReason::Truncated
        } else {
            CloseReason::PeerClosed
        };
        self.end(wire, CODE_ABNORMAL, reason, Linger::No);
    }

    /// Answers the last ping, if there is credit: a peer that asks without end and never reads gets one answer.
    pub(crate) fn on_sent(&mut self, wire: &mut Wire) {
        if wire.credit() > 0
            && let Some(payload) = self.pong_owed.take()
            && !self.is_closing
        {
            self.write_frame(wire, Opcode::Pong, payload);
        }
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, wire: &mut Wire, code: u16) {
        if !self.is_closing {
            self.write_frame(wire, Opcode::Close, Bytes::copy_from_slice(&code.to_be_bytes()));
            self.is_closing = true;
        }
    }

    pub(crate) fn send_message(
        &mut self,
        wire: &mut Wire,
        message: Bytes,
    ) -> Result<(), SendError> {
        if self.is_closing {
            return Err(SendError::Closed);
        }
        self.write_frame(wire, Opcode::Binary, message);
        Ok(())
    }

    fn advance_header(&mut self, wire: &mut Wire, bytes: &[u8]) -> Result<usize, WebSocketError> {
        let wanted = if self.header_bytes < 2 { 2 } else { header_len(self.header[1]) };
        let count = bytes.len().min(wanted - self.header_bytes);
        self.header[self.header_bytes..][..count].copy_from_slice(&bytes[..count]);
        self.header_bytes += count;
        if self.header_bytes >= 2 && self.header_bytes == header_len(self.header[1]) {
            let header = FrameHeader::parse(&self.header[..self.header_bytes])?;
            self.begin_frame(wire, header)?;
        } else if self.header_bytes == 2 {
            FrameHeader::check_start(self.header[0], self.header[1])?;
        }
        Ok(count)
    }

    fn begin_frame(&mut self, wire: &mut Wire, header: FrameHeader) -> Result<(), WebSocketError> {
        if header.mask.is_some() != matches!(self.role, Role::Server) {
            return Err(WebSocketError::WrongMasking);
        }
        match header.opcode {
            Opcode::Text => return Err(WebSocketError::TextMessage),
            Opcode::Binary if self.is_mid_message => {
                return Err(WebSocketError::FragmentOutOfOrder);
            }
            Opcode::Continuation if !self.is_mid_message => {
                return Err(WebSocketError::FragmentOutOfOrder);
            }
            Opcode::Binary | Opcode::Continuation => self.begin_fragment(wire, header)?,
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control.clear(),
        }
        self.frame = Some(Frame { header, received_bytes: 0 });
        if header.payload_bytes == 0 {
            self.on_frame(wire, header)?;
        }
        Ok(())
    }

    fn begin_fragment(&mut self, wire: &Wire, header: FrameHeader) -> Result<(), WebSocketError> {
        let bytes = header.payload_bytes.saturating_add(self.message.len() as u64);
        let limit_bytes = wire.config.message_bytes_max;
        if bytes > limit_bytes as u64 {
            return Err(WebSocketError::MessageTooLarge { bytes, limit_bytes });
        }
        self.is_mid_message = true;
        Ok(())
    }

    fn advance_payload(
        &mut self,
        wire: &mut Wire,
        bytes: &[u8],
        mut frame: Frame,
    ) -> Result<usize, WebSocketError> {
        let missing = frame.header.payload_bytes - frame.received_bytes;
        let count = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
        let into =
            if frame.header.opcode.is_control() { &mut self.control } else { &mut self.message };
        let start = into.len();
        let still_missing = usize::try_from(missing).unwrap_or(usize::MAX) - count;
        extend_towards(into, &bytes[..count], still_missing);
        if let Some(mask) = frame.header.mask {
            apply_mask(&mut into[start..], mask, (frame.received_bytes % 4) as usize);
        }
        frame.received_bytes += count as u64;
        self.frame = Some(frame);
        if frame.received_bytes == frame.header.payload_bytes {
            self.on_frame(wire, frame.header)?;
        }
        Ok(count)
    }

    fn on_frame(&mut self, wire: &mut Wire, header: FrameHeader) -> Result<(), WebSocketError> {
        self.frame = None;
        self.header_bytes = 0;
        match header.opcode {
            Opcode::Binary | Opcode::Continuation => {
                if header.is_final {
                    self.on_message(wire);
                }
            }
            Opcode::Text => return Err(WebSocketError::TextMessage),
            Opcode::Ping => {
                self.pong_owed = Some(Bytes::from(std::mem::take(&mut self.control)));
                self.on_sent(wire);
            }
            Opcode::Pong => {}
            Opcode::Close => self.on_close(wire)?,
        }
        Ok(())
    }

    fn on_message(&mut self, wire: &mut Wire) {
        self.is_mid_message = false;
        self.has_greeted = true;
        let message = std::mem::take(&mut self.message);
        if !self.is_closing {
            wire.push_event(Event::Message(Bytes::from(message)));
            wire.restart_read_deadline();
        }
    }

    fn on_close(&mut self, wire: &mut Wire) -> Result<(), WebSocketError> {
        let payload = std::mem::take(&mut self.control);
        let code = parse_close(&payload)?;
        // The peer's code goes back to it; a server is the first to close the socket after that.
        if !self.is_closing {
            let echo = &payload[..payload.len().min(2)];
            self.write_frame(wire, Opcode::Close, Bytes::copy_from_slice(echo));
        }
        let linger = if matches!(self.role, Role::Server) { Linger::No } else { Linger::Yes };
        self.end(wire, code, CloseReason::WebSocketClosed(code), linger);
        Ok(())
    }

    fn fail(&mut self, wire: &mut Wire, error: WebSocketError) {
        self.close(wire, error.close_code());
        self.end(wire, error.close_code(), CloseReason::WebSocket(error), Linger::Yes);
    }

    fn end(&mut self, wire: &mut Wire, code: u16, reason: CloseReason, linger: Linger) {
        self.is_closing = true;
        self.message = Vec::new();
        wire.push_event(Event::WebSocketClosed { code });
        wire.begin_close(reason, linger);
    }

    fn write_frame(&mut self, wire: &mut Wire, opcode: Opcode, payload: Bytes) {
        debug_assert!(!opcode.is_control() || payload.len() as u64 <= CONTROL_BYTES_MAX);
        let mask = match &mut self.role {
            Role::Server => None,
            Role::Client { mask_keys } => {
                let [a, b, c, d, ..] = mask_keys.next_u64().to_le_bytes();
                Some([a, b, c, d])
            }
        };
        let payload_bytes = payload.len() as u64;
        let header = FrameHeader { is_final: true, opcode, mask, payload_bytes };
        let out = wire.output.tail_mut();
        header.write(out);
        match mask {
            None => wire.output.push(payload),
            Some(mask) => {
                let start = out.len();
                out.extend_from_slice(&payload);
                apply_mask(&mut out[start..], mask, 0);
            }
        }
    }
}

/// The code in the payload of a close frame.
fn parse_close(payload: &[u8]) -> Result<u16, WebSocketError> {
    let (code, reason) = match payload {
        [] => return Ok(CODE_NONE),
        [_] => return Err(WebSocketError::BadClose),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WebSocketError::BadClose);
    }
    std::str::from_utf8(reason).map_err(|_| WebSocketError::NotUtf8)?;
    Ok(code)
}
