//! A peer by itself: statements, durability, its directory, observers.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};

use bigpeer_core::node::ErrorKind;
use bigpeer_peer::{Object, Peer, PeerConfig, PeerError, SyncState, Txn, Value};
use harness::{APP, PATIENCE, Scratch, await_status, kill_a_writer, other_app, rows, writer_dir};

#[test]
fn what_was_written_is_there_after_the_next_opening() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let mut args = Object::new();
    args.insert(
        "car",
        Value::Object(
            Object::from_entries(vec![
                ("_id".into(), Value::from("c1")),
                ("color".into(), Value::from("red")),
            ])
            .expect("distinct names"),
        ),
    );
    let result = peer.execute("INSERT INTO cars DOCUMENTS (:car)", args).expect("it is written");
    assert_eq!((result.query_type, result.mutated_ids), ("insert", vec![Value::from("c1")]));
    assert!(result.commit_id > Some(Txn(0)));
    rows(&peer, "UPDATE cars APPLY km INCREMENT BY 4 WHERE _id = 'c1'");
    let key = peer.peer_key();
    peer.close().expect("it closes");

    for _ in 0..3 {
        let peer = scratch.offline();
        assert_eq!(peer.peer_key(), key);
        assert_eq!(rows(&peer, "SELECT * FROM cars"), r#"[{"_id":"c1","color":"red","km":4}]"#);
    }
}

#[test]
fn a_statement_that_fails_says_so_and_the_peer_goes_on() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let error = peer.execute("SELEC * FROM cars", Object::new()).expect_err("it is no statement");
    let PeerError::Statement(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind, ErrorKind::Invalid);
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    let error = peer.execute("INSERT INTO cars DOCUMENTS ({'_id': 1})", Object::new());
    let Err(PeerError::Statement(error)) = error else { panic!("{error:?}") };
    assert_eq!(error.kind, ErrorKind::Conflict);
}

#[test]
fn a_directory_is_for_one_process_and_one_app() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let config = PeerConfig::offline(scratch.path(), APP);
    let error = Peer::open(config).expect_err("it is in use").to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(peer);
    let config = PeerConfig::offline(scratch.path(), other_app());
    let error = Peer::open(config).expect_err("it belongs to another app").to_string();
    assert!(error.contains("belongs to app"), "{error}");
    drop(scratch.offline());
}

#[test]
fn without_a_server_there_is_no_sync() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    assert!(matches!(peer.start_sync(), Err(PeerError::NoServer)));
    assert!(matches!(peer.wait_synced(PATIENCE), Err(PeerError::NoServer)));
    assert_eq!(peer.status().state, SyncState::Stopped);
    let config = scratch.config("wss://localhost".to_owned());
    assert!(matches!(Peer::open(config), Err(PeerError::Endpoint(_))));
}

#[test]
fn many_threads_write_through_one_peer() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let peer = &peer;
            scope.spawn(move || {
                for n in 0..25 {
                    let id = thread * 100 + n;
                    rows(peer, &format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
                    rows(peer, "SELECT * FROM cars WHERE _id = 1");
                }
            });
        }
    });
    assert_eq!(rows(&peer, "SELECT COUNT(*) AS n FROM cars"), r#"[{"n":100}]"#);
}

#[test]
fn an_observer_hears_each_change_of_its_result_and_nothing_else() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let (seen, results) = channel();
    let query = "SELECT * FROM cars WHERE color = :color";
    let args =
        || Object::from_entries(vec![("color".into(), Value::from("red"))]).expect("one name");
    let observer = peer.observe(query, args(), move |cars| seen.send(cars.len()).expect("heard"));
    let observer = observer.expect("it is a SELECT");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(0));
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1, 'color': 'red'})");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(1));
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 2, 'color': 'blue'})");
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 3, 'color': 'red'})");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(2));
    observer.cancel();
    rows(&peer, "DELETE FROM cars");
    // The callback is dropped with its observer, and its channel with it.
    assert_eq!(results.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn commits_while_a_callback_runs_become_one_call() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let (go, may_go) = channel::<()>();
    let (seen, results) = channel();
    let observer = peer.observe("SELECT * FROM cars", Object::new(), move |cars| {
        seen.send(cars.len()).expect("heard");
        may_go.recv().expect("it may go on");
    });
    let observer = observer.expect("it is a SELECT");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(0));
    for id in 0..10 {
        rows(&peer, &format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
    }
    assert!(results.try_recv().is_err());
    go.send(()).expect("it waits");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(10));
    go.send(()).expect("it waits");
    drop(observer);
}

#[test]
fn a_callback_may_use_the_peer() {
    let scratch = Scratch::new();
    let peer = Arc::new(scratch.offline());
    let (seen, results) = channel();
    let inner = Arc::downgrade(&peer);
    let observer = peer.observe("SELECT * FROM cars", Object::new(), move |cars| {
        let Some(peer) = inner.upgrade() else { return };
        let statement = format!("INSERT INTO counts DOCUMENTS ({{'_id': {}}})", cars.len());
        rows(&peer, &statement);
        seen.send(rows(&peer, "SELECT * FROM counts")).expect("heard");
    });
    let observer = observer.expect("it is a SELECT");
    assert_eq!(results.recv_timeout(PATIENCE).as_deref(), Ok(r#"[{"_id":0}]"#));
    drop(observer);
}

#[test]
fn an_observer_takes_a_select_that_can_run() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    for query in ["DELETE FROM cars", "SELEC", "SELECT * FROM cars WHERE a = :missing"] {
        let refused = peer.observe(query, Object::new(), |_| {});
        assert!(matches!(refused, Err(PeerError::Statement(_))), "{query}: {refused:?}");
    }
    let refused = peer.subscribe("SELECT a FROM cars LIMIT 3", Object::new());
    assert!(matches!(refused, Err(PeerError::Statement(_))), "{refused:?}");
}

#[test]
fn a_callback_that_panics_is_not_called_again() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let observer = peer.observe("SELECT * FROM cars", Object::new(), move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        panic!("planted");
    });
    let observer = observer.expect("it is a SELECT");
    await_status(&peer, "the panic is told", |status| status.last_error.is_some());
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    assert!(observer.is_cancelled());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some(dir) = writer_dir() {
        let peer = Peer::open(PeerConfig::offline(dir, APP)).expect("it opens");
        for id in 0.. {
            rows(&peer, &format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"));
            eprintln!("written {id}");
        }
    }
    let scratch = Scratch::new();
    let mut acknowledged = 0;
    for round in 1..=3 {
        kill_a_writer("what_was_acknowledged_survives_kill_9", scratch.path(), |line| {
            let Some(id) = line.strip_prefix("written ") else { return false };
            acknowledged = id.parse::<u64>().expect("a number") + 1;
            acknowledged == 20 * round
        });
        let peer = scratch.offline();
        let all = peer.execute("SELECT * FROM cars ORDER BY _id", Object::new()).expect("it reads");
        let count = all.items.len() as u64;
        // One more may have become durable without being acknowledged.
        assert!(count >= acknowledged && count <= acknowledged + 1, "{count}, {acknowledged}");
        rows(&peer, "DELETE FROM cars");
        drop(peer);
    }
}

#[test]
fn subscriptions_that_a_server_would_not_take_are_refused_where_the_application_hears_of_it() {
    let scratch = Scratch::new();
    let peer = scratch.offline();
    let long = |n| format!("SELECT * FROM cars WHERE color = '{n}{}'", "x".repeat(60_000));
    let kept: Vec<_> = (0..4).map(|n| peer.subscribe(&long(n), Object::new())).collect();
    assert!(kept.iter().all(Result::is_ok));
    let refused = peer.subscribe(&long(4), Object::new()).expect_err("it is the fifth").to_string();
    assert!(refused.contains("at most 262144"), "{refused}");
    drop(kept);
    assert!(peer.subscribe(&long(4), Object::new()).is_ok(), "there is room again");
}
