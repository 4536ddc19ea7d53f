//! The process's own log on standard error: JSON lines for machines, plain lines for people. It speaks of the
//! server, never of the content of documents, statements or keys.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use bigpeer_core::value::json;

use crate::clock::Clock;

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

/// Writes one line.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    static AS_TEXT: OnceLock<bool> = OnceLock::new();
    let mut line = Vec::with_capacity(256);
    if *AS_TEXT.get_or_init(|| std::io::stderr().is_terminal()) {
        write_text(&mut line, level, message, fields);
    } else {
        write_json(&mut line, level, message, fields);
    }
    // A closed standard error must not stop a server.
    let _ = std::io::stderr().lock().write_all(&line);
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

fn write_json(line: &mut Vec<u8>, level: Level, message: &str, fields: &[(&str, &str)]) {
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let _ =
        write!(line, "{{\"timeMs\":{},\"level\":\"{level}\",\"message\":", Clock::start().wall().0);
    json::write_string(message, line);
    for (name, value) in fields {
        line.push(b',');
        json::write_string(name, line);
        line.push(b':');
        json::write_string(value, line);
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
        let _ = write!(line, "{} {name}={value}", if index == 0 { ":" } else { "," });
    }
    line.push(b'\n');
}
