//! A server that reads from a script.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::error::CliError;
use super::http::{BodySink, Request, Transport};

/// Decides the answer to a request: status and body.
type Answerer = Box<dyn FnMut(&Request) -> (u16, String)>;

/// Answers every request by a function, in order, as a server does that handles pipelined requests one by one.
pub(crate) struct Scripted {
    answerer: Answerer,
    waiting: VecDeque<(u16, String)>,
    sent: Rc<RefCell<Vec<Request>>>,
    in_flight_max: Rc<RefCell<usize>>,
}

impl Scripted {
    /// Gives these answers in their order, and shows what was sent.
    pub(crate) fn new<const N: usize>(
        answers: [(u16, &str); N],
    ) -> (Self, Rc<RefCell<Vec<Request>>>) {
        let mut answers = answers.map(|(status, body)| (status, body.to_owned())).into_iter();
        Self::by(move |_| answers.next().expect("the script has an answer for every request"))
    }

    /// Answers by `answerer`.
    pub(crate) fn by(
        answerer: impl FnMut(&Request) -> (u16, String) + 'static,
    ) -> (Self, Rc<RefCell<Vec<Request>>>) {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let scripted = Self {
            answerer: Box::new(answerer),
            waiting: VecDeque::new(),
            sent: Rc::clone(&sent),
            in_flight_max: Rc::default(),
        };
        (scripted, sent)
    }

    /// The greatest number of requests that were under way at once.
    pub(crate) fn in_flight_max(&self) -> Rc<RefCell<usize>> {
        Rc::clone(&self.in_flight_max)
    }
}

impl Transport for Scripted {
    fn send(&mut self, request: Request) -> Result<(), CliError> {
        self.waiting.push_back((self.answerer)(&request));
        let mut max = self.in_flight_max.borrow_mut();
        *max = self.waiting.len().max(*max);
        self.sent.borrow_mut().push(request);
        Ok(())
    }

    fn receive(&mut self, sink: &mut BodySink<'_>) -> Result<u16, CliError> {
        let (status, body) = self.waiting.pop_front().expect("a request is under way");
        for piece in body.as_bytes().chunks(7) {
            sink(status, piece)?;
        }
        Ok(status)
    }
}
