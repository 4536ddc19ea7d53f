//! Tests of documents as a whole: two or three peers, their edits, and what they agree on.

mod edits;
mod examples;
mod exhaustive;
mod laws;
mod narrow;
mod recall;
mod schedules;
mod wire;

use super::{ApplyError, Delta, Document, Edit, Path};
use crate::ident::{Actor, Dot};
use crate::time::Hlc;
use crate::value::{Value, json};

/// The dot of the actor named by a letter.
fn dot(actor: char, hlc: u64) -> Dot {
    Dot { hlc: Hlc(hlc), actor: Actor([actor as u8; 16]) }
}

/// The path of dotted names.
fn path(dotted: &str) -> Path {
    Path::from_steps(dotted.split('.').filter(|step| !step.is_empty())).expect("short enough")
}

fn value(text: &str) -> Value {
    json::parse(text.as_bytes(), json::Limits::default()).expect("the test's own JSON")
}

/// The two ways to write a document as JSON give the same text.
fn check_written(document: &Document) {
    let id = Value::from("x");
    let mut expected = Vec::new();
    json::write_document(&id, &document.to_object(), &mut expected);
    let mut written = b"{\"_id\":\"x\"".to_vec();
    document.write_fields(&mut written);
    written.push(b'}');
    assert_eq!(written.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

/// What readers see, as JSON; `deleted` or `absent` if they see nothing.
fn shown(document: &Document) -> String {
    match (document.is_visible(), document.is_deleted()) {
        (true, _) => {
            let mut out = Vec::new();
            json::write(&Value::Object(document.to_object()), &mut out);
            String::from_utf8(out).expect("JSON is UTF-8")
        }
        (false, true) => "deleted".to_owned(),
        (false, false) => "absent".to_owned(),
    }
}

/// Makes a commit and applies its delta to the document it was made on, through bytes, as the log does.
fn commit(document: &mut Document, dot: Dot, work: impl FnOnce(&mut Edit)) -> Delta {
    let delta = prepare(document, dot, work);
    document.apply(&delta).expect("the base of a fresh delta is met");
    delta
}

/// Makes a commit on a document without changing it.
fn prepare(document: &Document, dot: Dot, work: impl FnOnce(&mut Edit)) -> Delta {
    let mut edit = Edit::new(document, dot);
    work(&mut edit);
    let after = edit.document().clone();
    let delta = edit.finish().expect("the edit writes");
    let delta = Delta::from_bytes(&delta.to_bytes()).expect("a delta reads back");
    let mut applied = document.clone();
    let outcome = applied.apply(&delta).expect("the base of a fresh delta is met");
    assert_eq!(
        applied.canonical_bytes(),
        after.canonical_bytes(),
        "apply does what the edit showed"
    );
    assert_eq!(outcome.is_visible, after.is_visible());
    applied.check_invariants();
    check_written(&applied);
    delta
}

/// Sends `to` what it lacks of `from`, through bytes.
fn send(from: &Document, to: &mut Document) {
    try_send(from, to).expect("a diff against the receiver's own vector applies");
}

fn try_send(from: &Document, to: &mut Document) -> Result<(), ApplyError> {
    let delta = from.diff(to.vector());
    let delta = Delta::from_bytes(&delta.to_bytes()).expect("a delta reads back");
    to.apply(&delta)?;
    to.check_invariants();
    check_written(to);
    Ok(())
}

/// Exchanges what each lacks and demands that both end equal.
fn exchange(a: &mut Document, b: &mut Document) {
    let (a_before, b_before) = (a.clone(), b.clone());
    send(&b_before, a);
    send(&a_before, b);
    assert_eq!(a.vector(), b.vector());
    assert_eq!(a.canonical_bytes(), b.canonical_bytes(), "{a:#?}\n{b:#?}");
}

/// A document of actor A at 5, and a second copy of it.
fn two(content: &str) -> (Document, Document) {
    let mut a = Document::new();
    commit(&mut a, dot('A', 5), |edit| insert(edit, content));
    let mut b = Document::new();
    send(&a, &mut b);
    (a, b)
}

fn insert(edit: &mut Edit, content: &str) {
    edit.insert();
    edit.assign(&Path::root(), &value(content), None).expect("assignable");
}

fn set(edit: &mut Edit, at: &str, json: &str) {
    edit.assign(&path(at), &value(json), None).expect("assignable");
}

fn unset(edit: &mut Edit, at: &str) {
    edit.unset(&path(at)).expect("not the root");
}
