//! The worked examples of the data model, one by one.

use super::*;
use crate::document::leaf::Held;
use crate::document::{Content, Entry, Kind, only};

#[test]
fn example_1_a_register_goes_to_the_later_write() {
    let (mut a, mut b) = two(r#"{"color":"white"}"#);
    commit(&mut a, dot('A', 10), |edit| set(edit, "color", r#""red""#));
    commit(&mut b, dot('B', 12), |edit| set(edit, "color", r#""blue""#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"color":"blue"}"#);
}

#[test]
fn example_1_equal_clocks_fall_by_actor() {
    let (mut a, mut b) = two(r#"{"color":"white"}"#);
    commit(&mut a, dot('A', 10), |edit| set(edit, "color", r#""red""#));
    commit(&mut b, dot('B', 10), |edit| set(edit, "color", r#""blue""#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"color":"blue"}"#);
}

#[test]
fn example_2_a_write_made_after_seeing_another_wins() {
    let (mut a, mut b) = two(r#"{"color":"white"}"#);
    commit(&mut a, dot('A', 1000), |edit| set(edit, "color", r#""red""#));
    send(&a, &mut b);
    assert_eq!(b.vector().highest(), Hlc(1000), "what B's clock receives");
    commit(&mut b, dot('B', 1001), |edit| set(edit, "color", r#""blue""#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"color":"blue"}"#);
}

#[test]
fn example_3_a_clock_ahead_wins_over_a_concurrent_later_write() {
    let (mut a, mut b) = two(r#"{"color":"white"}"#);
    commit(&mut b, dot('B', 4600), |edit| set(edit, "color", r#""blue""#));
    commit(&mut a, dot('A', 1000), |edit| set(edit, "color", r#""red""#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"color":"blue"}"#);
}

#[test]
fn example_4_two_fields_both_stay() {
    let (mut a, mut b) = two("{}");
    commit(&mut a, dot('A', 10), |edit| set(edit, "table", "4"));
    commit(&mut b, dot('B', 11), |edit| set(edit, "guests", "2"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"guests":2,"table":4}"#);
}

#[test]
fn example_5_a_map_entry_changed_beside_its_removal_stays_with_the_change() {
    let (mut a, mut b) = two(r#"{"items":{"x":{"qty":1,"name":"n"}}}"#);
    commit(&mut a, dot('A', 10), |edit| unset(edit, "items.x"));
    let mut alone = b.clone();
    exchange(&mut a.clone(), &mut alone);
    assert_eq!(shown(&alone), r#"{"items":{}}"#, "without B's change the entry is gone");
    commit(&mut b, dot('B', 11), |edit| set(edit, "items.x.qty", "2"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"items":{"x":{"qty":2}}}"#);
}

#[test]
fn example_6_an_entry_added_below_a_removed_map_stays_alone() {
    let (mut a, mut b) = two(r#"{"items":{"x":{"qty":1}}}"#);
    commit(&mut a, dot('A', 10), |edit| unset(edit, "items"));
    commit(&mut b, dot('B', 11), |edit| set(edit, "items.y", r#"{"qty":7}"#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"items":{"y":{"qty":7}}}"#);
}

#[test]
fn example_7_an_array_is_replaced_as_a_whole_where_a_map_keeps_both() {
    let (mut a, mut b) = two(r#"{"tags":["a"],"set":{"a":true}}"#);
    commit(&mut a, dot('A', 10), |edit| {
        set(edit, "tags", r#"["a","b"]"#);
        set(edit, "set.b", "true");
    });
    commit(&mut b, dot('B', 12), |edit| {
        set(edit, "tags", r#"["a","c"]"#);
        set(edit, "set.c", "true");
    });
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"set":{"a":true,"b":true,"c":true},"tags":["a","c"]}"#);
}

#[test]
fn example_8_kinds_do_not_merge_and_a_later_write_removes_the_hidden_one() {
    let (mut a, mut b) = two("{}");
    commit(&mut a, dot('A', 10), |edit| set(edit, "f", "[1]"));
    commit(&mut b, dot('B', 11), |edit| set(edit, "f", r#"{"k":1}"#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"f":{"k":1}}"#);
    let size_with_hidden = a.size_bytes();
    commit(&mut a, dot('A', 20), |edit| set(edit, "f.k", "2"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"f":{"k":2}}"#);
    assert!(b.size_bytes() < size_with_hidden + 10, "the hidden array is gone, a mark is there");
    commit(&mut b, dot('B', 30), |edit| unset(edit, "f.k"));
    assert_eq!(shown(&b), r#"{"f":{}}"#);
}

#[test]
fn example_9_a_pn_counter_sums_what_everybody_added() {
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| {
        insert(edit, "{}");
        edit.pn_increment(&path("n"), crate::document::Number::Int(10)).expect("in range");
    });
    let (mut b, mut c) = (Document::new(), Document::new());
    send(&a, &mut b);
    send(&a, &mut c);
    for (document, who, by) in [(&mut a, 'A', 5), (&mut b, 'B', -3), (&mut c, 'C', 1)] {
        let by = crate::document::Number::Int(by);
        commit(document, dot(who, 10), |edit| edit.pn_increment(&path("n"), by).expect("in range"));
    }
    exchange(&mut a, &mut b);
    exchange(&mut b, &mut c);
    exchange(&mut a, &mut c);
    assert_eq!(shown(&a), r#"{"n":13}"#);
}

#[test]
fn example_10_a_restart_drops_concurrent_increments_and_later_ones_count() {
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| {
        insert(edit, "{}");
        edit.restart(&path("n"), 10).expect("not the root");
    });
    let mut b = Document::new();
    send(&a, &mut b);
    commit(&mut a, dot('A', 20), |edit| edit.restart(&path("n"), 100).expect("not the root"));
    commit(&mut b, dot('B', 21), |edit| edit.increment(&path("n"), 5).expect("in range"));
    assert_eq!(shown(&b), r#"{"n":15}"#);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"n":100}"#);
    commit(&mut b, dot('B', 30), |edit| edit.increment(&path("n"), 5).expect("in range"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"n":105}"#);
    commit(&mut a, dot('A', 40), |edit| edit.restart(&path("n"), 1).expect("not the root"));
    commit(&mut b, dot('B', 41), |edit| edit.restart(&path("n"), 2).expect("not the root"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"n":2}"#);
}

/// Examples 11, 12 and 13 tell one story.
fn husk() -> (Document, Document) {
    let (mut a, mut b) = two(r#"{"guests":2,"status":"open","table":4}"#);
    commit(&mut a, dot('A', 30), |edit| edit.delete(false));
    assert_eq!(shown(&a), "deleted");
    commit(&mut b, dot('B', 31), |edit| set(edit, "status", r#""paid""#));
    exchange(&mut a, &mut b);
    (a, b)
}

#[test]
fn example_11_an_update_beside_a_delete_leaves_a_husk() {
    let (a, _) = husk();
    assert_eq!(shown(&a), r#"{"status":"paid"}"#);
    assert!(a.is_husk());
    let mut fresh = Document::new();
    commit(&mut fresh, dot('A', 5), |edit| set(edit, "status", r#""open""#));
    assert!(!fresh.is_husk(), "nobody inserted it, and nobody deleted it");
}

#[test]
fn example_11_holds_whatever_the_order_of_the_clocks() {
    let (mut a, mut b) = two(r#"{"status":"open","table":4}"#);
    commit(&mut a, dot('A', 90), |edit| edit.delete(false));
    commit(&mut b, dot('B', 31), |edit| set(edit, "status", r#""paid""#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"status":"paid"}"#);
}

#[test]
fn example_12_a_delete_that_saw_the_husk_removes_it_everywhere() {
    let (mut a, mut b) = husk();
    commit(&mut a, dot('A', 40), |edit| edit.delete(false));
    exchange(&mut a, &mut b);
    assert_eq!((shown(&a), shown(&b)), ("deleted".to_owned(), "deleted".to_owned()));
    assert!(!a.is_husk() && !b.is_husk());
    assert_eq!(a.tombstone().map(|tombstone| tombstone.deletion), Some(dot('A', 40)));
}

#[test]
fn example_13_old_fields_do_not_come_back_with_a_new_insert() {
    let (mut a, mut b) = two(r#"{"status":"open","table":4}"#);
    commit(&mut a, dot('A', 30), |edit| edit.delete(false));
    commit(&mut a, dot('A', 50), |edit| insert(edit, r#"{"table":9}"#));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"table":9}"#);
    assert!(!b.is_husk() && b.tombstone().is_none());
}

#[test]
fn example_14_a_counter_in_a_deleted_document_keeps_the_concurrent_actors_share() {
    let (mut a, mut b) = two("{}");
    commit(&mut a, dot('A', 10), |edit| edit.increment(&path("n"), 100).expect("in range"));
    commit(&mut b, dot('B', 11), |edit| edit.increment(&path("n"), 5).expect("in range"));
    exchange(&mut a, &mut b);
    commit(&mut a, dot('A', 30), |edit| edit.delete(false));
    commit(&mut b, dot('B', 31), |edit| edit.increment(&path("n"), 2).expect("in range"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"n":7}"#, "all of B's increments, none of A's");
}

#[test]
fn example_15_an_attachment_goes_to_the_later_token() {
    let (mut a, mut b) = two("{}");
    let token = |id: &str| value(&format!(r#"{{"id":"{id}","len":3}}"#));
    commit(&mut a, dot('A', 10), |edit| {
        edit.set_attachment(&path("photo"), token("t1")).expect("not the root");
    });
    commit(&mut b, dot('B', 11), |edit| {
        edit.set_attachment(&path("photo"), token("t2")).expect("not the root");
    });
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"photo":{"id":"t2","len":3}}"#);
}

/// No edit does this; a delta of a peer may.
#[test]
fn of_a_value_and_a_map_of_one_event_every_reader_sees_the_map() {
    let mut document = Document::new();
    document.vector.raise(dot('A', 10));
    for at in ["f", "f.x"] {
        let held = Content::Held(Held::new(Value::from(at)));
        document.leaves.set(&path(at), Kind::REGISTER, only(Entry::new(dot('A', 10), held)));
    }
    document.check_invariants();
    check_written(&document);
    assert_eq!(shown(&document), r#"{"f":{"x":"f.x"}}"#);
    assert_eq!(document.get(&path("f")), Some(value(r#"{"x":"f.x"}"#)));
    assert_eq!(document.get(&path("f.x")), Some(Value::from("f.x")));
    assert!(document.visible_entry(&path("f")).is_none());
}
