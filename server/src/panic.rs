//! A panic ends the process.
//!
//! A shard that panicked has changed half of what it was changing: nothing it says from there on can be trusted.
//! Runtimes catch what their tasks throw and would let the shard go on; and unwinding through a ring's runtime frees
//! buffers that the kernel is still to fill. So no panic unwinds: the hook says the reason and aborts. The log holds
//! every acknowledged write, and a restart begins from there.

use std::panic::PanicHookInfo;

use bigpeer_core::value::json;

use crate::driver::write_last;

/// Lets any panic, on any thread of the process, end the process after one line on standard error.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        write_last(&line(info));
        std::process::abort();
    }));
}

/// The line of a panic: JSON like the log's, whose own threads may be the ones that fell.
fn line(info: &PanicHookInfo<'_>) -> Vec<u8> {
    let thread = std::thread::current();
    let cause = info.payload_as_str().unwrap_or("a value that is no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text =
        "panicked: the process ends here, a restart goes on from the log; please report this";
    let mut line = b"{\"level\":\"error\",\"message\":".to_vec();
    json::write_string(text, &mut line);
    for (name, value) in [
        ("thread", thread.name().unwrap_or("without a name")),
        ("place", &place),
        ("cause", shortened(cause)),
    ] {
        line.push(b',');
        json::write_string(name, &mut line);
        line.push(b':');
        json::write_string(value, &mut line);
    }
    line.extend_from_slice(b"}\n");
    line
}

/// A cause may quote what was being worked on, and the whole line must fit what a pipe takes at once.
fn shortened(cause: &str) -> &str {
    let end = cause.len().min(CAUSE_BYTES_MAX);
    &cause[..cause.floor_char_boundary(end)]
}

/// The longest text of a panic that is shown, in bytes.
const CAUSE_BYTES_MAX: usize = 512;
