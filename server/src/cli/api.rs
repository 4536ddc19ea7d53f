//! Statements over HTTP: `POST /APP/api/v5/store/execute`, and what its answers say.

use std::collections::VecDeque;
use std::fmt;

use bigpeer_core::ident::{AppId, Uuid};
use bigpeer_core::value::{Object, Value, json};
use bytes::Bytes;

use super::error::CliError;
use super::http::{Method, Request, TcpTransport, Transport, Url};
use super::json::{Element, EnvelopeReader};

/// The most that is read of an answer that is no result, in bytes.
const REFUSAL_BYTES_MAX: usize = 1024 * 1024;

/// Where the server is, and who asks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server's address.
    #[arg(
        long,
        env = "BIGPEER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080"
    )]
    url: Url,
    /// The app's id; not needed where the address ends with it.
    #[arg(long, env = "BIGPEER_APP", hide_env_values = true, value_name = "UUID")]
    app: Option<Uuid>,
    /// The API key. The environment keeps it out of the list of processes.
    #[arg(long, env = "BIGPEER_KEY", hide_env_values = true)]
    key: Option<String>,
}

/// The version of the HTTP API: v4 runs statements in strict mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ApiVersion {
    /// Objects in documents are registers, unless declared.
    V4,
    /// Objects in documents are maps.
    #[default]
    V5,
}

impl ServerArgs {
    /// Connects.
    ///
    /// # Errors
    ///
    /// `Usage` if app or key is missing, `Unreachable` if nothing answers.
    pub(crate) fn connect(&self, version: ApiVersion) -> Result<Api<TcpTransport>, CliError> {
        let (target, key) = (self.target(version)?, self.key()?);
        Ok(Api::new(TcpTransport::connect(&self.url)?, target, key))
    }

    fn key(&self) -> Result<String, CliError> {
        let advice = "give --key or set BIGPEER_KEY; `bigpeer key create` makes one";
        match &self.key {
            None => Err(CliError::Usage(format!("no API key: {advice}"))),
            Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) || key.is_empty() => {
                Err(CliError::Usage(format!("the API key is empty or holds a blank: {advice}")))
            }
            Some(key) => Ok(key.clone()),
        }
    }

    fn target(&self, version: ApiVersion) -> Result<String, CliError> {
        let base = &self.url.base;
        let version = match version {
            ApiVersion::V4 => "v4",
            ApiVersion::V5 => "v5",
        };
        let last = base.rsplit('/').next().and_then(|name| name.parse::<Uuid>().ok());
        match (self.app, last) {
            (Some(app), Some(last)) if app == last => {
                Ok(format!("{base}/api/{version}/store/execute"))
            }
            (Some(app), _) => Ok(format!("{base}/{}/api/{version}/store/execute", AppId(app))),
            (None, Some(_)) => Ok(format!("{base}/api/{version}/store/execute")),
            (None, None) => {
                let advice = "give --app or set BIGPEER_APP; `bigpeer app list` shows the ids";
                Err(CliError::Usage(format!("no app: {advice}")))
            }
        }
    }
}

/// Runs statements for one app over one connection. Several may be under way; answers come in their order.
pub(crate) struct Api<T> {
    transport: T,
    target: String,
    key: String,
}

impl<T: Transport> Api<T> {
    pub(crate) fn new(transport: T, target: String, key: String) -> Self {
        Self { transport, target, key }
    }

    /// Sends a statement. `args` is a JSON object.
    ///
    /// # Errors
    ///
    /// If the connection cannot take it.
    pub(crate) fn send(&mut self, statement: &str, args: &[u8]) -> Result<(), CliError> {
        let mut body = Vec::with_capacity(statement.len() + args.len() + 64);
        body.extend_from_slice(b"{\"statement\":");
        json::write_string(statement, &mut body);
        body.extend_from_slice(b",\"args\":");
        body.extend_from_slice(args);
        body.push(b'}');
        self.transport.send(Request {
            method: Method::Post,
            target: self.target.clone(),
            token: self.key.clone(),
            body: Bytes::from(body),
        })
    }

    /// Waits for the answer to the oldest statement without one. Its items go to `on_item` as they arrive, as JSON.
    ///
    /// # Errors
    ///
    /// If there is no answer that we can read, or `on_item` fails. A refusal is a [`Reply`].
    pub(crate) fn receive(
        &mut self,
        on_item: &mut dyn FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<Reply, CliError> {
        let mut reader = EnvelopeReader::default();
        let mut refusal = Vec::new();
        let mut items: VecDeque<Element> = VecDeque::new();
        let received = self.transport.receive(&mut |status, bytes| {
            if !is_success(status) {
                let room = REFUSAL_BYTES_MAX - refusal.len();
                refusal.extend_from_slice(&bytes[..bytes.len().min(room)]);
                return Ok(());
            }
            let fed = reader.feed(bytes, &mut items);
            for item in items.drain(..) {
                let text = item.text.ok_or_else(|| unreadable("one of its items is too long"))?;
                on_item(&text)?;
            }
            fed.map_err(|cause| unreadable(&cause))
        });
        let status = match received {
            Ok(status) => status,
            Err(error) => return reader.told().map(Reply::Refused).ok_or(error),
        };
        if !is_success(status) {
            return Ok(Reply::Refused(Refusal::from_body(status, &refusal)));
        }
        let envelope = reader.finish().map_err(|cause| unreadable(&cause))?;
        Ok(match description(&envelope) {
            Some(_) => Reply::Refused(Refusal::from_envelope(status, &envelope)),
            None => Reply::Done(Outcome { envelope }),
        })
    }

    /// Runs one statement.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub(crate) fn execute(
        &mut self,
        statement: &str,
        args: &[u8],
        on_item: &mut dyn FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<Reply, CliError> {
        self.send(statement, args)?;
        self.receive(on_item)
    }
}

impl EnvelopeReader {
    /// The error of an answer that failed after its head: it is told behind the rows, and then the answer is cut.
    fn told(self) -> Option<Refusal> {
        let envelope = self.finish().ok()?;
        description(&envelope)?;
        Some(Refusal::from_envelope(200, &envelope))
    }
}

fn unreadable(cause: &str) -> CliError {
    CliError::Failed(format!("the server's answer cannot be read: {cause}"))
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// How the server answered a statement.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It ran.
    Done(Outcome),
    /// It did not.
    Refused(Refusal),
}

/// A statement that ran: its answer without the items.
#[derive(Debug)]
pub(crate) struct Outcome {
    envelope: Object,
}

impl Outcome {
    /// The transaction it read from or made.
    pub(crate) fn transaction(&self) -> Option<i64> {
        self.envelope.get("transactionId").and_then(Value::as_i64)
    }

    /// Whether the statement reads only.
    pub(crate) fn is_mutation(&self) -> bool {
        let kind = self.envelope.get("queryType").and_then(Value::as_str).unwrap_or("");
        ["insert", "update", "delete", "evict"].iter().any(|name| kind.eq_ignore_ascii_case(name))
    }

    /// How many documents it wrote.
    pub(crate) fn mutated(&self) -> u64 {
        let ids = self.envelope.get("mutatedDocumentIds").and_then(Value::as_array);
        ids.map_or(0, |ids| ids.len() as u64)
    }

    /// What the server warns of, one line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let listed = self.envelope.get("warnings").and_then(Value::as_array).unwrap_or(&[]);
        let mut lines: Vec<String> = listed
            .iter()
            .filter_map(|warning| warning.as_object()?.get("description")?.as_str())
            .map(str::to_owned)
            .collect();
        let total = self.envelope.get("totalWarningsCount").and_then(Value::as_u64).unwrap_or(0);
        let unlisted = total.saturating_sub(listed.len() as u64);
        if unlisted > 0 {
            lines.push(format!("and {unlisted} more"));
        }
        lines
    }
}

/// What the server says of a request that it did not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) status: u16,
    /// The server's words.
    pub(crate) description: String,
    /// Line and column of the fault in the statement, from 1.
    pub(crate) position: Option<(usize, usize)>,
}

impl Refusal {
    /// Reads the body of an answer that is no success: one of the three shapes in use, or plain text.
    pub(crate) fn from_body(status: u16, body: &[u8]) -> Self {
        match json::parse(body, json::Limits::default()) {
            Ok(Value::Object(envelope)) => Self::from_envelope(status, &envelope),
            _ => {
                let text = String::from_utf8_lossy(body).trim().to_owned();
                Self { status, description: or_status(text, status), position: None }
            }
        }
    }

    fn from_envelope(status: u16, envelope: &Object) -> Self {
        let text = description(envelope).unwrap_or("").to_owned();
        let member = |name| {
            let value = envelope.get("error")?.as_object()?.get(name)?.as_u64()?;
            usize::try_from(value).ok()
        };
        let position = member("line").zip(member("column")).or_else(|| position_in(&text));
        Self { status, description: or_status(text, status), position }
    }

    /// Whether the same request may succeed later as it stands.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    /// The error that ends a command.
    pub(crate) fn into_error(self) -> CliError {
        let is_failure = self.is_temporary();
        let message = self.to_string();
        if is_failure { CliError::Failed(message) } else { CliError::Refused(message) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)?;
        match self.status {
            401 => f.write_str(" (401: is the key right, and not expired?)"),
            200..300 => Ok(()),
            status => write!(f, " ({status})"),
        }
    }
}

/// The error text of an answer, in the order in which clients look for it.
fn description(envelope: &Object) -> Option<&str> {
    let error = envelope.get("error");
    let member = |name| error.and_then(Value::as_object).and_then(|error| error.get(name));
    [envelope.get("message"), member("description"), member("message"), error]
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|text| !text.is_empty())
}

fn or_status(text: String, status: u16) -> String {
    if text.is_empty() { format!("the server answered with status {status} only") } else { text }
}

/// The position that an error of the parser begins with: `line 1, column 9: expected …`.
fn position_in(text: &str) -> Option<(usize, usize)> {
    let rest = &text[text.find("line ")? + "line ".len()..];
    let (line, rest) = rest.split_once(", column ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((line.parse().ok()?, rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::http::BodySink;
    use crate::cli::testing::Scripted;

    fn args(url: &str, app: Option<&str>) -> ServerArgs {
        let app = app.map(|app| app.parse().unwrap());
        ServerArgs { url: url.parse().unwrap(), app, key: Some("k".into()) }
    }

    const APP: &str = "0190f0a0-0000-7000-8000-000000000001";

    #[test]
    fn the_app_comes_from_the_flag_or_from_the_address() {
        let target = |url: &str, app| args(url, app).target(ApiVersion::V5).unwrap();
        let path = format!("/{APP}/api/v5/store/execute");
        assert_eq!(target("http://h", Some(APP)), path);
        assert_eq!(target(&format!("http://h/{APP}/"), None), path);
        assert_eq!(target(&format!("http://h/{APP}/"), Some(APP)), path);
        assert_eq!(target("http://h/x", Some(APP)), format!("/x{path}"));
        assert!(matches!(args("http://h", None).target(ApiVersion::V5), Err(CliError::Usage(_))));
    }

    #[test]
    fn the_shapes_of_errors_are_read() {
        let words = |body: &str| Refusal::from_body(400, body.as_bytes()).description;
        assert_eq!(words(r#"{"message":"a"}"#), "a");
        assert_eq!(words(r#"{"items":[],"error":{"description":"b"}}"#), "b");
        assert_eq!(words(r#"{"error":{"code":400,"message":"c"}}"#), "c");
        assert_eq!(words("plain\n"), "plain");
        assert_eq!(words(""), "the server answered with status 400 only");
    }

    #[test]
    fn a_fault_in_a_statement_has_its_place() {
        let place = |body: &str| Refusal::from_body(400, body.as_bytes()).position;
        let text = r#"{"error":{"description":"line 2, column 19: expected FROM, found end"}}"#;
        assert_eq!(place(text), Some((2, 19)));
        let members = r#"{"error":{"description":"expected FROM","line":3,"column":4}}"#;
        assert_eq!(place(members), Some((3, 4)));
        assert_eq!(place(r#"{"message":"in line with"}"#), None);
    }

    /// Hands out one answer and then loses the connection.
    struct Cut(&'static str);

    impl Transport for Cut {
        fn send(&mut self, _: Request) -> Result<(), CliError> {
            Ok(())
        }

        fn receive(&mut self, sink: &mut BodySink<'_>) -> Result<u16, CliError> {
            sink(200, self.0.as_bytes())?;
            Err(CliError::Failed("the connection ended".into()))
        }
    }

    #[test]
    fn what_is_told_before_an_answer_is_cut_is_what_its_reader_hears() {
        let said = |body| {
            let mut api = Api::new(Cut(body), "/".to_owned(), "k".to_owned());
            let reply = api.execute("SELECT", b"{}", &mut |_| Ok(()));
            reply.map(|reply| match reply {
                Reply::Refused(refusal) => refusal.to_string(),
                Reply::Done(_) => panic!("it was cut"),
            })
        };
        let told = said(r#"{"items":[{"a":1}],"error":{"description":"too long"}}"#);
        assert_eq!(told.ok().as_deref(), Some("too long"));
        for body in [r#"{"items":[{"a":1}"#, r#"{"items":[{"a":1}]}"#] {
            assert!(said(body).is_err_and(|error| error.to_string().contains("ended")), "{body}");
        }
    }

    #[test]
    fn a_success_that_bears_an_error_is_a_refusal() {
        let (transport, sent) =
            Scripted::new([(200, r#"{"items":[],"error":{"description":"no"}}"#)]);
        let mut api = Api::new(transport, "/t".into(), "k".into());
        let reply = api.execute("SELECT \"x\"", b"{\"a\":1}", &mut |_| Ok(())).unwrap();
        assert!(matches!(reply, Reply::Refused(refusal) if refusal.description == "no"));
        let body = r#"{"statement":"SELECT \"x\"","args":{"a":1}}"#;
        assert_eq!(sent.borrow()[0].body, body.as_bytes());
    }
}
