//! New dots for edits that nobody has taken.

use proptest::prelude::*;
use proptest::sample::Index;

use super::laws::{run, step, step_ops};
use super::*;
use crate::document::Vector;

const AHEAD: Hlc = Hlc(1 << 40);

fn is_ahead(hlc: Hlc) -> bool {
    hlc >= AHEAD
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// It is as if the other actor had written in its place.
    #[test]
    fn what_is_restamped_is_what_another_actor_would_have_written(
        steps in prop::collection::vec(step(false), 0..15),
        ops in step_ops(),
        base in any::<Index>(),
    ) {
        let (peers, reached) = run(&steps);
        let base = base.get(&reached);
        let new = Dot { hlc: Hlc(base.vector().highest().0.max(1) + 1), actor: dot('Y', 0).actor };
        let written = |at: Dot| {
            let mut edit = Edit::new(base, at);
            ops.iter().for_each(|op| op.run(&mut edit));
            edit.finish_with_document().map(|(_, document)| document)
        };
        let ahead = written(Dot { hlc: AHEAD, actor: dot('Z', 0).actor });
        let Some((ahead, expected)) = ahead.zip(written(new)) else { return Ok(()) };
        let mut given = Some(new);
        let restamped = ahead.restamped(is_ahead, &Vector::new(), || given.take());
        let restamped = restamped.expect("all of it is the other actor's own");
        restamped.check_invariants();
        prop_assert_eq!(restamped.canonical_bytes(), expected.canonical_bytes());
        prop_assert_eq!(restamped.to_object(), ahead.to_object());
        prop_assert_eq!(restamped.ahead(is_ahead).count(), 0);
        for peer in &peers {
            let (mut one, mut other) = (restamped.clone(), peer.clone());
            exchange(&mut one, &mut other);
        }
    }
}

#[test]
fn what_cannot_be_told_apart_is_not_restamped() {
    let (_, mut a) = two(r#"{"f":1}"#);
    commit(&mut a, dot('B', 10), |edit| edit.increment(&path("c"), 1).expect("in range"));
    let mut summed = a.clone();
    commit(&mut summed, Dot { hlc: AHEAD, actor: dot('B', 0).actor }, |edit| {
        edit.increment(&path("c"), 1).expect("in range");
    });
    let next = || Some(dot('Y', 20));
    let floors: Vector = [dot('B', 10)].into_iter().collect();
    assert!(summed.restamped(is_ahead, &floors, next).is_none());
    let mut written = a.clone();
    commit(&mut written, Dot { hlc: AHEAD, actor: dot('B', 0).actor }, |edit| set(edit, "f", "2"));
    assert!(written.restamped(is_ahead, &floors, || None).is_none(), "no dot is left");
    let restamped = written.restamped(is_ahead, &floors, next).expect("a value has one author");
    assert_eq!(restamped.vector().get(dot('B', 0).actor), Hlc(10), "what it did before stays");
    assert_eq!(shown(&restamped), r#"{"c":1,"f":2}"#);
}
