//! Judges one mutant by the unit tests of its crate and by simulated worlds, and stops at the first that fails.
//!
//! A program has so much time of a processor and not of a clock: on a busy machine, or stopped for a while, it would be
//! taken for one that never ends.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::find::Site;
use crate::tree::{Tree, UnitTests};

/// The end of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A unit test failed: the first that did.
    FoundByTest(String),
    /// A simulated world failed: the seed and the rule.
    FoundBySimulator(String),
    /// Nothing came to an end in time.
    FoundByTime(&'static str),
    Survived,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::FoundByTest(name) => format!("found: {name}"),
            Self::FoundBySimulator(what) => format!("found: {what}"),
            Self::FoundByTime(program) => format!("found: the {program} did not end"),
            Self::Survived => "SURVIVED".to_owned(),
        };
        f.pad(&text)
    }
}

pub(crate) struct Judge {
    /// By the folder of the sources: the program, the folder to run it in, and its processor time without a mutant.
    tests: Vec<(&'static str, PathBuf, PathBuf, Duration)>,
    simulator: PathBuf,
    seeds: u64,
    /// The processor time of all seeds without a mutant.
    seeds_time: Duration,
}

impl Judge {
    /// Builds the simulator, and sees the unchanged code pass unless that was seen before.
    pub(crate) fn new(
        tree: &Tree,
        unit_tests: UnitTests,
        seeds: u64,
        has_passed: bool,
    ) -> Result<Self, String> {
        let simulator = tree.simulator()?;
        let programs = unit_tests.iter().map(|(_, program)| program).chain([&simulator]);
        let print = fingerprint(programs, seeds)?;
        let has_passed = has_passed || tree.has_passed(&print);
        let time_of = |program: &Path, words: &[&str], folder: &Path, judge, known| {
            if has_passed {
                return Ok(known);
            }
            let before = used_by("self", ENDED_CHILDREN)?;
            passes(&run(program, words, folder, 0, BASELINE_MAX)?, judge)?;
            Ok::<_, String>(used_by("self", ENDED_CHILDREN)?.saturating_sub(before))
        };
        let mut tests = Vec::new();
        for (sources, program) in unit_tests {
            let folder = tree.folder(sources);
            let time = time_of(
                &program,
                &["--test-threads", TEST_THREADS],
                &folder,
                "the unit tests",
                TIME_OF_TESTS,
            )?;
            tests.push((sources, program, folder, time));
        }
        let range = format!("0..{seeds}");
        let words = ["--seeds", &range];
        let known = TIME_OF_SEED * u32::try_from(seeds).unwrap_or(u32::MAX);
        let seeds_time = time_of(&simulator, &words, Path::new("."), "the simulator", known)?;
        if !has_passed {
            tree.note_passed(&print)?;
        }
        Ok(Self { tests, simulator, seeds, seeds_time })
    }

    /// The tests nearest to the mutant and a few worlds find most mutants at once; what they miss meets all the rest.
    pub(crate) fn judge(&self, number: usize, site: &Site) -> Result<Verdict, String> {
        let near = modules(&site.file);
        let near = near.iter().map(|module| self.test(number, site, Some(module)));
        let few = FEW_SEEDS.min(self.seeds);
        let near = near.chain(std::iter::once_with(|| self.simulate(number, 0..few)));
        let all = std::iter::once_with(|| self.test(number, site, None));
        let all = all.chain(std::iter::once_with(|| self.simulate(number, few..self.seeds)));
        for verdict in near.chain(all) {
            match verdict? {
                Verdict::Survived => {}
                found => return Ok(found),
            }
        }
        Ok(Verdict::Survived)
    }

    /// Runs the unit tests of the mutant's crate, those of one module or all.
    fn test(&self, number: usize, site: &Site, module: Option<&str>) -> Result<Verdict, String> {
        let here = self.tests.iter().filter(|(sources, ..)| site.file.starts_with(sources));
        for (_, program, folder, time) in here {
            let filter: Vec<_> =
                module.into_iter().chain(["--test-threads", TEST_THREADS]).collect();
            match run(program, &filter, folder, number, *time * SLOWER_MAX + GRACE)? {
                None => return Ok(Verdict::FoundByTime("unit tests")),
                Some(ended) if !ended.is_good => return Ok(Verdict::FoundByTest(ended.failed)),
                Some(_) => {}
            }
        }
        Ok(Verdict::Survived)
    }

    fn simulate(&self, number: usize, seeds: Range<u64>) -> Result<Verdict, String> {
        if seeds.is_empty() {
            return Ok(Verdict::Survived);
        }
        let range = format!("{}..{}", seeds.start, seeds.end);
        let part = (seeds.end - seeds.start) as f64 / self.seeds.max(1) as f64;
        let time = self.seeds_time.mul_f64(part) * SLOWER_MAX + GRACE;
        let ended = run(&self.simulator, &["--seeds", &range], Path::new("."), number, time)?;
        Ok(match ended {
            None => Verdict::FoundByTime("simulator"),
            Some(ended) if !ended.is_good => Verdict::FoundBySimulator(ended.failed),
            Some(_) => Verdict::Survived,
        })
    }
}

/// The modules of tests that lie nearest to a file, nearest first: its own, then the folder's above it.
fn modules(file: &Path) -> Vec<String> {
    let inside = file.iter().skip_while(|part| *part != "src").skip(1);
    let mut path: Vec<_> = inside.filter_map(|part| part.to_str()).collect();
    let mut modules = Vec::new();
    if let Some(last) = path.last_mut() {
        *last = last.trim_end_matches(".rs");
    }
    if path.last() == Some(&"mod") {
        path.pop();
    }
    while !path.is_empty() {
        modules.push(format!("{}::", path.join("::")));
        path.pop();
    }
    modules
}

/// The names, sizes and times of programs, and how many worlds they are to meet: what has passed once need not again.
fn fingerprint<'a>(
    programs: impl Iterator<Item = &'a PathBuf>,
    seeds: u64,
) -> Result<String, String> {
    let mut print = format!("{seeds} seeds\n");
    for program in programs {
        let failed = |error| format!("{}: {error}", program.display());
        let found = program.metadata().map_err(failed)?;
        let made = found.modified().map_err(failed)?;
        print.push_str(&format!("{} {} {made:?}\n", program.display(), found.len()));
    }
    Ok(print)
}

/// A line of a program's output.
#[derive(Debug)]
enum Said {
    Failed(String),
    TestEnded,
}

struct Ended {
    is_good: bool,
    /// The first test that failed, or the first world with its rule.
    failed: String,
}

/// Runs a program with one mutant until it ends or says that something failed; none when it did neither within so much
/// time of a processor, or waits for something that never comes; nor when a test that others have passed by keeps it
/// busy and silent: all tests take minutes, the longest of them a fraction of one. Its memory is bounded, since many a
/// loop that lost its end allocates in each round.
fn run(
    program: &Path,
    words: &[&str],
    folder: &Path,
    number: usize,
    time: Duration,
) -> Result<Option<Ended>, String> {
    let failed = |error| format!("{}: {error}", program.display());
    let limits = format!("ulimit -v {MEMORY_KIB}; ulimit -S -t {}", time.as_secs());
    let mut child = Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(program)
        .args(words)
        .env("BIGPEER_MUTANT", number.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take().expect("it was asked for");
    let (sender, said) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let said = match failure(&line) {
                Some(what) => Said::Failed(what),
                None if line.starts_with("test ") => Said::TestEnded,
                None => continue,
            };
            // The other end is gone once it has heard of a failure.
            let _ = sender.send(said);
        }
    });
    // Ends with the first failure, when nothing goes on any more, or when the program has closed its output: it is ending.
    let (mut used, mut looks) = (Duration::ZERO, 0);
    // As of the last test that ended; none in a program that has no tests.
    let mut used_at_test = None;
    let heard = loop {
        match said.recv_timeout(LOOK_PAUSE) {
            Ok(Said::Failed(what)) => break Ok(what),
            Ok(Said::TestEnded) => {
                used_at_test = Some(used_by(&child.id().to_string(), OWN)?);
                continue;
            }
            Err(RecvTimeoutError::Timeout) if looks < IDLE_LOOKS_MAX => {}
            Err(ended) => break Err(ended),
        }
        let now = used_by(&child.id().to_string(), OWN)?;
        looks = if now == used { looks + 1 } else { 0 };
        used = now;
        if used_at_test.is_some_and(|at| used.saturating_sub(at) > TEST_MAX) {
            break Err(RecvTimeoutError::Timeout);
        }
    };
    if heard != Err(RecvTimeoutError::Disconnected) {
        child.kill().map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    reader.join().expect("the reader only reads");
    Ok(match heard {
        Ok(failed) => Some(Ended { is_good: false, failed }),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) if status.signal() == Some(TIME_IS_UP) => None,
        Err(RecvTimeoutError::Disconnected) => {
            let failed = format!("{} ended badly", program.display());
            Some(Ended { is_good: status.success(), failed })
        }
    })
}

/// The place in `/proc/PID/stat` of how long a process has run for itself and in the kernel, counted from the
/// field behind its name.
const OWN: usize = 11;
/// The same of its children that have ended.
const ENDED_CHILDREN: usize = 13;

/// The processor time of a process, or of its children.
fn used_by(process: &str, field: usize) -> Result<Duration, String> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let ticks = fields.skip(field).take(2).map(str::parse::<u32>);
    let ticks: u32 = ticks.sum::<Result<_, _>>().map_err(|error| format!("{path}: {error}"))?;
    Ok(TICK * ticks)
}

/// A failure in a line of output: the name of a test, or a seed with its rule.
fn failure(line: &str) -> Option<String> {
    if let Some(test) = line.strip_prefix("test ") {
        return Some(test.strip_suffix(" ... FAILED")?.to_owned());
    }
    let seed = line.starts_with("seed ").then_some(line)?;
    Some(seed.split_once(']').map_or(seed, |(rule, _)| rule).to_owned())
}

fn passes(ended: &Option<Ended>, judge: &str) -> Result<(), String> {
    match ended {
        Some(ended) if ended.is_good => Ok(()),
        Some(ended) => Err(format!("{judge} fail without any mutant: {}", ended.failed)),
        None => Err(format!(
            "{judge} did not end within {BASELINE_MAX:?} of processor time without any mutant"
        )),
    }
}

/// A mutant may make things slower without being wrong.
const SLOWER_MAX: u32 = 4;
const GRACE: Duration = Duration::from_secs(20);
const BASELINE_MAX: Duration = Duration::from_secs(3_600);
/// More processor time than any two tests take that run beside each other: see [`TEST_THREADS`].
const TEST_MAX: Duration = Duration::from_secs(120);
/// The number of tests that run beside each other.
const TEST_THREADS: &str = "2";
/// As much processor time as programs that have passed before take at most.
const TIME_OF_TESTS: Duration = Duration::from_secs(150);
const TIME_OF_SEED: Duration = Duration::from_secs(3);
/// Between two looks whether a program goes on.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A program that used no processor at so many looks waits for what never comes.
const IDLE_LOOKS_MAX: u32 = 60;
/// The unit of processor time in `/proc`, on every architecture of Linux: a hundredth of a second.
const TICK: Duration = Duration::from_millis(10);
/// The signal to a program at the end of its processor time: SIGXCPU.
const TIME_IS_UP: i32 = 24;
const MEMORY_KIB: u64 = 8 << 20;
/// Most of what worlds find they find among the first.
const FEW_SEEDS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_tests_come_first() {
        assert_eq!(
            modules(Path::new("core/src/store/apply/fold.rs")),
            ["store::apply::fold::", "store::apply::", "store::"]
        );
        assert_eq!(modules(Path::new("core/src/node/mod.rs")), ["node::"]);
    }

    #[test]
    fn a_program_has_so_much_time_of_a_processor_and_not_of_a_clock() {
        let run_for = |words: &[&str], time| {
            run(Path::new("/bin/sh"), words, Path::new("."), 0, Duration::from_secs(time))
        };
        let busy = run_for(&["-c", "while :; do :; done"], 1).expect("there is a shell");
        assert!(busy.is_none(), "it never ends");
        // Longer than its time, and nearly none of it used.
        let idle = run_for(&["-c", "sleep 2"], 1).expect("there is a shell");
        assert!(idle.is_some_and(|ended| ended.is_good));
        assert!(used_by("self", ENDED_CHILDREN).expect("a process") >= Duration::from_millis(900));
    }

    #[test]
    fn the_first_failure_is_heard_in_what_programs_print() {
        assert_eq!(failure("test a::b ... FAILED"), Some("a::b".into()));
        assert_eq!(failure("test a::b ... ok"), None);
        assert_eq!(failure("seed 7: [model] x"), Some("seed 7: [model".into()));
    }
}
