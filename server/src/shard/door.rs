//! The admin door: a thread with connections and without nodes. It runs no statement, so whoever asks for health, for
//! metrics or for an app is answered at once, whatever the others are busy with. What takes the catalog it asks of
//! the first thread.

use bigpeer_connection::{RequestId, Response};
use bigpeer_core::node::{self, RackInput};

use super::Shard;
use super::answer::{Administered, Client, Pending};
use super::connection::ConnId;
use super::mail::Mail;
use crate::api::AdminCall;

/// A request of an administrator that the first thread has been asked to answer.
#[derive(Debug)]
pub(super) struct Question {
    conn: ConnId,
    id: RequestId,
}

impl Shard {
    /// At the door: hands on what only a thread with nodes can answer.
    pub(super) fn ask_first_thread(&mut self, conn: ConnId, id: RequestId, call: AdminCall) {
        let question = self.questions.insert(Question { conn, id });
        self.post(0, Mail::Ask { question, call: Box::new(call) });
    }

    /// At the door: the first thread has answered. An administrator who is gone hears nothing.
    pub(super) fn on_answer(&mut self, question: u64, response: Response) {
        let asked = self.questions.remove(question);
        let Question { conn, id } = asked.expect("each question is answered once");
        self.respond(conn, id, response);
    }

    /// On the first thread: the door asks.
    pub(super) fn on_question(&mut self, question: u64, call: AdminCall) {
        match self.administer(call) {
            Administered::Answered(response) => self.answer_door(question, response),
            Administered::Change(purpose, op) => {
                let key = self.pending.insert(Pending::new(Client::Door(question), purpose));
                let body = node::Request::Catalog(vec![op]);
                self.input(RackInput::Request { request: node::RequestId(key), body });
            }
        }
    }

    pub(super) fn answer_door(&mut self, question: u64, response: Response) {
        self.post(self.config.threads, Mail::Answer { question, response: Box::new(response) });
    }
}
