//! The driver on io_uring, through tokio-uring.
//!
//! One task for each connection reads, and one runs the turns. The turn's task is woken by any of them and runs after
//! all that were ready with it, so that one turn takes a whole batch of completions, and their next reads enter the
//! ring together. What a turn has to say is sent at once, without the ring: an answer nearly always fits the socket's
//! buffer, and a call costs less than a task and a completion, which would ask for a second turn. Only what the kernel
//! does not take goes through the ring, as a task of its own until all of it is taken.
//!
//! What the runtime makes necessary: a read is never dropped, for its bytes would be lost, but ended by shutting
//! the socket down; a busy loop yields by a no-op through the ring, for nothing else turns it; its timer knows
//! only milliseconds, so that shorter waits go round the ring instead; the turns are a spawned task, for the runtime
//! looks at its main one again and again, and waking it costs a round of the runtime.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, TcpStream as StdStream};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::os::{EventFd, send_now};
use super::thread::{ShardThread, Sleep};
use crate::api::Door;
use crate::shard::{ConnId, Shard};

/// Entries of the ring's submission queue. What does not fit is submitted on the way; memory is charged to the
/// user's limit for locked memory, so it is small.
const RING_ENTRIES: u32 = 256;

/// What an idle connection's read holds, and what a busy one's grows to.
const READ_BYTES_MIN: usize = 512;
const READ_BYTES_MAX: usize = 64 * 1024;

/// How much is written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// The shortest wait that the runtime's timer is good for.
const TIMER_MIN: Duration = Duration::from_millis(2);

/// Runs a thread until it is told to end.
///
/// # Errors
///
/// When the kernel gives no ring, or takes it back.
pub fn run(thread: ShardThread) -> io::Result<()> {
    start_runtime()?.block_on(async {
        let wake = thread.mail.wake().clone();
        let state = Rc::new(State {
            thread: RefCell::new(thread),
            sockets: RefCell::new(Vec::new()),
            scratch: RefCell::new(Vec::with_capacity(WRITE_BYTES)),
            turn: Notify::new(),
        });
        tokio_uring::spawn(watch_wakes(state.clone(), wake.to_file()?));
        match tokio_uring::spawn(async move { run_turns(&state, &wake).await }).await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            other => other.map_err(io::Error::other),
        }
    })
}

fn start_runtime() -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    // A completion does not interrupt this thread: it finds it when it enters the kernel, as it does every turn.
    ring.setup_coop_taskrun().setup_single_issuer();
    if ring.build(1).is_err() {
        // Kernels before 6.0 do not know both.
        ring = tokio_uring::uring_builder();
    }
    // `tokio_uring::start` would panic where the ring is refused.
    tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring))
}

/// What the tasks of a thread share. No borrow is held over an await.
struct State {
    thread: RefCell<ShardThread>,
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    /// What is being sent.
    scratch: RefCell<Vec<u8>>,
    /// Something has happened: a turn is due. It holds one permit, however many say so.
    turn: Notify,
}

struct Socket {
    conn: ConnId,
    stream: TcpStream,
    /// The reader may look again whether to read.
    room: Notify,
    is_writing: Cell<bool>,
    is_shut_down: Cell<bool>,
    is_closed: Cell<bool>,
}

impl State {
    fn socket(&self, conn: ConnId) -> Option<Rc<Socket>> {
        let sockets = self.sockets.borrow();
        sockets.get(conn.place())?.as_ref().filter(|socket| socket.conn == conn).cloned()
    }

    /// Lets something happen to a connection, and asks for a turn.
    fn with_shard<T>(&self, act: impl FnOnce(&mut Shard) -> T) -> T {
        let result = act(self.thread.borrow_mut().in_turn());
        self.turn.notify_one();
        result
    }
}

async fn run_turns(state: &Rc<State>, wake: &EventFd) {
    loop {
        let sleep = {
            let mut thread = state.thread.borrow_mut();
            thread.begin_turn(|shard, stream, door| accept(state, shard, stream, door));
            if !thread.finish_turn(|shard, conn| service(state, shard, conn)) {
                // The task that watches for wakes holds a read: let it end.
                wake.signal();
                return;
            }
            thread.prepare_sleep()
        };
        match sleep {
            Sleep::Not => {
                let _ = tokio_uring::no_op().await;
                continue;
            }
            Sleep::For(time) if time < TIMER_MIN => {
                let _ = tokio_uring::no_op().await;
            }
            Sleep::For(time) => {
                let _ = tokio::time::timeout(time, state.turn.notified()).await;
            }
            Sleep::Forever => state.turn.notified().await,
        }
        state.thread.borrow_mut().finish_sleep();
    }
}

/// Turns the signal of other threads into a turn.
async fn watch_wakes(state: Rc<State>, file: std::fs::File) {
    let file = tokio_uring::fs::File::from_std(file);
    let mut count = Vec::with_capacity(8);
    loop {
        let (result, buffer) = file.read_at(count, 0).await;
        if result.is_err() {
            return;
        }
        count = buffer;
        count.clear();
        state.turn.notify_one();
    }
}

fn accept(state: &Rc<State>, shard: &mut Shard, stream: StdStream, door: Door) {
    // A ring waits for the socket itself; some kernels answer a socket that does not block at once.
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let Some(conn) = shard.open_connection(door) else { return };
    let socket = Rc::new(Socket {
        conn,
        stream: TcpStream::from_std(stream),
        room: Notify::new(),
        is_writing: Cell::new(false),
        is_shut_down: Cell::new(false),
        is_closed: Cell::new(false),
    });
    let mut sockets = state.sockets.borrow_mut();
    if sockets.len() <= conn.place() {
        sockets.resize_with(conn.place() + 1, || None);
    }
    sockets[conn.place()] = Some(socket.clone());
    tokio_uring::spawn(read(state.clone(), socket));
}

/// Reads from a connection for its whole life.
async fn read(state: Rc<State>, socket: Rc<Socket>) {
    let conn = socket.conn;
    let mut buffer = Vec::with_capacity(READ_BYTES_MIN);
    loop {
        while !state.with_shard(|shard| shard.wants_read(conn)) {
            if socket.is_closed.get() {
                return;
            }
            socket.room.notified().await;
        }
        let (result, filled) = socket.stream.read(buffer).await;
        buffer = filled;
        match result {
            _ if socket.is_closed.get() => return,
            Ok(0) => return state.with_shard(|shard| shard.handle_eof(conn)),
            Ok(count) => {
                state.with_shard(|shard| shard.handle_bytes(conn, &buffer[..count]));
                buffer = sized(buffer, count);
            }
            Err(_) => return state.with_shard(|shard| shard.handle_reset(conn)),
        }
    }
}

/// A buffer for the next read: more room after a full one, little while little comes.
fn sized(buffer: Vec<u8>, filled: usize) -> Vec<u8> {
    let capacity = buffer.capacity();
    if filled == capacity && capacity < READ_BYTES_MAX {
        Vec::with_capacity((capacity * 4).min(READ_BYTES_MAX))
    } else if filled < READ_BYTES_MIN && capacity > READ_BYTES_MIN {
        Vec::with_capacity(READ_BYTES_MIN)
    } else {
        buffer
    }
}

/// Looks after a connection: writes, closes, and lets its reader look again.
fn service(state: &Rc<State>, shard: &mut Shard, conn: ConnId) {
    let Some(socket) = state.socket(conn) else { return };
    transmit(state, shard, &socket);
    if shard.is_closed(conn) {
        socket.is_closed.set(true);
        // Ends a read in flight; the descriptor is closed with the last of those who hold the socket.
        let _ = socket.stream.shutdown(Shutdown::Both);
        state.sockets.borrow_mut()[conn.place()] = None;
        shard.remove_connection(conn);
    } else if shard.wants_shutdown(conn) && !socket.is_shut_down.replace(true) {
        let _ = socket.stream.shutdown(Shutdown::Write);
    }
    if shard.wants_read(conn) || socket.is_closed.get() {
        socket.room.notify_one();
    }
}

/// Sends what there is to say, and leaves to a task what the kernel does not take.
fn transmit(state: &Rc<State>, shard: &mut Shard, socket: &Rc<Socket>) {
    let conn = socket.conn;
    let scratch = &mut *state.scratch.borrow_mut();
    while !socket.is_writing.get() {
        scratch.clear();
        let count = shard.poll_transmit(conn, scratch, WRITE_BYTES);
        if count == 0 {
            return;
        }
        let Ok(sent) = send_now(&socket.stream, scratch) else { return shard.handle_reset(conn) };
        shard.handle_sent(conn, sent);
        if sent < count {
            socket.is_writing.set(true);
            let rest = scratch[sent..].to_vec();
            tokio_uring::spawn(write(state.clone(), socket.clone(), rest));
        }
    }
}

/// Writes through the ring, which waits for the peer to make room.
async fn write(state: Rc<State>, socket: Rc<Socket>, bytes: Vec<u8>) {
    let conn = socket.conn;
    let (mut bytes, mut sent) = (bytes, 0);
    while sent < bytes.len() {
        let (result, slice) = socket.stream.write(bytes.slice(sent..)).submit().await;
        bytes = slice.into_inner();
        if socket.is_closed.get() {
            return;
        }
        match result {
            Ok(count) if count > 0 => {
                sent += count;
                state.with_shard(|shard| shard.handle_sent(conn, count));
            }
            _ => return state.with_shard(|shard| shard.handle_reset(conn)),
        }
    }
    socket.is_writing.set(false);
    state.with_shard(|shard| shard.request_service(conn));
}
