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

mod receive;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, TcpStream as StdStream};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use receive::{First, receive};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::either::either;
use super::os::{EventFd, send_now};
use super::thread::{ShardThread, Sleep};
use crate::shard::{Arrival, ConnId, Shard};

/// Entries of the ring's submission queue. What does not fit is submitted on the way; memory is charged to the
/// user's limit for locked memory, so it is small.
const RING_ENTRIES: u32 = 256;

/// What a read holds of a connection that says little, and what one that says much grows to.
const READ_BYTES_MIN: usize = 512;
const READ_BYTES_MAX: usize = 64 * 1024;

/// The same of somebody who has shown no credential: the buffer stays with the kernel for as long as nothing comes.
const READ_BYTES_STRANGER_MAX: usize = 4 * 1024;

/// How much is written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// The shortest wait that the runtime's timer is good for.
const TIMER_MIN: Duration = Duration::from_millis(2);

/// How long the end waits for the tasks to come to theirs: they do at once, unless the kernel is in trouble.
const END_TIME_MAX: Duration = Duration::from_millis(100);

/// Runs a thread until it is told to end.
///
/// # Errors
///
/// When the kernel gives no ring, or takes it back.
pub fn run(thread: ShardThread) -> io::Result<()> {
    let (runtime, first) = start_runtime()?;
    let ended = runtime.block_on(async {
        let wake = thread.mail.wake().clone();
        let state = Rc::new(State {
            thread: RefCell::new(thread),
            sockets: RefCell::new(Vec::new()),
            scratch: RefCell::new(Vec::with_capacity(WRITE_BYTES)),
            turn: Notify::new(),
            first,
            tasks: Tasks::default(),
        });
        tokio_uring::spawn(watch_wakes(state.clone(), wake.to_file()?));
        tokio_uring::spawn(async move { run_turns(&state, &wake).await })
            .await
            .map_err(io::Error::other)
    })?;
    end_runtime(runtime, ended);
    Ok(())
}

fn end_runtime(runtime: tokio_uring::Runtime, ended: Ended) {
    if ended == Ended::TasksLeft {
        // The kernel may still fill the buffers of the tasks that are left. Memory that is never freed can be filled
        // without harm, and the process ends with this thread.
        std::mem::forget(runtime);
    }
}

/// How the turns of a thread came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// No task is left, and no buffer in the kernel's hands.
    InOrder,
    /// Some tasks still wait for the kernel.
    TasksLeft,
}

/// The runtime, and how a read through its ring begins.
fn start_runtime() -> io::Result<(tokio_uring::Runtime, First)> {
    let mut first = First::Wait;
    let mut ring = tokio_uring::uring_builder();
    // A completion does not interrupt this thread: it finds it when it enters the kernel, as it does every turn.
    ring.setup_coop_taskrun().setup_single_issuer();
    if ring.build(1).is_err() {
        // Kernels before 6.0 do not know both, nor all of them the other way to read.
        (ring, first) = (tokio_uring::uring_builder(), First::Look);
    }
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES).uring_builder(&ring);
    // `tokio_uring::start` would panic where the ring is refused.
    Ok((tokio_uring::Runtime::new(&builder)?, first))
}

/// What the tasks of a thread share. No borrow is held over an await.
struct State {
    thread: RefCell<ShardThread>,
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    /// What is being sent.
    scratch: RefCell<Vec<u8>>,
    /// Something has happened: a turn is due. It holds one permit, however many say so.
    turn: Notify,
    /// How a read begins that will hardly find anything.
    first: First,
    tasks: Tasks,
}

/// The tasks of a thread beside its turns.
#[derive(Default)]
struct Tasks {
    /// No turn follows.
    is_ending: Cell<bool>,
    /// How many tasks have begun and not ended.
    running: Cell<usize>,
    /// One of them has ended.
    ended: Notify,
}

impl Tasks {
    /// Waits until all have come to their end, or their time is over.
    async fn join(&self) -> Ended {
        let mut deadline = pin!(tokio::time::sleep(END_TIME_MAX));
        while self.running.get() > 0 && !deadline.is_elapsed() {
            either(self.ended.notified(), deadline.as_mut()).await;
        }
        if self.running.get() == 0 { Ended::InOrder } else { Ended::TasksLeft }
    }
}

/// A task, from its first step to its end.
struct Running<'a>(&'a Tasks);

impl<'a> Running<'a> {
    fn begin(tasks: &'a Tasks) -> Self {
        tasks.running.update(|count| count + 1);
        Self(tasks)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.update(|count| count - 1);
        self.0.ended.notify_one();
    }
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

async fn run_turns(state: &Rc<State>, wake: &EventFd) -> Ended {
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        let sleep = {
            let mut thread = state.thread.borrow_mut();
            thread.begin_turn(|shard, stream, arrival| accept(state, shard, stream, arrival));
            let is_running = thread.finish_turn(|shard, conn| service(state, shard, conn));
            is_running.then(|| thread.prepare_sleep())
        };
        let Some(sleep) = sleep else { return end_tasks(state, wake).await };
        match sleep {
            Sleep::Not => {
                round().await;
                continue;
            }
            Sleep::For(time) if time < TIMER_MIN => round().await,
            Sleep::For(time) => {
                let (deadline, turn) = (Instant::now() + time, pin!(state.turn.notified()));
                // Most deadlines move away before they come. A timer that is early is left as it is: a turn too many
                // now and then costs less than setting a timer for every one.
                if timer.is_elapsed() || deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                either(turn, timer.as_mut()).await;
            }
            Sleep::Forever => state.turn.notified().await,
        }
        state.thread.borrow_mut().finish_sleep();
    }
}

/// Goes round the ring once, and lets those go first whose completions came with ours: a turn may be long, and what they
/// have read is answered in the next alone.
async fn round() {
    let _ = tokio_uring::no_op().await;
    let mut has_let = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_let, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Lets every task of the thread come to its end. A runtime that is dropped frees what its reads are to fill, and
/// only then tells the kernel: one whose tasks are not done must not be dropped.
async fn end_tasks(state: &Rc<State>, wake: &EventFd) -> Ended {
    state.tasks.is_ending.set(true);
    wake.signal();
    for socket in state.sockets.borrow().iter().flatten() {
        socket.is_closed.set(true);
        let _ = socket.stream.shutdown(Shutdown::Both);
        socket.room.notify_one();
    }
    state.tasks.join().await
}

/// Turns the signal of other threads into a turn.
async fn watch_wakes(state: Rc<State>, file: std::fs::File) {
    let _running = Running::begin(&state.tasks);
    let file = tokio_uring::fs::File::from_std(file);
    let mut count = Vec::with_capacity(8);
    loop {
        let (result, buffer) = file.read_at(count, 0).await;
        if result.is_err() || state.tasks.is_ending.get() {
            return;
        }
        count = buffer;
        count.clear();
        state.turn.notify_one();
    }
}

fn accept(state: &Rc<State>, shard: &mut Shard, stream: StdStream, arrival: Arrival) {
    // A ring waits for the socket itself; some kernels answer a socket that does not block at once.
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let Some(conn) = shard.open_connection(arrival) else { return };
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
    let _running = Running::begin(&state.tasks);
    let conn = socket.conn;
    let mut buffer = vec![0; READ_BYTES_MIN];
    let mut is_rest = false;
    let mut wants_read = state.with_shard(|shard| shard.wants_read(conn));
    loop {
        while !wants_read {
            if socket.is_closed.get() {
                return;
            }
            socket.room.notified().await;
            wants_read = state.with_shard(|shard| shard.wants_read(conn));
        }
        let first = if is_rest { First::Look } else { state.first };
        let (result, filled) = receive(socket.clone(), buffer, first).await;
        buffer = filled;
        match result {
            _ if socket.is_closed.get() => return,
            Ok(0) => return state.with_shard(|shard| shard.handle_eof(conn)),
            Ok(count) => {
                let is_known;
                (wants_read, is_known) = state.with_shard(|shard| {
                    shard.handle_bytes(conn, &buffer[..count]);
                    (shard.wants_read(conn), shard.is_known(conn))
                });
                let is_full = count == buffer.len();
                let max = if is_known { READ_BYTES_MAX } else { READ_BYTES_STRANGER_MAX };
                buffer = sized(buffer, count, is_rest, max);
                is_rest = is_full;
            }
            Err(_) => return state.with_shard(|shard| shard.handle_reset(conn)),
        }
    }
}

/// A buffer of at most `max` bytes for the next read: more room after a full one, little while little comes. The rest of what was too much
/// for one read says nothing about the next: a connection whose requests all exceed the buffer would never get room.
fn sized(buffer: Vec<u8>, filled: usize, is_rest: bool, max: usize) -> Vec<u8> {
    let length = buffer.len();
    let wanted = if filled == length {
        (length * 2).min(max)
    } else if filled < length / 4 && !is_rest {
        (filled * 2).next_power_of_two().max(READ_BYTES_MIN)
    } else {
        length
    };
    if wanted == length { buffer } else { vec![0; wanted] }
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
    let _running = Running::begin(&state.tasks);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio_uring::buf::{IoBuf, IoBufMut};

    use super::*;

    /// A buffer that tells when it is freed.
    struct Watched(Box<[u8; 8]>, Arc<AtomicBool>);

    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    #[allow(unsafe_code, reason = "a buffer for the ring is one by an unsafe trait")]
    // SAFETY: the bytes lie in a box, so that moving the buffer does not move them, and all are initialised.
    unsafe impl IoBuf for Watched {
        fn stable_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }

        fn bytes_init(&self) -> usize {
            self.0.len()
        }

        fn bytes_total(&self) -> usize {
            self.0.len()
        }
    }

    #[allow(unsafe_code, reason = "a buffer for the ring is one by an unsafe trait")]
    // SAFETY: as above, and the buffer is borrowed as mutable.
    unsafe impl IoBufMut for Watched {
        fn stable_mut_ptr(&mut self) -> *mut u8 {
            self.0.as_mut_ptr()
        }

        unsafe fn set_init(&mut self, _: usize) {}
    }

    /// Ends a runtime in which a task reads from a signal that may never come; true if its buffer was freed.
    fn is_freed_at_the_end(is_signalled: bool) -> (Ended, bool) {
        let (runtime, _) = start_runtime().expect("this machine has io_uring");
        let signal = EventFd::blocking().expect("a descriptor");
        let file = signal.to_file().expect("a descriptor");
        let (tasks, is_freed) = (Rc::new(Tasks::default()), Arc::new(AtomicBool::new(false)));
        let ended = runtime.block_on(async {
            let buffer = Watched(Box::default(), is_freed.clone());
            let its = tasks.clone();
            tokio_uring::spawn(async move {
                let _running = Running::begin(&its);
                let _ = tokio_uring::fs::File::from_std(file).read_at(buffer, 0).await;
            });
            // The task gives its buffer to the kernel.
            while tasks.running.get() == 0 {
                let _ = tokio_uring::no_op().await;
            }
            if is_signalled {
                signal.signal();
            }
            tasks.join().await
        });
        end_runtime(runtime, ended);
        (ended, is_freed.load(Ordering::Relaxed))
    }

    #[test]
    fn what_the_kernel_may_still_fill_when_the_time_is_over_is_never_freed() {
        if start_runtime().is_err() {
            eprintln!("LEFT OUT: this machine has no io_uring");
            return;
        }
        assert_eq!(is_freed_at_the_end(true), (Ended::InOrder, true));
        assert_eq!(is_freed_at_the_end(false), (Ended::TasksLeft, false));
    }

    /// The lengths of the buffers of a connection that reads bursts of these many bytes, one after each burst.
    fn lengths_after(bursts: impl IntoIterator<Item = usize>, max: usize) -> Vec<usize> {
        let (mut buffer, mut lengths) = (vec![0; READ_BYTES_MIN], Vec::new());
        for burst in bursts {
            let (mut left, mut is_rest) = (burst, false);
            while left > 0 {
                let filled = left.min(buffer.len());
                let is_full = filled == buffer.len();
                buffer = sized(buffer, filled, is_rest, max);
                (left, is_rest) = (left - filled, is_full);
            }
            lengths.push(buffer.len());
        }
        lengths
    }

    #[test]
    fn requests_longer_than_the_first_buffer_are_soon_read_at_once() {
        assert_eq!(lengths_after([600; 4], READ_BYTES_MAX), [1024; 4]);
    }

    #[test]
    fn a_buffer_grows_with_what_comes_and_shrinks_with_the_next_little() {
        let lengths = lengths_after([1_000_000, 100, 100], READ_BYTES_MAX);
        assert_eq!(lengths, [READ_BYTES_MAX, READ_BYTES_MIN, READ_BYTES_MIN]);
        let lengths = lengths_after([1_000_000, 100], READ_BYTES_STRANGER_MAX);
        assert_eq!(lengths, [READ_BYTES_STRANGER_MAX, READ_BYTES_MIN]);
    }
}
