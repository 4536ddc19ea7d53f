//! What a reconnect costs, in bytes and in documents read.

use super::host::key;
use super::pair::{DEVICE, Pair, SERVER};

fn pair_of(count: u64) -> Pair {
    let mut pair = Pair::new(1, &["cars"]);
    (0..count).for_each(|n| pair.host(SERVER).write(&key("cars", n), 0, n));
    pair.sync();
    pair.disconnect();
    // The device applies what it got after its last position was written.
    pair.sync();
    pair.disconnect();
    (pair.frames, pair.bytes) = (0, 0);
    (pair.host(DEVICE).docs_read, pair.host(SERVER).docs_read) = (0, 0);
    pair
}

#[test]
fn a_reconnect_with_nothing_new_costs_a_kilobyte() {
    let mut pair = pair_of(1_000);
    pair.sync();
    assert!(pair.bytes <= 1_024, "{} bytes", pair.bytes);
    assert_eq!(pair.frames, 6, "Hello, Subs and Start from each side");
    assert_eq!(pair.host(SERVER).docs_read + pair.host(DEVICE).docs_read, 0);
}

#[test]
fn one_change_on_each_side_of_ten_thousand_costs_what_changed() {
    let mut pair = pair_of(10_000);
    pair.host(SERVER).write(&key("cars", 4_000), 1, 1);
    pair.host(DEVICE).write(&key("cars", 7_000), 1, 1);
    pair.sync();
    pair.assert_converged();
    assert!(pair.bytes <= 4_096, "{} bytes", pair.bytes);
    let read = pair.host(SERVER).docs_read + pair.host(DEVICE).docs_read;
    assert!(read <= 4, "{read} documents read");
}

#[test]
fn many_commits_while_an_update_is_in_flight_fold_into_one() {
    let mut pair = pair_of(10);
    pair.sync();
    (0..50).for_each(|n| pair.host(SERVER).write(&key("cars", 1), 0, n));
    let before = pair.host(SERVER).docs_read;
    pair.run();
    assert_eq!(pair.host(SERVER).docs_read - before, 1);
    pair.assert_converged();
}
