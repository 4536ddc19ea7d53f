//! Transaction records: what one position of the log holds.

use std::sync::Arc;

use bigpeer_core::auth::{ApiKey, CatalogOp, Permissions, hash, key_prefix};
use bigpeer_core::document::{Delta, Document, Edit, Path};
use bigpeer_core::ident::{AppId, DocId, PartitionId, PeerKey, TxnId, Uuid};
use bigpeer_core::log::transaction::{Op, Origin, Transaction};
use bigpeer_core::time::WallMs;
use bigpeer_core::value::{Value, canonical};
use bytes::Bytes;

use super::documents::dot;
use super::{Vectors, agree, hex};

pub(crate) const APP: AppId = AppId(Uuid([0xA0; 16]));

fn id(text: &str) -> DocId {
    canonical::encode_text_id(text).expect("a short id")
}

fn colored(color: &str) -> Arc<Delta> {
    let mut edit = Edit::new(&Document::new(), dot(0xA1, 7_000));
    edit.insert();
    let path = Path::from_steps(["color"]).expect("a short path");
    edit.set_register(&path, Value::from(color)).expect("not the root");
    Arc::new(edit.finish().expect("it writes"))
}

fn merge(collection: &str, name: &str, color: &str) -> Op {
    Op::Merge { collection: collection.into(), id: id(name), delta: colored(color) }
}

/// An app and its first key.
fn changes() -> [CatalogOp; 2] {
    let key = ApiKey {
        name: "till".into(),
        description: Some("the first".into()),
        prefix: key_prefix("till------secret").into(),
        hash: hash("till------secret"),
        expires: WallMs(1_800_000_000_000),
        permissions: Arc::new(Permissions::everything()),
    };
    let development_token = Some(hash("dev"));
    [
        CatalogOp::PutApp { app: APP, name: "shop".into(), development_token },
        CatalogOp::PutKey { app: APP, key },
    ]
}

fn samples() -> Vec<(&'static str, Transaction)> {
    let transaction = |origin, ops| Transaction {
        id: TxnId(Uuid([0x11; 16])),
        app: APP,
        origin,
        wall: WallMs(1_700_000_000_123),
        ops,
    };
    let peer = PeerKey([0x77; 32]);
    vec![
        ("one document", transaction(Origin::Http, vec![merge("cars", "a", "red")])),
        (
            "a statement over three documents of two collections",
            transaction(
                Origin::Http,
                vec![
                    merge("cars", "b", "red"),
                    Op::Evict { collection: "boats".into(), id: id("c") },
                    merge("cars", "a", "blue"),
                ],
            ),
        ),
        (
            "an update of a peer",
            transaction(
                Origin::Peer { key: peer, home: PartitionId(300) },
                vec![
                    merge("cars", "a", "red"),
                    Op::Remote { peer, state: Bytes::from_static(&[1, 0, 0, 0]) },
                ],
            ),
        ),
        (
            "the catalog",
            transaction(Origin::System, vec![Op::System(Bytes::from_static(b"{\"op\":\"x\"}"))]),
        ),
        (
            "several changes of the catalog",
            transaction(
                Origin::System,
                changes().iter().map(|op| Op::System(op.encode())).collect(),
            ),
        ),
    ]
}

#[test]
fn transactions_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    for (name, transaction) in samples() {
        vectors.push(name, &transaction.encode()[..]);
    }
    vectors.check("transactions");
}

#[test]
fn the_decoder_reads_the_transactions_that_were_written() {
    for (name, transaction) in samples() {
        agree("transactions", name, "id", transaction.id.to_string());
        agree("transactions", name, "app", transaction.app.to_string());
        agree("transactions", name, "wall_ms", transaction.wall.0);
        for (index, op) in transaction.ops.iter().enumerate() {
            let at = |member: &str| format!("ops.{index}.{member}");
            match op {
                Op::Merge { collection, id, .. } => {
                    agree("transactions", name, &at("merge.collection"), &**collection);
                    agree("transactions", name, &at("merge.id"), id.to_value());
                }
                Op::Evict { collection, id } => {
                    agree("transactions", name, &at("evict.collection"), &**collection);
                    agree("transactions", name, &at("evict.id"), id.to_value());
                }
                Op::Remote { peer, state } => {
                    agree("transactions", name, &at("remote.peer"), peer.to_string());
                    agree("transactions", name, &at("remote.state_hex"), hex(state));
                }
                Op::System(bytes) => {
                    let text = std::str::from_utf8(bytes).expect("the catalog speaks JSON");
                    agree("transactions", name, &at("system"), text);
                }
            }
        }
    }
    let mut slots: Vec<u64> =
        samples()[1].1.ops.iter().filter_map(|op| op.slot(APP)).map(|slot| slot.0).collect();
    slots.sort_unstable();
    let slots: Vec<Value> =
        slots.into_iter().map(|slot| Value::from(format!("{slot:016x}"))).collect();
    agree("transactions", samples()[1].0, "slots", slots);
    agree("transactions", "the catalog", "slots", Value::Null);
}
