//! Bytes: golden ones, and foreign ones.

use proptest::prelude::*;

use super::*;
use crate::codec::{Reader, Table, TableBuilder, Writer};
use crate::document::delta::Listed;
use crate::document::leaf::{Entry, Kind, only};
use crate::document::listing::Listing;
use crate::document::{Content, Declared};

/// A document with a component of every kind, one of them unknown, and concurrent entries.
fn everything() -> Document {
    let (mut a, mut b) = two(r#"{"m":{"x":[1,"two"]},"r":-1,"gone":0}"#);
    commit(&mut a, dot('A', 10), |edit| {
        unset(edit, "gone");
        set(edit, "r", "2.5");
        edit.restart(&path("c"), 7).expect("a field");
        edit.assign(&path("t"), &value(r#""token""#), Some(&Declared::Attachment))
            .expect("a field");
    });
    commit(&mut b, dot('B', 11), |edit| {
        set(edit, "r", "true");
        edit.increment(&path("c"), 3).expect("in range");
        edit.pn_increment(&path("p"), crate::document::Number::Int(-4)).expect("in range");
    });
    send(&b, &mut a);
    commit(&mut a, dot('A', 12), |edit| edit.increment(&path("c"), 1).expect("in range"));
    let opaque = Content::Opaque((*b"future").into());
    let unknown = Kind(Kind::UNKNOWN_LEAST + 3);
    a.leaves.set(&path("u"), unknown, only(Entry::new(dot('A', 12), opaque)));
    a.check_invariants();
    a
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_document() {
    let bytes = everything().to_bytes();
    assert_eq!(hex(&bytes), GOLDEN_DOCUMENT);
    let read = Document::from_bytes(&bytes).expect("reads back");
    assert_eq!(read.canonical_bytes(), everything().canonical_bytes());
    assert_eq!(read.size_bytes(), everything().size_bytes());
}

#[test]
fn golden_delta_of_state() {
    let base = [dot('A', 5)].into_iter().collect();
    let delta = everything().diff(&base);
    assert_eq!(hex(&delta.to_bytes()), GOLDEN_DELTA_OF_STATE);
    assert_eq!(Delta::from_bytes(&delta.to_bytes()), Ok(delta));
}

#[test]
fn golden_authored_delta() {
    let delta = prepare(&everything(), dot('B', 20), |edit| {
        set(edit, "m.x", "null");
        edit.increment(&path("c"), 2).expect("in range");
    });
    assert_eq!(hex(&delta.to_bytes()), GOLDEN_AUTHORED_DELTA);
    let mut by_digest = delta;
    by_digest.name_base_by_digest(|_| false);
    assert_eq!(hex(&by_digest.to_bytes()), GOLDEN_DELTA_BY_DIGEST);
}

#[test]
fn golden_canonical_bytes() {
    let (a, _) = two(r#"{"f":1}"#);
    assert_eq!(hex(&a.canonical_bytes()), GOLDEN_CANONICAL);
}

#[test]
fn several_deltas_share_one_table() {
    let document = everything();
    let deltas = [
        document.diff(&crate::document::Vector::new()),
        prepare(&Document::new(), dot('A', 12), |edit| insert(edit, r#"{"f":1}"#)),
        prepare(&document, dot('Z', 30), |edit| edit.delete(true)),
    ];
    let mut builder = TableBuilder::default();
    deltas.iter().for_each(|delta| delta.note_dots(&mut builder));
    let table = builder.finish();
    let mut to = Writer::new();
    table.encode(&mut to);
    deltas.iter().for_each(|delta| delta.encode(&table, &mut to));
    let mut from = Reader::new(to.as_bytes());
    let table = Table::decode(&mut from).expect("a table");
    for delta in &deltas {
        assert_eq!(Delta::decode(&table, &mut from).as_ref(), Ok(delta));
    }
    assert_eq!(from.finish(), Ok(()));
}

#[test]
fn a_fresh_document_costs_little_beyond_its_values() {
    let delta = prepare(&Document::new(), dot('A', 1 << 58), |edit| {
        insert(edit, r#"{"color":"red","make":"honda","mileage":12000,"year":2018}"#);
    });
    let table_bytes = 1 + 16 + 1 + 9;
    let json_bytes = 58;
    let bytes = delta.to_bytes().len() - table_bytes;
    assert!(bytes <= json_bytes + 6, "{bytes} bytes");
}

#[test]
fn a_component_of_an_unknown_kind_is_relayed_counted_and_removed() {
    let mut a = everything();
    let mut b = Document::new();
    exchange(&mut a, &mut b);
    assert!(b.leaves.iter().any(|leaf| leaf.kind.0 > Kind::UNKNOWN_LEAST));
    assert_eq!(b.get_steps(&["u"]), None, "this build cannot show it");
    commit(&mut b, dot('B', 30), |edit| unset(edit, "u"));
    exchange(&mut a, &mut b);
    assert!(a.leaves.iter().all(|leaf| leaf.kind.0 < Kind::UNKNOWN_LEAST));
}

/// The bytes of a list that names these dots, as `write` says: first the table that they are read by.
fn naming(dots: [Dot; 2], write: impl Fn([Dot; 2], &Table, &mut Writer)) -> Vec<u8> {
    let mut builder = TableBuilder::default();
    dots.iter().for_each(|&dot| builder.note(dot));
    let table = builder.finish();
    let mut to = Writer::new();
    table.encode(&mut to);
    write(dots, &table, &mut to);
    to.into_bytes()
}

#[test]
fn bytes_that_name_an_actor_twice_or_out_of_order_are_refused() {
    // Version, flags, the sender's vector over none; neither regions nor components nor increments.
    let delta = |dots| {
        naming(dots, |dots, table, to| {
            to.raw(&[1, 0, 2]);
            for dot in dots {
                table.encode_dot(dot, to);
                to.byte(1);
            }
            to.raw(&[0, 0, 0]);
        })
    };
    // Version, vector; nothing was trimmed, and there is no component.
    let document = |dots| {
        naming(dots, |dots, table, to| {
            to.raw(&[1, 2]);
            dots.iter().for_each(|dot| table.encode_dot(*dot, to));
            to.raw(&[0, 0]);
        })
    };
    for (dots, is_good) in [
        ([dot('A', 5), dot('B', 6)], true),
        ([dot('A', 6), dot('B', 5)], true),
        ([dot('A', 5), dot('A', 6)], false),
        ([dot('A', 6), dot('A', 5)], false),
        ([dot('A', 6), dot('A', 6)], false),
        ([dot('B', 6), dot('A', 5)], false),
    ] {
        assert_eq!(Delta::from_bytes(&delta(dots)).is_ok(), is_good, "{dots:?}");
        assert_eq!(Document::from_bytes(&document(dots)).is_ok(), is_good, "{dots:?}");
    }
}

#[test]
fn increments_come_in_the_order_of_their_paths_and_each_once() {
    let delta = prepare(&everything(), dot('B', 20), |edit| {
        edit.increment(&path("c"), 2).expect("in range");
        edit.pn_increment(&path("p"), crate::document::Number::Int(5)).expect("in range");
    });
    assert_eq!(delta.increments.len(), 2);
    let first = delta.increments[0].clone();
    assert!(Delta::from_bytes(&delta.to_bytes()).is_ok());
    let mut reversed = delta.clone();
    reversed.increments.reverse();
    assert!(Delta::from_bytes(&reversed.to_bytes()).is_err());
    let mut doubled = delta.clone();
    doubled.increments.insert(0, first);
    assert!(Delta::from_bytes(&doubled.to_bytes()).is_err());
    let mut of_the_root = delta;
    of_the_root.increments[0].path = Path::root();
    assert!(Delta::from_bytes(&of_the_root.to_bytes()).is_err());
}

#[test]
fn a_value_in_the_place_of_a_whole_document_is_refused() {
    let mut delta = prepare(&two(r#"{"f":1}"#).0, dot('A', 10), |edit| set(edit, "f", "2"));
    let Listing::Single(listed) = &mut delta.listed else { panic!("it lists one field") };
    assert!(matches!(listed[..], [Listed { kind: Kind::REGISTER, .. }]));
    listed[0].path = Path::root();
    assert!(Delta::from_bytes(&delta.to_bytes()).is_err());
}

#[test]
fn few_bytes_cannot_stand_for_many_long_paths() {
    let long = Path::from_steps([&"x".repeat(Path::SIZE_BYTES_MAX - 10)]).expect("short enough");
    let mut honest = Document::new();
    commit(&mut honest, dot('A', 5), |edit| {
        for index in 0..50 {
            let at = long.child(&index.to_string()).expect("short enough");
            edit.set_register(&at, Value::Null).expect("a field");
        }
    });
    let bytes = honest.to_bytes();
    assert!(bytes.len() * 80 > 50 * Path::SIZE_BYTES_MAX, "{} bytes", bytes.len());
    let read = Document::from_bytes(&bytes).expect("what was written reads back");
    assert_eq!(read.canonical_bytes(), honest.canonical_bytes());
}

proptest! {
    #[test]
    fn damaged_documents_and_deltas_never_panic(at in 0_usize..4000, to: u8, cut in 0_usize..4000) {
        for (whole, is_delta) in [
            (everything().to_bytes(), false),
            (everything().diff(&[dot('A', 5)].into_iter().collect()).to_bytes(), true),
        ] {
            let mut bytes = whole;
            let index = at % bytes.len();
            bytes[index] = to;
            let cut = cut % (4 * bytes.len());
            bytes.truncate(cut.max(1));
            if is_delta {
                if let Ok(delta) = Delta::from_bytes(&bytes) {
                    let (mut a, _) = two(r#"{"m":{"x":[]},"r":0}"#);
                    let _ = a.apply(&delta);
                    a.check_invariants();
                    check_written(&a);
                    let again = Document::from_bytes(&a.to_bytes()).expect("what applied can be stored");
                    prop_assert_eq!(again.canonical_bytes(), a.canonical_bytes());
                }
            } else if let Ok(document) = Document::from_bytes(&bytes) {
                document.check_invariants();
                check_written(&document);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::from_bytes(&bytes);
        let _ = Delta::from_bytes(&bytes);
        let mut with_table = vec![1];
        with_table.extend([7; 16]);
        with_table.extend([1, 9, 1]);
        with_table.extend(&bytes);
        let _ = Document::from_bytes(&with_table).map(|document| document.check_invariants());
        if let Ok(delta) = Delta::from_bytes(&with_table) {
            let _ = Document::new().apply(&delta);
        }
    }
}

const GOLDEN_DOCUMENT: &str = concat!(
    "024141414141414141414141414141414142424242424242424242424242424242010a010201",
    "030201000901000001010a04000263000300000e020101060103020002800005676f6e650000",
    "0100026d0001010a020202780001010a080281c374776f050002700001020103070200027200",
    "02000500000000000004400201028300027400c5746f6b656e09000275000101030666757475",
    "7265",
);
const GOLDEN_DELTA_OF_STATE: &str = concat!(
    "024141414141414141414141414141414142424242424242424242424242424242010a010002",
    "010308020101010005676f6e6500060400026300030001000e02010101060103010200028000",
    "05676f6e65000005000270000102010103070200027200020001050000000000000440020101",
    "028300027400c5746f6b656e0900027500010103010666757475726500",
);
const GOLDEN_AUTHORED_DELTA: &str = concat!(
    "0241414141414141414141414141414141424242424242424242424242424242420214010100",
    "02011000000a00018200046d0078000001040002630082",
);
const GOLDEN_DELTA_BY_DIGEST: &str = concat!(
    "01424242424242424242424242424242420114011100014b57cef861099e8e2c0e0b08454d78",
    "9801000a00018200046d0078000001040002630082",
);
const GOLDEN_CANONICAL: &str = concat!(
    "0101414141414141414141414141414141410500000000000000000141414141414141414141",
    "4141414141410500000000000000026600024141414141414141414141414141414105000000",
    "0000000081",
);
