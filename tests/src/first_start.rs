//! First starts that are cut short, and the start after them.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::random::Random;
use crate::server::Options;

/// The files that a first start makes, in this order; moments near each are drawn as often as near any other.
const MADE: [&str; 6] =
    ["identity", "log", "FORMAT", "first-start.pending.new", "first-start.pending", LAST];

/// The last file that a first start makes.
const LAST: &str = "first-start.json";

/// Begins a first start, and returns its process at a moment drawn at random, at the latest when it has told what it made.
///
/// # Panics
///
/// If the process does not start, or makes nothing.
#[must_use]
pub fn begin(options: &Options, random: &mut Random) -> Child {
    let child = options.command().spawn().expect("the binary was just built");
    let made = options.data.join(MADE[random.below(MADE.len() as u64) as usize]);
    let last = options.data.join(LAST);
    watch(|| made.exists() || last.exists());
    let delay = random.duration(Duration::ZERO, Duration::from_millis(4));
    let seen = Instant::now();
    watch(|| seen.elapsed() >= delay || last.exists());
    child
}

/// Looks without a pause: the moment that is waited for may last for a part of a millisecond.
fn watch(is_there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_there() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the first start makes nothing");
        std::thread::yield_now();
    }
}

/// Starts again after a first start that was cut short. Now there is one app with one key, and the file of the first start
/// opens that app, whichever start made it.
///
/// # Panics
///
/// If it is not so.
pub fn check(options: &Options) {
    let mut server = options.start();
    let text = std::fs::read_to_string(options.data.join(LAST));
    let text = text.unwrap_or_else(|error| {
        panic!("nobody was told the first key: {LAST}: {error}; the start said {}", server.ready)
    });
    let told: Value = serde_json::from_str(&text).expect("the file is JSON");
    let member = |name: &str| told[name].as_str().expect("the file has it").to_owned();
    (server.app, server.key) = (member("app"), member("apiKey"));
    server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
    let apps = server.admin("GET", "/admin/apps", &Value::Null).json();
    assert_eq!(apps["apps"].as_array().map(Vec::len), Some(1), "{apps}");
    let keys = server.admin("GET", &format!("/admin/apps/{}/keys", server.app), &Value::Null);
    assert_eq!(keys.json()["keys"].as_array().map(Vec::len), Some(1), "{}", keys.json());
    let left = options.data.join("first-start.pending");
    assert!(!left.exists(), "a secret lies about that was told");
}
