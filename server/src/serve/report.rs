//! What the server says on standard output once it is ready.

use std::io::{self, Write};
use std::net::SocketAddr;

use bigpeer_core::value::{Object, Value, json};

use super::ServeOptions;
use crate::api::Door;
use crate::driver::listen::Bound;
use crate::driver::probe::Driver;
use crate::shard::FirstStart;

/// Where the server answers.
#[derive(Debug)]
pub(super) struct Ready {
    listen: SocketAddr,
    peer_listen: SocketAddr,
    admin: SocketAddr,
    driver: Driver,
    shards: u16,
    data: String,
    has_tls: bool,
    as_json: bool,
}

impl Ready {
    pub(super) fn new(
        options: &ServeOptions,
        bound: &[(Door, SocketAddr)],
        driver: Driver,
        shards: u16,
    ) -> Self {
        let at = |door| {
            let found = bound.iter().find(|bound| bound.0 == door);
            found.expect("every door is listened on").1
        };
        Self {
            listen: at(Door::Data),
            peer_listen: at(Door::Peer),
            admin: at(Door::Admin),
            driver,
            shards,
            data: options.data.display().to_string(),
            has_tls: options.tls_cert.is_some(),
            as_json: options.json,
        }
    }

    /// Says so. `first` holds what is shown once: it is durable already.
    pub(super) fn print(&self, first: Option<&FirstStart>) -> io::Result<()> {
        let text = if self.as_json { self.json(first) } else { self.text(first) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn json(&self, first: Option<&FirstStart>) -> String {
        let mut object = Object::new();
        object.insert("event", Value::from("ready"));
        object.insert("listen", Value::from(self.listen.to_string()));
        object.insert("peerListen", Value::from(self.peer_listen.to_string()));
        object.insert("admin", Value::from(self.admin.to_string()));
        object.insert("driver", Value::from(self.driver.to_string()));
        object.insert("shards", Value::from(i64::from(self.shards)));
        if let Some(first) = first {
            object.insert("app", Value::from(first.app.to_string()));
            object.insert("apiKey", Value::from(first.api_key.reveal()));
            object.insert("developmentToken", Value::from(first.development_token.reveal()));
        }
        let mut out = Vec::new();
        json::write(&Value::Object(object), &mut out);
        out.push(b'\n');
        String::from_utf8(out).expect("JSON is text")
    }

    fn text(&self, first: Option<&FirstStart>) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        let Self { listen, peer_listen, admin, driver, shards, data, .. } = self;
        let mut text = format!(
            "bigpeer is ready\n  HTTP API  {scheme}://{listen}\n  peers     {peer_listen}\n  \
             admin     http://{admin}\n  data      {data}\n  driver    {driver}, {shards} shards\n"
        );
        let Some(first) = first else { return text };
        let (app, key) = (first.app, first.api_key.reveal());
        let token = first.development_token.reveal();
        text.push_str(&format!(
            "\nFirst start: an app was made. Key and token are shown this once; \
             `bigpeer key create` makes another.\n\n  app                {app}\n  API key            {key}\n  \
             development token  {token}\n\nTry it:\n\n  \
             curl -X POST {scheme}://{listen}/{app}/api/v5/store/execute \\\n    \
             -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n    \
             -d '{{\"statement\":\"INSERT INTO cars DOCUMENTS (:car)\",\"args\":{{\"car\":{{\"_id\":\"1\",\
             \"color\":\"red\"}}}}}}'\n"
        ));
        text
    }
}

/// The addresses by their doors.
pub(super) fn addresses(bound: &[Bound]) -> Vec<(Door, SocketAddr)> {
    bound.iter().map(|bound| (bound.door(), bound.address)).collect()
}

#[cfg(test)]
mod tests {
    use bigpeer_core::ident::AppId;

    use super::*;
    use crate::secrets::Secret;

    #[test]
    fn the_key_is_shown_on_the_first_start_alone() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ready = Ready {
            listen: at(1),
            peer_listen: at(2),
            admin: at(3),
            driver: Driver::Epoll,
            shards: 2,
            data: "d".to_owned(),
            has_tls: false,
            as_json: true,
        };
        let first = FirstStart {
            app: AppId::default(),
            api_key: Secret::for_test("KEY"),
            development_token: Secret::for_test("TOKEN"),
        };
        assert!(ready.json(Some(&first)).contains("\"apiKey\":\"KEY\""));
        assert!(ready.text(Some(&first)).contains("Bearer KEY"));
        assert!(!ready.json(None).contains("KEY") && !ready.text(None).contains("KEY"));
    }
}
