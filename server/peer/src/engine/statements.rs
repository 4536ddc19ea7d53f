//! Statements under way, and who waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use bigpeer_core::node::{
    Credential, Execute, ObjectMode, Outcome, RackInput, Reply, Request, RequestId,
};
use bigpeer_core::time::Instant;
use bigpeer_core::value::Object;
use bytes::Bytes;

use super::Engine;
use crate::command::Answer;
use crate::error::PeerError;

/// Statements that the rack has not answered.
#[derive(Debug, Default)]
pub(super) struct Statements {
    running: BTreeMap<RequestId, Running>,
    request_next: u64,
}

#[derive(Debug)]
struct Running {
    rows: Vec<Bytes>,
    asker: Asker,
}

/// Who waits.
#[derive(Debug)]
pub(super) enum Asker {
    Application(SyncSender<Answer>),
    Observer(u64),
}

impl Statements {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The peer ends: what was not answered will not be.
    pub(super) fn fail_all(&mut self, error: impl Fn() -> PeerError) {
        for running in std::mem::take(&mut self.running).into_values() {
            if let Asker::Application(reply) = running.asker {
                let _ = reply.send(Err(error()));
            }
        }
    }
}

impl Engine {
    pub(super) fn execute(&mut self, statement: Arc<str>, args: Object, reply: SyncSender<Answer>) {
        if !matches!(self.phase, super::Phase::Running) {
            // Whoever asked may have gone, here as below.
            let _ = reply.send(Err(PeerError::Closed));
            return;
        }
        self.begin(statement, args, Asker::Application(reply));
    }

    pub(super) fn begin(&mut self, statement: Arc<str>, args: Object, asker: Asker) {
        let request = RequestId(self.statements.request_next);
        self.statements.request_next += 1;
        self.statements.running.insert(request, Running { rows: Vec::new(), asker });
        let execute = Execute {
            app: self.app,
            credential: Credential::Local,
            statement,
            args,
            mode: ObjectMode::Map,
            min_txn: None,
            deadline: Instant { ns: u64::MAX },
        };
        self.input(RackInput::Request { request, body: Request::Execute(execute) });
        self.drain();
    }

    pub(super) fn on_reply(&mut self, request: RequestId, reply: Reply) {
        match reply {
            Reply::Rows(rows) => {
                let bytes = rows.len() as u64;
                if let Some(running) = self.statements.running.get_mut(&request) {
                    running.rows.push(rows);
                }
                self.input(RackInput::Drained { request, bytes });
            }
            Reply::Done(outcome) => self.on_done(request, outcome),
        }
    }

    fn on_done(&mut self, request: RequestId, outcome: Outcome) {
        let Some(Running { rows, asker }) = self.statements.running.remove(&request) else {
            return;
        };
        match asker {
            Asker::Application(reply) => {
                let _ = reply.send(Ok((rows, outcome)));
            }
            Asker::Observer(id) => self.on_observed(id, rows, outcome),
        }
    }
}
