//! The driver on epoll: always available, also where io_uring is not.
//!
//! A turn takes everything that is ready, runs the shard once, and then writes once to each connection that has
//! something to say. A socket is written at once; only what the kernel does not take waits for readiness.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::os::{Epoll, Interest};
use super::thread::{ShardThread, Sleep};
use crate::logging::{self, Level, Repeated};
use crate::shard::{Arrival, ConnId, Shard};

/// How much is read at once, and how often in a row before others get their turn.
const READ_BYTES: usize = 64 * 1024;
const READS_MAX: usize = 4;

/// How much is written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// The data of the descriptor that wakes the thread; connections never have it.
const WAKE: u64 = u64::MAX;

/// Runs a thread until it is told to end.
///
/// # Errors
///
/// When epoll itself fails.
pub fn run(mut thread: ShardThread) -> io::Result<()> {
    let mut epoll = Epoll::new()?;
    let readable = Interest { read: true, write: false };
    epoll.add(&**thread.mail.wake(), readable, WAKE)?;
    let mut sockets = Sockets {
        places: Vec::new(),
        scratch: Vec::with_capacity(WRITE_BYTES),
        buffer: vec![0; READ_BYTES],
    };
    let mut ready_count = 0;
    loop {
        thread.begin_turn(|shard, stream, arrival| sockets.accept(&epoll, shard, stream, arrival));
        for index in 0..ready_count {
            let ready = epoll.readiness(index);
            if ready.data == WAKE {
                thread.mail.wake().clear();
            } else {
                let (readable, writable) = (ready.readable, ready.writable);
                let conn = ConnId(ready.data);
                sockets.on_ready(&mut thread.shard, conn, readable, writable, ready.hung_up);
            }
        }
        if !thread.finish_turn(|shard, conn| sockets.service(&epoll, shard, conn)) {
            return Ok(());
        }
        ready_count = match thread.prepare_sleep() {
            Sleep::Not => epoll.wait(Some(Duration::ZERO))?,
            sleep => {
                let timeout = if let Sleep::For(time) = sleep { Some(time) } else { None };
                let count = epoll.wait(timeout);
                thread.finish_sleep();
                count?
            }
        };
    }
}

/// The sockets of a thread, by the place of their connections.
struct Sockets {
    places: Vec<Option<Socket>>,
    scratch: Vec<u8>,
    buffer: Vec<u8>,
}

struct Socket {
    conn: ConnId,
    stream: TcpStream,
    interest: Interest,
    /// Given out by the shard and not taken by the kernel.
    unsent: Vec<u8>,
    is_shut_down: bool,
}

impl Socket {
    fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }
}

impl Sockets {
    fn accept(&mut self, epoll: &Epoll, shard: &mut Shard, stream: TcpStream, arrival: Arrival) {
        let Some(conn) = shard.open_connection(arrival) else { return };
        let interest = Interest { read: true, write: false };
        if let Err(error) = epoll.add(&stream, interest, conn.0) {
            static REFUSED: Repeated = Repeated::new();
            let fields = [("cause", &*error.to_string())];
            logging::repeated(&REFUSED, Level::Warn, "connection refused", &fields);
            shard.handle_reset(conn);
            return shard.remove_connection(conn);
        }
        if self.places.len() <= conn.place() {
            self.places.resize_with(conn.place() + 1, || None);
        }
        let socket = Socket { conn, stream, interest, unsent: Vec::new(), is_shut_down: false };
        self.places[conn.place()] = Some(socket);
    }

    fn get(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.places.get_mut(conn.place())?.as_mut().filter(|socket| socket.conn == conn)
    }

    fn on_ready(
        &mut self,
        shard: &mut Shard,
        conn: ConnId,
        is_readable: bool,
        is_writable: bool,
        is_hung_up: bool,
    ) {
        if is_writable {
            self.flush_unsent(shard, conn);
        }
        let Some(socket) = self.get(conn) else { return };
        if is_readable && socket.interest.read {
            self.read(shard, conn);
        } else if is_hung_up {
            shard.handle_reset(conn);
        }
    }

    fn read(&mut self, shard: &mut Shard, conn: ConnId) {
        for _ in 0..READS_MAX {
            let Self { places, buffer, .. } = self;
            let Some(socket) = places[conn.place()].as_mut() else { return };
            match socket.stream.read(buffer) {
                Ok(0) => return shard.handle_eof(conn),
                Ok(count) => {
                    shard.handle_bytes(conn, &buffer[..count]);
                    if count < buffer.len() || !shard.wants_read(conn) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return shard.handle_reset(conn),
            }
        }
    }

    /// Looks after a connection: writes, closes, and asks for the readiness that matters.
    fn service(&mut self, epoll: &Epoll, shard: &mut Shard, conn: ConnId) {
        self.transmit(shard, conn);
        if shard.is_closed(conn) {
            if self.get(conn).is_some() {
                self.places[conn.place()] = None;
            }
            return shard.remove_connection(conn);
        }
        let wants_shutdown = shard.wants_shutdown(conn);
        let read = shard.wants_read(conn);
        let Some(socket) = self.get(conn) else { return };
        if wants_shutdown && !socket.is_shut_down {
            socket.is_shut_down = true;
            // A peer that is gone already needs no word of it.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
        let interest = Interest { read, write: socket.is_blocked() };
        if interest != socket.interest {
            socket.interest = interest;
            if epoll.modify(&socket.stream, interest, conn.0).is_err() {
                shard.handle_reset(conn);
            }
        }
    }

    fn transmit(&mut self, shard: &mut Shard, conn: ConnId) {
        loop {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            let is_open = self.get(conn).is_some_and(|socket| !socket.is_blocked());
            let count =
                if is_open { shard.poll_transmit(conn, &mut scratch, WRITE_BYTES) } else { 0 };
            let sent = if count > 0 { self.write(conn, &scratch) } else { Ok(0) };
            self.scratch = scratch;
            match sent {
                _ if count == 0 => return,
                Ok(sent) => {
                    shard.handle_sent(conn, sent);
                    if sent < count {
                        return;
                    }
                }
                Err(_) => return shard.handle_reset(conn),
            }
        }
    }

    /// Writes, and keeps what the kernel does not take.
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> io::Result<usize> {
        let Some(socket) = self.get(conn) else { return Ok(0) };
        let sent = match socket.stream.write(bytes) {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            other => other?,
        };
        socket.unsent.extend_from_slice(&bytes[sent..]);
        Ok(sent)
    }

    fn flush_unsent(&mut self, shard: &mut Shard, conn: ConnId) {
        let Some(socket) = self.get(conn) else { return };
        match socket.stream.write(&socket.unsent) {
            Ok(sent) => {
                socket.unsent.drain(..sent);
                if socket.unsent.is_empty() {
                    // A connection that once had much to say does not keep the room for it.
                    socket.unsent = Vec::new();
                }
                shard.handle_sent(conn, sent);
                shard.request_service(conn);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => shard.handle_reset(conn),
        }
    }
}
