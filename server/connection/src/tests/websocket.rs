//! WebSockets on the server's side, with hand-made frames.

use bytes::Bytes;

use crate::testing::{answer_all, at, describe, events, request_ids, sent, sent_text, server};
use crate::{
    CloseReason, Config, Event, Response, SendError, ServerConnection, Timer, WebSocketError,
};

const UPGRADE: &[u8] =
    b"GET /sync HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: bigpeer.1, other\r\n\r\n";

fn open() -> ServerConnection {
    let mut server = server();
    server.handle_bytes(UPGRADE, at(0));
    answer_all(&mut server);
    sent(&mut server, at(0));
    server
}

/// A masked frame with a short payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("it is short")];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(0..).map(|(byte, index)| byte ^ mask[index % 4]));
    frame
}

#[test]
fn the_handshake_answers_the_sample_key() {
    let mut server = server();
    server.handle_bytes(UPGRADE, at(0));
    answer_all(&mut server);
    assert_eq!(
        sent_text(&mut server, at(0)),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: bigpeer.1\r\n\r\n"
    );
}

#[test]
fn a_websocket_waits_for_earlier_answers_and_may_be_refused() {
    let mut server = server();
    let get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    server.handle_bytes(&[get, UPGRADE, get].concat(), at(0));
    let first = events(&mut server);
    assert_eq!(first.len(), 1);
    server.respond(request_ids(&first)[0], Response::json(200, "{}"));
    let Some(Event::WebSocketUpgrade { id, .. }) = server.poll_event() else {
        panic!("the upgrade comes once its turn has come");
    };
    server.respond(id, Response::json(401, "{}"));
    assert_eq!(request_ids(&events(&mut server)).len(), 1, "the connection goes on with HTTP");
}

#[test]
fn messages_are_the_same_wherever_their_bytes_are_split() {
    let large = vec![5; 300];
    let mut bytes = frame(0x82, b"one");
    bytes.extend(frame(0x02, b"tw"));
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x8A, b"unasked"));
    bytes.extend(frame(0x80, b"o"));
    bytes.extend([0x82, 0xFE, 1, 44, 0, 0, 0, 0]);
    bytes.extend(&large);
    bytes.extend(frame(0x88, &[0x03, 0xE8, b'b', b'y', b'e']));
    let run = |pieces: &[&[u8]]| {
        let mut server = open();
        for piece in pieces {
            server.handle_bytes(piece, at(0));
        }
        let out = sent(&mut server, at(0));
        (events(&mut server).iter().map(describe).collect::<Vec<_>>(), out)
    };
    let whole = run(&[&bytes]);
    assert_eq!(whole.0[..2], ["Message(b\"one\")", "Message(b\"two\")"]);
    assert_eq!(
        whole.0[3..],
        ["WebSocketClosed { code: 1000 }", "Closed { reason: WebSocketClosed(1000) }"]
    );
    assert_eq!(whole.1, b"\x8A\x04ping\x88\x02\x03\xE8");
    for split in 1..bytes.len() {
        assert_eq!(run(&[&bytes[..split], &bytes[split..]]), whole, "split at {split}");
    }
}

#[test]
fn frames_that_break_the_protocol_close_it_with_the_right_code() {
    let unmasked: &[u8] = b"\x82\x03abc";
    for (bytes, error, code) in [
        (unmasked.to_vec(), WebSocketError::WrongMasking, 1002),
        (frame(0xC2, b""), WebSocketError::ReservedBit, 1002),
        (frame(0x83, b""), WebSocketError::UnknownOpcode { opcode: 3 }, 1002),
        (frame(0x8B, b""), WebSocketError::UnknownOpcode { opcode: 11 }, 1002),
        (frame(0x80, b"x"), WebSocketError::FragmentOutOfOrder, 1002),
        ([frame(0x02, b"x"), frame(0x82, b"y")].concat(), WebSocketError::FragmentOutOfOrder, 1002),
        (frame(0x09, b""), WebSocketError::BadControlFrame, 1002),
        (vec![0x89, 0xFE, 0, 126], WebSocketError::BadControlFrame, 1002),
        (vec![0x82, 0xFE, 0, 5, 0, 0, 0, 0], WebSocketError::LengthNotMinimal, 1002),
        (frame(0x88, b"x"), WebSocketError::BadClose, 1002),
        (frame(0x88, &[0x03, 0xED]), WebSocketError::BadClose, 1002),
        (frame(0x88, &[0x03, 0xE8, 0xFF]), WebSocketError::NotUtf8, 1007),
        (frame(0x81, b"text"), WebSocketError::TextMessage, 1003),
    ] {
        for step in [bytes.len(), 1] {
            let mut server = open();
            for piece in bytes.chunks(step) {
                server.handle_bytes(piece, at(0));
            }
            let [high, low] = u16::to_be_bytes(code);
            assert_eq!(sent(&mut server, at(0)), [0x88, 2, high, low], "{error}");
            server.handle_eof(at(0));
            let seen = events(&mut server);
            assert!(matches!(seen[0], Event::WebSocketClosed { code: found } if found == code));
            let reason = CloseReason::WebSocket(error);
            assert!(matches!(&seen[1], Event::Closed { reason: found } if *found == reason));
        }
    }
}

#[test]
fn a_message_too_large_is_refused_at_its_claim_also_in_fragments() {
    let limit_bytes = Config::default().message_bytes_max;
    let mut server = open();
    server.handle_bytes(&[0x82, 0xFF, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], at(0));
    assert_eq!(sent(&mut server, at(0)), [0x88, 2, 0x03, 0xF1]);

    let mut server = open();
    server.handle_bytes(&frame(0x02, b"x"), at(0));
    let rest = (limit_bytes as u64).to_be_bytes();
    server.handle_bytes(&[&[0x80, 0xFF][..], &rest, &[0; 4]].concat(), at(0));
    assert_eq!(sent(&mut server, at(0)), [0x88, 2, 0x03, 0xF1], "close code 1009");
}

#[test]
fn pings_of_a_peer_that_never_reads_are_answered_up_to_the_bound() {
    let mut server = open();
    server.handle_bytes(&frame(0x82, b"hello"), at(0));
    for count in 0..10_000_u32 {
        let mut payload = [0; 125];
        payload[..4].copy_from_slice(&count.to_be_bytes());
        server.handle_bytes(&frame(0x89, &payload), at(0));
    }
    assert!(server.pending_output_bytes() <= Config::default().output_bytes_max + 127);
    assert_eq!(server.poll_timeout(), Some((at(30), Timer::Write)));
    let out = sent(&mut server, at(1));
    assert_eq!(out.len() % 127, 0);
    assert_eq!(out[out.len() - 125..][..4], 9_999_u32.to_be_bytes(), "the last is answered later");
}

#[test]
fn a_ping_that_waits_for_credit_is_not_answered_after_the_end() {
    let mut server = open();
    server.send_message(Bytes::from(vec![0; 1_000_000])).expect("there is credit for one");
    server.handle_bytes(&frame(0x89, b"ping"), at(0));
    server.handle_bytes(&frame(0x88, &[0x03, 0xE8]), at(0));
    assert!(sent(&mut server, at(0)).ends_with(&[0, 0x88, 2, 0x03, 0xE8]), "the end is last");
}

#[test]
fn two_sides_that_send_without_reading_do_not_wait_for_each_other() {
    let mut server = open();
    server.send_message(Bytes::from(vec![0; 1_000_000])).unwrap();
    assert_eq!(server.output_credit(), 0);
    assert!(server.wants_read());
    server.handle_bytes(&frame(0x82, b"heard"), at(0));
    let seen = events(&mut server);
    assert!(matches!(&seen[..], [Event::Message(message)] if message == "heard"));
}

#[test]
fn a_message_that_stops_growing_ends_the_connection() {
    let mut server = open();
    server.handle_bytes(&frame(0x82, b"hello"), at(0));
    assert_eq!(
        server.poll_timeout(),
        None,
        "whether an idle session lives is the session's to say"
    );
    server.handle_bytes(&frame(0x02, b"half"), at(1));
    assert_eq!(server.poll_timeout(), Some((at(31), Timer::Progress)));
    server.handle_timeout(at(31));
    assert!(server.is_closed());
}

#[test]
fn an_unfinished_message_is_counted_and_can_be_given_up() {
    let mut server = open();
    assert_eq!(server.held_input_bytes(), 0);
    server.handle_bytes(&frame(0x02, &[7; 100]), at(1));
    let held = server.held_input_bytes();
    assert!((100..200).contains(&held), "{held}");
    server.shed(at(1));
    assert_eq!(sent(&mut server, at(1)), [0x88, 2, 0x03, 0xF5], "1013: try again later");
}

#[test]
fn our_own_close_waits_for_the_answer_but_not_for_ever() {
    let mut server = open();
    server.close(1001, at(0));
    assert_eq!(server.send_message(Bytes::from_static(b"x")), Err(SendError::Closed));
    assert_eq!(sent(&mut server, at(0)), [0x88, 2, 0x03, 0xE9]);
    assert_eq!(server.poll_timeout(), Some((at(2), Timer::Linger)));
    server.handle_bytes(&frame(0x82, b"too late"), at(1));
    server.handle_bytes(&frame(0x88, &[0x03, 0xE9]), at(1));
    assert!(server.is_closed());
    assert_eq!(events(&mut server).len(), 2, "the end and nothing else");

    let mut silent = open();
    silent.close(1001, at(0));
    sent(&mut silent, at(0));
    silent.handle_timeout(at(2));
    assert!(silent.is_closed());
}

#[test]
fn a_handshake_that_is_answered_while_the_server_ends_is_followed_by_the_end() {
    let mut server = server();
    server.handle_bytes(UPGRADE, at(0));
    server.close(1001, at(0));
    answer_all(&mut server);
    let out = sent(&mut server, at(0));
    assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(&[0x88, 2, 0x03, 0xE9]), "{out:?}");
    server.handle_bytes(&frame(0x88, &[0x03, 0xE9]), at(1));
    assert!(server.is_closed());
}

#[test]
fn a_message_is_sent_unmasked_and_bounded() {
    let mut server = open();
    server.send_message(Bytes::from_static(b"abc")).unwrap();
    assert_eq!(sent(&mut server, at(0)), b"\x82\x03abc");
    let large = Bytes::from(vec![0; 8 * 1024 * 1024 + 1]);
    assert!(matches!(server.send_message(large), Err(SendError::TooLarge { .. })));
    let chunk = Bytes::from(vec![0; 256 * 1024]);
    server.send_message(chunk.clone()).unwrap();
    assert_eq!(server.send_message(chunk), Err(SendError::NoCredit));
    sent(&mut server, at(0));
    assert!(matches!(server.poll_event(), Some(Event::OutputDrained)));
}
