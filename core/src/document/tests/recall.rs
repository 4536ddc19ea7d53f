//! Bases that are named by their digest and recalled by the receiver.

use proptest::prelude::*;
use proptest::sample::Index;

use super::laws::{Step, run, step};
use super::*;
use crate::document::{Memory, Vector};

/// The same delta with its base named by digest, through bytes, as a peer gets it.
fn by_digest(delta: &Delta, receiver: Actor) -> Delta {
    let mut delta = delta.clone();
    delta.name_base_by_digest(|actor| actor == receiver);
    let read = Delta::from_bytes(&delta.to_bytes()).expect("we wrote it");
    assert_eq!(read, delta);
    read
}

/// A receiver that writes as `own`, and remembers what rose since `start`.
fn memory<'a>(own: char, start: &Vector, vector: &'a Vector) -> Memory<'a> {
    let rose = vector.iter().filter(|&dot| !start.seen(dot));
    let raised = rose.map(|dot| Dot { hlc: start.get(dot.actor), ..dot }).collect();
    Memory { vector, site: Some(dot(own, 0).actor.site()), raised }
}

/// A base, a start and a receiver, of all states that were reached.
type Try = (Index, Index, Index);

fn tries() -> impl Strategy<Value = Vec<Try>> {
    prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>()), 16)
}

fn check(steps: &[Step], tries: &[Try], is_full_the_same: bool) -> Result<(), TestCaseError> {
    let (peers, reached) = run(steps);
    for (number, (base, start, receiver)) in tries.iter().enumerate() {
        let sender = &peers[number % 3];
        let [base, start, receiver] = [base, start, receiver].map(|index| index.get(&reached));
        if !base.vector().leq(sender.vector()) || base.is_blank() {
            continue;
        }
        let listed = sender.diff(base.vector());
        let own = ['A', 'B', 'C', 'D'][number % 4];
        let mut delta = by_digest(&listed, dot(own, 0).actor);
        let mut taken = receiver.clone();
        if !delta.recall_base(&memory(own, start.vector(), receiver.vector())) {
            prop_assert!(receiver.vector() != base.vector());
            prop_assert_eq!(taken.apply(&delta), Err(ApplyError::BaseMismatch));
            prop_assert_eq!(taken.canonical_bytes(), receiver.canonical_bytes());
            continue;
        }
        prop_assert_eq!(&delta, &listed);
        taken.apply(&delta).expect("the base is met");
        taken.check_invariants();
        if is_full_the_same {
            let mut full = receiver.clone();
            full.apply(&sender.diff(&Vector::new())).expect("full state always applies");
            prop_assert_eq!(taken.canonical_bytes(), full.canonical_bytes());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A receiver that has seen anything, with any past: it recalls the base and merges what full state would bring, or
    /// nothing changes.
    #[test]
    fn a_recalled_base_leads_where_full_state_leads(
        steps in prop::collection::vec(step(false), 1..25),
        tries in tries(),
    ) {
        check(&steps, &tries, true)?;
    }

    /// So it is with trimmed marks and small tombstones, beside the same delta with its base listed.
    #[test]
    fn a_recalled_base_leads_where_a_listed_one_leads(
        steps in prop::collection::vec(step(true), 1..25),
        tries in tries(),
    ) {
        check(&steps, &tries, false)?;
    }

    /// A lie about the base changes nothing, whatever it lists.
    #[test]
    fn a_digest_of_nothing_is_refused(
        steps in prop::collection::vec(step(false), 1..15),
        digest in any::<u128>(),
        lies in prop::collection::vec((0_usize..3, 0_u64..40), 0..4),
    ) {
        let (peers, _) = run(&steps);
        let listed = lies.iter().map(|&(who, hlc)| dot(['A', 'B', 'C'][who], hlc)).collect();
        let mut delta = peers[0].diff(&Vector::new());
        delta.lie_about_base(digest, listed);
        let delta = Delta::from_bytes(&delta.to_bytes()).unwrap_or(delta);
        for receiver in &peers {
            let mut taken = receiver.clone();
            let memory = memory('A', &Vector::new(), receiver.vector());
            prop_assert!(!delta.clone().recall_base(&memory));
            prop_assert_eq!(taken.apply(&delta), Err(ApplyError::BaseMismatch));
            prop_assert_eq!(taken.canonical_bytes(), receiver.canonical_bytes());
            prop_assert!(!delta.is_known_to(receiver.vector()));
        }
    }
}

#[test]
fn what_the_receiver_wrote_and_heard_meanwhile_is_set_back() {
    let (mut sender, _) = two(r#"{"f":1}"#);
    commit(&mut sender, dot('R', 10), |edit| set(edit, "own", "1"));
    let mut receiver = sender.clone();
    let base = sender.vector().clone();
    commit(&mut sender, dot('S', 60), |edit| set(edit, "f", "2"));
    // The receiver has written more often than anybody remembers, and heard of two events elsewhere.
    for n in 11..40 {
        commit(&mut receiver, dot('R', n), |edit| set(edit, "own", "2"));
    }
    let start = receiver.clone();
    commit(&mut receiver, dot('X', 50), |edit| set(edit, "x", "1"));
    commit(&mut receiver, dot('Y', 51), |edit| set(edit, "y", "1"));
    let mut delta = by_digest(&sender.diff(&base), dot('R', 0).actor);
    let nothing = memory('R', receiver.vector(), receiver.vector());
    assert!(!delta.recall_base(&nothing), "it has forgotten what it heard");
    assert!(delta.recall_base(&memory('R', start.vector(), receiver.vector())));
    assert_eq!(delta.base(), Some(&base));
    receiver.apply(&delta).expect("the base is met");
    assert_eq!(shown(&receiver), r#"{"f":2,"own":2,"x":1,"y":1}"#);
}

#[test]
fn what_the_sender_has_nothing_of_the_receiver_has_written_meanwhile() {
    let (mut sender, mut receiver) = two(r#"{"f":1}"#);
    let base = sender.vector().clone();
    commit(&mut sender, dot('S', 60), |edit| set(edit, "f", "2"));
    for n in 11..40 {
        commit(&mut receiver, dot('R', n), |edit| set(edit, "own", "2"));
    }
    let mut delta = by_digest(&sender.diff(&base), dot('R', 0).actor);
    let unchanged = |own| memory(own, receiver.vector(), receiver.vector());
    assert!(!delta.clone().recall_base(&unchanged('Q')), "somebody else may have sent it");
    assert!(delta.recall_base(&unchanged('R')));
    receiver.apply(&delta).expect("the base is met");
    assert_eq!(shown(&receiver), r#"{"f":2,"own":2}"#);
}

#[test]
fn the_receivers_newest_actor_alone_is_listed() {
    let (mut sender, receiver) = two(r#"{"f":1}"#);
    for (n, actor) in "RSTUVW".chars().enumerate() {
        commit(&mut sender, dot(actor, 10 + n as u64), |edit| set(edit, "f", "2"));
    }
    let base = sender.vector().clone();
    commit(&mut sender, dot('A', 70), |edit| set(edit, "f", "3"));
    let mut delta = sender.diff(&base);
    delta.shorten_base_for(|actor| actor == dot('R', 0).actor || actor == dot('U', 0).actor);
    let (digest, listed) = delta.base_digest().expect("it is shorter");
    assert_eq!(digest, base.digest());
    let former = Dot { hlc: base.get(dot('A', 0).actor), ..dot('A', 0) };
    assert_eq!(*listed, [former, dot('U', 13)].into_iter().collect());
    // Where few have written, the vector itself is shorter.
    let mut few = sender.diff(receiver.vector());
    few.shorten_base_for(|_| false);
    assert!(few.base().is_some());
}
