//! The power fails: what was acknowledged by then is on the device.

use std::fs;
use std::time::Duration;

use bigpeer_tests::first_start;
use bigpeer_tests::ledger::{self, Notes};
use bigpeer_tests::load::{Load, found_counter};
use bigpeer_tests::random::Random;
use bigpeer_tests::server::Options;
use bigpeer_tests::suite::Driver;
use bigpeer_tests::volume::{Volume, is_left_out};
use bigpeer_tests::{setting, suite};
use serde_json::json;

suite!(
    "ext4 on a loop device",
    what_was_acknowledged_survives_every_power_cut,
    a_first_start_that_loses_its_power_loses_no_key,
    every_acknowledgement_of_a_lone_client_cost_a_flush,
);

/// How often the power fails for each driver.
const CUTS: u64 = 30;

/// The number of first starts that lose their power for each driver.
const FIRST_STARTS: u64 = 20;

/// A new volume after so many.
const CUTS_PER_VOLUME: u64 = 10;

const WRITERS: usize = 8;

/// So little that a checkpoint is under way at many of the moments.
const CHECKPOINT_AFTER: u64 = 300_000;

const VOLUME_MIB: u64 = 256;

fn what_was_acknowledged_survives_every_power_cut(driver: Driver) {
    if is_left_out("power cuts") {
        return;
    }
    let mut random = Random::announced("power cuts");
    let cuts = setting("BIGPEER_TEST_POWER_CUTS", CUTS);
    let mut acknowledged = 0;
    for first in (0..cuts).step_by(CUTS_PER_VOLUME as usize) {
        acknowledged += cut_repeatedly(driver, CUTS_PER_VOLUME.min(cuts - first), &mut random);
    }
    eprintln!("{driver}: {cuts} power cuts, {acknowledged} acknowledged writes are all there");
}

fn cut_repeatedly(driver: Driver, count: u64, random: &mut Random) -> u64 {
    let volume = Volume::ext4(VOLUME_MIB);
    let options = Options::new(driver, volume.path().join("data"));
    let mut server = options.checkpoint_after(CHECKPOINT_AFTER).start();
    found_counter(&mut server.client());
    let mut notes = Notes::of_writers(WRITERS);
    let mut total = 0;
    for _ in 0..count {
        let before: u64 = notes.iter().map(Notes::acknowledged_count).sum();
        let load = Load::start(&server, notes);
        load.run_for(random.duration(Duration::from_millis(5), Duration::from_millis(200)));
        volume.cut_power();
        // Without its disk the server acknowledges nothing: every writer hears so, and ends by itself.
        notes = load.join();
        server.kill();
        volume.power_on();
        total += notes.iter().map(Notes::acknowledged_count).sum::<u64>() - before;
        server = server.restart();
        ledger::check(&mut notes, &mut server.client());
    }
    total
}

fn a_first_start_that_loses_its_power_loses_no_key(driver: Driver) {
    if is_left_out("power cuts of first starts") {
        return;
    }
    let mut random = Random::announced("power cuts of first starts");
    let volume = Volume::ext4(VOLUME_MIB);
    for _ in 0..setting("BIGPEER_TEST_FIRST_STARTS", FIRST_STARTS) {
        let options = Options::new(driver, volume.path().join("data"));
        let mut child = first_start::begin(&options, &mut random);
        volume.cut_power();
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        volume.power_on();
        first_start::check(&options);
        fs::remove_dir_all(&options.data).expect("nobody uses it");
    }
}

fn every_acknowledgement_of_a_lone_client_cost_a_flush(driver: Driver) {
    const INSERTS: u64 = 1000;
    if is_left_out("counting flushes") {
        return;
    }
    let volume = Volume::ext4(VOLUME_MIB);
    let server = Options::new(driver, volume.path().join("data")).start();
    let mut client = server.client();
    let before = volume.flushes();
    for number in 0..INSERTS {
        let args = json!({"doc": {"_id": number, "text": "one at a time"}});
        client.run("INSERT INTO drops DOCUMENTS (:doc)", &args);
    }
    let flushes = volume.flushes() - before;
    eprintln!("{driver}: {flushes} flushes for {INSERTS} acknowledged INSERTs of one client");
    assert!(flushes >= INSERTS, "{flushes} flushes cannot have made {INSERTS} INSERTs durable");
}
