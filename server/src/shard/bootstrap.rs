//! The first start: an app and an API key to begin with, durable before anyone sees them.

use bigpeer_core::node::{self, Outcome, RackInput};

use super::answer::{Client, Pending, Purpose};
use super::{Shard, ShardOutput};
use crate::first_start::{FirstStart, Owed};
use crate::shared::Phase;

impl Shard {
    /// The log is replayed: begin to answer, or make what is needed first.
    pub(super) fn on_recovered(&mut self) {
        let first = match std::mem::take(&mut self.log_mut().owed) {
            Owed::Nothing => return self.announce(None),
            Owed::Tell(first) => {
                let first = Some(first).filter(|first| first.is_in(self.catalog()));
                return self.announce(first);
            }
            Owed::Make(first) => first,
        };
        // Together: an app without a key opens to nobody, and the next start would find that the log is not empty.
        let body = node::Request::Catalog(first.to_ops());
        self.bootstrap = Some(first);
        let key = self.pending.insert(Pending::new(Client::Process, Purpose::Bootstrap));
        self.input(RackInput::Request { request: node::RequestId(key), body });
    }

    /// App and key are durable, or failed.
    pub(super) fn on_bootstrap_done(&mut self, outcome: &Outcome) {
        if let Some(error) = &outcome.error {
            let text = format!("cannot make the first app: {error}");
            self.outputs.push_back(ShardOutput::Fatal(text));
            return;
        }
        let made = self.bootstrap.take().expect("it asked for them once");
        self.announce(Some(made));
    }

    fn announce(&mut self, first: Option<FirstStart>) {
        self.shared.set_phase(Phase::Ready, self.now.wall, "");
        self.outputs.push_back(ShardOutput::Ready(first.map(Box::new)));
    }
}
