//! Whatever is edited, deleted and evicted, and wherever the connection breaks, both sides end alike.

use super::host::{key, queries, query};
use super::pair::{DEVICE, Pair, SERVER};
use crate::sync::*;

/// Random work on both sides, some of it leaving and entering the device's interest.
fn edit(pair: &mut Pair, count: u64) {
    for _ in 0..count {
        let at = pair.rng.below(2) as usize;
        let collection = if pair.rng.one_in(4) { "other" } else { "cars" };
        let doc = key(collection, pair.rng.below(12));
        let (field, value) = (pair.rng.below(3), pair.rng.below(2));
        match pair.rng.below(12) {
            0 => pair.host(at).delete(&doc),
            _ if at == DEVICE && collection == "other" => {}
            _ => pair.host(at).write(&doc, field, value),
        }
    }
}

#[test]
fn random_edits_converge_on_the_known_and_the_unknown_path() {
    for seed in 0..40 {
        let mut pair = Pair::new(seed, &["cars"]);
        edit(&mut pair, 30);
        pair.sync();
        pair.assert_converged();
        for _ in 0..4 {
            edit(&mut pair, 8);
            pair.run();
            pair.assert_converged();
            edit(&mut pair, 8);
            pair.resync();
            pair.assert_converged();
        }
    }
}

#[test]
fn edits_during_every_step_converge() {
    for seed in 0..60 {
        let mut pair = Pair::new(seed, &["cars?0=1", "other"]);
        edit(&mut pair, 20);
        pair.connect();
        for _ in 0..200 {
            if pair.rng.one_in(4) {
                edit(&mut pair, 1);
            }
            pair.step();
        }
        pair.run();
        pair.resync();
        pair.assert_converged();
    }
}

#[test]
fn a_connection_that_breaks_after_any_number_of_events_loses_nothing() {
    for cut in 1..160 {
        let mut pair = Pair::new(cut, &["cars?0=1"]);
        edit(&mut pair, 24);
        for round in 0..3 {
            pair.connect();
            for _ in 0..cut * (round + 1) / 2 {
                pair.step();
            }
            pair.disconnect();
            edit(&mut pair, 4);
        }
        pair.sync();
        pair.assert_converged();
        pair.resync();
        pair.assert_converged();
    }
}

#[test]
fn evicted_documents_come_back_if_they_still_match() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed, &["cars"]);
        edit(&mut pair, 30);
        pair.sync();
        for n in 0..12 {
            pair.host(DEVICE).evict(&key("cars", n));
        }
        pair.resync();
        pair.assert_converged();
        assert_eq!(pair.host(DEVICE).epochs, 0, "an eviction is no restore");
    }
}

#[test]
fn an_eviction_inside_a_session_reconciles_it() {
    let mut pair = Pair::new(7, &["cars"]);
    edit(&mut pair, 30);
    pair.sync();
    for n in 0..12 {
        pair.host(DEVICE).evict(&key("cars", n));
    }
    let (generation, now) = (pair.host(DEVICE).evict_generation, pair.now(DEVICE));
    pair.session(DEVICE).handle_host(HostEvent::Evicted { generation }, now);
    pair.drain();
    pair.run();
    pair.assert_converged();
}

#[test]
fn a_document_evicted_on_the_server_stays_on_the_device_marked() {
    let mut pair = Pair::new(1, &["cars"]);
    pair.host(DEVICE).write(&key("cars", 1), 0, 1);
    pair.sync();
    assert!(pair.host(SERVER).evict(&key("cars", 1)));
    pair.host(DEVICE).remotes.clear();
    pair.host(SERVER).remotes.clear();
    pair.resync();
    assert!(pair.host(DEVICE).docs[&key("cars", 1)].is_evicted_there);
    assert!(!pair.host(SERVER).docs.contains_key(&key("cars", 1)));
    pair.host(DEVICE).write(&key("cars", 1), 0, 2);
    pair.run();
    assert_eq!(pair.host(SERVER).docs[&key("cars", 1)].doc.field(0), Some(2));
}

#[test]
fn a_document_that_leaves_the_interest_is_told_to_its_holder() {
    let mut pair = Pair::new(3, &["cars?0=1"]);
    pair.host(SERVER).write(&key("cars", 1), 0, 1);
    pair.sync();
    pair.host(SERVER).write(&key("cars", 1), 0, 0);
    pair.run();
    assert_eq!(pair.host(DEVICE).docs[&key("cars", 1)].doc.field(0), Some(0));
    pair.host(SERVER).write(&key("cars", 1), 1, 5);
    pair.run();
    assert_eq!(
        pair.host(DEVICE).docs[&key("cars", 1)].doc.field(1),
        None,
        "it left: no more of it"
    );
}

#[test]
fn a_document_that_left_while_the_cursor_was_lost_is_told_too() {
    let mut pair = Pair::new(3, &["cars?0=1"]);
    pair.host(SERVER).write(&key("cars", 1), 0, 1);
    pair.sync();
    pair.disconnect();
    pair.host(SERVER).write(&key("cars", 1), 0, 0);
    pair.host(DEVICE).remotes.clear();
    pair.sync();
    pair.assert_converged();
}

#[test]
fn a_deletion_reaches_a_device_even_as_residue() {
    let mut pair = Pair::new(5, &["cars"]);
    pair.host(SERVER).write(&key("cars", 1), 0, 1);
    pair.sync();
    pair.disconnect();
    pair.host(SERVER).delete(&key("cars", 1));
    pair.host(SERVER).docs.get_mut(&key("cars", 1)).unwrap().is_residue = true;
    let floor = crate::ident::Txn(pair.host(SERVER).txn);
    pair.host(SERVER).boots.purge_floor = floor;
    pair.sync();
    assert!(pair.host(DEVICE).docs[&key("cars", 1)].doc.deleted);
}

#[test]
fn changed_subscriptions_bring_what_they_add() {
    let mut pair = Pair::new(9, &["cars"]);
    edit(&mut pair, 40);
    pair.sync();
    pair.host(DEVICE).interest = queries(&["cars", "other"]);
    let now = pair.now(DEVICE);
    pair.session(DEVICE).set_subscriptions(vec![query("other"), query("cars")], now);
    pair.drain();
    pair.run();
    pair.assert_converged();
    assert!(pair.host(DEVICE).docs.keys().any(|key| key.collection == "other"));
}

#[test]
fn subscriptions_that_change_in_every_state_converge() {
    for cut in 1..120 {
        let mut pair = Pair::new(cut, &["cars?0=1"]);
        edit(&mut pair, 24);
        pair.connect();
        for _ in 0..cut {
            pair.step();
        }
        pair.host(DEVICE).interest = queries(&["cars", "other"]);
        let now = pair.now(DEVICE);
        pair.session(DEVICE).set_subscriptions(vec![query("cars"), query("other")], now);
        pair.drain();
        pair.run();
        pair.assert_converged();
    }
}

#[test]
fn two_devices_of_one_interest_converge_without_a_server() {
    let mut pair = Pair::new(11, &["cars"]);
    pair.host(SERVER).role = Role::Device;
    pair.host(SERVER).interest = queries(&["cars"]);
    pair.host(DEVICE).write(&key("cars", 1), 0, 1);
    pair.host(SERVER).write(&key("cars", 1), 1, 1);
    pair.host(SERVER).write(&key("cars", 2), 1, 1);
    pair.sync();
    pair.assert_converged();
    assert_eq!(pair.host(DEVICE).docs.len(), 2);
}

#[test]
fn an_update_of_many_chunks_arrives_whole() {
    let mut pair = Pair::new(2, &["cars"]);
    for n in 0..40_000 {
        pair.host(SERVER).write(&key("cars", n), 0, n);
    }
    pair.sync();
    pair.assert_converged();
    let applied =
        |event: &SessionEvent| matches!(event, SessionEvent::Applied { count, .. } if *count > 1);
    assert!(pair.count(DEVICE, applied) >= 1);
    // From here on one update of the known path carries it all.
    for n in 0..40_000 {
        pair.host(SERVER).write(&key("cars", n), 1, n);
    }
    let before = pair.count(DEVICE, applied);
    pair.run();
    assert_eq!(pair.count(DEVICE, applied) - before, 1, "one update is one record");
    pair.assert_converged();
}

#[test]
fn a_group_larger_than_an_update_goes_in_parts() {
    let mut pair = Pair::new(2, &["cars"]);
    pair.host(SERVER).limits =
        Limits { update_target_bytes: 2_000, update_bytes_max: 4_000, ..Limits::default() };
    pair.sync();
    for n in 0..500 {
        pair.host(SERVER).write(&key("cars", n), 0, n);
    }
    pair.run();
    pair.assert_converged();
    let applied = pair.count(DEVICE, |event| matches!(event, SessionEvent::Applied { .. }));
    assert!(applied > 10, "{applied} updates");
}
