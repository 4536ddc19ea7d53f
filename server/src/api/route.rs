//! The table of routes.

use std::sync::Arc;

use bigpeer_connection::{Method, Request, Response};
use bigpeer_core::ident::{AppId, Txn};
use bigpeer_core::node::{ErrorKind, ObjectMode};
use bigpeer_core::value::Object;

use super::body::{BodyError, execute_body};
use super::{Call, Door, ExecuteCall, SessionCall, admin, reply, root};
use crate::admin_token::AdminToken;

/// Decides what a request asks for. `admin_token` opens the routes below `/admin` on the admin listener.
///
/// `upgrade` is true when the client asks for a WebSocket.
#[must_use]
pub fn route(request: &Request, upgrade: bool, door: Door, admin_token: &AdminToken) -> Call {
    let path = request.path();
    let Some(parts) = parts_of(path) else { return Call::Respond(nothing_here(path, door)) };
    match (parts, door) {
        ([None, ..], _) => Call::Respond(root::route(request, door)),
        ([Some("health"), Some("live"), None, ..], _) => only(request, Method::Get, || Call::Live),
        ([Some("health"), Some("ready"), None, ..], _) => {
            only(request, Method::Get, || Call::Ready)
        }
        ([Some("metrics"), None, ..], Door::Admin) => only(request, Method::Get, || Call::Metrics),
        ([Some("admin"), ..], Door::Admin) => admin::route(request, &parts[1..], admin_token),
        ([Some("_ditto"), None, ..], Door::Data) => {
            session(request, upgrade, app_of_query(request))
        }
        ([Some(app), Some("_ditto"), None, ..], Door::Data) => session(request, upgrade, Some(app)),
        ([Some(app), Some("api"), Some(version), Some(group), Some(name), None], Door::Data) => {
            api(request, app, version, group, name)
        }
        ([Some("api"), ..], Door::Data) => Call::Respond(reply::message(
            404,
            "the first part of the path is the app's id: POST /{app}/api/v5/store/execute; \
             `bigpeer app list` shows the apps",
        )),
        _ => Call::Respond(nothing_here(path, door)),
    }
}

/// What the head of a request allows before its body has come.
#[derive(Debug)]
pub enum AtHead {
    /// Nothing: this is the answer.
    Refuse(Response),
    /// A statement, if the credential opens the app.
    Statement {
        /// Whose documents.
        app: AppId,
        /// The text behind `Authorization: Bearer`.
        bearer: Option<Box<str>>,
    },
    /// Whatever it is: the administrator asks.
    Administrator,
    /// An answer that takes no body into account.
    NoBody,
}

/// Decides what the head of a request allows before its body has come.
#[must_use]
pub fn route_head(request: &Request, door: Door, admin_token: &AdminToken) -> AtHead {
    if door == Door::Admin && matches!(parts_of(request.path()), Some([Some("admin"), ..])) {
        return match admin::check_token(request, admin_token) {
            Ok(()) => AtHead::Administrator,
            Err(response) => AtHead::Refuse(response),
        };
    }
    match route(request, false, door, admin_token) {
        Call::Respond(response) => AtHead::Refuse(response),
        Call::Execute(ExecuteCall { app, bearer, .. }) => AtHead::Statement { app, bearer },
        _ => AtHead::NoBody,
    }
}

/// The parts of a path; `None` if it has more than any route.
fn parts_of(path: &str) -> Option<[Option<&str>; 6]> {
    let mut segments = segments(path.trim_end_matches('/'));
    // Nothing stands before the first slash.
    segments.next();
    let parts = std::array::from_fn(|_| segments.next());
    segments.next().is_none().then_some(parts)
}

/// The pieces between slashes. Looks at the bytes one by one: a general search sets up more than such short pieces
/// take.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.bytes().position(|byte| byte == b'/') else { return rest.take() };
        rest = Some(&text[end + 1..]);
        Some(&text[..end])
    })
}

fn api(request: &Request, app: &str, version: &str, group: &str, name: &str) -> Call {
    let mode = match version {
        "v4" => ObjectMode::Register,
        "v5" => ObjectMode::Map,
        "v1" | "v2" | "v3" => {
            let text = format!("version {} of the API is retired: use v4 or v5", &version[1..]);
            return Call::Respond(reply::message(404, &text));
        }
        _ => return Call::Respond(nothing_here(request.path(), Door::Data)),
    };
    if (group, name) != ("store", "execute") {
        return Call::Respond(nothing_here(request.path(), Door::Data));
    }
    if request.method() != Method::Post {
        return Call::Respond(wrong_method(request, "POST"));
    }
    execute(request, app, mode).unwrap_or_else(Call::Respond)
}

fn execute(request: &Request, app: &str, mode: ObjectMode) -> Result<Call, Response> {
    let app = parse_app(app)?;
    check_encoding(request)?;
    let min_txn = min_txn(request)?;
    let bearer = bearer(request);
    Ok(Call::Execute(ExecuteCall { app, bearer, mode, min_txn }))
}

/// Reads the statement of a body and the values for its placeholders.
///
/// # Errors
///
/// The answer to a body that is no statement.
pub fn statement(body: &[u8]) -> Result<(Arc<str>, Object), Response> {
    execute_body(body).map_err(|error| match error {
        BodyError::Invalid(text) => reply::failure(400, ErrorKind::Invalid, &text),
    })
}

fn check_encoding(request: &Request) -> Result<(), Response> {
    let encoding = request.content_encoding().unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        let text =
            format!("a body with Content-Encoding `{encoding}` is not taken: send it as it is");
        return Err(reply::message(415, &text));
    }
    let content = request.content_type().unwrap_or_default();
    if content == "application/json" {
        return Ok(());
    }
    let content = content.split(';').next().unwrap_or_default().trim();
    if content.eq_ignore_ascii_case("application/cbor") || content.starts_with("multipart/") {
        let text = format!("a body of type `{content}` is not taken here: send application/json");
        return Err(reply::message(415, &text));
    }
    Ok(())
}

fn min_txn(request: &Request) -> Result<Option<Txn>, Response> {
    let Some(text) = request.txn_id() else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(number) if number <= Txn::MAX.0 => Ok(Some(Txn(number))),
        _ => {
            let text = format!(
                "X-DITTO-TXN-ID is `{text}`: expected the decimal `transactionId` of an earlier answer"
            );
            Err(reply::failure(400, ErrorKind::Invalid, &text))
        }
    }
}

fn session(request: &Request, upgrade: bool, app: Option<&str>) -> Call {
    if !upgrade {
        let response = reply::message(
            426,
            "this is the WebSocket of device sync: connect with ws:// or wss://",
        );
        return Call::Respond(response.with_header("Upgrade", "websocket"));
    }
    let Some(app) = app else {
        return Call::Respond(reply::message(
            400,
            "name the app: /{app}/_ditto or /_ditto?app={app}",
        ));
    };
    match parse_app(app) {
        Ok(app) => Call::Session(SessionCall { app, bearer: bearer(request) }),
        Err(response) => Call::Respond(response),
    }
}

fn app_of_query(request: &Request) -> Option<&str> {
    request.query()?.split('&').find_map(|pair| pair.strip_prefix("app="))
}

/// The text behind `Bearer`, a word whose case does not matter.
pub(super) fn bearer(request: &Request) -> Option<Box<str>> {
    let text = request.authorization()?;
    let (scheme, token) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim().into())
}

const SCHEME: &str = "bearer ";

pub(super) fn parse_app(text: &str) -> Result<AppId, Response> {
    text.parse().map(AppId).map_err(|_| {
        let text = format!(
            "unknown app `{text}`: the first part of the path is the app's id, a UUID; \
             `bigpeer app list` shows the apps"
        );
        reply::message(404, &text)
    })
}

fn only(request: &Request, method: Method, call: impl FnOnce() -> Call) -> Call {
    // HEAD is GET without the body, which the connection leaves out.
    if request.method() == method || (method, request.method()) == (Method::Get, Method::Head) {
        call()
    } else {
        Call::Respond(wrong_method(request, method.as_str()))
    }
}

pub(super) fn wrong_method(request: &Request, allow: &str) -> Response {
    let (method, path) = (request.method_name(), request.path());
    let text = format!("{method} is not allowed on {path}: use {allow}");
    reply::message(405, &text).with_header("Allow", allow)
}

pub(super) fn nothing_here(path: &str, door: Door) -> Response {
    let routes = match door {
        Door::Data | Door::Peer => {
            "POST /{app}/api/v4/store/execute, POST /{app}/api/v5/store/execute, \
             the WebSocket /{app}/_ditto, GET /health/live, GET /health/ready"
        }
        Door::Admin => {
            "GET /metrics, GET /health/live, GET /health/ready, GET and POST /admin/apps, \
             DELETE /admin/apps/{app}, GET and POST /admin/apps/{app}/keys, \
             DELETE /admin/apps/{app}/keys/{name}"
        }
    };
    reply::message(404, &format!("nothing at {path}: there is {routes}"))
}

#[cfg(test)]
mod tests {
    use bigpeer_core::value::Value;

    use super::*;

    const APP: &str = "00000000-0000-0000-0000-000000000001";

    fn ask(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Call {
        let request = Request::new(method, path, headers, body.as_bytes()).expect("well-formed");
        match route(&request, false, Door::Data, &AdminToken::for_test("t")) {
            Call::Execute(call) => {
                statement(request.body()).map_or_else(Call::Respond, |_| Call::Execute(call))
            }
            other => other,
        }
    }

    fn refusal(call: Call) -> (u16, String) {
        let Call::Respond(response) = call else { panic!("expected a refusal, got {call:?}") };
        (response.status, String::from_utf8(response.body.to_vec()).expect("text"))
    }

    #[test]
    fn a_statement_is_read_with_everything_around_it() {
        let headers = [("Authorization", "bearer key"), ("X-HYDRA-TXN-ID", "17")];
        let body = r#"{"statement":"SELECT * FROM cars WHERE a = :x","args":{"x":1}}"#;
        let Call::Execute(call) =
            ask(Method::Post, &format!("/{APP}/api/v5/store/execute"), &headers, body)
        else {
            panic!("a statement")
        };
        assert_eq!(call.bearer.as_deref(), Some("key"));
        assert_eq!(call.min_txn, Some(Txn(17)));
        assert_eq!(call.mode, ObjectMode::Map);
        let (statement, args) = statement(body.as_bytes()).expect("a statement");
        assert_eq!(args.get("x").and_then(Value::as_i64), Some(1));
        assert_eq!(&*statement, "SELECT * FROM cars WHERE a = :x");
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said_with_its_status() {
        let path = format!("/{APP}/api/v4/store/execute");
        let ok = r#"{"statement":"SELECT * FROM cars"}"#;
        for (method, path, headers, body, status, part) in [
            (Method::Get, &*path, &[][..], "", 405, "use POST"),
            (Method::Post, &path, &[("Content-Encoding", "gzip")], ok, 415, "gzip"),
            (Method::Post, &path, &[("Content-Type", "application/cbor")], ok, 415, "json"),
            (Method::Post, &path, &[("X-DITTO-TXN-ID", "x")], ok, 400, "X-DITTO-TXN-ID"),
            (Method::Post, &path, &[], r#"{"statement":"#, 400, "line 1, column 14"),
            (Method::Post, &path, &[], r#"{"a":1,"a":2}"#, 400, "more than once"),
            (Method::Post, &path, &[], r#"{"args":{}}"#, 400, "statement"),
            (Method::Post, &path, &[], r#"{"statement":"x","args":[]}"#, 400, "args"),
            (Method::Post, "/shop/api/v4/store/execute", &[], ok, 404, "unknown app `shop`"),
            (Method::Post, "/api/v4/store/execute", &[], ok, 404, "first part"),
            (Method::Post, &format!("/{APP}/api/v2/store/write"), &[], ok, 404, "v4 or v5"),
            (Method::Post, &format!("/{APP}/api/v4/store/find"), &[], ok, 404, "store/execute"),
            (Method::Get, "/a/b/c/d/e/f/g", &[], "", 404, "there is"),
            (Method::Get, "/metrics", &[], "", 404, "nothing at /metrics"),
            (Method::Get, "/a/", &[], "", 404, "nothing at /a/:"),
            (Method::Post, "/", &[], "", 405, "POST is not allowed on /: use GET"),
            (Method::Get, "/admin/apps", &[], "", 404, "nothing at"),
            (Method::Get, &format!("/{APP}/_ditto"), &[], "", 426, "WebSocket"),
            (Method::Post, "/health/live", &[], "", 405, "use GET"),
        ] {
            let (found, text) = refusal(ask(method, path, headers, body));
            assert_eq!(found, status, "{path}: {text}");
            assert!(text.contains(part), "{path}: {text}");
        }
    }

    #[test]
    fn what_a_head_alone_allows_is_said_before_its_body_is_read() {
        let token = AdminToken::for_test("t");
        let at = |method, path: &str, bearer: &str, door| {
            let headers = [("Authorization", bearer), ("Content-Length", "9")];
            let request = Request::new(method, path, &headers, b"").expect("well-formed");
            route_head(&request, door, &token)
        };
        let path = format!("/{APP}/api/v5/store/execute");
        assert!(matches!(
            at(Method::Post, &path, "Bearer k", Door::Data),
            AtHead::Statement { bearer: Some(bearer), .. } if &*bearer == "k"
        ));
        for (method, path, door, status) in [
            (Method::Put, &*path, Door::Data, 405),
            (Method::Post, "/nothing", Door::Data, 404),
            (Method::Post, "/admin/apps", Door::Data, 404),
            (Method::Post, "/admin/apps", Door::Admin, 401),
        ] {
            let AtHead::Refuse(response) = at(method, path, "Bearer k", door) else {
                panic!("{path} allows nothing")
            };
            assert_eq!(response.status, status, "{path}");
        }
        let allowed = at(Method::Post, "/admin/apps", "Bearer t", Door::Admin);
        assert!(matches!(allowed, AtHead::Administrator));
        assert!(matches!(at(Method::Get, "/metrics", "", Door::Admin), AtHead::NoBody));
    }

    #[test]
    fn a_method_without_a_meaning_is_called_by_its_name() {
        let text = format!("BREW /{APP}/api/v5/store/execute HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut connection = bigpeer_connection::ServerConnection::new(
            Arc::default(),
            None,
            bigpeer_core::time::Instant::default(),
        )
        .expect("without TLS nothing can fail");
        connection.handle_bytes(text.as_bytes(), bigpeer_core::time::Instant::default());
        let Some(bigpeer_connection::Event::Request { request, .. }) = connection.poll_event()
        else {
            panic!("a request")
        };
        let (status, text) =
            refusal(route(&request, false, Door::Data, &AdminToken::for_test("t")));
        assert_eq!(status, 405);
        assert!(text.contains("BREW is not allowed on /"), "{text}");
    }

    #[test]
    fn a_device_names_its_app_in_the_path_or_in_the_query() {
        let expected =
            SessionCall { app: parse_app(APP).expect("a UUID"), bearer: Some("t".into()) };
        for path in [format!("/{APP}/_ditto"), format!("/_ditto?x=1&app={APP}")] {
            let headers = [("Authorization", "Bearer t")];
            let request = Request::new(Method::Get, &path, &headers, b"").expect("well-formed");
            match route(&request, true, Door::Data, &AdminToken::for_test("t")) {
                Call::Session(call) => assert_eq!(call, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
