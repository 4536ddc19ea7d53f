//! Reads large statements on a thread of its own: JSON of several megabytes, texts with lists of many thousands, values
//! to be sorted. A thread of nodes would answer nobody else meanwhile. For the same reason it is this thread that gives
//! memory back to the system.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bigpeer_connection::Response;
use bigpeer_core::dql::{Bound, Statement};
use bigpeer_core::node::{ErrorKind, Outcome, RequestError};
use bigpeer_core::rng::{Rng, Seed};
use bigpeer_core::value::Value;
use bigpeer_mailbox::Unparker;
use bytes::Bytes;

use crate::{allocator, api};

/// A body longer than this, in bytes, is read here: one of that length takes a fraction of a turn to read where it is
/// arguments, and 8 ms where all of it is a condition. Shorter ones would wait here for longer ones.
pub const READ_ELSEWHERE_BYTES_MIN: usize = 64 * 1024;

/// A body of a statement, once it was read.
#[derive(Debug)]
pub enum Read {
    /// A statement with its arguments.
    Statement(Box<Bound>),
    /// No body of a statement: the answer.
    Refused(Box<Response>),
    /// A statement that is refused.
    Failed(Box<Outcome>),
}

/// Parses the body of a statement, binds the statement to its arguments, and finds the documents of an INSERT. `rng`
/// makes ids for those that have none.
#[must_use]
pub fn read(body: &[u8], rng: &mut Rng) -> Read {
    let (text, mut args) = match api::statement(body) {
        Ok(read) => read,
        Err(response) => return Read::Refused(Box::new(response)),
    };
    let failed = |query_type, error: &dyn ToString| {
        let error = Some(RequestError::new(ErrorKind::Invalid, error.to_string()));
        Read::Failed(Box::new(Outcome { query_type, error, ..Outcome::default() }))
    };
    let statement = match Statement::parse(&text) {
        Ok(statement) => Arc::new(statement),
        Err(error) => return failed("unknown", &error),
    };
    match Bound::taking(statement.clone(), &mut args) {
        Ok(mut bound) => {
            bound.plan_insert(&mut || Value::from(rng.uuid().to_string()));
            Read::Statement(Box::new(bound))
        }
        Err(error) => failed(statement.query_type(), &error),
    }
}

/// A piece of the thread's work.
#[derive(Debug)]
enum Task {
    /// Read a body, and hand back what it says under this name.
    Read(u64, Bytes),
    /// Give memory that is free back to the system.
    Purge,
}

/// The thread, as one that has nodes sees it. Dropping it lets it end and waits.
#[derive(Debug)]
pub struct Reader {
    tasks: Option<Sender<Task>>,
    done: Receiver<(u64, Read)>,
    /// Bodies that were handed over and not handed back: mostly there are none, and this number alone answers the polls
    /// of each turn then.
    out: usize,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread; `waker` wakes the owner when something was read, and ids are drawn from `seed`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(thread: u16, waker: &Unparker, seed: Seed) -> io::Result<Self> {
        let (tasks, inbox) = channel();
        let (done_in, done) = channel();
        let waker = waker.clone();
        let mut rng = Rng::new(&seed, "read");
        let run = move || {
            for task in inbox {
                let Task::Read(request, body) = task else {
                    allocator::purge();
                    continue;
                };
                if done_in.send((request, read(&body, &mut rng))).is_err() {
                    return;
                }
                waker.unpark();
            }
        };
        let thread = std::thread::Builder::new().name(format!("read-{thread}")).spawn(run)?;
        Ok(Self { tasks: Some(tasks), done, out: 0, thread: Some(thread) })
    }

    /// Hands over a body, when the one before it was read: so the end of the process waits for one at most.
    pub fn submit(&mut self, request: u64, body: Bytes) {
        self.out += 1;
        self.ask(Task::Read(request, body));
    }

    /// Lets the thread give memory back to the system.
    pub fn purge(&self) {
        self.ask(Task::Purge);
    }

    fn ask(&self, task: Task) {
        let tasks = self.tasks.as_ref().expect("the reader is not dropped");
        tasks.send(task).expect("its thread ends only with it");
    }

    /// The next body that was read.
    pub fn poll_done(&mut self) -> Option<(u64, Read)> {
        if self.out == 0 {
            return None;
        }
        let done = self.done.try_recv().ok()?;
        self.out -= 1;
        Some(done)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_body_is_said_as_everywhere_else() {
        let mut rng = Rng::new(&[1; 32], "test");
        let mut read = |body: &[u8]| read(body, &mut rng);
        assert!(matches!(read(b"[1]"), Read::Refused(response) if response.status == 400));
        let mut failed = |body: &str| match read(body.as_bytes()) {
            Read::Failed(outcome) => (outcome.query_type, outcome.error.expect("it failed").kind),
            other => panic!("{other:?}"),
        };
        assert_eq!(failed(r#"{"statement":"SELEC"}"#), ("unknown", ErrorKind::Invalid));
        let unbound = r#"{"statement":"SELECT * FROM c WHERE a = :a"}"#;
        assert_eq!(failed(unbound), ("select", ErrorKind::Invalid));
        let bound = r#"{"statement":"SELECT * FROM c WHERE a IN :a","args":{"a":[2,1]}}"#;
        assert!(matches!(read(bound.as_bytes()), Read::Statement(_)));
    }
}
