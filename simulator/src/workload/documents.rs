//! The documents of a run. Their first letter says what may happen to them: `k` is never deleted, `d` is
//! inserted and deleted by anybody, `u` and `b` are inserted once and never touched again, `e` and `y` are evicted on the
//! server as well, `f` on devices alone, `s` may be written by few, `g` and `h` are large.

use bigpeer_core::rng::Rng;

/// The collection that almost everything is about.
pub(crate) const CARS: &str = "cars";

/// The collection of a document, by the first letter of its id.
pub(crate) fn collection_of(id: &str) -> Option<&'static str> {
    match id.as_bytes().first()? {
        b'k' | b'd' | b'u' | b'b' => Some(CARS),
        b'e' | b'f' | b'y' | b'g' | b'h' => Some("misc"),
        b's' => Some("secret"),
        _ => None,
    }
}

/// How many documents are never deleted.
pub(crate) const KEPT: u64 = 5;

/// Ids that are inserted and deleted.
const DELETED: u64 = 24;

/// Values of the field that subscriptions ask for.
pub(crate) const GROUPS: u64 = 3;

/// Inserts all documents that are never deleted.
pub(crate) fn first_insert() -> String {
    let documents: Vec<String> = (0..KEPT)
        .map(|index| format!("({{'_id': 'k{index}', 'kind': 'k', 'grp': {}}})", index % GROUPS))
        .collect();
    format!("INSERT INTO cars DOCUMENTS {}", documents.join(", "))
}

pub(crate) fn kept(rng: &mut Rng) -> String {
    format!("k{}", rng.below(KEPT))
}

pub(crate) fn deleted(rng: &mut Rng) -> String {
    // Some are in demand, so that statements meet.
    let count = if rng.one_in(3) { 3 } else { DELETED };
    format!("d{}", rng.below(count))
}

pub(crate) fn evicted(rng: &mut Rng) -> String {
    format!("e{}", rng.below(6))
}

/// What a device evicts comes back to it, since it goes on asking for it.
pub(crate) fn evicted_on_devices(rng: &mut Rng) -> String {
    format!("f{}", rng.below(6))
}

/// A document to which all devices add until it is as large as one may be.
pub(crate) const GROWN: &str = "g0";

/// True of a document of which some may hold more than others can take.
pub(crate) fn is_grown(id: &str) -> bool {
    id == GROWN
}

/// One of a few that are larger than an update by thousands.
pub(crate) fn large(rng: &mut Rng) -> String {
    format!("h{}", rng.below(2))
}

pub(crate) fn any(rng: &mut Rng) -> String {
    if rng.one_in(2) { kept(rng) } else { deleted(rng) }
}
