//! Documents as rows of cells. The columns are known only when the last document has come, so the documents wait in a
//! nameless file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};

use bigpeer_core::value::{Object, Value, json};

use super::write_line;
use crate::cli::error::CliError;
use crate::cli::spool;
use crate::cli::text::compact;

/// How many columns there may be: a map with a field per key makes a column of each.
const COLUMNS_MAX: usize = 10_000;

/// Gathers documents, then writes them as CSV.
pub(super) struct CsvWriter<W: Write> {
    out: W,
    spooled: BufWriter<File>,
    /// Paths, sorted, `_id` and what is in it first.
    columns: BTreeSet<(bool, String)>,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(out: W) -> Result<Self, CliError> {
        let file = spool::open().map_err(|error| spool_failed(&error))?;
        Ok(Self { out, spooled: BufWriter::new(file), columns: BTreeSet::new() })
    }

    pub(super) fn document(&mut self, text: &[u8]) -> Result<(), CliError> {
        let fields = parse(text)?;
        for (path, _) in leaves(&fields) {
            let is_other = path != "_id" && !path.starts_with("_id.");
            self.columns.insert((is_other, path));
            if self.columns.len() > COLUMNS_MAX {
                let message = format!("there are more than {COLUMNS_MAX} fields: export as NDJSON");
                return Err(CliError::Failed(message));
            }
        }
        write_line(&mut self.spooled, text).map_err(|error| spool_failed(&error))
    }

    pub(super) fn finish(self) -> Result<(), CliError> {
        let Self { out, spooled, columns } = self;
        let mut file = spooled.into_inner().map_err(|error| spool_failed(error.error()))?;
        file.rewind().map_err(|error| spool_failed(&error))?;
        let names: Vec<String> = columns.into_iter().map(|(_, path)| path).collect();
        let mut out = csv::Writer::from_writer(out);
        if !names.is_empty() {
            out.write_record(&names).map_err(failed)?;
        }
        for line in BufReader::new(file).split(b'\n') {
            let fields = parse(&line.map_err(|error| spool_failed(&error))?)?;
            let leaves: BTreeMap<String, String> = leaves(&fields).into_iter().collect();
            let cells = names.iter().map(|name| leaves.get(name).map_or("", String::as_str));
            out.write_record(cells).map_err(failed)?;
        }
        out.flush().map_err(|error| CliError::output(&error))
    }
}

fn failed(error: csv::Error) -> CliError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => CliError::output(&error),
        other => CliError::Failed(format!("the output cannot be written: {other:?}")),
    }
}

fn spool_failed(error: &std::io::Error) -> CliError {
    let place = std::env::temp_dir();
    CliError::Failed(format!("no room to set documents aside in {}: {error}", place.display()))
}

fn parse(text: &[u8]) -> Result<Object, CliError> {
    match json::parse(text, json::Limits::default()) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(CliError::Failed(format!("a document is {}", other.type_name()))),
        Err(error) => Err(CliError::Failed(format!("a document cannot be read: {error}"))),
    }
}

/// Every value that is no object, and every empty object, by its path. Null is an empty cell, as absence is.
fn leaves(fields: &Object) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    let mut pending: Vec<(String, &Value)> =
        fields.iter().map(|(name, value)| (name.to_owned(), value)).collect();
    while let Some((path, value)) = pending.pop() {
        match value {
            Value::Object(object) if !object.is_empty() => {
                pending
                    .extend(object.iter().map(|(name, value)| (format!("{path}.{name}"), value)));
            }
            Value::Null => leaves.push((path, String::new())),
            Value::String(text) => leaves.push((path, text.to_string())),
            value => leaves.push((path, compact(value))),
        }
    }
    leaves
}
