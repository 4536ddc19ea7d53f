//! Many clients on the same documents at once, over HTTP.

use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use bigpeer_tests::http::Answer;
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Options, Server};
use bigpeer_tests::suite;
use bigpeer_tests::suite::{Driver, drivers};
use serde_json::json;

suite!(
    "the file system of temporary files",
    every_field_keeps_its_last_value,
    no_increment_is_lost_or_counted_twice,
    of_racing_inserts_of_one_id_exactly_one_wins,
    a_write_is_seen_at_once_on_every_other_connection,
    no_reader_sees_half_a_statement,
);

const CLIENTS: usize = 64;

/// How often each client writes.
const ROUNDS: u64 = 1000;

/// Lets [`CLIENTS`] threads, each with a connection of its own, do something at the same time.
fn at_once(server: &Server, act: impl Fn(usize, bigpeer_tests::server::Client) + Sync) {
    let barrier = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (act, barrier, client) = (&act, &barrier, server.client());
            scope.spawn(move || {
                barrier.wait();
                act(number, client);
            });
        }
    });
}

fn every_field_keeps_its_last_value(driver: Driver) {
    let scratch = Scratch::new();
    let mut server = Options::new(driver, scratch.path()).start();
    server.client().run("INSERT INTO boards DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
    at_once(&server, |number, mut client| {
        let statement = format!("UPDATE boards SET f{number} = :value WHERE _id = 1");
        for value in 1..=ROUNDS {
            client.run(&statement, &json!({"value": value}));
        }
    });
    let mut expected = json!({"_id": 1});
    for number in 0..CLIENTS {
        expected[format!("f{number}")] = json!(ROUNDS);
    }
    let board = |server: &Server| server.client().select("SELECT * FROM boards", &json!({}));
    assert_eq!(board(&server), [expected.clone()]);
    server.kill();
    assert_eq!(board(&server.restart()), [expected]);
}

fn no_increment_is_lost_or_counted_twice(driver: Driver) {
    let scratch = Scratch::new();
    let mut server = Options::new(driver, scratch.path()).start();
    server.client().run("INSERT INTO meters DOCUMENTS (:doc)", &json!({"doc": {"_id": "m"}}));
    at_once(&server, |_, mut client| {
        for _ in 0..ROUNDS {
            client.run("UPDATE meters APPLY n INCREMENT BY 1 WHERE _id = 'm'", &json!({}));
        }
    });
    let sum = |server: &Server| server.client().select("SELECT n FROM meters", &json!({}));
    let expected = [json!({"n": CLIENTS as u64 * ROUNDS})];
    assert_eq!(sum(&server), expected);
    server.kill();
    assert_eq!(sum(&server.restart()), expected);
}

fn of_racing_inserts_of_one_id_exactly_one_wins(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    for round in 0..20 {
        let answers = std::sync::Mutex::new(Vec::new());
        at_once(&server, |number, mut client| {
            let document = json!({"doc": {"_id": round, "winner": number}});
            let statement = "INSERT INTO races DOCUMENTS (:doc) ON ID CONFLICT DO FAIL";
            let answer: io::Result<Answer> = client.execute(statement, &document);
            let status = answer.expect("the server runs").status;
            answers.lock().expect("no client panics").push((status, number));
        });
        let answers = answers.into_inner().expect("no client panics");
        let winners: Vec<_> = answers.iter().filter(|answer| answer.0 == 200).collect();
        let conflicts = answers.iter().filter(|answer| answer.0 == 409).count();
        assert_eq!((winners.len(), conflicts), (1, CLIENTS - 1), "{answers:?}");
        let args = json!({"id": round});
        let row = server.client().select("SELECT winner FROM races WHERE _id = :id", &args);
        assert_eq!(row, [json!({"winner": winners[0].1})], "the one that was told so has won");
    }
}

fn a_write_is_seen_at_once_on_every_other_connection(driver: Driver) {
    // Of all drivers: they differ in nothing above their sockets.
    const WRITES: usize = 100_000;
    const CHAINS: usize = 8;
    let each = WRITES / CHAINS / drivers().len();
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    std::thread::scope(|scope| {
        for chain in 0..CHAINS {
            let server = &server;
            scope.spawn(move || write_and_read_elsewhere(server, chain, each));
        }
    });
}

fn write_and_read_elsewhere(server: &Server, chain: usize, writes: usize) {
    // An odd number of connections, so that writer and reader meet on every pair of threads.
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    let document = json!({"doc": {"_id": chain, "chain": chain, "v": 0}});
    clients[0].run("INSERT INTO notes DOCUMENTS (:doc)", &document);
    for value in 1..=writes {
        let (writer, reader) = (value % clients.len(), (value / clients.len() + 1) % clients.len());
        let args = json!({"chain": chain, "v": value});
        clients[writer].run("UPDATE notes SET v = :v WHERE _id = :chain", &args);
        // By id, which asks the owner alone, and by a scan, which asks every shard.
        let statement = match value % 2 {
            0 => "SELECT v FROM notes WHERE _id = :chain",
            _ => "SELECT v FROM notes WHERE chain = :chain",
        };
        assert_eq!(clients[reader].select(statement, &args), [json!({"v": value})]);
    }
}

fn no_reader_sees_half_a_statement(driver: Driver) {
    const GROUPS: u64 = 200;
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).start();
    let is_written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (mut reader, is_written) = (server.client(), &is_written);
            scope.spawn(move || {
                while !is_written.load(Ordering::Relaxed) {
                    let rows = reader.select("SELECT COUNT(*) AS n FROM parts", &json!({}));
                    let count = rows[0]["n"].as_u64().expect("a count");
                    assert_eq!(count % 5, 0, "{count} of groups of five");
                }
            });
        }
        let mut writer = server.client();
        for group in 0..GROUPS {
            let part = |number: u64| json!({"_id": group * 5 + number});
            let args =
                json!({"a": part(0), "b": part(1), "c": part(2), "d": part(3), "e": part(4)});
            writer.run("INSERT INTO parts DOCUMENTS (:a), (:b), (:c), (:d), (:e)", &args);
        }
        is_written.store(true, Ordering::Relaxed);
    });
}
