//! Planted bugs: the tester tested. Each must be found by a judge, in a seed that passes without it.

#[cfg(feature = "planted-bugs")]
mod hunt {
    use std::ops::Range;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use bigpeer_core::plant::{Plant, select};

    use crate::run::{Outcome, run_seed};

    /// Seeds that are tried for one bug, unless others are asked for.
    const SEEDS: Range<u64> = 0..1200;

    /// Seeds that are tried first: at these the bugs were found that took long to find. A change of the engine moves
    /// what happens in a seed; then the search is as long as without, and prints where it has ended.
    const LIKELY: &[(Plant, u64)] = &[
        (Plant::RecordChecksumIgnored, 9),
        (Plant::TornRecordAccepted, 9),
        (Plant::CursorBeforeAck, 17),
        (Plant::DotsOutOfOrder, 51),
        (Plant::SingleRegisterEntry, 46),
        (Plant::NonceIgnored, 12),
        (Plant::PermissionNotHashed, 27),
        (Plant::SnapshotIgnored, 53),
        (Plant::RefusedBaseKnown, 44),
        (Plant::ClockCheckSkipped, 10),
        (Plant::GuardHoldsForCopies, 36),
        (Plant::AcknowledgementBelieved, 8),
        (Plant::RetainedWhenFull, 17),
        (Plant::FullVolumeNotOpened, 29),
        (Plant::WakeUpLost, 146),
        (Plant::ReplacedKept, 13),
        (Plant::OwedDropped, 24),
        (Plant::PermissionKept, 15),
        (Plant::LostKernelIgnored, 36),
        (Plant::PositionReadLate, 36),
        (Plant::OwnEntryBelieved, 69),
        (Plant::ParkedForgotten, 16),
        (Plant::SizeUnjudged, 82),
        (Plant::RefusedSyncTrusted, 26),
        (Plant::SizeJudgedOnce, 110),
        (Plant::EpochKeptLate, 9),
        (Plant::LostPositionIgnored, 23),
        (Plant::ThreadsLookAtOnce, 15),
        (Plant::FirstNodeFirst, 11),
        (Plant::AuthorityOutlived, 22),
    ];

    /// Characters of a failure that are printed.
    const TEXT_CHARS: usize = 100;

    /// Runs each planted bug against seeds until one finds it.
    pub(crate) fn run(
        threads: usize,
        only: Option<&str>,
        also: Option<&str>,
        seeds: Option<Range<u64>>,
    ) -> bool {
        let tried = seeds.unwrap_or(SEEDS);
        let (only, also) = (only.map(named), also.map(named));
        if only == Some(None) || also == Some(None) {
            println!("there is no such bug; there are {:?} and {:?}", Plant::ALL, Plant::UNSEEN);
            return false;
        }
        let also = also.flatten();
        let wanted = only.flatten().map_or_else(|| Plant::ALL.to_vec(), |plant| vec![plant]);
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(plant) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Some(seed) = find(*plant, also, tried.clone()) {
                            found.lock().expect("no thread panics while it holds it").push(seed);
                        }
                    }
                });
            }
        });
        let mut seeds = found.into_inner().expect("no thread panics while it holds it");
        let count = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        println!("without the bugs these seeds pass: {seeds:?}");
        let (all, seconds) = (wanted.len(), began.elapsed().as_secs_f64());
        println!("{count} of {all} planted bugs found in {seconds:.0} s");
        count == all
    }

    fn named(name: &str) -> Option<Plant> {
        let all = Plant::ALL.iter().chain(Plant::UNSEEN).copied();
        all.into_iter().find(|plant| format!("{plant:?}") == name)
    }

    /// Looks for a seed that fails with the bug and passes without it; with `also` made in both.
    fn find(plant: Plant, also: Option<Plant>, seeds: Range<u64>) -> Option<u64> {
        let began = Instant::now();
        let likely =
            LIKELY.iter().filter(|(likely, seed)| *likely == plant && seeds.contains(seed));
        let likely = likely.map(|(_, seed)| *seed);
        let found = likely.chain(seeds.clone()).find_map(|seed| {
            let outcome = run_with([Some(plant), also], seed);
            // A seed that fails without the bug as well proves nothing.
            let tells = outcome.failure.is_some() && run_with([None, also], seed).failure.is_none();
            tells.then_some(outcome)
        });
        let (name, seconds) = (format!("{plant:?}"), began.elapsed().as_secs_f64());
        let Some(Outcome { seed, failure: Some(failure), .. }) = found else {
            println!("{name:<24} NOT FOUND in the seeds {seeds:?}, {seconds:.1} s");
            return None;
        };
        let text: String = failure.text.replace('\n', " ").chars().take(TEXT_CHARS).collect();
        println!("{name:<24} seed {seed:>4} {seconds:>6.1} s  [{}] {text}", failure.rule);
        Some(seed)
    }

    fn run_with(plants: [Option<Plant>; 2], seed: u64) -> Outcome {
        select(plants);
        let outcome = run_seed(seed, false);
        select([None; 2]);
        outcome
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use hunt::run;

/// Says that this build has none.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn run(
    _threads: usize,
    _only: Option<&str>,
    _also: Option<&str>,
    _seeds: Option<std::ops::Range<u64>>,
) -> bool {
    println!("this build has no planted bugs: build it with --features planted-bugs");
    false
}
