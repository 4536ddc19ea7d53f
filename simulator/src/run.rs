//! Runs seeds: one, or many at once, each in a world of its own.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

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

/// Runs one seed. A panic anywhere, mostly an assertion of the core, is a failure like any other.
pub(crate) fn run_seed(seed: u64, is_loud: bool) -> Outcome {
    let mut world = World::new(seed, is_loud);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    if ended.is_err() {
        let text = LAST_PANIC.with_borrow(Clone::clone);
        world.failure = Some(Failure::new("assertion", text));
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

/// Runs seeds on several threads, and hands over what came of each as it ends.
pub(crate) fn run_seeds(seeds: Range<u64>, threads: usize, mut take: impl FnMut(Outcome)) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(threads);
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || sender.send(run_seed(seed, false)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.iter().for_each(&mut take);
    });
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
