//! Bases that are named by the part of them that matters.

use proptest::prelude::*;
use proptest::sample::Index;

use super::laws::{run, step};
use super::*;
use crate::document::Vector;

/// The same delta with its base named by part, through bytes, as the log has it.
pub(super) fn narrowed(delta: &Delta, before: &Document) -> Delta {
    let mut delta = delta.clone();
    delta.narrow_base(before);
    let read = Delta::from_bytes(&delta.to_bytes()).expect("we wrote it");
    assert_eq!(read, delta);
    read
}

/// Many actors write one field each, and each then overwrites a field of another.
fn crowded(actors: u8) -> Document {
    let mut document = Document::new();
    for n in 0..2 * actors {
        let actor = Dot { hlc: Hlc(10 + u64::from(n)), actor: Actor([1 + n % actors; 16]) };
        let mut edit = Edit::new(&document, actor);
        if n == 0 {
            edit.insert();
        }
        let at = format!("f{}", if n < actors { n } else { (n + 1) % actors });
        set(&mut edit, &at, &n.to_string());
        let delta = edit.finish().expect("it writes");
        document.apply(&delta).expect("the base is met");
    }
    document
}

#[test]
fn an_edit_of_one_field_does_not_grow_with_those_who_have_written_the_document() {
    let bytes_of = |actors: u8| {
        let mut document = crowded(actors);
        let delta = commit(&mut document, dot('z', 1_000), |edit| set(edit, "f1", "7"));
        let towards = document.clone();
        let mut back = crowded(actors);
        assert!(back.raised_towards(&delta, &towards).is_some(), "its own store takes the tip");
        back.apply(&delta).expect("the base is met");
        assert_eq!(back.canonical_bytes(), towards.canonical_bytes());
        delta.to_bytes().len()
    };
    let sizes: Vec<usize> = [6, 20, 100, 120].map(bytes_of).into();
    assert!(sizes.iter().max() <= Some(&(sizes[0] + 2)), "{sizes:?}");
    // Where few have written, the vector itself is shorter.
    let mut few = crowded(3);
    let delta = commit(&mut few, dot('z', 1_000), |edit| set(edit, "f1", "7"));
    assert!(delta.base().is_some_and(|base| base.len() == 3));
}

#[test]
fn an_edit_whose_base_was_evicted_is_void_although_it_touches_nothing_that_was_there() {
    let document = crowded(20);
    let mut edit = Edit::new(&document, dot('z', 1_000));
    set(&mut edit, "new", "1");
    let delta = edit.finish().expect("it writes");
    assert!(delta.is_base_in_part());
    assert_eq!(Document::new().apply(&delta), Err(ApplyError::NeedBase));
    // And where a part of it is back that lacks what it overwrites.
    let mut edit = Edit::new(&document, dot('z', 1_000));
    set(&mut edit, "f1", "1");
    let delta = edit.finish().expect("it writes");
    assert_eq!(crowded(2).apply(&delta), Err(ApplyError::NeedBase));
}

#[test]
fn the_sender_of_a_part_has_seen_what_its_digest_says() {
    let document = crowded(20);
    let mut after = document.clone();
    let delta = commit(&mut after, Dot { hlc: Hlc(500), actor: Actor([7; 16]) }, |edit| {
        set(edit, "f1", "1");
    });
    assert!(delta.is_base_in_part());
    assert_eq!(delta.sender_digest(), Some(after.vector().digest()));
}

/// Merges all documents: in any order they are one.
fn merged<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Document {
    let mut all = Document::new();
    for document in documents {
        all.apply(&document.diff(all.vector())).expect("the base is met");
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A receiver that has seen the base, and perhaps more by the time.
    #[test]
    fn the_part_of_a_base_leads_where_the_whole_leads(
        steps in prop::collection::vec(step(true), 1..25),
        tries in prop::collection::vec((any::<Index>(), any::<Index>()), 12),
    ) {
        let (peers, reached) = run(&steps);
        for (number, (judged, other)) in tries.iter().enumerate() {
            let (sender, judged, other) = (&peers[number % 3], judged.get(&reached), other.get(&reached));
            let delta = sender.diff(judged.vector());
            let part = narrowed(&delta, judged);
            let mut whole = judged.clone();
            whole.apply(&other.diff(whole.vector())).expect("the base is met");
            let mut in_part = whole.clone();
            whole.apply(&delta).expect("the base is met");
            in_part.apply(&part).expect("the base is met");
            prop_assert_eq!(in_part.canonical_bytes(), whole.canonical_bytes());
        }
    }

    /// Evicted after it was judged, and come back otherwise: what is taken then diverges nowhere.
    #[test]
    fn what_is_taken_by_its_part_alone_agrees_with_everybody_in_the_end(
        steps in prop::collection::vec(step(false), 1..25),
        tries in prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>()), 16),
    ) {
        let (peers, reached) = run(&steps);
        let expected = merged(&peers).canonical_bytes();
        for (number, (judged, back, met)) in tries.iter().enumerate() {
            let (sender, judged) = (&peers[number % 3], judged.get(&reached));
            let part = narrowed(&sender.diff(judged.vector()), judged);
            let mut back = back.get(&reached).clone();
            if back.apply(&part).is_err() {
                continue;
            }
            back.check_invariants();
            let met = met.get(&reached);
            prop_assert_eq!(merged([&back, met]).canonical_bytes(), merged([met, &back]).canonical_bytes());
            let (mut one, mut other) = (back.clone(), met.clone());
            one.apply(&met.diff(one.vector())).expect("the base is met");
            other.apply(&back.diff(other.vector())).expect("the base is met");
            prop_assert_eq!(one.canonical_bytes(), other.canonical_bytes());
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                let rest = order.map(|peer| &peers[peer]);
                let all = merged([&back, met].into_iter().chain(rest));
                prop_assert_eq!(&all.canonical_bytes(), &expected);
            }
        }
    }
}

#[test]
fn a_full_delta_stays_one() {
    let mut delta = crowded(20).diff(&Vector::new());
    delta.shorten_base(&Document::new());
    assert!(delta.is_full());
}
