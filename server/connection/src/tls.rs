//! TLS by rustls, as a layer between the bytes of the driver and those of the protocol.

use std::io::{BufRead, ErrorKind, Write};
use std::sync::Arc;

use rustls_pki_types::ServerName;

use crate::buffer::OutputQueue;

/// What a client needs to speak TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Roots, versions and client certificate.
    pub config: Arc<rustls::ClientConfig>,
    /// The name the server's certificate must bear.
    pub server_name: ServerName<'static>,
}

/// A TLS configuration that no connection can be made from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// Plaintext handed to rustls at once: one record of the largest size.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// One TLS connection, either side.
#[derive(Debug)]
pub(crate) struct Tls {
    connection: rustls::Connection,
    close_notify_sent: bool,
    /// The peer has said that nothing follows.
    ended: bool,
}

impl Tls {
    pub(crate) fn server(config: Arc<rustls::ServerConfig>) -> Result<Box<Self>, TlsError> {
        Ok(Self::new(rustls::ServerConnection::new(config)?.into()))
    }

    pub(crate) fn client(tls: ClientTls) -> Result<Box<Self>, TlsError> {
        Ok(Self::new(rustls::ClientConnection::new(tls.config, tls.server_name)?.into()))
    }

    fn new(connection: rustls::Connection) -> Box<Self> {
        Box::new(Self { connection, close_notify_sent: false, ended: false })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    pub(crate) fn send_close_notify(&mut self) {
        if !std::mem::replace(&mut self.close_notify_sent, true) {
            self.connection.send_close_notify();
        }
    }

    /// Decrypts `ciphertext` and hands the plaintext to `sink` as it comes.
    pub(crate) fn receive(
        &mut self,
        mut ciphertext: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), rustls::Error> {
        while !ciphertext.is_empty() && !self.ended {
            match self.connection.read_tls(&mut ciphertext) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            }
            let state = self.connection.process_new_packets()?;
            self.ended = state.peer_has_closed();
            self.drain_plaintext(&mut sink);
        }
        Ok(())
    }

    fn drain_plaintext(&mut self, sink: &mut impl FnMut(&[u8])) {
        let mut reader = self.connection.reader();
        loop {
            let count = match reader.fill_buf() {
                Ok(plaintext) => {
                    sink(plaintext);
                    plaintext.len()
                }
                Err(error) => {
                    debug_assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    0
                }
            };
            if count == 0 {
                return;
            }
            reader.consume(count);
        }
    }

    /// Encrypts from `output` and appends at most `bytes_max` bytes of ciphertext to `out`.
    pub(crate) fn transmit(
        &mut self,
        output: &mut OutputQueue,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) {
        let mut room = Room { out, bytes: bytes_max };
        while room.bytes > 0 {
            if !self.connection.wants_write() {
                if output.is_empty() || self.connection.is_handshaking() {
                    return;
                }
                let front = output.front();
                let record = &front[..front.len().min(RECORD_BYTES_MAX)];
                let count = self
                    .connection
                    .writer()
                    .write(record)
                    .expect("rustls buffers one record when it holds none");
                output.consume(count);
            }
            self.connection
                .write_tls(&mut room)
                .expect("a buffer in memory takes what it has room for");
        }
    }
}

/// Takes at most `bytes` into `out`.
struct Room<'a> {
    out: &'a mut Vec<u8>,
    bytes: usize,
}

impl Write for Room<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let count = buf.len().min(self.bytes);
        self.out.extend_from_slice(&buf[..count]);
        self.bytes -= count;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
