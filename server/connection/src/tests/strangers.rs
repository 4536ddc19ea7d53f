//! What somebody who has shown nothing can make a connection hold, and for how long.

use std::sync::Arc;

use bytes::Bytes;

use crate::testing::{answer_all, at, events, request_ids, sent, sent_text, server_with};
use crate::{
    CloseReason, Config, DateCell, Event, FramedConnection, Response, ServerConnection, Timer,
};

const MIB: usize = 1 << 20;

fn asking() -> Config {
    Config { asks_first: true, ..Config::default() }
}

fn post(fields: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
}

/// A server that has been sent a head, and what it asked its caller.
fn asked(head: &[u8]) -> ServerConnection {
    let mut server = server_with(asking());
    server.handle_bytes(head, at(0));
    let seen = events(&mut server);
    assert!(matches!(&seen[..], [Event::RequestHead { request }] if request.path() == "/a"));
    server
}

#[test]
fn nothing_of_a_body_is_taken_before_its_head_is_allowed() {
    let mut server = asked(&post("Content-Length: 5\r\nExpect: 100-continue\r\n"));
    assert_eq!(sent(&mut server, at(0)), b"", "no word of a body that nobody has allowed");
    assert!(!server.wants_read());
    server.accept_body(MIB);
    assert_eq!(sent_text(&mut server, at(0)), "HTTP/1.1 100 Continue\r\n\r\n");
    server.handle_bytes(b"hello", at(0));
    let seen = answer_all(&mut server);
    assert!(seen[0].ends_with("body=hello"), "{seen:?}");
}

#[test]
fn a_refusal_at_the_head_is_sent_in_its_turn_and_ends_the_connection() {
    let mut server = server_with(asking());
    let get = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    server.handle_bytes(&[&get[..], &post("Content-Length: 8000000\r\n")].concat(), at(0));
    let first = request_ids(&events(&mut server))[0];
    server.refuse_body(Response::json(401, "{}"));
    assert_eq!(sent(&mut server, at(0)), b"", "the first is answered first");
    server.respond(first, Response::json(200, "{}"));
    let out = sent_text(&mut server, at(0));
    assert!(out.contains("200 OK") && out.contains("401 Unauthorized"), "{out}");
    assert!(out.contains("Connection: close") && !out.contains("100 Continue"), "{out}");
    // What the client sends before it has read that is dropped.
    for second in 0..2 {
        server.handle_bytes(&vec![b'x'; MIB], at(second));
        assert_eq!(server.held_input_bytes(), 0);
    }
    server.handle_timeout(at(2));
    let last = events(&mut server).pop();
    let refused = CloseReason::Refused(401);
    assert!(matches!(last, Some(Event::Closed { reason }) if reason == refused));
}

#[test]
fn a_refusal_of_a_body_that_nobody_offers_says_nothing_and_ends_nothing() {
    let mut server = server_with(asking());
    server.refuse_body(Response::json(401, "{}"));
    assert_eq!(sent(&mut server, at(0)), b"");
    server.handle_bytes(&post("Content-Length: 5\r\n"), at(0));
    server.accept_body(MIB);
    // The caller's word comes too late.
    server.refuse_body(Response::json(401, "{}"));
    server.handle_bytes(b"hello", at(0));
    let seen = answer_all(&mut server);
    assert!(seen[0].ends_with("body=hello"), "{seen:?}");
    assert!(sent_text(&mut server, at(0)).starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_body_is_bounded_by_what_its_head_was_allowed() {
    let mut claimed = asked(&post("Content-Length: 9000\r\n"));
    claimed.accept_body(8000);
    assert!(sent_text(&mut claimed, at(0)).starts_with("HTTP/1.1 413 "));
    let mut chunked = asked(&post("Transfer-Encoding: chunked\r\n"));
    chunked.accept_body(8000);
    chunked.handle_bytes(b"2000\r\n", at(0));
    assert!(sent_text(&mut chunked, at(0)).starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_body_that_comes_with_its_head_asks_for_nothing() {
    let mut server = server_with(asking());
    server.handle_bytes(&[post("Content-Length: 2\r\n"), b"ok".to_vec()].concat(), at(0));
    assert_eq!(request_ids(&events(&mut server)).len(), 1);
}

#[test]
fn a_body_slower_than_4_kib_a_second_is_given_up_after_10_s() {
    for (bytes_per_second, refused_at) in [(4000, Some(10)), (5000, None)] {
        let mut server = asked(&post("Content-Length: 600000\r\n"));
        server.accept_body(MIB);
        let mut refused = None;
        for second in 1..100 {
            server.handle_timeout(at(second));
            if refused.is_none() && sent_text(&mut server, at(second)).contains(" 408 ") {
                refused = Some(second);
            }
            server.handle_bytes(&vec![b'x'; bytes_per_second], at(second));
        }
        assert_eq!(refused, refused_at, "{bytes_per_second} bytes a second");
    }
}

#[test]
fn no_body_takes_more_than_two_minutes() {
    let mut server = asked(&post("Content-Length: 8000000\r\n"));
    server.accept_body(8 * MIB);
    let mut second = 0;
    while !server.wants_write() {
        second += 1;
        server.handle_bytes(&vec![b'x'; 60_000], at(second));
        server.handle_timeout(at(second));
        assert!(second < 140, "60 kB/s would need 134 s");
    }
    assert_eq!(second, 120);
    let out = sent_text(&mut server, at(second));
    assert!(out.starts_with("HTTP/1.1 408 ") && out.contains("within 120 s"), "{out}");
}

#[test]
fn what_is_held_is_told_and_can_be_given_up() {
    let mut server = asked(&post("Content-Length: 8000000\r\n"));
    server.accept_body(8 * MIB);
    server.handle_bytes(&vec![b'x'; MIB], at(1));
    let held = server.held_input_bytes();
    assert!((MIB..2 * MIB + MIB / 8).contains(&held), "{held}");
    server.shed(at(1));
    assert_eq!(server.held_input_bytes(), 0);
    let out = sent_text(&mut server, at(1));
    assert!(out.starts_with("HTTP/1.1 503 ") && out.contains("Retry-After"), "{out}");
}

fn framed() -> FramedConnection {
    FramedConnection::server(Arc::new(asking()), None, at(0)).expect("without TLS nothing can fail")
}

#[test]
fn a_stranger_on_a_bare_stream_may_say_8_kib() {
    let mut long = framed();
    long.handle_bytes(&8193_u32.to_le_bytes(), at(0));
    let reason = CloseReason::FrameTooLarge { claimed_bytes: 8193, limit_bytes: 8192 };
    assert!(
        matches!(events(&mut long).pop(), Some(Event::Closed { reason: found }) if found == reason)
    );

    let mut stream = framed();
    let whole = [&5_u32.to_le_bytes()[..], b"hello", &(MIB as u32).to_le_bytes()].concat();
    stream.handle_bytes(&whole, at(0));
    assert_eq!(events(&mut stream).len(), 1);
    assert!(!stream.wants_read(), "nothing more before the caller has decided");
    stream.admit();
    assert!(stream.wants_read() && !stream.is_closed(), "a device may say more");
    stream.handle_bytes(&vec![7; MIB], at(1));
    let seen = events(&mut stream);
    assert!(matches!(&seen[..], [Event::Message(message)] if message.len() == MIB));
}

#[test]
fn a_stream_that_does_not_greet_within_15_s_is_closed() {
    let mut silent = framed();
    assert_eq!(silent.poll_timeout(), Some((at(15), Timer::Greeting)));
    // The beginning of a frame gains no time.
    silent.handle_bytes(&[5, 0, 0, 0, b'h'], at(14));
    assert_eq!(silent.poll_timeout(), Some((at(15), Timer::Greeting)));
    silent.handle_timeout(at(15));
    assert!(silent.is_closed());

    let mut admitted = framed();
    admitted.handle_bytes(&[1, 0, 0, 0, b'p'], at(14));
    events(&mut admitted);
    admitted.admit();
    assert_eq!(admitted.poll_timeout(), Some((at(29), Timer::Greeting)), "then its session greets");
    admitted.handle_bytes(&[1, 0, 0, 0, b'h'], at(20));
    assert_eq!(admitted.poll_timeout(), None);
}

#[test]
fn a_websocket_that_does_not_greet_within_15_s_is_closed_pings_or_not() {
    let mut server = server_with(asking());
    server.handle_bytes(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        at(0),
    );
    answer_all(&mut server);
    sent(&mut server, at(0));
    for second in 1..15 {
        server.handle_bytes(b"\x89\x80\x00\x00\x00\x00", at(second));
        sent(&mut server, at(second));
    }
    assert_eq!(server.poll_timeout(), Some((at(15), Timer::Greeting)));
    server.handle_timeout(at(15));
    assert!(server.is_closed());
}

#[test]
fn every_answer_has_the_date_that_was_told() {
    let date = DateCell::default();
    let mut server = server_with(Config { date: date.clone(), ..Config::default() });
    date.set(784_111_777);
    server.handle_bytes(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nBREW\r\n\r\n", at(0));
    let id = request_ids(&events(&mut server))[0];
    server.respond_start(id, 200, "text/plain");
    server.respond_chunk(id, Bytes::from_static(b"x")).expect("there is credit");
    server.respond_end(id);
    let out = sent_text(&mut server, at(0));
    let field = "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(out.matches(field).count(), 2, "the answer and the refusal: {out}");
}
