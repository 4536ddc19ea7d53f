//! Documents and deltas.

use bigpeer_core::document::{Declared, Document, Edit, Fields, Number, Objects, Path};
use bigpeer_core::ident::{Actor, Dot};
use bigpeer_core::time::Hlc;
use bigpeer_core::value::{Object, Value};

use super::{Vectors, agree, hex, parsed};

pub(crate) fn dot(actor: u8, ms: u64) -> Dot {
    Dot { hlc: Hlc::new(ms, 0), actor: Actor([actor; 16]) }
}

fn path(steps: &[&str]) -> Path {
    Path::from_steps(steps).expect("a short path")
}

fn object(text: &str) -> Object {
    parsed(text).as_object().expect("an object").clone()
}

/// One commit, and the delta that the log would carry.
fn commit(document: &mut Document, dot: Dot, edit: impl FnOnce(&mut Edit)) -> Vec<u8> {
    let mut commit = Edit::new(document, dot);
    edit(&mut commit);
    let delta = commit.finish().expect("the commit changes something");
    document.apply(&delta).expect("what was authored here applies here");
    delta.to_bytes()
}

fn insert(content: &'static str, fields: Fields) -> impl FnOnce(&mut Edit) {
    move |edit| {
        edit.insert();
        edit.assign_content(&object(content), &fields).expect("small content");
    }
}

/// An edit of one field of a document that eight have written.
fn crowded() -> Vec<u8> {
    let mut document = Document::new();
    for n in 1..=8 {
        commit(&mut document, dot(n, 1_000 + u64::from(n)), |edit| {
            let at = path(&[&format!("f{n}")]);
            edit.set_register(&at, Value::Int(i64::from(n))).expect("a short path");
        });
    }
    commit(&mut document, dot(0xA1, 2_000), |edit| {
        edit.set_register(&path(&["f3"]), Value::Int(30)).expect("a short path");
    })
}

/// A life with every kind of component and every form of delta, told as the vectors it leaves behind.
struct Story {
    documents: Vec<(&'static str, Document)>,
    deltas: Vec<(&'static str, Vec<u8>)>,
}

impl Story {
    fn tell() -> Self {
        let (mut documents, mut deltas) = (Vec::new(), Vec::new());
        let mut car = Document::new();
        let types = [("photo".into(), Declared::Attachment), ("tags".into(), Declared::Register)];
        let content =
            r#"{"make": "Kei", "engine": {"cc": 660}, "photo": {"id": "b1"}, "tags": ["a", "b"]}"#;
        let inserted = insert(content, types.into_iter().collect());
        deltas.push(("authored: insert", commit(&mut car, dot(0xA1, 1_000), inserted)));
        let before = car.clone();
        deltas.push((
            "authored: counters",
            commit(&mut car, dot(0xA1, 2_000), |edit| {
                edit.restart(&path(&["stock"]), 10).expect("a short path");
                edit.increment(&path(&["km"]), 4).expect("no overflow");
                edit.pn_increment(&path(&["likes"]), Number::Float(1.5)).expect("no overflow");
            }),
        ));
        deltas.push((
            "authored: increment",
            commit(&mut car, dot(0xB2, 3_000), |edit| {
                edit.increment(&path(&["stock"]), -3).expect("no overflow");
            }),
        ));
        deltas.push((
            "authored: unset",
            commit(&mut car, dot(0xB2, 4_000), |edit| {
                edit.unset(&path(&["engine"])).expect("not the root");
            }),
        ));
        // Made beside the removal of `engine`, by somebody who had not seen it.
        let mut other = before.clone();
        commit(&mut other, dot(0xC3, 4_500), |edit| {
            edit.set_register(&path(&["engine", "hp"]), Value::Int(64)).expect("a short path");
            edit.set_register(&path(&["make"]), Value::from("Bei")).expect("a short path");
        });
        commit(&mut car, dot(0xA1, 4_600), |edit| {
            edit.set_register(&path(&["make"]), Value::from("Sei")).expect("a short path");
        });
        let towards = other.diff(car.vector());
        deltas.push(("state: beside a removal", towards.to_bytes()));
        let mut short = car.diff(before.vector());
        deltas.push(("state: from the insert", short.to_bytes()));
        short.name_base_by_digest(|_| false);
        deltas.push(("state: base by digest", short.to_bytes()));
        car.apply(&towards).expect("the base is met");
        documents.push(("three authors", car.clone()));
        deltas.push(("state: full", car.diff(&Document::new().vector().clone()).to_bytes()));
        let mut trimmed = car.clone();
        trimmed.trim_marks(Hlc::new(4_100, 0));
        documents.push(("trimmed marks", trimmed.clone()));
        deltas.push(("state: trimmed", trimmed.diff(before.vector()).to_bytes()));
        let delete = |edit: &mut Edit| edit.delete(true);
        deltas.push(("authored: delete", commit(&mut car, dot(0xA1, 5_000), delete)));
        documents.push(("deleted", car.clone()));
        deltas.push(("state: tombstone", car.diff(Document::new().vector()).to_bytes()));
        let initial =
            Edit::initial(&object(r#"{"level": 1}"#), Objects::AsMaps, &Fields::default());
        let initial = initial.expect("small content");
        documents.push(("initial", initial.document().clone()));
        deltas.push(("authored: initial", initial.finish().expect("it writes").to_bytes()));
        deltas.push(("authored: base by part", crowded()));
        documents.push(("blank", Document::new()));
        Self { documents, deltas }
    }
}

#[test]
fn documents_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    for (name, document) in Story::tell().documents {
        vectors.push(name, document.to_bytes());
    }
    vectors.check("documents");
}

#[test]
fn deltas_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    for (name, bytes) in Story::tell().deltas {
        vectors.push(name, bytes);
    }
    vectors.check("deltas");
}

#[test]
fn the_decoder_reads_the_documents_that_were_written() {
    for (name, document) in Story::tell().documents {
        let vector = document.vector().iter().map(said_dot).collect::<Vec<_>>();
        agree("documents", name, "vector", vector);
        let trimmed = document.trimmed().iter().map(said_dot).collect::<Vec<_>>();
        agree("documents", name, "trimmed", trimmed);
    }
    // Whoever reads a document takes, at each path, the entry with the greatest dot.
    agree("documents", "three authors", "components.0.kind", "map");
    agree("documents", "initial", "components.1.path", vec![Value::from("level")]);
    agree("documents", "initial", "components.1.entries.0.content", 1);
    agree("documents", "deleted", "components.0.entries.0.content.strict", true);
}

#[test]
fn the_decoder_reads_the_deltas_that_were_written() {
    for (name, bytes) in Story::tell().deltas {
        let delta = bigpeer_core::document::Delta::from_bytes(&bytes).expect("we wrote it");
        let raised = delta.raised().iter().copied().map(said_dot).collect::<Vec<_>>();
        agree("deltas", name, "raised", raised);
        match (delta.base(), delta.base_digest()) {
            (Some(base), _) => {
                let base = base.iter().map(said_dot).collect::<Vec<_>>();
                agree("deltas", name, "base", base);
            }
            (None, named) => {
                let (digest, listed) = named.expect("a base is named one way or the other");
                agree("deltas", name, "base.digest", format!("{:032x}", digest.0));
                let listed = listed.iter().map(said_dot).collect::<Vec<_>>();
                let form = if delta.is_base_in_part() { "base.part" } else { "base.listed" };
                agree("deltas", name, form, listed);
            }
        }
        agree("deltas", name, "author", delta.author().map_or(Value::Null, said_dot));
    }
}

/// How the decoder prints a dot.
pub(crate) fn said_dot(dot: Dot) -> Value {
    Value::from(format!("{}@{}", dot.hlc.0, hex(&dot.actor.0)))
}
