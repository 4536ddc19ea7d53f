//! What people and programs write as text.

use bigpeer_core::auth::{Catalog, CatalogOp, Permissions};
use bigpeer_core::dql::Statement;
use bigpeer_core::value::json::{self, Limits};

pub(crate) const JSON: &[&[u8]] = &[
    br#"{"a": [1, -2.5e3, "x\u00e9\n", true, null], "b": {"c": 18446744073709551615}}"#,
    b"[[[[]]]]",
    br#""\ud83d\ude00""#,
];

pub(crate) const STATEMENTS: &[&[u8]] = &[
    b"SELECT make, COUNT(*) AS n FROM cars WHERE year >= 1999 AND NOT (a LIKE 'x%_' OR b IN [1, 'y']) GROUP BY make",
    b"INSERT INTO cars DOCUMENTS (:doc), ({'_id': 'a', 'o': {'p': [1, 2.5]}}) ON ID CONFLICT DO UPDATE",
    b"UPDATE cars SET a.b = 'x', c = :c UNSET d APPLY n INCREMENT BY -1 WHERE _id = 'a' ORDER BY x DESC LIMIT 2",
    b"DELETE FROM `my cars` WHERE x IS NOT MISSING AND y IS NULL",
    b"EVICT FROM cars WHERE _id IN ['a', 'b']",
];

pub(crate) const PERMISSIONS: &[&[u8]] = &[
    br#"{"read": {"everything": true}, "write": {"queriesByCollection": {"cars": ["_id == 'x' && _id != $u"]}}}"#,
];

pub(crate) const CATALOG: &[&[u8]] = &[
    br#"{"op":"putApp","app":"a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0","name":"shop"}"#,
    br#"{"op":"deleteKey","app":"a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0","name":"k"}"#,
    concat!(
        r#"{"op":"putApp","app":"a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0","name":"shop"}"#,
        "\n",
        r#"{"op":"putKey","app":"a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0","name":"k","prefix":"0123456789","#,
        r#""hash":"0000000000000000000000000000000000000000000000000000000000000000","expiresMs":1,"#,
        r#""permissions":{"read":{"everything":true},"write":{}}}"#,
        "\n",
        r#"{"op":"deleteApp","app":"a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0"}"#,
    )
    .as_bytes(),
];

/// What was read is written so that it reads the same.
pub(crate) fn json(bytes: &[u8]) {
    let Ok(value) = json::parse(bytes, Limits::default()) else { return };
    let mut text = Vec::new();
    json::write(&value, &mut text);
    assert_eq!(json::parse(&text, Limits::default()).as_ref(), Ok(&value));
}

pub(crate) fn statement(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Statement::parse(text) {
        Ok(statement) => drop(statement.collection().len()),
        Err(error) => assert!(!error.to_string().is_empty(), "an error says something"),
    }
}

pub(crate) fn permissions(bytes: &[u8]) {
    if let Ok(value) = json::parse(bytes, Limits::default())
        && let Ok(permissions) = Permissions::from_value(&value)
    {
        let again = Permissions::from_value(&permissions.to_value());
        assert!(again.is_ok(), "what is stored can be read");
    }
}

/// The changes of one transaction, one a line.
pub(crate) fn catalog(bytes: &[u8]) {
    let Ok(ops) = CatalogOp::decode_list(bytes.split(|byte| *byte == b'\n')) else { return };
    let logged: Vec<_> = ops.iter().map(CatalogOp::encode).collect();
    let read = CatalogOp::decode_list(logged.iter().map(|entry| &entry[..]));
    let again: Vec<_> =
        read.expect("what is logged can be read").iter().map(CatalogOp::encode).collect();
    assert_eq!(again, logged);
    let mut catalog = Catalog::default();
    let refused = catalog.check(&ops).err().and_then(|refused| refused.entry);
    for (entry, op) in ops.iter().enumerate() {
        let is_refused = catalog.check(std::slice::from_ref(op)).is_err();
        assert_eq!(is_refused, refused == Some(entry), "judged as if those before it were made");
        if is_refused {
            break;
        }
        catalog.apply(op.clone());
    }
}
