//! Laws of merging, over random histories.

use proptest::prelude::*;

use super::narrow::narrowed;
use super::*;
use crate::document::{Number, Objects, Vector};

/// One step of a random history of three peers.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// `meanwhile` sends to `who` between the commit's evaluation and its place in the log.
    Commit {
        who: usize,
        ahead: u64,
        ops: Vec<Op>,
        meanwhile: Option<usize>,
    },
    Send {
        from: usize,
        to: usize,
    },
    Trim {
        who: usize,
    },
    Shrink {
        who: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Assign(usize, usize),
    AssignRegister(usize, usize),
    Unset(usize),
    Increment(usize, i64),
    PnIncrement(usize, i64),
    Restart(usize, i64),
    Attach(usize),
    Insert(usize),
    Delete(bool),
}

const PATHS: [&str; 7] = ["f", "g", "f.x", "f.x.z", "f.y", "m.a", "n"];
const VALUES: [&str; 6] = ["1", "\"text\"", "{}", r#"{"x":1,"q":{"z":2}}"#, "[1,2]", "null"];
const ACTORS: [char; 3] = ['A', 'B', 'C'];

fn op() -> impl Strategy<Value = Op> {
    let at = 0..PATHS.len();
    prop_oneof![
        4 => (at.clone(), 0..VALUES.len()).prop_map(|(at, what)| Op::Assign(at, what)),
        2 => (at.clone(), 0..VALUES.len()).prop_map(|(at, what)| Op::AssignRegister(at, what)),
        3 => at.clone().prop_map(Op::Unset),
        2 => (at.clone(), -3_i64..4).prop_map(|(at, by)| Op::Increment(at, by)),
        1 => (at.clone(), -3_i64..4).prop_map(|(at, by)| Op::PnIncrement(at, by)),
        1 => (at.clone(), 0_i64..100).prop_map(|(at, to)| Op::Restart(at, to)),
        1 => at.prop_map(Op::Attach),
        1 => (0..VALUES.len()).prop_map(Op::Insert),
        1 => any::<bool>().prop_map(Op::Delete),
    ]
}

pub(super) fn step(trims: bool) -> impl Strategy<Value = Step> {
    let ops = prop::collection::vec(op(), 1..4);
    let commit = (0_usize..3, 0_u64..3, ops, prop::option::of(0_usize..3))
        .prop_map(|(who, ahead, ops, meanwhile)| Step::Commit { who, ahead, ops, meanwhile });
    let send = (0_usize..3, 0_usize..3).prop_map(|(from, to)| Step::Send { from, to });
    let shorten = (0_usize..3, any::<bool>()).prop_map(|(who, trim)| match trim {
        true => Step::Trim { who },
        false => Step::Shrink { who },
    });
    prop_oneof![4 => commit, 3 => send, u32::from(trims) => shorten]
}

impl Op {
    fn run(&self, edit: &mut Edit) {
        let at = |index: &usize| path(PATHS[*index]);
        match self {
            Self::Assign(index, what) => set(edit, PATHS[*index], VALUES[*what]),
            Self::AssignRegister(index, what) => {
                edit.set_objects(Objects::AsRegisters);
                set(edit, PATHS[*index], VALUES[*what]);
                edit.set_objects(Objects::AsMaps);
            }
            Self::Unset(index) => unset(edit, PATHS[*index]),
            Self::Increment(index, by) => edit.increment(&at(index), *by).expect("small"),
            Self::PnIncrement(index, by) => {
                edit.pn_increment(&at(index), Number::Int(*by)).expect("small");
            }
            Self::Restart(index, to) => edit.restart(&at(index), *to).expect("a field"),
            Self::Attach(index) => {
                edit.set_attachment(&at(index), Value::from("token")).expect("a field");
            }
            Self::Insert(what) => {
                edit.insert();
                set(edit, "f", VALUES[*what]);
            }
            Self::Delete(strict) => edit.delete(*strict),
        }
    }
}

/// Runs a history; returns the peers and every state that any of them went through.
pub(super) fn run(steps: &[Step]) -> ([Document; 3], Vec<Document>) {
    let mut peers: [Document; 3] = Default::default();
    let mut reached = vec![Document::new()];
    for step in steps {
        match step {
            Step::Commit { who, ahead, ops, meanwhile } => {
                let hlc = peers[*who].vector().highest().0.max(1) + 1 + ahead;
                let mut edit = Edit::new(&peers[*who], dot(ACTORS[*who], hlc));
                ops.iter().for_each(|op| op.run(&mut edit));
                let after = edit.document().clone();
                let Some(delta) = edit.finish() else { continue };
                assert_eq!(Delta::from_bytes(&delta.to_bytes()).as_ref(), Ok(&delta));
                let before = peers[*who].vector().clone();
                let narrowed = narrowed(&delta, &peers[*who]);
                if let Some(sender) = meanwhile.map(|index| peers[index].clone()) {
                    send(&sender, &mut peers[*who]);
                }
                let alone = *peers[*who].vector() == before;
                let mut in_part = peers[*who].clone();
                peers[*who].apply(&delta).expect("the base is met");
                in_part.apply(&narrowed).expect("the base is met");
                assert_eq!(in_part.canonical_bytes(), peers[*who].canonical_bytes());
                assert_eq!(in_part.trimmed(), peers[*who].trimmed());
                assert!(!alone || peers[*who].canonical_bytes() == after.canonical_bytes());
                reached.push(peers[*who].clone());
            }
            Step::Send { from, to } if from != to => {
                let sender = peers[*from].clone();
                send(&sender, &mut peers[*to]);
                reached.push(peers[*to].clone());
            }
            Step::Send { .. } => {}
            Step::Trim { who } => peers[*who].trim_marks(Hlc(u64::MAX)),
            Step::Shrink { who } => {
                let whole = !peers[*who].hides_content();
                if let Some(tombstone) = peers[*who].tombstone().filter(|_| whole) {
                    peers[*who] = Document::from_tombstone(&tombstone);
                }
            }
        }
        peers.iter().for_each(Document::check_invariants);
    }
    (peers, reached)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn all_orders_of_merging_end_in_equal_bytes(steps in prop::collection::vec(step(false), 1..25)) {
        let ([a, b, c], reached) = run(&steps);
        let merged = |order: [&Document; 3]| {
            let mut all = Document::new();
            for document in order.iter().chain(order.iter().rev()) {
                send(document, &mut all);
            }
            all.canonical_bytes()
        };
        let expected = merged([&a, &b, &c]);
        for order in [[&a, &c, &b], [&b, &a, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
            prop_assert_eq!(&merged(order), &expected);
        }
        // By way of any state that was ever reached, however old, and twice.
        for start in &reached {
            let mut all = start.clone();
            for document in [&c, start, &a, &b, &a] {
                send(document, &mut all);
            }
            prop_assert_eq!(&all.canonical_bytes(), &expected);
        }
    }

    #[test]
    fn a_diff_for_any_vector_that_was_reached_applies_where_it_was(steps in prop::collection::vec(step(false), 1..20)) {
        let ([a, _, _], reached) = run(&steps);
        for start in &reached {
            let delta = a.diff(start.vector());
            let mut direct = start.clone();
            direct.apply(&delta).expect("the base is met");
            let mut full = start.clone();
            full.apply(&a.diff(&Vector::new())).expect("full state always applies");
            prop_assert_eq!(direct.canonical_bytes(), full.canonical_bytes());
            let before = direct.canonical_bytes();
            prop_assert!(!direct.apply(&delta).expect("total").changed());
            prop_assert_eq!(direct.canonical_bytes(), before);
            if start.vector().leq(a.vector()) {
                let mut delta = delta;
                delta.name_base_by_digest(|_| false);
                let mut by_digest = start.clone();
                by_digest.apply(&delta).expect("exactly the base");
                prop_assert_eq!(by_digest.canonical_bytes(), direct.canonical_bytes());
                prop_assert_eq!(by_digest.canonical_bytes(), a.canonical_bytes());
            }
            let stored = Document::from_bytes(&direct.to_bytes()).expect("reads back");
            prop_assert_eq!(stored.canonical_bytes(), direct.canonical_bytes());
            prop_assert_eq!(stored.to_bytes(), direct.to_bytes());
        }
    }

    #[test]
    fn trimming_and_tombstones_change_nothing_that_is_seen(steps in prop::collection::vec(step(true), 1..25)) {
        let ([mut a, mut b, mut c], _) = run(&steps);
        for _ in 0..2 {
            for (one, other) in [(0, 1), (1, 2), (2, 0)] {
                let peers = [&mut a, &mut b, &mut c];
                let sender = peers[one].clone();
                let mut receiver = peers[other].clone();
                send(&sender, &mut receiver);
                *peers[other] = receiver;
            }
        }
        let mut trimmed = a.trimmed().clone();
        trimmed.join(b.trimmed());
        trimmed.join(c.trimmed());
        let seen = |document: &Document| (document.vector().clone(), shown(document), document.canonical_bytes_without(&trimmed));
        prop_assert_eq!(seen(&a), seen(&b));
        prop_assert_eq!(seen(&b), seen(&c));
    }
}

/// A delta of a peer that lies: the bytes of an honest one, some of them others.
fn mutated(sender: &Document, base: &Vector, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = sender.diff(base).to_bytes();
    for (at, to) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *to;
    }
    bytes
}

/// Everything that may be done with a document here. What an edit refuses, it refuses with an error.
fn use_in_every_way(document: &Document) {
    document.check_invariants();
    check_written(document);
    let full = Delta::from_bytes(&document.diff(&Vector::new()).to_bytes()).expect("it reads back");
    let mut elsewhere = Document::new();
    elsewhere.apply(&full).expect("full state stands for itself");
    elsewhere.check_invariants();
    let again = Document::from_bytes(&document.to_bytes()).expect("it reads back");
    assert_eq!(again.canonical_bytes(), document.canonical_bytes());
    let mut shrunk = document.clone();
    shrunk.trim_marks(Hlc(u64::MAX));
    shrunk.check_invariants();
    if let Some(tombstone) = document.tombstone() {
        Document::from_tombstone(&tombstone).check_invariants();
    }
    let Some(hlc) = document.vector().highest().0.checked_add(1) else { return };
    for what in 0..9 {
        let mut edit = Edit::new(document, dot('Z', hlc));
        for at in PATHS {
            let at = path(at);
            // Whether it is refused is no matter.
            let _refused = match what {
                0 => edit.assign(&at, &value(VALUES[3]), None),
                1 => edit.unset(&at),
                2 => edit.increment(&at, i64::MAX),
                3 => edit.pn_increment(&at, Number::Float(f64::MAX)),
                4 => edit.restart(&at, i64::MIN),
                5 => edit.set_attachment(&at, Value::from("token")),
                6 => {
                    edit.insert();
                    edit.assign(&at, &value(VALUES[1]), None)
                }
                _ => {
                    edit.delete(what == 7);
                    Ok(())
                }
            };
        }
        let Some(delta) = edit.finish() else { continue };
        let mut edited = document.clone();
        edited.apply(&delta).expect("the base of a fresh delta is met");
        edited.check_invariants();
        check_written(&edited);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever form a peer's delta has that is taken, the document it leads to can be read, sent, edited and
    /// deleted as any other.
    #[test]
    fn a_peer_that_lies_cannot_make_a_document_that_panics(
        steps in prop::collection::vec(step(true), 1..12),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        tries in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let (peers, reached) = run(&steps);
        for (number, try_at) in tries.iter().enumerate() {
            let sender = &peers[number % 3];
            let base = if number % 2 == 0 { Vector::new() } else { try_at.get(&reached).vector().clone() };
            let mut changes = changes.clone();
            changes[0].0 = *try_at;
            let Ok(delta) = Delta::from_bytes(&mutated(sender, &base, &changes)) else { continue };
            if delta.author().is_some() || delta.has_increments() {
                continue;
            }
            for receiver in peers.iter().chain([&Document::new()]) {
                let mut document = receiver.clone();
                if document.apply(&delta).is_ok() {
                    use_in_every_way(&document);
                }
            }
        }
    }
}
