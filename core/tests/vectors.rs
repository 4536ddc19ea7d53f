//! The bytes that leave this crate, frozen.
//!
//! `tests/vectors/*.hex` hold what the code writes today for every layout of `ARCHITECTURE.md`: this test writes
//! all of it again and compares. `tests/decode_vectors.py` at the root, which was written from that document and
//! not from this code, reads the same files and compares what it finds with the `*.json` beside them; here those
//! are compared with what the code knows about the same bytes. So document, code and decoder have to agree.
//!
//! A format that changes on purpose takes a new version; `BIGPEER_BLESS=1 cargo test -p bigpeer-core --test vectors`
//! writes the files anew, and `tests/decode_vectors.py --bless` what they say, both to be read in the diff.

#[path = "vectors/documents.rs"]
mod documents;
#[path = "vectors/log.rs"]
mod log;
#[path = "vectors/process.rs"]
mod process;
#[path = "vectors/session.rs"]
mod session;
#[path = "vectors/transactions.rs"]
mod transactions;
#[path = "vectors/values.rs"]
mod values;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bigpeer_core::value::{Value, json};

/// Named byte strings, as one file holds them.
#[derive(Default)]
pub(crate) struct Vectors {
    entries: Vec<(String, Vec<u8>)>,
}

impl Vectors {
    pub(crate) fn push(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        let (name, bytes) = (name.into(), bytes.into());
        assert!(self.entries.iter().all(|(have, _)| *have != name), "two vectors named {name}");
        self.entries.push((name, bytes));
    }

    /// Compares with the committed file, or writes it when asked to.
    pub(crate) fn check(&self, file: &str) {
        let path = folder().join(format!("{file}.hex"));
        let text = self.to_text();
        if std::env::var_os("BIGPEER_BLESS").is_some() {
            fs::write(&path, text).expect("the folder of the vectors can be written");
            return;
        }
        let committed = fs::read_to_string(&path).expect("the vectors are committed");
        let differing = committed.lines().zip(text.lines()).position(|(a, b)| a != b);
        assert!(
            committed == text,
            "{file}.hex differs from line {}: if the format was meant to change, give it a new version and bless",
            differing.unwrap_or_else(|| committed.lines().count().min(text.lines().count())) + 1
        );
    }

    /// `# name`, then the bytes as hexadecimal, 32 a line; `zeros N` stands for N zero bytes.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.entries {
            writeln!(text, "# {name}").expect("a string takes all");
            let mut zeros = 0;
            for line in bytes.chunks(32) {
                if line.len() == 32 && line.iter().all(|&byte| byte == 0) {
                    zeros += line.len();
                    continue;
                }
                write_zeros(&mut text, &mut zeros);
                line.iter()
                    .for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
                text.push('\n');
            }
            write_zeros(&mut text, &mut zeros);
        }
        text
    }
}

fn write_zeros(text: &mut String, zeros: &mut usize) {
    if *zeros > 0 {
        writeln!(text, "zeros {zeros}").expect("a string takes all");
    }
    *zeros = 0;
}

/// What the decoder says about the vector `name` of `file`, or nothing before it was asked.
pub(crate) fn said(file: &str, name: &str) -> Option<Value> {
    let text = fs::read(folder().join(format!("{file}.json"))).ok()?;
    let all = json::parse(&text, json::Limits::default()).expect("the decoder writes JSON");
    all.as_object().and_then(|all| all.get(name)).cloned()
}

/// The member of what is said at a path such as `ops.0.merge.collection`.
pub(crate) fn member<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, step| {
        let found = match value {
            Value::Object(object) => object.get(step),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("nothing at `{step}` of `{path}`"))
    })
}

/// Compares one fact that the code knows with what the decoder found.
pub(crate) fn agree(file: &str, name: &str, path: &str, expected: impl Into<Value>) {
    if std::env::var_os("BIGPEER_BLESS").is_some() {
        return;
    }
    let said = said(file, name).unwrap_or_else(|| panic!("{file}.json says nothing of {name}"));
    assert_eq!(*member(&said, path), expected.into(), "{file}: {name}: {path}");
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn parsed(text: &str) -> Value {
    json::parse(text.as_bytes(), json::Limits::default()).expect("the test's own JSON")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}
