//! The answer to a statement: an object whose `items` are handed on one by one while it arrives.

use std::collections::VecDeque;

use bigpeer_core::value::{Object, Value, json};

use super::{Element, Elements, Framing};

/// The longest single item taken, in bytes. A document has at most 5 MiB; a row may be joined from several.
const ITEM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most that an answer may hold besides its items, in bytes: the ids of what a statement wrote.
const REST_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Reads an answer in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct EnvelopeReader {
    /// The answer with `items` emptied.
    rest: Vec<u8>,
    depth: u64,
    in_string: bool,
    escaped: bool,
    /// Where the last string at depth 1 starts in `rest`.
    string_start: usize,
    /// `"items":` has been read, and nothing after it.
    at_items: bool,
    items: Option<Elements>,
}

impl EnvelopeReader {
    /// Takes the next piece and appends the items that it completes to `out`.
    ///
    /// # Errors
    ///
    /// If this is no answer that we can read.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut VecDeque<Element>) -> Result<(), String> {
        let mut bytes = bytes;
        while let Some((&byte, after)) = bytes.split_first() {
            if let Some(items) = &mut self.items {
                let taken = items.feed(bytes, out).map_err(|error| error.to_string())?;
                bytes = &bytes[taken..];
                if items.is_done() {
                    self.items = None;
                    self.rest.extend_from_slice(b"[]");
                }
                continue;
            }
            if self.at_items && byte == b'[' {
                self.at_items = false;
                self.items = Some(Elements::new(Framing::Array, ITEM_BYTES_MAX));
                continue;
            }
            self.step(byte)?;
            bytes = after;
        }
        Ok(())
    }

    /// The answer has ended: everything in it but the items.
    ///
    /// # Errors
    ///
    /// If it is cut off or is no JSON object.
    pub(crate) fn finish(self) -> Result<Object, String> {
        if self.items.is_some() {
            return Err("it ends among its items".to_owned());
        }
        let limits = json::Limits { values_max: REST_BYTES_MAX, ..json::Limits::default() };
        match json::parse(&self.rest, limits) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(other) => Err(format!("it is {}, not an object", other.type_name())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), String> {
        if self.rest.len() >= REST_BYTES_MAX {
            return Err(format!("it is longer than {REST_BYTES_MAX} bytes without its items"));
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else {
            if !byte.is_ascii_whitespace() {
                let is_items = || self.rest[self.string_start..].trim_ascii_end() == b"\"items\"";
                self.at_items = self.depth == 1 && byte == b':' && is_items();
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.string_start = self.rest.len();
                }
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.rest.push(byte);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<(Vec<String>, String), String> {
        let mut reader = EnvelopeReader::default();
        let mut out = VecDeque::new();
        for piece in pieces {
            reader.feed(piece, &mut out)?;
        }
        let envelope = Value::Object(reader.finish()?);
        let text = |element: Element| String::from_utf8(element.text.unwrap()).unwrap();
        Ok((out.into_iter().map(text).collect(), crate::cli::text::compact(&envelope)))
    }

    #[test]
    fn items_come_out_one_by_one_wherever_the_answer_is_split() {
        let text = br#"{"transactionId":7,"x":{"items":[9],"y":"\"items\":["}, "items" : [{"items":[1]}, 2],"error":{}}"#;
        let items = vec![r#"{"items":[1]}"#.to_owned(), "2".to_owned()];
        let envelope =
            r#"{"error":{},"items":[],"transactionId":7,"x":{"items":[9],"y":"\"items\":["}}"#;
        for at in 0..=text.len() {
            let (a, b) = text.split_at(at);
            assert_eq!(read(&[a, b]), Ok((items.clone(), envelope.to_owned())), "split at {at}");
        }
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let text = br#"{"items":[{"a":1},{"b":2}],"warnings":[]}"#;
        for length in 0..text.len() {
            assert!(read(&[&text[..length]]).is_err(), "cut to {length}");
        }
        assert!(read(&[text]).is_ok());
        assert!(read(&[b"[]"]).is_err());
        assert_eq!(read(&[br#"{"items":null}"#]).unwrap().1, r#"{"items":null}"#);
    }
}
