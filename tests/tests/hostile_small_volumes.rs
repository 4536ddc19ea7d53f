//! Volumes that are small, or full: what is constant fits for ever, and what does not fit can be read and deleted.

use std::fs::{self, File};
use std::io::Write;

use bigpeer_tests::hostile::sized;
use bigpeer_tests::hostile_suite;
use bigpeer_tests::http::{Answer, Connection, request};
use bigpeer_tests::server::{Client, Options, Server};
use bigpeer_tests::suite::Driver;
use bigpeer_tests::volume::{Volume, is_left_out};
use bigpeer_tests::wait_until;
use serde_json::json;

hostile_suite!(
    "ext4 and btrfs on loop devices",
    updates_of_a_constant_set_never_fill_a_small_volume,
    a_full_volume_is_opened_read_and_freed_from_inside,
    a_full_copy_on_write_volume_loses_nothing_and_is_written_again,
    a_failed_log_ends_with_the_process_and_says_so,
    a_read_only_volume_is_opened_read_and_written_again_once_it_can_be,
    a_volume_that_turns_read_only_is_read_on,
);

/// Documents that are written again and again.
const DOCUMENTS: u64 = 64;

/// The text of each, in bytes.
const TEXT_BYTES: u64 = 60_000;

/// How many times its size is written to a volume.
const TIMES: u64 = 10;

/// Requests that are sent ahead of their answers: a device that syncs 60 kB at a time is not what is tested.
const AHEAD: u64 = 8;

fn updates_of_a_constant_set_never_fill_a_small_volume(driver: Driver) {
    if is_left_out("small volumes") {
        return;
    }
    for mib in sized(vec![64], vec![64, 256, 1024]) {
        let volume = Volume::ext4(mib);
        let server = Options::new(driver, volume.path().join("data")).start();
        let mut client = server.client();
        let rounds = TIMES * (mib << 20) / TEXT_BYTES / AHEAD;
        for round in 0..rounds {
            update(&mut client, round);
        }
        let mut server = server.restart();
        let rows = server.client().select("SELECT COUNT(*) AS n FROM pages", &json!({}));
        assert_eq!(rows, [json!({"n": DOCUMENTS})]);
        assert!(server.terminate().0.success());
        eprintln!("{driver}: {} updates of {DOCUMENTS} documents on {mib} MiB", rounds * AHEAD);
    }
}

/// Writes the next few documents, each of which must be taken.
fn update(client: &mut Client, round: u64) {
    let statement = "INSERT INTO pages DOCUMENTS (:doc) ON ID CONFLICT DO UPDATE";
    let mut bytes = Vec::new();
    for number in round * AHEAD..(round + 1) * AHEAD {
        // Not to be compressed away, and different each time.
        let text = format!("{number:020}").repeat((TEXT_BYTES / 20) as usize);
        let args = json!({"doc": {"_id": number % DOCUMENTS, "text": text}});
        bytes.extend(client.request(statement, &args));
    }
    client.connection.send(&bytes).expect("the server runs");
    for _ in 0..AHEAD {
        let answer = client.connection.receive().expect("an answer");
        assert_eq!(answer.status, 200, "round {round}: {}", answer.complaint());
    }
}

fn a_full_volume_is_opened_read_and_freed_from_inside(driver: Driver) {
    if is_left_out("a full volume") {
        return;
    }
    for mib in sized(vec![64], vec![64, 256, 1024]) {
        let volume = Volume::ext4(mib);
        let server = Options::new(driver, volume.path().join("data")).start();
        let count = fill_with_documents(&mut server.client());
        fill_with_others(&volume);
        let mut server = server.restart();
        let ready = wait_until("the server has seen that its disk is full", || {
            let ready = health(&server, "ready");
            (ready.json()["status"] == "read_only").then_some(ready)
        });
        assert_eq!((ready.status, &ready.json()["reasons"][0]["code"]), (200, &json!("disk_full")));
        let metrics = server.admin("GET", "/metrics", &json!(null));
        let metrics = String::from_utf8_lossy(&metrics.body);
        assert!(metrics.contains("state{state=\"read_only\"} 1"));
        let number = |name: &str| -> u64 {
            let value = metrics.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse().ok()).expect("the metric is there")
        };
        let (free, reserve) =
            (number("bigpeer_disk_free_bytes "), number("bigpeer_disk_reserve_bytes "));
        assert!(
            free < reserve && number("bigpeer_disk_size_bytes ") <= mib << 20,
            "{free} {reserve}"
        );
        let rows = server.client().select("SELECT COUNT(*) AS n FROM pages", &json!({}));
        assert_eq!(rows, [json!({"n": count})]);
        server.kill();
        fs::remove_file(volume.path().join("others")).expect("ours");

        // Without others the volume is full of documents alone: those go from inside.
        let server = server.restart();
        let mut client = server.client();
        fill_with_documents(&mut client);
        client.run("DELETE FROM pages WHERE _id < :n", &json!({"n": count / 2}));
        wait_until("what was deleted makes room", || {
            (insert(&mut client, 0).status == 200).then_some(())
        });
        wait_until("the server says so", || {
            (health(&server, "ready").json()["status"] == "ready").then_some(())
        });
        eprintln!("{driver}: {count} documents of {TEXT_BYTES} bytes on {mib} MiB");
    }
}

fn a_full_copy_on_write_volume_loses_nothing_and_is_written_again(driver: Driver) {
    if is_left_out("a full copy-on-write volume") {
        return;
    }
    let volume = Volume::btrfs();
    let mut server = Options::new(driver, volume.path().join("data")).start();
    let mut client = server.client();
    (0..20).for_each(|number| assert_eq!(insert(&mut client, number).status, 200));
    fill_with_others(&volume);
    // The log has made its segment, and a write into it finds no space all the same. What it carries is answered when
    // that is durable, and nothing more is taken until then.
    let mut early = server.client();
    let bytes: Vec<u8> = (20..28).flat_map(|number| inserting(&mut early, number)).collect();
    early.connection.send(&bytes).expect("the server runs");
    let is_full = |ready: &Answer| ready.json()["reasons"][0]["code"] == "disk_full";
    wait_until("the server has seen that its disk is full", || {
        is_full(&health(&server, "ready")).then_some(())
    });
    for number in 100..300 {
        let answer = insert(&mut client, number);
        assert_eq!(answer.status, 507, "{}", answer.complaint());
        assert!(is_full(&health(&server, "ready")), "it stays so between attempts");
    }
    fs::remove_file(volume.path().join("others")).expect("ours");
    let early: Vec<u16> =
        (20..28).map(|_| early.connection.receive().expect("an answer").status).collect();
    assert!(early.iter().all(|status| [200, 507].contains(status)), "{early:?}");
    let taken = early.iter().filter(|status| **status == 200).count() as u64;
    wait_until("the server writes again by itself", || {
        (insert(&mut client, 300).status == 200).then_some(())
    });
    assert_eq!(health(&server, "ready").json()["status"], "ready");
    server.kill();
    let server = server.restart();
    let rows = server.client().select("SELECT COUNT(*) AS n FROM pages", &json!({}));
    assert_eq!(rows, [json!({"n": 20 + taken + 1})]);
    eprintln!("{driver}: {taken} of 8 were under way when the volume was full");
}

fn a_failed_log_ends_with_the_process_and_says_so(driver: Driver) {
    if is_left_out("a failed log") {
        return;
    }
    for exits in [false, true] {
        let volume = Volume::ext4(64);
        let mut options = Options::new(driver, volume.path().join("data"));
        options.exits_on_log_failure = exits;
        let mut server = options.start();
        let mut client = server.client();
        assert_eq!(insert(&mut client, 1).status, 200);
        volume.cut_power();
        let answer = insert(&mut client, 2);
        assert_eq!(answer.status, 503, "{}", answer.complaint());
        let status = if exits {
            server.wait_for_end()
        } else {
            assert_eq!(health(&server, "ready").json()["reasons"][0]["code"], "log_failed");
            assert_eq!(health(&server, "live").status, 200, "for a minute");
            server.terminate().0
        };
        assert_eq!(status.code(), Some(4));
    }
}

fn a_read_only_volume_is_opened_read_and_written_again_once_it_can_be(driver: Driver) {
    if is_left_out("a read-only volume") {
        return;
    }
    let volume = Volume::ext4(64);
    let mut server = Options::new(driver, volume.path().join("data")).start();
    assert_eq!(insert(&mut server.client(), 1).status, 200);
    // Killed, not stopped: what no header proves durable would be written once more.
    server.kill();
    volume.remount(true);
    let mut server = server.restart();
    assert_read_only(&server);
    let mut client = server.client();
    assert_eq!(client.select("SELECT COUNT(*) AS n FROM pages", &json!({})), [json!({"n": 1})]);
    let answer = insert(&mut client, 2);
    assert_eq!(answer.status, 503, "{}", answer.complaint());
    assert!(answer.complaint().contains("read-only"), "{}", answer.complaint());
    volume.remount(false);
    wait_until("the server writes again by itself", || {
        (insert(&mut client, 2).status == 200).then_some(())
    });
    wait_until("the server says so", || {
        (health(&server, "ready").json()["status"] == "ready").then_some(())
    });
    assert!(server.terminate().0.success());
}

fn a_volume_that_turns_read_only_is_read_on(driver: Driver) {
    if is_left_out("a volume that turns read-only") {
        return;
    }
    let volume = Volume::ext4(64);
    let mut server = Options::new(driver, volume.path().join("data")).start();
    let mut client = server.client();
    assert_eq!(insert(&mut client, 1).status, 200);
    volume.find_error();
    // The one that meets it may be on the disk or not: its client is told when that is known.
    let number = 2;
    let statement =
        client.request("INSERT INTO pages DOCUMENTS (:doc)", &json!({"doc": {"_id": number}}));
    client.connection.send(&statement).expect("the server runs");
    assert_read_only(&server);
    let mut other = server.client();
    assert_eq!(insert(&mut other, 3).status, 503);
    assert_eq!(other.select("SELECT COUNT(*) AS n FROM pages", &json!({})), [json!({"n": 1})]);
    let status = server.terminate().0;
    assert_eq!(status.code(), Some(4), "what was under way has an unknown outcome");
}

/// Waits until the server has seen that its volume takes no writes, and says so everywhere.
fn assert_read_only(server: &Server) {
    let ready = wait_until("the server has seen that its volume is read-only", || {
        let ready = health(server, "ready");
        (ready.json()["status"] == "read_only").then_some(ready)
    });
    let code = &ready.json()["reasons"][0]["code"];
    assert_eq!((ready.status, code), (200, &json!("read_only_volume")));
    let metrics = server.admin("GET", "/metrics", &json!(null));
    assert!(String::from_utf8_lossy(&metrics.body).contains("state{state=\"read_only\"} 1"));
}

/// Writes documents until the disk takes no more; returns how many there are.
fn fill_with_documents(client: &mut Client) -> u64 {
    let rows = client.select("SELECT COUNT(*) AS n FROM pages", &json!({}));
    let mut count = rows[0]["n"].as_u64().expect("a count");
    loop {
        let answer = insert(client, count);
        if answer.status == 507 {
            return count;
        }
        assert_eq!(answer.status, 200, "{}", answer.complaint());
        count += 1;
    }
}

fn insert(client: &mut Client, number: u64) -> Answer {
    let bytes = inserting(client, number);
    client.connection.exchange(&bytes).expect("the server runs")
}

fn inserting(client: &mut Client, number: u64) -> Vec<u8> {
    let text = format!("{number:020}").repeat((TEXT_BYTES / 20) as usize);
    client.request(
        "INSERT INTO pages DOCUMENTS (:doc)",
        &json!({"doc": {"_id": number, "text": text}}),
    )
}

/// Somebody else takes all that is left of the volume.
fn fill_with_others(volume: &Volume) {
    let mut file = File::create(volume.path().join("others")).expect("a name is free");
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn health(server: &Server, what: &str) -> Answer {
    let mut connection = Connection::open(server.address()).expect("the server runs");
    let bytes = request("GET", &format!("/health/{what}"), &[], b"");
    connection.exchange(&bytes).expect("an answer")
}
