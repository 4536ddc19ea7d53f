//! What a server must refuse, with which status, and that earlier requests do not suffer for it.

use crate::testing::{
    answer_all, at, describe, events, request_ids, sent_text, server, server_with,
};
use crate::{CloseReason, Config, Event, Response, Timer};

const GET: &[u8] = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends `bytes`, whole and byte by byte, behind a good request; both must end in a JSON refusal with `status`.
fn assert_refused(bytes: &[u8], status: u16) {
    for step in [usize::MAX, 1] {
        let mut server = server();
        let all = [GET, bytes].concat();
        for piece in all.chunks(step.min(all.len())) {
            server.handle_bytes(piece, at(0));
        }
        let ids = request_ids(&events(&mut server));
        assert_eq!(ids.len(), 1, "only the first is a request: {}", bytes.escape_ascii());
        server.respond(ids[0], Response::json(200, "{}"));
        let out = sent_text(&mut server, at(0));
        let (first, second) = out.split_once("{}").expect("the first answer is whole");
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(second.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {second}");
        assert!(second.contains("\r\nConnection: close\r\n"));
        assert!(second.contains("\r\nContent-Type: application/json\r\n"));
        let (_, body) = second.split_once("\r\n\r\n").expect("a head has an end");
        assert!(body.starts_with("{\"message\":\"") && body.ends_with("\"}"), "{body}");
        assert!(server.wants_shutdown(), "we wait for the client to have read it");
        server.handle_bytes(b"whatever else was on its way", at(0));
        server.handle_eof(at(1));
        assert!(server.is_closed());
        assert!(matches!(
            events(&mut server).last(),
            Some(Event::Closed { reason: CloseReason::Http(error) }) if error.status() == status
        ));
    }
}

#[test]
fn broken_http_is_refused() {
    for bytes in [
        &b"GARBAGE\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: \xc3\x28\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        assert_refused(bytes, 400);
    }
    assert_refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    assert_refused(b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505);
}

#[test]
fn smuggling_is_refused() {
    let post = b"POST / HTTP/1.1\r\nHost: x\r\n";
    for (fields, status) in [
        (&b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..], 400),
        (b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"Content-Length: 3\r\n Content-Length: 4\r\n\r\nabc", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 413),
    ] {
        assert_refused(&[&post[..], fields].concat(), status);
    }
}

#[test]
fn large_things_are_refused_before_they_come() {
    let post = |length| format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    assert_refused(post("3221225472").as_bytes(), 413);
    assert_refused(post("8388609").as_bytes(), 413);
    assert_refused(post("99999999999999999999999999").as_bytes(), 413);
    let chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800001\r\n";
    assert_refused(chunked, 413);
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_refused(long.as_bytes(), 431);
    assert_refused(format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)).as_bytes(), 414);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(70));
    assert_refused(many.as_bytes(), 431);
}

#[test]
fn bodies_and_expectations_that_we_do_not_take_are_refused() {
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n";
    assert_refused(&[&post[..], b"Content-Encoding: gzip\r\n\r\nabc"].concat(), 415);
    assert_refused(&[&post[..], b"Expect: more\r\n\r\nabc"].concat(), 417);
    let mut plain = server();
    plain.handle_bytes(&[&post[..], b"Content-Encoding: Identity\r\n\r\nabc"].concat(), at(0));
    assert_eq!(answer_all(&mut plain).len(), 1);
    let mut taken = server_with(Config { encoded_bodies: true, ..Config::default() });
    taken.handle_bytes(&[&post[..], b"Content-Encoding: gzip\r\n\r\nabc"].concat(), at(0));
    assert_eq!(answer_all(&mut taken).len(), 1);
}

#[test]
fn a_control_character_is_refused_wherever_it_stands_in_a_head() {
    let head =
        b"GET /a-path-of-some-length HTTP/1.1\r\nHost: x\r\nAccept: any-type-there-is\r\n\r\n";
    for place in (0..head.len()).filter(|place| !matches!(head[*place], b'\r' | b'\n')) {
        for control in [0, 0x1F, 0x7F] {
            let mut head = head.to_vec();
            head[place] = control;
            let mut server = server();
            server.handle_bytes(&head, at(0));
            let out = sent_text(&mut server, at(0));
            assert!(out.starts_with("HTTP/1.1 400 "), "{control:#x} at {place}: {out}");
        }
    }
}

#[test]
fn a_head_that_trickles_is_answered_408() {
    let mut server = server();
    server.handle_bytes(b"GET / HTTP/1.1\r\n", at(5));
    for second in 6..15 {
        server.handle_bytes(b"X: y\r\n", at(second));
        assert_eq!(server.poll_timeout(), Some((at(15), Timer::Head)));
    }
    server.handle_timeout(at(15));
    assert!(sent_text(&mut server, at(15)).starts_with("HTTP/1.1 408 "));
    assert_eq!(server.poll_timeout(), Some((at(17), Timer::Linger)));
    server.handle_timeout(at(17));
    assert!(server.is_closed());
}

#[test]
fn the_time_for_a_head_starts_with_its_own_first_byte() {
    let mut server = server();
    server.handle_bytes(b"GET / HT", at(0));
    server.handle_bytes(b"TP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n", at(9));
    assert_eq!(server.poll_timeout(), Some((at(19), Timer::Head)));
}

#[test]
fn a_body_that_trickles_is_answered_408() {
    let mut server = server();
    server.handle_bytes(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n", at(0));
    server.handle_bytes(&[b'x'; 2000], at(1));
    assert_eq!(server.poll_timeout(), Some((at(10), Timer::Body)));
    for second in 2..10 {
        server.handle_bytes(b"x", at(second));
    }
    server.handle_timeout(at(10));
    assert!(sent_text(&mut server, at(10)).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_websocket_handshake_that_is_wrong_is_refused() {
    let head = |fields: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{fields}\r\n"
        )
    };
    assert_refused(head("Sec-WebSocket-Version: 13\r\n").as_bytes(), 400);
    assert_refused(
        head("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n").as_bytes(),
        400,
    );
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_refused(head(&format!("{key}Sec-WebSocket-Version: 8\r\n")).as_bytes(), 426);
    assert_refused(head(key).as_bytes(), 426);
}

#[test]
fn nothing_after_a_refusal_is_a_request() {
    let mut server = server();
    server.handle_bytes(&[b"GARBAGE\r\n\r\n", GET, GET].concat(), at(0));
    server.handle_bytes(GET, at(0));
    assert_eq!(events(&mut server).iter().map(describe).count(), 0);
    assert_eq!(sent_text(&mut server, at(0)).matches("HTTP/1.1").count(), 1);
}
