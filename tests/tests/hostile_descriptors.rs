//! Connections take every descriptor that they can get: whoever was connected before goes on writing.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bigpeer_tests::hostile::{Stop, flood_time, sized};
use bigpeer_tests::hostile_suite;
use bigpeer_tests::server::{Client, Options};
use bigpeer_tests::suite::Driver;
use bigpeer_tests::volume::{Volume, is_left_out};
use serde_json::json;

hostile_suite!("ext4 on a loop device", writes_go_on_while_connections_take_every_descriptor,);

/// A segment is a 64th of it.
const VOLUME_MIB: u64 = 64;

const SEGMENT_BYTES: u64 = (VOLUME_MIB << 20) / 64;

const TEXT_BYTES: usize = 200_000;

/// Connections of the flood that are open at once.
const FLOOD_OPEN: usize = 400;

/// Between two connections of the flood: 2,000 a second.
const FLOOD_PAUSE: Duration = Duration::from_micros(500);

fn writes_go_on_while_connections_take_every_descriptor(driver: Driver) {
    if is_left_out("a flood over a small volume") {
        return;
    }
    for descriptors in [64, 128, 1024] {
        let volume = Volume::ext4(VOLUME_MIB);
        let options = Options::new(driver, volume.path().join("data")).shards(2);
        let mut server = options.descriptors(descriptors).start();
        let mut client = server.client();
        write(&mut client, 0);
        let (stop, opened) = (Stop::default(), AtomicU64::new(0));
        let writes = std::thread::scope(|scope| {
            scope.spawn(|| flood(server.address(), &stop, &opened));
            // Also where a write fails: the scope waits for the flood.
            let _stop = stop.when_dropped();
            write_over_switches(&mut client)
        });
        let opened = opened.into_inner();
        eprintln!("{driver}: {descriptors} descriptors, {opened} connections, {writes} writes");
        assert!(opened > descriptors, "{opened} connections are no flood");
        drop(client);
        assert!(server.terminate().0.success());
    }
}

/// Writes for as long as the flood takes, and over so many segments: every write is taken.
fn write_over_switches(client: &mut Client) -> u64 {
    let (started, switches) = (Instant::now(), sized(4, 20));
    let mut writes = 0;
    while started.elapsed() < flood_time()
        || writes * (TEXT_BYTES as u64) < switches * SEGMENT_BYTES
    {
        writes += 1;
        write(client, writes);
    }
    writes
}

fn write(client: &mut Client, number: u64) {
    let statement = "INSERT INTO pages DOCUMENTS (:doc) ON ID CONFLICT DO UPDATE";
    let text = format!("{number:020}").repeat(TEXT_BYTES / 20);
    let args = json!({"doc": {"_id": number % 8, "text": text}});
    let answer = client.execute(statement, &args).expect("its connection was there before");
    assert_eq!(answer.status, 200, "write {number}: {}", answer.complaint());
}

/// Opens connections as fast as is said, and keeps the newest of them.
fn flood(address: SocketAddr, stop: &Stop, opened: &AtomicU64) {
    let mut open = std::collections::VecDeque::new();
    while !stop.comes_within(FLOOD_PAUSE) {
        if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            opened.fetch_add(1, Ordering::Relaxed);
            open.push_back(stream);
        }
        if open.len() > FLOOD_OPEN {
            open.pop_front();
        }
    }
}
