//! Waking the peer's thread, and its sleep.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::PeerError;

/// Wakes the thread that sleeps in [`Sleeper::sleep`]. Many calls before it has woken write one byte.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_pending: AtomicBool,
    pipe: UnixStream,
}

impl Waker {
    /// What was made visible before this call is seen by the thread after it has woken.
    pub(crate) fn wake(&self) {
        if !self.0.is_pending.swap(true, Ordering::SeqCst) {
            // A full pipe wakes as well as one byte more; without a reader there is nobody to wake.
            let _ = (&self.0.pipe).write(&[1]);
        }
    }
}

/// The thread's side.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pipe: UnixStream,
    waker: Waker,
}

/// What a socket wants, and then what it is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Sleeper {
    pub(crate) fn new() -> Result<Self, PeerError> {
        let error = || PeerError::io("make a pipe");
        let (pipe, writer) = UnixStream::pair().map_err(error())?;
        pipe.set_nonblocking(true).map_err(error())?;
        writer.set_nonblocking(true).map_err(error())?;
        let shared = Shared { is_pending: AtomicBool::new(false), pipe: writer };
        Ok(Self { pipe, waker: Waker(Arc::new(shared)) })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sleeps until woken, until the socket is ready for something that it wants, or until `timeout` has passed.
    /// Returns early now and then.
    pub(crate) fn sleep(
        &mut self,
        socket: Option<(&TcpStream, Readiness)>,
        timeout: Option<Duration>,
    ) -> Readiness {
        let (socket, wanted) = match socket {
            Some((socket, wanted)) => (socket.as_raw_fd(), wanted),
            None => (-1, Readiness::default()),
        };
        let ready = poll(self.pipe.as_raw_fd(), socket, wanted, timeout);
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(1..)) {}
        // Cleared before the thread looks for work: whoever comes after this writes again.
        self.waker.0.is_pending.store(false, Ordering::SeqCst);
        ready
    }
}

#[expect(unsafe_code, reason = "std has no way to wait for two descriptors")]
fn poll(pipe: RawFd, socket: RawFd, wanted: Readiness, timeout: Option<Duration>) -> Readiness {
    let mut events = 0;
    if wanted.read {
        events |= libc::POLLIN;
    }
    if wanted.write {
        events |= libc::POLLOUT;
    }
    let pollfd = |fd, events| libc::pollfd { fd, events, revents: 0 };
    // A negative descriptor is skipped, and so is a socket that wants nothing: it would report its hang-up in a
    // loop.
    let socket = if events == 0 { -1 } else { socket };
    let mut fds = [pollfd(pipe, libc::POLLIN), pollfd(socket, events)];
    let timeout_ms = timeout.map_or(-1, |timeout| {
        // Rounded up: a sleep that ends too early is repeated at once.
        let ms = timeout.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `fds` is a live array of two entries for the whole call, which keeps no pointer to it. The
    // descriptors belong to objects that the caller borrows.
    let count = unsafe { libc::poll(fds.as_mut_ptr(), 2, timeout_ms) };
    if count <= 0 {
        return Readiness::default();
    }
    let failed = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    let is = |bit| fds[1].revents & (bit | failed) != 0;
    Readiness { read: wanted.read && is(libc::POLLIN), write: wanted.write && is(libc::POLLOUT) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_sleeper_wakes_and_sleeps_again() {
        let mut sleeper = Sleeper::new().expect("descriptors are left");
        let waker = sleeper.waker();
        for _ in 0..3 {
            waker.wake();
            waker.wake();
            sleeper.sleep(None, None);
        }
        let before = Instant::now();
        sleeper.sleep(None, Some(Duration::from_millis(20)));
        assert!(before.elapsed() >= Duration::from_millis(19));
    }
}
