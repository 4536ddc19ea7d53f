//! Which id a record gets.

use bigpeer_core::ident::{DocId, Uuid};
use bigpeer_core::value::canonical::encode_id;
use bigpeer_core::value::{Object, Value};

use crate::cli::error::CliError;

/// Sets the ids made here apart from every other use of BLAKE3. Never to be changed: a second run of an import would
/// double its documents.
const CONTEXT: &str = "bigpeer 2026 import: id of a record by file content and record number";

/// Where ids come from.
#[derive(Clone, Debug)]
pub(super) struct IdRule {
    field: Option<String>,
}

impl IdRule {
    /// The id is the value of `field`; without one it is the record's `_id`, or else made for it.
    pub(super) fn new(field: Option<&str>) -> Self {
        Self { field: field.filter(|&field| field != "_id").map(str::to_owned) }
    }

    /// Puts the id into a record's fields and returns it. The inner error is the record's fault, the outer one comes
    /// from `content_hash`, which is asked only when an id must be made.
    pub(super) fn assign(
        &self,
        fields: &mut Object,
        number: u64,
        content_hash: impl FnOnce() -> Result<blake3::Hash, CliError>,
    ) -> Result<Result<DocId, String>, CliError> {
        if let Some(field) = &self.field {
            if fields.contains("_id") {
                return Ok(Err(format!(
                    "it has an `_id` besides `{field}`: leave out --id, or the `_id`"
                )));
            }
            let Some(value) = fields.get(field).cloned() else {
                return Ok(Err(format!("it has no field `{field}` to take its id from")));
            };
            fields.insert("_id", value);
        } else if !fields.contains("_id") {
            let id = made_id(&content_hash()?, number);
            fields.insert("_id", Value::from(id.to_string()));
        }
        let value = fields.get("_id").expect("it was there or was put there");
        Ok(encode_id(value).map_err(|error| error.to_string()))
    }
}

/// The id of record `number`, from 0, in a file with this content: a UUID of version 8.
fn made_id(content: &blake3::Hash, number: u64) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(content.as_bytes());
    hasher.update(&number.to_le_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(entries: &[(&str, Value)]) -> Object {
        entries.iter().cloned().collect()
    }

    fn assign(field: Option<&str>, fields: &mut Object) -> Result<DocId, String> {
        IdRule::new(field).assign(fields, 5, || Ok(blake3::hash(b"x"))).unwrap()
    }

    #[test]
    fn a_made_id_is_a_uuid_of_version_8_that_never_changes() {
        let id = made_id(&blake3::hash(b"content"), 0).to_string();
        assert_eq!(id, "32e4a73d-9726-894c-8824-e7b11915cfe6");
        assert_ne!(made_id(&blake3::hash(b"content"), 1).to_string(), id);
        assert_ne!(made_id(&blake3::hash(b"Content"), 0).to_string(), id);
        for number in 0..100 {
            let id = made_id(&blake3::hash(b""), number).to_string();
            assert_eq!(id.as_bytes()[14], b'8');
            assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
    }

    #[test]
    fn an_id_is_made_only_for_a_record_without_one() {
        let mut fields = object(&[("a", 1.into())]);
        assign(None, &mut fields).unwrap();
        assert_eq!(fields.get("_id"), Some(&made_id(&blake3::hash(b"x"), 5).to_string().into()));
        let mut fields = object(&[("_id", 7.into())]);
        let id = IdRule::new(None)
            .assign(&mut fields, 0, || panic!("the content need not be read"))
            .unwrap();
        assert_eq!(id, Ok(encode_id(&7.into()).unwrap()));
    }

    #[test]
    fn a_field_gives_the_id_and_stays() {
        let mut fields = object(&[("k", "x".into())]);
        assert_eq!(assign(Some("k"), &mut fields), Ok(encode_id(&"x".into()).unwrap()));
        assert_eq!(fields, object(&[("k", "x".into()), ("_id", "x".into())]));
        assert!(assign(Some("k"), &mut object(&[("a", 1.into())])).is_err());
        assert!(assign(Some("k"), &mut object(&[("k", 1.into()), ("_id", 2.into())])).is_err());
        assert!(assign(Some("_id"), &mut object(&[("_id", 2.into())])).is_ok());
    }

    #[test]
    fn an_id_that_the_server_would_refuse_is_refused_here() {
        assert!(
            assign(Some("k"), &mut object(&[("k", 1.5.into())])).unwrap_err().contains("Float")
        );
        assert!(assign(None, &mut object(&[("_id", Value::Null)])).unwrap_err().contains("Null"));
    }
}
