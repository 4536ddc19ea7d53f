//! The driver on io_uring, through glommio.
//!
//! One task for each connection reads, one task runs the turns and sends at once what they have to say: an answer
//! nearly always fits the socket's buffer, and waking the connection's task for it costs more than the call. The task
//! is woken for the rest: what the kernel did not take, the end, and reading on. Reads are synchronous once a socket
//! is ready, so that an idle connection holds no buffer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use tokio::sync::Notify;

use super::either::either;
use super::os::send_now;
use super::thread::{ShardThread, Sleep};
use crate::shard::{Arrival, ConnId, Shard};

/// Memory registered with each ring, which counts against the limit for locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Entries of each of the three rings.
const RING_DEPTH: usize = 128;

/// Never, which is written as a year: see above.
const PREEMPT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shortest time that is not over before its timer is looked at.
const YIELD: Duration = Duration::from_micros(1);

/// How much is read and written at once.
const READ_BYTES: usize = 64 * 1024;
const WRITE_BYTES: usize = 256 * 1024;

/// Runs a thread until it is told to end.
///
/// # Errors
///
/// When the kernel gives no rings.
pub fn run(thread: ShardThread) -> io::Result<()> {
    // The thread is pinned already, where it shall be.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    let ended = executor.run(async {
        let wake = thread.mail.wake().to_file()?;
        let state = Rc::new(State {
            thread: RefCell::new(thread),
            sockets: RefCell::new(Vec::new()),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            outgoing: RefCell::new(Vec::with_capacity(WRITE_BYTES)),
            turn: Notify::new(),
        });
        // A task that is dropped is cancelled: it is let go instead.
        glommio::spawn_local(watch_wakes(state.clone(), wake)).detach();
        run_turns(&state).await;
        Ok(())
    });
    // The wait for wakes is still in the ring, and connections may be. An executor that is dropped frees their buffers
    // before the kernel has let go of them; one that is leaked does no harm, for the process ends with this thread.
    std::mem::forget(executor);
    ended
}

/// What the tasks of a thread share. No borrow is held over an await.
struct State {
    thread: RefCell<ShardThread>,
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    scratch: RefCell<Vec<u8>>,
    /// What is being sent.
    outgoing: RefCell<Vec<u8>>,
    /// Something has happened: a turn is due.
    turn: Notify,
}

/// What a turn knows of a connection: where to send, and how to wake its task.
struct Socket {
    conn: ConnId,
    /// The task's stream: it is open as long as the turns know of the connection.
    fd: RawFd,
    waker: RefCell<Option<Waker>>,
    /// What the shard gave out and the kernel has not taken.
    unsent: RefCell<Vec<u8>>,
    /// The task waits for bytes.
    is_reading: Cell<bool>,
    is_shut_down: Cell<bool>,
}

impl Socket {
    fn is_blocked(&self) -> bool {
        !self.unsent.borrow().is_empty()
    }
}

impl State {
    fn with_shard<T>(&self, act: impl FnOnce(&mut Shard) -> T) -> T {
        let result = act(self.thread.borrow_mut().in_turn());
        self.turn.notify_one();
        result
    }
}

async fn run_turns(state: &Rc<State>) {
    let mut opened = Vec::new();
    loop {
        let sleep = {
            let mut thread = state.thread.borrow_mut();
            thread.begin_turn(|shard, stream, arrival| {
                opened.extend(accept(state, shard, stream, arrival));
            });
            if !thread.finish_turn(|shard, conn| service(state, shard, conn)) {
                return;
            }
            thread.prepare_sleep()
        };
        // A new task runs at once, and borrows what the turn held.
        for (socket, stream) in opened.drain(..) {
            glommio::spawn_local(run_connection(state.clone(), socket, stream)).detach();
        }
        match sleep {
            Sleep::Not => {
                Timer::new(YIELD).await;
                continue;
            }
            Sleep::For(time) => either(state.turn.notified(), Timer::new(time)).await,
            Sleep::Forever => state.turn.notified().await,
        }
        state.thread.borrow_mut().finish_sleep();
    }
}

/// Turns the signal of other threads into a turn.
async fn watch_wakes(state: Rc<State>, file: std::fs::File) {
    let file = adopt_file(file);
    while file.read_at(0, 8).await.is_ok() {
        state.turn.notify_one();
    }
}

fn accept(
    state: &State,
    shard: &mut Shard,
    stream: StdStream,
    arrival: Arrival,
) -> Option<(Rc<Socket>, TcpStream)> {
    let conn = shard.open_connection(arrival)?;
    let socket = Rc::new(Socket {
        conn,
        fd: stream.as_raw_fd(),
        waker: RefCell::new(None),
        unsent: RefCell::default(),
        is_reading: Cell::new(false),
        is_shut_down: Cell::new(false),
    });
    let mut sockets = state.sockets.borrow_mut();
    if sockets.len() <= conn.place() {
        sockets.resize_with(conn.place() + 1, || None);
    }
    sockets[conn.place()] = Some(socket.clone());
    Some((socket, adopt_stream(stream)))
}

/// Looks after a connection: sends, and wakes its task for all else.
fn service(state: &State, shard: &mut Shard, conn: ConnId) {
    let sockets = state.sockets.borrow();
    let Some(Some(socket)) = sockets.get(conn.place()) else { return };
    if socket.conn != conn {
        return;
    }
    transmit(state, shard, socket);
    let is_ending =
        shard.is_closed(conn) || shard.wants_shutdown(conn) && !socket.is_shut_down.get();
    // Whether it reads is the task's own affair; looking is enough to be told of the next change.
    let must_read = shard.wants_read(conn) && !socket.is_reading.get();
    if (is_ending || must_read || socket.is_blocked())
        && let Some(waker) = socket.waker.borrow_mut().take()
    {
        waker.wake();
    }
}

/// Sends what there is to say, and keeps what the kernel does not take.
fn transmit(state: &State, shard: &mut Shard, socket: &Socket) {
    let outgoing = &mut *state.outgoing.borrow_mut();
    while !socket.is_blocked() {
        outgoing.clear();
        let count = shard.poll_transmit(socket.conn, outgoing, WRITE_BYTES);
        if count == 0 {
            return;
        }
        let Ok(sent) = send_now(&socket.fd, outgoing) else {
            return shard.handle_reset(socket.conn);
        };
        shard.handle_sent(socket.conn, sent);
        socket.unsent.borrow_mut().extend_from_slice(&outgoing[sent..]);
    }
}

/// Why a connection's task looks up.
enum Step {
    Shutdown,
    Closed,
}

async fn run_connection(state: Rc<State>, socket: Rc<Socket>, mut stream: TcpStream) {
    while let Step::Shutdown = poll_fn(|context| poll(&state, &socket, &mut stream, context)).await
    {
        drop(stream.shutdown(Shutdown::Write).await);
    }
    state.sockets.borrow_mut()[socket.conn.place()] = None;
    state.with_shard(|shard| shard.remove_connection(socket.conn));
    // At once: a poll in flight holds the file until it has been cancelled through the ring.
    drop(stream.shutdown(Shutdown::Both).await);
}

fn poll(
    state: &State,
    socket: &Socket,
    stream: &mut TcpStream,
    context: &mut Context<'_>,
) -> Poll<Step> {
    *socket.waker.borrow_mut() = Some(context.waker().clone());
    let conn = socket.conn;
    loop {
        // Writing first makes room to read.
        let wrote = poll_write(state, socket, stream, context);
        let (is_closed, wants_shutdown, wants_read) = {
            let mut thread = state.thread.borrow_mut();
            let shard = thread.in_turn();
            (shard.is_closed(conn), shard.wants_shutdown(conn), shard.wants_read(conn))
        };
        if is_closed {
            return Poll::Ready(Step::Closed);
        }
        if wants_shutdown && !socket.is_shut_down.replace(true) {
            return Poll::Ready(Step::Shutdown);
        }
        let read = wants_read && poll_read(state, conn, stream, context);
        socket.is_reading.set(wants_read);
        if !wrote && !read {
            return Poll::Pending;
        }
    }
}

/// Writes what a turn could not. True when something was written, or the connection failed.
fn poll_write(
    state: &State,
    socket: &Socket,
    stream: &mut TcpStream,
    context: &mut Context<'_>,
) -> bool {
    if !socket.is_blocked() {
        return false;
    }
    let unsent = &mut *socket.unsent.borrow_mut();
    match Pin::new(stream).poll_write(context, unsent) {
        Poll::Ready(Ok(count)) => {
            unsent.drain(..count);
            if unsent.is_empty() {
                // A connection that once had much to say does not keep the room for it.
                *unsent = Vec::new();
            }
            state.with_shard(|shard| {
                shard.handle_sent(socket.conn, count);
                shard.request_service(socket.conn);
            });
            true
        }
        Poll::Ready(Err(_)) => {
            *unsent = Vec::new();
            state.with_shard(|shard| shard.handle_reset(socket.conn));
            true
        }
        Poll::Pending => false,
    }
}

/// True when something was read, or the connection ended.
fn poll_read(
    state: &State,
    conn: ConnId,
    stream: &mut TcpStream,
    context: &mut Context<'_>,
) -> bool {
    let mut scratch = state.scratch.borrow_mut();
    match Pin::new(stream).poll_read(context, &mut scratch) {
        Poll::Ready(Ok(0)) => state.with_shard(|shard| shard.handle_eof(conn)),
        Poll::Ready(Ok(count)) => {
            state.with_shard(|shard| shard.handle_bytes(conn, &scratch[..count]));
        }
        Poll::Ready(Err(_)) => state.with_shard(|shard| shard.handle_reset(conn)),
        Poll::Pending => return false,
    }
    true
}

#[allow(unsafe_code, reason = "glommio adopts sockets and files by their descriptors alone")]
fn adopt_stream(stream: StdStream) -> TcpStream {
    // SAFETY: the descriptor is a socket, and is given away by its only owner.
    unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

#[allow(unsafe_code, reason = "glommio adopts sockets and files by their descriptors alone")]
fn adopt_file(file: std::fs::File) -> BufferedFile {
    // SAFETY: the descriptor is open, and is given away by its only owner.
    unsafe { BufferedFile::from_raw_fd(file.into_raw_fd()) }
}
