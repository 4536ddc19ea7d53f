//! The connection's machine over a blocking socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use bigpeer_connection::{
    ClientConnection, ClientRequest, CloseReason, Config, Event, SendError, Timer,
};
use bigpeer_core::time::Instant;
use bytes::Bytes;

use super::roots::client_tls;
use super::{BodySink, Request, Transport, Url};
use crate::cli::error::CliError;
use crate::keepalive;

/// How long to wait for a host to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement may take before its answer begins. The server has a limit of its own, which is shorter.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);

/// How much is read or written at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// How much of answers is kept while requests are still being written, in bytes.
const ARRIVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a write may stall before answers are looked at.
const STALL: Duration = Duration::from_millis(20);

/// A connection over TCP, with TLS for https.
pub(crate) struct TcpTransport {
    url: Url,
    stream: TcpStream,
    connection: ClientConnection,
    started: StdInstant,
    /// Bytes that the machine has given out and the kernel has not taken.
    unsent: Vec<u8>,
    /// The server has shut down its side for reading.
    is_write_broken: bool,
    input: Box<[u8]>,
    /// What arrived while we were writing. Left with the machine it would stop the reading.
    arrived: VecDeque<Event>,
    arrived_bytes: usize,
}

impl TcpTransport {
    /// Connects to the server at `url`.
    ///
    /// # Errors
    ///
    /// `Unreachable` if nothing answers there.
    pub(crate) fn connect(url: &Url) -> Result<Self, CliError> {
        let tls = if url.is_tls { Some(client_tls(&url.host)?) } else { None };
        let unreachable = |cause| CliError::Unreachable { url: url.to_string(), cause };
        let stream = dial(url).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        keepalive::watch(&stream).map_err(unreachable)?;
        let config = Config { response_timeout: RESPONSE_TIMEOUT, ..Config::default() };
        let connection = ClientConnection::new(Arc::new(config), tls, Instant::default())
            .map_err(|error| CliError::Failed(error.to_string()))?;
        Ok(Self {
            url: url.clone(),
            stream,
            connection,
            started: StdInstant::now(),
            unsent: Vec::new(),
            is_write_broken: false,
            input: vec![0; CHUNK_BYTES].into(),
            arrived: VecDeque::new(),
            arrived_bytes: 0,
        })
    }

    fn now(&self) -> Instant {
        Instant::default().after(self.started.elapsed())
    }

    /// Writes what waits. A server may stop reading while its answers wait for us, so a write that stalls gives way
    /// to a read now and then.
    fn flush(&mut self) -> Result<(), CliError> {
        while !self.is_write_broken && !self.connection.is_closed() {
            if self.unsent.is_empty() {
                self.connection.poll_transmit(&mut self.unsent, CHUNK_BYTES);
                if self.unsent.is_empty() {
                    return Ok(());
                }
            }
            self.stream.set_write_timeout(Some(STALL)).map_err(|error| self.broken(&error))?;
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    self.connection.handle_sent(count, self.now());
                }
                Err(error) if is_pause(&error) => {
                    self.connection.handle_timeout(self.now());
                    while self.fill(Some(STALL))? {
                        self.set_aside()?;
                    }
                }
                // A server that refuses a request early closes while we still write: its answer can be read.
                Err(_) => self.is_write_broken = true,
            }
        }
        Ok(())
    }

    /// Takes what has happened from the machine.
    fn set_aside(&mut self) -> Result<(), CliError> {
        while let Some(event) = self.connection.poll_event() {
            if let Event::ResponseBody { bytes, .. } = &event {
                self.arrived_bytes += bytes.len();
            }
            self.arrived.push_back(event);
        }
        if self.arrived_bytes > ARRIVED_BYTES_MAX {
            let message = format!("{} sends answers faster than it takes requests", self.url);
            return Err(CliError::Failed(message));
        }
        Ok(())
    }

    /// What happened next.
    fn next_event(&mut self) -> Option<Event> {
        let event = self.arrived.pop_front().or_else(|| self.connection.poll_event());
        if self.arrived.is_empty() {
            self.arrived_bytes = 0;
        }
        event
    }

    /// Reads once, or waits for `patience`. Returns whether anything came.
    fn fill(&mut self, patience: Option<Duration>) -> Result<bool, CliError> {
        self.stream.set_read_timeout(patience).map_err(|error| self.broken(&error))?;
        match self.stream.read(&mut self.input) {
            Ok(0) => self.connection.handle_eof(self.now()),
            Ok(count) => {
                self.connection.handle_bytes(&self.input[..count], self.now());
                return Ok(true);
            }
            Err(error) if is_pause(&error) => self.connection.handle_timeout(self.now()),
            Err(error) => return Err(self.broken(&error)),
        }
        Ok(false)
    }

    /// How long the socket may block: until the machine's next deadline. Zero would mean for ever.
    fn patience(&self) -> Option<Duration> {
        let (deadline, _) = self.connection.poll_timeout()?;
        Some(deadline.since(self.now()).max(Duration::from_millis(1)))
    }

    fn broken(&self, error: &io::Error) -> CliError {
        CliError::Failed(format!("the connection to {} broke: {error}", self.url))
    }

    fn closed(&self, reason: &CloseReason) -> CliError {
        let cause = match reason {
            CloseReason::Timeout(Timer::Response) => {
                let limit = RESPONSE_TIMEOUT.as_secs();
                format!(
                    "no answer came within {limit} s; a write may have taken place all the same"
                )
            }
            CloseReason::Tls(error) => {
                let advice =
                    "a certificate of your own goes into a PEM file named by SSL_CERT_FILE";
                format!("TLS: {error}; {advice}")
            }
            reason => reason.to_string(),
        };
        CliError::Failed(format!("the connection to {} ended: {cause}", self.url))
    }
}

impl Transport for TcpTransport {
    fn send(&mut self, request: Request) -> Result<(), CliError> {
        let authorization = format!("Bearer {}", request.token);
        let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
        let with_body = if request.body.is_empty() { 1 } else { 2 };
        let request = ClientRequest {
            method: request.method,
            target: &request.target,
            host: &self.url.authority(),
            headers: &headers[..with_body],
            body: Bytes::clone(&request.body),
        };
        match self.connection.request(&request) {
            Ok(_) => self.flush(),
            Err(SendError::Closed) => {
                Err(CliError::Failed(format!("the server at {} closed the connection", self.url)))
            }
            Err(error) => Err(CliError::Failed(error.to_string())),
        }
    }

    fn receive(&mut self, sink: &mut BodySink<'_>) -> Result<u16, CliError> {
        let mut status = 0;
        loop {
            while let Some(event) = self.next_event() {
                match event {
                    Event::ResponseHead { head, .. } => status = head.status,
                    Event::ResponseBody { bytes, .. } => sink(status, &bytes)?,
                    Event::ResponseEnd { .. } => return Ok(status),
                    Event::Closed { reason } => return Err(self.closed(&reason)),
                    _ => {}
                }
            }
            self.flush()?;
            let patience = self.patience();
            self.fill(patience)?;
        }
    }
}

/// Connects to the first of the host's addresses that accepts.
fn dial(url: &Url) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (&*url.host, url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the socket only took longer than it was given.
fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests;
