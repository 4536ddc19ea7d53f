//! Single operations: what they write, refuse and report.

use super::*;
use crate::document::{Declared, EditError, Fields, Number, Objects, Vector};

fn declared(name: &str, declared: Declared) -> Fields {
    [(Box::from(name), declared)].into_iter().collect()
}

#[test]
fn an_edit_that_touches_nothing_makes_no_delta() {
    let (a, _) = two(r#"{"f":1}"#);
    let mut edit = Edit::new(&a, dot('A', 10));
    unset(&mut edit, "absent.path");
    edit.assign_differing(&Path::root(), &value(r#"{"f":1}"#), None).expect("assignable");
    assert!(edit.finish().is_none());
}

#[test]
fn only_differing_leaves_are_written_on_request() {
    let (mut a, mut b) = two(r#"{"f":1,"m":{"x":1,"y":[1]},"keep":0}"#);
    let write = |edit: &mut Edit| {
        let content = value(r#"{"f":1,"m":{"x":2,"y":[1],"z":{}}}"#);
        edit.assign_differing(&Path::root(), &content, None).expect("assignable");
    };
    let delta = commit(&mut a, dot('A', 10), write);
    assert_eq!(delta.listed.len(), 2, "x and the new map z");
    assert_eq!(shown(&a), r#"{"f":1,"keep":0,"m":{"x":2,"y":[1],"z":{}}}"#);
    exchange(&mut a, &mut b);
    let mut again = Edit::new(&a, dot('A', 20));
    write(&mut again);
    assert!(again.finish().is_none());
}

#[test]
fn a_map_that_is_assigned_to_a_map_writes_its_fields_and_nothing_else() {
    let (mut a, _) = two(r#"{"m":{"x":1}}"#);
    let delta = commit(&mut a, dot('A', 10), |edit| set(edit, "m", r#"{"x":2}"#));
    assert_eq!(delta.listed.len(), 1, "{delta:?}");
    assert_eq!(shown(&a), r#"{"m":{"x":2}}"#);
    let delta = commit(&mut a, dot('A', 20), |edit| set(edit, "m", "{}"));
    assert_eq!(delta.listed.len(), 1, "{delta:?}");
}

#[test]
fn objects_become_maps_or_registers_as_the_mode_says() {
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| {
        edit.set_objects(Objects::AsRegisters);
        insert(edit, r#"{"o":{"x":{"y":1},"z":2}}"#);
    });
    assert_eq!(a.get_steps(&["o", "x", "y"]), Some(Value::Int(1)), "reads go into registers");
    assert_eq!(a.get_steps(&["o", "x", "y", "deeper"]), None);
    commit(&mut a, dot('A', 6), |edit| {
        edit.set_objects(Objects::AsRegisters);
        set(edit, "o", r#"{"x":9}"#);
    });
    assert_eq!(shown(&a), r#"{"o":{"x":9}}"#, "a register is replaced, a map would merge");
}

#[test]
fn a_dotted_set_below_an_object_register_turns_it_into_a_map_of_the_same_content() {
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| {
        edit.set_objects(Objects::AsRegisters);
        insert(edit, r#"{"o":{"x":{"y":1},"z":2}}"#);
    });
    let mut b = Document::new();
    send(&a, &mut b);
    commit(&mut a, dot('A', 10), |edit| set(edit, "o.x.y", "3"));
    commit(&mut b, dot('B', 11), |edit| set(edit, "o.w", "4"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"o":{"w":4,"x":{"y":1},"z":2}}"#, "both became maps; B wrote later");
    commit(&mut a, dot('A', 20), |edit| unset(edit, "o.x.y"));
    assert_eq!(shown(&a), r#"{"o":{"w":4,"x":{},"z":2}}"#);
}

#[test]
fn an_unset_inside_an_object_register_removes_only_that_name() {
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| {
        edit.set_objects(Objects::AsRegisters);
        insert(edit, r#"{"o":{"x":1,"y":2}}"#);
    });
    commit(&mut a, dot('A', 6), |edit| unset(edit, "o.x"));
    assert_eq!(shown(&a), r#"{"o":{"y":2}}"#);
}

#[test]
fn a_scalar_written_over_a_map_keeps_its_old_fields_from_returning() {
    let (mut a, mut b) = two(r#"{"f":{"old":1}}"#);
    commit(&mut a, dot('A', 10), |edit| set(edit, "f", "5"));
    commit(&mut a, dot('A', 11), |edit| set(edit, "f.x", "1"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"f":{"x":1}}"#);
}

#[test]
fn assigning_an_object_merges_and_an_empty_one_is_a_write() {
    let (mut a, _) = two(r#"{"m":{"x":1}}"#);
    commit(&mut a, dot('A', 10), |edit| set(edit, "m", r#"{"y":2}"#));
    commit(&mut a, dot('A', 11), |edit| set(edit, "m", "{}"));
    commit(&mut a, dot('A', 12), |edit| set(edit, "empty", "{}"));
    assert_eq!(shown(&a), r#"{"empty":{},"m":{"x":1,"y":2}}"#);
}

#[test]
fn declared_types_decide_and_misfits_are_refused() {
    let fields = declared("n", Declared::Counter);
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| {
        edit.insert();
        let Value::Object(content) = value(r#"{"n":7}"#) else { panic!("an object") };
        edit.assign_content(&content, &fields).expect("assignable");
        edit.increment(&path("n"), 2).expect("in range");
    });
    assert_eq!(shown(&a), r#"{"n":9}"#);
    let mut edit = Edit::new(&a, dot('A', 6));
    let refused = edit.assign(&path("n"), &value(r#""x""#), Some(&Declared::Counter));
    let expected =
        EditError::TypeMismatch { path: path("n"), declared: "COUNTER", found: "string" };
    assert_eq!(refused, Err(expected));
    assert!(edit.assign(&path("n"), &value("1"), Some(&Declared::PnCounter)).is_err());
    assert!(edit.assign(&path("n"), &value("1"), Some(&Declared::Map(Fields::default()))).is_err());
    assert_eq!(edit.assign(&Path::root(), &value("1"), None), Err(EditError::RootIsMap));
    assert_eq!(edit.unset(&Path::root()), Err(EditError::RootIsMap));
}

#[test]
fn a_counter_refuses_to_overflow() {
    let (mut a, _) = two("{}");
    commit(&mut a, dot('A', 10), |edit| edit.restart(&path("n"), i64::MAX - 1).expect("a field"));
    commit(&mut a, dot('A', 11), |edit| edit.increment(&path("n"), 1).expect("in range"));
    let mut edit = Edit::new(&a, dot('A', 12));
    let overflow = EditError::CounterOverflow { path: path("n") };
    assert_eq!(edit.increment(&path("n"), 1), Err(overflow));
    assert!(edit.finish().is_none());
}

#[test]
fn a_counter_refuses_what_its_actor_cannot_add_whatever_others_took_away() {
    let (mut a, mut b) = two("{}");
    commit(&mut a, dot('A', 10), |edit| edit.increment(&path("n"), i64::MAX).expect("in range"));
    exchange(&mut a, &mut b);
    commit(&mut b, dot('B', 11), |edit| edit.increment(&path("n"), -i64::MAX).expect("in range"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), r#"{"n":0}"#);
    let overflow = EditError::CounterOverflow { path: path("n") };
    assert_eq!(Edit::new(&a, dot('A', 12)).increment(&path("n"), 1), Err(overflow));
    commit(&mut b, dot('B', 12), |edit| edit.increment(&path("n"), 1).expect("in range"));
    assert_eq!(shown(&b), r#"{"n":1}"#);
}

#[test]
fn an_increment_removes_the_register_it_counts_over() {
    let (mut a, mut b) = two(r#"{"n":10}"#);
    commit(&mut a, dot('A', 10), |edit| edit.increment(&path("n"), 1).expect("in range"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"n":1}"#);
    commit(&mut b, dot('B', 20), |edit| unset(edit, "n"));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), "{}", "the register does not come back");
}

#[test]
fn a_counter_unset_and_incremented_in_one_commit_begins_anew() {
    let (mut a, mut b) = two("{}");
    commit(&mut a, dot('A', 10), |edit| edit.increment(&path("m.n"), 5).expect("in range"));
    exchange(&mut a, &mut b);
    commit(&mut a, dot('A', 20), |edit| {
        edit.increment(&path("m.n"), 1).expect("in range");
        unset(edit, "m");
        edit.increment(&path("m.n"), 3).expect("in range");
        edit.increment(&path("m.n"), 4).expect("in range");
    });
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"m":{"n":7}}"#);
}

#[test]
fn increments_of_one_commit_add_up_and_follow_a_restart() {
    let (mut a, mut b) = two("{}");
    commit(&mut a, dot('A', 10), |edit| {
        edit.increment(&path("n"), 1).expect("in range");
        edit.increment(&path("n"), 2).expect("in range");
        edit.restart(&path("r"), 10).expect("a field");
        edit.increment(&path("r"), 5).expect("in range");
        edit.pn_increment(&path("p"), Number::Int(1)).expect("in range");
        edit.pn_increment(&path("p"), Number::Float(0.5)).expect("in range");
    });
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), r#"{"n":3,"p":1.5,"r":15}"#);
}

#[test]
fn increments_that_begin_a_document_all_count() {
    // Both were made before either was applied, as two lanes of one store make them.
    let mut document = Document::new();
    let begins = [(5, 1), (6, 2)].map(|(at, by)| {
        prepare(&document, dot('A', at), |edit| edit.increment(&path("n"), by).expect("in range"))
    });
    begins.iter().for_each(|delta| document.apply(delta).map(drop).expect("its base is empty"));
    assert_eq!(shown(&document), r#"{"n":3}"#);
}

#[test]
fn an_empty_document_is_visible_once_inserted() {
    let (mut a, mut b) = two("{}");
    assert_eq!(shown(&b), "{}");
    commit(&mut a, dot('A', 10), |edit| edit.delete(false));
    commit(&mut a, dot('A', 20), Edit::insert);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), "{}");
}

#[test]
fn applying_reports_what_the_change_index_needs() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    commit(&mut a, dot('A', 10), |edit| set(edit, "f", "2"));
    commit(&mut a, dot('C', 12), |edit| edit.delete(false));
    let applied = b.apply(&a.diff(b.vector())).expect("the base is met");
    assert_eq!(applied.raised, [(dot('A', 0).actor, Hlc(5)), (dot('C', 0).actor, Hlc(0))]);
    assert!(applied.was_visible && !applied.is_visible);
    let again = b.apply(&a.diff(&Vector::new())).expect("full state always applies");
    assert!(!again.changed());
}

#[test]
fn a_base_named_by_digest_needs_exactly_that_base() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    let base = b.vector().clone();
    commit(&mut a, dot('A', 10), |edit| set(edit, "f", "2"));
    let mut delta = a.diff(&base);
    delta.name_base_by_digest(|_| false);
    let delta = Delta::from_bytes(&delta.to_bytes()).expect("a delta reads back");
    let mut other = b.clone();
    commit(&mut other, dot('B', 9), |edit| set(edit, "g", "1"));
    assert_eq!(other.apply(&delta), Err(ApplyError::BaseMismatch));
    b.apply(&delta).expect("exactly the base");
    assert_eq!(a.canonical_bytes(), b.canonical_bytes());
}

#[test]
fn the_receiver_keeps_what_the_sender_had_not_seen() {
    let (mut a, mut b) = two(r#"{"f":1}"#);
    commit(&mut b, dot('B', 9), |edit| set(edit, "f", "2"));
    commit(&mut a, dot('A', 10), |edit| unset(edit, "f"));
    let delta = a.diff(b.vector());
    assert!(delta.base().is_some_and(|base| !base.seen(dot('B', 9))), "no claim beyond the sender");
    b.apply(&delta).expect("the base is met");
    assert_eq!(shown(&b), r#"{"f":2}"#);
}

#[test]
fn trimmed_marks_give_full_state_to_those_who_missed_them() {
    let (mut a, mut b) = two(r#"{"f":1,"g":1}"#);
    let mut c = b.clone();
    commit(&mut a, dot('A', 10), |edit| unset(edit, "f"));
    send(&a, &mut b);
    assert_eq!(a.mark_count(), 1);
    a.trim_marks(Hlc(11));
    assert_eq!(a.mark_count(), 0);
    commit(&mut c, dot('C', 9), |edit| set(edit, "h", "1"));
    send(&a, &mut c);
    assert_eq!(shown(&c), r#"{"g":1,"h":1}"#);
    let mut d = Document::new();
    commit(&mut d, dot('D', 9), |edit| set(edit, "f", "7"));
    send(&c, &mut b);
    exchange(&mut c, &mut d);
    send(&d, &mut a);
    send(&d, &mut b);
    let all = [&a, &b, &c, &d];
    let bytes = all.map(|document| document.canonical_bytes_without(a.trimmed()));
    assert!(bytes.iter().all(|other| *other == bytes[0]));
}

#[test]
fn the_size_follows_every_change() {
    let (mut a, _) = two(r#"{"f":"some text","m":{"x":[1,2,3]}}"#);
    let before = a.size_bytes();
    commit(&mut a, dot('A', 10), |edit| set(edit, "big", &format!("{:?}", "x".repeat(1000))));
    assert!((1000..1100).contains(&(a.size_bytes() - before)));
    commit(&mut a, dot('A', 11), |edit| edit.delete(false));
    assert!(a.size_bytes() < 60, "a tombstone is small: {}", a.size_bytes());
    let stored = a.to_bytes().len();
    assert!(stored < 60, "also when stored: {stored}");
}

#[test]
fn a_deletion_hides_initial_content_whatever_the_vector_of_its_actor_says() {
    let content = value(r#"{"f":1}"#);
    let content = content.as_object().expect("an object");
    let initial = Edit::initial(content, Objects::AsMaps, &Fields::default()).expect("it fits");
    let (_, document) = initial.finish_with_document().expect("it writes");
    let mut lie = document.diff(&Vector::new());
    lie.raised[0].hlc = Hlc(500);
    let mut deleted = Document::new();
    commit(&mut deleted, dot('A', 5), |edit| edit.delete(false));
    deleted.apply(&lie).expect("it says nothing of itself that is not so");
    deleted.check_invariants();
    assert_eq!(shown(&deleted), "deleted");
}

#[test]
fn trimmed_marks_that_their_vector_has_not_seen_are_refused() {
    let (a, mut b) = two(r#"{"f":1}"#);
    let mut lie = a.diff(&Vector::new());
    lie.raised.push(dot('C', 7));
    lie.trimmed.raise(dot('C', 9));
    lie.regions = vec![Path::root()];
    assert!(matches!(b.apply(&lie), Err(ApplyError::Malformed { .. })));
    lie.trimmed = [dot('C', 7)].into_iter().collect();
    b.apply(&lie).expect("these it has seen");
    b.check_invariants();
}
