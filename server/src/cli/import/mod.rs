//! `bigpeer import`: a file into a collection, in batches, so that doing it twice changes nothing.

mod batch;
mod cells;
mod id;
mod pipeline;
mod records;
mod source;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bigpeer_core::value::json;
use indicatif::{ProgressBar, ProgressStyle};

use self::batch::{BATCH_BYTES_MAX, Batcher, DOCUMENT_BYTES_MAX, Prepared};
use self::id::IdRule;
use self::pipeline::Pipeline;
use self::records::{Bad, Entry, Record, Records};
use self::source::Source;
use super::api::{ApiVersion, ServerArgs};
use super::error::{CliError, finish, print, say};
use super::http::Transport;
use super::text::{count, visible};

/// How many documents one request carries unless the caller says otherwise.
const BATCH_COUNT: usize = 500;

/// Load a JSON, NDJSON or CSV file into a collection.
///
/// A document's id is its `_id`, or the field named by --id, or a UUID made from the file's content and the record's
/// number. Documents that exist are updated, and written only where they differ, so that a second run changes
/// nothing. Bad records are listed by line on standard error, and the rest is imported.
/// Exit codes: 0 done, 1 some records were bad or the import failed, 2 usage, 3 refused by the server.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The collection.
    #[arg(long, short)]
    collection: String,
    /// The file; `-` for standard input.
    file: PathBuf,
    /// The field whose value becomes the document's id. The field stays.
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// The file's format; by default told from its name, or from its first character.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Documents per request; requests are also kept to 1 MiB.
    #[arg(long, value_name = "N", default_value_t = BATCH_COUNT, value_parser = parse_batch)]
    batch: usize,
    /// CSV: take every cell as text. Otherwise integers, floats and booleans are recognised.
    #[arg(long)]
    strings: bool,
    /// What happens to a document whose id exists.
    #[arg(long, value_enum, default_value_t)]
    on_conflict: OnConflict,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// How records are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// An array of objects, or objects one after the other.
    Json,
    /// One object per line.
    Ndjson,
    /// A line of names, then one record per line. Names with dots make nested objects.
    Csv,
}

/// What happens to a document whose id exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum OnConflict {
    /// Its fields are written where they differ; fields that the record lacks stay.
    #[default]
    Update,
    /// It stays as it is.
    Nothing,
    /// The record is bad.
    Fail,
}

impl OnConflict {
    fn clause(self) -> &'static str {
        match self {
            Self::Update => " ON ID CONFLICT DO UPDATE_LOCAL_DIFF",
            Self::Nothing => " ON ID CONFLICT DO NOTHING",
            Self::Fail => "",
        }
    }
}

fn parse_batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=10_000) => Ok(count),
        _ => Err("a batch has 1 to 10000 documents".to_owned()),
    }
}

impl ImportArgs {
    /// Imports the file.
    #[must_use]
    pub fn run(self) -> ExitCode {
        finish(self.try_run())
    }

    fn try_run(self) -> Result<(), CliError> {
        let source = Source::open(&self.file).map_err(|error| {
            CliError::Failed(format!("{} cannot be read: {error}", self.file.display()))
        })?;
        let bar = progress(&source);
        let records = Records::new(source, self.format, &self.file, self.strings)?;
        let api = self.server.connect(ApiVersion::V5)?;
        let statement = format!(
            "INSERT INTO {} DOCUMENTS (:docs){}",
            super::statement::quote_name(&self.collection),
            self.on_conflict.clause()
        );
        let import = Import {
            records,
            id: IdRule::new(self.id.as_deref()),
            batcher: Batcher::new(self.batch, BATCH_BYTES_MAX),
            pipeline: Pipeline::new(api, statement),
            local_bad: 0,
            bar: bar.clone(),
        };
        let started = Instant::now();
        let summary = import.run(&|bad| bar.suspend(|| say(&bad.to_string())));
        bar.finish_and_clear();
        let summary = summary?;
        print(&match self.json {
            true => summary.json(started.elapsed()),
            false => summary.line(started.elapsed()),
        })?;
        summary.verdict()
    }
}

/// A bar over the bytes of the file, on a terminal; a spinner where their number is not known.
fn progress(source: &Source) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match source.length_bytes() {
        Some(bytes) => {
            (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes}  {msg}  {eta} left")
        }
        None => (ProgressBar::no_length(), "{spinner} {bytes}  {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.with_style(style)
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, visible(&self.reason))
    }
}

/// One import under way.
struct Import<T> {
    records: Records,
    id: IdRule,
    batcher: Batcher,
    pipeline: Pipeline<T>,
    local_bad: u64,
    bar: ProgressBar,
}

impl<T: Transport> Import<T> {
    /// Imports all records; bad ones go to `on_bad` as they are found.
    fn run(mut self, on_bad: &dyn Fn(&Bad)) -> Result<Summary, CliError> {
        loop {
            let entry = match self.records.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    // What was read so far is worth keeping: a second run leaves it as it is.
                    self.finish(on_bad)?;
                    return Err(error);
                }
            };
            let prepared = match entry {
                Entry::Record(record) => self.prepare(record)?,
                Entry::Bad(bad) => Err(bad),
            };
            match prepared {
                Ok(prepared) => {
                    if let Some(batch) = self.batcher.push(prepared) {
                        self.pipeline.submit(batch, on_bad)?;
                        self.show();
                    }
                }
                Err(bad) => {
                    self.local_bad += 1;
                    on_bad(&bad);
                }
            }
        }
        self.finish(on_bad)
    }

    fn finish(&mut self, on_bad: &dyn Fn(&Bad)) -> Result<Summary, CliError> {
        if let Some(batch) = self.batcher.take() {
            self.pipeline.submit(batch, on_bad)?;
        }
        self.pipeline.drain(on_bad)?;
        let totals = self.pipeline.totals();
        let bad = self.local_bad + totals.refused;
        let unchanged = totals.accepted - totals.changed.min(totals.accepted);
        Ok(Summary { imported: totals.accepted, bad, unchanged })
    }

    /// Gives a record its id and its text.
    fn prepare(&mut self, record: Record) -> Result<Result<Prepared, Bad>, CliError> {
        let Record { line, number, mut fields } = record;
        let bad = |reason: String| Ok(Err(Bad { line, reason }));
        let records = &mut self.records;
        let id = match self.id.assign(&mut fields, number, || records.content_hash())? {
            Ok(id) => id,
            Err(reason) => return bad(reason),
        };
        let mut text = Vec::new();
        let id_value = fields.get("_id").expect("an id was assigned");
        json::write_document(id_value, &fields, &mut text);
        if text.len() > DOCUMENT_BYTES_MAX {
            let length = text.len();
            return bad(format!(
                "{length} bytes are more than the {DOCUMENT_BYTES_MAX} of a request"
            ));
        }
        Ok(Ok(Prepared { line, id, json: text }))
    }

    fn show(&self) {
        self.bar.set_position(self.records.read_bytes());
        self.bar.set_message(count(self.pipeline.totals().accepted, "document"));
    }
}

/// What an import came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Summary {
    imported: u64,
    bad: u64,
    /// Of those imported, how many the server had already, just so.
    unchanged: u64,
}

impl Summary {
    fn line(self, elapsed: Duration) -> String {
        let Self { imported, bad, unchanged } = self;
        let seconds = elapsed.as_secs_f64();
        let note = if unchanged > 0 { format!(" ({unchanged} unchanged)") } else { String::new() };
        format!("{} imported, {bad} bad, {seconds:.1} s{note}\n", count(imported, "document"))
    }

    fn json(self, elapsed: Duration) -> String {
        let Self { imported, bad, unchanged } = self;
        let seconds = elapsed.as_secs_f64();
        format!(
            "{{\"imported\":{imported},\"bad\":{bad},\"unchanged\":{unchanged},\"seconds\":{seconds:.3}}}\n"
        )
    }

    fn verdict(self) -> Result<(), CliError> {
        match self.bad {
            0 => Ok(()),
            bad => {
                let verb = if bad == 1 { "was" } else { "were" };
                Err(CliError::Failed(format!("{} {verb} not imported", count(bad, "record"))))
            }
        }
    }
}

#[cfg(test)]
mod tests;
