//! What a peer cannot make grow.

use std::sync::Arc;

use bytes::Bytes;

use crate::testing::{answer_all, at, events, request_ids, sent, server, server_with};
use crate::{CloseReason, Config, Event, FramedConnection, Response, SendError, Timer};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_body_may_be_as_large_as_the_bound() {
    for (bytes, is_taken) in [(5, true), (6, false)] {
        let mut server = server_with(Config { body_bytes_max: 5, ..Config::default() });
        let (head, body) = ("POST / HTTP/1.1\r\nHost: x\r\n", "x".repeat(bytes));
        let request = format!("{head}Content-Length: {bytes}\r\n\r\n{body}");
        server.handle_bytes(request.as_bytes(), at(0));
        assert_eq!(request_ids(&events(&mut server)).len(), usize::from(is_taken), "{bytes}");
    }
}

#[test]
fn a_client_that_never_reads_holds_a_bounded_answer_and_is_cut_off() {
    let mut server = server();
    let limit = Config::default().output_bytes_max;
    server.handle_bytes(GET, at(0));
    let id = request_ids(&events(&mut server))[0];
    server.respond_start(id, 200, "application/json");
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut queued = 0;
    while server.respond_chunk(id, chunk.clone()).is_ok() {
        queued += chunk.len();
        assert!(queued <= limit + chunk.len(), "the bound holds");
    }
    assert_eq!(server.output_credit(), 0);
    assert!(!server.wants_read());
    // The driver took something, but the kernel never does.
    let given = server.poll_transmit(&mut Vec::new(), limit);
    assert_eq!(server.respond_chunk(id, chunk), Err(SendError::NoCredit));
    assert_eq!(server.poll_timeout(), Some((at(30), Timer::Write)));
    server.handle_timeout(at(30));
    assert!(server.is_closed());
    assert_eq!(server.pending_output_bytes(), given, "only the driver still holds some");
    server.handle_sent(given, at(31));
    let last = events(&mut server).pop();
    let timeout = CloseReason::Timeout(Timer::Write);
    assert!(matches!(last, Some(Event::Closed { reason }) if reason == timeout));
}

#[test]
fn what_the_kernel_takes_has_its_effect_at_once() {
    let mut server = server();
    server.handle_bytes(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", at(0));
    let id = request_ids(&events(&mut server))[0];
    server.respond(id, Response::json(200, "{}"));
    let given = server.poll_transmit(&mut Vec::new(), usize::MAX);
    server.handle_sent(given - 1, at(20));
    assert_eq!(
        server.poll_timeout(),
        Some((at(50), Timer::Write)),
        "the last byte has its own time"
    );
    assert!(!server.is_closed());
    // A driver that has nothing more to send makes no other call.
    server.handle_sent(1, at(21));
    assert!(server.is_closed());
}

#[test]
fn a_frame_that_has_begun_must_go_on_and_end() {
    for begun in [&[5][..], &[5, 0, 0, 0], &[5, 0, 0, 0, b'h']] {
        let begin = || {
            let config = Arc::new(Config::default());
            let mut stream = FramedConnection::server(config, None, at(0)).expect("without TLS");
            stream.handle_bytes(&[&[1, 0, 0, 0, b'x'], begun].concat(), at(1));
            assert_eq!(events(&mut stream).len(), 1);
            stream
        };
        assert!(matches!(begin().poll_timeout(), Some((_, Timer::Progress))), "{begun:?}");
        let mut ended = begin();
        ended.handle_eof(at(2));
        let last = events(&mut ended).pop();
        let truncated = CloseReason::Truncated;
        assert!(matches!(last, Some(Event::Closed { reason }) if reason == truncated), "{begun:?}");
    }
}

#[test]
fn messages_that_nobody_takes_are_counted_and_stop_the_reading() {
    let config = Config { message_bytes_max: 100, body_bytes_max: 100, ..Config::default() };
    let stream = FramedConnection::server(Arc::new(config), None, at(0));
    let mut stream = stream.expect("without TLS nothing can fail");
    let message = [&50_u32.to_le_bytes()[..], &[7; 50]].concat();
    for held in [50, 100] {
        assert!(stream.wants_read());
        stream.handle_bytes(&message, at(0));
        assert_eq!(stream.held_input_bytes(), held);
    }
    assert!(!stream.wants_read());
    assert_eq!(events(&mut stream).len(), 2);
    assert_eq!(stream.held_input_bytes(), 0);
    assert!(stream.wants_read());
}

#[test]
fn a_slow_reader_gets_all_of_a_large_answer_through_a_small_buffer() {
    let mut server = server();
    server.handle_bytes(GET, at(0));
    let id = request_ids(&events(&mut server))[0];
    server.respond_start(id, 200, "text/plain");
    let chunk = Bytes::from(vec![b'x'; 100_000]);
    let (mut chunks, mut received, mut now, mut most) = (1000, 0, 0, 0);
    let mut drained = true;
    while chunks > 0 {
        while drained && chunks > 0 && server.stream_credit(id) > 0 {
            server.respond_chunk(id, chunk.clone()).unwrap();
            chunks -= 1;
        }
        drained = false;
        most = most.max(server.pending_output_bytes());
        let mut out = Vec::new();
        let count = server.poll_transmit(&mut out, 50_000);
        now += 1;
        server.handle_sent(count, at(now));
        received += count;
        while let Some(event) = server.poll_event() {
            drained |= matches!(event, Event::OutputDrained);
        }
    }
    server.respond_end(id);
    received += sent(&mut server, at(now)).len();
    assert!(received > 100_000_000);
    assert!(most < 400_000, "never more than the bound and one chunk: {most}");
}

#[test]
fn pipelined_requests_beyond_the_bound_wait_and_then_come() {
    let config = Config { requests_in_flight_max: 4, ..Config::default() };
    let mut server = server_with(config);
    server.handle_bytes(&GET.repeat(10), at(0));
    assert!(!server.wants_read());
    let mut ids = request_ids(&events(&mut server));
    assert_eq!(ids.len(), 4);
    for answered in 0..10 {
        server.respond(ids[answered], Response::json(200, "{}"));
        ids.extend(request_ids(&events(&mut server)));
    }
    assert_eq!(ids.len(), 10);
    assert!(server.wants_read());
}

#[test]
fn pipelined_requests_that_wait_are_answered_also_after_the_clients_end() {
    let mut server = server_with(Config { requests_in_flight_max: 4, ..Config::default() });
    server.handle_bytes(&GET.repeat(10), at(0));
    server.handle_eof(at(0));
    let asked = answer_all(&mut server).iter().filter(|event| event.contains("Get")).count();
    assert_eq!(asked, 10);
    let out = sent(&mut server, at(0));
    assert_eq!(out.windows(6).filter(|window| window == b"200 OK").count(), 10);
    assert!(server.is_closed());
}

#[test]
fn large_bodies_in_flight_pause_reading() {
    let mut server = server_with(Config { body_bytes_max: 1000, ..Config::default() });
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n";
    let post = [&post[..], &[b'x'; 900]].concat();
    server.handle_bytes(&post.repeat(10), at(0));
    let ids = request_ids(&events(&mut server));
    assert_eq!(ids.len(), 2, "the second passes the bound, the third waits");
}

#[test]
fn a_caller_that_reads_against_our_wish_has_its_connection_closed() {
    let config = Config { requests_in_flight_max: 1, input_bytes_max: 1000, ..Config::default() };
    let mut server = server_with(config);
    server.handle_bytes(GET, at(0));
    for _ in 0..1000 {
        server.handle_bytes(GET, at(0));
    }
    assert!(server.is_closed());
    let last = events(&mut server).pop();
    assert!(matches!(last, Some(Event::Closed { reason: CloseReason::InputOverrun })));
}

#[test]
fn undelivered_messages_pause_reading_and_come_when_asked_for() {
    let config = Arc::new(Config::default());
    let mut framed = FramedConnection::server(config, None, at(0)).unwrap();
    framed.handle_bytes(&[1, 0, 0, 0, 7].repeat(1000), at(0));
    assert!(!framed.wants_read());
    assert_eq!(events(&mut framed).len(), 1000);
    assert!(framed.wants_read());
}

#[test]
fn a_claimed_frame_length_allocates_nothing() {
    let config = Arc::new(Config::default());
    let mut framed = FramedConnection::server(config, None, at(0)).unwrap();
    framed.handle_bytes(&u32::MAX.to_le_bytes(), at(0));
    assert!(framed.is_closed());
    let last = events(&mut framed).pop();
    let reason = CloseReason::FrameTooLarge { claimed_bytes: u32::MAX, limit_bytes: 8 << 20 };
    assert!(matches!(last, Some(Event::Closed { reason: found }) if found == reason));
}

#[test]
fn frames_are_the_same_wherever_their_bytes_are_split() {
    let bytes = [&b"\x03\0\0\0abc"[..], b"\0\0\0\0", b"\x01\0\0\0z"].concat();
    for split in 0..bytes.len() {
        let config = Arc::new(Config::default());
        let mut framed = FramedConnection::server(config, None, at(0)).unwrap();
        framed.handle_bytes(&bytes[..split], at(0));
        framed.handle_bytes(&bytes[split..], at(0));
        framed.handle_eof(at(0));
        let seen: Vec<String> = events(&mut framed).iter().map(crate::testing::describe).collect();
        let expected = ["Message(b\"abc\")", "Message(b\"\")", "Message(b\"z\")"];
        assert_eq!(seen[..3], expected);
        assert_eq!(seen[3], "Closed { reason: PeerClosed }");
    }
}

#[test]
fn an_idle_connection_is_small() {
    let mut server = server();
    server.handle_bytes(&GET.repeat(20), at(0));
    answer_all(&mut server);
    sent(&mut server, at(0));
    let size = size_of_val(&server);
    assert!(size <= 640, "the connection itself takes {size} bytes");
}
