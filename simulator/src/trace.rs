//! What happened in a run: a hash over every event, and the last lines for a reader.

use std::collections::VecDeque;

/// A hash of all events so far, and the last of them in words.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: VecDeque<String>,
    is_loud: bool,
}

impl Trace {
    /// An empty trace; a loud one prints its lines as they come.
    pub(crate) fn new(is_loud: bool) -> Self {
        Self { hash: FNV_OFFSET, events: 0, lines: VecDeque::new(), is_loud }
    }

    /// Mixes an event into the hash: what kind it is, when, and what it carried.
    pub(crate) fn mix(&mut self, kind: u8, at_ns: u64, detail: u64) {
        self.events += 1;
        for word in [u64::from(kind), at_ns, detail] {
            self.hash = (self.hash ^ word).wrapping_mul(FNV_PRIME).rotate_left(23);
        }
    }

    /// Mixes bytes into the hash.
    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.hash =
                (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(FNV_PRIME).rotate_left(23);
        }
    }

    /// Adds a line to the timeline.
    pub(crate) fn line(&mut self, at_ns: u64, text: &str) {
        let line = format!("{:>12.6} s  {text}", at_ns as f64 / 1e9);
        if self.is_loud {
            eprintln!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, oldest first.
    pub(crate) fn timeline(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

/// How many lines a failure shows.
const LINES_KEPT: usize = 60;
