//! Bounds that are met: small ones here, on which an honest pair never stops.

use std::time::Duration;

use super::host::{key, query};
use super::pair::{DEVICE, Pair, SERVER};
use crate::sync::error::ProtocolError;
use crate::sync::frame::{self, Frame, Subs, UpdBegin};
use crate::sync::*;

/// Everything is cut: what is asked for, what is sent, what is in flight, and what may wait.
const TINY: Limits = Limits {
    update_target_bytes: 600,
    update_bytes_max: 2_400,
    window_bytes: 2_048,
    outputs_max: 64,
    ..Limits::PROTOCOL
};

fn tiny(seed: u64) -> Pair {
    let mut pair = Pair::new(seed, &["cars"]);
    pair.host(DEVICE).limits = TINY;
    pair.host(SERVER).limits = TINY;
    pair
}

/// No time passes, so that nobody is woken by a ping.
#[track_caller]
fn assert_agreed(pair: &mut Pair) {
    let now = pair.now(DEVICE);
    let probe = pair.session(DEVICE).probe(now);
    pair.drain();
    pair.run();
    assert_eq!(pair.count(DEVICE, |event| *event == SessionEvent::Synced { probe }), 1);
    pair.assert_converged();
}

#[test]
fn a_replay_of_any_size_arrives_from_either_side() {
    // A document takes 116 bytes: below the target, above it, as much as an update holds, and more.
    for (seed, count) in [5, 15, 30, 45, 70, 300].into_iter().enumerate() {
        for author in [DEVICE, SERVER] {
            let mut pair = tiny(seed as u64);
            pair.sync();
            pair.disconnect();
            (0..count).for_each(|n| pair.host(author).write(&key("cars", n), 0, n));
            pair.connect();
            pair.run();
            assert_agreed(&mut pair);
        }
    }
}

#[test]
fn a_first_sync_of_any_size_arrives_from_either_side() {
    for (seed, count) in [5, 70, 600].into_iter().enumerate() {
        for author in [DEVICE, SERVER] {
            let mut pair = tiny(seed as u64);
            (0..count).for_each(|n| pair.host(author).write(&key("cars", n), 0, n));
            pair.sync();
            assert_agreed(&mut pair);
        }
    }
}

#[test]
fn a_group_is_one_update_as_long_as_that_has_room() {
    let mut pair = tiny(1);
    pair.sync();
    pair.disconnect();
    (0..20).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
    pair.connect();
    pair.run();
    let whole = |event: &SessionEvent| matches!(event, SessionEvent::Applied { count: 20, .. });
    assert_eq!(pair.count(DEVICE, whole), 1, "the host gave it in three parts");
}

#[test]
fn a_group_larger_than_an_update_arrives_wherever_the_update_is_full() {
    let sync_within = |bytes: usize| {
        let mut pair = tiny(1);
        pair.host(SERVER).limits.update_bytes_max = bytes;
        pair.sync();
        pair.disconnect();
        (0..20).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
        pair.connect();
        pair.run();
        assert_agreed(&mut pair);
    };
    // Among the bounds as far apart as a document is large, one is met to the byte.
    (1_000..1_160).for_each(sync_within);
}

#[test]
fn a_receiver_tells_how_far_it_is_each_half_of_the_window() {
    let mut pair = Pair::new(1, &["cars"]);
    let limits = Limits { window_bytes: 256 << 10, ..Limits::PROTOCOL };
    (pair.host(DEVICE).limits, pair.host(SERVER).limits) = (limits, limits);
    pair.sync();
    (0..4_500).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
    pair.record = Some(Vec::new());
    pair.run();
    pair.assert_converged();
    let frames = pair.record.take().expect("they are recorded");
    let told = frames.iter().filter_map(|bytes| match frame_of(bytes) {
        Frame::Got(got) => Some(got.payload_bytes),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [128 << 10, 256 << 10]);
}

#[test]
fn only_the_last_part_of_a_large_group_carries_its_position() {
    let mut pair = tiny(2);
    pair.sync();
    pair.disconnect();
    (0..300).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
    pair.record = Some(Vec::new());
    pair.connect();
    pair.run();
    let frames = pair.record.take().expect("it was recorded");
    let begins: Vec<UpdBegin> = frames
        .iter()
        .filter_map(|bytes| match frame_of(bytes) {
            Frame::UpdBegin(begin) if begin.item_count > 0 => Some(begin),
            _ => None,
        })
        .collect();
    assert!(begins.len() > 5, "{} parts", begins.len());
    let (last, parts) = begins.split_last().expect("there are many");
    assert!(parts.iter().all(|begin| begin.upto.is_none()), "a part is not the whole");
    assert_eq!(last.upto.map(|upto| upto.txn.0), Some(pair.host(SERVER).txn));
}

#[test]
fn documents_that_come_again_in_full_come_in_updates_of_the_target_s_size() {
    let mut pair = tiny(4);
    // Twenty fields of 32 bytes each: an edit of one is small, the whole document is larger than the target.
    let cars: Vec<_> = (0..20).map(|n| key("cars", n)).collect();
    let server = pair.host(SERVER);
    (0..20).for_each(|field| cars.iter().for_each(|car| server.write(car, field, 0)));
    pair.sync();
    pair.disconnect();
    // The device loses them without a trace, so it has the base of no edit.
    pair.host(DEVICE).docs.clear();
    cars.iter().for_each(|car| pair.host(SERVER).write(car, 0, 1));
    pair.record = Some(Vec::new());
    pair.connect();
    pair.run();
    pair.assert_converged();
    let frames = pair.record.take().expect("it was recorded");
    let bytes = frames.iter().filter_map(|bytes| match frame_of(bytes) {
        Frame::UpdBegin(begin) => Some(begin.payload_bytes),
        _ => None,
    });
    let bytes: Vec<u64> = bytes.collect();
    assert!(bytes.len() > cars.len(), "each of them comes by itself: {bytes:?}");
    assert!(bytes.iter().all(|bytes| *bytes <= TINY.update_bytes_max as u64), "{bytes:?}");
}

fn frame_of(bytes: &[u8]) -> Frame {
    frame::decode(bytes).expect("it is ours").expect("its kind is known")
}

#[test]
fn any_number_of_refusals_is_settled_at_once_and_for_good() {
    // Far more than the outputs that one call may leave, and more than one event lists.
    let count = 1_100;
    let mut pair = Pair::new(3, &["cars"]);
    pair.host(DEVICE).limits.outputs_max = 64;
    pair.sync();
    pair.disconnect();
    for n in 0..count {
        pair.host(DEVICE).write(&key("cars", n), 0, n);
        pair.host(SERVER).forbidden.insert(key("cars", n));
    }
    pair.host(DEVICE).write(&key("cars", count), 0, 0);
    pair.connect();
    pair.run();
    let server = pair.host(SERVER).peer_key;
    assert_eq!(pair.host(DEVICE).remotes[&server].owed.len() as u64, count);
    assert_eq!(pair.session(DEVICE).status().rejected_count, count);
    let told = |event: &SessionEvent| matches!(event, SessionEvent::Rejected { listed, count: 1_100 } if listed.len() == 1_000);
    assert_eq!(pair.count(DEVICE, told), 1);
    assert_eq!(pair.host(SERVER).docs.len(), 1, "the rest of the update was applied");
    pair.resync();
    assert_eq!(pair.session(DEVICE).status().rejected_count, 0, "nothing is sent again");
}

/// Another wish each time: the documents whose field 0 is `value`.
fn wish(value: u64) -> Vec<Subscription> {
    vec![query(&format!("cars?0={value}"))]
}

fn rounds(pair: &mut Pair) -> usize {
    let frames = pair.record.replace(Vec::new()).expect("it is recorded");
    frames.iter().filter(|bytes| matches!(frame_of(bytes), Frame::Start(_))).count()
}

#[test]
fn wishes_that_change_a_hundred_times_at_once_cost_two_rounds() {
    let mut pair = Pair::new(1, &["cars?0=0"]);
    pair.host(SERVER).write(&key("cars", 1), 0, 100);
    pair.sync();
    pair.record = Some(Vec::new());
    for value in 1..=100 {
        pair.host(DEVICE).interest = Interest::of(wish(value));
        let now = pair.now(DEVICE);
        pair.session(DEVICE).set_subscriptions(wish(value), now);
        pair.drain();
    }
    pair.run();
    assert_eq!(rounds(&mut pair), 2, "for the first of them and for the last");
    assert_eq!(pair.host(DEVICE).docs.len(), 1);
    assert_agreed(&mut pair);
}

#[test]
fn rounds_keep_a_pace() {
    let mut pair = Pair::new(2, &["cars?0=0"]);
    (1..=40).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
    pair.sync();
    pair.record = Some(Vec::new());
    for value in 1..=40 {
        pair.host(DEVICE).interest = Interest::of(wish(value));
        let now = pair.now(DEVICE);
        pair.session(DEVICE).set_subscriptions(wish(value), now);
        pair.drain();
        pair.run();
    }
    assert_eq!(rounds(&mut pair), 15, "with the very first, as many as may begin at once");
    assert_eq!(pair.host(DEVICE).docs.len(), 15);
    pair.pass(Duration::from_secs(1));
    pair.run();
    assert_eq!(rounds(&mut pair), 1, "the next when it is due");
    pair.pass(Duration::from_secs(1));
    pair.run();
    assert!(pair.host(DEVICE).docs.contains_key(&key("cars", 40)), "it is the newest wish");
    assert_agreed(&mut pair);
}

#[test]
fn a_peer_that_does_not_wait_for_an_answer_to_its_wishes_is_closed() {
    let mut pair = Pair::new(3, &["cars"]);
    pair.sync();
    for version in 2..=100 {
        let subs = Subs {
            version,
            interest: Interest::of(wish(version)),
            evict_generation: 0,
            write_permission: 0,
            cursor: None,
            stale: false,
            seen: None,
            reached: None,
        };
        let (bytes, now) = (frame::encode(&Frame::Subs(Box::new(subs))), pair.now(SERVER));
        pair.session(SERVER).handle_frame(&bytes, now);
        pair.drain();
    }
    let expected = ProtocolError::WindowOverrun { frame: "Subs", limit: 16 };
    assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Protocol(expected)));
}

#[test]
fn subscriptions_have_a_bound_together() {
    let texts: Vec<String> = (0..9).map(|n| format!("{n}{}", "x".repeat(32_000))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let decoded = |texts: &[&str]| {
        let subs = Subs {
            version: 1,
            interest: super::host::queries(texts),
            evict_generation: 0,
            write_permission: 0,
            cursor: None,
            stale: false,
            seen: None,
            reached: None,
        };
        frame::decode(&frame::encode(&Frame::Subs(Box::new(subs))))
    };
    assert!(decoded(&texts[..8]).is_ok());
    let field = "bytes of all subscriptions";
    let (found, limit) = (9 * 32_001, SUBSCRIPTIONS_BYTES_MAX as u64);
    let expected = ProtocolError::TooMany { frame: "Subs", field, found, limit };
    assert_eq!(decoded(&texts), Err(expected));
}

#[test]
fn an_acknowledgement_of_many_tombstones_goes_out_in_frames_of_a_bounded_size() {
    const DOCUMENTS: u64 = 4_000;
    let mut pair = Pair::new(1, &["cars"]);
    (0..DOCUMENTS).for_each(|n| pair.host(DEVICE).write(&key("cars", n), 0, 1));
    pair.sync();
    pair.disconnect();
    for n in 0..DOCUMENTS {
        pair.host(SERVER).delete(&key("cars", n));
        pair.host(DEVICE).write(&key("cars", n), 0, 2);
    }
    pair.record = Some(Vec::new());
    pair.connect();
    pair.run();
    pair.assert_converged();
    let frames = pair.record.take().expect("they are recorded");
    let is_ack = |bytes: &&bytes::Bytes| matches!(frame::decode(bytes), Ok(Some(Frame::Ack(_))));
    let sizes: Vec<_> = frames.iter().filter(is_ack).map(bytes::Bytes::len).collect();
    let (all, largest) = (sizes.iter().sum::<usize>(), sizes.iter().max());
    assert!(all > 2 * frame::CHUNK_BYTES_MAX, "{all} bytes are more than a frame takes");
    assert!(largest.is_some_and(|bytes| *bytes <= frame::CHUNK_BYTES_MAX + 1_024), "{sizes:?}");
}
