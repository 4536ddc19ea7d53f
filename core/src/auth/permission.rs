//! The permission object of keys and devices: whole databases, or queries over `_id` by collection.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dql::legacy::{IdFilter, parse_id_filter};
use crate::ident::DocId;
use crate::value::{Object, Value, json};

/// What a credential may do.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// What may be read.
    pub read: Access,
    /// What may be written.
    pub write: Access,
    /// Whether statements may be run on connected devices.
    pub remote_query: bool,
}

/// Which documents one direction covers.
#[derive(Clone, Debug, Default)]
pub struct Access {
    everything: bool,
    collections: BTreeMap<Box<str>, Vec<(Box<str>, IdFilter)>>,
}

/// Names what an [`Access`] covers: equal for two that were written in different orders, and with overwhelming
/// likelihood for no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessHash(pub [u8; 16]);

impl AccessHash {
    /// The first eight bytes, for places that keep one for each document.
    #[must_use]
    pub fn short(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }
}

/// A permission object that we cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("permissions, {place}: {cause}")]
pub struct PermissionError {
    /// Where in the object.
    pub place: String,
    /// What is wrong there, and what is allowed.
    pub cause: String,
}

impl Permissions {
    /// Everything in both directions.
    #[must_use]
    pub fn everything() -> Self {
        Self { read: Access::everything(), write: Access::everything(), remote_query: true }
    }

    /// Reads the JSON form: `{"read": {"everything": …, "queriesByCollection": {…}}, "write": …}`.
    ///
    /// # Errors
    ///
    /// When a member has another type, a query does not parse, or a query looks at anything but `_id`.
    pub fn from_value(value: &Value) -> Result<Self, PermissionError> {
        let Some(object) = value.as_object() else {
            return Err(error("top level", "expected an object with `read` and `write`"));
        };
        Ok(Self {
            read: Access::from_member(object, "read")?,
            write: Access::from_member(object, "write")?,
            remote_query: matches!(object.get("remoteQuery"), Some(Value::Bool(true))),
        })
    }

    /// Refuses what no sync session could tell the bearer: see [`ACCESS_BYTES_MAX`]. Not part of
    /// [`from_value`](Self::from_value), which reads what is in the log as well.
    ///
    /// # Errors
    ///
    /// When one direction takes more bytes than that.
    pub fn check_size(&self) -> Result<(), PermissionError> {
        for (name, access) in [("read", &self.read), ("write", &self.write)] {
            let bytes = access.to_text().len();
            if bytes > ACCESS_BYTES_MAX {
                let cause = format!(
                    "its queries take {bytes} bytes as JSON, of which a sync session carries at most \
                     {ACCESS_BYTES_MAX}: use fewer or shorter queries, such as ranges of `_id` instead of lists"
                );
                return Err(error(name, &cause));
            }
        }
        Ok(())
    }

    /// The JSON form, as it was given.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut object = Object::default();
        object.insert("read", self.read.to_value());
        object.insert("remoteQuery", Value::Bool(self.remote_query));
        object.insert("write", self.write.to_value());
        Value::Object(object)
    }
}

impl Access {
    /// All collections, all documents.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, collections: BTreeMap::new() }
    }

    /// True when every document of the app is covered.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// True when some document of `collection` may be covered: a collection without any rule is forbidden.
    #[must_use]
    pub fn has_rule(&self, collection: &str) -> bool {
        self.everything || self.collections.contains_key(collection)
    }

    /// True when the document with this `_id` is covered.
    #[must_use]
    pub fn covers(&self, collection: &str, id: &DocId) -> bool {
        self.everything
            || self.collections.get(collection).is_some_and(|filters| {
                filters.iter().any(|(_, filter)| filter.matches(&id.to_value()))
            })
    }

    /// BLAKE3 over what is covered, cut to 128 bits: a version byte, then 1 for everything, or 2 and each collection
    /// with its queries in the order of their bytes. A collection without queries gives nothing, as one that is not
    /// listed.
    #[must_use]
    pub fn hash(&self) -> AccessHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[ACCESS_HASH_VERSION, if self.everything { 1 } else { 2 }]);
        let listed = self.collections.iter().filter(|(_, filters)| !filters.is_empty());
        for (collection, filters) in listed.filter(|_| !self.everything) {
            let mut texts: Vec<&str> = filters.iter().map(|(text, _)| &**text).collect();
            texts.sort_unstable();
            texts.dedup();
            hasher.update(&(texts.len() as u64).to_le_bytes());
            for part in std::iter::once(&**collection).chain(texts) {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        let mut out = [0; 16];
        out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        AccessHash(out)
    }

    /// Reads what [`to_value`](Self::to_value) wrote.
    ///
    /// # Errors
    ///
    /// When a member has another type, or a query is not one over `_id` that this build understands.
    pub fn from_value(value: &Value) -> Result<Self, PermissionError> {
        let Some(member) = value.as_object() else {
            return Err(error("access", "expected an object"));
        };
        Self::from_object(member, "access")
    }

    fn from_member(object: &Object, name: &str) -> Result<Self, PermissionError> {
        let Some(member) = object.get(name) else { return Ok(Self::default()) };
        let Some(member) = member.as_object() else {
            return Err(error(name, "expected an object"));
        };
        Self::from_object(member, name)
    }

    fn from_object(member: &Object, name: &str) -> Result<Self, PermissionError> {
        let everything = match member.get("everything") {
            None => false,
            Some(Value::Bool(everything)) => *everything,
            Some(_) => return Err(error(name, "`everything` must be true or false")),
        };
        let mut collections = BTreeMap::new();
        match member.get("queriesByCollection") {
            None => {}
            Some(Value::Object(queries)) => {
                for (collection, list) in queries.iter() {
                    collections.insert(collection.into(), filters(name, collection, list)?);
                }
            }
            Some(_) => return Err(error(name, "`queriesByCollection` must be an object")),
        }
        Ok(Self { everything, collections })
    }

    /// The JSON form: `{"everything": …, "queriesByCollection": {…}}`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut queries = Object::default();
        for (collection, filters) in &self.collections {
            let texts = filters.iter().map(|(text, _)| Value::from(&**text)).collect();
            queries.insert(collection.clone(), Value::Array(texts));
        }
        let mut object = Object::default();
        object.insert("everything", Value::Bool(self.everything));
        object.insert("queriesByCollection", Value::Object(queries));
        Value::Object(object)
    }

    /// The bytes of the JSON form, as a peer hears them.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        json::write(&self.to_value(), &mut text);
        text
    }
}

fn filters(
    name: &str,
    collection: &str,
    list: &Value,
) -> Result<Vec<(Box<str>, IdFilter)>, PermissionError> {
    let place = || format!("{name}.queriesByCollection.{collection}");
    let Value::Array(list) = list else {
        return Err(error(&place(), "expected an array of queries over `_id`"));
    };
    list.iter()
        .map(|text| {
            let Value::String(text) = text else {
                return Err(error(&place(), "expected text"));
            };
            let filter = parse_id_filter(text);
            filter
                .map(|filter| (Box::from(&**text), filter))
                .map_err(|cause| error(&place(), &cause.to_string()))
        })
        .collect()
}

fn error(place: &str, cause: &str) -> PermissionError {
    PermissionError { place: place.to_owned(), cause: cause.to_owned() }
}

/// Shared by every request that carries the credential.
pub type SharedPermissions = Arc<Permissions>;

/// Bytes of the JSON form of one direction: a sync session says in one frame what its remote may read.
pub const ACCESS_BYTES_MAX: usize = 256 << 10;

const ACCESS_HASH_VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        let value = json::parse(text.as_bytes(), json::Limits::default()).expect("it is JSON");
        Access::from_value(&value).expect("it can be used")
    }

    #[test]
    fn the_hash_of_an_access_says_what_it_covers_and_not_how_it_was_written() {
        let one = access(r#"{"queriesByCollection":{"a":["_id == 1","_id == 2"],"b":["true"]}}"#);
        let same =
            access(r#"{"queriesByCollection":{"b":["true"],"a":["_id == 2","_id == 1"],"c":[]}}"#);
        assert_eq!(one.hash(), same.hash());
        let others = [
            access(r#"{"queriesByCollection":{"a":["_id == 1"],"b":["true"]}}"#),
            access(r#"{"queriesByCollection":{"a":["_id == 1","_id == 2"]}}"#),
            access(r#"{"queriesByCollection":{"a":["_id == 1"],"b":["_id == 2","true"]}}"#),
            access("{}"),
            Access::everything(),
        ];
        for other in &others {
            assert_ne!(one.hash(), other.hash());
        }
        let shadowed = access(r#"{"everything":true,"queriesByCollection":{"a":["true"]}}"#);
        assert_eq!(shadowed.hash(), Access::everything().hash());
    }
}
