//! `bigpeer peer`: a Small Peer on the command line, for statements or as a shell.

mod shell;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bigpeer_core::ident::{AppId, Uuid};
use bigpeer_core::value::{Object, Value, json};
use bigpeer_peer::{Peer, PeerConfig, PeerError, PeerStatus, Subscription, failure_json};

use super::error::say;
use super::text::{compact, visible};

/// Run a Small Peer: documents in a directory, in sync with a server when one is there.
///
/// Without a URL the peer stays by itself. With --execute the statements run in order, one result is printed for
/// each, and the command ends; with --wait-synced it ends once the server has everything that was committed here and
/// this peer everything that the server had for its subscriptions. Without either it is a shell.
///
/// Exit codes: 0 done, and in sync if that was asked for; 1 something failed; 2 not in sync in time, or wrong usage;
/// 3 in sync with what the token allows, but the server refused documents, or does not let this peer read all that it
/// subscribes to; both are listed on standard error.
#[derive(Debug, clap::Args)]
pub struct PeerArgs {
    /// The directory of the peer, made when missing.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The app, for the directory's whole life.
    #[arg(long, env = "BIGPEER_APP", hide_env_values = true, value_name = "UUID", value_parser = parse_app)]
    app: AppId,
    /// The server: ws://HOST:PORT, or tcp://HOST:PORT for its bare peer listener.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What the server asks for. The environment keeps it out of the list of processes.
    #[arg(long, env = "BIGPEER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// What to ask the server for, as in 'SELECT * FROM cars WHERE color = :color'; may be repeated.
    #[arg(long, value_name = "DQL")]
    subscribe: Vec<String>,
    /// A statement to run; may be repeated.
    #[arg(long, value_name = "DQL")]
    execute: Vec<String>,
    /// Values for the parameters of subscriptions and statements: a JSON object, names without the colon.
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = parse_args)]
    args: Object,
    /// How this device is called at the server.
    #[arg(long, value_name = "NAME", default_value = "bigpeer peer")]
    name: String,
    /// Wait until both sides agree, at most so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "url", value_parser = parse_seconds)]
    wait_synced: Option<Duration>,
    /// One JSON object per line, also on a terminal.
    #[arg(long)]
    json: bool,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    TimedOut,
    Rejected,
}

impl End {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::TimedOut => 2,
            Self::Rejected => 3,
        }
    }
}

impl PeerArgs {
    /// Runs the statements, or the shell.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let end = self.try_run().unwrap_or_else(|error| {
            say(&format!("error: {}", visible(&error.to_string())));
            End::Failed
        });
        ExitCode::from(end.code())
    }

    fn try_run(&self) -> Result<End, PeerError> {
        let peer = Peer::open(PeerConfig {
            dir: self.data.clone(),
            app: self.app,
            name: self.name.clone(),
            url: self.url.clone(),
            token: self.token.clone(),
        })?;
        let subscribe = |query: &String| peer.subscribe(query, self.args.clone());
        let mut subscriptions: Vec<Subscription> =
            self.subscribe.iter().map(subscribe).collect::<Result<_, _>>()?;
        if self.url.is_some() {
            peer.start_sync()?;
        }
        let end = if self.execute.is_empty() && self.wait_synced.is_none() {
            shell::run(&peer, &mut subscriptions, &self.args, self.is_compact())
        } else {
            self.run_statements(&peer)
        };
        peer.close()?;
        Ok(end)
    }

    /// The first statement that fails is the last one that runs.
    fn run_statements(&self, peer: &Peer) -> End {
        for statement in &self.execute {
            let result = peer.execute(statement, self.args.clone());
            let text = match &result {
                Ok(result) => result.to_json(),
                Err(error) => failure_json(error),
            };
            if !self.print(&text) {
                return End::Failed;
            }
            if let Err(error) = result {
                say(&format!("error: {}", visible(&error.to_string())));
                return End::Failed;
            }
        }
        match self.wait_synced {
            Some(timeout) => wait(peer, timeout),
            None => End::Done,
        }
    }

    fn is_compact(&self) -> bool {
        self.json || !io::stdout().is_terminal()
    }

    /// False once nobody reads what is printed.
    fn print(&self, line: &str) -> bool {
        match self.is_compact() {
            true => print_line(line),
            false => print_line(&indented(line)),
        }
    }
}

fn wait(peer: &Peer, timeout: Duration) -> End {
    let waited = peer.wait_synced(timeout);
    let is_short = list_shortfalls(&peer.status());
    match waited {
        Ok(()) if is_short => End::Rejected,
        Ok(()) => End::Done,
        Err(error) => {
            say(&format!("error: {}", visible(&error.to_string())));
            match error {
                PeerError::TimedOut { .. } => End::TimedOut,
                _ => End::Failed,
            }
        }
    }
}

/// Says which documents the server refused, and which collections it does not let us read; true if there are any.
fn list_shortfalls(status: &PeerStatus) -> bool {
    for rejected in &status.rejected {
        let (collection, id) = (visible(&rejected.collection), compact(&rejected.id));
        say(&format!("rejected: {collection} {}: {}", visible(&id), visible(&rejected.reason)));
    }
    if status.rejected_unlisted > 0 {
        say(&format!("rejected: {} more", status.rejected_unlisted));
    }
    for collection in &status.restricted {
        let collection = visible(collection);
        say(&format!(
            "not readable: {collection}: the token does not allow all that is subscribed to or held; \
             what this peer holds stays as it was, EVICT it or use another token"
        ));
    }
    if let Some(ahead) = status.clock_ahead {
        let seconds = ahead.as_secs();
        say(&format!(
            "clock: documents of this peer bear times up to {seconds} s ahead of this machine's clock, and a server \
             takes them when these have come; compare the clock with that of other machines"
        ));
    }
    !status.rejected.is_empty() || !status.restricted.is_empty()
}

/// False once nobody reads what is printed.
fn print_line(line: &str) -> bool {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// One member of the answer per line, and one item.
fn indented(line: &str) -> String {
    let limits = json::Limits { values_max: usize::MAX, ..json::Limits::default() };
    let Ok(Value::Object(answer)) = json::parse(line.as_bytes(), limits) else {
        return line.to_owned();
    };
    let member = |(name, value): (&str, &Value)| match value {
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<String> =
                items.iter().map(|item| format!("    {}", compact(item))).collect();
            format!("  \"{name}\": [\n{}\n  ]", items.join(",\n"))
        }
        other => format!("  \"{name}\": {}", compact(other)),
    };
    let members: Vec<String> = answer.iter().map(member).collect();
    format!("{{\n{}\n}}", members.join(",\n"))
}

fn parse_app(text: &str) -> Result<AppId, String> {
    text.parse::<Uuid>().map(AppId).map_err(|error| error.to_string())
}

fn parse_args(text: &str) -> Result<Object, String> {
    match json::parse(text.as_bytes(), json::Limits::default()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("{} is no object, as in {{\"name\": 1}}", other.type_name())),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const APP: &str = "00000000-0000-0000-0000-000000000001";

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        peer: PeerArgs,
    }

    fn parse(arguments: &[&str]) -> Result<PeerArgs, clap::Error> {
        let all = ["peer", "--app", APP].into_iter().chain(arguments.iter().copied());
        Arguments::try_parse_from(all).map(|arguments| arguments.peer)
    }

    #[test]
    fn statements_run_in_order_until_one_fails() {
        let dir = std::env::temp_dir().join(format!("bigpeer-cli-peer-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let data = dir.to_str().expect("a plain name");
        let insert = "INSERT INTO cars DOCUMENTS ({'_id': 1})";
        let run = |statements: &[&str]| {
            let mut arguments = vec!["--data", data, "--json"];
            statements.iter().for_each(|text| arguments.extend(["--execute", text]));
            parse(&arguments).expect("well-formed").try_run().expect("it opens")
        };
        assert_eq!(run(&[insert, "SELECT * FROM cars"]), End::Done);
        assert_eq!(run(&[insert, "DELETE FROM cars"]), End::Failed);
        let peer = Peer::open(PeerConfig::offline(&dir, AppId(APP.parse().expect("a UUID"))));
        let peer = peer.expect("it is free");
        let cars = peer.execute("SELECT * FROM cars", Object::new()).expect("it runs").items;
        assert_eq!(cars.len(), 1);
        drop(peer);
        std::fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn a_server_that_is_not_there_is_a_time_out() {
        let dir =
            std::env::temp_dir().join(format!("bigpeer-cli-peer-late-{}", std::process::id()));
        let data = dir.to_str().expect("a plain name");
        let arguments = ["--data", data, "--url", "ws://127.0.0.1:1", "--wait-synced", "0.05"];
        let end = parse(&arguments).expect("well-formed").try_run().expect("it opens");
        assert_eq!(end, End::TimedOut);
        std::fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        assert!(parse(&["--data", "d", "--wait-synced", "1"]).is_err());
        assert!(parse(&["--data", "d", "--url", "ws://a", "--wait-synced", "-1"]).is_err());
        assert!(parse(&["--data", "d", "--args", "[]"]).is_err());
    }

    #[test]
    fn people_see_one_member_per_line() {
        let text = indented(r#"{"items":[{"_id":1},{"_id":2}],"queryType":"select"}"#);
        let expected = "{\n  \"items\": [\n    {\"_id\":1},\n    {\"_id\":2}\n  ],\n  \"queryType\": \"select\"\n}";
        assert_eq!(text, expected);
    }
}
