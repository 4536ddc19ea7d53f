//! Peers and a server, over real sockets.

mod harness;

use std::sync::mpsc::channel;
use std::time::Duration;

use bigpeer_peer::{Object, Peer, PeerConfig, PeerError, SyncState, Value};
use harness::{BOATS_KEY, PATIENCE, Scratch, TestServer, await_status, other_app, rows};

const CARS: &str = "SELECT * FROM cars";
const ALL: &str = "SELECT * FROM cars ORDER BY _id";

fn synced(peer: &Peer) {
    if let Err(error) = peer.wait_synced(PATIENCE) {
        panic!("{error}: {:?}", peer.status());
    }
}

#[test]
fn two_peers_see_each_others_edits_through_a_server() {
    let server = TestServer::start();
    let scratches = [Scratch::new(), Scratch::new()];
    let first = scratches[0].with_server(server.url());
    let second = scratches[1].with_server(server.framed_url());
    let _subscriptions = [&first, &second]
        .map(|peer| peer.subscribe(CARS, Object::new()).expect("it can be subscribed"));
    first.start_sync().expect("it has a server");
    second.start_sync().expect("it has a server");
    rows(&first, "INSERT INTO cars DOCUMENTS ({'_id': 1, 'color': 'red'})");
    rows(&second, "INSERT INTO cars DOCUMENTS ({'_id': 2, 'color': 'blue'})");
    synced(&first);
    synced(&second);
    synced(&first);
    let both = r#"[{"_id":1,"color":"red"},{"_id":2,"color":"blue"}]"#;
    assert_eq!(server.rows(ALL), both);
    assert_eq!(rows(&first, ALL), both);
    assert_eq!(rows(&second, ALL), both);
    let status = await_status(&first, "it is synced", |status| status.state == SyncState::Synced);
    assert!(status.synced >= Some(status.changed) && status.server.is_some(), "{status:?}");
}

#[test]
fn what_was_edited_apart_meets_when_the_server_is_back() {
    let server = TestServer::start();
    for id in 0..20 {
        server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'n': {id}}})"));
    }
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe("SELECT * FROM cars WHERE n < 100", Object::new());
    peer.start_sync().expect("it has a server");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), server.rows(ALL));

    server.accept(false);
    server.cut();
    await_status(&peer, "it is offline", |status| status.state == SyncState::Offline);
    rows(&peer, "UPDATE cars SET writer = 'device' WHERE n < 5");
    rows(&peer, "DELETE FROM cars WHERE n = 7");
    rows(&peer, "UPDATE cars APPLY hits INCREMENT BY 2 WHERE n = 1");
    server.rows("UPDATE cars SET seen = 'server' WHERE n < 3");
    server.rows("UPDATE cars APPLY hits INCREMENT BY 3 WHERE n = 1");
    server.rows("DELETE FROM cars WHERE n = 9");
    let late = peer.wait_synced(Duration::from_millis(50));
    assert!(matches!(late, Err(PeerError::TimedOut { .. })), "{late:?}");
    drop(peer);

    // The next process of the device goes on from what this one knew.
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe("SELECT * FROM cars WHERE n < 100", Object::new());
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 50, 'n': 50})");
    server.accept(true);
    peer.start_sync().expect("it has a server");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), server.rows(ALL));
    let met = r#"[{"_id":1,"hits":5,"n":1,"seen":"server","writer":"device"}]"#;
    assert_eq!(server.rows("SELECT * FROM cars WHERE _id = 1"), met);
    assert_eq!(server.rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":19}]"#);
}

#[test]
fn a_lost_connection_is_made_again_without_being_asked() {
    let server = TestServer::start();
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe(CARS, Object::new()).expect("it can be subscribed");
    peer.start_sync().expect("it has a server");
    for round in 0..2 {
        synced(&peer);
        server.cut();
        await_status(&peer, "it is offline", |status| !status.is_connected());
        server.rows(&format!("INSERT INTO cars DOCUMENTS ({{'_id': {round}}})"));
    }
    synced(&peer);
    assert_eq!(rows(&peer, ALL), r#"[{"_id":0},{"_id":1}]"#);
}

#[test]
fn observers_hear_of_what_others_wrote() {
    let server = TestServer::start();
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe(CARS, Object::new()).expect("it can be subscribed");
    peer.start_sync().expect("it has a server");
    synced(&peer);
    let (seen, results) = channel();
    let observer = peer.observe(CARS, Object::new(), move |cars| {
        let _ = seen.send(cars.len());
    });
    let _observer = observer.expect("it is a SELECT");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(0));
    server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    assert_eq!(results.recv_timeout(PATIENCE), Ok(1));
}

#[test]
fn only_what_is_subscribed_to_arrives_also_when_that_changes() {
    let server = TestServer::start();
    server.rows(
        "INSERT INTO cars DOCUMENTS ({'_id': 1, 'color': 'red'}), ({'_id': 2, 'color': 'blue'})",
    );
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    peer.start_sync().expect("it has a server");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), "[]");
    let _red =
        peer.subscribe("SELECT * FROM cars WHERE color = 'red'", Object::new()).expect("valid");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), r#"[{"_id":1,"color":"red"}]"#);
    let _all = peer.subscribe(CARS, Object::new()).expect("it can be subscribed");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), server.rows(ALL));
}

#[test]
fn a_refusal_is_told_with_the_servers_words() {
    let server = TestServer::start();
    let scratch = Scratch::new();
    let config = PeerConfig { token: Some("wrong".to_owned()), ..scratch.config(server.url()) };
    let peer = Peer::open(config).expect("it opens");
    peer.start_sync().expect("it has a server");
    let status = await_status(&peer, "it is refused", |status| status.last_error.is_some());
    let error = status.last_error.expect("it is refused");
    assert!(error.contains("401: wrong token"), "{error}");
    let late = peer.wait_synced(Duration::from_millis(50)).expect_err("it is refused").to_string();
    assert!(late.contains("wrong token"), "{late}");
    drop(peer);

    let scratch = Scratch::new();
    let config = PeerConfig { app: other_app(), ..scratch.config(server.url()) };
    let peer = Peer::open(config).expect("it opens");
    peer.start_sync().expect("it has a server");
    let told = await_status(&peer, "it is refused", |status| status.last_error.is_some());
    assert!(told.last_error.is_some_and(|error| error.contains("404: unknown app")));
}

#[test]
fn stopping_leaves_the_server_and_starting_comes_back() {
    let server = TestServer::start();
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe(CARS, Object::new()).expect("it can be subscribed");
    peer.start_sync().expect("it has a server");
    synced(&peer);
    peer.stop_sync();
    await_status(&peer, "it is stopped", |status| status.state == SyncState::Stopped);
    assert!(matches!(peer.wait_synced(PATIENCE), Err(PeerError::NotStarted)));
    server.rows("INSERT INTO cars DOCUMENTS ({'_id': 1})");
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 2})");
    peer.start_sync().expect("it has a server");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), r#"[{"_id":1},{"_id":2}]"#);
    assert_eq!(server.rows(ALL), r#"[{"_id":1},{"_id":2}]"#);
    peer.close().expect("it closes");
}

#[test]
fn a_server_that_is_not_there_does_not_hold_up_local_work() {
    let scratch = Scratch::new();
    // Nobody listens on a port that was just given back.
    let address = TestServer::start().websocket;
    let peer = scratch.with_server(format!("ws://{address}"));
    peer.start_sync().expect("it has a server");
    await_status(&peer, "it is offline", |status| status.last_error.is_some());
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    assert_eq!(rows(&peer, ALL), r#"[{"_id":1}]"#);
    peer.close().expect("it closes");
}

#[test]
fn many_documents_arrive_whole() {
    let server = TestServer::start();
    for batch in 0..20 {
        let documents: Vec<String> = (0..100)
            .map(|n| format!("({{'_id': {}, 'text': '{}'}})", batch * 100 + n, "x".repeat(500)))
            .collect();
        server.rows(&format!("INSERT INTO cars DOCUMENTS {}", documents.join(", ")));
    }
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe(CARS, Object::new()).expect("it can be subscribed");
    peer.start_sync().expect("it has a server");
    synced(&peer);
    assert_eq!(rows(&peer, ALL), server.rows(ALL));
}

#[test]
fn what_the_server_does_not_take_is_listed_and_holds_up_nothing() {
    let server = TestServer::start();
    let scratch = Scratch::new();
    let config = PeerConfig { token: Some(BOATS_KEY.to_owned()), ..scratch.config(server.url()) };
    let peer = Peer::open(config).expect("it opens");
    peer.start_sync().expect("it has a server");
    synced(&peer);
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    rows(&peer, "INSERT INTO boats DOCUMENTS ({'_id': 2})");
    synced(&peer);
    assert_refused(&peer, &server);
}

#[test]
fn what_was_written_before_the_first_session_is_refused_as_loudly() {
    let server = TestServer::start();
    let scratch = Scratch::new();
    let config = PeerConfig { token: Some(BOATS_KEY.to_owned()), ..scratch.config(server.url()) };
    let peer = Peer::open(config).expect("it opens");
    rows(&peer, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    rows(&peer, "INSERT INTO boats DOCUMENTS ({'_id': 2})");
    peer.start_sync().expect("it has a server");
    synced(&peer);
    assert_refused(&peer, &server);
}

fn assert_refused(peer: &Peer, server: &TestServer) {
    let refused = peer.status().rejected;
    let names: Vec<_> = refused.iter().map(|it| (&*it.collection, it.id.clone())).collect();
    assert_eq!(names, [("cars", Value::from(1))]);
    assert_eq!(server.rows(ALL), "[]");
    assert_eq!(server.rows("SELECT * FROM boats"), r#"[{"_id":2}]"#);
}

/// Twelve megabytes, which no update and no buffer takes at once: `from` is the first of their ids.
fn twelve_megabytes(from: usize) -> impl Iterator<Item = String> {
    (0..12).map(move |batch| {
        let first = from + batch * 100;
        let documents: Vec<String> = (first..first + 100)
            .map(|id| format!("({{'_id': {id}, 'text': '{}'}})", "x".repeat(10_000)))
            .collect();
        format!("INSERT INTO cars DOCUMENTS {}", documents.join(", "))
    })
}

#[test]
fn megabytes_written_offline_arrive_without_anyone_being_woken() {
    let counted = "SELECT COUNT(*) AS n, MAX(_id) AS last FROM cars";
    let server = TestServer::start();
    let scratch = Scratch::new();
    let peer = scratch.with_server(server.url());
    let _subscription = peer.subscribe(CARS, Object::new()).expect("it can be subscribed");
    // At the first meeting everything is compared, later it is replayed: in either case from either side.
    for (round, from) in [0, 10_000].into_iter().enumerate() {
        twelve_megabytes(from).for_each(|statement| {
            rows(&peer, &statement);
        });
        twelve_megabytes(from + 5_000).for_each(|statement| {
            server.rows(&statement);
        });
        peer.start_sync().expect("it has a server");
        synced(&peer);
        let all = format!(r#"[{{"last":{},"n":{}}}]"#, from + 6_199, 2_400 * (round + 1));
        assert_eq!(rows(&peer, counted), all);
        assert_eq!(server.rows(counted), all);
        peer.stop_sync();
        await_status(&peer, "it is stopped", |status| status.state == SyncState::Stopped);
    }
    assert_eq!(server.pings(), 0, "nobody waited for a sign of life");
}
