//! Listening: one thread accepts, and deals the connections out to the shards in turn.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::mailboxes::{Control, ControlSender};
use super::os::{EventFd, lengthen_backlog, wait_readable};
use crate::api::Door;
use crate::clock::Clock;
use crate::keepalive;
use crate::logging::{self, Level, Repeated};
use crate::refusals::{Addresses, Refusal};
use crate::shard::Arrival;
use crate::shared::Shared;

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
        // An accepted socket has the options of the one that listens: nobody sets six of them for each stranger.
        // Answers are written whole, so there is nothing to wait for.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        keepalive::watch(&listener)?;
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

/// The threads that take connections.
#[derive(Debug)]
pub struct Doors {
    /// Those with nodes, which take data and peer connections in turn.
    pub shards: Vec<ControlSender>,
    /// That of the administrators.
    pub admin: ControlSender,
}

/// Deals accepted connections out to the threads.
#[derive(Debug)]
pub struct Acceptor {
    doors: Doors,
    next: usize,
    shared: Arc<Shared>,
    /// Counts by address, where that is bounded.
    addresses: Option<Arc<Addresses>>,
    /// No socket keeps a descriptor of this number or a higher one.
    descriptor_max: u64,
    clock: Clock,
}

impl Acceptor {
    /// Deals out to `doors`; an address may have so many connections at once.
    #[must_use]
    pub fn new(
        doors: Doors,
        shared: Arc<Shared>,
        clock: Clock,
        each_address_max: Option<u32>,
    ) -> Self {
        let addresses = each_address_max.map(Addresses::new);
        Self { doors, next: 0, shared, addresses, descriptor_max: u64::MAX, clock }
    }

    /// The same that closes connections whose descriptor would have this number or a higher one. The system gives out
    /// the lowest number that is free: so whatever else the process holds, and however many sockets wait for a thread,
    /// what lies above is left for others.
    #[must_use]
    pub fn below_descriptor(self, descriptor_max: u64) -> Self {
        Self { descriptor_max, ..self }
    }

    /// Accepts until `stop` is signalled, then tells every thread to drain.
    pub fn run(mut self, bound: &[Bound], stop: &Arc<EventFd>) {
        let mut fds: Vec<_> = bound.iter().map(|bound| bound.listener.as_raw_fd()).collect();
        fds.push(stop.as_raw_fd());
        while !stop.is_signalled() {
            if let Err(error) = wait_readable(&fds) {
                logging::error("cannot wait for connections", &[("cause", &error.to_string())]);
                std::thread::sleep(RETRY);
            }
            // Administrators first: what floods the other doors keeps them waiting for one round of each.
            let is_admin = |bound: &&Bound| bound.door == Door::Admin;
            for bound in
                bound.iter().filter(is_admin).chain(bound.iter().filter(|it| !is_admin(it)))
            {
                self.accept_some(bound);
            }
        }
        for thread in self.doors.shards.iter_mut().chain([&mut self.doors.admin]) {
            while thread.send(Control::Drain).is_err() {
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Takes the connections that wait at a door, up to a bound: a door where always another waits would keep this
    /// thread from the others, and from its end.
    fn accept_some(&mut self, bound: &Bound) {
        for _ in 0..ACCEPTED_AT_ONCE_MAX {
            match bound.listener.accept() {
                Ok((stream, from)) => {
                    self.deal(stream, from, bound.door);
                    // In a flood this thread never sleeps: whoever waits for its processor goes first.
                    std::thread::yield_now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: what waits in the backlog will wait a moment longer.
                    static NOT_ACCEPTED: Repeated = Repeated::new();
                    let fields = [("cause", &*error.to_string())];
                    let message = "cannot accept a connection";
                    logging::repeated(&NOT_ACCEPTED, Level::Warn, message, &fields);
                    return std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn deal(&mut self, stream: TcpStream, from: SocketAddr, door: Door) {
        if u64::try_from(stream.as_raw_fd()).is_ok_and(|number| number >= self.descriptor_max) {
            return self.note(Refusal::Descriptors);
        }
        // Administrators come from one address at times, and must not be locked out by what it has open.
        let counted = self.addresses.as_ref().filter(|_| door != Door::Admin);
        let slot = counted.map(|addresses| addresses.take(from.ip()));
        if matches!(slot, Some(None)) {
            return self.note(Refusal::Address);
        }
        // A socket that is gone already needs no word.
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let arrival = Arrival { door, slot: slot.flatten() };
        if !self.hand_on(Control::Connection { stream, arrival }, door) {
            self.note(Refusal::Queue);
        }
    }

    /// Gives a connection to a thread of its door; false if none has room for it.
    fn hand_on(&mut self, mut control: Control, door: Door) -> bool {
        if door == Door::Admin {
            return self.doors.admin.send(control).is_ok();
        }
        // A thread that is busy for long has its queue full; another may have room.
        for _ in 0..self.doors.shards.len() {
            let next = self.next;
            self.next = (next + 1) % self.doors.shards.len();
            match self.doors.shards[next].send(control) {
                Ok(()) => return true,
                Err(refused) => control = refused,
            }
        }
        false
    }

    fn note(&self, reason: Refusal) {
        self.shared.refusals().note(reason, self.clock.wall().0 / 1000);
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

/// How many connections of one door are taken before the other doors have their turn.
const ACCEPTED_AT_ONCE_MAX: usize = 64;

/// How long to wait before trying again what failed for lack of something.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::connect;

    fn acceptor(threads: u16) -> (Acceptor, Vec<crate::driver::Mailboxes>) {
        let (boxes, mut shards) = connect(threads + 1).expect("descriptors");
        let admin = shards.pop().expect("there is one more");
        let shared = Arc::new(Shared::new(threads));
        (Acceptor::new(Doors { shards, admin }, shared, Clock::start(), None), boxes)
    }

    fn fill(queue: &mut ControlSender) {
        while queue.send(Control::Drain).is_ok() {}
    }

    #[test]
    fn what_is_accepted_has_the_options_of_its_door() {
        let bound = bind(([127, 0, 0, 1], 0).into(), Door::Data, "--listen").expect("a free port");
        let _client = TcpStream::connect(bound.address).expect("it listens");
        wait_readable(&[bound.listener.as_raw_fd()]).expect("a connection comes");
        let (accepted, _) = bound.listener.accept().expect("it has come");
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().expect("an option"));
        assert!(accepted.keepalive().expect("an option"));
    }

    #[test]
    fn a_door_where_always_another_waits_keeps_nobody_from_the_others() {
        let door = |door| bind(([127, 0, 0, 1], 0).into(), door, "--listen").expect("a free port");
        let data = door(Door::Data);
        let (mut acceptor, mut boxes) = acceptor(1);
        let waiting = 2 * ACCEPTED_AT_ONCE_MAX;
        let clients: Vec<_> = (0..waiting).map(|_| TcpStream::connect(data.address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        for round in 1..=2 {
            wait_readable(&[data.listener.as_raw_fd()]).expect("they have come");
            acceptor.accept_some(&data);
            let dealt = std::iter::from_fn(|| boxes[0].pop_control()).count();
            assert_eq!(dealt, ACCEPTED_AT_ONCE_MAX, "in round {round}");
        }
    }

    #[test]
    fn a_busy_threads_connections_go_to_another_and_none_is_dropped_in_silence() {
        let bound = bind(([127, 0, 0, 1], 0).into(), Door::Data, "--listen").expect("a free port");
        let (mut acceptor, mut boxes) = acceptor(2);
        let deal = |acceptor: &mut Acceptor| {
            let client = TcpStream::connect(bound.address).expect("it listens");
            wait_readable(&[bound.listener.as_raw_fd()]).expect("a connection comes");
            acceptor.accept_some(&bound);
            client
        };
        fill(&mut acceptor.doors.shards[0]);
        let _first = deal(&mut acceptor);
        let _second = deal(&mut acceptor);
        let mut dealt = std::iter::from_fn(|| boxes[1].pop_control());
        assert!(dealt.all(|control| matches!(control, Control::Connection { .. })));
        assert_eq!(acceptor.shared.refusals().count(Refusal::Queue), 0);
        fill(&mut acceptor.doors.shards[1]);
        let _third = deal(&mut acceptor);
        assert_eq!(acceptor.shared.refusals().count(Refusal::Queue), 1);
    }
}
