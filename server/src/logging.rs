//! The process's own log on standard error: JSON lines for machines, plain lines for people. It speaks of the
//! server, never of the content of documents, statements or keys.
//!
//! Nobody waits for standard error: lines go through a bounded queue to a thread of their own, and what finds no
//! place is counted (`bigpeer_events_dropped_total`). A line that strangers can cause is written once a second at
//! most, with the number of its like since.

mod escape;
mod queue;
mod repeated;

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bigpeer_core::value::json;

use crate::clock::Clock;
use escape::Escaped;
use queue::Queue;

pub use repeated::Repeated;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something of note.
    Info,
    /// Something an operator should look at.
    Warn,
    /// Something is broken.
    Error,
}

impl Level {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warn, Self::Error];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Writes one line, soon. Control characters in the values of fields are escaped, and long ones are cut: some are what a
/// peer wrote.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    static AS_TEXT: OnceLock<bool> = OnceLock::new();
    EVENTS[level as usize].fetch_add(1, Ordering::Relaxed);
    let mut line = Vec::with_capacity(256);
    if *AS_TEXT.get_or_init(|| std::io::stderr().is_terminal()) {
        write_text(&mut line, level, message, fields);
    } else {
        write_json(&mut line, level, message, fields);
    }
    queue().push(line);
}

/// Logs something of note.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    log(Level::Info, message, fields);
}

/// Logs something an operator should look at.
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    log(Level::Warn, message, fields);
}

/// Logs that something is broken.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    log(Level::Error, message, fields);
}

/// Logs what a stranger can cause as often as it likes, once a second at most for each `repeated`.
pub fn repeated(repeated: &Repeated, level: Level, message: &str, fields: &[(&str, &str)]) {
    let Some(count) = repeated.admit(Clock::process().mono()) else { return };
    if count == 0 {
        return log(level, message, fields);
    }
    let count = count.to_string();
    let mut all = fields.to_vec();
    all.push(("suppressed", &count));
    log(level, message, &all);
}

/// Waits until everything is written, or nobody has read it for so long. For the end of the process.
pub fn flush(patience: Duration) {
    queue().flush(patience);
}

/// How many lines of this level there were, dropped ones included.
#[must_use]
pub fn events(level: Level) -> u64 {
    EVENTS[level as usize].load(Ordering::Relaxed)
}

/// How many lines found no place in the queue.
#[must_use]
pub fn dropped() -> u64 {
    queue().dropped()
}

static EVENTS: [AtomicU64; Level::ALL.len()] = [const { AtomicU64::new(0) }; Level::ALL.len()];

fn queue() -> &'static Queue {
    static QUEUE: OnceLock<Queue> = OnceLock::new();
    QUEUE.get_or_init(|| Queue::start(std::io::stderr()))
}

fn write_json(line: &mut Vec<u8>, level: Level, message: &str, fields: &[(&str, &str)]) {
    let (level, wall) = (level.name(), Clock::process().wall().0);
    let _ = write!(line, "{{\"timeMs\":{wall},\"level\":\"{level}\",\"message\":");
    json::write_string(message, line);
    for (name, value) in fields {
        line.push(b',');
        json::write_string(name, line);
        line.push(b':');
        json::write_string(&Escaped(value).to_string(), line);
    }
    line.extend_from_slice(b"}\n");
}

fn write_text(line: &mut Vec<u8>, level: Level, message: &str, fields: &[(&str, &str)]) {
    let prefix = match level {
        Level::Info => "",
        Level::Warn => "warning: ",
        Level::Error => "error: ",
    };
    let _ = write!(line, "{prefix}{message}");
    for (index, (name, value)) in fields.iter().enumerate() {
        let _ = write!(line, "{} {name}={}", if index == 0 { ":" } else { "," }, Escaped(value));
    }
    line.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_wrote_moves_no_terminal_and_begins_no_line() {
        let fields = [("cause", "a\u{1b}[2J\nerror: forged")];
        let (mut text, mut json) = (Vec::new(), Vec::new());
        write_text(&mut text, Level::Info, "peer refused", &fields);
        write_json(&mut json, Level::Info, "peer refused", &fields);
        for line in [text, json] {
            let line = String::from_utf8(line).expect("text");
            assert!(!line.contains('\u{1b}') && line.lines().count() == 1, "{line}");
            assert!(line.contains("forged"), "{line}");
        }
    }
}
