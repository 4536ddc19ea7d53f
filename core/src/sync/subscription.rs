//! What a peer asks for: a set of queries, or everything that it may have.

use bytes::Bytes;

use super::cursor::InterestHash;
use crate::auth::AccessHash;
use crate::plant::{Plant, is_planted};

/// One subscription: the text of a `SELECT *` and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// The query. Parsed and judged by the host.
    pub text: String,
    /// The arguments as the canonical bytes of one object; empty when there are none.
    pub args: Bytes,
}

/// What a peer wants to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Everything that it may have: what a server asks of a device.
    Everything,
    /// What these queries match: sorted, without duplicates. See [`Interest::of`].
    Queries(Vec<Subscription>),
}

impl Default for Interest {
    fn default() -> Self {
        Self::Queries(Vec::new())
    }
}

impl Interest {
    /// The interest in these subscriptions, in any order.
    #[must_use]
    pub fn of(mut subscriptions: Vec<Subscription>) -> Self {
        subscriptions.sort();
        subscriptions.dedup();
        Self::Queries(subscriptions)
    }
}

/// What decides, besides the subscriptions, which documents a receiver gets. The sender knows all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterestScope {
    /// What the receiver may read. By content and not by a count of changes: a count restarts with a restore, and
    /// two keys with the same rights are one interest.
    pub readable: AccessHash,
    /// How often the receiver evicted: what it evicted has to be offered again.
    pub evict_generation: u64,
}

/// Hashes what a receiver gets: blake3 over a version byte, what is readable, the generation, and 1 for everything or
/// else 2 and the subscriptions, each text and its arguments behind their lengths; cut to 128 bits.
#[must_use]
pub fn interest_hash(interest: &Interest, scope: InterestScope) -> InterestHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[INTEREST_HASH_VERSION]);
    if !is_planted(Plant::PermissionNotHashed) {
        hasher.update(&scope.readable.0);
    }
    hasher.update(&scope.evict_generation.to_le_bytes());
    match interest {
        Interest::Everything => {
            hasher.update(&[1]);
        }
        Interest::Queries(queries) => {
            hasher.update(&[2]);
            for query in queries {
                for part in [query.text.as_bytes(), &query.args[..]] {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
            }
        }
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    InterestHash(out)
}

const INTEREST_HASH_VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Subscription {
        Subscription { text: text.into(), args: Bytes::new() }
    }

    #[test]
    fn the_order_of_registration_does_not_change_the_interest() {
        let one = Interest::of(vec![query("a"), query("b"), query("a")]);
        let two = Interest::of(vec![query("b"), query("a")]);
        assert_eq!(one, two);
    }

    /// Another build, and a cursor on the disk, have to have the same hash for the same interest.
    #[test]
    fn a_hash_is_of_the_bytes_that_its_format_names() {
        let scope = InterestScope { readable: AccessHash([7; 16]), evict_generation: 3 };
        let hash_of = |interest: &[u8]| {
            let bytes = [&[2][..], &[7; 16], &3_u64.to_le_bytes(), interest].concat();
            InterestHash(blake3::hash(&bytes).as_bytes()[..16].try_into().expect("16 bytes"))
        };
        assert_eq!(interest_hash(&Interest::Everything, scope), hash_of(&[1]));
        let cars = Subscription { text: "cars".into(), args: Bytes::from_static(&[9]) };
        let queries = [&[2][..], &4_u64.to_le_bytes(), b"cars", &1_u64.to_le_bytes(), &[9]];
        assert_eq!(interest_hash(&Interest::of(vec![cars]), scope), hash_of(&queries.concat()));
    }

    #[test]
    fn each_part_of_an_interest_changes_its_hash() {
        let scope = InterestScope { readable: AccessHash([1; 16]), evict_generation: 0 };
        let base = interest_hash(&Interest::of(vec![query("a"), query("b")]), scope);
        let evicted = InterestScope { evict_generation: 1, ..scope };
        let permitted = InterestScope { readable: AccessHash([2; 16]), ..scope };
        assert_ne!(base, interest_hash(&Interest::of(vec![query("ab")]), scope));
        assert_ne!(base, interest_hash(&Interest::Everything, scope));
        assert_ne!(base, interest_hash(&Interest::of(vec![query("a"), query("b")]), evicted));
        assert_ne!(base, interest_hash(&Interest::of(vec![query("a"), query("b")]), permitted));
    }
}
