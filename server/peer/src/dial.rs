//! Connecting to a server. Names are looked up and connections made on a thread of their own for each attempt: the
//! system's resolver blocks, and local reads and writes never wait for the network.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::command::{Command, Inbox};
use crate::endpoint::Endpoint;
use crate::error::PeerError;

/// How long a connection may be silent before the system asks whether the server is there. Sessions ask for themselves,
/// and sooner; this is for what has not become a session.
const ASK_AFTER: Duration = Duration::from_secs(60);

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 4;

/// Begins an attempt; its end comes as [`Command::Dialed`].
pub(crate) fn dial(endpoint: Endpoint, attempt: u64, inbox: Inbox) -> Result<(), PeerError> {
    let work = move || {
        let result = connect(&endpoint);
        // A peer that is closed wants no connection.
        let _ = inbox.send(Command::Dialed { attempt, result });
    };
    let thread = std::thread::Builder::new().name("bigpeer-dial".to_owned());
    thread.spawn(work).map_err(PeerError::io("start a thread"))?;
    Ok(())
}

/// Lets the system give up a connection whose server has vanished.
fn watch(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(ASK_AFTER))
}

fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return watch(&socket).map(|()| socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
