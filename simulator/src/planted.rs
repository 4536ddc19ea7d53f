//! Planted bugs: the tester tested. Each must be found by a judge, in some seed.

#[cfg(feature = "planted-bugs")]
mod hunt {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use bigpeer_core::plant::{Plant, select};

    use crate::run::run_seed;

    /// Seeds that are tried for one bug.
    const SEEDS_MAX: u64 = 150;

    /// Runs each planted bug against seeds until one finds it.
    pub(crate) fn run(threads: usize, only: Option<&str>) -> bool {
        let wanted: Vec<Plant> = Plant::ALL
            .iter()
            .copied()
            .filter(|plant| only.is_none_or(|only| format!("{plant:?}") == only))
            .collect();
        let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(plant) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if !is_found(*plant) {
                            missed.lock().expect("no thread panics while it holds it").push(*plant);
                        }
                    }
                });
            }
        });
        let missed = missed.into_inner().expect("no thread panics while it holds it");
        println!("{} of {} planted bugs found", wanted.len() - missed.len(), wanted.len());
        missed.is_empty() && !wanted.is_empty()
    }

    fn is_found(plant: Plant) -> bool {
        let began = Instant::now();
        select(Some(plant));
        let found = (0..SEEDS_MAX)
            .map(|seed| run_seed(seed, false))
            .find(|outcome| outcome.failure.is_some());
        select(None);
        let name = format!("{plant:?}");
        let seconds = began.elapsed().as_secs_f64();
        match &found {
            Some(outcome) => {
                let failure = outcome.failure.as_ref().expect("it was looked for");
                let text: String = failure.to_string().chars().take(110).collect();
                println!("{name:<24} seed {:>4}  {seconds:>5.1} s  {text}", outcome.seed);
            }
            None => println!("{name:<24} NOT FOUND in {SEEDS_MAX} seeds, {seconds:.1} s"),
        }
        found.is_some()
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use hunt::run;

/// Says that this build has none.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn run(_threads: usize, _only: Option<&str>) -> bool {
    println!("this build has no planted bugs: build it with --features planted-bugs");
    false
}
