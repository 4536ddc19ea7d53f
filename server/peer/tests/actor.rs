//! The actor of a peer over its starts.

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use bigpeer_core::ident::Actor;
use bigpeer_core::log::transaction::{Op, Transaction};
use bigpeer_peer::{Object, Peer, PeerConfig};
use harness::{APP, Scratch, TestServer, kill_a_writer, rows, writer_dir};

/// One group of records in the log.
struct Group {
    bytes: u32,
    transactions: Vec<Transaction>,
}

impl Group {
    /// Reads a group of data that begins here.
    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let (count, group_bytes) = (number(80) as usize, number(84));
        let mut at = HEADER_BYTES + count * ROW_BYTES;
        let record = |index: usize| {
            let length = number(HEADER_BYTES + index * ROW_BYTES) as usize;
            let record = &bytes[at..at + length];
            at += length;
            Transaction::decode(record).expect("it is ours")
        };
        let transactions = (0..count).map(record).collect();
        Self { bytes: group_bytes, transactions }
    }

    fn authors(&self) -> impl Iterator<Item = Actor> + '_ {
        self.transactions.iter().flat_map(|transaction| &transaction.ops).filter_map(
            |op| match op {
                Op::Merge { delta, .. } => delta.author().map(|dot| dot.actor),
                _ => None,
            },
        )
    }
}

/// See "Group" in ARCHITECTURE.md.
const HEADER_BYTES: usize = 96;
const ROW_BYTES: usize = 12;

/// The groups of data in the log of a peer, in order.
fn groups(dir: &Path) -> Vec<Group> {
    let mut files: Vec<_> = fs::read_dir(dir.join("log"))
        .expect("a peer has a log")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    files.sort();
    let mut groups = Vec::new();
    for file in files {
        let bytes = fs::read(file).expect("it can be read");
        let starts = (0..bytes.len()).step_by(512);
        let is_data = |at: &usize| bytes[*at..].starts_with(b"BPLG") && bytes[at + 5] == 1;
        groups.extend(starts.filter(is_data).map(|at| Group::read(&bytes[at..])));
    }
    groups
}

fn authors(dir: &Path) -> BTreeSet<Actor> {
    groups(dir).iter().flat_map(Group::authors).collect()
}

fn copy(from: &Path, to: &Path) {
    // As a user does it: with times, modes and owners.
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("there is cp");
    assert!(copied.success());
}

#[test]
fn a_one_field_edit_takes_the_same_bytes_after_150_starts() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 100})");
    peer.close().expect("it closes");
    let mut sizes = Vec::new();
    for start in 0..150 {
        let peer = scratch.offline();
        rows(&peer, &format!("UPDATE cars SET n = {}", 101 + start));
        peer.close().expect("it closes");
        if [0, 149].contains(&start) {
            let bytes = groups(scratch.path()).last().expect("an edit is a group").bytes;
            sizes.push(bytes);
        }
    }
    eprintln!("bytes of the group after one start and after 150: {sizes:?}");
    assert!(sizes[1] <= sizes[0] + 2, "{sizes:?}");
    assert_eq!(authors(scratch.path()).len(), 1);
}

#[test]
fn a_copy_of_a_directory_writes_as_another_actor_and_the_first_as_before() {
    let (scratch, twin) = (Scratch::new(), Scratch::new());
    let write = |dir: &Path, id: u32| {
        let peer = Peer::open(PeerConfig::offline(dir, APP)).expect("it opens");
        rows(&peer, &format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
        peer.close().expect("it closes");
    };
    write(scratch.path(), 1);
    copy(scratch.path(), twin.path());
    write(scratch.path(), 2);
    write(twin.path(), 2);
    write(twin.path(), 3);
    let (first, second) = (authors(scratch.path()), authors(twin.path()));
    assert_eq!((first.len(), second.len()), (1, 2), "{first:?} {second:?}");
    assert!(second.is_superset(&first), "what it was copied with");
}

#[test]
fn a_directory_that_was_put_back_writes_as_another_actor() {
    let (scratch, backup) = (Scratch::new(), Scratch::new());
    let server = TestServer::start();
    let write = |statement: &str| {
        let peer = scratch.with_server(server.url());
        let _all = peer.subscribe("SELECT * FROM cars", Object::new()).expect("it is taken");
        peer.start_sync().expect("it starts");
        rows(&peer, statement);
        peer.wait_synced(harness::PATIENCE).expect("the server is there");
        let all = rows(&peer, "SELECT * FROM cars");
        peer.close().expect("it closes");
        all
    };
    write("INSERT INTO cars DOCUMENTS ({'_id': 1, 'f': 0, 'g': 0})");
    copy(scratch.path(), backup.path());
    write("UPDATE cars SET g = 1");
    fs::remove_dir_all(scratch.path()).expect("it is ours");
    copy(backup.path(), scratch.path());
    let merged = r#"[{"_id":1,"f":2,"g":1}]"#;
    assert_eq!(write("UPDATE cars SET f = 2"), merged, "what was lost is back");
    assert_eq!(server.rows("SELECT * FROM cars"), merged, "and what was written since is there");
    assert_eq!(authors(scratch.path()).len(), 2);
}

#[test]
fn kill_9_leaves_the_actor_as_it_is() {
    if let Some(dir) = writer_dir() {
        let peer = Peer::open(PeerConfig::offline(dir, APP)).expect("it opens");
        for n in 0.. {
            let document = format!("{{'_id': 1, 'n': {n}}}");
            rows(
                &peer,
                &format!("INSERT INTO cars DOCUMENTS ({document}) ON ID CONFLICT DO UPDATE"),
            );
            eprintln!("written {n}");
        }
    }
    let scratch = Scratch::new();
    for _ in 0..5 {
        let test = "kill_9_leaves_the_actor_as_it_is";
        kill_a_writer(test, scratch.path(), |line| line == "written 7");
    }
    let groups = groups(scratch.path());
    assert!(groups.len() >= 5 * 8, "{} groups", groups.len());
    let actors: BTreeSet<Actor> = groups.iter().flat_map(Group::authors).collect();
    assert_eq!(actors.len(), 1, "{actors:?}");
    let mut dots =
        groups.iter().flat_map(|group| &group.transactions).flat_map(|it| &it.ops).filter_map(
            |op| match op {
                Op::Merge { delta, .. } => delta.author(),
                _ => None,
            },
        );
    assert!(
        dots.by_ref().map(|dot| dot.hlc).is_sorted_by(|a, b| a < b),
        "each edit above the one before"
    );
}
