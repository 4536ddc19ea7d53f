//! The thin HTTP face of the simulated server: one call, JSON in, JSON out.
//!
//! The product's API layer maps the same request; here it is kept to what the checkers read.

use bigpeer_connection::{Request, Response};
use bigpeer_core::ident::Txn;
use bigpeer_core::node::{Credential, ErrorKind, Execute, ObjectMode, Outcome};
use bigpeer_core::time::Instant;
use bigpeer_core::value::{Object, Value, json};

use super::process::APP;

/// The two paths that are served.
pub(crate) const V4: &str = "/a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0/api/v4/store/execute";
pub(crate) const V5: &str = "/a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0/api/v5/store/execute";

/// An answer as a client reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) txn: Option<u64>,
    pub(crate) mutated: Vec<Value>,
    pub(crate) rows: Vec<Value>,
    pub(crate) error: Option<(ErrorKind, String)>,
}

/// What the server makes of a request.
pub(crate) fn parse(request: &Request) -> Result<Execute, Response> {
    let mode = match request.path() {
        V4 => ObjectMode::Register,
        V5 => ObjectMode::Map,
        _ => return Err(Response::json(404, "{}")),
    };
    let body = json::parse(request.body(), json::Limits::default());
    let Ok(Value::Object(body)) = body else { return Err(Response::json(400, "{}")) };
    let Some(statement) = body.get("statement").and_then(Value::as_str) else {
        return Err(Response::json(400, "{}"));
    };
    let token = request.authorization().and_then(|text| text.strip_prefix("Bearer "));
    Ok(Execute {
        app: APP,
        credential: Credential::Bearer(token.map(Into::into)),
        statement: statement.into(),
        args: body.get("args").and_then(Value::as_object).cloned().unwrap_or_default(),
        mode,
        min_txn: request.txn_id().and_then(|text| text.parse().ok()).map(Txn),
        deadline: Instant { ns: u64::MAX },
    })
}

/// The body of a request.
pub(crate) fn request_body(statement: &str) -> Vec<u8> {
    let mut body = Object::default();
    body.insert("statement", Value::from(statement));
    let mut text = Vec::new();
    json::write(&Value::Object(body), &mut text);
    text
}

/// Encodes an answer.
pub(crate) fn response(rows: &[u8], outcome: &Outcome) -> Response {
    let mut body = Object::default();
    if let Some(txn) = outcome.txn {
        body.insert("transactionId", Value::from(txn.0));
    }
    body.insert("mutatedDocumentIds", Value::Array(outcome.mutated.clone()));
    let mut status = 200;
    if let Some(error) = &outcome.error {
        status = status_of(error.kind);
        body.insert("kind", Value::from(u64::from(code_of(error.kind))));
        body.insert("message", Value::from(&*error.message));
    }
    let mut text = Vec::new();
    json::write(&Value::Object(body), &mut text);
    text.pop();
    text.extend_from_slice(b",\"items\":[");
    text.extend_from_slice(rows);
    text.extend_from_slice(b"]}");
    Response::json(status, text)
}

/// Reads an answer; nothing when it is none of ours.
pub(crate) fn read(text: &[u8]) -> Option<Answer> {
    let Ok(Value::Object(body)) = json::parse(text, json::Limits::default()) else { return None };
    let list = |name: &str| body.get(name).and_then(Value::as_array).unwrap_or_default().to_vec();
    let error = body.get("kind").and_then(Value::as_u64).map(|code| {
        let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
        (kind_of(code as u8), message.to_owned())
    });
    Some(Answer {
        txn: body.get("transactionId").and_then(Value::as_u64),
        mutated: list("mutatedDocumentIds"),
        rows: list("items"),
        error,
    })
}

/// What a local answer looks like, without a network in between.
pub(crate) fn local(rows: &[u8], outcome: &Outcome) -> Answer {
    let text = [b"[".as_slice(), rows, b"]"].concat();
    let rows = match json::parse(&text, json::Limits::default()) {
        Ok(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    Answer {
        txn: outcome.txn.map(|txn| txn.0),
        mutated: outcome.mutated.clone(),
        rows,
        error: outcome.error.as_ref().map(|error| (error.kind, error.message.to_string())),
    }
}

/// The server is not there yet: nothing was written.
pub(crate) fn unavailable() -> Response {
    let kind = code_of(ErrorKind::Unavailable);
    Response::json(503, format!("{{\"kind\":{kind},\"message\":\"starting\"}}"))
}

fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Unauthorized => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict => 409,
        ErrorKind::Full => 507,
        ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => 503,
        _ => 400,
    }
}

const KINDS: [ErrorKind; 11] = [
    ErrorKind::Invalid,
    ErrorKind::Unauthorized,
    ErrorKind::Forbidden,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::TooLarge,
    ErrorKind::TimedOut,
    ErrorKind::Full,
    ErrorKind::Unavailable,
    ErrorKind::OutcomeUnknown,
    ErrorKind::DataDamaged,
];

fn code_of(kind: ErrorKind) -> u8 {
    KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len()) as u8
}

fn kind_of(code: u8) -> ErrorKind {
    KINDS.get(usize::from(code)).copied().unwrap_or(ErrorKind::OutcomeUnknown)
}
