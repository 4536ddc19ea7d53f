//! Arbitrary bytes: no panic, no growth beyond the bounds, and the same events however they are split.

use std::sync::Arc;

use bigpeer_core::rng::Rng;
use bytes::Bytes;
use proptest::prelude::*;

use crate::machine::{Machine, Protocol};
use crate::testing::certificates;
use crate::testing::{answer_all, at, describe, events, sent, server_with};
use crate::{
    ClientConnection, ClientRequest, Config, FramedConnection, Method, ServerConnection,
    WebSocketRequest,
};

fn small() -> Config {
    Config {
        head_bytes_max: 300,
        body_bytes_max: 500,
        message_bytes_max: 500,
        requests_in_flight_max: 3,
        output_bytes_max: 2000,
        input_bytes_max: 4000,
        asks_first: true,
        ..Config::default()
    }
}

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Frames of a client, most of them good.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x82, 0x02, 0x00, 0x80, 0x89, 0x8A]),
        1 => any::<u8>(),
    ];
    let frame = (first, any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..60));
    let frame = frame.prop_map(|(first, mask, payload)| {
        let length = 0x80 | u8::try_from(payload.len()).expect("it is short");
        [&[first, length], &mask[..], &payload].concat()
    });
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

/// Pieces that are likely to be understood, so that the deeper states are reached.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let known = prop::sample::select(vec![
        &b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nchunk\r\n",
        b"0\r\n\r\n",
        UPGRADE,
        b"\x82\x83\x01\x02\x03\x04abc",
        b"\x02\x81\x00\x00\x00\x00x",
        b"\x80\x80\x00\x00\x00\x00",
        b"\x89\x80\x00\x00\x00\x00",
        b"\x88\x82\x00\x00\x00\x00\x03\xE8",
        b"\x05\0\0\0frame",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\r\n",
    ]);
    let piece = prop_oneof![
        4 => known.prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..12)
}

/// Feeds `bytes` in steps while the connection wants them, and ends the stream.
fn run<P: Protocol>(
    mut machine: Machine<P>,
    bytes: &[u8],
    step: usize,
    mut look: impl FnMut(&mut Machine<P>) -> Vec<String>,
) -> (Vec<String>, Vec<u8>) {
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        machine.handle_bytes(piece, at(0));
        let bound = 2000 + 700 + 127;
        assert!(machine.pending_output_bytes() <= bound, "{}", machine.pending_output_bytes());
        seen.extend(look(&mut machine));
        out.extend(sent(&mut machine, at(0)));
        seen.extend(look(&mut machine));
    }
    machine.handle_eof(at(0));
    seen.extend(look(&mut machine));
    out.extend(sent(&mut machine, at(0)));
    while let Some((when, _)) = machine.poll_timeout() {
        machine.handle_timeout(when);
        out.extend(sent(&mut machine, when));
    }
    seen.extend(look(&mut machine));
    assert!(machine.is_closed(), "every connection whose peer has gone ends");
    seen.retain(|event| event != "OutputDrained");
    (seen, out)
}

fn describe_all<P: Protocol>(machine: &mut Machine<P>) -> Vec<String> {
    events(machine).iter().map(describe).collect()
}

/// Admits whoever says something.
fn admit_all(machine: &mut FramedConnection) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = machine.poll_event() {
        seen.push(describe(&event));
        machine.admit();
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_server_sees_the_same_however_its_input_is_split(pieces in pieces(), step in 1_usize..50) {
        let bytes = pieces.concat();
        let whole = run(server_with(small()), &bytes, bytes.len(), answer_all);
        prop_assert_eq!(run(server_with(small()), &bytes, step, answer_all), whole);
    }

    #[test]
    fn a_websocket_sees_the_same_however_its_input_is_split(frames in frames(), step in 1_usize..50) {
        let bytes = [UPGRADE, &frames].concat();
        let whole = run(server_with(small()), &bytes, bytes.len(), answer_all);
        prop_assert_eq!(run(server_with(small()), &bytes, step, answer_all), whole);
    }

    #[test]
    fn a_framed_stream_sees_the_same_however_its_input_is_split(
        pieces in pieces(), step in 1_usize..50
    ) {
        let bytes = pieces.concat();
        let framed = || FramedConnection::server(Arc::new(small()), None, at(0)).unwrap();
        let whole = run(framed(), &bytes, bytes.len(), admit_all);
        prop_assert_eq!(run(framed(), &bytes, step, admit_all), whole);
    }

    #[test]
    fn a_client_survives_any_server(pieces in pieces(), step in 1_usize..50, upgrades: bool) {
        let mut client = ClientConnection::new(Arc::new(small()), None, at(0)).unwrap();
        let body = Bytes::new();
        let request = ClientRequest { method: Method::Get, target: "/", host: "x", headers: &[], body };
        client.request(&request).unwrap();
        if upgrades {
            let request = WebSocketRequest { target: "/", host: "x", protocols: &[], headers: &[] };
            client.open_websocket(&request, Rng::new(&[0; 32], "mask")).unwrap();
        }
        let seen = run(client, &pieces.concat(), step, describe_all).0;
        prop_assert!(seen.last().unwrap().starts_with("Closed"));
    }

    #[test]
    fn a_damaged_tls_stream_does_no_harm(
        cut in 0_usize..700, flips in prop::collection::vec((0_usize..700, any::<u8>()), 0..4), step in 1_usize..700
    ) {
        let certificates = certificates();
        let config = Arc::new(small());
        let mut client =
            ClientConnection::new(config.clone(), Some(certificates.client), at(0)).unwrap();
        let mut bytes = sent(&mut client, at(0));
        for (index, flip) in flips {
            let length = bytes.len();
            bytes[index % length] ^= flip;
        }
        bytes.truncate(cut);
        let server = ServerConnection::new(config, Some(certificates.server), at(0)).unwrap();
        run(server, &bytes, step, answer_all);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..600), step in 1_usize..200
    ) {
        run(server_with(small()), &bytes, step, answer_all);
        let framed = FramedConnection::server(Arc::new(small()), None, at(0)).unwrap();
        run(framed, &bytes, step, admit_all);
    }
}
