//! Our client against our server, in the clear and under TLS.

use std::sync::Arc;

use bigpeer_core::rng::Rng;
use bytes::Bytes;

use crate::testing::{at, certificates, events, exchange, server};
use crate::{
    ClientConnection, ClientRequest, CloseReason, Config, Event, FramedConnection, Method,
    Response, ServerConnection, Timer, WebSocketRequest,
};

fn plain() -> (ClientConnection, ServerConnection) {
    let client = ClientConnection::new(Arc::new(Config::default()), None, at(0)).unwrap();
    (client, server())
}

fn encrypted() -> (ClientConnection, ServerConnection) {
    let certificates = certificates();
    let config = Arc::new(Config::default());
    let client = ClientConnection::new(config.clone(), Some(certificates.client), at(0)).unwrap();
    let server = ServerConnection::new(config, Some(certificates.server), at(0)).unwrap();
    (client, server)
}

fn post(body: &'static [u8]) -> ClientRequest<'static> {
    ClientRequest {
        method: Method::Post,
        target: "/execute?x=1",
        host: "localhost",
        headers: &[("Authorization", "Bearer key")],
        body: Bytes::from_static(body),
    }
}

const SYNC: WebSocketRequest<'static> = WebSocketRequest {
    target: "/_ditto",
    host: "localhost",
    protocols: &["bigpeer.1"],
    headers: &[("Authorization", "Bearer key")],
};

fn rng() -> Rng {
    Rng::new(&[7; 32], "test")
}

/// Joins a client's events of one response: status and body.
fn join(events: Vec<Event>) -> Vec<(u16, Vec<u8>)> {
    let mut responses = Vec::new();
    for event in events {
        match event {
            Event::ResponseHead { head, .. } => responses.push((head.status, Vec::new())),
            Event::ResponseBody { bytes, .. } => {
                responses.last_mut().expect("a head comes first").1.extend_from_slice(&bytes);
            }
            Event::ResponseEnd { .. } | Event::OutputDrained => {}
            other => panic!("{other:?}"),
        }
    }
    responses
}

fn ask_and_answer((mut client, mut server): (ClientConnection, ServerConnection), step: usize) {
    client.request(&post(b"{\"statement\":1}")).unwrap();
    client.request(&post(b"second")).unwrap();
    exchange(&mut client, &mut server, step, at(0));
    let seen = events(&mut server);
    assert_eq!(seen.len(), 2);
    for event in seen {
        let Event::Request { id, request } = event else { panic!("a request") };
        assert_eq!(request.authorization(), Some("Bearer key"));
        if id.0 == 0 {
            assert_eq!(request.body(), b"{\"statement\":1}");
            server.respond(id, Response::json(200, vec![b'x'; 100_000]));
        } else {
            server.respond_start(id, 404, "text/plain");
            server.respond_chunk(id, Bytes::from_static(b"not ")).unwrap();
            server.respond_chunk(id, Bytes::from_static(b"found")).unwrap();
            server.respond_end(id);
        }
    }
    let mut responses = Vec::new();
    while responses
        .last()
        .is_none_or(|last| !matches!(last, Event::ResponseEnd { id } if id.0 == 1))
    {
        exchange(&mut client, &mut server, step, at(0));
        responses.extend(events(&mut client));
    }
    let responses = join(responses);
    assert_eq!(responses[0], (200, vec![b'x'; 100_000]));
    assert_eq!(responses[1], (404, b"not found".to_vec()));
}

#[test]
fn a_client_and_a_server_understand_each_other() {
    ask_and_answer(plain(), 10_000);
    ask_and_answer(plain(), 7);
}

#[test]
fn a_client_and_a_server_understand_each_other_under_tls() {
    ask_and_answer(encrypted(), 10_000);
    ask_and_answer(encrypted(), 333);
}

fn talk((mut client, mut server): (ClientConnection, ServerConnection)) {
    client.open_websocket(&SYNC, rng()).unwrap();
    assert!(client.request(&post(b"")).is_err());
    exchange(&mut client, &mut server, 1000, at(0));
    let Some(Event::WebSocketUpgrade { id, request }) = server.poll_event() else {
        panic!("an upgrade");
    };
    assert_eq!(request.authorization(), Some("Bearer key"));
    server.accept_websocket(id, request.websocket_protocols().next());
    exchange(&mut client, &mut server, 1000, at(0));
    let opened = client.poll_event();
    assert!(
        matches!(opened, Some(Event::WebSocketOpen { protocol: Some(protocol) }) if protocol == "bigpeer.1")
    );
    for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let message = Bytes::from(vec![0xAB; size]);
        client.send_message(message.clone()).unwrap();
        server.send_message(message.clone()).unwrap();
        exchange(&mut client, &mut server, 5000, at(0));
        for seen in [events(&mut server), events(&mut client)] {
            let seen = seen.into_iter().find(|event| matches!(event, Event::Message(_)));
            assert!(matches!(seen, Some(Event::Message(found)) if found == message));
        }
    }
    client.close(1000, at(0));
    exchange(&mut client, &mut server, 1000, at(0));
    assert!(server.is_closed() && client.is_closed(), "{server:?} {client:?}");
    for seen in [events(&mut server), events(&mut client)] {
        assert!(matches!(seen[0], Event::WebSocketClosed { code: 1000 }));
        assert!(matches!(seen[1], Event::Closed { reason: CloseReason::WebSocketClosed(1000) }));
    }
}

#[test]
fn a_websocket_carries_messages_both_ways_and_closes_in_good_order() {
    talk(plain());
    talk(encrypted());
}

#[test]
fn a_refused_websocket_is_a_response_that_says_why() {
    let (mut client, mut server) = plain();
    client.open_websocket(&SYNC, rng()).unwrap();
    exchange(&mut client, &mut server, 1000, at(0));
    let Some(Event::WebSocketUpgrade { id, .. }) = server.poll_event() else {
        panic!("an upgrade");
    };
    server.respond(id, Response::json(401, "no"));
    exchange(&mut client, &mut server, 1000, at(0));
    assert_eq!(join(events(&mut client)), [(401, b"no".to_vec())]);
    assert!(client.request(&post(b"")).is_ok(), "the connection goes on with HTTP");
}

#[test]
fn a_server_that_fakes_the_handshake_is_not_believed() {
    let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    for answer in [
        format!("{good}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
        format!("{good}\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
    ] {
        let (mut client, _) = plain();
        client.open_websocket(&SYNC, rng()).unwrap();
        client.handle_bytes(answer.as_bytes(), at(0));
        let last = events(&mut client).pop();
        assert!(
            matches!(last, Some(Event::Closed { reason: CloseReason::BadHandshake { .. } })),
            "{answer}"
        );
    }
}

#[test]
fn a_response_without_a_length_ends_with_the_stream() {
    let (mut client, _) = plain();
    client.request(&post(b"")).unwrap();
    client.handle_bytes(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nsome ", at(0));
    client.handle_bytes(b"more", at(0));
    client.handle_eof(at(0));
    let mut seen = events(&mut client);
    assert!(matches!(seen.pop(), Some(Event::Closed { reason: CloseReason::Finished })));
    assert_eq!(join(seen), [(200, b"some more".to_vec())]);
}

#[test]
fn a_response_cut_short_is_not_taken_for_whole() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200",
    ] {
        let (mut client, _) = plain();
        client.request(&post(b"")).unwrap();
        client.handle_bytes(bytes, at(0));
        client.handle_eof(at(0));
        let seen = events(&mut client);
        assert!(!seen.iter().any(|event| matches!(event, Event::ResponseEnd { .. })));
        assert!(matches!(seen.last(), Some(Event::Closed { reason: CloseReason::Truncated })));
    }
}

#[test]
fn a_client_can_be_given_up() {
    let (mut client, _) = plain();
    client.request(&post(b"body")).expect("it takes requests");
    client.shed(at(1));
    assert!(client.is_closed());
    let last = events(&mut client).pop();
    assert!(matches!(last, Some(Event::Closed { reason: CloseReason::Shed })), "{last:?}");
}

#[test]
fn bytes_that_nobody_asked_for_end_a_client() {
    let (mut client, _) = plain();
    client.handle_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", at(0));
    assert!(client.is_closed());
}

#[test]
fn framed_peers_exchange_messages_under_tls() {
    let certificates = certificates();
    let config = Arc::new(Config::default());
    let mut client =
        FramedConnection::client(config.clone(), Some(certificates.client), at(0)).unwrap();
    let mut server = FramedConnection::server(config, Some(certificates.server), at(0)).unwrap();
    let message = Bytes::from(vec![3; 70_000]);
    client.send_message(message.clone()).unwrap();
    server.send_message(Bytes::from_static(b"hello")).unwrap();
    exchange(&mut client, &mut server, 4096, at(0));
    assert!(matches!(&events(&mut server)[..], [Event::Message(found)] if *found == message));
    let seen = events(&mut client);
    assert!(seen.iter().any(|event| matches!(event, Event::Message(found) if found == "hello")));
    client.close(1000, at(0));
    exchange(&mut client, &mut server, 4096, at(0));
    assert!(client.is_closed() && server.is_closed());
    let last = events(&mut server).pop();
    assert!(matches!(last, Some(Event::Closed { reason: CloseReason::PeerClosed })));
}

#[test]
fn a_certificate_that_is_not_trusted_ends_the_connection_on_both_sides() {
    let config = Arc::new(Config::default());
    let stranger = certificates().client;
    let mut client = ClientConnection::new(config.clone(), Some(stranger), at(0)).unwrap();
    let mut server = ServerConnection::new(config, Some(certificates().server), at(0)).unwrap();
    client.request(&post(b"secret")).unwrap();
    exchange(&mut client, &mut server, 4096, at(0));
    for last in [events(&mut client).pop(), events(&mut server).pop()] {
        assert!(matches!(last, Some(Event::Closed { reason: CloseReason::Tls(_) })), "{last:?}");
    }
}

#[test]
fn plain_http_to_a_tls_port_is_closed() {
    let (_, mut server) = encrypted();
    server.handle_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", at(0));
    crate::testing::sent(&mut server, at(0));
    assert!(server.is_closed());
}

#[test]
fn a_tls_handshake_that_never_ends_is_given_up() {
    let (_, mut server) = encrypted();
    let timeout = server.poll_timeout();
    assert_eq!(timeout, Some((at(10), Timer::Handshake)));
    server.handle_timeout(at(10));
    assert!(server.is_closed());
}

#[test]
fn a_client_waits_for_a_head_its_rest_and_a_body_each_in_their_time() {
    let head = &b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"[..];
    for (received, timer, seconds) in [
        (&b""[..], Timer::Response, 75),
        (&head[..20], Timer::Head, 10),
        (head, Timer::Progress, 30),
    ] {
        let (mut client, _) = plain();
        assert_eq!(client.poll_timeout(), None, "nothing was asked");
        client.request(&post(b"")).unwrap();
        let mut sent = Vec::new();
        client.poll_transmit(&mut sent, usize::MAX);
        client.handle_sent(sent.len(), at(0));
        client.handle_bytes(received, at(0));
        assert_eq!(client.poll_timeout(), Some((at(seconds), timer)));
        client.handle_timeout(at(seconds));
        let ended = events(&mut client).pop();
        let Some(Event::Closed { reason }) = ended else { panic!("{ended:?}") };
        assert_eq!(reason, CloseReason::Timeout(timer));
    }
}

#[test]
fn the_clock_of_what_a_client_asks_runs_from_the_call_on() {
    let (mut asking, _) = plain();
    asking.request(&post(b"")).expect("it is open");
    let (mut opening, _) = plain();
    opening.open_websocket(&SYNC, rng()).expect("it is open");
    for client in [asking, opening] {
        assert_eq!(client.poll_timeout(), Some((at(30), Timer::Write)));
    }
}

#[test]
fn the_end_of_a_tls_stream_is_heard_before_the_end_of_its_socket() {
    let (mut client, mut server) = encrypted();
    client.request(&post(b"")).unwrap();
    exchange(&mut client, &mut server, 1000, at(0));
    assert_eq!(crate::testing::answer_all(&mut server).len(), 1);
    exchange(&mut client, &mut server, 1000, at(0));
    assert_eq!(join(events(&mut client)).len(), 1);
    let (idle, timer) = server.poll_timeout().expect("it is kept for a while");
    assert_eq!(timer, Timer::Idle);
    server.handle_timeout(idle);
    client.handle_bytes(&crate::testing::sent(&mut server, idle), idle);
    let ended = events(&mut client).pop();
    assert!(matches!(ended, Some(Event::Closed { reason: CloseReason::PeerClosed })), "{ended:?}");
}
