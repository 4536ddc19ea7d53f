//! What the log, the store and peers share.

use bigpeer_core::auth::{CHANGES_MAX, CatalogOp};
use bigpeer_core::codec::{Reader, Writer, decode_value, encode_value};
use bigpeer_core::document::{Delta, Document};
use bigpeer_core::log::transaction::{Op, Transaction};
use bigpeer_core::sync::FrameFacts;
use bigpeer_core::value::canonical;

pub(crate) fn value(bytes: &[u8]) {
    let mut from = Reader::new(bytes);
    let Ok(value) = decode_value(&mut from) else { return };
    let mut to = Writer::new();
    encode_value(&value, &mut to);
    let written = to.into_bytes();
    assert_eq!(decode_value(&mut Reader::new(&written)), Ok(value));
}

/// Equal ids are equal bytes: what decodes was canonical.
pub(crate) fn id(bytes: &[u8]) {
    if let Ok(id) = canonical::decode_id(bytes) {
        assert_eq!(id.as_bytes(), bytes);
        assert_eq!(canonical::encode_id(&id.to_value()), Ok(id));
    }
}

pub(crate) fn document(bytes: &[u8]) {
    if let Ok(document) = Document::from_bytes(bytes) {
        document.check_invariants();
        let _ = document.to_object();
        let again =
            Document::from_bytes(&document.to_bytes()).expect("what is written can be read");
        assert_eq!(again.canonical_bytes(), document.canonical_bytes());
    }
}

/// A delta of anybody applies to a document as a whole, or not at all.
pub(crate) fn delta(bytes: &[u8]) {
    let Ok(delta) = Delta::from_bytes(bytes) else { return };
    let mut document = Document::new();
    if document.apply(&delta).is_ok() {
        document.check_invariants();
        let before = document.to_bytes();
        let _ = document.apply(&delta);
        assert_eq!(document.to_bytes(), before, "twice is once");
    }
    assert_eq!(Delta::from_bytes(&delta.to_bytes()), Ok(delta));
}

pub(crate) fn transaction(bytes: &[u8]) {
    let _ = Transaction::concerns(bytes, 16);
    if let Ok(transaction) = Transaction::decode(bytes) {
        assert_eq!(Transaction::decode(&transaction.encode()).as_ref(), Ok(&transaction));
        let entries = transaction.ops.iter().filter_map(|op| match op {
            Op::System(entry) => Some(&entry[..]),
            _ => None,
        });
        if let Ok(changes) = CatalogOp::decode_list(entries) {
            assert!((1..=CHANGES_MAX).contains(&changes.len()), "a bounded list");
        }
    }
}

pub(crate) fn frame(bytes: &[u8]) {
    let _ = FrameFacts::of(bytes);
}
