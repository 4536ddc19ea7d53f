//! The load: many connections on one thread, each in a closed loop of one request.
//!
//! It does as little as it can, because its CPU time is taken from the server's: requests are patched in place, of
//! an answer only status and length are looked at.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::figures::Latencies;
use crate::process::cpu_of;
use crate::request::{Ids, Template};

/// What to send, and how.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    /// Who answers.
    pub(crate) address: SocketAddr,
    /// How many connections.
    pub(crate) connections: usize,
    /// How long, after a warm-up.
    pub(crate) time: Duration,
    /// The request.
    pub(crate) template: &'a mut Template,
    /// Its ids.
    pub(crate) ids: &'a mut Ids,
}

/// What came back within the measured time.
#[derive(Debug)]
pub(crate) struct Answered {
    /// From sending a request to its whole answer.
    pub(crate) latencies: Latencies,
    /// The measured time.
    pub(crate) time: Duration,
    /// The CPU time of the load itself.
    pub(crate) client_cpu: Duration,
}

impl Answered {
    /// Answers per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }
}

/// How long the load runs before anything is measured.
const WARM_UP: Duration = Duration::from_millis(200);

/// How long the last answers may take.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

impl Load<'_> {
    /// Runs the load. `sample` is called at the start and at the end of the measured time.
    ///
    /// # Errors
    ///
    /// When a connection breaks, or an answer is not a 200.
    pub(crate) fn run<S>(self, sample: impl Fn() -> io::Result<S>) -> io::Result<(Answered, S, S)> {
        let time = self.time;
        let mut clients = Clients::connect(self)?;
        clients.run_until(Instant::now() + WARM_UP)?;
        clients.latencies = Latencies::default();
        let (first, cpu, begun) = (sample()?, own_cpu()?, Instant::now());
        clients.run_until(begun + time)?;
        let time = begun.elapsed();
        let client_cpu = own_cpu()?.saturating_sub(cpu);
        let last = sample()?;
        let latencies = std::mem::take(&mut clients.latencies);
        clients.drain()?;
        Ok((Answered { latencies, time, client_cpu }, first, last))
    }
}

/// All connections of a load.
struct Clients<'a> {
    load: Load<'a>,
    poll: Poll,
    events: Events,
    all: Vec<Client>,
    buffer: Vec<u8>,
    latencies: Latencies,
    /// Answers that are waited for.
    in_flight: usize,
    /// Nothing more is sent.
    is_ending: bool,
}

struct Client {
    stream: TcpStream,
    sent: Instant,
    /// The part of an answer that has arrived without the rest.
    part: Vec<u8>,
}

impl<'a> Clients<'a> {
    fn connect(load: Load<'a>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut all = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let stream = std::net::TcpStream::connect(load.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            all.push(Client { stream, sent: Instant::now(), part: Vec::new() });
        }
        let mut clients = Self {
            load,
            poll,
            events: Events::with_capacity(1024),
            all,
            buffer: vec![0; READ_BYTES],
            latencies: Latencies::default(),
            in_flight: 0,
            is_ending: false,
        };
        for index in 0..clients.all.len() {
            clients.send(index)?;
        }
        Ok(clients)
    }

    fn run_until(&mut self, end: Instant) -> io::Result<()> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left)?;
        }
    }

    /// Takes the answers that are still to come, so that the next load meets a quiet server.
    fn drain(&mut self) -> io::Result<()> {
        self.is_ending = true;
        let end = Instant::now() + DRAIN_MAX;
        while self.in_flight > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "some requests are never answered",
                ));
            }
            self.turn(left)?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        ready.into_iter().try_for_each(|index| self.receive(index))
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let bytes = self.load.template.with_id(self.load.ids.next());
        let client = &mut self.all[index];
        client.sent = Instant::now();
        // A request is far smaller than what a socket takes that has nothing else to send.
        let count = client.stream.write(bytes)?;
        if count < bytes.len() {
            return Err(io::Error::new(ErrorKind::WriteZero, "the socket took part of a request"));
        }
        self.in_flight += 1;
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let Self { all, buffer, latencies, .. } = self;
        let client = &mut all[index];
        let count = match client.stream.read(buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "connection closed")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        };
        let is_whole = if client.part.is_empty() {
            is_whole(&buffer[..count])?
        } else {
            client.part.extend_from_slice(&buffer[..count]);
            is_whole(&client.part)?
        };
        if !is_whole {
            if client.part.is_empty() {
                client.part.extend_from_slice(&buffer[..count]);
            }
            return Ok(());
        }
        client.part.clear();
        latencies.push(client.sent.elapsed());
        self.in_flight -= 1;
        if self.is_ending { Ok(()) } else { self.send(index) }
    }
}

/// Whether `answer` is a whole one with status 200. Its head must give the length.
///
/// # Errors
///
/// If it has another status, or no length.
pub(crate) fn is_whole(answer: &[u8]) -> io::Result<bool> {
    const OK: &[u8] = b"HTTP/1.1 200 ";
    const LENGTH: &[u8] = b"Content-Length: ";
    let Some(head) = find(answer, b"\r\n\r\n") else { return Ok(false) };
    if !answer.starts_with(OK) {
        let text = String::from_utf8_lossy(answer);
        return Err(io::Error::other(format!("not a 200: {text}")));
    }
    let at = find(&answer[..head], LENGTH);
    let at = at.ok_or_else(|| io::Error::other("an answer without a length"))? + LENGTH.len();
    let digits = answer[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(answer.len() >= head + 4 + length)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn own_cpu() -> io::Result<Duration> {
    cpu_of("/proc/thread-self/stat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_last_byte_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345";
        for count in 0..answer.len() {
            assert!(!is_whole(&answer[..count]).expect("a 200"));
        }
        assert!(is_whole(answer).expect("a 200"));
        assert!(is_whole(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
