//! Runs seeds: one, or many at once, each in a world of its own.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::check::Failure;
use crate::coverage::Coverage;
use crate::world::World;

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) failure: Option<Failure>,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) coverage: Coverage,
    pub(crate) timeline: Vec<String>,
}

/// Runs one seed. A panic anywhere is a failure like any other.
pub(crate) fn run_seed(seed: u64, is_loud: bool) -> Outcome {
    let mut world = World::new(seed, is_loud);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    if ended.is_err() {
        let text = LAST_PANIC.with_borrow(Clone::clone);
        world.failure = Some(Failure::new("panic", text));
    }
    Outcome {
        seed,
        failure: world.failure.take(),
        hash: world.trace.hash(),
        events: world.trace.events(),
        timeline: world.trace.timeline(),
        coverage: std::mem::take(&mut world.coverage),
    }
}

/// Runs seeds on several threads.
pub(crate) fn run_seeds(seeds: Range<u64>, threads: usize) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run_seed(seed, false);
                    outcomes.lock().expect("no thread panics while it holds it").push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no thread panics while it holds it")
}

/// Keeps the words of a panic for the report instead of printing them.
pub(crate) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        LAST_PANIC.with_borrow_mut(|text| *text = info.to_string());
    }));
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}
