//! The copy of the workspace with all drawn mutants in it, and its build.
//!
//! The copy lies in `target/mutants` and is written only where it differs, so that a second run builds little. What
//! others have written is not built again: cargo finds it where `tests/run` has built the same selection of packages
//! for its own unit tests and its own simulator. Cargo unites the features of all packages that are selected, so the
//! copy has them all, but those that judge nothing with empty sources.
//! A change that does not compile (a value moved twice, a type that has no `-`) is taken out, and another is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::draw::Draw;
use crate::find::Site;

/// Asks for the number of the mutant that is made, in every crate that has mutants.
const SWITCH: &str = r#"//! Chooses one mutant at the start of the process.
#![allow(missing_docs, clippy::all)]
use std::sync::OnceLock;

static CHOSEN: OnceLock<usize> = OnceLock::new();

#[inline]
pub fn is(number: usize) -> bool {
    let chosen = || std::env::var("BIGPEER_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    *CHOSEN.get_or_init(chosen) == number
}
"#;

/// A number that runs below zero is found where it happens.
const PROFILES: &str = r#"
[profile.release.package.bigpeer-core]
overflow-checks = true
debug-assertions = true

[profile.release.package.bigpeer-connection]
overflow-checks = true
debug-assertions = true
"#;

/// The unit tests of many mutants are made fast. Those of a few are built quickly: core and its tests take 54 s of
/// processor time as they are and 246 s with this, and one run of them 119 s.
const PROFILES_OF_MANY: &str = r#"
[profile.dev.package.bigpeer-core]
opt-level = 1

[profile.dev.package.bigpeer-connection]
opt-level = 1
"#;

/// From so many mutants on, unit tests are optimized.
const MANY: usize = 20;

/// The folders of the sources of the crates that have mutants.
const CRATES: [&str; 2] = ["core/src", "server/connection/src"];

/// The packages whose sources are copied: their unit tests or their worlds judge.
const JUDGES: [&str; 3] = ["core", "server/connection", "simulator"];

/// The version of all packages of the copy. What cargo builds is named after a package, its version and its features, and
/// is taken for new as long as no source is newer: with the version of the workspace, the workspace's own tests would find
/// what was built here.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-mutants");

/// The source of every library, program and test of the other packages.
const EMPTY: &str = "#![allow(warnings)]\nfn main() {}\n";

pub(crate) struct Tree {
    root: PathBuf,
    /// Everything that git knows of, from the root.
    files: Vec<PathBuf>,
    workspace: PathBuf,
}

/// One failed build: the numbers of the mutants that do not compile.
type Broken = BTreeSet<usize>;

/// The programs of unit tests, by the folder of the sources of their crate.
pub(crate) type UnitTests = Vec<(&'static str, PathBuf)>;

/// In each rewritten file, the bytes of each mutant.
type Places = BTreeMap<PathBuf, Vec<(Range<usize>, usize)>>;

impl Tree {
    /// Copies the workspace, as far as git knows of it, for this number of mutants.
    pub(crate) fn new(workspace: &Path, count: usize) -> Result<Self, String> {
        let root = workspace.join("target/mutants");
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace).output();
        let listed = listed.map_err(|error| format!("git ls-files: {error}"))?;
        let text = String::from_utf8(listed.stdout).map_err(|_| "a file's name is no text")?;
        let files = text.split_terminator('\0').map(PathBuf::from);
        let files: Vec<_> = files.filter(|file| workspace.join(file).is_file()).collect();
        if files.is_empty() {
            return Err("git lists no files: the copy is made of what git knows".into());
        }
        let tree = Self { root, files, workspace: workspace.to_owned() };
        for file in &tree.files {
            let mut bytes = read(&tree.workspace.join(file))?;
            if file == Path::new("Cargo.toml") || file == Path::new("Cargo.lock") {
                bytes = versioned(bytes)?;
            }
            if file == Path::new("Cargo.toml") {
                bytes.extend_from_slice(PROFILES.as_bytes());
                let of_many = if count >= MANY { PROFILES_OF_MANY } else { "" };
                bytes.extend_from_slice(of_many.as_bytes());
            }
            let is_source = file.extension().is_some_and(|extension| extension == "rs");
            if is_source && !JUDGES.iter().any(|folder| file.starts_with(folder)) {
                bytes = EMPTY.into();
            }
            // The sources of mutants are written with their mutants in them.
            if !CRATES.iter().any(|folder| file.starts_with(folder)) {
                write(&tree.root.join(file), &bytes)?;
            }
        }
        Ok(tree)
    }

    /// Writes the mutants, builds the unit tests, and draws others for mutants that do not compile.
    pub(crate) fn build<'a>(
        &self,
        sites: &'a [Site],
        mutants: &mut BTreeMap<usize, &'a Site>,
        draw: &mut Draw,
    ) -> Result<UnitTests, String> {
        for _ in 0..BUILDS_MAX {
            let places = self.write(mutants)?;
            let messages = self.build_unit_tests()?;
            let broken = broken(&messages, &places)?;
            if broken.is_empty() {
                return self.programs(&messages);
            }
            println!("{} do not compile, and others are drawn", broken.len());
            for number in broken {
                mutants.remove(&number);
                if let Some(site) = draw.take(sites, mutants) {
                    mutants.insert(number, site);
                }
            }
        }
        Err(format!("after {BUILDS_MAX} builds some mutants still do not compile"))
    }

    fn write(&self, mutants: &BTreeMap<usize, &Site>) -> Result<Places, String> {
        let mut places = Places::new();
        for folder in CRATES {
            write(&self.root.join(folder).join("mutant.rs"), SWITCH.as_bytes())?;
            for file in self.files.iter().filter(|file| file.starts_with(folder)) {
                let bytes = read(&self.workspace.join(file))?;
                let mut text = String::from_utf8(bytes)
                    .map_err(|_| format!("{} is no text", file.display()))?;
                let found = places.entry(file.clone()).or_default();
                rewrite(file, &mut text, mutants, found);
                if file.ends_with("src/lib.rs") {
                    text.push_str("\n#[doc(hidden)]\npub mod mutant;\n");
                }
                write(&self.root.join(file), text.as_bytes())?;
            }
        }
        Ok(places)
    }

    /// Builds the unit tests of all packages: those of the empty ones cost next to nothing.
    fn build_unit_tests(&self) -> Result<Vec<Value>, String> {
        self.run_cargo(&["test", "--workspace", "--lib", "--no-run"])
    }

    /// The programs of the unit tests that a build has made.
    fn programs(&self, messages: &[Value]) -> Result<UnitTests, String> {
        let mut programs = UnitTests::new();
        for message in messages {
            let Some(program) = message["executable"].as_str() else { continue };
            let source = message["target"]["src_path"].as_str().unwrap_or_default();
            let of =
                CRATES.iter().find(|folder| Path::new(source).starts_with(self.root.join(folder)));
            programs.extend(of.map(|folder| (*folder, PathBuf::from(program))));
        }
        if programs.len() == CRATES.len() { Ok(programs) } else { Err(FAILED_BUILD.into()) }
    }

    /// Builds the simulator with all mutants in it.
    pub(crate) fn simulator(&self) -> Result<PathBuf, String> {
        let packages = ["-p", "bigpeer-server", "-p", "bigpeer-simulator"];
        let words = [&["build", "--release", "--bin", "bigpeer-sim"][..], &packages].concat();
        let built = self.run_cargo(&words)?;
        let program = built.iter().rev().find_map(|message| message["executable"].as_str());
        program.map(PathBuf::from).ok_or_else(|| FAILED_BUILD.into())
    }

    /// True when these very programs have passed without a mutant.
    pub(crate) fn has_passed(&self, print: &str) -> bool {
        std::fs::read_to_string(self.passed()).is_ok_and(|found| found == print)
    }

    /// Notes that they have.
    pub(crate) fn note_passed(&self, print: &str) -> Result<(), String> {
        write(&self.passed(), print.as_bytes())
    }

    fn passed(&self) -> PathBuf {
        self.root.join("target/passed")
    }

    /// The folder of a crate in the copy.
    pub(crate) fn folder(&self, sources: &str) -> PathBuf {
        self.root.join(sources).parent().expect("sources lie in their crate").to_owned()
    }

    /// Runs cargo, and reads it message by message. What it builds lies beside what the workspace has built, its
    /// programs in the copy. Link-time optimization is off: it would only make the build longer.
    fn run_cargo(&self, words: &[&str]) -> Result<Vec<Value>, String> {
        let output = Command::new("cargo")
            .args(words)
            .args(["--locked", "--message-format=json"])
            .env("CARGO_BUILD_BUILD_DIR", self.workspace.join("target"))
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .current_dir(&self.root)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// Gives the packages of the workspace the version of the copy, in its manifest or in its lock file.
fn versioned(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let text = String::from_utf8(bytes).map_err(|_| "a manifest is no text")?;
    let mut is_ours = false;
    let (old, new) = (concat!("\"", env!("CARGO_PKG_VERSION"), "\""), format!("\"{VERSION}\""));
    let lines = text.split_inclusive('\n').map(|line| {
        let is_version = line.starts_with("version = ");
        let replaced =
            if is_ours && is_version { line.replace(old, &new) } else { line.to_owned() };
        is_ours = line == "[workspace.package]\n" || line.starts_with("name = \"bigpeer-");
        replaced
    });
    let changed: String = lines.collect();
    if changed == text {
        return Err(format!("no package of the workspace has the version {old}"));
    }
    Ok(changed.into())
}

/// Puts the mutants of one file into its text, from its end to its beginning, and notes where each came to lie.
fn rewrite(
    file: &Path,
    text: &mut String,
    mutants: &BTreeMap<usize, &Site>,
    found: &mut Vec<(Range<usize>, usize)>,
) {
    let mut here: Vec<_> = mutants.iter().filter(|(_, site)| site.file == file).collect();
    here.sort_by_key(|(_, site)| site.range.start);
    let (mut new, mut last) = (String::with_capacity(text.len()), 0);
    for (number, site) in here {
        new.push_str(&text[last..site.range.start]);
        let start = new.len();
        new.push_str(&site.text(&format!("crate::mutant::is({number})")));
        found.push((start..new.len(), *number));
        last = site.range.end;
    }
    new.push_str(&text[last..]);
    *text = new;
}

/// The mutants that did not compile.
///
/// # Errors
///
/// The compiler's own words when it refuses something else.
fn broken(messages: &[Value], places: &Places) -> Result<Broken, String> {
    let mut broken = Broken::new();
    let mut errors = Vec::new();
    for message in messages.iter().map(|message| &message["message"]) {
        if message["level"] != "error" {
            continue;
        }
        let found = numbers(message, places);
        if found.is_empty() && message["spans"].as_array().is_some_and(|all| !all.is_empty()) {
            errors.push(message["rendered"].as_str().unwrap_or_default().to_owned());
        }
        broken.extend(found);
    }
    if broken.is_empty() && !errors.is_empty() {
        return Err(format!("the copy does not compile:\n{}", errors.join("\n")));
    }
    Ok(broken)
}

/// The mutants that an error points into.
fn numbers(message: &Value, places: &Places) -> Broken {
    let mut broken = Broken::new();
    let children = message["children"].as_array().into_iter().flatten();
    let messages = children.chain(std::iter::once(message));
    for span in messages.flat_map(|message| message["spans"].as_array().into_iter().flatten()) {
        let file = Path::new(span["file_name"].as_str().unwrap_or_default());
        let (Some(start), Some(end)) = (span["byte_start"].as_u64(), span["byte_end"].as_u64())
        else {
            continue;
        };
        let span = start as usize..end as usize;
        let here = places.get(file).into_iter().flatten();
        let hit = here.filter(|(range, _)| range.start < span.end && span.start < range.end);
        broken.extend(hit.map(|(_, number)| *number));
    }
    broken
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file unless it holds these bytes: its time is what cargo looks at.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    let folder = path.parent().expect("a file lies in a folder");
    let failed = |error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    std::fs::write(path, bytes).map_err(failed)
}

/// Each build takes out what does not compile; what is drawn instead may not either.
const BUILDS_MAX: usize = 12;

const FAILED_BUILD: &str = "the copy did not build; cargo has said why";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_of_the_copy_have_a_version_of_their_own_and_no_other_changes() {
        let version = env!("CARGO_PKG_VERSION");
        let lock = |ours: &str| {
            format!(
                "[[package]]\nname = \"bigpeer-core\"\nversion = \"{ours}\"\n\n\
                 [[package]]\nname = \"other\"\nversion = \"{version}\"\n"
            )
        };
        assert_eq!(versioned(lock(version).into()), Ok(lock(VERSION).into()));
        let manifest = |ours: &str| format!("[workspace.package]\nversion = \"{ours}\"\n");
        assert_eq!(versioned(manifest(version).into()), Ok(manifest(VERSION).into()));
        assert!(versioned(b"[package]\nname = \"other\"\n".to_vec()).is_err());
    }
}
