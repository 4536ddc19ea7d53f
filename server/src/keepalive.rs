//! Connections whose other side has vanished without a word: a cable pulled, a phone out of reach, a NAT that forgot.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// How long a connection may be silent before the system asks whether the other side is there.
const ASK_AFTER: Duration = Duration::from_secs(60);

/// How often it asks again, and how often in vain before it gives up: after two minutes in all.
const ASK_EVERY: Duration = Duration::from_secs(15);
const ASK_COUNT: u32 = 4;

/// How long what was sent may stay unacknowledged. Keep-alive says nothing while there is something to send.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Lets the system give up a connection whose other side has vanished: this one, or each that is accepted from now on
/// when the socket listens.
///
/// # Errors
///
/// When the socket is none.
pub fn watch(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let asked =
        TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY).with_retries(ASK_COUNT);
    socket.set_tcp_keepalive(&asked)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_watched_connection_is_asked_after() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        watch(&listener).expect("a socket");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        watch(&stream).expect("a socket");
        let (accepted, _) = listener.accept().expect("it has come");
        for socket in [SockRef::from(&stream), SockRef::from(&accepted)] {
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), ASK_AFTER);
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(UNACKNOWLEDGED_MAX));
        }
    }
}
