//! How answers are written: the query response of `store/execute`, and `{"message": …}` everywhere else.

use bigpeer_connection::Response;
use bigpeer_core::auth::AuthError;
use bigpeer_core::node::{ErrorKind, Outcome};
use bigpeer_core::value::json;
use bytes::Bytes;

/// The most warnings that an answer lists; it counts all.
pub const WARNINGS_LISTED_MAX: usize = 100;

/// How a streamed answer begins. Rows follow, then [`stream_tail`].
pub const STREAM_HEAD: &[u8] = b"{\"items\":[";

/// The status that stands for a kind of error.
#[must_use]
pub fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Invalid => 400,
        ErrorKind::Unauthorized => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::TimedOut => 408,
        ErrorKind::Conflict => 409,
        ErrorKind::TooLarge => 413,
        ErrorKind::Full => 507,
        ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => 503,
        _ => 500,
    }
}

/// The answer to a statement whose rows (JSON objects joined by commas) are all at hand.
#[must_use]
pub fn query(outcome: &Outcome, rows: &[Bytes]) -> Response {
    let rows_bytes: usize = rows.iter().map(|rows| rows.len() + 1).sum();
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + rows_bytes);
    out.push(b'{');
    write_txn(&mut out, outcome);
    write_query_type(&mut out, outcome);
    out.extend_from_slice(b",\"items\":[");
    for (index, rows) in rows.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(rows);
    }
    out.extend_from_slice(b"],");
    write_rest(&mut out, outcome);
    out.push(b'}');
    let status = outcome.error.as_ref().map_or(200, |error| status(error.kind));
    finish(Response::json(status, out))
}

/// How a streamed answer ends. Its status has been sent, so that a failure shows in `error` alone.
#[must_use]
pub fn stream_tail(outcome: &Outcome) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES);
    out.extend_from_slice(b"],");
    write_txn(&mut out, outcome);
    write_query_type(&mut out, outcome);
    out.push(b',');
    write_rest(&mut out, outcome);
    out.push(b'}');
    out
}

/// A failure in the shape of a query response.
#[must_use]
pub fn failure(status: u16, kind: ErrorKind, text: &str) -> Response {
    let error = Some(bigpeer_core::node::RequestError::new(kind, text));
    let mut response = query(&Outcome { error, ..Outcome::default() }, &[]);
    response.status = status;
    finish(response)
}

/// The answer to a credential that does not open an app over HTTP.
#[must_use]
pub fn unauthorized(error: &AuthError) -> Response {
    let kind = kind_of(error);
    failure(status(kind), kind, &error.to_string())
}

/// The answer to a device whose credential does not open its app.
#[must_use]
pub fn unauthorized_device(error: &AuthError) -> Response {
    message(status(kind_of(error)), &format!("{error}: are the app and the token right?"))
}

fn kind_of(error: &AuthError) -> ErrorKind {
    match error {
        AuthError::UnknownApp(_) => ErrorKind::NotFound,
        AuthError::Missing | AuthError::Unknown | AuthError::Expired(_) => ErrorKind::Unauthorized,
    }
}

/// `{"message": …}`.
#[must_use]
pub fn message(status: u16, text: &str) -> Response {
    let mut out = b"{\"message\":".to_vec();
    json::write_string(text, &mut out);
    out.push(b'}');
    finish(Response::json(status, out))
}

/// The header fields that a status asks for.
fn finish(response: Response) -> Response {
    match response.status {
        401 if response.headers.is_empty() => response.with_header("WWW-Authenticate", "Bearer"),
        503 if response.headers.is_empty() => response.with_header("Retry-After", "1"),
        _ => response,
    }
}

fn write_txn(out: &mut Vec<u8>, outcome: &Outcome) {
    if let Some(txn) = outcome.txn {
        out.extend_from_slice(b"\"transactionId\":");
        out.extend_from_slice(itoa::Buffer::new().format(txn.0).as_bytes());
        out.push(b',');
    }
}

fn write_query_type(out: &mut Vec<u8>, outcome: &Outcome) {
    out.extend_from_slice(b"\"queryType\":");
    let known = if outcome.query_type.is_empty() { "unknown" } else { outcome.query_type };
    json::write_string(known, out);
}

fn write_rest(out: &mut Vec<u8>, outcome: &Outcome) {
    out.extend_from_slice(b"\"mutatedDocumentIds\":[");
    for (index, id) in outcome.mutated.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write(id, out);
    }
    out.extend_from_slice(b"],\"error\":{");
    if let Some(error) = &outcome.error {
        out.extend_from_slice(b"\"description\":");
        json::write_string(&error.message, out);
    }
    out.extend_from_slice(b"},\"warnings\":[");
    for (index, warning) in outcome.warnings.iter().take(WARNINGS_LISTED_MAX).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"description\":");
        json::write_string(warning, out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"totalWarningsCount\":");
    out.extend_from_slice(itoa::Buffer::new().format(outcome.warnings.len()).as_bytes());
}

/// What an answer takes beside its rows.
const ENVELOPE_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use bigpeer_core::ident::Txn;
    use bigpeer_core::node::RequestError;
    use bigpeer_core::value::Value;

    use super::*;

    #[test]
    fn an_answer_has_the_published_shape() {
        let outcome = Outcome {
            txn: Some(Txn(7)),
            query_type: "select",
            mutated: vec![Value::from("a")],
            warnings: vec!["w\"".into()],
            error: None,
        };
        let rows = [Bytes::from_static(b"{\"_id\":1},{\"_id\":2}"), Bytes::from_static(b"{}")];
        let response = query(&outcome, &rows);
        assert_eq!(response.status, 200);
        let text = std::str::from_utf8(&response.body).expect("JSON");
        assert_eq!(
            text,
            "{\"transactionId\":7,\"queryType\":\"select\",\"items\":[{\"_id\":1},{\"_id\":2},{}],\
             \"mutatedDocumentIds\":[\"a\"],\"error\":{},\"warnings\":[{\"description\":\"w\\\"\"}],\
             \"totalWarningsCount\":1}"
        );
        let streamed = [STREAM_HEAD, &stream_tail(&outcome)].concat();
        assert!(json::parse(&streamed, json::Limits::default()).is_ok());
    }

    #[test]
    fn a_failure_is_a_query_response_with_the_status_of_its_kind() {
        let error = Some(RequestError::new(ErrorKind::OutcomeUnknown, "lost"));
        let response = query(&Outcome { error, ..Outcome::default() }, &[]);
        assert_eq!(response.status, 503);
        assert_eq!(
            &response.body[..],
            b"{\"queryType\":\"unknown\",\"items\":[],\"mutatedDocumentIds\":[],\
              \"error\":{\"description\":\"lost\"},\"warnings\":[],\"totalWarningsCount\":0}"
        );
        assert_eq!(message(401, "no").headers, [("WWW-Authenticate", "Bearer".to_owned())]);
    }
}
