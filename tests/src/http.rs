//! HTTP/1.1 as bytes over a socket, so that a test can send what no client library would.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a socket may be silent before a test gives up. Longer than every time-out of the server.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// A connection, kept alive between requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was read beyond the last answer.
    ahead: Vec<u8>,
}

/// One whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

/// A request as bytes, with the header fields that every client sends.
#[must_use]
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent; what comes is still read.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn shut_down(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// The error of the system, or `UnexpectedEof` when the server hung up first.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request)?;
        self.receive()
    }

    /// Waits for one whole answer.
    ///
    /// # Errors
    ///
    /// The error of the system, `UnexpectedEof` when the server hung up first, `InvalidData` when the bytes are
    /// no answer.
    pub fn receive(&mut self) -> io::Result<Answer> {
        let head = self.take_through(b"\r\n\r\n")?;
        let head = std::str::from_utf8(&head).map_err(|_| invalid("a head that is not UTF-8"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|line| line.get(..3)).and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        answer.body = self.body_of(&answer)?;
        Ok(answer)
    }

    /// Takes exactly `count` bytes.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`].
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.fill()?;
        }
        let rest = self.ahead.split_off(count);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    /// Everything up to the end of the connection, as it came.
    ///
    /// # Errors
    ///
    /// When the other side does not end it.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.ahead)?;
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Waits until the server has closed the connection; true if it said nothing more before.
    ///
    /// # Errors
    ///
    /// The error of the system. A reset is a close.
    pub fn is_closed_in_silence(&mut self) -> io::Result<bool> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if is_hang_up(&error) => return Ok(self.ahead.is_empty()),
                Err(error) => return Err(error),
            }
        }
    }

    fn body_of(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        if answer.header("transfer-encoding") == Some("chunked") {
            return self.take_chunks();
        }
        let length = answer.header("content-length").unwrap_or("0");
        let length = length.parse().map_err(|_| invalid("a length that is no number"))?;
        // 101 is followed by another protocol.
        if answer.status == 101 { Ok(Vec::new()) } else { self.take(length) }
    }

    fn take_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n")?;
            let line = std::str::from_utf8(&line).map_err(|_| invalid("a chunk without size"))?;
            let size = usize::from_str_radix(line.trim_end(), 16);
            let size = size.map_err(|_| invalid("a chunk without size"))?;
            body.extend_from_slice(&self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(invalid("a chunk that does not end where it says"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn take_through(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let found = self.ahead.windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                return self.take(at + end.len());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.ahead.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

impl Answer {
    /// The value of a header field. The name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| &*header.1)
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in answer {}: {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// What the answer says is wrong, in either of the two shapes that errors have.
    #[must_use]
    pub fn complaint(&self) -> String {
        let json = self.json();
        let text = json["message"].as_str().or_else(|| json["error"]["description"].as_str());
        text.unwrap_or_default().to_owned()
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// True when the error says that the other side is gone, in whichever way.
#[must_use]
pub fn is_hang_up(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | BrokenPipe
            | ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
    )
}
