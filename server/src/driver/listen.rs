//! Listening: one thread accepts, and deals the connections out to the shards in turn.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::mailboxes::{Control, ControlSender};
use super::os::{EventFd, lengthen_backlog, wait_readable};
use crate::api::Door;
use crate::logging;

/// An address that is listened on.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    door: Door,
    /// The address, with the port that the system chose if none was named.
    pub address: SocketAddr,
}

impl Bound {
    /// What is served there.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}. {advice}")]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
    advice: String,
}

/// Listens on an address. `option` is the flag that chose it, for the error's advice.
///
/// # Errors
///
/// When the address is taken, or is none of this machine's.
pub fn bind(address: SocketAddr, door: Door, option: &str) -> Result<Bound, BindError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        // std asks for a short backlog, and a burst of connections beyond it waits for retransmissions.
        lengthen_backlog(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Bound { listener, door, address })
    };
    listen().map_err(|error: io::Error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "Another process uses the port: stop it, or choose another with {option}; port 0 takes a free one"
            ),
            ErrorKind::AddrNotAvailable => format!("This machine has no such address: check {option}"),
            ErrorKind::PermissionDenied => {
                format!("Ports below 1024 need a privilege: choose a higher one with {option}")
            }
            _ => format!("Check {option}"),
        };
        BindError { address, error, advice }
    })
}

/// Accepts until `stop` is signalled, then tells every thread to drain.
pub fn accept_until_stopped(bound: &[Bound], mut shards: Vec<ControlSender>, stop: &Arc<EventFd>) {
    let mut fds: Vec<_> = bound.iter().map(|bound| bound.listener.as_raw_fd()).collect();
    fds.push(stop.as_raw_fd());
    let mut next = 0;
    while !stop.is_signalled() {
        if let Err(error) = wait_readable(&fds) {
            logging::error("cannot wait for connections", &[("cause", &error.to_string())]);
            std::thread::sleep(RETRY);
        }
        for bound in bound {
            accept_all(bound, &mut shards, &mut next);
        }
    }
    for shard in &mut shards {
        while shard.send(Control::Drain).is_err() {
            std::thread::sleep(RETRY);
        }
    }
}

fn accept_all(bound: &Bound, shards: &mut [ControlSender], next: &mut usize) {
    loop {
        match bound.listener.accept() {
            Ok((stream, _)) => {
                // Answers are written whole: there is nothing to wait for.
                let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                if ready.is_ok() {
                    let control = Control::Connection { stream, door: bound.door };
                    // A thread with that many connections waiting gets no more: the socket is closed.
                    let _ = shards[*next].send(control);
                    *next = (*next + 1) % shards.len();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: what waits in the backlog will wait a moment longer.
                logging::warn("cannot accept a connection", &[("cause", &error.to_string())]);
                return std::thread::sleep(RETRY);
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// How many connections may wait to be accepted. The system may allow fewer.
const BACKLOG: u16 = 4096;

/// How long to wait before trying again what failed for lack of something.
const RETRY: Duration = Duration::from_millis(10);
