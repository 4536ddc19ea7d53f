//! Every schedule of a few operations and exchanges among three actors, on the real code: the search that decided
//! for this merge rule.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Set(&'static str),
    Unset(&'static str),
    Increment(&'static str),
    Restart(&'static str),
    Insert,
    Delete(bool),
}

impl Op {
    /// The operation as a commit; false if it has nothing to do on this document.
    fn run(self, edit: &mut Edit, hlc: u64) -> bool {
        match self {
            Self::Set(at) => set(edit, at, &hlc.to_string()),
            Self::Unset(at) => unset(edit, at),
            Self::Increment(at) => edit.increment(&path(at), 1).expect("in range"),
            Self::Restart(at) => edit.restart(&path(at), 10).expect("not the root"),
            Self::Insert if !edit.document().is_visible() => insert(edit, r#"{"g":0}"#),
            Self::Insert => return false,
            Self::Delete(strict) if edit.document().is_visible() => edit.delete(strict),
            Self::Delete(_) => return false,
        }
        edit.is_touched()
    }
}

#[derive(Clone)]
struct World {
    documents: [Rc<Document>; ACTORS.len()],
    operations: usize,
    trace: Vec<String>,
}

const ACTORS: [char; 3] = ['A', 'B', 'C'];

/// Breadth first over all schedules of at most `steps` steps, `operations` of them commits, until `states_max`.
fn search(ops: &[Op], steps: usize, operations: usize, states_max: usize) -> usize {
    let blank = || Rc::new(Document::new());
    let start = World { documents: [blank(), blank(), blank()], operations: 0, trace: Vec::new() };
    let mut queue = VecDeque::from([start]);
    let mut known = BTreeSet::new();
    let mut states = 0;
    while let Some(world) = queue.pop_front().filter(|_| states < states_max) {
        states += 1;
        check(&world);
        if world.trace.len() >= steps {
            continue;
        }
        let commits = if world.operations < operations { commits(&world, ops) } else { Vec::new() };
        for next in commits.into_iter().chain(sends(&world)) {
            let mut key: Vec<u8> = Vec::new();
            next.documents.iter().for_each(|document| key.extend(document.canonical_bytes()));
            key.push(next.operations as u8);
            if known.insert(blake3::hash(&key).as_bytes()[..16].to_vec()) {
                queue.push_back(next);
            }
        }
    }
    states
}

fn pairs() -> [(usize, usize); 3] {
    [(0, 1), (0, 2), (1, 2)]
}

/// Equal vectors mean equal bytes, and any two peers agree after one exchange.
fn check(world: &World) {
    for (i, j) in pairs() {
        let (a, b) = (&world.documents[i], &world.documents[j]);
        if a.vector() == b.vector() {
            assert_eq!(a.canonical_bytes(), b.canonical_bytes(), "diverged: {:#?}", world.trace);
            continue;
        }
        let (mut a_after, mut b_after) = (Document::clone(a), Document::clone(b));
        a_after.apply(&b.diff(a.vector())).expect("the base is met");
        b_after.apply(&a.diff(b.vector())).expect("the base is met");
        let agree = a_after.canonical_bytes() == b_after.canonical_bytes();
        assert!(agree, "not confluent: {:#?}\n{a_after:#?}\n{b_after:#?}", world.trace);
        a_after.check_invariants();
    }
}

fn commits(world: &World, ops: &[Op]) -> Vec<World> {
    let mut next = Vec::new();
    for (index, actor) in ACTORS.into_iter().enumerate() {
        let document = &world.documents[index];
        let hlc = document.vector().highest().0.max(1) + 1;
        for op in ops {
            let mut edit = Edit::new(document, dot(actor, hlc));
            if !op.run(&mut edit, hlc) {
                continue;
            }
            let after = edit.document().clone();
            let delta = edit.finish().expect("touched");
            let mut applied = Document::clone(document);
            applied.apply(&delta).expect("the base is met");
            assert_eq!(
                applied.canonical_bytes(),
                after.canonical_bytes(),
                "{op:?} {:#?}",
                world.trace
            );
            next.push(step(world, index, applied, 1, format!("{actor}: {op:?} @{hlc}")));
        }
    }
    next
}

fn sends(world: &World) -> Vec<World> {
    let mut next = Vec::new();
    for (from, sender) in world.documents.iter().enumerate() {
        for (to, receiver) in world.documents.iter().enumerate() {
            if !sender.vector().leq(receiver.vector()) {
                let mut after = Document::clone(receiver);
                after.apply(&sender.diff(receiver.vector())).expect("the base is met");
                let text = format!("{} -> {}", ACTORS[from], ACTORS[to]);
                next.push(step(world, to, after, 0, text));
            }
        }
    }
    next
}

fn step(world: &World, index: usize, after: Document, operations: usize, text: String) -> World {
    let mut next = world.clone();
    next.documents[index] = Rc::new(after);
    next.operations += operations;
    next.trace.push(text);
    next
}

#[test]
fn every_short_schedule_converges() {
    let ops = [
        Op::Set("f"),
        Op::Set("f.x"),
        Op::Unset("f"),
        Op::Increment("f"),
        Op::Restart("f"),
        Op::Insert,
        Op::Delete(false),
        Op::Delete(true),
    ];
    assert!(search(&ops, 5, 3, states_max() / 2) > 1000);
}

#[test]
fn set_and_unset_of_one_field_converge_in_every_schedule() {
    assert!(search(&[Op::Set("f"), Op::Unset("f")], 9, 4, states_max()) > 1000);
}

#[test]
fn set_unset_increment_and_delete_converge_in_every_schedule() {
    let ops = [Op::Set("f"), Op::Unset("f"), Op::Increment("g"), Op::Delete(false)];
    assert!(search(&ops, 9, 4, states_max()) > 1000);
}

#[test]
fn maps_and_registers_under_one_name_converge_in_every_schedule() {
    let ops = [Op::Set("f"), Op::Set("f.x"), Op::Unset("f.x"), Op::Unset("f")];
    assert!(search(&ops, 9, 4, states_max()) > 1000);
}

#[test]
fn inserts_and_deletes_of_both_policies_converge_in_every_schedule() {
    let ops = [Op::Insert, Op::Set("f"), Op::Delete(false), Op::Delete(true)];
    assert!(search(&ops, 9, 4, states_max()) > 1000);
}

#[test]
fn restarts_and_increments_converge_in_every_schedule() {
    let ops = [Op::Increment("f"), Op::Restart("f"), Op::Unset("f")];
    assert!(search(&ops, 9, 4, states_max()) > 1000);
}

/// How many states each search walks: what a debug build does in a few seconds, or what
/// `BIGPEER_SEARCH_STATES` says when the test is compiled.
fn states_max() -> usize {
    let told = option_env!("BIGPEER_SEARCH_STATES");
    told.and_then(|told| told.parse().ok()).unwrap_or(12_000)
}
