//! The body of `store/execute`.

use std::sync::Arc;

use bigpeer_core::value::json::{self, Limits};
use bigpeer_core::value::{Object, Value};

/// A body that is no statement.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Why, for the client.
    Invalid(String),
}

/// Reads `{"statement": …, "args": {…}}`. Other members are left alone, as older servers do.
pub(super) fn execute_body(bytes: &[u8]) -> Result<(Arc<str>, Object), BodyError> {
    let (mut statement, mut args) = (None, None);
    for (name, value) in object(bytes)? {
        match &*name {
            "statement" => statement = Some(value),
            "args" => args = Some(value),
            _ => {}
        }
    }
    let statement = match statement {
        Some(Value::String(text)) => text,
        Some(other) => return Err(wrong("statement", "a string", &other)),
        None => {
            let text =
                r#"the body has no `statement`: send {"statement": "SELECT * FROM …", "args": {}}"#;
            return Err(BodyError::Invalid(text.to_owned()));
        }
    };
    let args = match args {
        Some(Value::Object(args)) => args,
        None | Some(Value::Null) => Object::new(),
        Some(other) => return Err(wrong("args", "an object of named values", &other)),
    };
    Ok((statement, args))
}

/// Reads a body that must be one JSON object.
pub(super) fn object(bytes: &[u8]) -> Result<Object, BodyError> {
    match json::parse(bytes, Limits::default()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(wrong("body", "a JSON object", &other)),
        Err(error) => Err(BodyError::Invalid(format!("the body is not valid JSON: {error}"))),
    }
}

fn wrong(name: &str, expected: &str, found: &Value) -> BodyError {
    let found = found.type_name();
    BodyError::Invalid(format!("`{name}` must be {expected}; found a value of type {found}"))
}
