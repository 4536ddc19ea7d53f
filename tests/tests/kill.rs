//! `kill -9` at random moments: nothing acknowledged is lost, and no half of anything is left.

use std::fs;
use std::time::Duration;

use bigpeer_tests::data::cars;
use bigpeer_tests::first_start;
use bigpeer_tests::ledger::{self, Notes};
use bigpeer_tests::load::{Load, found_counter};
use bigpeer_tests::random::Random;
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::Options;
use bigpeer_tests::suite::Driver;
use bigpeer_tests::{setting, suite};
use serde_json::json;

suite!(
    "the file system of temporary files",
    what_was_acknowledged_survives_every_kill,
    a_first_start_that_is_killed_loses_no_key,
    a_log_of_100_000_transactions_is_replayed,
);

/// How often each driver is killed.
const CYCLES: u64 = 60;

/// The number of first starts that are killed for each driver. Each writes whole segments, which takes a slow disk a second.
const FIRST_STARTS: u64 = 6;

/// A new directory after so many, so that young and grown logs are both hit.
const CYCLES_PER_DIRECTORY: u64 = 20;

const WRITERS: usize = 8;

/// So little that a checkpoint is under way at many of the moments.
const CHECKPOINT_AFTER: u64 = 300_000;

fn what_was_acknowledged_survives_every_kill(driver: Driver) {
    let mut random = Random::announced("kill -9");
    let cycles = setting("BIGPEER_TEST_KILL_CYCLES", CYCLES);
    let mut acknowledged = 0;
    for first in (0..cycles).step_by(CYCLES_PER_DIRECTORY as usize) {
        let count = CYCLES_PER_DIRECTORY.min(cycles - first);
        acknowledged += kill_repeatedly(driver, count, &mut random);
    }
    eprintln!("{driver}: killed {cycles} times, {acknowledged} acknowledged writes are all there");
}

fn kill_repeatedly(driver: Driver, count: u64, random: &mut Random) -> u64 {
    let scratch = Scratch::new();
    let shards = 1 + random.below(3) as u16;
    let options =
        Options::new(driver, scratch.path()).shards(shards).checkpoint_after(CHECKPOINT_AFTER);
    let mut server = options.start();
    found_counter(&mut server.client());
    let mut notes = Notes::of_writers(WRITERS);
    let (mut total, mut slowest) = (0, Duration::ZERO);
    for _ in 0..count {
        let before: u64 = notes.iter().map(Notes::acknowledged_count).sum();
        let load = Load::start(&server, notes);
        load.run_for(random.duration(Duration::from_millis(2), Duration::from_millis(150)));
        server.kill();
        notes = load.join();
        total += notes.iter().map(Notes::acknowledged_count).sum::<u64>() - before;
        if random.below(4) == 0 {
            // A kill may also strike in the middle of a recovery.
            kill_while_starting(&options, random);
        }
        server = server.restart();
        slowest = slowest.max(server.start_time);
        ledger::check(&mut notes, &mut server.client());
    }
    eprintln!("{driver}: slowest restart {slowest:?} with {total} acknowledged writes");
    total
}

fn kill_while_starting(options: &Options, random: &mut Random) {
    let mut child = options.command().spawn().expect("the binary was just built");
    std::thread::sleep(random.duration(Duration::ZERO, Duration::from_millis(40)));
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
}

fn a_first_start_that_is_killed_loses_no_key(driver: Driver) {
    let mut random = Random::announced("kill -9 of a first start");
    let scratch = Scratch::new();
    for _ in 0..setting("BIGPEER_TEST_FIRST_STARTS", FIRST_STARTS) {
        let options = Options::new(driver, scratch.join("data"));
        let mut child = first_start::begin(&options, &mut random);
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        first_start::check(&options);
        fs::remove_dir_all(&options.data).expect("nobody uses it");
    }
}

/// The time is printed and not judged: that is for a benchmark on a quiet machine.
fn a_log_of_100_000_transactions_is_replayed(driver: Driver) {
    const TRANSACTIONS: usize = 100_000;
    const CONNECTIONS: usize = 16;
    const PIPELINED: usize = 8;
    let scratch = Scratch::new();
    let mut server = Options::new(driver, scratch.path()).start();
    let cars = cars();
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (mut client, cars) = (server.client(), &cars);
            scope.spawn(move || {
                let numbers: Vec<_> = (connection..TRANSACTIONS).step_by(CONNECTIONS).collect();
                for numbers in numbers.chunks(PIPELINED) {
                    let mut bytes = Vec::new();
                    for number in numbers {
                        let mut car = cars[number % cars.len()].clone();
                        car["_id"] = json!(number);
                        let statement = "INSERT INTO cars DOCUMENTS (:doc)";
                        bytes.extend(client.request(statement, &json!({"doc": car})));
                    }
                    client.connection.send(&bytes).expect("the server runs");
                    for _ in numbers {
                        let answer = client.connection.receive().expect("the server runs");
                        assert_eq!(answer.status, 200, "{}", answer.complaint());
                    }
                }
            });
        }
    });
    server.kill();
    let server = server.restart();
    eprintln!("{driver}: ready {:?} after {TRANSACTIONS} transactions", server.start_time);
    let rows = server.client().select("SELECT COUNT(*) AS n FROM cars", &json!({}));
    assert_eq!(rows[0]["n"], TRANSACTIONS);
    let last = json!({"id": TRANSACTIONS - 1});
    let rows = server.client().select("SELECT * FROM cars WHERE _id = :id", &last);
    assert_eq!(rows[0]["Name"], cars[(TRANSACTIONS - 1) % cars.len()]["Name"]);
}
