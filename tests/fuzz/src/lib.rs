//! Everything that reads bytes from a client, a peer or a disk, as functions of a byte string that must not panic.
//!
//! [`TARGETS`] lists them. On a stable toolchain `cargo test -p bigpeer-fuzz` runs each over the committed vectors
//! and some tens of thousands of mutations of them. With a nightly one, coverage leads the way for as long as one
//! likes:
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz/libfuzzer transaction
//! ```
//!
//! An input that crashed is kept as a file in `regressions/<target>/`, which the test reads as well.

mod codec;
mod connection;
mod disk;
mod node;
mod text;

/// Something that reads bytes from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of its libFuzzer binary.
    pub name: &'static str,
    /// Reads the bytes. Panics only where there is a bug.
    pub run: fn(&[u8]),
    /// The files of `core/tests/vectors` whose vectors are good beginnings.
    pub vectors: &'static [&'static str],
    /// Other good beginnings.
    pub seeds: &'static [&'static [u8]],
}

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    vectors: &'static [&'static str],
    seeds: &'static [&'static [u8]],
) -> Target {
    Target { name, run, vectors, seeds }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("json", text::json, &[], text::JSON),
    target("statement", text::statement, &[], text::STATEMENTS),
    target("permissions", text::permissions, &[], text::PERMISSIONS),
    target("catalog", text::catalog, &[], text::CATALOG),
    target("value", codec::value, &["values"], &[]),
    target("id", codec::id, &["ids"], &[]),
    target("document", codec::document, &["documents"], &[]),
    target("delta", codec::delta, &["deltas"], &[]),
    target("transaction", codec::transaction, &["transactions"], &[]),
    target("frame", codec::frame, &["frames"], &[]),
    target("checkpoint_part", disk::checkpoint_part, &["checkpoint_parts"], &[]),
    target("checkpoint", disk::checkpoint, &["checkpoint"], &[]),
    target("log", disk::log, &["log"], &[]),
    target("session", node::session, &["frames"], &[]),
    target("http", connection::http, &[], connection::REQUESTS),
    target("websocket", connection::websocket, &[], connection::FRAMES),
    target("framed", connection::framed, &[], connection::FRAMED),
    target("answer", connection::answer, &[], connection::ANSWERS),
];

/// Runs a target by its name.
///
/// # Panics
///
/// When there is none of that name, or the target finds a bug.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the name is in the list").run)(bytes);
}
