//! The first start: an app and an API key to begin with, durable before anyone sees them.

use bigpeer_core::auth::Permissions;
use bigpeer_core::ident::AppId;
use bigpeer_core::node::{self, Outcome, RackInput};

use super::answer::{Client, Pending, Purpose};
use super::{Shard, ShardOutput};
use crate::api::admin::{EXPIRES_DEFAULT, NewKey};
use crate::secrets::Secret;
use crate::shared::Phase;

/// What the first start made. The key and the token are shown once.
#[derive(Debug)]
pub struct FirstStart {
    /// The app.
    pub app: AppId,
    /// Opens the app over HTTP.
    pub api_key: Secret,
    /// Opens the app to devices.
    pub development_token: Secret,
}

/// The name of the first app and of its key.
const NAME: &str = "default";

impl Shard {
    /// The log is replayed: begin to answer, or make what is needed first.
    pub(super) fn on_recovered(&mut self) {
        // An operator who deleted all apps wants none. The catalog does not tell the two apart: restored from a checkpoint
        // without apps it is as empty as at the beginning. The log does: it is empty before the first start alone.
        if !self.log_mut().was_empty() {
            return self.announce(None);
        }
        let (app, put_app) = self.new_app(NAME.into());
        let Purpose::CreateApp { app, token, .. } = app else { unreachable!("it makes an app") };
        let key = NewKey {
            name: NAME.into(),
            description: None,
            expires: EXPIRES_DEFAULT,
            permissions: Permissions::everything(),
        };
        let (key, put_key) = self.new_key(app, key);
        let Purpose::CreateKey { key, .. } = key else { unreachable!("it makes a key") };
        self.bootstrap = Some(FirstStart { app, api_key: key, development_token: token });
        // Together: an app without a key opens to nobody, and the next start would find that the log is not empty.
        self.ask_self(node::Request::Catalog(vec![put_app, put_key]));
    }

    /// App and key are durable, or failed.
    pub(super) fn on_bootstrap_done(&mut self, outcome: &Outcome) {
        if let Some(error) = &outcome.error {
            let text = format!("cannot make the first app: {error}");
            self.outputs.push_back(ShardOutput::Fatal(text));
            return;
        }
        let made = self.bootstrap.take().expect("it asked for them once");
        self.announce(Some(Box::new(made)));
    }

    fn announce(&mut self, first: Option<Box<FirstStart>>) {
        self.shared.set_phase(Phase::Ready, self.now.wall, "");
        self.outputs.push_back(ShardOutput::Ready(first));
    }

    fn ask_self(&mut self, body: node::Request) {
        let key = self.pending.insert(Pending::new(Client::Process, Purpose::Bootstrap));
        self.input(RackInput::Request { request: node::RequestId(key), body });
    }
}
