//! Why a command did not do what it was asked, and the exit code that says so.

use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command stopped. One variant per exit code, and two that need a word of their own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments cannot be meant as they stand: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Nothing answers at the server's address: exit code 1. Commands that know why say more.
    #[error("no server answers at {url}: {cause}. Is it running, and is the address right?")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The server answered that it will not: exit code 3.
    #[error("{0}")]
    Refused(String),
    /// Something went wrong on the way: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Whoever read our output has gone, as `head` does: exit code 1, without a word.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// What the caller of the process sees.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unreachable { .. } | Self::Failed(_) | Self::OutputClosed => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
        })
    }

    /// A failure to write what was asked for.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("the output cannot be written: {error}")),
        }
    }
}

/// Turns the result of a command into its exit code; an error is told on standard error.
pub(crate) fn finish(result: Result<(), CliError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if !matches!(error, CliError::OutputClosed) {
        say(&format!("error: {error}"));
    }
    error.exit_code()
}

/// Writes a line to standard error. Should that fail there is nobody left to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes text to standard output.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CliError::output(&error))
}
