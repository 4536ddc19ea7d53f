//! Bytes of any kind close a session with a reason; they never panic.

use bytes::Bytes;
use proptest::prelude::*;

use super::host::key;
use super::pair::{DEVICE, Pair, SERVER};
use crate::sync::error::ProtocolError;
use crate::sync::frame::{
    self, Ack, Bye, Frame, Got, Need, Offer, Subs, UpdBegin, UpdChunk, UpdEnd,
};
use crate::sync::*;

fn open_pair() -> Pair {
    let mut pair = Pair::new(1, &["cars"]);
    pair.host(SERVER).write(&key("cars", 1), 0, 1);
    pair.sync();
    pair
}

fn send(pair: &mut Pair, frame: &Frame) {
    let now = pair.now(SERVER);
    let bytes = frame::encode(frame);
    pair.session(SERVER).handle_frame(&bytes, now);
    pair.drain();
}

#[track_caller]
fn assert_refused(frames: &[Frame], expected: ProtocolError) {
    let mut pair = open_pair();
    frames.iter().for_each(|frame| send(&mut pair, frame));
    assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Protocol(expected)));
}

fn begin(update: u64, payload_bytes: u64) -> Frame {
    Frame::UpdBegin(UpdBegin { update, upto: None, item_count: 1, payload_bytes, at: None })
}

fn chunk(update: u64, seq: u32, bytes: &'static [u8]) -> Frame {
    Frame::UpdChunk(UpdChunk { update, seq, payload: Bytes::from_static(bytes) })
}

#[test]
fn updates_out_of_order_are_refused() {
    assert_refused(&[begin(99, 4), begin(100, 4)], ProtocolError::UpdateOverlap);
    assert_refused(
        &[chunk(99, 0, b"x")],
        ProtocolError::UnknownUpdate { frame: "UpdChunk", found: 99 },
    );
    assert_refused(
        &[begin(99, 4), chunk(99, 1, b"x")],
        ProtocolError::ChunkOutOfOrder { expected: 0, found: 1 },
    );
    assert_refused(
        &[begin(99, 4), chunk(99, 0, b"xxxxx")],
        ProtocolError::UpdateTooLarge { found_bytes: 5, limit_bytes: 4 },
    );
    assert_refused(
        &[begin(99, 4), chunk(99, 0, b"xxxx"), Frame::UpdEnd(UpdEnd { update: 99, hash: [0; 16] })],
        ProtocolError::HashMismatch { update: 99 },
    );
    assert_refused(&[begin(0, 4)], ProtocolError::UnknownUpdate { frame: "UpdBegin", found: 0 });
}

#[test]
fn each_wish_has_a_version_above_the_one_before() {
    for (second, is_good) in [(8, false), (9, false), (10, true)] {
        let mut pair = open_pair();
        for version in [9, second] {
            let subs = Subs {
                version,
                interest: Interest::default(),
                evict_generation: 0,
                write_permission: 0,
                cursor: None,
                stale: false,
                seen: None,
                reached: None,
            };
            send(&mut pair, &Frame::Subs(Box::new(subs)));
        }
        let refused = ProtocolError::OutOfOrder { frame: "Subs", state: "with an older version" };
        let expected = (!is_good).then_some(CloseReason::Protocol(refused));
        assert_eq!(pair.sides[SERVER].closed, expected, "{second} after 9");
    }
}

#[test]
fn an_oversize_update_is_refused_before_anything_is_held_for_it() {
    let mut pair = open_pair();
    send(&mut pair, &begin(99, u64::MAX));
    let closed = &pair.sides[SERVER].closed;
    assert!(
        matches!(closed, Some(CloseReason::Protocol(ProtocolError::UpdateTooLarge { .. }))),
        "{closed:?}"
    );
}

#[test]
fn answers_to_what_was_never_asked_are_refused() {
    let ack = Ack { update: 999, last: true, outcomes: Vec::new(), at: None };
    assert_refused(&[Frame::Ack(ack)], ProtocolError::UnknownUpdate { frame: "Ack", found: 999 });
    assert_refused(
        &[Frame::Got(Got { update: 999, payload_bytes: 1 })],
        ProtocolError::UnknownUpdate { frame: "Got", found: 999 },
    );
    let need = Need { part: Part::Provide, round: 1, batch: 1, last: true, items: Vec::new() };
    assert_refused(
        &[Frame::Need(need)],
        ProtocolError::OutOfOrder { frame: "Need", state: "when nothing was offered" },
    );
    let offer = Offer { part: Part::Provide, round: 9, batch: 1, items: Vec::new() };
    assert_refused(
        &[Frame::Offer(offer)],
        ProtocolError::Malformed { frame: "Offer", field: "round" },
    );
}

/// A server that has sent three documents of which its device has said nothing, and the number of that update.
fn unanswered_update() -> (Pair, u64) {
    let mut pair = open_pair();
    pair.sides[DEVICE].freeze_host = true;
    pair.record = Some(Vec::new());
    (2..5).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
    pair.run();
    let frames = pair.record.take().expect("they are recorded");
    let begun = frames.iter().find_map(|bytes| match frame::decode(bytes) {
        Ok(Some(Frame::UpdBegin(begin))) => Some(begin),
        _ => None,
    });
    let begun = begun.expect("an update was sent");
    assert_eq!(begun.item_count, 3);
    (pair, begun.update)
}

#[test]
fn an_acknowledgement_names_what_was_sent_and_each_item_once() {
    for (indexes, is_good) in [
        (&[0, 2][..], true),
        (&[0, 1, 2], true),
        (&[3], false),
        (&[0, 1, 2, 3], false),
        (&[u32::MAX], false),
        (&[1, 1], false),
        (&[2, 0], false),
    ] {
        let (mut pair, update) = unanswered_update();
        let rejected = Outcome::Rejected(RejectReason::Forbidden);
        let outcomes = indexes.iter().map(|index| (*index, rejected.clone())).collect();
        send(&mut pair, &Frame::Ack(Ack { update, last: true, outcomes, at: None }));
        let refused = ProtocolError::Malformed { frame: "Ack", field: "index" };
        let expected = (!is_good).then_some(CloseReason::Protocol(refused));
        assert_eq!(pair.sides[SERVER].closed, expected, "{indexes:?}");
    }
}

#[test]
fn offers_beyond_the_window_are_refused() {
    let offer = Offer { part: Part::Provide, round: 1, batch: 1, items: Vec::new() };
    let offers = vec![Frame::Offer(offer); 17];
    assert_refused(&offers, ProtocolError::WindowOverrun { frame: "Offer", limit: 16 });
}

#[test]
fn nothing_but_a_hello_opens_a_session() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.connect();
    send(&mut pair, &begin(1, 4));
    assert_eq!(
        pair.sides[SERVER].closed,
        Some(CloseReason::Protocol(ProtocolError::OutOfOrder {
            frame: "UpdBegin",
            state: "before Hello"
        }))
    );
}

#[test]
fn another_app_and_another_peer_are_refused() {
    for wrong in 0..2 {
        let mut pair = Pair::new(1, &["cars"]);
        let remote = pair.host(SERVER).peer_key;
        let mut config = pair.host(DEVICE).config(remote);
        let expected = if wrong == 0 {
            config.app = crate::ident::AppId::default();
            ProtocolError::WrongApp
        } else {
            config.local.peer_key = crate::ident::PeerKey([9; 32]);
            ProtocolError::WrongPeer
        };
        pair.connect();
        let now = pair.now(DEVICE);
        let mut rng = pair.rng.split();
        pair.sides[DEVICE].session = Some(Session::new(config, &mut rng, now));
        pair.drain();
        while pair.step() {}
        assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Protocol(expected)));
    }
}

#[test]
fn nothing_happens_after_a_goodbye() {
    let mut pair = open_pair();
    send(&mut pair, &Frame::Bye(Bye { reason: ByeReason::Normal, text: String::new() }));
    send(&mut pair, &begin(99, 4));
    let closed = pair.sides[SERVER].closed.clone();
    assert!(matches!(closed, Some(CloseReason::Remote { reason: ByeReason::Normal, .. })));
}

#[test]
fn a_flood_that_nobody_drains_ends_the_session() {
    let mut pair = open_pair();
    let now = pair.now(SERVER);
    let ping = frame::encode(&Frame::Ping);
    for _ in 0..10_000 {
        pair.session(SERVER).handle_frame(&ping, now);
    }
    let before = pair.frames;
    pair.drain();
    assert_eq!(pair.frames - before, 1, "the goodbye alone: the answers are dropped");
    assert!(matches!(pair.sides[SERVER].closed, Some(CloseReason::OutputsFull(_))));
}

/// Frames of an honest run, to be bent.
fn honest_frames() -> Vec<Bytes> {
    let mut pair = Pair::new(1, &["cars"]);
    pair.host(SERVER).forbidden.insert(key("cars", 3));
    for n in 0..6 {
        pair.host(DEVICE).write(&key("cars", n), 0, n);
        pair.host(SERVER).write(&key("cars", n + 4), 0, n);
    }
    pair.record = Some(Vec::new());
    pair.sync();
    pair.record.take().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let mut pair = open_pair();
        for message in messages {
            let now = pair.now(SERVER);
            pair.session(SERVER).handle_frame(&message, now);
            pair.drain();
            while pair.step() {}
        }
    }

    #[test]
    fn bent_and_shuffled_frames_are_survived(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..40)
    ) {
        let frames = honest_frames();
        let mut pair = Pair::new(1, &["cars"]);
        pair.connect();
        for (which, place, byte, bend) in picks {
            let mut frame = which.get(&frames).to_vec();
            let at = place.index(frame.len());
            match bend {
                0 => frame[at] = byte,
                1 => frame.truncate(at),
                _ => {}
            }
            let now = pair.now(SERVER);
            // What the session asks of the stand-in is not checked by it: only the session is under test.
            pair.session(SERVER).handle_frame(&frame, now);
            while pair.session(SERVER).poll_output().is_some() {}
        }
    }
}
