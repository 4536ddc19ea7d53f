//! `bigpeer doctor`: what of this machine a server should know about before it starts.

mod disk;
mod host;

use std::path::PathBuf;
use std::process::ExitCode;

use bigpeer_core::value::{Object, Value};

use super::error::{CliError, finish, print};
use super::text::compact;

/// Check this machine: kernel, limits, disk.
///
/// Writes a small file into the data directory for a moment, to time its disk. A warning says what to do about it.
/// Exit codes: 0 done, also with warnings, 1 a check failed that no server can do without.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// The data directory; the nearest one above it if it does not exist.
    #[arg(long, env = "BIGPEER_DATA", default_value = "./bigpeer-data", value_name = "DIR")]
    data: PathBuf,
    /// Print the checks as JSON, one object per line.
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing to do.
    Ok,
    /// A server runs, less well than it could.
    Warning,
    /// No server runs.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do, unless all is well.
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, verdict: Verdict::Warning, found: found.into(), advice }
    }

    fn failed(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(name, found, advice) }
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        let advice =
            self.advice.as_ref().map_or(String::new(), |advice| format!("\n{:24}{advice}", ""));
        format!("{verdict:8}{:16}{}{advice}\n", self.name, self.found)
    }

    fn json(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        let mut object: Object =
            [("check", self.name), ("verdict", verdict), ("found", &*self.found)]
                .into_iter()
                .collect();
        if let Some(advice) = &self.advice {
            object.insert("advice", Value::from(&**advice));
        }
        format!("{}\n", compact(&Value::Object(object)))
    }
}

impl DoctorArgs {
    /// Looks at everything and prints what it finds.
    #[must_use]
    pub fn run(self) -> ExitCode {
        finish(self.try_run())
    }

    fn try_run(self) -> Result<(), CliError> {
        let mut is_failed = false;
        for check in host::checks().into_iter().chain(disk::checks(&self.data)) {
            is_failed |= check.verdict == Verdict::Failed;
            print(&if self.json { check.json() } else { check.line() })?;
        }
        match is_failed {
            true => Err(CliError::Failed("a server cannot run here as it is".into())),
            false => Ok(()),
        }
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_what_to_do() {
        let check = Check::warning("open files", "256", "raise it");
        assert_eq!(check.line(), format!("warning open files      256\n{:24}raise it\n", ""));
        let expected =
            r#"{"advice":"raise it","check":"open files","found":"256","verdict":"warning"}"#;
        assert_eq!(check.json().trim_end(), expected);
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536 << 20].map(size);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 GiB"]);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let checks: Vec<Check> =
            host::checks().into_iter().chain(disk::checks(&std::env::temp_dir())).collect();
        assert_eq!(checks.len(), 8);
        for check in checks {
            assert_eq!(check.verdict == Verdict::Ok, check.advice.is_none(), "{check:?}");
        }
    }
}
