//! The first frame of a bare peer stream. A WebSocket names its app in the path and shows its token in a header;
//! a stream of frames has neither, and says both in a frame before the session's own.

use bigpeer_core::ident::{AppId, Uuid};
use bigpeer_core::value::json::{self, Limits};
use bigpeer_core::value::{Object, Value};

use super::SessionCall;

/// The longest preamble, in bytes.
pub const PREAMBLE_BYTES_MAX: usize = 8 * 1024;

/// A first frame that is no preamble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first frame is not `{{\"app\": …, \"token\": …}}`: {0}")]
pub struct PreambleError(&'static str);

/// Writes a preamble.
#[must_use]
pub fn encode(app: AppId, token: Option<&str>) -> Vec<u8> {
    let mut object = Object::new();
    object.insert("app", Value::from(app.to_string()));
    if let Some(token) = token {
        object.insert("token", Value::from(token));
    }
    let mut out = Vec::new();
    json::write(&Value::Object(object), &mut out);
    out
}

/// Reads a preamble.
///
/// # Errors
///
/// When the frame is anything else.
pub fn decode(frame: &[u8]) -> Result<SessionCall, PreambleError> {
    if frame.len() > PREAMBLE_BYTES_MAX {
        return Err(PreambleError("it is too long"));
    }
    let limits = Limits { depth_max: 2, values_max: 16 };
    let value = json::parse(frame, limits).map_err(|_| PreambleError("it is not JSON"))?;
    let object = value.as_object().ok_or(PreambleError("it is not an object"))?;
    let app = object.get("app").and_then(Value::as_str).ok_or(PreambleError("`app` is missing"))?;
    let app = app.parse::<Uuid>().map_err(|_| PreambleError("`app` is not a UUID"))?;
    let bearer = object.get("token").and_then(Value::as_str).map(Into::into);
    Ok(SessionCall { app: AppId(app), bearer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_reads_back_what_was_written() {
        let app = AppId(Uuid([3; 16]));
        for token in [None, Some("tok\"en")] {
            let read = decode(&encode(app, token)).expect("our own");
            assert_eq!((read.app, read.bearer.as_deref()), (app, token));
        }
        for frame in [&b""[..], b"{}", b"[1]", br#"{"app":"x"}"#, &[b' '; PREAMBLE_BYTES_MAX + 1]] {
            assert!(decode(frame).is_err());
        }
    }
}
