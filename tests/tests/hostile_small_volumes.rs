//! Volumes that are small, or full: what is constant fits for ever, and what does not fit can be read and deleted.

use bigpeer_tests::hostile::sized;
use bigpeer_tests::hostile_suite;
use bigpeer_tests::server::{Client, Options};
use bigpeer_tests::suite::Driver;
use bigpeer_tests::volume::{Volume, is_left_out};
use serde_json::json;

hostile_suite!("ext4 on a loop device", updates_of_a_constant_set_never_fill_a_small_volume,);

/// Documents that are written again and again.
const DOCUMENTS: u64 = 64;

/// Bytes of each.
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
