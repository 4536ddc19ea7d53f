//! What arrives on a socket.

use std::sync::Arc;

use bigpeer_connection::{
    ClientConnection, ClientRequest, Config, Event, FramedConnection, Method, Response,
    ServerConnection,
};
use bigpeer_core::time::Instant;
use bytes::Bytes;

pub(crate) const REQUESTS: &[&[u8]] = &[
    b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nchunk\r\n0\r\nT: r\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000000\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n",
];

pub(crate) const FRAMES: &[&[u8]] = &[
    b"\x82\x83\x01\x02\x03\x04abc\x02\x81\x00\x00\x00\x00x\x80\x80\x00\x00\x00\x00",
    b"\x89\x80\x00\x00\x00\x00\x88\x82\x00\x00\x00\x00\x03\xE8",
    b"\x82\xFE\x00\x80\x00\x00\x00\x00",
];

pub(crate) const FRAMED: &[&[u8]] = &[b"\x05\0\0\0frame\x00\0\0\0\xFF\xFF\xFF\xFF"];

pub(crate) const ANSWERS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 X\r\n\r\nuntil the end",
];

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const NOW: Instant = Instant { ns: 1 };

/// What a driver does with what arrives: the first byte says how much at once, and then the peer is gone.
fn drive<M>(machine: &mut M, bytes: &[u8], calls: &Calls<M>) {
    let (step, bytes) = bytes.split_first().unwrap_or((&1, bytes));
    for piece in bytes.chunks(usize::from(*step).max(1)) {
        if (calls.take)(machine, Some(piece)) {
            break;
        }
    }
    let has_ended = (calls.take)(machine, None);
    assert!(has_ended, "a connection whose peer has gone ends");
}

struct Calls<M> {
    /// Takes bytes, or the end; true once the connection is closed.
    take: fn(&mut M, Option<&[u8]>) -> bool,
}

macro_rules! calls {
    ($machine:ty, $answer:expr) => {
        Calls::<$machine> {
            take: |machine, bytes| {
                let mut out = Vec::new();
                match bytes {
                    Some(bytes) => machine.handle_bytes(bytes, NOW),
                    None => machine.handle_eof(NOW),
                }
                loop {
                    while let Some(event) = machine.poll_event() {
                        $answer(machine, event);
                    }
                    let count = machine.poll_transmit(&mut out, 1 << 16);
                    out.clear();
                    machine.handle_sent(count, NOW);
                    if count == 0 {
                        break;
                    }
                }
                while bytes.is_none()
                    && let Some((at, _)) = machine.poll_timeout()
                {
                    machine.handle_timeout(at);
                    let count = machine.poll_transmit(&mut out, 1 << 16);
                    machine.handle_sent(count, at);
                    while machine.poll_event().is_some() {}
                }
                machine.is_closed()
            },
        }
    };
}

fn answer_request(connection: &mut ServerConnection, event: Event) {
    match event {
        Event::Request { id, .. } => {
            connection.respond(id, Response::json(200, Bytes::from_static(b"{}")));
        }
        Event::RequestHead { .. } => connection.accept_body(1 << 16),
        Event::WebSocketUpgrade { id, .. } => connection.accept_websocket(id, None),
        Event::Message(message) => {
            let _ = connection.send_message(message);
        }
        _ => {}
    }
}

fn server() -> ServerConnection {
    let config = Config { asks_first: true, ..Config::default() };
    ServerConnection::new(Arc::new(config), None, NOW).expect("without TLS nothing can fail")
}

pub(crate) fn http(bytes: &[u8]) {
    drive(&mut server(), bytes, &calls!(ServerConnection, answer_request));
}

pub(crate) fn websocket(bytes: &[u8]) {
    let mut server = server();
    let calls = calls!(ServerConnection, answer_request);
    (calls.take)(&mut server, Some(UPGRADE));
    drive(&mut server, bytes, &calls);
}

pub(crate) fn framed(bytes: &[u8]) {
    let framed = FramedConnection::server(Arc::<Config>::default(), None, NOW);
    let mut framed = framed.expect("without TLS nothing can fail");
    drive(&mut framed, bytes, &calls!(FramedConnection, |_: &mut _, _: Event| {}));
}

/// What a server answers, as a client reads it.
pub(crate) fn answer(bytes: &[u8]) {
    let client = ClientConnection::new(Arc::<Config>::default(), None, NOW);
    let mut client = client.expect("without TLS nothing can fail");
    for method in [Method::Get, Method::Head] {
        let (headers, body) = (&[], Bytes::new());
        let request = ClientRequest { method, target: "/", host: "x", headers, body };
        client.request(&request).expect("the connection is fresh");
    }
    drive(&mut client, bytes, &calls!(ClientConnection, |_: &mut _, _: Event| {}));
}
