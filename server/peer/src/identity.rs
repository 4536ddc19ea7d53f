//! Who a store is: its id, and the P-256 key whose public half is the peer's identity.

use bigpeer_core::ident::{PeerKey, StoreId, Uuid};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};

use crate::error::PeerError;
use crate::random;

/// The identity of one directory. The private key stays in its file until something has to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    pub(crate) peer_key: PeerKey,
}

impl Identity {
    /// Makes a new one, and the text of its file:
    ///
    /// ```text
    /// store <UUID>
    /// key <the private scalar, 64 hexadecimal digits>
    /// ```
    pub(crate) fn create() -> Result<(Self, String), PeerError> {
        let store = StoreId(Uuid(random::bytes()?));
        let secret = loop {
            // One draw in 2^32 is no scalar of the curve.
            if let Ok(secret) = SecretKey::from_slice(&random::bytes::<32>()?) {
                break secret;
            }
        };
        let mut text = format!("store {store}\nkey ");
        for byte in secret.to_bytes() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        Ok((Self { store, peer_key: peer_key(&secret) }, text))
    }

    /// Reads what [`create`](Self::create) wrote; `None` if it is anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let store = lines.next()?.strip_prefix("store ")?.parse().ok()?;
        let digits = lines.next()?.strip_prefix("key ")?;
        let mut scalar = [0; 32];
        if digits.len() != 2 * scalar.len() {
            return None;
        }
        for (index, byte) in scalar.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        let secret = SecretKey::from_slice(&scalar).ok()?;
        Some(Self { store: StoreId(store), peer_key: peer_key(&secret) })
    }
}

/// SHA-256 of the public key as an uncompressed SEC1 point (65 bytes, the first of them 4).
fn peer_key(secret: &SecretKey) -> PeerKey {
    let point = secret.public_key().to_sec1_point(false);
    PeerKey(Sha256::digest(point.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_what_was_written() {
        let (identity, text) = Identity::create().expect("the system has randomness");
        assert_eq!(Identity::parse(&text), Some(identity));
        let (other, _) = Identity::create().expect("the system has randomness");
        assert_ne!(identity.peer_key, other.peer_key);
    }

    #[test]
    fn the_peer_key_is_the_hash_of_the_public_point() {
        let text = format!("store {}\nkey {:064x}\n", Uuid([0; 16]), 1);
        let identity = Identity::parse(&text).expect("one is a scalar");
        // SHA-256 of 04 || Gx || Gy, the generator of P-256.
        let generator = [
            0x6b17_d1f2_e12c_4247_f8bc_e6e5_63a4_40f2_u128,
            0x7703_7d81_2deb_33a0_f4a1_3945_d898_c296,
            0x4fe3_42e2_fe1a_7f9b_8ee7_eb4a_7c0f_9e16,
            0x2bce_3357_6b31_5ece_cbb6_4068_37bf_51f5,
        ];
        let mut point = vec![4];
        generator.iter().for_each(|part| point.extend_from_slice(&part.to_be_bytes()));
        assert_eq!(identity.peer_key, PeerKey(Sha256::digest(&point).into()));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let store = Uuid([0; 16]);
        for text in [
            String::new(),
            format!("store {store}\n"),
            format!("store {store}\nkey 00\n"),
            format!("store {store}\nkey {:064x}\n", 0),
            format!("store {store}\nkey {}\n", "é".repeat(32)),
            format!("store x\nkey {:064x}\n", 1),
        ] {
            assert_eq!(Identity::parse(&text), None, "{text}");
        }
    }
}
