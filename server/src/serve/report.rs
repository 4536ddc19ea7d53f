//! What the server says on standard output once it is ready.

use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bigpeer_core::value::{Object, Value, json};

use super::ServeOptions;
use crate::api::Door;
use crate::driver::listen::Bound;
use crate::driver::probe::Driver;
use crate::first_start::{self, FirstStart};
use crate::logging;

/// Where the server answers.
#[derive(Debug)]
pub(super) struct Ready {
    listen: SocketAddr,
    peer_listen: SocketAddr,
    admin: SocketAddr,
    driver: Driver,
    shards: u16,
    data: PathBuf,
    has_tls: bool,
    has_admin_tls: bool,
    as_json: bool,
    /// The directory keeps what a first start made, or is making.
    is_kept: bool,
}

/// How what is shown once is shown.
#[derive(Clone, Copy, Debug)]
enum Shown<'a> {
    /// It is no first start.
    Nothing,
    /// Here: somebody sits at a terminal.
    Here(&'a FirstStart),
    /// In this file: what is printed elsewhere ends in the logs of service managers, which many may read.
    In(&'a Path),
}

impl Ready {
    /// `data` is the data directory, with its whole path.
    pub(super) fn new(
        options: &ServeOptions,
        data: &Path,
        bound: &[(Door, SocketAddr)],
        driver: Driver,
        shards: u16,
        is_kept: bool,
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
            data: data.to_owned(),
            has_tls: options.tls_cert.is_some(),
            has_admin_tls: options.admin_tls_cert.is_some(),
            as_json: options.json,
            is_kept,
        }
    }

    /// Says so. `first` holds what is told once: it is durable already, and kept until it is told.
    pub(super) fn print(&self, first: Option<&FirstStart>) -> io::Result<()> {
        let file;
        let shown = match first {
            None => Shown::Nothing,
            Some(first) if io::stdout().is_terminal() => Shown::Here(first),
            Some(_) => match first_start::tell_in_file(&self.data) {
                Ok(told) => {
                    file = told;
                    Shown::In(&file)
                }
                Err(error) => return self.print_untold(&error),
            },
        };
        self.write(shown)?;
        // Not before: a process that dies between the two lets the next one tell it twice, and not never.
        if self.is_kept
            && let Err(error) = first_start::forget(&self.data)
        {
            self.report_kept("the key of the first start cannot be deleted", &error);
        }
        Ok(())
    }

    /// The key stays where it is kept, and the next start tries again to tell it.
    fn print_untold(&self, error: &io::Error) -> io::Result<()> {
        self.report_kept("the key of the first start cannot be given its name", error);
        self.write(Shown::Nothing)
    }

    fn report_kept(&self, message: &str, error: &io::Error) {
        let (file, error) = (self.data.join(first_start::KEPT), error.to_string());
        let file = file.display().to_string();
        let advice = "read the file, and delete it";
        let fields = [("file", &*file), ("cause", &*error), ("advice", advice)];
        logging::error(message, &fields);
    }

    fn write(&self, shown: Shown<'_>) -> io::Result<()> {
        let text = if self.as_json { self.json(shown) } else { self.text(shown) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn json(&self, shown: Shown<'_>) -> String {
        let mut object = Object::new();
        object.insert("event", Value::from("ready"));
        object.insert("listen", Value::from(self.listen.to_string()));
        object.insert("peerListen", Value::from(self.peer_listen.to_string()));
        object.insert("admin", Value::from(self.admin.to_string()));
        object.insert("driver", Value::from(self.driver.to_string()));
        object.insert("shards", Value::from(i64::from(self.shards)));
        match shown {
            Shown::Nothing => {}
            Shown::Here(first) => first.tell(&mut object),
            Shown::In(file) => {
                object.insert("firstStart", Value::from(file.display().to_string()));
            }
        }
        String::from_utf8(line(object)).expect("JSON is text")
    }

    fn text(&self, shown: Shown<'_>) -> String {
        let scheme = |has_tls| if has_tls { "https" } else { "http" };
        let (scheme, admin_scheme) = (scheme(self.has_tls), scheme(self.has_admin_tls));
        let Self { listen, peer_listen, admin, driver, shards, .. } = self;
        let data = self.data.display();
        let mut text = format!(
            "bigpeer is ready\n  HTTP API  {scheme}://{listen}\n  peers     {peer_listen}\n  \
             admin     {admin_scheme}://{admin}\n  data      {data}\n  driver    {driver}, {shards} shards\n"
        );
        let first = match shown {
            Shown::Nothing => return text,
            Shown::Here(first) => first,
            Shown::In(file) => {
                text.push_str(&format!(
                    "\nFirst start: an app was made. Its id, an API key and a development token are in\n{}:\n\
                     read them, and delete the file.\n",
                    file.display()
                ));
                return text;
            }
        };
        let listen = reachable(*listen);
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

fn line(object: Object) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(&Value::Object(object), &mut out);
    out.push(b'\n');
    out
}

/// An address of this machine to try: one that stands for all of them is none to connect to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
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
            data: "d".into(),
            has_tls: false,
            has_admin_tls: false,
            as_json: true,
            is_kept: true,
        };
        let first = FirstStart {
            app: AppId::default(),
            api_key: Secret::for_test("KEY"),
            development_token: Secret::for_test("TOKEN"),
        };
        let (here, elsewhere) = (Shown::Here(&first), Shown::In(Path::new("d/first-start.json")));
        assert!(ready.json(here).contains("\"apiKey\":\"KEY\""));
        assert!(ready.text(here).contains("Bearer KEY"));
        assert!(ready.json(elsewhere).contains("\"firstStart\":\"d/first-start.json\""));
        assert!(ready.text(elsewhere).contains("d/first-start.json"));
        for shown in [elsewhere, Shown::Nothing] {
            for secret in ["KEY", "TOKEN"] {
                assert!(!ready.json(shown).contains(secret) && !ready.text(shown).contains(secret));
            }
        }
    }
}
