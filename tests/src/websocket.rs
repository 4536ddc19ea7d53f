//! The WebSocket of device sync as raw frames, right and wrong ones.

use std::io;

use crate::http::{Answer, Connection, is_hang_up};
use crate::server::Server;

/// The first byte of a whole binary message.
pub const BINARY: u8 = 0x82;
/// The first byte of a whole text message.
pub const TEXT: u8 = 0x81;
/// The first byte of a binary message's first fragment.
pub const BINARY_BEGINS: u8 = 0x02;
/// The first byte of a last fragment.
pub const CONTINUATION_ENDS: u8 = 0x80;
/// The first byte of a ping.
pub const PING: u8 = 0x89;

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    connection: Connection,
}

/// Asks for the WebSocket of an app; the bearer may be wrong.
///
/// # Errors
///
/// When the server is gone.
pub fn upgrade(server: &Server, bearer: &str) -> io::Result<(Connection, Answer)> {
    let mut connection = Connection::open(server.address())?;
    let request = format!(
        "GET /{}/_ditto HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {bearer}\r\n\r\n",
        server.app
    );
    let answer = connection.exchange(request.as_bytes())?;
    Ok((connection, answer))
}

impl WebSocket {
    /// Opens one as a device of the server's first app.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    #[must_use]
    pub fn open(server: &Server) -> Self {
        let (connection, answer) = upgrade(server, &server.token).expect("the server runs");
        assert_eq!(answer.status, 101);
        // The key above and its answer are the example of RFC 6455.
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Self { connection }
    }

    /// Sends a frame, masked as a client must.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(length @ ..126) => frame.push(0x80 | u8::try_from(length).expect("below 126")),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(masked);
        self.connection.send(&frame)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// Waits for a frame: its first byte and its payload.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.connection.take(2)?;
        let length = match head[1] {
            126 => self.connection.take(2)?.iter().fold(0, push_byte),
            127 => self.connection.take(8)?.iter().fold(0, push_byte),
            length => usize::from(length),
        };
        Ok((head[0], self.connection.take(length)?))
    }

    /// Waits for the end: the code of the server's close frame, or `None` when it hung up without one.
    ///
    /// # Panics
    ///
    /// When the server stays silent for too long.
    #[must_use]
    pub fn close_code(mut self) -> Option<u16> {
        const CLOSE: u8 = 0x88;
        loop {
            match self.receive() {
                Ok((CLOSE, payload)) => return Some(u16::from_be_bytes([payload[0], payload[1]])),
                Ok(_) => {}
                Err(error) if is_hang_up(&error) => return None,
                Err(error) => panic!("the server neither closes nor hangs up: {error}"),
            }
        }
    }
}

fn push_byte(length: usize, byte: &u8) -> usize {
    length << 8 | usize::from(*byte)
}
