//! The system calls that neither std nor a crate of ours wraps, each behind a safe face.
#![allow(unsafe_code, reason = "libc has no safe face for these calls")]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// From here on whatever the process makes is its owner's alone: the data directory holds keys and documents.
pub fn keep_others_out() {
    // SAFETY: the call takes an integer and cannot fail.
    unsafe { libc::umask(0o077) };
}

/// Asks the system to run the calling thread soon when it has something to do, and a little at a time: it waits for
/// others often, and clients wait for it. Linux knows the wish since 6.12, and lets a thread that wakes with a short
/// slice go before one that has begun a long one; without it, a read that crosses threads beside a busy process waits
/// for a whole slice of that, some 3 ms. A system that does not know the wish leaves the thread as it is.
pub fn ask_for_short_slices() {
    let Some(mut wish) = schedule() else { return };
    // A thread that somebody has made one of another kind stays so.
    if wish.sched_policy == libc::SCHED_OTHER.cast_unsigned() {
        wish.sched_runtime = SLICE_NS;
        // SAFETY: the call reads the structure, which the system has filled, and zero names the calling thread.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
    }
}

/// How the system schedules the calling thread, if it says so.
fn schedule() -> Option<libc::sched_attr> {
    // SAFETY: all its members are integers, for which zeros are valid.
    let mut found: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the call fills the structure, whose size it is told, and zero names the calling thread.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) };
    (read == 0).then_some(found)
}

/// How long a thread runs at a time that has asked for short slices, in nanoseconds: the least that can be asked for.
const SLICE_NS: u64 = 100_000;

/// A descriptor that becomes readable when it is signalled.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// A new one, not signalled.
    ///
    /// # Errors
    ///
    /// When the process has no more descriptors.
    pub fn new() -> io::Result<Self> {
        Self::with_flags(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
    }

    /// A new one whose reader waits for the signal, as a ring's reads must: some kernels answer a ring at once
    /// when the descriptor says that it does not block.
    ///
    /// # Errors
    ///
    /// When the process has no more descriptors.
    pub fn blocking() -> io::Result<Self> {
        Self::with_flags(libc::EFD_CLOEXEC)
    }

    fn with_flags(flags: libc::c_int) -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, flags) })?;
        // SAFETY: the call just returned this descriptor, and nothing else knows it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Makes it readable.
    pub fn signal(&self) {
        // It fails only when the counter is at its end, and then it is readable already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// True when it was signalled; makes it not readable.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        matches!((&self.0).read(&mut [0; 8]), Ok(8))
    }

    /// The same descriptor as a file, to be read elsewhere.
    ///
    /// # Errors
    ///
    /// When the process has no more descriptors.
    pub fn to_file(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// Makes it not readable. Call it only when it is.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An epoll instance: level-triggered, one `u64` for each descriptor.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// Kernels before 5.11 know only whole milliseconds.
    coarse: bool,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) data: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Both sides are shut, or the socket has failed.
    pub(crate) hung_up: bool,
}

/// What one asks to be told about a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    fn bits(self) -> u32 {
        let read = if self.read { libc::EPOLLIN } else { 0 };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        (read | write).cast_unsigned()
    }
}

/// How many events one wait reports.
const EVENTS_MAX: usize = 512;

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call just returned this descriptor, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(Self { fd, events, coarse: false })
    }

    pub(crate) fn add(&self, of: &impl AsRawFd, interest: Interest, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, of, interest, data)
    }

    pub(crate) fn modify(
        &self,
        of: &impl AsRawFd,
        interest: Interest,
        data: u64,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, of, interest, data)
    }

    fn control(
        &self,
        operation: libc::c_int,
        of: &impl AsRawFd,
        interest: Interest,
        data: u64,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: data };
        // SAFETY: `event` is read during the call and not kept.
        let result = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), operation, of.as_raw_fd(), &raw mut event)
        };
        check(result).map(drop)
    }

    /// Waits until something is ready, at most `timeout`, and returns how much is.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let count = match self.wait_once(timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            other => other?,
        };
        Ok(usize::try_from(count).expect("a count is not negative"))
    }

    /// One of those that the last wait found.
    pub(crate) fn readiness(&self, index: usize) -> Readiness {
        let event = self.events[index];
        let bits = event.events.cast_signed();
        Readiness {
            data: event.u64,
            readable: bits & libc::EPOLLIN != 0,
            writable: bits & libc::EPOLLOUT != 0,
            hung_up: bits & (libc::EPOLLHUP | libc::EPOLLERR) != 0,
        }
    }

    fn wait_once(&mut self, timeout: Option<Duration>) -> io::Result<libc::c_int> {
        let fd = self.fd.as_raw_fd();
        let capacity = libc::c_int::try_from(self.events.len()).expect("a small constant");
        if !self.coarse {
            let time = timeout.map(|timeout| libc::timespec {
                tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_nsec: timeout.subsec_nanos().into(),
            });
            let time = time.as_ref().map_or(std::ptr::null(), |time| &raw const *time);
            // SAFETY: `events` has room for `capacity` events, `time` is null or outlives the call, and a null
            // signal mask asks for none.
            let result = unsafe {
                let mask = std::ptr::null::<libc::sigset_t>();
                let events = self.events.as_mut_ptr();
                libc::syscall(libc::SYS_epoll_pwait2, fd, events, capacity, time, mask, 0)
            };
            match check(libc::c_int::try_from(result).unwrap_or(-1)) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.coarse = true;
                }
                other => return other,
            }
        }
        let millis = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000))
                .unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: `events` has room for `capacity` events.
        check(unsafe { libc::epoll_wait(fd, self.events.as_mut_ptr(), capacity, millis) })
    }
}

/// Lets more connections wait on a socket that is listened on already.
pub(crate) fn lengthen_backlog(of: &impl AsRawFd, backlog: u16) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::listen(of.as_raw_fd(), backlog.into()) }).map(drop)
}

/// Sends what a socket takes at once, even if it is one that waits, and returns how much that is.
pub(crate) fn send_now(to: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `bytes` outlives the call, which reads that many.
    let sent = unsafe { libc::send(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).or_else(|_| match io::Error::last_os_error() {
        error if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        error => Err(error),
    })
}

/// Waits until one of the descriptors is readable.
pub(crate) fn wait_readable(of: &[RawFd]) -> io::Result<()> {
    let mut fds: Vec<_> =
        of.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let count = fds.len().try_into().expect("few descriptors");
    // SAFETY: `fds` has `count` entries and outlives the call.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), count, -1) }) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        other => other.map(drop),
    }
}

/// Writes the last words of the process to standard error, at most so many bytes as a pipe takes whole. A reader that
/// has stopped reading is given a second, and then the words are lost: an end that waits for ever is worse.
pub fn write_last(line: &[u8]) {
    const PATIENCE_MS: libc::c_int = 1000;
    let line = &line[..line.len().min(libc::PIPE_BUF)];
    let mut fd = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `fd` is one entry and outlives the call. A pipe that is writable has room for `PIPE_BUF` bytes.
    let ready = unsafe { libc::poll(&raw mut fd, 1, PATIENCE_MS) };
    if ready > 0 && fd.revents & libc::POLLOUT != 0 {
        // SAFETY: `line` outlives the call, which reads that many bytes of it.
        unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    }
}

/// Keeps the calling thread on one of the cores it may run on, counted from zero. Best effort.
pub fn pin_thread(index: usize) {
    // SAFETY: an all-zero set is a valid, empty set; both calls touch only it.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &raw mut allowed) != 0 {
            return;
        }
        let cores = (0..libc::CPU_SETSIZE.cast_unsigned() as usize)
            .filter(|&core| libc::CPU_ISSET(core, &allowed));
        let Some(core) = cores.into_iter().nth(index) else { return };
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut one);
        libc::sched_setaffinity(0, size, &raw const one);
    }
}

/// Keeps SIGTERM and SIGINT from ending the process, for this thread and those it starts from here on.
pub fn block_stop_signals() {
    let set = stop_signals();
    // SAFETY: the set outlives the call, and no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for SIGTERM or SIGINT, which must be blocked, and returns its name.
#[must_use]
pub fn wait_for_stop_signal() -> &'static str {
    let (set, mut signal) = (stop_signals(), 0);
    // SAFETY: both pointers outlive the call.
    while unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {}
    if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" }
}

fn stop_signals() -> libc::sigset_t {
    // SAFETY: `sigemptyset` makes the set valid before anything is added to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_asks_for_short_slices_stays_as_it_is_otherwise() {
        let before = schedule().expect("the system knows the call");
        ask_for_short_slices();
        let after = schedule().expect("as before");
        assert_eq!(after.sched_policy, before.sched_policy);
        assert_eq!(after.sched_nice, before.sched_nice);
        // A system that tells how long a slice is takes the wish for another.
        let slice = if before.sched_runtime == 0 { 0 } else { SLICE_NS };
        assert_eq!(after.sched_runtime, slice);
    }
}
