//! Starting and ending: any number of shards on one directory, a graceful stop, and what stands in the way.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use bigpeer_tests::binary::{bigpeer, printed};
use bigpeer_tests::http::{Connection, is_hang_up, request};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Options, Server};
use bigpeer_tests::suite::Driver;
use bigpeer_tests::volume::{Volume, is_left_out};
use bigpeer_tests::{suite, wait_until};
use serde_json::{Value, json};

suite!(
    "the file system of temporary files, and a tmpfs of 48 MiB",
    a_directory_opens_with_any_number_of_shards,
    a_stop_answers_what_was_asked_and_exits_0,
    a_second_process_on_one_directory_names_the_first,
    a_port_in_use_says_what_to_do,
    a_directory_that_cannot_be_used_says_what_to_do,
    a_full_disk_refuses_writes_and_nothing_else,
    a_panic_in_a_shard_ends_the_process_and_loses_nothing,
);

const DOCUMENTS: usize = 500;

fn a_directory_opens_with_any_number_of_shards(driver: Driver) {
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.path());
    let mut server = options.clone().shards(1).start();
    for number in 0..DOCUMENTS {
        let args = json!({"doc": {"_id": number, "n": number % 7, "x": 0.1 * number as f64}});
        server.client().run("INSERT INTO items DOCUMENTS (:doc)", &args);
    }
    let expected = answers(&server);
    for (shards, is_killed) in [(3, false), (1, true), (3, true), (2, false)] {
        if is_killed {
            server.kill();
        } else {
            assert!(server.terminate().0.success());
        }
        server = server.restart_with(&options.clone().shards(shards));
        assert_eq!(answers(&server), expected, "with {shards} shards");
        server.client().run("UPDATE items SET touched = true WHERE n = 3", &json!({}));
        server.client().run("UPDATE items UNSET touched WHERE n = 3", &json!({}));
    }
}

/// What no number of shards may change, down to the last digit of a sum of floats.
fn answers(server: &Server) -> Vec<Vec<Value>> {
    let statements = [
        "SELECT COUNT(*) AS n, SUM(x) AS x FROM items",
        "SELECT n, COUNT(*) AS c, SUM(x) AS x, AVG(x) AS a FROM items GROUP BY n ORDER BY n",
        "SELECT * FROM items ORDER BY x DESC LIMIT 20 OFFSET 3",
        "SELECT * FROM items WHERE _id = 77",
        "SELECT _id FROM items WHERE n = 5 ORDER BY _id",
    ];
    statements.iter().map(|statement| server.client().select(statement, &json!({}))).collect()
}

fn a_stop_answers_what_was_asked_and_exits_0(driver: Driver) {
    const ASKED: usize = 16;
    let scratch = Scratch::new();
    let mut server = Options::new(driver, scratch.path()).start();
    let mut idle = Connection::open(server.address()).expect("the server runs");
    let mut client = server.client();
    let mut bytes = Vec::new();
    for number in 0..ASKED {
        let args = json!({"doc": {"_id": number}});
        bytes.extend(client.request("INSERT INTO last DOCUMENTS (:doc)", &args));
    }
    client.connection.send(&bytes).expect("the server runs");
    // With the first answer, all that was sent in one piece has been read.
    assert_eq!(client.connection.receive().expect("an answer").status, 200);
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let mut acknowledged = 1;
    while let Ok(answer) = client.connection.receive() {
        acknowledged += usize::from(answer.status == 200);
    }
    assert!(idle.is_closed_in_silence().expect("a close"));
    let server = server.restart();
    let rows = server.client().select("SELECT COUNT(*) AS n FROM last", &json!({}));
    let count = rows[0]["n"].as_u64().expect("a count");
    assert_eq!(count, acknowledged as u64, "all that was read is answered, and only that is there");
    assert_eq!(acknowledged, ASKED, "a graceful stop gives up nothing that it has read");
}

fn a_second_process_on_one_directory_names_the_first(driver: Driver) {
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.path());
    let mut server = options.start();
    let refused = options.try_start().expect_err("one process per directory");
    let pid = server.pid().to_string();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains(&format!("in use by process {pid}")), "{}", refused.stderr);
    assert!(refused.stderr.contains("--data"), "{}", refused.stderr);
    assert!(server.is_running());
    server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
}

fn a_port_in_use_says_what_to_do(driver: Driver) {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let server = Options::new(driver, scratch.path()).start();
    for option in ["--listen", "--peer-listen", "--admin-listen"] {
        let mut command = Command::new(bigpeer());
        command.args(["serve", "--driver", driver.name(), "--data"]).arg(other.path());
        for free in ["--listen", "--peer-listen", "--admin-listen"] {
            let taken = server.address().to_string();
            command.args([free, if free == option { &taken } else { "127.0.0.1:0" }]);
        }
        let output = command.stdin(Stdio::null()).output().expect("the binary was just built");
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("choose another with {option}")), "{text}");
        assert!(text.contains(&server.address().to_string()), "{text}");
    }
}

fn a_directory_that_cannot_be_used_says_what_to_do(driver: Driver) {
    let scratch = Scratch::new();
    let file = scratch.join("file");
    std::fs::write(&file, "not a directory").expect("temporary files can be written");
    let refused = Options::new(driver, &file).try_start().expect_err("it is a file");
    assert!(refused.stderr.contains("--data"), "{}", refused.stderr);
    let refused = Options::new(driver, scratch.path()).try_start().expect_err("it is foreign");
    assert!(refused.stderr.contains("choose an empty one"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
}

fn a_full_disk_refuses_writes_and_nothing_else(driver: Driver) {
    const BALLAST_BYTES: usize = 24 << 20;
    if is_left_out("a full disk") {
        return;
    }
    let volume = Volume::in_memory(48);
    let ballast = volume.path().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("there is room for it");
    let mut server = Options::new(driver, volume.path().join("data")).start();
    let mut client = server.client();
    let text = "x".repeat(200_000);
    let mut insert = |number: u64| {
        let args = json!({"doc": {"_id": number, "text": text}});
        client.execute("INSERT INTO pages DOCUMENTS (:doc)", &args).expect("the server runs")
    };
    let mut count = 0;
    let refusal = loop {
        let answer = insert(count);
        if answer.status != 200 {
            break answer;
        }
        count += 1;
        assert!(count < 1000, "more than the disk holds");
    };
    assert_eq!(refusal.status, 507, "{}", refusal.complaint());
    assert!(count > 0 && refusal.complaint().contains("space"), "{}", refusal.complaint());
    let rows =
        |server: &Server| server.client().select("SELECT COUNT(*) AS n FROM pages", &json!({}));
    assert_eq!(
        rows(&server),
        [json!({"n": count})],
        "reads go on, and the refused write is not there"
    );

    std::fs::remove_file(&ballast).expect("ours");
    // The server looks again after a second.
    wait_until("with space, writes go on", || (insert(count).status == 200).then_some(()));
    server.kill();
    let server = server.restart();
    assert_eq!(rows(&server), [json!({"n": count + 1})]);
}

fn a_panic_in_a_shard_ends_the_process_and_loses_nothing(driver: Driver) {
    const WRITERS: usize = 4;
    const SIGABRT: i32 = 6;
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.path());
    let mut server = options.clone().shards(2).arguments(&["--test-panic"]).start();
    // More reads in flight than the thread's task that panics: their buffers are the kernel's meanwhile.
    let mut clients: Vec<_> = (0..WRITERS).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.run("INSERT INTO kept DOCUMENTS (:doc)", &json!({"doc": {"_id": number}}));
    }
    let path = format!("/{}/api/v5/test/panic", server.app);
    let mut enemy = Connection::open(server.address()).expect("the server runs");
    enemy.send(&request("POST", &path, &[], b"{}")).expect("the server runs");
    let gone = enemy.receive().expect_err("half a change is never answered");
    assert!(is_hang_up(&gone), "{gone}");
    let (status, log) = server.wait();
    assert_eq!(status.signal(), Some(SIGABRT), "{status}: {log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["\"thread\":\"shard-", "bench.rs", "a test asked for it"] {
        assert!(lines[0].contains(part), "`{part}` is not in: {}", lines[0]);
    }
    let server = server.restart_with(&options);
    let rows = server.client().select("SELECT COUNT(*) AS n FROM kept", &json!({}));
    assert_eq!(rows, [json!({"n": WRITERS})]);
}
