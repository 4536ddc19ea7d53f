//! Bounds that are met: small ones here, on which an honest pair never stops.

use super::host::key;
use super::pair::{DEVICE, Pair, SERVER};
use crate::sync::frame::{self, Frame, UpdBegin};
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
