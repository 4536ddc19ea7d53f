//! Sync: two sessions between a server and a device, as the frames that they exchange, and what each side then
//! keeps about the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use bigpeer_core::auth::{ApiKey, CatalogOp, Permissions, hash, key_prefix};
use bigpeer_core::node::{Credential, NodeLimits, Request, SessionId, SessionInput, SessionOpen};
use bigpeer_core::time::WallMs;
use bigpeer_core::value::{Object, Value};
use bytes::Bytes;

use super::process::Process;
use super::transactions::APP;
use super::{Vectors, agree, parsed};

const KEY: &str = "abcdefghij-secret";
const HELLO: u8 = 0x81;
const SUBS: u8 = 0x82;
const ACK: u8 = 0x8B;
const NEED: u8 = 0x86;
const CHUNK: u8 = 0x88;

struct Pair {
    server: Process,
    device: Process,
    session: SessionId,
    /// Each frame with its sender, in the order of delivery.
    wire: Vec<(&'static str, Bytes)>,
}

impl Pair {
    fn new() -> Self {
        Self::with_device(Process::new("tablet 7", 0xD1, true))
    }

    fn with_device(device: Process) -> Self {
        let mut server = Process::new("server", 0x51, false);
        let put = CatalogOp::PutApp { app: APP, name: "shop".into(), development_token: None };
        server.request(Request::Catalog(vec![put]));
        let mut pair = Self { server, device, session: SessionId(0), wire: Vec::new() };
        pair.put_key(r#"{"cars": ["true"]}"#);
        pair
    }

    /// The device may read cars and boats, and write this.
    fn put_key(&mut self, write: &str) {
        let permissions = format!(
            r#"{{"read": {{"queriesByCollection": {{"boats": ["true"], "cars": ["true"]}}}}, "write": {{"queriesByCollection": {write}}}}}"#
        );
        let permissions =
            Permissions::from_value(&parsed(&permissions)).expect("valid permissions");
        let key = ApiKey {
            name: "device".into(),
            description: None,
            prefix: key_prefix(KEY).into(),
            hash: hash(KEY),
            expires: WallMs(u64::MAX),
            permissions: Arc::new(permissions),
        };
        self.server.request(Request::Catalog(vec![CatalogOp::PutKey { app: APP, key }]));
    }

    /// Meetings of a device that names one refused document, and more are refused: under a key, under another, and
    /// under a third no more.
    fn meet_with_a_short_list() -> Self {
        let limits = NodeLimits { owed_max: 1, ..NodeLimits::default() };
        let mut pair = Self::with_device(Process::with_limits("tablet 8", 0xD2, true, limits));
        for id in ["a", "b", "c"] {
            let insert = format!("INSERT INTO boats DOCUMENTS ({{'_id': '{id}'}})");
            pair.device.execute(APP, &insert);
        }
        for write in [r#"{"cars": ["true"]}"#, "{}", r#"{"boats": ["true"]}"#] {
            let name = "device".into();
            pair.server.request(Request::Catalog(vec![CatalogOp::DeleteKey { app: APP, name }]));
            pair.put_key(write);
            pair.connect("SELECT * FROM cars");
            pair.disconnect();
        }
        pair
    }

    fn connect(&mut self, subscription: &str) {
        self.session.0 += 1;
        let open = |credential| SessionInput::Open(SessionOpen { app: APP, credential });
        self.server.session(self.session, open(Credential::Bearer(Some(KEY.into()))));
        let queries = vec![(subscription.into(), Object::default())];
        self.device.session(self.session, SessionInput::Subscribe(queries));
        self.device.session(self.session, open(Credential::Local));
        self.exchange();
    }

    fn disconnect(&mut self) {
        self.server.session(self.session, SessionInput::Closed);
        self.device.session(self.session, SessionInput::Closed);
    }

    fn exchange(&mut self) {
        loop {
            let (down, up) = (self.server.frames.pop_front(), self.device.frames.pop_front());
            if down.is_none() && up.is_none() {
                return;
            }
            if let Some(frame) = down {
                self.wire.push(("server", frame.clone()));
                self.device.session(self.session, SessionInput::Frame(frame));
            }
            if let Some(frame) = up {
                self.wire.push(("device", frame.clone()));
                self.server.session(self.session, SessionInput::Frame(frame));
            }
        }
    }

    /// A server after a meeting, with something of everything that a checkpoint keeps.
    fn met_once() -> Self {
        let mut pair = Self::new();
        let server = &mut pair.server;
        server.execute(APP, "INSERT INTO boats DOCUMENTS ({'_id': 'b', 'sails': 2})");
        server.execute(
            APP,
            "INSERT INTO cars DOCUMENTS ({'_id': 1, 'Origin': 'Japan'}), ({'_id': 2})",
        );
        pair.device.execute(APP, "INSERT INTO cars DOCUMENTS ({'_id': 'own', 'Origin': 'Japan'})");
        pair.connect("SELECT * FROM cars WHERE Origin = 'Japan'");
        let server = &mut pair.server;
        server.execute(APP, "UPDATE cars SET Origin = 'Korea' WHERE _id = 1");
        server.execute(APP, "DELETE FROM cars WHERE _id = 2");
        server.execute(APP, "EVICT FROM boats WHERE _id = 'b'");
        pair
    }

    /// Two meetings with everything that a session has to say.
    fn meet() -> Self {
        let mut pair = Self::new();
        let (server, device) = (&mut pair.server, &mut pair.device);
        server.execute(APP, "INSERT INTO cars DOCUMENTS ({'_id': 1, 'Origin': 'Japan'}), ({'_id': 2, 'Origin': 'USA'})");
        device.execute(APP, "INSERT INTO cars DOCUMENTS ({'_id': 'own', 'Origin': 'Japan'})");
        device.execute(APP, "INSERT INTO boats DOCUMENTS ({'_id': 'refused'})");
        pair.connect("SELECT * FROM cars WHERE Origin = 'Japan'");
        pair.server.execute(APP, "UPDATE cars SET Origin = 'Korea' WHERE _id = 1");
        pair.server.execute(APP, "DELETE FROM cars WHERE _id = 'own'");
        pair.device.session(pair.session, SessionInput::Probe);
        pair.exchange();
        pair.disconnect();

        pair.device.execute(APP, "UPDATE cars SET color = 'red' WHERE _id = 1");
        pair.server.execute(APP, "UPDATE cars SET year = 1999 WHERE _id = 1");
        pair.connect("SELECT * FROM cars");
        pair.device.session(pair.session, SessionInput::Probe);
        pair.exchange();
        pair.server.execute(APP, "DELETE FROM cars WHERE _id = 2");
        pair.device.execute(APP, "INSERT INTO boats DOCUMENTS ({'_id': 'refused too'})");
        pair.exchange();
        let long = "x".repeat(600_000);
        pair.device.execute(
            APP,
            &format!("INSERT INTO cars DOCUMENTS ({{'_id': 'long', 'text': '{long}'}})"),
        );
        pair.exchange();
        pair.device.sleep(31);
        pair.exchange();
        pair.device.session(pair.session, SessionInput::Close);
        pair.exchange();
        assert!(pair.device.is_closed && pair.server.is_closed, "the goodbye was heard");
        pair
    }

    /// The first frame of each kind that each side sent, and those that say more than the first.
    fn chosen(&self) -> Vec<(String, Bytes)> {
        let mut seen = BTreeSet::new();
        let mut chosen = Vec::new();
        for (sender, frame) in &self.wire {
            let kind = if frame.starts_with(b"BPG1") { 0 } else { frame[0] };
            if frame.len() > FRAME_BYTES_MAX {
                continue;
            }
            let counts = if TELLING.contains(&kind) { 6 } else { 1 };
            let taken = (0..counts).find(|count| seen.insert((*sender, kind, *count)));
            if let Some(count) = taken {
                let more = if count == 0 { String::new() } else { format!(" {}", count + 1) };
                chosen.push((format!("{sender} {kind:02x}{more}"), frame.clone()));
            }
        }
        chosen
    }
}

#[test]
fn frames_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    for (name, frame) in Pair::meet().chosen() {
        vectors.push(name, &frame[..]);
    }
    vectors.check("frames");
}

#[test]
fn remote_records_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    let (pair, short) = (Pair::meet(), Pair::meet_with_a_short_list());
    for (side, records) in [
        ("server", &pair.server.remote_records),
        ("device", &pair.device.remote_records),
        ("device with a short list", &short.device.remote_records),
    ] {
        let mut distinct = BTreeSet::new();
        let new = records.iter().filter(|record| distinct.insert(record.to_vec()));
        for (index, record) in new.enumerate() {
            vectors.push(format!("{side} {}", index + 1), &record[..]);
        }
    }
    vectors.check("remote_records");
}

#[test]
fn every_kind_of_frame_is_among_them() {
    let kinds: BTreeSet<u8> = Pair::meet()
        .chosen()
        .into_iter()
        .filter(|(_, frame)| !frame.starts_with(b"BPG1"))
        .map(|(_, frame)| frame[0])
        .collect();
    let all: BTreeSet<u8> = (0x81..=0x8D).chain([0x0E, 0x0F, 0x90, 0x11]).collect();
    assert_eq!(kinds, all);
}

#[test]
fn the_decoder_reads_the_frames_that_were_sent() {
    agree("frames", "device 00", "greeting", "d1".repeat(32));
    agree("frames", "device 81", "app", APP.to_string());
    agree("frames", "device 81", "role", "device");
    agree("frames", "device 81", "device_name", "tablet 7");
    agree("frames", "server 81", "role", "server");
    agree("frames", "server 82", "subscriptions", Value::Null);
    // The device keeps a nonce of the server's store from their first session, and a cursor.
    agree("frames", "device 81 2", "kept_store", "52525252-5252-5252-5252-525252525252");
    agree("frames", "device 82 2", "cursor.log", "53535353-5353-5353-5353-535353535353");
    agree(
        "frames",
        "device 82",
        "subscriptions.0.text",
        "SELECT * FROM cars WHERE Origin = 'Japan'",
    );
    agree("frames", "server 8b 4", "outcomes.0.outcome.rejected", "forbidden");
    agree("frames", "device 90", "reason", "shutdown");
}

/// Longer frames are chunks of one long text.
const FRAME_BYTES_MAX: usize = 4_096;
/// Kinds of which the first is not enough.
const TELLING: [u8; 5] = [HELLO, SUBS, ACK, NEED, CHUNK];

#[test]
fn checkpoint_parts_are_written_as_they_were() {
    let mut vectors = Vectors::default();
    let names = ["head", "boats", "cars"];
    let parts = Pair::met_once().server.snapshot();
    assert_eq!(parts.len(), names.len());
    for (name, part) in names.iter().zip(parts) {
        vectors.push(*name, part);
    }
    vectors.check("checkpoint_parts");
    agree("checkpoint_parts", "head", "remotes.0.peer", "d1".repeat(32));
    agree("checkpoint_parts", "boats", "entries.0.id", "b");
    agree("checkpoint_parts", "cars", "collection", "cars");
}
