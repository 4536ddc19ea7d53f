//! Deadlines, probes and goodbyes.

use std::time::Duration;

use super::host::key;
use super::pair::{DEVICE, Pair, SERVER};
use crate::ident::Txn;
use crate::sync::*;

#[test]
fn idle_sessions_stay_open_on_pings() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    pair.pass(Duration::from_secs(600));
    assert_eq!(pair.sides[DEVICE].closed, None);
    assert_eq!(pair.sides[SERVER].closed, None);
}

#[test]
fn a_session_at_rest_wakes_for_its_ping_and_not_before() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    for at in [DEVICE, SERVER] {
        let ping = pair.time.after(Duration::from_secs(30));
        assert_eq!(pair.session(at).poll_timeout(), Some(ping));
    }
}

#[test]
fn a_long_reason_for_a_goodbye_is_cut_to_what_the_remote_takes() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    // The cut falls into a character of two bytes.
    let reason = format!("-{}", "é".repeat(300));
    let now = pair.now(SERVER);
    pair.session(SERVER).handle_host(HostEvent::Failed { reason }, now);
    pair.drain();
    while pair.step() {}
    let closed = pair.sides[DEVICE].closed.take();
    let Some(CloseReason::Remote { reason: ByeReason::Unavailable, text }) = closed else {
        panic!("the device hears it: {closed:?}");
    };
    assert!((250..=256).contains(&text.len()) && text.ends_with('é'), "{text}");
}

#[test]
fn a_silent_remote_is_dead_after_a_while() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    pair.is_cut = true;
    let start = pair.time;
    pair.pass(Duration::from_secs(100));
    assert_eq!(pair.sides[DEVICE].closed, Some(CloseReason::Dead(75)));
    assert!(pair.time.since(start) <= Duration::from_secs(76));
}

#[test]
fn no_hello_ends_the_session() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.is_cut = true;
    pair.connect();
    pair.is_cut = true;
    pair.sides[SERVER].session = None;
    pair.pass(Duration::from_secs(20));
    assert_eq!(pair.sides[DEVICE].closed, Some(CloseReason::HelloTimeout(15)));
}

#[test]
fn a_remote_that_never_acknowledges_is_closed() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    pair.host(SERVER).write(&key("cars", 1), 0, 1);
    // The device's host takes the update and never answers; its session lives on.
    let is_apply = |pair: &mut Pair| {
        let bytes = pair.session(DEVICE).status().bytes;
        bytes.1
    };
    let before = is_apply(&mut pair);
    pair.sides[DEVICE].freeze_host = true;
    while pair.step() {}
    assert!(is_apply(&mut pair) > before);
    pair.pass(Duration::from_secs(200));
    assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Stalled(120)));
}

#[test]
fn a_probe_is_answered_once_both_sides_have_everything() {
    for seed in 0..30 {
        let mut pair = Pair::new(seed, &["cars"]);
        (0..9).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
        (20..29).for_each(|n| pair.host(DEVICE).write(&key("cars", n), 0, n));
        pair.connect();
        let now = pair.now(DEVICE);
        let probe = pair.session(DEVICE).probe(now);
        pair.drain();
        let synced = SessionEvent::Synced { probe };
        while pair.count(DEVICE, |event| *event == synced) == 0 {
            assert!(pair.step(), "a probe is answered without further writes");
        }
        pair.assert_converged();
    }
}

#[test]
fn of_many_probes_before_a_session_is_open_the_newest_are_asked() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.connect();
    let now = pair.now(DEVICE);
    let probes: Vec<u64> = (0..40).map(|_| pair.session(DEVICE).probe(now)).collect();
    // More than its window would close the session at the server.
    pair.run();
    let is_answered = |probe| pair.count(DEVICE, |event| *event == SessionEvent::Synced { probe });
    let answered: Vec<usize> = probes.into_iter().map(is_answered).collect();
    assert_eq!(answered, [vec![0; 24], vec![1; 16]].concat());
}

#[test]
fn a_probe_is_answered_when_nothing_matches() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    (0..9).for_each(|n| pair.host(SERVER).write(&key("other", n), 0, n));
    let now = pair.now(DEVICE);
    let probe = pair.session(DEVICE).probe(now);
    pair.drain();
    pair.run();
    assert_eq!(pair.count(DEVICE, |event| *event == SessionEvent::Synced { probe }), 1);
}

#[test]
fn a_cursor_moves_on_while_nothing_matches() {
    let mut pair = Pair::new(1, &["cars?0=1"]);
    pair.sync();
    (0..9).for_each(|n| pair.host(SERVER).write(&key("cars", n), 1, n));
    let end = Txn(pair.host(SERVER).txn);
    pair.pass(Duration::from_secs(1_260));
    let cursor = pair.session(DEVICE).status().cursor.expect("a cursor was granted");
    assert!(cursor.position.txn >= end, "{cursor:?}");
}

#[test]
fn a_goodbye_reaches_the_other_side_with_its_reason() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    pair.session(SERVER).close(ByeReason::Replaced);
    pair.drain();
    while pair.step() {}
    assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Local(ByeReason::Replaced)));
    let Some(CloseReason::Remote { reason, .. }) = &pair.sides[DEVICE].closed else {
        panic!("the device heard no goodbye");
    };
    assert_eq!(*reason, ByeReason::Replaced);
    assert_eq!(pair.session(SERVER).poll_timeout(), None);
}

#[test]
fn a_remote_is_pinged_as_soon_as_it_has_been_silent_for_so_long() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.sync();
    // Both say something between two of the deadlines.
    pair.time = pair.time.after(Duration::from_secs(20));
    let now = pair.now(DEVICE);
    pair.session(DEVICE).probe(now);
    pair.drain();
    pair.run();
    let heard = pair.time;
    pair.record = Some(Vec::new());
    while pair.frames_with(|facts| facts.name == "Ping").next().is_none() {
        pair.jump();
        pair.run();
    }
    assert_eq!(pair.time.since(heard), Duration::from_secs(30));
}
