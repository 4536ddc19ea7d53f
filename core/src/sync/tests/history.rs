//! Restored, cloned and re-created stores.

use super::host::key;
use super::pair::{DEVICE, Pair, SERVER};
use crate::sync::SessionEvent;
use crate::sync::frame::{Frame, decode};
use crate::sync::host::NONCES_KEPT;
use crate::time::Hlc;

fn write_some(pair: &mut Pair, at: usize, from: u64, count: u64) {
    for n in from..from + count {
        pair.host(at).write(&key("cars", n), 0, n);
    }
}

#[test]
fn a_restored_server_gets_back_what_it_lost() {
    let mut pair = Pair::new(1, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 20);
    pair.sync();
    pair.disconnect();
    let backup = pair.host(SERVER).clone();
    pair.sync();
    write_some(&mut pair, DEVICE, 100, 20);
    write_some(&mut pair, SERVER, 200, 20);
    pair.run();
    pair.disconnect();
    *pair.host(SERVER) = backup;
    pair.host(SERVER).restart(77);
    pair.host(SERVER).actor += 1;
    // It writes beyond the position that the device remembers.
    write_some(&mut pair, SERVER, 300, 60);
    pair.sync();
    pair.assert_converged();
    assert!(pair.host(SERVER).docs.contains_key(&key("cars", 210)), "the device gave it back");
}

#[test]
fn a_server_put_back_to_before_a_meeting_that_changed_nothing_hears_of_it() {
    let mut pair = Pair::new(1, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 3);
    let is_stale =
        |event: &SessionEvent| matches!(event, SessionEvent::StoreDiverged { stale: true, .. });
    pair.sync();
    pair.disconnect();
    let backup = pair.host(SERVER).clone();
    // No position tells of this session: its nonce alone does.
    pair.sync();
    pair.disconnect();
    assert_eq!(pair.count(SERVER, is_stale), 0);
    *pair.host(SERVER) = backup;
    pair.sync();
    assert_eq!((pair.count(SERVER, is_stale), pair.count(DEVICE, is_stale)), (1, 0));
    pair.assert_converged();
}

#[test]
fn a_restored_device_takes_a_new_epoch_and_misses_nothing() {
    let mut pair = Pair::new(2, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    pair.disconnect();
    let backup = pair.host(DEVICE).clone();
    pair.sync();
    write_some(&mut pair, DEVICE, 100, 30);
    write_some(&mut pair, SERVER, 200, 30);
    pair.run();
    pair.disconnect();
    *pair.host(DEVICE) = backup;
    write_some(&mut pair, DEVICE, 300, 5);
    pair.sync();
    assert_eq!(pair.host(DEVICE).epochs, 1, "a stale nonce asks for a new epoch");
    pair.assert_converged();
    pair.resync();
    assert_eq!(pair.host(DEVICE).epochs, 1, "once");
}

#[test]
fn a_device_restored_to_a_moment_within_a_session_misses_nothing() {
    let mut pair = Pair::new(6, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    let backup = pair.host(DEVICE).clone();
    write_some(&mut pair, DEVICE, 100, 30);
    pair.run();
    pair.disconnect();
    *pair.host(DEVICE) = backup;
    pair.host(DEVICE).restart(77);
    pair.host(DEVICE).actor += 1;
    write_some(&mut pair, DEVICE, 300, 5);
    pair.sync();
    pair.assert_converged();
    assert!(pair.host(DEVICE).docs.contains_key(&key("cars", 110)), "the server gave it back");
    let epochs = pair.host(DEVICE).epochs;
    pair.resync();
    assert_eq!((epochs, pair.host(DEVICE).epochs), (1, 1));
}

#[test]
fn a_restored_device_gets_back_what_a_server_has_without_a_cursor() {
    let mut pair = Pair::new(7, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    let backup = pair.host(DEVICE).clone();
    let (device, server) = (backup.peer_key, pair.host(SERVER).peer_key);
    let cursor = pair.host(SERVER).remotes[&device].cursor;
    write_some(&mut pair, DEVICE, 100, 30);
    pair.run();
    pair.disconnect();
    *pair.host(DEVICE) = backup;
    // The server kept the edits, and whose they are, and not yet how far in the device's log they reach.
    let actor = pair.host(DEVICE).config(server).local.actor;
    let record = pair.host(SERVER).remotes.get_mut(&device).unwrap();
    record.cursor = cursor;
    record.seen = Some((actor, Hlc(1)));
    pair.host(DEVICE).restart(77);
    pair.host(DEVICE).actor += 1;
    pair.sync();
    pair.assert_converged();
    assert!(pair.host(DEVICE).docs.contains_key(&key("cars", 110)), "the server gave it back");
}

/// A device that was put back to a moment within its last session, of which the server kept the edits, and not yet how
/// far in the device's log they reach. It edited documents 100 to 129 after that moment.
fn put_back_within_a_session(seed: u64) -> Pair {
    let mut pair = Pair::new(seed, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    let backup = pair.host(DEVICE).clone();
    let cursor = pair.host(SERVER).remotes[&backup.peer_key].cursor;
    write_some(&mut pair, DEVICE, 100, 30);
    pair.run();
    pair.disconnect();
    pair.host(SERVER).remotes.get_mut(&backup.peer_key).expect("they have met").cursor = cursor;
    *pair.host(DEVICE) = backup;
    pair.host(DEVICE).restart(77);
    pair
}

#[test]
fn a_device_that_was_put_back_and_goes_on_with_its_actor_misses_nothing() {
    let mut pair = put_back_within_a_session(8);
    pair.sync();
    pair.assert_converged();
    assert!(pair.host(DEVICE).docs.contains_key(&key("cars", 110)), "the server gave it back");
    assert_eq!(pair.host(DEVICE).epochs, 1);
}

#[test]
fn an_edit_that_was_taken_before_all_was_offered_makes_no_cursor_good() {
    for steps in 0..120 {
        let mut pair = put_back_within_a_session(steps);
        pair.host(DEVICE).actor += 1;
        write_some(&mut pair, DEVICE, 300, 3);
        for _ in 0..2 {
            pair.break_off_after(steps);
        }
        pair.sync();
        pair.assert_converged();
        let has = pair.host(DEVICE).docs.contains_key(&key("cars", 110));
        assert!(has, "the server gave it back, after {steps} steps");
    }
}

#[test]
fn a_rolled_back_device_whose_sessions_break_hears_of_it_all_the_same() {
    for steps in 0..40 {
        let mut pair = Pair::new(steps, &["cars"]);
        write_some(&mut pair, DEVICE, 0, 3);
        pair.sync();
        pair.disconnect();
        let backup = pair.host(DEVICE).clone();
        // Nothing of this session is taken: the nonces alone tell.
        pair.sync();
        pair.disconnect();
        *pair.host(DEVICE) = backup;
        for _ in 0..3 {
            pair.break_off_after(steps);
        }
        pair.sync();
        assert!(pair.host(DEVICE).epochs > 0, "after {steps} steps");
        pair.assert_converged();
    }
}

#[test]
fn a_new_epoch_alone_is_no_reason_to_offer_everything() {
    let mut pair = Pair::new(9, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    pair.disconnect();
    let device = pair.host(DEVICE).peer_key;
    let actor = pair.host(DEVICE).config(device).local.actor;
    pair.host(SERVER).remotes.get_mut(&device).expect("they have met").seen = Some((actor, Hlc(1)));
    pair.host(DEVICE).actor += 1;
    pair.record = Some(Vec::new());
    pair.sync();
    let frames = pair.record.take().unwrap_or_default();
    let is_offer = |frame: &bytes::Bytes| matches!(decode(frame), Ok(Some(Frame::Offer(_))));
    assert_eq!(frames.iter().filter(|frame| is_offer(frame)).count(), 0);
}

#[test]
fn a_restored_device_that_is_cut_off_while_it_reconciles_misses_nothing() {
    for (steps, in_session) in (0..120).flat_map(|steps| [(steps, false), (steps, true)]) {
        let mut pair = Pair::new(steps, &["cars"]);
        write_some(&mut pair, DEVICE, 0, 3);
        pair.sync();
        let mut backup = pair.host(DEVICE).clone();
        if !in_session {
            pair.disconnect();
            backup = pair.host(DEVICE).clone();
            pair.sync();
        }
        write_some(&mut pair, DEVICE, 100, 3);
        pair.run();
        pair.disconnect();
        *pair.host(DEVICE) = backup;
        pair.host(DEVICE).restart(77);
        pair.host(DEVICE).actor += 1;
        pair.break_off_after(steps);
        pair.sync();
        pair.assert_converged();
    }
}

#[test]
fn of_two_clones_the_second_takes_a_new_epoch() {
    let mut pair = Pair::new(3, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    pair.disconnect();
    let clone = pair.host(DEVICE).clone();
    pair.sync();
    write_some(&mut pair, DEVICE, 100, 10);
    pair.run();
    pair.disconnect();
    let first = std::mem::replace(pair.host(DEVICE), clone);
    pair.sync();
    assert_eq!(first.epochs, 0);
    assert_eq!(pair.host(DEVICE).epochs, 1);
    pair.assert_converged();
}

#[test]
fn of_two_clones_that_met_the_server_often_the_second_takes_a_new_epoch() {
    let mut pair = Pair::new(3, &["cars"]);
    write_some(&mut pair, DEVICE, 0, 10);
    pair.sync();
    for _ in 0..2 * NONCES_KEPT {
        pair.resync();
    }
    pair.disconnect();
    let clone = pair.host(DEVICE).clone();
    // The first one says nothing new: no position tells, the nonce alone does.
    pair.sync();
    pair.disconnect();
    let first = std::mem::replace(pair.host(DEVICE), clone);
    write_some(&mut pair, DEVICE, 100, 10);
    pair.sync();
    assert_eq!((first.epochs, pair.host(DEVICE).epochs), (0, 1));
    pair.assert_converged();
}

#[test]
fn a_lost_cursor_reconciles() {
    for forget in [DEVICE, SERVER] {
        let mut pair = Pair::new(4, &["cars"]);
        write_some(&mut pair, DEVICE, 0, 10);
        write_some(&mut pair, SERVER, 50, 10);
        pair.sync();
        pair.disconnect();
        write_some(&mut pair, DEVICE, 5, 10);
        write_some(&mut pair, SERVER, 55, 10);
        pair.host(forget).remotes.clear();
        pair.sync();
        pair.assert_converged();
    }
}

#[test]
fn sessions_that_die_before_they_are_open_are_no_restore() {
    for steps in 0..12 {
        let mut pair = Pair::new(steps, &["cars"]);
        write_some(&mut pair, DEVICE, 0, 3);
        pair.sync();
        pair.disconnect();
        for _ in 0..3 {
            pair.break_off_after(steps);
        }
        pair.sync();
        pair.assert_converged();
        assert_eq!(pair.host(DEVICE).epochs + pair.host(SERVER).epochs, 0, "after {steps} steps");
    }
}

#[test]
fn a_store_that_was_made_anew_is_not_taken_for_a_rolled_back_one() {
    let mut pair = Pair::new(5, &["cars"]);
    write_some(&mut pair, SERVER, 0, 10);
    pair.sync();
    pair.disconnect();
    let mut fresh = Pair::new(5, &["cars"]).sides.into_iter().next().unwrap().host;
    fresh.store = crate::ident::StoreId(crate::ident::Uuid([42; 16]));
    fresh.boots.log = crate::ident::LogId(crate::ident::Uuid([42; 16]));
    *pair.host(DEVICE) = fresh;
    pair.sync();
    pair.assert_converged();
    assert_eq!(pair.host(DEVICE).epochs, 0);
}
