//! The opening handshake.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What RFC 6455 appends to a key before it is hashed.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` that answers `key`.
pub(crate) fn accept_value(key: &str) -> String {
    let mut hasher = Sha1::new();
    hasher.update(key.as_bytes());
    hasher.update(ACCEPT_GUID);
    STANDARD.encode(hasher.finalize())
}

/// The value of `Sec-WebSocket-Key` for sixteen random bytes.
pub(crate) fn key_value(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Whether `key` is sixteen bytes in base64, as a client must send.
pub(crate) fn is_key(key: &str) -> bool {
    // The length is checked first, so that a long key is not decoded.
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_key_of_the_rfc_has_its_sample_answer() {
        assert_eq!(accept_value("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key_value(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn only_sixteen_bytes_make_a_key() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for key in ["", "dGhl", "dGhlIHNhbXBsZSBub25jZSE=", "????????????????????????"] {
            assert!(!is_key(key), "{key}");
        }
    }
}
