//! Well-formed HTTP.

use bytes::Bytes;

use crate::testing::{answer_all, at, describe, events, request_ids, sent, sent_text, server};
use crate::{CloseReason, Event, Response, Timer};

const GET: &[u8] = b"GET /a?q=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n";

fn closed_reason(events: &[Event]) -> Option<CloseReason> {
    match events.last() {
        Some(Event::Closed { reason }) => Some(reason.clone()),
        _ => None,
    }
}

#[test]
fn requests_are_the_same_wherever_their_bytes_are_split() {
    let mut bytes = GET.to_vec();
    bytes.extend_from_slice(b"\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    bytes.extend_from_slice(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    bytes.extend_from_slice(b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: v\r\n\r\n");
    bytes.extend_from_slice(b"POST /d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    bytes.extend_from_slice(b"GET /e HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nignored");
    let run = |pieces: &[&[u8]]| {
        let mut server = server();
        let (mut seen, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            server.handle_bytes(piece, at(0));
            seen.extend(answer_all(&mut server));
            out.extend(sent(&mut server, at(0)));
        }
        seen.extend(answer_all(&mut server));
        (seen, out)
    };
    let whole = run(&[&bytes]);
    assert_eq!(whole.0.len(), 6, "five requests and the end: {:?}", whole.0);
    assert_eq!(whole.0[0], "0 Get /a Some(\"q=1\") auth=Some(\"Bearer k\") body=");
    assert!(whole.0[2].ends_with("body=abcde"));
    for split in 1..bytes.len() {
        assert_eq!(run(&[&bytes[..split], &bytes[split..]]), whole, "split at {split}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(run(&single), whole);
}

#[test]
fn answers_leave_in_the_order_of_their_requests() {
    let mut server = server();
    server.handle_bytes(&GET.repeat(3), at(0));
    let ids = request_ids(&events(&mut server));
    server.respond(ids[2], Response::json(200, "third"));
    server.respond_start(ids[1], 200, "text/plain");
    assert_eq!(server.stream_credit(ids[1]), 0, "its turn has not come");
    assert_eq!(sent(&mut server, at(0)), b"");
    server.respond(ids[0], Response::json(404, "first"));
    assert!(matches!(server.poll_event(), Some(Event::OutputDrained)));
    server.respond_chunk(ids[1], Bytes::from_static(b"second")).unwrap();
    server.respond_end(ids[1]);
    assert_eq!(
        sent_text(&mut server, at(0)),
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nfirst\
         HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
         6\r\nsecond\r\n0\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nthird"
    );
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let mut server = server();
    server.handle_bytes(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", at(0));
    let ids = request_ids(&events(&mut server));
    server.respond(ids[0], Response::json(200, "12345"));
    let out = sent_text(&mut server, at(0));
    assert!(out.ends_with("Content-Length: 5\r\n\r\n"), "{out}");
}

#[test]
fn a_status_that_has_no_body_gets_none_whole_or_in_pieces() {
    let mut server = server();
    server.handle_bytes(&GET.repeat(2), at(0));
    let ids = request_ids(&events(&mut server));
    server.respond(ids[0], Response::json(204, "body"));
    server.respond_start(ids[1], 304, "text/plain");
    server.respond_chunk(ids[1], Bytes::from_static(b"body")).unwrap();
    server.respond_end(ids[1]);
    let out = sent_text(&mut server, at(0));
    assert!(!out.contains("body") && out.ends_with("\r\n\r\n"), "{out}");
    assert_eq!(out.matches("\r\n\r\n").count(), 2, "{out}");
}

#[test]
fn http_1_0_is_closed_after_its_answer_unless_it_asks_otherwise() {
    let mut once = server();
    once.handle_bytes(b"GET / HTTP/1.0\r\n\r\n", at(0));
    answer_all(&mut once);
    assert!(sent_text(&mut once, at(0)).contains("Connection: close\r\n"));
    assert!(once.is_closed());

    let mut kept = server();
    kept.handle_bytes(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", at(0));
    answer_all(&mut kept);
    assert!(sent_text(&mut kept, at(0)).contains("Connection: keep-alive\r\n"));
    assert!(!kept.is_closed());
}

#[test]
fn a_stream_to_http_1_0_ends_with_the_connection() {
    let mut server = server();
    server.handle_bytes(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", at(0));
    let id = request_ids(&events(&mut server))[0];
    server.respond_start(id, 200, "text/plain");
    server.respond_chunk(id, Bytes::from_static(b"body")).unwrap();
    server.respond_end(id);
    let out = sent_text(&mut server, at(0));
    assert!(out.ends_with("Connection: close\r\n\r\nbody"), "{out}");
    assert!(server.is_closed());
}

#[test]
fn continue_is_sent_when_the_body_is_waited_for_and_its_turn_has_come() {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut waiting = server();
    waiting.handle_bytes(head, at(0));
    assert_eq!(sent_text(&mut waiting, at(0)), "HTTP/1.1 100 Continue\r\n\r\n");
    waiting.handle_bytes(b"ok", at(0));
    assert_eq!(answer_all(&mut waiting).len(), 1);

    let mut behind = server();
    behind.handle_bytes(&[GET, head].concat(), at(0));
    assert_eq!(sent_text(&mut behind, at(0)), "", "an earlier answer comes first");
    let id = request_ids(&events(&mut behind))[0];
    behind.respond(id, Response::json(200, "{}"));
    assert!(sent_text(&mut behind, at(0)).ends_with("{}HTTP/1.1 100 Continue\r\n\r\n"));

    let mut too_large = server();
    let head =
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n";
    too_large.handle_bytes(head, at(0));
    assert!(sent_text(&mut too_large, at(0)).starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_client_that_shuts_down_its_side_still_gets_its_answers() {
    let mut server = server();
    server.handle_bytes(&GET.repeat(2), at(0));
    server.handle_eof(at(0));
    assert!(!server.is_closed());
    assert_eq!(answer_all(&mut server).len(), 2);
    assert_eq!(sent_text(&mut server, at(0)).matches("200 OK").count(), 2);
    assert_eq!(closed_reason(&events(&mut server)), Some(CloseReason::PeerClosed));
}

#[test]
fn an_end_in_the_middle_of_a_request_is_no_request() {
    for bytes in [&b"GET / HT"[..], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"] {
        let mut server = server();
        server.handle_bytes(bytes, at(0));
        server.handle_eof(at(0));
        let seen = events(&mut server);
        assert_eq!(seen.len(), 1);
        assert_eq!(closed_reason(&seen), Some(CloseReason::Truncated));
    }
}

#[test]
fn an_aborted_stream_is_cut_and_an_aborted_request_is_a_500() {
    let mut server = server();
    server.handle_bytes(&GET.repeat(2), at(0));
    let ids = request_ids(&events(&mut server));
    server.abort(ids[0]);
    assert!(sent_text(&mut server, at(0)).starts_with("HTTP/1.1 500 "));
    server.respond_start(ids[1], 200, "text/plain");
    server.respond_chunk(ids[1], Bytes::from_static(b"half")).unwrap();
    let out = sent_text(&mut server, at(0));
    assert!(out.ends_with("4\r\nhalf\r\n"), "{out}");
    // Nothing waits to be sent any more: the end waits for nothing.
    server.abort(ids[1]);
    assert_eq!(closed_reason(&events(&mut server)), Some(CloseReason::Aborted));
    assert_eq!(sent_text(&mut server, at(0)), "");
}

#[test]
fn an_orderly_end_answers_what_was_asked_and_takes_nothing_new() {
    let mut server = server();
    server.handle_bytes(GET, at(0));
    let id = request_ids(&events(&mut server))[0];
    server.close(1001, at(0));
    server.handle_bytes(GET, at(0));
    server.respond(id, Response::json(200, "{}"));
    assert!(sent_text(&mut server, at(0)).contains("Connection: close"));
    assert!(server.is_closed());
    assert_eq!(events(&mut server).iter().map(describe).count(), 1);
}

#[test]
fn an_answer_to_a_connection_that_ended_is_dropped() {
    let mut server = server();
    server.handle_bytes(GET, at(0));
    let id = request_ids(&events(&mut server))[0];
    server.handle_reset(at(0));
    server.respond(id, Response::json(200, "{}"));
    assert!(server.respond_chunk(id, Bytes::from_static(b"x")).is_err());
    server.respond_end(id);
    assert_eq!(server.poll_timeout(), None);
    assert_eq!(closed_reason(&events(&mut server)), Some(CloseReason::Reset));
}

#[test]
fn an_idle_connection_is_given_up_and_a_used_one_starts_anew() {
    let mut server = server();
    assert_eq!(server.poll_timeout(), Some((at(75), Timer::Idle)));
    server.handle_bytes(GET, at(70));
    assert_eq!(server.poll_timeout(), None, "the next step is ours");
    answer_all(&mut server);
    assert_eq!(server.poll_timeout(), Some((at(100), Timer::Write)));
    sent(&mut server, at(71));
    assert_eq!(server.poll_timeout(), Some((at(146), Timer::Idle)));
    server.handle_timeout(at(145));
    assert!(!server.is_closed(), "an early call does no harm");
    server.handle_timeout(at(146));
    assert_eq!(closed_reason(&events(&mut server)), Some(CloseReason::Timeout(Timer::Idle)));
}
