//! Judges one mutant: the unit tests of its crate first, then simulated worlds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::find::Site;
use crate::tree::Tree;

/// What became of a mutant.
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
    /// By the folder of the sources: the program, the folder to run it in, and its time without a mutant.
    tests: Vec<(&'static str, PathBuf, PathBuf, Duration)>,
    simulator: PathBuf,
    seeds: u64,
    /// The time of all seeds without a mutant.
    seeds_time: Duration,
}

impl Judge {
    /// Builds what judges, and sees the unchanged code pass.
    pub(crate) fn new(tree: &Tree, seeds: u64) -> Result<Self, String> {
        let mut tests = Vec::new();
        for (sources, program) in tree.unit_tests()? {
            let folder = tree.folder(sources);
            let began = Instant::now();
            let ended = run(&program, &["-q"], &folder, 0, BASELINE_MAX)?;
            passes(&ended, "the unit tests")?;
            tests.push((sources, program, folder, began.elapsed()));
        }
        let simulator = tree.simulator()?;
        let began = Instant::now();
        let range = format!("0..{seeds}");
        let ended = run(&simulator, &["--seeds", &range], Path::new("."), 0, BASELINE_MAX)?;
        passes(&ended, "the simulator")?;
        Ok(Self { tests, simulator, seeds, seeds_time: began.elapsed() })
    }

    pub(crate) fn judge(&self, number: usize, site: &Site) -> Result<Verdict, String> {
        for (sources, program, folder, time) in &self.tests {
            if !site.file.starts_with(sources) {
                continue;
            }
            match run(program, &["-q"], folder, number, *time * SLOWER_MAX + GRACE)? {
                None => return Ok(Verdict::FoundByTime("unit tests")),
                Some(ended) if !ended.is_good => {
                    return Ok(Verdict::FoundByTest(first_failed(&ended.text)));
                }
                Some(_) => {}
            }
        }
        self.simulate(number)
    }

    /// A few seeds first: most of what the simulator finds it finds at once.
    fn simulate(&self, number: usize) -> Result<Verdict, String> {
        let mut from = 0;
        for until in [4, 20, self.seeds] {
            let until = until.min(self.seeds);
            if from == until {
                continue;
            }
            let range = format!("{from}..{until}");
            let time = self.seeds_time * SLOWER_MAX + GRACE;
            match run(&self.simulator, &["--seeds", &range], Path::new("."), number, time)? {
                None => return Ok(Verdict::FoundByTime("simulator")),
                Some(ended) if !ended.is_good => {
                    return Ok(Verdict::FoundBySimulator(first_seed(&ended.text)));
                }
                Some(_) => from = until,
            }
        }
        Ok(Verdict::Survived)
    }
}

struct Ended {
    is_good: bool,
    text: String,
}

/// Runs a program with one mutant; none when it did not end in time. Its memory is bounded: a loop that lost its
/// end often allocates.
fn run(
    program: &Path,
    words: &[&str],
    folder: &Path,
    number: usize,
    time: Duration,
) -> Result<Option<Ended>, String> {
    let failed = |error| format!("{}: {error}", program.display());
    let output = std::env::temp_dir().join(format!("bigpeer-mutant-{}", std::process::id()));
    let file = std::fs::File::create(&output).map_err(failed)?;
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")])
        .arg(program)
        .args(words)
        .env("BIGPEER_MUTANT", number.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break Some(status);
        }
        if began.elapsed() > time {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            break None;
        }
        std::thread::sleep(PAUSE);
    };
    let text = String::from_utf8_lossy(&std::fs::read(&output).map_err(failed)?).into_owned();
    std::fs::remove_file(&output).map_err(failed)?;
    Ok(status.map(|status| Ended { is_good: status.success(), text }))
}

fn passes(ended: &Option<Ended>, judge: &str) -> Result<(), String> {
    match ended {
        Some(ended) if ended.is_good => Ok(()),
        Some(ended) => Err(format!("{judge} fail without any mutant:\n{}", ended.text)),
        None => Err(format!("{judge} did not end within {BASELINE_MAX:?} without any mutant")),
    }
}

/// The name of the first test in the list of those that failed.
fn first_failed(text: &str) -> String {
    let listed = text.rsplit_once("failures:\n").map_or("", |(_, list)| list);
    let name = listed.lines().map(str::trim).find(|line| !line.is_empty());
    name.unwrap_or("the unit tests ended badly").to_owned()
}

/// The first failed seed with its rule.
fn first_seed(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("seed "));
    let line = line.unwrap_or("the simulator ended badly");
    line.split_once(']').map_or(line, |(rule, _)| rule).to_owned()
}

/// A mutant may make things slower without being wrong.
const SLOWER_MAX: u32 = 4;
const GRACE: Duration = Duration::from_secs(20);
const BASELINE_MAX: Duration = Duration::from_secs(1_800);
const MEMORY_KIB: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(10);
