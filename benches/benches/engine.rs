//! Micro-benchmarks of the engine's parts: what one document, one statement, one record costs.
#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::hint::black_box;
use std::sync::Arc;

use bigpeer_benches::process::{Process, car};
use bigpeer_core::document::{Document, Edit, Path};
use bigpeer_core::dql::Statement;
use bigpeer_core::ident::{Actor, AppId, Dot, Txn, TxnId, Uuid};
use bigpeer_core::log::transaction::{Op, Origin, Transaction};
use bigpeer_core::store::{SnapshotPart, Store};
use bigpeer_core::time::{Hlc, WallMs};
use bigpeer_core::value::{Object, Value, canonical, json};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn dot(hlc: u64) -> Dot {
    Dot { hlc: Hlc::new(hlc, 0), actor: Actor::new(1, 2, 3) }
}

fn document(fields: usize) -> Document {
    let mut edit = Edit::new(&Document::new(), dot(1));
    edit.insert();
    for index in 0..fields {
        let path = Path::from_steps([format!("field{index:05}")]).expect("one step is a path");
        edit.set_register(&path, Value::from("some text of a usual length"))
            .expect("it can be set");
    }
    edit.document().clone()
}

fn merging(c: &mut Criterion) {
    for fields in [10, 1_000, 100_000] {
        let document = document(fields);
        c.bench_function(&format!("edit one field of {fields}"), |b| {
            b.iter(|| {
                let mut edit = Edit::new(black_box(&document), dot(2));
                let path = Path::from_steps(["field00005"]).expect("one step is a path");
                edit.set_register(&path, Value::from("new")).expect("it can be set");
                edit.finish()
            });
        });
        let mut edit = Edit::new(&document, dot(2));
        let path = Path::from_steps(["field00005"]).expect("one step is a path");
        edit.set_register(&path, Value::from("new")).expect("it can be set");
        let delta = edit.finish().expect("something was written");
        c.bench_function(&format!("merge one field into {fields}"), |b| {
            b.iter_batched(
                || document.clone(),
                |mut document| document.apply(black_box(&delta)).map(|applied| applied.changed()),
                BatchSize::SmallInput,
            );
        });
    }
    let full = document(100_000).diff(&bigpeer_core::document::Vector::new());
    let mut group = c.benchmark_group("bulk");
    group.throughput(Throughput::Elements(100_000));
    group.sample_size(20);
    group.bench_function("merge 100000 fields", |b| {
        b.iter(|| Document::new().apply(black_box(&full)).map(|applied| applied.changed()));
    });
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let text = car(7);
    c.bench_function("parse the JSON of a car", |b| {
        b.iter(|| json::parse(black_box(text.as_bytes()), json::Limits::default()));
    });
    let value = json::parse(text.as_bytes(), json::Limits::default()).expect("a car is JSON");
    c.bench_function("write the JSON of a car", |b| {
        b.iter(|| {
            let mut out = Vec::with_capacity(256);
            json::write(black_box(&value), &mut out);
            out
        });
    });
    let record = Process::in_memory(4).record_of_insert();
    let transaction = Transaction::decode(&record).expect("our own record reads back");
    c.bench_function("encode the record of an INSERT", |b| b.iter(|| transaction.encode()));
    c.bench_function("decode the record of an INSERT", |b| {
        b.iter(|| Transaction::decode(black_box(&record)));
    });
}

fn statements(c: &mut Criterion) {
    let text = "SELECT * FROM cars WHERE _id = :id AND (Origin = 'Japan' OR Year > 1980) LIMIT 10";
    c.bench_function("parse a statement", |b| b.iter(|| Statement::parse(black_box(text))));
    let mut process = Process::in_memory(16);
    process.insert_cars(1_000);
    let mut args = Object::new();
    args.insert("id", Value::from("car7"));
    let by_id: Arc<str> = "SELECT * FROM cars WHERE _id = :id".into();
    c.bench_function("point read through the node", |b| {
        b.iter(|| process.execute(&by_id, args.clone()));
    });
    let scan: Arc<str> = "SELECT COUNT(*) AS n FROM cars WHERE Year > 1990".into();
    c.bench_function("scan 1000 documents through the node", |b| {
        b.iter(|| process.execute(&scan, Object::new()));
    });
    let insert: Arc<str> = "INSERT INTO other DOCUMENTS (:doc)".into();
    let mut next = 0;
    c.bench_function("durable INSERT through node, log and a disk in memory", |b| {
        b.iter(|| {
            next += 1;
            let car = json::parse(car(next).as_bytes(), json::Limits::default());
            let mut args = Object::new();
            args.insert("doc", car.expect("a car is JSON"));
            process.execute(&insert, args)
        });
    });
}

/// A partition of cars, each inserted by a transaction of its own.
fn store_of_cars(count: u64) -> Store {
    let mut store = Store::new();
    for number in 1..=count {
        let car = json::parse(car(number as usize).as_bytes(), json::Limits::default());
        let car = car.expect("a car is JSON");
        let mut edit = Edit::new(&Document::new(), dot(1_000 + number));
        edit.insert();
        for (name, value) in car.as_object().expect("a car is an object").iter() {
            let path = Path::from_steps([name]).expect("one step is a path");
            edit.set_register(&path, value.clone()).expect("it can be set");
        }
        let id = canonical::encode_id(&Value::from(number)).expect("a number is an id");
        let delta = Arc::new(edit.finish().expect("something was written"));
        let transaction = Transaction {
            id: TxnId(Uuid([0; 16])),
            app: AppId(Uuid([1; 16])),
            origin: Origin::Http,
            wall: WallMs(0),
            ops: vec![Op::Merge { collection: "cars".into(), id, delta }],
        };
        store.apply(Txn(number), &transaction, |_| true);
    }
    store
}

fn checkpoints(c: &mut Criterion) {
    let store = store_of_cars(10_000);
    let at = store.applied();
    let parts = || {
        let next = |last: &SnapshotPart| store.snapshot_part(at, Some(&last.last), &[]);
        std::iter::successors(store.snapshot_part(at, None, &[]), next)
    };
    let mut group = c.benchmark_group("checkpoint");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("give 10000 documents", |b| {
        b.iter(|| parts().map(|part| part.bytes.len()).sum::<usize>());
    });
    let given: Vec<SnapshotPart> = parts().collect();
    group.bench_function("take back 10000 documents", |b| {
        b.iter(|| {
            let mut store = Store::new();
            for part in &given {
                store.restore_part(at, &part.bytes).expect("what was given is taken back");
            }
            store
        });
    });
    group.finish();
}

fn recovery(c: &mut Criterion) {
    let mut process = Process::in_memory(16);
    process.insert_cars(100_000);
    let disk = process.into_disk();
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("open a log of 100000 transactions", |b| {
        b.iter_batched(
            || disk.clone(),
            |disk| Process::on_disk(16, disk).durable(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(engine, merging, encoding, statements, checkpoints, recovery);
criterion_main!(engine);
