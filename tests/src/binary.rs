//! Where the binary under test comes from.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The path of `bigpeer`, built from these sources with the profile of the tests, or named by
/// `BIGPEER_TEST_BINARY`.
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

/// Cargo decides what is stale, and its own lock keeps two test binaries from building at once.
fn build() -> PathBuf {
    let own = std::env::current_exe().expect("a test runs from a file");
    let profile_dir = own.ancestors().nth(2).expect("tests lie in TARGET/PROFILE/deps");
    let target = profile_dir.parent().expect("a profile lies in the target directory");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "bigpeer-server", "--bin", "bigpeer"]);
    command.args(["--profile", profile, "--target-dir"]).arg(target);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.output().expect("cargo runs these tests, so that it is there");
    assert!(output.status.success(), "bigpeer does not build: {}", printed(&output));
    profile_dir.join("bigpeer")
}
