//! The routes below `/admin`: apps and keys, for the `app` and `key` commands.

use std::sync::Arc;

use bigpeer_connection::{Method, Request, Response};
use bigpeer_core::auth::{ApiKey, Catalog, Permissions, hash, key_prefix};
use bigpeer_core::ident::AppId;
use bigpeer_core::time::WallMs;
use bigpeer_core::value::{Object, Value, json};

use super::body::{self, BodyError};
use super::route::{bearer, nothing_here, parse_app, wrong_method};
use super::{Call, Door, reply, timestamp};
use crate::admin_token::AdminToken;
use crate::secrets::Secret;

/// What an administrator asks for.
#[derive(Debug)]
pub enum AdminCall {
    /// List the apps.
    ListApps,
    /// Create an app with a development token.
    CreateApp {
        /// Its name.
        name: Box<str>,
    },
    /// Delete an app.
    DeleteApp {
        /// Which.
        app: AppId,
    },
    /// List the keys of an app, without secrets.
    ListKeys {
        /// Whose.
        app: AppId,
    },
    /// Create a key.
    CreateKey {
        /// Whose.
        app: AppId,
        /// What it is to be.
        key: NewKey,
    },
    /// Revoke a key.
    DeleteKey {
        /// Whose.
        app: AppId,
        /// Its name.
        name: Box<str>,
    },
}

/// A key to make.
#[derive(Debug)]
pub struct NewKey {
    /// Unique in its app: a DNS label.
    pub name: Box<str>,
    /// For people.
    pub description: Option<Box<str>>,
    /// When it stops being accepted.
    pub expires: WallMs,
    /// What it may do.
    pub permissions: Permissions,
}

impl NewKey {
    /// The key with its text, of which it holds the hash alone.
    #[must_use]
    pub fn with_text(self, text: &Secret) -> ApiKey {
        let Self { name, description, expires, permissions } = self;
        ApiKey {
            name,
            description,
            prefix: key_prefix(text.reveal()).into(),
            hash: hash(text.reveal()),
            expires,
            permissions: Arc::new(permissions),
        }
    }
}

/// When a key expires if nothing is said: the first moment of the year 2100.
pub const EXPIRES_DEFAULT: WallMs = WallMs(4_102_444_800_000);

/// The longest name of an app, in bytes.
const APP_NAME_BYTES_MAX: usize = 128;

/// The longest name of a key, in bytes: that of a DNS label.
const KEY_NAME_BYTES_MAX: usize = 63;

/// The longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Decides what a request below `/admin` asks for; `parts` follow that word.
pub(super) fn route(request: &Request, parts: &[Option<&str>], token: &AdminToken) -> Call {
    let decided = check_token(request, token).and_then(|()| decide(request, parts));
    decided.map_or_else(Call::Respond, Call::Admin)
}

/// Whether an administrator asks; the head suffices to know.
pub(super) fn check_token(request: &Request, token: &AdminToken) -> Result<(), Response> {
    if bearer(request).is_some_and(|shown| token.matches(&shown)) {
        return Ok(());
    }
    let text = "send `Authorization: Bearer` with the text of the file `admin.token` in the data directory, or of the one \
                that --admin-token-file names";
    Err(reply::message(401, text))
}

fn decide(request: &Request, parts: &[Option<&str>]) -> Result<AdminCall, Response> {
    match (parts, request.method()) {
        ([Some("apps"), None, ..], Method::Get) => Ok(AdminCall::ListApps),
        ([Some("apps"), None, ..], Method::Post) => {
            Ok(AdminCall::CreateApp { name: app_name(request)? })
        }
        ([Some("apps"), Some(app), None, ..], Method::Delete) => {
            Ok(AdminCall::DeleteApp { app: parse_app(app)? })
        }
        ([Some("apps"), Some(app), Some("keys"), None, ..], Method::Get) => {
            Ok(AdminCall::ListKeys { app: parse_app(app)? })
        }
        ([Some("apps"), Some(app), Some("keys"), None, ..], Method::Post) => {
            Ok(AdminCall::CreateKey { app: parse_app(app)?, key: new_key(request)? })
        }
        ([Some("apps"), Some(app), Some("keys"), Some(name), None], Method::Delete) => {
            Ok(AdminCall::DeleteKey { app: parse_app(app)?, name: (*name).into() })
        }
        ([Some("apps"), None, ..] | [Some("apps"), Some(_), Some("keys"), None, ..], _) => {
            Err(wrong_method(request, "GET, POST"))
        }
        (
            [Some("apps"), Some(_), None, ..]
            | [Some("apps"), Some(_), Some("keys"), Some(_), None],
            _,
        ) => Err(wrong_method(request, "DELETE")),
        _ => Err(nothing_here(request.path(), Door::Admin)),
    }
}

fn app_name(request: &Request) -> Result<Box<str>, Response> {
    let object = read(request)?;
    let name = text(&object, "name", APP_NAME_BYTES_MAX)?;
    name.filter(|name| !name.is_empty()).ok_or_else(|| bad("send {\"name\": \"…\"}"))
}

fn new_key(request: &Request) -> Result<NewKey, Response> {
    let object = read(request)?;
    let name = text(&object, "name", KEY_NAME_BYTES_MAX)?.filter(|name| is_dns_label(name));
    let name = name.ok_or_else(|| {
        bad("`name` must be 1 to 63 lower-case letters, digits and inner hyphens")
    })?;
    let expires = match text(&object, "expiresAt", 64)? {
        None => EXPIRES_DEFAULT,
        Some(text) => timestamp::parse(&text).ok_or_else(|| {
            bad("`expiresAt` must be an RFC 3339 timestamp such as 2030-01-31T00:00:00Z")
        })?,
    };
    let permissions = match object.get("permissions") {
        None | Some(Value::Null) => Permissions::everything(),
        Some(value) => Permissions::from_value(value).map_err(|error| bad(&error.to_string()))?,
    };
    let description = text(&object, "description", DESCRIPTION_BYTES_MAX)?;
    Ok(NewKey { name, description, expires, permissions })
}

fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn read(request: &Request) -> Result<Object, Response> {
    body::object(request.body()).map_err(|BodyError::Invalid(text)| bad(&text))
}

fn text(object: &Object, name: &str, bytes_max: usize) -> Result<Option<Box<str>>, Response> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= bytes_max => Ok(Some((&**text).into())),
        Some(_) => Err(bad(&format!("`{name}` must be a string of at most {bytes_max} bytes"))),
    }
}

fn bad(text: &str) -> Response {
    reply::message(400, text)
}

/// `{"apps": [{"id", "name"}]}`.
#[must_use]
pub fn apps(catalog: &Catalog) -> Response {
    let apps = catalog.apps().map(|(id, app)| {
        object([("id", Value::from(id.to_string())), ("name", Value::from(&*app.name))])
    });
    answer(200, object([("apps", Value::Array(apps.collect()))]))
}

/// `{"keys": [{"name", "prefix", "expiresAt", "permissions", "description"?}]}`, or that there is no such app.
#[must_use]
pub fn keys(catalog: &Catalog, app: AppId) -> Response {
    let Some(found) = catalog.app(app) else {
        return reply::message(
            404,
            &format!("unknown app `{app}`: `bigpeer app list` shows the apps"),
        );
    };
    let keys = found.keys().map(|key| {
        let mut members = Object::new();
        members.insert("name", Value::from(&*key.name));
        members.insert("prefix", Value::from(&*key.prefix));
        members.insert("expiresAt", Value::from(timestamp::format(key.expires)));
        members.insert("permissions", key.permissions.to_value());
        if let Some(description) = &key.description {
            members.insert("description", Value::from(&**description));
        }
        Value::Object(members)
    });
    answer(200, object([("keys", Value::Array(keys.collect()))]))
}

/// `{"appId", "name", "developmentToken"}`: the only time that the token is shown.
#[must_use]
pub fn app_created(app: AppId, name: &str, token: &str) -> Response {
    let members = [
        ("appId", Value::from(app.to_string())),
        ("name", Value::from(name)),
        ("developmentToken", Value::from(token)),
    ];
    answer(201, object(members))
}

/// `{"name", "apiKey"}`: the only time that the key is shown.
#[must_use]
pub fn key_created(name: &str, key: &str) -> Response {
    answer(201, object([("name", Value::from(name)), ("apiKey", Value::from(key))]))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut object = Object::new();
    for (name, value) in members {
        object.insert(name, value);
    }
    Value::Object(object)
}

fn answer(status: u16, value: Value) -> Response {
    let mut out = Vec::new();
    json::write(&value, &mut out);
    Response::json(status, out)
}

#[cfg(test)]
mod tests {
    use super::super::route;
    use super::*;

    fn ask(method: Method, path: &str, token: &str, body: &str) -> Call {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", &*bearer)];
        let request = Request::new(method, path, &headers, body.as_bytes()).expect("well-formed");
        route(&request, false, Door::Admin, &AdminToken::for_test("secret"))
    }

    #[test]
    fn nothing_below_admin_opens_without_the_token() {
        for token in ["", "secre", "secrets"] {
            match ask(Method::Get, "/admin/apps", token, "") {
                Call::Respond(response) => assert_eq!(response.status, 401),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            ask(Method::Get, "/admin/apps", "secret", ""),
            Call::Admin(AdminCall::ListApps)
        ));
    }

    #[test]
    fn keys_are_described_exactly_or_refused() {
        let path = "/admin/apps/00000000-0000-0000-0000-000000000001/keys";
        let call = ask(
            Method::Post,
            path,
            "secret",
            r#"{"name":"k-1","expiresAt":"2100-01-01T00:00:00Z"}"#,
        );
        let Call::Admin(AdminCall::CreateKey { key, .. }) = call else { panic!("{call:?}") };
        assert_eq!((&*key.name, key.expires), ("k-1", EXPIRES_DEFAULT));
        assert!(key.permissions.read.is_everything());
        for body in [
            "",
            "{}",
            r#"{"name":"K"}"#,
            r#"{"name":"k","expiresAt":"soon"}"#,
            r#"{"name":"k","permissions":1}"#,
        ] {
            match ask(Method::Post, path, "secret", body) {
                Call::Respond(response) => assert_eq!(response.status, 400, "{body}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_wrong_method_says_which_are_right() {
        match ask(Method::Put, "/admin/apps", "secret", "") {
            Call::Respond(response) => {
                assert_eq!(response.status, 405);
                assert!(response.headers.contains(&("Allow", "GET, POST".to_owned())));
            }
            other => panic!("{other:?}"),
        }
    }
}
