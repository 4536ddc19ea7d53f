//! The records of a file, one by one, whatever its format. A bad record does not end the file.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;

use bigpeer_core::value::json::{self, JsonError};
use bigpeer_core::value::{Object, Value};

use super::Format;
use super::cells::Columns;
use super::source::{RECORD_BYTES_MAX, Source};
use crate::cli::error::CliError;
use crate::cli::json::{Element, Elements, Framing, SplitError};
use crate::cli::text::count;

/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A record that can be imported as far as its form goes.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// The line it starts on, from 1.
    pub(super) line: u64,
    /// How many records stand before it, bad ones included.
    pub(super) number: u64,
    /// Its content.
    pub(super) fields: Object,
}

/// A record that cannot be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// The line of the fault, or of the record's start, from 1.
    pub(super) line: u64,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    /// A record.
    Record(Record),
    /// Something else.
    Bad(Bad),
}

/// The records of a file.
pub(super) struct Records {
    reader: Reader,
    /// How many records have been read.
    number: u64,
}

type Input = BufReader<Source>;

enum Reader {
    Json(JsonReader),
    Lines(LineReader),
    Csv(CsvReader),
}

impl Records {
    /// Begins to read `source`. Without a format it is told from the name in `path`, or from the first character.
    ///
    /// # Errors
    ///
    /// If the format cannot be told, or a CSV file's first line is no line of names.
    pub(super) fn new(
        source: Source,
        format: Option<Format>,
        path: &Path,
        strings: bool,
    ) -> Result<Self, CliError> {
        let mut input = BufReader::with_capacity(CHUNK_BYTES, source);
        let first = skip_mark(&mut input)?;
        let format = match format.or_else(|| format_by_name(path)) {
            Some(format) => format,
            None => format_by_first(first)?,
        };
        let reader = match format {
            Format::Json if first == Some(b'{') => {
                Reader::Json(JsonReader::new(input, Framing::Sequence))
            }
            Format::Json => Reader::Json(JsonReader::new(input, Framing::Array)),
            Format::Ndjson => Reader::Lines(LineReader { input, line: 0 }),
            Format::Csv => Reader::Csv(CsvReader::new(input, strings)?),
        };
        Ok(Self { reader, number: 0 })
    }

    /// The next record, or `None` at the end.
    ///
    /// # Errors
    ///
    /// If what follows cannot be told apart into records.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, CliError> {
        let parsed = match &mut self.reader {
            Reader::Json(reader) => reader.next()?.map(parse_element),
            Reader::Lines(reader) => reader.next()?,
            Reader::Csv(reader) => reader.next()?,
        };
        self.source_mut().mark();
        let Some((line, parsed)) = parsed else { return Ok(None) };
        let number = self.number;
        self.number += 1;
        Ok(Some(match parsed {
            Ok(fields) => Entry::Record(Record { line, number, fields }),
            Err(bad) => Entry::Bad(bad),
        }))
    }

    /// The hash of the whole file.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn content_hash(&mut self) -> Result<blake3::Hash, CliError> {
        self.source_mut().content_hash().map_err(|error| unreadable(&error))
    }

    /// How much of the file has been read, in bytes.
    pub(super) fn read_bytes(&self) -> u64 {
        match &self.reader {
            Reader::Json(reader) => reader.input.get_ref().read_bytes(),
            Reader::Lines(reader) => reader.input.get_ref().read_bytes(),
            Reader::Csv(reader) => reader.reader.get_ref().get_ref().read_bytes(),
        }
    }

    fn source_mut(&mut self) -> &mut Source {
        match &mut self.reader {
            Reader::Json(reader) => reader.input.get_mut(),
            Reader::Lines(reader) => reader.input.get_mut(),
            Reader::Csv(reader) => reader.reader.get_mut().get_mut(),
        }
    }
}

/// A line and what stands there.
type Parsed = (u64, Result<Object, Bad>);

fn unreadable(error: &dyn std::error::Error) -> CliError {
    CliError::Failed(format!("the file cannot be read: {error}"))
}

/// Passes the mark if there is one, and returns the first byte that is not white space and lies in the first chunk.
fn skip_mark(input: &mut Input) -> Result<Option<u8>, CliError> {
    let chunk = input.fill_buf().map_err(|error| unreadable(&error))?;
    let mark_bytes = if chunk.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let first = chunk[mark_bytes..].iter().find(|byte| !byte.is_ascii_whitespace()).copied();
    input.consume(mark_bytes);
    Ok(first)
}

fn format_by_name(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "json" => Some(Format::Json),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        "csv" => Some(Format::Csv),
        _ => None,
    }
}

fn format_by_first(first: Option<u8>) -> Result<Format, CliError> {
    match first {
        Some(b'[') => Ok(Format::Json),
        Some(b'{') | None => Ok(Format::Ndjson),
        Some(_) => Err(CliError::Usage(
            "the format cannot be told: give --format json, ndjson or csv".into(),
        )),
    }
}

/// An array or a sequence of objects, cut into pieces.
struct JsonReader {
    input: Input,
    elements: Elements,
    found: VecDeque<Element>,
    /// Nothing more will be found: the text has ended, or has a fault.
    end: Option<Result<(), SplitError>>,
}

impl JsonReader {
    fn new(input: Input, framing: Framing) -> Self {
        let elements = Elements::new(framing, RECORD_BYTES_MAX);
        Self { input, elements, found: VecDeque::new(), end: None }
    }

    fn next(&mut self) -> Result<Option<Element>, CliError> {
        loop {
            // The elements before a fault come before it.
            if let Some(element) = self.found.pop_front() {
                return Ok(Some(element));
            }
            match &self.end {
                Some(Ok(())) => return Ok(None),
                Some(Err(error)) => {
                    let message = format!("{error}. Nothing from there on can be read");
                    return Err(CliError::Failed(message));
                }
                None => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), CliError> {
        let chunk = self.input.fill_buf().map_err(|error| unreadable(&error))?;
        if chunk.is_empty() {
            self.end = Some(self.elements.finish(&mut self.found));
            return Ok(());
        }
        let fed = self.elements.feed(chunk, &mut self.found);
        if let Err(error) = fed.and_then(|taken| self.elements.check_rest(&chunk[taken..])) {
            self.end = Some(Err(error));
        }
        let chunk_bytes = chunk.len();
        self.input.consume(chunk_bytes);
        // How long an element may be is for the splitter to judge.
        self.input.get_mut().mark();
        Ok(())
    }
}

fn parse_element(element: Element) -> Parsed {
    let line = element.line;
    let Some(text) = element.text else { return (line, Err(too_long(line))) };
    let at = |error: JsonError| Bad {
        line: line + error.line as u64 - 1,
        reason: format!("column {}: {}", error.column, error.kind),
    };
    let parsed = json::parse(&text, json::Limits::default()).map_err(at);
    (line, parsed.and_then(|value| into_object(line, value)))
}

fn into_object(line: u64, value: Value) -> Result<Object, Bad> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => {
            let reason = format!("a record is an object, this is {}", other.type_name());
            Err(Bad { line, reason })
        }
    }
}

fn too_long(line: u64) -> Bad {
    Bad { line, reason: format!("the record is longer than {RECORD_BYTES_MAX} bytes") }
}

/// One object per line.
struct LineReader {
    input: Input,
    /// The line last read, from 1.
    line: u64,
}

impl LineReader {
    fn next(&mut self) -> Result<Option<Parsed>, CliError> {
        while let Some(text) = self.next_line()? {
            let line = self.line;
            match text {
                None => return Ok(Some((line, Err(too_long(line))))),
                Some(text) if text.trim_ascii().is_empty() => {}
                Some(text) => return Ok(Some(parse_element(Element { line, text: Some(text) }))),
            }
        }
        Ok(None)
    }

    /// The next line; the inner `None` stands for one that is too long.
    fn next_line(&mut self) -> Result<Option<Option<Vec<u8>>>, CliError> {
        let mut text = Some(Vec::new());
        let mut is_empty = true;
        loop {
            let chunk = self.input.fill_buf().map_err(|error| unreadable(&error))?;
            if chunk.is_empty() {
                self.line += u64::from(!is_empty);
                return Ok((!is_empty).then_some(text));
            }
            is_empty = false;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            match &mut text {
                Some(kept) if kept.len() + part.len() <= RECORD_BYTES_MAX => {
                    kept.extend_from_slice(part);
                }
                _ => text = None,
            }
            let taken = part.len() + usize::from(end.is_some());
            self.input.consume(taken);
            self.input.get_mut().mark();
            if end.is_some() {
                self.line += 1;
                return Ok(Some(text));
            }
        }
    }
}

/// A line of names, then one record per line.
struct CsvReader {
    reader: Box<csv::Reader<Input>>,
    columns: Columns,
    row: csv::ByteRecord,
}

impl CsvReader {
    fn new(input: Input, strings: bool) -> Result<Self, CliError> {
        let mut reader = Box::new(csv::Reader::from_reader(input));
        let names = reader.byte_headers().map_err(|error| unreadable(&error))?;
        let columns = Columns::new(names, strings).map_err(CliError::Failed)?;
        Ok(Self { reader, columns, row: csv::ByteRecord::new() })
    }

    fn next(&mut self) -> Result<Option<Parsed>, CliError> {
        let line_of = |position: Option<&csv::Position>| position.map_or(0, csv::Position::line);
        match self.reader.read_byte_record(&mut self.row) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = line_of(self.row.position());
                let fields = self.columns.fields(&self.row);
                Ok(Some((line, fields.map_err(|reason| Bad { line, reason }))))
            }
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let line = line_of(pos.as_ref());
                    let reason = format!(
                        "it has {}, the first line has {expected_len}",
                        count(*len, "cell")
                    );
                    Ok(Some((line, Err(Bad { line, reason }))))
                }
                _ => Err(unreadable(&error)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
