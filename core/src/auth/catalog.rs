//! The table of apps and their keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::change::{CHANGES_BYTES_MAX, CHANGES_MAX};
use super::{PermissionError, Permissions};
use crate::ident::{AppId, Uuid};
use crate::time::WallMs;
use crate::value::{Object, Value, json};

/// BLAKE3 of a key's whole text. Fast on purpose: our own keys carry over 230 random bits.
pub type KeyHash = [u8; 32];

/// The public part of a key's text: its first characters, by which it is looked up.
#[must_use]
pub fn key_prefix(text: &str) -> &str {
    text.get(..KEY_PREFIX_CHARS).unwrap_or(text)
}

/// One API key, without its secret.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Unique within its app.
    pub name: Box<str>,
    /// For people.
    pub description: Option<Box<str>>,
    /// The first characters of the key's text.
    pub prefix: Box<str>,
    /// The hash of the key's text.
    pub hash: KeyHash,
    /// When it stops being accepted.
    pub expires: WallMs,
    /// What it may do.
    pub permissions: Arc<Permissions>,
}

impl ApiKey {
    /// What may be shown of a key.
    fn public_members(&self) -> Object {
        let description =
            self.description.as_ref().map_or(Value::Null, |text| Value::from(&**text));
        let mut object = Object::default();
        object.insert("description", description);
        object.insert("expiresMs", Value::from(self.expires.0));
        object.insert("name", Value::from(&*self.name));
        object.insert("permissions", self.permissions.to_value());
        object.insert("prefix", Value::from(&*self.prefix));
        object
    }
}

/// What a credential is worth, and until when.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What its bearer may do.
    pub permissions: Arc<Permissions>,
    /// When it stops being accepted; none for one that never does.
    pub expires: Option<WallMs>,
}

impl Grant {
    /// Everything, for ever.
    #[must_use]
    pub fn everything() -> Self {
        Self { permissions: Arc::new(Permissions::everything()), expires: None }
    }

    /// True when both let their bearer do the same until the same moment.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.permissions, &other.permissions);
        self.expires == other.expires
            && (Arc::ptr_eq(ours, theirs)
                || (ours.read.hash() == theirs.read.hash()
                    && ours.write.hash() == theirs.write.hash()
                    && ours.remote_query == theirs.remote_query))
    }
}

/// One app.
#[derive(Clone, Debug)]
pub struct App {
    /// For people; unique in the catalog.
    pub name: Box<str>,
    /// The hash of the development token, by which devices may connect with full access.
    pub development_token: Option<KeyHash>,
    keys: BTreeMap<Box<str>, ApiKey>,
}

impl App {
    /// The keys in order of their names.
    pub fn keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.keys.values()
    }

    /// The key of a name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&ApiKey> {
        self.keys.get(name)
    }
}

/// A change of the catalog, as it is logged.
#[derive(Clone, Debug)]
pub enum CatalogOp {
    /// Create an app, or replace its name and token.
    PutApp {
        /// Its id.
        app: AppId,
        /// Its name.
        name: Box<str>,
        /// The hash of its development token.
        development_token: Option<KeyHash>,
    },
    /// Delete an app with its keys. Its documents become unreachable.
    DeleteApp {
        /// Its id.
        app: AppId,
    },
    /// Create a key.
    PutKey {
        /// Whose key.
        app: AppId,
        /// The key.
        key: ApiKey,
    },
    /// Revoke a key.
    DeleteKey {
        /// Whose key.
        app: AppId,
        /// Its name.
        name: Box<str>,
    },
}

/// Why a credential is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No app has this id.
    #[error("unknown app `{0}`: check the first part of the URL against `bigpeer app list`")]
    UnknownApp(AppId),
    /// No `Authorization: Bearer …` header.
    #[error("no credential: send `Authorization: Bearer <API key>`")]
    Missing,
    /// No key has this text.
    #[error("the API key is not valid for this app")]
    Unknown,
    /// The key was valid once.
    #[error("the API key `{0}` has expired")]
    Expired(Box<str>),
}

/// The reason for which changes of the catalog are refused, or logged ones cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// An app of that name exists.
    #[error("an app named `{0}` exists already")]
    AppExists(Box<str>),
    /// No app has this id.
    #[error("unknown app `{0}`")]
    UnknownApp(AppId),
    /// A key of that name exists.
    #[error("a key named `{0}` exists already in this app")]
    KeyExists(Box<str>),
    /// No key has this name.
    #[error("this app has no key named `{0}`")]
    UnknownKey(Box<str>),
    /// The permissions cannot be used.
    #[error(transparent)]
    Permissions(#[from] PermissionError),
    /// A list of changes has no entry.
    #[error("a change of the catalog changes nothing: give at least one")]
    NoChange,
    /// A list of changes has too many entries.
    #[error("more than {CHANGES_MAX} changes of the catalog in one transaction: make several")]
    TooMany,
    /// A list of changes takes too many bytes.
    #[error(
        "the changes of the catalog take more than {CHANGES_BYTES_MAX} bytes in one transaction: make several"
    )]
    TooLarge,
    /// A logged operation that this build does not understand.
    #[error("catalog operation not understood: {0}")]
    Malformed(&'static str),
}

/// All apps of one log.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    apps: BTreeMap<AppId, App>,
    generation: u64,
}

impl Catalog {
    /// The apps in order of their ids.
    pub fn apps(&self) -> impl Iterator<Item = (AppId, &App)> {
        self.apps.iter().map(|(id, app)| (*id, app))
    }

    /// One app.
    #[must_use]
    pub fn app(&self, app: AppId) -> Option<&App> {
        self.apps.get(&app)
    }

    /// Rises with every change: a permission looked up at an older generation must be looked up again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the bearer of `token` may do in `app`.
    ///
    /// # Errors
    ///
    /// When the app or the key is unknown, or the key has expired.
    pub fn authorize(
        &self,
        app: AppId,
        token: Option<&str>,
        wall: WallMs,
    ) -> Result<Arc<Permissions>, AuthError> {
        self.grant(app, token, wall).map(|grant| grant.permissions)
    }

    /// As [`authorize`](Self::authorize), with the moment at which the answer ends.
    ///
    /// # Errors
    ///
    /// When the app or the key is unknown, or the key has expired.
    pub fn grant(&self, app: AppId, token: Option<&str>, wall: WallMs) -> Result<Grant, AuthError> {
        let entry = self.apps.get(&app).ok_or(AuthError::UnknownApp(app))?;
        let token = token.ok_or(AuthError::Missing)?;
        let hash = hash(token);
        let prefix = key_prefix(token);
        let key = entry
            .keys
            .values()
            .find(|key| &*key.prefix == prefix && same_hash(&key.hash, &hash))
            .ok_or(AuthError::Unknown)?;
        if key.expires <= wall {
            return Err(AuthError::Expired(key.name.clone()));
        }
        Ok(Grant { permissions: key.permissions.clone(), expires: Some(key.expires) })
    }

    /// True when `token` is the development token of `app`.
    #[must_use]
    pub fn is_development_token(&self, app: AppId, token: &str) -> bool {
        self.apps
            .get(&app)
            .and_then(|app| app.development_token)
            .is_some_and(|expected| same_hash(&expected, &hash(token)))
    }

    /// The apps as JSON objects joined by commas, each with its keys and without any secret.
    #[must_use]
    pub fn to_json_rows(&self) -> Vec<u8> {
        let mut rows = Vec::new();
        for (id, app) in &self.apps {
            if !rows.is_empty() {
                rows.push(b',');
            }
            let keys = app.keys.values().map(|key| Value::Object(key.public_members())).collect();
            let mut object = Object::default();
            object.insert("appId", Value::from(id.to_string()));
            object.insert("keys", Value::Array(keys));
            object.insert("name", Value::from(&*app.name));
            json::write(&Value::Object(object), &mut rows);
        }
        rows
    }

    /// The changes that make this catalog out of an empty one.
    pub fn to_ops(&self) -> impl Iterator<Item = CatalogOp> {
        self.apps.iter().flat_map(|(id, app)| {
            let (name, development_token) = (app.name.clone(), app.development_token);
            let put = CatalogOp::PutApp { app: *id, name, development_token };
            let keys =
                app.keys.values().map(|key| CatalogOp::PutKey { app: *id, key: key.clone() });
            std::iter::once(put).chain(keys)
        })
    }

    /// Applies a logged change. Total: one that no longer makes sense changes nothing.
    pub fn apply(&mut self, op: CatalogOp) {
        self.generation += 1;
        match op {
            CatalogOp::PutApp { app, name, development_token } => {
                let keys = self.apps.remove(&app).map(|app| app.keys).unwrap_or_default();
                self.apps.insert(app, App { name, development_token, keys });
            }
            CatalogOp::DeleteApp { app } => drop(self.apps.remove(&app)),
            CatalogOp::PutKey { app, key } => {
                if let Some(app) = self.apps.get_mut(&app) {
                    app.keys.insert(key.name.clone(), key);
                }
            }
            CatalogOp::DeleteKey { app, name } => {
                if let Some(app) = self.apps.get_mut(&app) {
                    app.keys.remove(&name);
                }
            }
        }
    }
}

impl CatalogOp {
    /// Refuses a change that is larger than any catalog takes.
    ///
    /// # Errors
    ///
    /// If it makes a key whose permissions are larger than a session can say.
    pub fn check_size(&self) -> Result<(), CatalogError> {
        match self {
            Self::PutKey { key, .. } => Ok(key.permissions.check_size()?),
            Self::PutApp { .. } | Self::DeleteApp { .. } | Self::DeleteKey { .. } => Ok(()),
        }
    }

    /// The logged form: a JSON object with `op` and its members.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut object = Object::default();
        let mut put = |name: &str, value: Value| drop(object.insert(name, value));
        match self {
            Self::PutApp { app, name, development_token } => {
                put("op", Value::from("putApp"));
                put("app", Value::from(app.to_string()));
                put("name", Value::from(&**name));
                if let Some(token) = development_token {
                    put("developmentToken", hex(token));
                }
            }
            Self::DeleteApp { app } => {
                put("op", Value::from("deleteApp"));
                put("app", Value::from(app.to_string()));
            }
            Self::PutKey { app, key } => {
                put("op", Value::from("putKey"));
                put("app", Value::from(app.to_string()));
                put("name", Value::from(&*key.name));
                if let Some(description) = &key.description {
                    put("description", Value::from(&**description));
                }
                put("prefix", Value::from(&*key.prefix));
                put("hash", hex(&key.hash));
                put("expiresMs", Value::from(key.expires.0));
                put("permissions", key.permissions.to_value());
            }
            Self::DeleteKey { app, name } => {
                put("op", Value::from("deleteKey"));
                put("app", Value::from(app.to_string()));
                put("name", Value::from(&**name));
            }
        }
        let mut out = Vec::new();
        json::write(&Value::Object(object), &mut out);
        out.into()
    }

    /// Reads the logged form.
    ///
    /// # Errors
    ///
    /// When this build does not understand it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CatalogError> {
        let value = json::parse(bytes, json::Limits::default())
            .map_err(|_| CatalogError::Malformed("not JSON"))?;
        let object = value.as_object().ok_or(CatalogError::Malformed("not an object"))?;
        let app = AppId(
            text(object, "app")?
                .parse::<Uuid>()
                .map_err(|_| CatalogError::Malformed("`app` is not a UUID"))?,
        );
        match text(object, "op")? {
            "putApp" => Ok(Self::PutApp {
                app,
                name: text(object, "name")?.into(),
                development_token: match object.get("developmentToken") {
                    None => None,
                    Some(_) => Some(unhex(text(object, "developmentToken")?)?),
                },
            }),
            "deleteApp" => Ok(Self::DeleteApp { app }),
            "putKey" => Ok(Self::PutKey {
                app,
                key: ApiKey {
                    name: text(object, "name")?.into(),
                    description: object.get("description").and_then(Value::as_str).map(Into::into),
                    prefix: text(object, "prefix")?.into(),
                    hash: unhex(text(object, "hash")?)?,
                    expires: match object.get("expiresMs") {
                        Some(Value::Int(ms)) => WallMs(u64::try_from(*ms).unwrap_or(0)),
                        Some(Value::UInt(ms)) => WallMs(*ms),
                        _ => return Err(CatalogError::Malformed("`expiresMs` is not a number")),
                    },
                    permissions: Arc::new(Permissions::from_value(
                        object.get("permissions").unwrap_or(&Value::Null),
                    )?),
                },
            }),
            "deleteKey" => Ok(Self::DeleteKey { app, name: text(object, "name")?.into() }),
            _ => Err(CatalogError::Malformed("unknown `op`")),
        }
    }
}

/// The hash by which a key or token is stored.
#[must_use]
pub fn hash(text: &str) -> KeyHash {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Compares without leaking where the first difference is.
fn same_hash(a: &KeyHash, b: &KeyHash) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn text<'a>(object: &'a Object, name: &'static str) -> Result<&'a str, CatalogError> {
    object.get(name).and_then(Value::as_str).ok_or(CatalogError::Malformed("a member is missing"))
}

fn hex(bytes: &KeyHash) -> Value {
    Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn unhex(text: &str) -> Result<KeyHash, CatalogError> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(CatalogError::Malformed("a hash is not 64 hexadecimal digits"));
    }
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16)
            .map_err(|_| CatalogError::Malformed("a hash is not hexadecimal"))?;
    }
    Ok(out)
}

/// How much of a key's text is public.
const KEY_PREFIX_CHARS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, text: &str, expires: u64) -> ApiKey {
        ApiKey {
            name: name.into(),
            description: None,
            prefix: key_prefix(text).into(),
            hash: hash(text),
            expires: WallMs(expires),
            permissions: Arc::new(Permissions::everything()),
        }
    }

    fn catalog() -> (Catalog, AppId) {
        let app = AppId(Uuid([1; 16]));
        let mut catalog = Catalog::default();
        let put =
            CatalogOp::PutApp { app, name: "shop".into(), development_token: Some(hash("dev")) };
        for op in [put, CatalogOp::PutKey { app, key: key("k", "abcdefghijklmnop", 100) }] {
            catalog.check(std::slice::from_ref(&op)).expect("a fresh name is free");
            catalog.apply(CatalogOp::decode(&op.encode()).expect("what we encode we decode"));
        }
        (catalog, app)
    }

    #[test]
    fn a_key_opens_its_app_until_it_expires() {
        let (catalog, app) = catalog();
        let with = |token, wall| catalog.authorize(app, token, WallMs(wall)).map(drop);
        assert_eq!(with(Some("abcdefghijklmnop"), 99), Ok(()));
        assert_eq!(with(Some("abcdefghijklmnoq"), 99), Err(AuthError::Unknown));
        assert_eq!(with(None, 99), Err(AuthError::Missing));
        assert_eq!(with(Some("abcdefghijklmnop"), 100), Err(AuthError::Expired("k".into())));
        let other = AppId(Uuid([2; 16]));
        let unknown = catalog.authorize(other, Some("x"), WallMs(0)).map(drop);
        assert_eq!(unknown, Err(AuthError::UnknownApp(other)));
        assert!(catalog.is_development_token(app, "dev"));
        assert!(!catalog.is_development_token(app, "abcdefghijklmnop"));
    }

    #[test]
    fn names_are_unique_and_what_is_revoked_is_refused() {
        let (mut catalog, app) = catalog();
        let again = CatalogOp::PutKey { app, key: key("k", "zzzzzzzzzzzzz", 100) };
        let refused = catalog.check(&[again]).expect_err("the name is taken");
        assert_eq!(refused.cause, CatalogError::KeyExists("k".into()));
        catalog.apply(CatalogOp::DeleteKey { app, name: "k".into() });
        assert!(catalog.authorize(app, Some("abcdefghijklmnop"), WallMs(1)).is_err());
    }
}
