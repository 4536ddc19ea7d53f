//! The one operation that tokio-uring has not: a read that begins by waiting.
//!
//! A socket is read anew as soon as its last bytes have been taken, when the peer cannot have sent more yet. The
//! runtime's own read looks into the socket all the same before it waits, in vain for nearly every request.
#![allow(unsafe_code, reason = "the crate that writes ring entries has no word for this flag")]

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring::{cqueue, opcode, squeue, types};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

use super::Socket;

/// Whether a read looks before it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// There may be bytes, or the kernel does not know the flag.
    Look,
    /// There are hardly any.
    Wait,
}

/// Fills `buffer` from its start, and returns how much came; none is the end.
pub(super) async fn receive(
    socket: Rc<Socket>,
    mut buffer: Vec<u8>,
    first: First,
) -> (io::Result<usize>, Vec<u8>) {
    let fd = types::Fd(socket.stream.as_raw_fd());
    let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    let mut entry = opcode::Recv::new(fd, buffer.as_mut_ptr(), length).build();
    if first == First::Wait {
        wait_first(&mut entry);
    }
    UnsubmittedOneshot::new(InFlight { _socket: socket, buffer }, Received, entry).submit().await
}

fn wait_first(entry: &mut squeue::Entry) {
    // SAFETY: an entry is a `struct io_uring_sqe` and nothing else, which begins with the operation and its flags, a
    // byte each, and then has the 16 bits that a receive takes its own flags from.
    unsafe { (&raw mut *entry).cast::<u16>().add(1).write(POLL_FIRST) };
}

const _: () = assert!(size_of::<squeue::Entry>() == 64, "an entry is what the kernel reads");

/// `IORING_RECVSEND_POLL_FIRST`, since Linux 5.19.
const POLL_FIRST: u16 = 1;

/// What the kernel works on until the completion: the runtime keeps it when the future is dropped, but not when it is
/// dropped itself.
struct InFlight {
    _socket: Rc<Socket>,
    buffer: Vec<u8>,
}

struct Received;

impl OneshotOutputTransform for Received {
    type Output = (io::Result<usize>, Vec<u8>);
    type StoredData = InFlight;

    fn transform_oneshot_output(self, data: InFlight, entry: cqueue::Entry) -> Self::Output {
        let result = entry.result();
        let count = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        (count, data.buffer)
    }
}
