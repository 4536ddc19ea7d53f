//! Where the binary under test comes from.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The path of `bigpeer`, built from these sources for release, or named by `BIGPEER_TEST_BINARY`.
///
/// # Panics
///
/// When it cannot be built.
pub fn bigpeer() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("BIGPEER_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// Runs a command of the client's side to its end.
///
/// # Panics
///
/// When the binary cannot be started.
#[must_use]
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(bigpeer());
    command.args(arguments).envs(environment.iter().copied());
    command.output().expect("the binary was just built")
}

/// What a command printed, for the text of a failure.
#[must_use]
pub fn printed(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// Cargo decides what is stale, and its own lock keeps two test binaries from building at once. The profile is
/// release, whatever that of the tests is: kills and races want a server at its full speed.
fn build() -> PathBuf {
    let own = std::env::current_exe().expect("a test runs from a file");
    let target = own.ancestors().nth(3).expect("tests lie in TARGET/PROFILE/deps");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "bigpeer-server",
        "--bin",
        "bigpeer",
    ]);
    command.args(["--release", "--target-dir"]).arg(target);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.output().expect("cargo runs these tests, so that it is there");
    assert!(output.status.success(), "bigpeer does not build: {}", printed(&output));
    target.join("release/bigpeer")
}
