//! The requests of the workloads, made once: only the digits of an id change from one to the next.

/// What a request needs beside its statement.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The app's id.
    pub(crate) app: Box<str>,
    /// The API key.
    pub(crate) key: Box<str>,
}

/// Whose code answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The statement is run.
    Execute,
    /// The empty handler, and the bare responder, which looks at no path.
    Empty,
}

/// A request with a place for an id.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    id_at: usize,
}

/// Which ids a workload uses.
#[derive(Clone, Debug)]
pub(crate) enum Ids {
    /// Each once, ascending.
    Fresh {
        /// The next.
        next: u64,
    },
    /// Any below a bound, again and again.
    Known {
        /// The bound.
        below: u64,
        /// The state of the generator; not zero.
        state: u64,
    },
}

impl Template {
    /// A durable INSERT of one document of some 300 bytes.
    pub(crate) fn insert(access: &Access, target: Target) -> Self {
        let body = format!(
            r#"{{"statement":"INSERT INTO bench DOCUMENTS (:doc)","args":{{"doc":{}}}}}"#,
            small_document(0)
        );
        Self::new(access, target, &body)
    }

    /// A read of one document by its id.
    pub(crate) fn read(access: &Access, target: Target) -> Self {
        let body = format!(
            r#"{{"statement":"SELECT * FROM bench WHERE _id = :id","args":{{"id":"{}"}}}}"#,
            id(0)
        );
        Self::new(access, target, &body)
    }

    /// The request for a document.
    pub(crate) fn with_id(&mut self, number: u64) -> &[u8] {
        let place = &mut self.bytes[self.id_at..self.id_at + ID_DIGITS];
        let mut rest = number;
        for digit in place.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.bytes
    }

    fn new(access: &Access, target: Target, body: &str) -> Self {
        let path = match target {
            Target::Execute => "store/execute",
            Target::Empty => "bench/empty",
        };
        let bytes = post(access, path, body);
        let marker = id(0);
        let found = bytes.windows(marker.len()).rposition(|window| window == marker.as_bytes());
        let id_at = found.expect("every body names a document") + 1;
        Self { bytes, id_at }
    }
}

impl Ids {
    /// The next id.
    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Self::Fresh { next } => {
                *next += 1;
                *next - 1
            }
            Self::Known { below, state } => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                *state % *below
            }
        }
    }
}

/// A statement without arguments, as a whole request.
pub(crate) fn statement(access: &Access, text: &str) -> Vec<u8> {
    post(access, "store/execute", &format!(r#"{{"statement":"{text}"}}"#))
}

/// One statement that inserts many documents, as a whole request.
pub(crate) fn bulk(access: &Access, collection: &str, documents: &[String]) -> Vec<u8> {
    let documents = documents.join(",");
    let body = format!(
        r#"{{"statement":"INSERT INTO {collection} DOCUMENTS (:docs)","args":{{"docs":[{documents}]}}}}"#
    );
    post(access, "store/execute", &body)
}

/// A document of some 300 bytes.
pub(crate) fn small_document(number: u64) -> String {
    format!(
        r#"{{"_id":"{}","name":"chevrolet chevelle malibu","mpg":18.5,"cylinders":8,"displacement":307,"horsepower":130,"weight":3504,"acceleration":12.1,"year":1970,"origin":"USA","note":"{}"}}"#,
        id(number),
        "n".repeat(100)
    )
}

/// A document of a little more than 1 KiB.
pub(crate) fn large_document(number: u64) -> String {
    format!(r#"{{"_id":"{}","number":{number},"text":"{}"}}"#, id(number), "t".repeat(1000))
}

/// As long for every number, so that a request is changed in place.
fn id(number: u64) -> String {
    format!("d{number:010}")
}

const ID_DIGITS: usize = 10;

fn post(access: &Access, path: &str, body: &str) -> Vec<u8> {
    let Access { app, key } = access;
    format!(
        "POST /{app}/api/v5/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_changes_in_nothing_but_its_id() {
        let access = Access { app: "a".into(), key: "k".into() };
        let mut template = Template::insert(&access, Target::Execute);
        let first = template.with_id(0).to_vec();
        let second = String::from_utf8(template.with_id(1_234).to_vec()).expect("text");
        assert_eq!(first.len(), second.len());
        assert!(second.contains(r#""_id":"d0000001234""#), "{second}");
        assert_eq!(template.with_id(0), first);
    }
}
