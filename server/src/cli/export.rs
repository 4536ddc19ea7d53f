//! `bigpeer export`: a collection as a file, in a form that `import` takes back.

mod cells;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use self::cells::CsvWriter;
use super::api::{Api, ApiVersion, Reply, ServerArgs};
use super::error::{CliError, finish, say};
use super::http::Transport;
use super::statement;
use super::text::count;

/// Write a collection as NDJSON, JSON or CSV.
///
/// NDJSON and JSON keep every value just as it is, so that `export | import` gives the same collection. CSV has one
/// column per field, with dots for nested ones; in it a text such as `5` reads back as a number, arrays are
/// text, and null is an empty cell.
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused by the server.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The collection.
    #[arg(long, short)]
    collection: String,
    /// Only documents that match, as in a SELECT: `color = 'red'`.
    #[arg(long = "where", value_name = "DQL")]
    condition: Option<String>,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to write; by default to standard output. An existing file is replaced once the export is complete.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How documents are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One document per line.
    #[default]
    Ndjson,
    /// One array.
    Json,
    /// A line of names, then one document per line.
    Csv,
}

impl ExportArgs {
    /// Exports the collection.
    #[must_use]
    pub fn run(self) -> ExitCode {
        finish(self.try_run())
    }

    fn try_run(self) -> Result<(), CliError> {
        let started = Instant::now();
        let mut api = self.server.connect(ApiVersion::V5)?;
        let query = query(&self.collection, self.condition.as_deref());
        let exported = match &self.output {
            Some(path) => to_file(path, |out| export(&mut api, &query, self.format, out))?,
            None => export(&mut api, &query, self.format, &mut io::stdout().lock())?,
        };
        if self.output.is_some() || !io::stdout().is_terminal() {
            let seconds = started.elapsed().as_secs_f64();
            say(&format!("{} exported, {seconds:.1} s", count(exported, "document")));
        }
        Ok(())
    }
}

fn query(collection: &str, condition: Option<&str>) -> String {
    let name = statement::quote_name(collection);
    match condition {
        // The line break ends a comment that the condition may end with.
        Some(condition) => format!("SELECT * FROM {name} WHERE {condition}\n"),
        None => format!("SELECT * FROM {name}"),
    }
}

/// Writes beside `path` and renames: a file of that name is always a whole export.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<u64, CliError>,
) -> Result<u64, CliError> {
    let failed = |error: io::Error| {
        CliError::Failed(format!("{} cannot be written: {error}", path.display()))
    };
    // What is no plain file, /dev/stdout or a pipe, cannot be replaced.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return write(&mut File::options().write(true).open(path).map_err(failed)?);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = File::create(&partial).map_err(failed)?;
    let result = write(&mut file).and_then(|exported| {
        file.sync_all().and_then(|()| std::fs::rename(&partial, path)).map_err(failed)?;
        Ok(exported)
    });
    if result.is_err() {
        // The error that counts is the one we have.
        let _ = std::fs::remove_file(&partial);
    }
    result
}

/// Runs the query and writes the documents as they arrive. Returns how many there were.
fn export<T: Transport>(
    api: &mut Api<T>,
    query: &str,
    format: Format,
    out: &mut impl Write,
) -> Result<u64, CliError> {
    let mut writer = Writer::new(format, BufWriter::new(out))?;
    let mut exported = 0;
    let reply = api.execute(query, b"{}", &mut |item| {
        exported += 1;
        writer.document(item)
    })?;
    match reply {
        Reply::Done(_) => writer.finish().map(|()| exported),
        Reply::Refused(refusal) => {
            let explained = statement::explain(query, &refusal);
            Err(match refusal.into_error() {
                CliError::Refused(_) => CliError::Refused(explained),
                _ => CliError::Failed(explained),
            })
        }
    }
}

enum Writer<W: Write> {
    Lines(W),
    Array { out: W, is_first: bool },
    Csv(CsvWriter<W>),
}

impl<W: Write> Writer<W> {
    fn new(format: Format, out: W) -> Result<Self, CliError> {
        Ok(match format {
            Format::Ndjson => Self::Lines(out),
            Format::Json => Self::Array { out, is_first: true },
            Format::Csv => Self::Csv(CsvWriter::new(out)?),
        })
    }

    fn document(&mut self, text: &[u8]) -> Result<(), CliError> {
        let result = match self {
            Self::Lines(out) => write_line(out, text),
            Self::Array { out, is_first } => {
                let before: &[u8] = if std::mem::take(is_first) { b"[\n" } else { b",\n" };
                out.write_all(before).and_then(|()| out.write_all(text))
            }
            Self::Csv(writer) => return writer.document(text),
        };
        result.map_err(|error| CliError::output(&error))
    }

    fn finish(self) -> Result<(), CliError> {
        let result = match self {
            Self::Lines(mut out) => out.flush(),
            Self::Array { mut out, is_first } => {
                let after: &[u8] = if is_first { b"[]\n" } else { b"\n]\n" };
                out.write_all(after).and_then(|()| out.flush())
            }
            Self::Csv(writer) => return writer.finish(),
        };
        result.map_err(|error| CliError::output(&error))
    }
}

/// Writes a value on one line. Strings hold no bare line break, so one that is there stands between tokens.
pub(super) fn write_line(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    for part in text.split(|&byte| matches!(byte, b'\n' | b'\r')) {
        out.write_all(part)?;
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
