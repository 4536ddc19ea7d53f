//! The schedules that broke earlier rules, each as a test of the rule that holds.

use super::*;
use crate::document::{ApplyError, Fields, Objects};

#[test]
fn two_concurrent_deletes_do_not_diverge() {
    // Marks that kept only the latest dot with a joined context: B's removal was lost on the way to C.
    let (mut a, mut b) = two(r#"{"f":1}"#);
    let mut c = Document::new();
    send(&a, &mut c);
    commit(&mut c, dot('C', 6), |edit| set(edit, "f", "2"));
    let c_write = c.clone();
    commit(&mut a, dot('A', 9), |edit| edit.delete(false));
    send(&c_write, &mut b);
    commit(&mut b, dot('B', 8), |edit| edit.delete(false));
    send(&a, &mut c);
    exchange(&mut a, &mut b);
    exchange(&mut b, &mut c);
    assert_eq!(a.canonical_bytes(), b.canonical_bytes());
    assert_eq!((shown(&a), shown(&c)), ("deleted".to_owned(), "deleted".to_owned()));
}

#[test]
fn a_removal_does_not_uncover_what_its_entry_had_beaten_elsewhere() {
    // One last-writer entry beside causal removal: whether A's write came back depended on who merged first.
    let mut peers: [Document; 3] = Default::default();
    commit(&mut peers[0], dot('A', 1), |edit| set(edit, "f", "1"));
    commit(&mut peers[1], dot('B', 2), |edit| set(edit, "f", "2"));
    let b_alone = peers[1].clone();
    send(&b_alone, &mut peers[2]);
    commit(&mut peers[2], dot('C', 3), |edit| unset(edit, "f"));
    let [mut one, two, three] = peers;
    let mut other = one.clone();
    send(&two, &mut one);
    send(&three, &mut one);
    send(&three, &mut other);
    send(&two, &mut other);
    assert_eq!(one.canonical_bytes(), other.canonical_bytes());
    assert_eq!(shown(&one), r#"{"f":1}"#);
}

#[test]
fn strictness_is_sticky_beside_a_second_plain_delete() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    let mut c = Document::new();
    send(&a, &mut c);
    commit(&mut a, dot('A', 30), |edit| edit.delete(true));
    commit(&mut b, dot('B', 31), |edit| set(edit, "f", "2"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), "deleted", "the strict delete hides the concurrent update");
    commit(&mut c, dot('C', 40), |edit| edit.delete(false));
    exchange(&mut a, &mut c);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), "deleted", "a plain delete that arrives later does not uncover it");
}

#[test]
fn strictness_is_sticky_through_a_plain_delete_that_saw_it() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    commit(&mut a, dot('A', 30), |edit| edit.delete(true));
    commit(&mut a, dot('A', 40), |edit| edit.delete(false));
    commit(&mut b, dot('B', 31), |edit| set(edit, "f", "2"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), "deleted");
}

#[test]
fn an_insert_that_saw_a_strict_delete_clears_it() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    commit(&mut a, dot('A', 30), |edit| edit.delete(true));
    commit(&mut b, dot('B', 31), |edit| set(edit, "f", "2"));
    exchange(&mut a, &mut b);
    commit(&mut a, dot('A', 40), |edit| insert(edit, r#"{"g":1}"#));
    assert_eq!(shown(&a), r#"{"g":1}"#, "what the strict delete hid is gone for good");
    let mut c = Document::new();
    send(&a, &mut c);
    commit(&mut a, dot('A', 50), |edit| edit.delete(false));
    commit(&mut c, dot('C', 51), |edit| set(edit, "g", "3"));
    exchange(&mut a, &mut c);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"g":3}"#, "the later plain delete is plain: the update is a husk");
}

#[test]
fn an_insert_beside_a_strict_delete_brings_the_document_back() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    commit(&mut a, dot('A', 30), |edit| edit.delete(true));
    commit(&mut b, dot('B', 31), |edit| insert(edit, r#"{"f":2}"#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"f":2}"#);
}

#[test]
fn s1_edits_of_one_actor_apply_in_rising_order_and_a_late_one_is_skipped_whole() {
    let blank = Document::new();
    let first = prepare(&blank, dot('S', 10), |edit| set(edit, "f", "1"));
    let second = prepare(&blank, dot('S', 12), |edit| set(edit, "g", "2"));
    let mut in_order = blank.clone();
    in_order.apply(&first).expect("the base is met");
    in_order.apply(&second).expect("the base is met");
    assert_eq!(shown(&in_order), r#"{"f":1,"g":2}"#);
    let mut swapped = blank;
    swapped.apply(&second).expect("the base is met");
    let late = swapped.apply(&first).expect("total");
    assert!(!late.changed(), "why the log must never swap them");
    assert_eq!(shown(&swapped), r#"{"g":2}"#);
}

#[test]
fn s2_two_increments_built_on_one_snapshot_both_count() {
    let (mut server, mut device) = two("{}");
    commit(&mut server, dot('S', 9), |edit| edit.increment(&path("n"), 5).expect("in range"));
    let increment = |edit: &mut Edit| edit.increment(&path("n"), 1).expect("in range");
    let deltas = [10, 11].map(|hlc| prepare(&server, dot('S', hlc), increment));
    for delta in &deltas {
        assert!(delta.is_increments_only());
        server.apply(delta).expect("the base is met");
        let again = server.apply(delta).expect("total");
        assert!(!again.changed(), "once, however often the log replays it");
    }
    assert_eq!(shown(&server), r#"{"n":7}"#);
    assert!(!server.diff(device.vector()).has_increments(), "only state travels to peers");
    exchange(&mut server, &mut device);
}

#[test]
fn s3_a_restored_device_under_a_new_actor_loses_nothing() {
    let mut device = Document::new();
    commit(&mut device, dot('A', 50), |edit| set(edit, "f", "1"));
    let mut server = Document::new();
    send(&device, &mut server);
    let backup = device.clone();
    commit(&mut device, dot('A', 80), |edit| set(edit, "g", "1"));
    send(&device, &mut server);
    let mut restored = backup;
    commit(&mut restored, dot('B', 200), |edit| set(edit, "f", "2"));
    exchange(&mut server, &mut restored);
    assert_eq!(shown(&restored), r#"{"f":2,"g":1}"#);
}

#[test]
fn s3_clones_under_two_actors_converge() {
    let mut one = Document::new();
    commit(&mut one, dot('A', 50), |edit| set(edit, "f", "1"));
    let mut other = one.clone();
    let mut server = Document::new();
    send(&one, &mut server);
    commit(&mut one, dot('B', 100), |edit| set(edit, "g", "1"));
    commit(&mut other, dot('C', 105), |edit| set(edit, "f", "2"));
    exchange(&mut server, &mut other);
    exchange(&mut server, &mut one);
    assert_eq!(shown(&one), r#"{"f":2,"g":1}"#);
}

#[test]
fn s4_a_delta_whose_base_was_evicted_is_void() {
    let (_, mut device) = two(r#"{"f":1}"#);
    let delta = commit(&mut device, dot('B', 6), |edit| set(edit, "g", "1"));
    let mut server = Document::new(); // The server's copy went through EVICT in between.
    assert_eq!(server.apply(&delta), Err(ApplyError::NeedBase));
    assert!(server.is_blank(), "an error changes nothing");
    let mut by_digest = delta;
    by_digest.name_base_by_digest(|_| false);
    assert_eq!(server.apply(&by_digest), Err(ApplyError::BaseMismatch));
    exchange(&mut server, &mut device);
    assert_eq!(shown(&server), r#"{"f":1,"g":1}"#, "full state brings it back");
}

fn initial(content: &str) -> Document {
    let Value::Object(object) = value(content) else { panic!("the test gives an object") };
    let edit = Edit::initial(&object, Objects::AsMaps, &Fields::default()).expect("assignable");
    let mut document = Document::new();
    document.apply(&edit.finish().expect("it writes")).expect("the base is met");
    document.check_invariants();
    document
}

#[test]
fn s5_initial_documents_of_two_app_versions_merge() {
    let (mut old, mut new) = (initial(r#"{"f":1}"#), initial(r#"{"f":1,"g":2}"#));
    exchange(&mut old, &mut new);
    assert_eq!(shown(&old), r#"{"f":1,"g":2}"#);
    assert_eq!(initial(r#"{"f":1}"#).canonical_bytes(), initial(r#"{"f":1}"#).canonical_bytes());
}

#[test]
fn initial_documents_written_as_other_types_are_other_events() {
    let Value::Object(object) = value(r#"{"f":{"x":1}}"#) else {
        panic!("the test gives an object")
    };
    let as_register = Edit::initial(&object, Objects::AsRegisters, &Fields::default());
    let as_register = as_register.expect("assignable").document().clone();
    assert_ne!(as_register.vector(), initial(r#"{"f":{"x":1}}"#).vector());
}

#[test]
fn any_real_write_wins_over_initial_content() {
    let mut seeded = initial(r#"{"f":1,"g":2}"#);
    let mut written = Document::new();
    commit(&mut written, dot('A', 2), |edit| insert(edit, r#"{"f":9}"#));
    exchange(&mut seeded, &mut written);
    assert_eq!(shown(&seeded), r#"{"f":9,"g":2}"#);
}

#[test]
fn every_deletion_has_seen_initial_content() {
    let (mut deleted, mut late) = two(r#"{"f":1}"#);
    commit(&mut deleted, dot('A', 30), |edit| edit.delete(false));
    let mut seeded = initial(r#"{"f":1,"g":2}"#);
    exchange(&mut seeded, &mut late);
    exchange(&mut seeded, &mut deleted);
    exchange(&mut late, &mut deleted);
    assert_eq!(shown(&seeded), "deleted");
    commit(&mut deleted, dot('A', 40), |edit| insert(edit, r#"{"h":1}"#));
    exchange(&mut deleted, &mut initial(r#"{"z":1}"#));
    assert_eq!(shown(&deleted), r#"{"h":1}"#);
}

#[test]
fn s6_what_a_tombstone_had_seen_does_not_come_back_after_a_new_insert() {
    let (mut server, mut old) = two(r#"{"f":1}"#);
    commit(&mut server, dot('S', 30), |edit| edit.delete(false));
    let tombstone = server.tombstone().expect("deleted");
    server = Document::from_tombstone(&tombstone);
    server.check_invariants();
    assert_eq!(server.tombstone(), Some(tombstone));
    commit(&mut server, dot('S', 900), |edit| insert(edit, r#"{"g":1}"#));
    exchange(&mut server, &mut old);
    assert_eq!(shown(&old), r#"{"g":1}"#);
}

#[test]
fn s7_an_edit_unseen_by_a_deletion_is_not_mistaken_for_a_seen_one() {
    let (mut server, mut device) = two(r#"{"f":1}"#);
    commit(&mut device, dot('B', 20), |edit| set(edit, "f", "2"));
    commit(&mut server, dot('S', 30), |edit| edit.delete(false));
    let tombstone = server.tombstone().expect("deleted");
    assert!(!device.vector().leq(&tombstone.vector), "the exact vector tells");
    server = Document::from_tombstone(&tombstone);
    exchange(&mut server, &mut device);
    assert_eq!(shown(&server), r#"{"f":2}"#);
}

#[test]
fn a_tombstone_that_kept_one_of_two_concurrent_deletions_still_removes_everywhere() {
    let (mut server, mut peer) = two(r#"{"f":1}"#);
    let mut c = Document::new();
    send(&server, &mut c);
    commit(&mut c, dot('C', 10), |edit| set(edit, "f", "2"));
    commit(&mut server, dot('S', 40), |edit| edit.delete(false));
    send(&c, &mut peer);
    send(&server, &mut peer);
    assert_eq!(shown(&peer), r#"{"f":2}"#, "a husk: S had not seen C's write");
    commit(&mut c, dot('C', 30), |edit| edit.delete(true));
    exchange(&mut server, &mut c);
    let tombstone = server.tombstone().expect("deleted");
    assert_eq!((tombstone.deletion, tombstone.strict), (dot('S', 40), true));
    server = Document::from_tombstone(&tombstone);
    send(&server, &mut peer);
    assert_eq!(shown(&peer), "deleted", "though the mark that it shows was known to the peer");
    assert_eq!(peer.tombstone(), Some(tombstone));
}
