//! A whole server without a kernel: shards, a virtual disk, and clients that are byte buffers.

use std::collections::VecDeque;

use bigpeer_core::disk::DiskError;
use bigpeer_core::disk_sim::{CommandKind, VirtualDisk};
use bigpeer_core::ident::{BootId, LogId, PartitionId, PeerKey, StoreId, Uuid};
use bigpeer_core::log::LogConfig;
use bigpeer_core::node::{NodeConfig, NodeLimits, RackConfig, SyncIdentity};
use bigpeer_core::rng::Rng;
use bigpeer_core::sync::{BootRow, BootTable};

mod admission;
mod bootstrap;
mod clock;
mod door;
mod leaving;
mod reading;
mod revoked;

use super::*;
use crate::api::Door;
use crate::first_start::Owed;
use crate::secrets::Secret;

const ADMIN_TOKEN: &str = "admin";

fn random(bytes: &mut [u8]) {
    // Distinct, and the same in every run is not asked for: the keys are made of it.
    crate::secrets::os_random(bytes);
}

struct Server {
    shards: Vec<Shard>,
    disk: VirtualDisk,
    shared: Arc<Shared>,
    now: Instant,
    first: Option<Box<FirstStart>>,
    /// Plays the file that keeps what a first start makes, until that is told.
    kept: Option<FirstStart>,
    fatal: Option<String>,
    stopped: u16,
    mail: VecDeque<(u16, Mail)>,
    /// Bodies of statements that wait for the reader of a thread.
    bodies: VecDeque<(usize, u64, Bytes)>,
    readers_work: bool,
    /// Ids of documents that readers find without one.
    rng: Rng,
}

impl Server {
    fn start(disk: VirtualDisk, threads: u16, boot: u8) -> Self {
        Self::start_with(disk, threads, boot, false)
    }

    /// With a thread of its own for the admin door, or without.
    fn start_with(disk: VirtualDisk, threads: u16, boot: u8, has_door_thread: bool) -> Self {
        Self::start_sized(disk, threads, boot, has_door_thread, LogSizes::default())
    }

    /// With a log that makes checkpoints as it is told.
    fn start_sized(
        disk: VirtualDisk,
        threads: u16,
        boot: u8,
        has_door_thread: bool,
        sizes: LogSizes,
    ) -> Self {
        let mut server = Self::prepare(disk, None, threads, boot, has_door_thread, sizes);
        server.run();
        server
    }

    /// The log is open, and nothing has run yet. The directory keeps what an earlier start has told nobody.
    fn prepare(
        mut disk: VirtualDisk,
        mut kept: Option<FirstStart>,
        threads: u16,
        boot: u8,
        has_door_thread: bool,
        sizes: LogSizes,
    ) -> Self {
        let shared = Arc::new(Shared::new(threads));
        let now = Instant { ns: 1 };
        let mut log = open(&mut disk, boot, sizes);
        log.owed = if log.was_empty() {
            kept = Some(FirstStart::new(random));
            kept.clone().map_or(Owed::Nothing, Owed::Make)
        } else {
            kept.clone().map_or(Owed::Nothing, Owed::Tell)
        };
        let mut log = Some(log);
        let boot = BootId(Uuid([boot; 16]));
        let shards = (0..threads + u16::from(has_door_thread)).map(|thread| {
            let config = ShardConfig {
                thread,
                threads,
                has_door_thread,
                partitions: PARTITIONS,
                connection: Arc::new(ConnectionConfig { asks_first: true, ..Default::default() }),
                tls: None,
                admin_tls: None,
                admin_token: AdminToken::for_test(ADMIN_TOKEN),
                gate: Arc::default(),
                random,
                connections_max: 8,
                input_bytes_max: 32 << 20,
                exit_on_log_failure: false,
                has_empty_handler: false,
                has_panic_handler: false,
            };
            let rack = RackConfig { thread, threads, node: node(boot), seed: [thread as u8; 32] };
            let rack = (thread < threads).then(|| Rack::new(rack));
            Shard::new(config, shared.clone(), rack, log.take(), now, WALL)
        });
        let shards = shards.collect();
        let (first, fatal, mail, bodies) = (None, None, VecDeque::new(), VecDeque::new());
        let (stopped, readers_work, rng) = (0, true, Rng::new(&[1; 32], "read"));
        Self {
            shards,
            disk,
            shared,
            now,
            first,
            kept,
            fatal,
            stopped,
            mail,
            bodies,
            readers_work,
            rng,
        }
    }

    /// Runs until the disk has carried out so many commands. True when it had no more to do.
    fn run_commands(&mut self, count: usize) -> bool {
        self.run_with(false);
        for _ in 0..count {
            let Some(done) = self.disk.step() else { return true };
            self.shards[0].begin_turn(self.now, WALL);
            self.shards[0].handle_disk(done);
            self.run_with(false);
        }
        false
    }

    /// Runs until nothing is left to do at this moment.
    fn run(&mut self) {
        self.run_with(true);
    }

    fn run_with(&mut self, disk_works: bool) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            if disk_works && let Some(done) = self.disk.step() {
                is_quiet = false;
                self.shards[0].begin_turn(self.now, WALL);
                self.shards[0].handle_disk(done);
            }
            while let Some((thread, mail)) = self.mail.pop_front() {
                let shard = &mut self.shards[usize::from(thread)];
                shard.begin_turn(self.now, WALL);
                shard.handle_mail(mail);
            }
            if self.readers_work {
                self.read_bodies();
            }
            for index in 0..self.shards.len() {
                is_quiet &= !self.turn(index);
            }
            is_quiet &= self.mail.is_empty() && (self.bodies.is_empty() || !self.readers_work);
        }
    }

    /// Plays the readers beside the threads.
    fn read_bodies(&mut self) {
        for (thread, request, body) in std::mem::take(&mut self.bodies) {
            let shard = &mut self.shards[thread];
            shard.begin_turn(self.now, WALL);
            shard.handle_read(request, crate::reader::read(&body, &mut self.rng));
        }
    }

    fn turn(&mut self, index: usize) -> bool {
        let shard = &mut self.shards[index];
        shard.begin_turn(self.now, WALL);
        shard.run_on();
        shard.settle();
        // A statement that has had its turn and said nothing goes on in the next.
        let mut did = shard.poll_timeout().is_some_and(|at| at <= self.now);
        while let Some(output) = shard.poll_output() {
            did = true;
            match output {
                // The clients fetch for themselves.
                ShardOutput::Service(conn) => drop(shard.wants_read(conn)),
                ShardOutput::Mail { thread, mail } => self.mail.push_back((thread, mail)),
                ShardOutput::Disk(op, command) => self.disk.submit(op, command),
                ShardOutput::Ready(first) => (self.first, self.kept) = (first, None),
                ShardOutput::Read(request, body) => self.bodies.push_back((index, request, body)),
                ShardOutput::Purge => {}
                ShardOutput::Stop => unreachable!("nobody asked for that"),
                ShardOutput::Stopped => self.stopped += 1,
                ShardOutput::Fatal(cause) => self.fatal = Some(cause),
            }
        }
        did
    }

    /// Lets the first thread and the disk work, while mail to the others lies.
    fn run_first(&mut self) {
        loop {
            let done = self.disk.step();
            let is_idle = done.is_none();
            if let Some(done) = done {
                self.shards[0].begin_turn(self.now, WALL);
                self.shards[0].handle_disk(done);
            }
            let mail = std::mem::take(&mut self.mail);
            let (ours, others): (VecDeque<_>, _) = mail.into_iter().partition(|(to, _)| *to == 0);
            let had_mail = !ours.is_empty();
            self.mail = others;
            for (_, mail) in ours {
                self.shards[0].handle_mail(mail);
            }
            if !self.turn(0) && !had_mail && is_idle {
                return;
            }
        }
    }

    fn connect(&mut self, thread: usize, door: Door) -> Client {
        let shard = &mut self.shards[thread];
        shard.begin_turn(self.now, WALL);
        Client { thread, conn: shard.open_connection(door).expect("there is room") }
    }

    fn send(&mut self, client: Client, bytes: &[u8]) {
        let shard = &mut self.shards[client.thread];
        shard.begin_turn(self.now, WALL);
        shard.handle_bytes(client.conn, bytes);
    }

    /// What the client can read at once.
    fn receive(&mut self, client: Client) -> String {
        let mut out = Vec::new();
        loop {
            let shard = &mut self.shards[client.thread];
            let count = shard.poll_transmit(client.conn, &mut out, 64 * 1024);
            if count == 0 {
                return String::from_utf8(out).expect("text");
            }
            shard.begin_turn(self.now, WALL);
            shard.handle_sent(client.conn, count);
            self.run();
        }
    }

    /// What is there without anything happening.
    fn receive_now(&mut self, client: Client) -> String {
        let mut out = Vec::new();
        self.shards[client.thread].poll_transmit(client.conn, &mut out, 64 * 1024);
        String::from_utf8(out).expect("text")
    }

    /// A thousand documents of 4 kB: more than an answer that is collected.
    fn insert_many(&mut self, client: Client, first: &FirstStart) {
        let filler = "x".repeat(4000);
        for index in 0..20 {
            let documents: Vec<_> = (0..50)
                .map(|at| format!("{{\"_id\":{},\"t\":\"{filler}\"}}", index * 50 + at))
                .collect();
            let body = format!(
                "{{\"statement\":\"INSERT INTO cars DOCUMENTS (:d)\",\"args\":{{\"d\":[{}]}}}}",
                documents.join(",")
            );
            let answer = self.execute(client, first, &body);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }

    fn execute(&mut self, client: Client, first: &FirstStart, body: &str) -> String {
        self.send(client, request(first, body).as_bytes());
        self.run();
        self.receive(client)
    }

    fn health(&mut self, client: Client, what: &str) -> String {
        let request = format!("GET /health/{what} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.send(client, request.as_bytes());
        self.run();
        self.receive(client)
    }

    /// Passes what this server's threads hold on to the next start.
    fn crash(mut self) -> VirtualDisk {
        self.disk.crash();
        self.disk
    }
}

/// Opens the log of a start, and goes no further.
fn open(disk: &mut VirtualDisk, boot: u8, sizes: LogSizes) -> OpenLog {
    let mut config = LogConfig::new(BootId(Uuid([boot; 16])), [7; 32]);
    config.segment_bytes = 1 << 20;
    let at = Now { mono: Instant { ns: 1 }, wall: WALL, ..Now::default() };
    let execute = |op, command| {
        disk.submit(op, command);
        disk.complete(op).expect("it was just submitted")
    };
    open_log(config, PARTITIONS, sizes, || at, execute).expect("the log is whole")
}

#[derive(Clone, Copy)]
struct Client {
    thread: usize,
    conn: ConnId,
}

const PARTITIONS: u16 = 4;
const WALL: WallMs = WallMs(1_800_000_000_000);

fn node(boot: BootId) -> NodeConfig {
    let row = BootRow { boot, first: Txn(1), end: None };
    let boots = BootTable { log: LogId::default(), rows: vec![row], purge_floor: Txn(0) };
    let peer_key = PeerKey([5; 32]);
    let identity = SyncIdentity { store: StoreId::default(), boots, peer_key, name: "test".into() };
    NodeConfig {
        partition: PartitionId(0),
        partitions: PARTITIONS,
        boot,
        site: peer_key.site(),
        epoch: u64::from(boot.0.0[0]) << 16,
        seed: [1; 32],
        pretend_cold: false,
        limits: NodeLimits::default(),
        identity: Arc::new(identity),
        is_device: false,
    }
}

fn request(first: &FirstStart, body: &str) -> String {
    let (app, key) = (first.app, first.api_key.reveal());
    format!(
        "POST /{app}/api/v5/store/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request at the admin door.
fn administer(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const INSERT: &str = r#"{"statement":"INSERT INTO cars DOCUMENTS (:d)","args":{"d":{"_id":"1"}}}"#;
const SELECT: &str = r#"{"statement":"SELECT * FROM cars"}"#;

#[test]
fn a_thread_that_holds_answers_does_not_sleep() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    server.run();
    server.send(client, request(&first, r#"{"statement":""}"#).as_bytes());
    assert!(server.shards[0].has_output(), "the nodes have answered, and nothing else wakes it");
    server.run();
    assert!(!server.shards[0].has_output());
    assert!(server.receive(client).starts_with("HTTP/1.1 400 "));
}

#[test]
fn the_first_start_makes_an_app_and_a_later_one_does_not() {
    for threads in [1, 3] {
        let mut server = Server::start(VirtualDisk::new(&[1; 32]), threads, 1);
        let first = server.first.take().expect("the first start");
        assert_eq!(server.shared.phase(), crate::shared::Phase::Ready);
        let client = server.connect(0, Door::Data);
        let answer = server.execute(client, &first, INSERT);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut again = Server::start(server.crash(), 2, 2);
        assert!(again.first.is_none(), "nothing is shown twice");
        let client = again.connect(1, Door::Data);
        let answer = again.execute(client, &first, SELECT);
        assert!(answer.contains("\"items\":[{\"_id\":\"1\"}]"), "{answer}");
    }
}

#[test]
fn a_write_is_answered_only_once_it_is_durable() {
    let mut server = Server::start(VirtualDisk::new(&[2; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(1, Door::Data);
    server.send(client, request(&first, INSERT).as_bytes());
    let durable = server.shared.durable();
    server.run_with(false);
    assert_eq!(server.receive_now(client), "");
    assert_eq!(server.shared.durable(), durable);
    server.run();
    assert!(server.shared.durable() > durable);
    assert!(server.receive(client).starts_with("HTTP/1.1 200 "));
}

#[test]
fn after_a_failed_sync_reads_go_on_and_writes_are_refused() {
    let mut server = Server::start(VirtualDisk::new(&[3; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    server.disk.fail_next(CommandKind::Sync, DiskError::Io("gone".to_owned()));
    let answer = server.execute(client, &first, INSERT);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("unknown"), "{answer}");
    let answer = server.execute(client, &first, INSERT);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let answer = server.execute(client, &first, SELECT);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let ready = "GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n";
    server.send(client, ready.as_bytes());
    let answer = server.receive(client);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("log has failed"), "{answer}");
}

#[test]
fn a_failed_log_is_reported_dead_after_a_minute_and_the_process_ends_when_told() {
    let mut server = Server::start(VirtualDisk::new(&[3; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    server.disk.fail_next(CommandKind::Sync, DiskError::Io("gone".to_owned()));
    let answer = server.execute(client, &first, INSERT);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("unknown"), "{answer}");
    assert!(server.health(client, "live").starts_with("HTTP/1.1 200 "));
    server.now.ns += 60_000_000_000;
    let answer = server.health(client, "live");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("log_failed"), "{answer}");
    for shard in &mut server.shards {
        shard.begin_turn(server.now, WALL);
        shard.drain();
    }
    assert!(server.shards[0].is_closed(client.conn));
    server.shards[0].remove_connection(client.conn);
    server.run();
    assert_eq!(server.stopped, 2, "a log that has failed has nothing to seal");
}

#[test]
fn a_start_that_cannot_mend_the_end_of_its_log_says_that_the_newest_writes_may_be_lost() {
    let mut server = Server::start(VirtualDisk::new(&[3; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    let insert = "{\"statement\":\"INSERT INTO cars DOCUMENTS ({'_id': 1})\"}";
    assert!(server.execute(client, &first, insert).starts_with("HTTP/1.1 200 "));
    let mut disk = server.disk;
    disk.kill();
    disk.fail_next(CommandKind::Sync, DiskError::Full);
    let mut server = Server::start(disk, 1, 2);
    let client = server.connect(0, Door::Data);
    let ready = server.health(client, "ready");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("\"disk_full\""), "{ready}");
    assert!(ready.contains("the newest writes that they show are not yet known"), "{ready}");
    let select = "{\"statement\":\"SELECT * FROM cars\"}";
    let answer = server.execute(client, &first, select);
    assert!(answer.contains("{\"_id\":1}"), "it is read all the same: {answer}");
    server.now.ns += 2_000_000_000;
    assert!(server.execute(client, &first, insert).contains("Conflict"), "it is mended");
    let ready = server.health(client, "ready");
    assert!(ready.ends_with("{\"status\":\"ready\"}"), "{ready}");
}

#[test]
fn a_full_disk_is_said_and_left_when_there_is_space() {
    let mut server = Server::start(VirtualDisk::new(&[3; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    let ready = server.health(client, "ready");
    assert!(ready.ends_with("{\"status\":\"ready\"}"), "{ready}");
    server.disk.set_capacity(2 << 20);
    let text = "x".repeat(100_000);
    let insert = format!("{{\"statement\":\"INSERT INTO cars DOCUMENTS ({{'text': '{text}'}})\"}}");
    let mut count = 0;
    while server.execute(client, &first, &insert).starts_with("HTTP/1.1 200 ") {
        count += 1;
        assert!(count < 100, "more than the disk holds");
    }
    let ready = server.health(client, "ready");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("\"read_only\""), "{ready}");
    assert!(ready.contains("\"code\":\"disk_full\",\"since\":\"2027-01-15T08:00:00Z\""), "{ready}");
    let metrics = crate::metrics::render(&server.shared, WALL);
    assert!(metrics.contains("bigpeer_state{state=\"read_only\"} 1\n"), "{metrics}");
    let delete = "{\"statement\":\"DELETE FROM cars LIMIT 1\"}";
    let answer = server.execute(client, &first, delete);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.disk.set_capacity(u64::MAX);
    server.now.ns += 2_000_000_000;
    assert!(server.execute(client, &first, &insert).starts_with("HTTP/1.1 200 "));
    let ready = server.health(client, "ready");
    assert!(ready.ends_with("{\"status\":\"ready\"}"), "{ready}");
}

#[test]
fn a_large_answer_is_streamed_and_stops_while_nobody_reads() {
    let mut server = Server::start(VirtualDisk::new(&[4; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    server.insert_many(client, &first);
    server.send(client, request(&first, SELECT).as_bytes());
    server.run();
    let entry = server.shards[0].connections.get(client.conn.0).expect("open");
    let held = match &entry.machine {
        connection::Machine::Http(machine) => machine.pending_output_bytes(),
        connection::Machine::Framed(_) => unreachable!("it speaks HTTP"),
    };
    assert!(held < 1024 * 1024, "{held} bytes wait for a client that does not read");
    let answer = server.receive(client);
    assert!(answer.contains("Transfer-Encoding: chunked"));
    assert!(answer.ends_with("0\r\n\r\n"), "the answer ends");
    assert_eq!(answer.matches("\"_id\":").count(), 1000);
    assert_eq!(server.shards[0].pending.len(), 0);
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut server = Server::start(VirtualDisk::new(&[5; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(1, Door::Data);
    server.send(client, request(&first, INSERT).as_bytes());
    server.shards[1].handle_reset(client.conn);
    server.shards[1].remove_connection(client.conn);
    server.run();
    let shard = &server.shards[1];
    assert!(shard.connections.is_empty() && shard.pending.is_empty());
}

#[test]
fn admin_routes_make_and_revoke_keys() {
    let mut server = Server::start(VirtualDisk::new(&[6; 32]), 2, 1);
    let mut first = server.first.take().expect("the first start");
    let (admin, data) = (server.connect(0, Door::Admin), server.connect(1, Door::Data));
    let path = format!("/admin/apps/{}/keys", first.app);
    server.send(admin, administer("POST", &path, r#"{"name":"second"}"#).as_bytes());
    server.run();
    let answer = server.receive(admin);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let key = answer.split("\"apiKey\":\"").nth(1).and_then(|rest| rest.split('"').next());
    first.api_key = Secret::for_test(key.expect("a key"));
    assert!(server.execute(data, &first, SELECT).starts_with("HTTP/1.1 200 "));
    server.send(admin, administer("DELETE", &format!("{path}/second"), "").as_bytes());
    server.run();
    assert!(server.receive(admin).starts_with("HTTP/1.1 200 "));
    assert!(server.execute(data, &first, SELECT).starts_with("HTTP/1.1 401 "));
}

#[test]
fn a_draining_server_answers_what_was_asked_and_seals_the_log() {
    let mut server = Server::start(VirtualDisk::new(&[7; 32]), 3, 1);
    let first = server.first.take().expect("the first start");
    let (busy, idle) = (server.connect(1, Door::Data), server.connect(2, Door::Data));
    server.send(busy, request(&first, INSERT).as_bytes());
    server.run_with(false);
    for shard in &mut server.shards {
        shard.begin_turn(server.now, WALL);
        shard.drain();
        assert!(shard.open_connection(Door::Data).is_none());
    }
    assert!(server.shards[2].is_closed(idle.conn) && !server.shards[1].is_closed(busy.conn));
    server.shards[2].remove_connection(idle.conn);
    server.run();
    assert_eq!(server.stopped, 0, "a client waits for its answer");
    let answer = server.receive(busy);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close"),
        "{answer}"
    );
    assert!(server.shards[1].is_closed(busy.conn));
    server.shards[1].remove_connection(busy.conn);
    server.run();
    assert_eq!(server.stopped, 3);
}

#[test]
fn a_read_sees_what_was_acknowledged_before_it_arrived_also_late_in_a_turn() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let (writer, reader) = (server.connect(0, Door::Data), server.connect(1, Door::Data));
    let mut is_shown = false;
    for id in 0..16 {
        // The turn of the reader's thread has begun, and its sockets are looked at one after the other.
        server.shards[1].begin_turn(server.now, WALL);
        let insert = format!(r#"{{"statement":"INSERT INTO c DOCUMENTS ({{'_id': {id}}})"}}"#);
        server.send(writer, request(&first, &insert).as_bytes());
        server.run_first();
        if !server.receive_now(writer).contains("200 OK") {
            // The document belongs to the other thread.
            server.run();
            server.receive(writer);
            continue;
        }
        is_shown = true;
        let select = format!(r#"{{"statement":"SELECT * FROM c WHERE _id = {id}"}}"#);
        server.shards[1].handle_bytes(reader.conn, request(&first, &select).as_bytes());
        server.run();
        let answer = server.receive(reader);
        assert!(answer.contains(&format!(r#""items":[{{"_id":{id}}}]"#)), "{answer}");
    }
    assert!(is_shown, "one of the documents belongs to the first thread");
}
