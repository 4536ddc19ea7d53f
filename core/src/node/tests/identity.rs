//! The actor of a device over its starts, and the epochs that it takes.

use super::judge::{deletion, doc_id};
use super::sync::Pair;
use super::*;
use crate::ident::Actor;
use crate::log::transaction::Origin;
use crate::sync::wire::{self, Frame, Subs};
use crate::sync::{FrameFacts, Interest, Position};
use crate::time::Hlc;

const ALL_CARS: &str = "SELECT * FROM cars";

/// A device that goes on with its epoch.
fn device() -> Options {
    Options { partitions: 1, seed: 7, device: true, epoch: Some(5 << 32), ..Options::default() }
}

impl Process {
    /// The same process after a kill, or another one on a copy of its disk. It goes on with the epoch it had last.
    fn started_again(&self, options: &Options, boot: u8) -> Self {
        let mut disk = self.disk.clone();
        disk.kill();
        let epoch = self.epochs.last().map_or(options.epoch, |(epoch, _)| Some(*epoch));
        let mut process = Self::on_disk(&Options { boot, epoch, ..device_like(options) }, disk);
        process.now.wall = self.now.wall;
        process
    }

    /// Those who have authored operations that were handed to the log from the `after`-th on.
    fn authors(&self, after: usize) -> Vec<Actor> {
        let records = self.appended[after..].iter();
        let transactions = records.map(|record| Transaction::decode(record).expect("it is ours"));
        let author = |op: Op| match op {
            Op::Merge { delta, .. } => delta.author().map(|dot| dot.actor),
            _ => None,
        };
        transactions.flat_map(|transaction| transaction.ops).filter_map(author).collect()
    }
}

fn device_like(options: &Options) -> Options {
    Options { limits: options.limits, ..*options }
}

#[test]
fn a_device_that_goes_on_with_its_epoch_leaves_one_entry_in_the_vector() {
    let options = device();
    let mut process = Process::new(&options);
    process.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 0})");
    let mut bytes = Vec::new();
    for boot in 2..40 {
        process = process.started_again(&options, boot);
        process.now.wall.0 += 1_000;
        process.local_rows(&format!("UPDATE cars SET n = {} WHERE _id = 1", 100 + boot));
        bytes.push(process.appended.last().expect("it was written").len());
    }
    assert!(bytes.iter().all(|it| it.abs_diff(bytes[0]) <= 2), "{bytes:?}");
    assert!(process.epochs.is_empty(), "nothing has contradicted it");
}

#[test]
fn an_edit_is_above_a_document_from_the_very_moment() {
    let mut process = Process::server(&Options { partitions: 1, ..Options::default() });
    process.rows("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'n': 1})");
    // Too far ahead for our clock to follow, until it comes there by itself.
    process.now.wall.0 += 10 * 60_000;
    let seen = Hlc::new(process.now.wall.0, 0);
    process.now.wall.0 -= 10 * 60_000;
    let delta = Arc::new(deletion(seen.0));
    process.log_ops(vec![Op::Merge { collection: "cars".into(), id: doc_id("a"), delta }]);
    process.now.wall.0 += 10 * 60_000;
    assert_eq!(process.racks[0].newest_clock(), seen);
    process.rows("UPDATE cars SET n = 2 WHERE _id = 'a'");
    assert_eq!(process.racks[0].newest_clock(), Hlc(seen.0 + 1));
    assert_eq!(process.rows("SELECT * FROM cars"), r#"[{"_id":"a","n":2}]"#);
}

#[test]
fn a_restart_is_not_taken_for_a_rollback_when_an_edit_was_far_ahead() {
    let day = 24 * 3_600_000;
    let options = Options { checkpoint_after: 4 << 10, segment_bytes: 16 << 10, ..device() };
    let mut pair = Pair::of(&Options::default(), device_like(&options));
    pair.server.now.wall.0 += day;
    pair.device.now.wall.0 += day;
    pair.server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 0})");
    pair.connect(&[ALL_CARS]);
    pair.probe();
    pair.disconnect();
    // The device has seen the time far ahead in a document alone.
    pair.device = pair.device.started_again(&options, 2);
    pair.device.now.wall.0 -= day;
    pair.device.local_rows("UPDATE cars SET n = 1");
    for id in 2..60 {
        pair.device.local_rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'n': 1}})"));
    }
    pair.connect(&[ALL_CARS]);
    pair.probe();
    pair.disconnect();
    assert!(!pair.device.checkpoints.is_empty(), "the log does not tell of the edit any more");
    let wall = pair.device.now.wall;
    pair.device = pair.device.started_again(&options, 3);
    pair.device.now.wall = wall;
    pair.server.rows("UPDATE cars SET m = 1 WHERE _id = 1");
    pair.connect(&[ALL_CARS]);
    pair.probe();
    assert!(pair.device.epochs.is_empty(), "{:?}", pair.device.epochs);
}

/// A device that has met the server, was put back to before that, and starts with the epoch that it had.
fn rolled_back(partitions: u16) -> Pair {
    let options = Options { partitions, ..device() };
    let mut pair = Pair::of(&Options::default(), device_like(&options));
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 0}), ({'_id': 2, 'n': 0})");
    pair.connect(&[ALL_CARS]);
    pair.probe();
    pair.disconnect();
    let backup = pair.device.started_again(&options, 2);
    pair.connect(&[ALL_CARS]);
    pair.device.local_rows("UPDATE cars SET n = 1");
    pair.probe();
    pair.disconnect();
    pair.device = backup;
    pair
}

#[test]
fn a_new_epoch_is_said_before_the_proof_of_the_rollback_is_taken_away() {
    let mut pair = rolled_back(1);
    pair.open("dev", &[ALL_CARS]);
    // Up to the record that keeps the server's new nonce.
    while pair.device.epochs.is_empty() {
        let before = pair.device.appended.len();
        let Some((session, frame)) = pair.server.frames.pop_front() else {
            let (session, frame) = pair.device.frames.pop_front().expect("somebody speaks");
            pair.server.session(session, SessionInput::Frame(frame));
            continue;
        };
        pair.device.session(session, SessionInput::Frame(frame));
        if let Some((_, at)) = pair.device.epochs.first() {
            assert_eq!(*at, before, "before any record that its Hello led to");
            assert!(pair.device.appended.len() > before, "the nonces were written");
        }
    }
    pair.exchange();
    pair.probe();
    assert_eq!(pair.device.epochs.len(), 1, "once for each session");
    assert_eq!(pair.device.local_rows("SELECT n FROM cars"), r#"[{"n":1},{"n":1}]"#);
}

#[test]
fn all_partitions_of_a_rolled_back_device_take_the_new_epoch() {
    let mut pair = rolled_back(4);
    pair.connect(&[ALL_CARS]);
    pair.probe();
    let [(epoch, _)] = pair.device.epochs[..] else { panic!("{:?}", pair.device.epochs) };
    let after = pair.device.appended.len();
    for id in 10..40 {
        pair.device.local_rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
    }
    let authors: BTreeSet<Actor> = pair.device.authors(after).into_iter().collect();
    let site = PeerKey([7; 32]).site();
    let expected = (0..4).map(|lane| Actor::new(site, epoch, lane)).collect();
    assert_eq!(authors, expected);
}

#[test]
fn a_device_that_was_put_back_to_within_a_session_gets_back_what_it_sent_in_it() {
    let options = device();
    let mut pair = Pair::of(&Options::default(), device_like(&options));
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 0})");
    pair.connect(&[ALL_CARS]);
    pair.probe();
    let backup = pair.device.started_again(&options, 2);
    // A delta on a base: the server has yet to write the cursor that covers it when the session ends.
    pair.device.local_rows("UPDATE cars SET n = 1");
    pair.probe();
    pair.disconnect();
    pair.device = backup;
    pair.connect(&[ALL_CARS]);
    pair.probe();
    assert_eq!(pair.device.local_rows("SELECT n FROM cars"), r#"[{"n":1}]"#);
    assert_eq!(pair.device.epochs.len(), 1);
}

#[test]
fn a_device_keeps_what_a_server_that_was_put_back_may_have_lost() {
    let options = Options::default();
    let mut pair = Pair::with_server(&options);
    pair.connect(&[ALL_CARS]);
    pair.probe();
    let mut backup = pair.server.disk.clone();
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 'the device alone'})");
    pair.probe();
    pair.disconnect();
    backup.kill();
    pair.server = Process::on_disk(&Options { boot: 2, ..options }, backup);
    pair.server.settle();
    pair.open("dev", &[ALL_CARS]);
    // The server has read its former cursor, and is about to answer for what it has lost.
    pair.exchange_until(|frame| ["Need", "Ack"].contains(&FrameFacts::of(frame).name));
    let (_, refused) = pair.device.local("EVICT FROM cars WHERE _id = 1", "{}");
    assert_eq!(refused.error.map(|error| error.kind), Some(ErrorKind::Conflict));
    pair.exchange();
    pair.probe();
    assert_eq!(pair.server.rows("SELECT _id FROM cars"), r#"[{"_id":1}]"#);
    pair.device.local_rows("EVICT FROM cars WHERE _id = 1");
}

#[test]
fn a_server_takes_no_epoch_on_the_word_of_a_peer() {
    let mut pair = Pair::with_server(&Options { partitions: 1, ..Options::default() });
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 0})");
    pair.connect(&[ALL_CARS]);
    pair.probe();
    pair.disconnect();
    let boots = &pair.server.racks[0].nodes()[0].config.identity.boots;
    let (log, boot) = (boots.log, BootId(Uuid([99; 16])));
    let claims = Subs {
        version: 1,
        interest: Interest::Everything,
        evict_generation: 0,
        write_permission: 0,
        cursor: None,
        stale: false,
        seen: Some(Hlc(u64::MAX)),
        reached: Some(Position { log, boot, txn: Txn(1 << 40) }),
    };
    pair.open("dev", &[ALL_CARS]);
    for _greeting_and_hello in 0..2 {
        if let Some((session, frame)) = pair.server.frames.pop_front() {
            pair.device.session(session, SessionInput::Frame(frame));
        }
        let (session, frame) = pair.device.frames.pop_front().expect("it introduces itself");
        pair.server.session(session, SessionInput::Frame(frame));
    }
    let frame = wire::encode(&Frame::Subs(Box::new(claims)));
    let session = pair.session;
    pair.server.session(session, SessionInput::Frame(frame));
    assert_eq!(pair.server.epochs, []);
    // Whoever claims that is offered everything, and offers it.
    pair.disconnect();
    pair.connect(&[ALL_CARS]);
    pair.probe();
}

#[test]
fn an_edit_leaves_for_the_server_only_once_it_is_durable() {
    let options = Options { partitions: 1, ..Options::default() };
    let mut pair = Pair::with_server(&options);
    pair.connect(&[ALL_CARS]);
    pair.probe();
    // The disk does not get its turn.
    let mut execute = Process::statement("INSERT INTO cars DOCUMENTS ({'_id': 1})", "{}");
    execute.credential = Credential::Local;
    let request = pair.device.submit(0, Request::Execute(execute));
    while let Some(output) = pair.device.racks[0].poll_output() {
        pair.device.on_rack(0, output);
    }
    while let Some(output) = pair.device.journal.poll_output() {
        pair.device.on_journal(output);
    }
    while let Some((thread, input)) = pair.device.mail.pop_front() {
        let now = pair.device.now;
        pair.device.racks[usize::from(thread)].handle_input(input, now);
    }
    assert!(pair.device.frames.is_empty(), "nobody hears of what a power cut would undo");
    assert!(!pair.device.replies.contains_key(&request), "neither does the application");
    pair.device.settle();
    assert!(!pair.device.frames.is_empty());
    assert_eq!(pair.device.answer(request).1.error, None);
}

#[test]
fn an_id_that_was_evicted_in_a_wrong_time_can_be_written_anew() {
    let day = 24 * 3_600_000;
    let mut pair = Pair::of(&Options::default(), device());
    pair.server.now.wall.0 += day;
    pair.device.now.wall.0 += day;
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'n': 'ahead'})");
    pair.connect(&["SELECT * FROM cars WHERE n != 'ahead'"]);
    pair.probe();
    pair.disconnect();
    pair.device = pair.device.started_again(&device(), 2);
    pair.device.now.wall.0 -= day;
    pair.connect(&["SELECT * FROM cars WHERE n != 'ahead'"]);
    pair.probe();
    pair.device.local_rows("EVICT FROM cars");
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'm': 'anew'})");
    pair.probe();
    assert_eq!(pair.server.rows("SELECT m FROM cars"), r#"[{"m":"anew"}]"#);
}

/// Bytes of the records from the `after`-th on that change a document, those of clients and those of peers.
fn record_bytes(process: &Process, after: usize) -> [Vec<usize>; 2] {
    let mut bytes = [Vec::new(), Vec::new()];
    for record in &process.appended[after..] {
        let transaction = Transaction::decode(record).expect("it is ours");
        let is_of_peer = matches!(transaction.origin, Origin::Peer { .. });
        if transaction.ops.iter().any(|op| matches!(op, Op::Merge { .. })) {
            bytes[usize::from(is_of_peer)].push(record.len());
        }
    }
    bytes
}

#[test]
fn neither_log_grows_with_those_who_have_written_a_document() {
    let server = Options { partitions: 1, ..Options::default() };
    let mut pair = Pair::of(&server, device());
    pair.device.local_rows("INSERT INTO cars DOCUMENTS ({'_id': 1, 'd': 100, 's': 100})");
    let mut sizes = Vec::new();
    for boot in 2..40 {
        // A server is another actor after each start.
        pair.server = pair.server.started_again(&Options { boot: 1, ..device_like(&server) }, boot);
        pair.connect(&[ALL_CARS]);
        pair.probe();
        let before = [pair.server.appended.len(), pair.device.appended.len()];
        pair.device.local_rows(&format!("UPDATE cars SET d = {}", 100 + boot));
        pair.probe();
        pair.server.rows(&format!("UPDATE cars SET s = {}", 100 + boot));
        pair.probe();
        let logged = [&pair.server, &pair.device].into_iter().zip(before);
        sizes.push(logged.map(|(process, after)| record_bytes(process, after)).collect::<Vec<_>>());
        pair.disconnect();
    }
    let id = crate::value::canonical::encode_id(&Value::from(1)).expect("a number is an id");
    let key = DocKey { app: APP, collection: "cars".into(), id };
    let held = pair.server.racks[0].nodes()[0].store().document(&key).expect("it is there");
    assert!(held.vector().len() >= 38, "as many have written it");
    let (early, late) = (&sizes[8], &sizes[37]);
    eprintln!("bytes of records after 10 and after 39 starts of the server: {early:?} {late:?}");
    for (early, late) in early.iter().zip(late).flat_map(|(early, late)| early.iter().zip(late)) {
        assert_eq!((early.len(), late.len()), (1, 1));
        assert!(late[0] <= early[0] + 4, "{sizes:?}");
    }
}
