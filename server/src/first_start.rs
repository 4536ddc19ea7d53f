//! The first start: an app and an API key to begin with, of which somebody must be told.
//!
//! The log holds hashes, so a key that is durable there and told to nobody opens nothing for ever. A first start therefore
//! *keeps* app, key and token in a file before it gives their record to the log, and tells them once the log has it:
//!
//! ```text
//!  file durable          record durable          told: first-start.json, or a terminal
//! ------|----------------------|-----------------------|--------------------------------
//!       made anew by the next start   told by the next start   nothing left to do
//! ```
//!
//! The log alone decides between these. A file beside a log in which nothing was ever written was left by a first start
//! that was cut short, and is written anew with other secrets. A file beside any other log is told if its key opens the
//! app; it is thrown away if the key does not, since an administrator has revoked it. Without a terminal a rename makes the
//! file that is kept the one that is told. On a terminal the file is deleted after the text was written: a process that
//! dies between the two lets the next start tell the key twice.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bigpeer_core::auth::{Catalog, CatalogOp, Permissions, hash};
use bigpeer_core::ident::{AppId, Uuid};
use bigpeer_core::value::{Object, Value, json};
use bigpeer_host::files::{read_small, sync_dir, write_whole};

use crate::api::admin::{EXPIRES_DEFAULT, NewKey};
use crate::secrets::{FillRandom, Secret};

/// An app with its secrets, as a first start makes it. Key and token are told once.
#[derive(Clone, Debug)]
pub struct FirstStart {
    /// The id of the app.
    pub app: AppId,
    /// Opens the app over HTTP.
    pub api_key: Secret,
    /// Opens the app to devices.
    pub development_token: Secret,
}

/// The part of a first start that a start has to do.
#[derive(Clone, Debug, Default)]
pub enum Owed {
    /// Nothing: somebody was told, or nothing is made here.
    #[default]
    Nothing,
    /// The log is empty: make these, then tell them. They are kept.
    Make(FirstStart),
    /// An earlier start has kept these, and told nobody: tell them, if they open anything.
    Tell(FirstStart),
}

/// The file that tells what the first start made, for its owner alone.
pub const TOLD: &str = "first-start.json";

/// The file that keeps the same until somebody was told.
pub const KEPT: &str = "first-start.pending";

/// The name of the first app and of its key.
const NAME: &str = "default";

impl FirstStart {
    /// An app and its secrets, which nobody else has.
    #[must_use]
    pub fn new(random: FillRandom) -> Self {
        Self {
            app: new_app_id(random),
            api_key: Secret::api_key(random),
            development_token: Secret::token(random),
        }
    }

    /// The changes that make app and key. Only hashes are logged.
    #[must_use]
    pub fn to_ops(&self) -> Vec<CatalogOp> {
        let development_token = Some(hash(self.development_token.reveal()));
        let key = NewKey {
            name: NAME.into(),
            description: None,
            expires: EXPIRES_DEFAULT,
            permissions: Permissions::everything(),
        };
        vec![
            CatalogOp::PutApp { app: self.app, name: NAME.into(), development_token },
            CatalogOp::PutKey { app: self.app, key: key.with_text(&self.api_key) },
        ]
    }

    /// True if the catalog has the app with this key: the change was made, and nobody has revoked the key since.
    #[must_use]
    pub fn is_in(&self, catalog: &Catalog) -> bool {
        let key = catalog.app(self.app).and_then(|app| app.key(NAME));
        key.is_some_and(|key| key.hash == hash(self.api_key.reveal()))
    }

    /// Adds what is told to an object.
    pub fn tell(&self, object: &mut Object) {
        object.insert("app", Value::from(self.app.to_string()));
        object.insert("apiKey", Value::from(self.api_key.reveal()));
        object.insert("developmentToken", Value::from(self.development_token.reveal()));
    }

    /// The text of the file.
    fn to_json(&self) -> Vec<u8> {
        let mut object = Object::new();
        self.tell(&mut object);
        let mut out = Vec::new();
        json::write(&Value::Object(object), &mut out);
        out.push(b'\n');
        out
    }

    fn parse(text: &str) -> Option<Self> {
        let value = json::parse(text.as_bytes(), json::Limits::default()).ok()?;
        let member = |name: &str| value.as_object()?.get(name)?.as_str();
        Some(Self {
            app: AppId(member("app")?.parse().ok()?),
            api_key: Secret::from_text(member("apiKey")?),
            development_token: Secret::from_text(member("developmentToken")?),
        })
    }

    /// Keeps app, key and token in a data directory, durably: before any of them is logged.
    ///
    /// # Errors
    ///
    /// The answer of the system.
    pub fn keep(&self, dir: &Path) -> io::Result<()> {
        write_whole(dir, KEPT, &self.to_json(), 0o600)
    }

    /// Reads the file that an earlier start has left, which perhaps told nobody.
    ///
    /// # Errors
    ///
    /// The answer of the system; `InvalidData` if no start wrote the file.
    pub fn kept(dir: &Path) -> io::Result<Option<Self>> {
        let Some(text) = read_small(&dir.join(KEPT))? else { return Ok(None) };
        let kept = Self::parse(&text);
        kept.map(Some).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it is no first start"))
    }
}

/// A random app id.
#[must_use]
pub fn new_app_id(random: FillRandom) -> AppId {
    let mut id = [0; 16];
    random(&mut id);
    // Version 4, variant 1: what readers of UUIDs expect of a random one.
    id[6] = id[6] & 0x0F | 0x40;
    id[8] = id[8] & 0x3F | 0x80;
    AppId(Uuid(id))
}

/// Makes the file that is kept the one that is told, durably, and returns its path.
///
/// # Errors
///
/// The answer of the system.
pub fn tell_in_file(dir: &Path) -> io::Result<PathBuf> {
    let told = dir.join(TOLD);
    fs::rename(dir.join(KEPT), &told)?;
    sync_dir(dir)?;
    Ok(told)
}

/// Deletes the file that is kept: its key was told, or opens nothing.
///
/// # Errors
///
/// The answer of the system; none if nothing was kept.
pub fn forget(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(KEPT)) {
        Ok(()) => sync_dir(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::secrets::os_random;

    fn scratch(name: &str) -> PathBuf {
        let name = format!("bigpeer-first-start-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("temporary");
        path
    }

    #[test]
    fn what_is_kept_is_told_by_its_name_and_is_its_owners_alone() {
        let dir = &scratch("told");
        assert!(FirstStart::kept(dir).expect("readable").is_none());
        let first = FirstStart::new(os_random);
        first.keep(dir).expect("temporary");
        let kept = FirstStart::kept(dir).expect("readable").expect("it is kept");
        assert_eq!(kept.to_json(), first.to_json());
        let told = tell_in_file(dir).expect("temporary");
        let mode = fs::metadata(&told).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&told).expect("it is there"), first.to_json());
        assert!(FirstStart::kept(dir).expect("readable").is_none());
        forget(dir).expect("nothing is kept");
        assert!(told.exists());
        fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn only_what_was_made_and_not_revoked_is_told() {
        let first = FirstStart::new(os_random);
        let mut catalog = Catalog::default();
        assert!(!first.is_in(&catalog));
        let ops = first.to_ops();
        catalog.check(&ops).expect("nothing is there");
        ops.into_iter().for_each(|op| catalog.apply(op));
        assert!(first.is_in(&catalog));
        catalog.apply(CatalogOp::DeleteKey { app: first.app, name: NAME.into() });
        assert!(!first.is_in(&catalog));
        let again = FirstStart { app: first.app, ..FirstStart::new(os_random) };
        again.to_ops().into_iter().for_each(|op| catalog.apply(op));
        assert!(again.is_in(&catalog) && !first.is_in(&catalog), "another key of the same name");
    }

    #[test]
    fn a_file_of_somebody_else_is_not_taken_for_one() {
        let dir = &scratch("damaged");
        for text in ["", "{}", "[]", r#"{"app":"x","apiKey":"k","developmentToken":"t"}"#] {
            fs::write(dir.join(KEPT), text).expect("temporary");
            let error = FirstStart::kept(dir).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{text}");
        }
        fs::remove_dir_all(dir).expect("ours");
    }
}
