//! The permission object of keys and devices: whole databases, or queries over `_id` by collection.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dql::legacy::{IdFilter, parse_id_filter};
use crate::ident::DocId;
use crate::value::{Object, Value};

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

    fn from_member(object: &Object, name: &str) -> Result<Self, PermissionError> {
        let Some(member) = object.get(name) else { return Ok(Self::default()) };
        let Some(member) = member.as_object() else {
            return Err(error(name, "expected an object"));
        };
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

    fn to_value(&self) -> Value {
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
