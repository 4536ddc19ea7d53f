//! Strangers in numbers: bodies without end, frames before a preamble, connections without a word. Whoever has a key is
//! answered meanwhile, what strangers hold is bounded, and what was refused is counted.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bigpeer_tests::hostile::{Stop, Waits, flood_time, sized};
use bigpeer_tests::hostile_suite;
use bigpeer_tests::http::{Connection, is_hang_up, request};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Client, Options, Server};
use bigpeer_tests::suite::Driver;
use bigpeer_tests::system::play_another_machine;
use bigpeer_tests::wait_until;
use bigpeer_tests::websocket::{PING, WebSocket, upgrade};
use serde_json::{Value, json};

hostile_suite!(
    "the file system of temporary files, loopback",
    bodies_of_strangers_are_refused_at_their_heads,
    slow_bodies_of_clients_share_one_bound_and_honest_ones_are_answered,
    frames_before_the_preamble_hold_8_kib,
    strangers_that_spoke_at_length_and_wait_hold_little,
    a_flood_of_connections_puts_out_strangers_and_nobody_else,
    an_address_has_as_many_connections_as_it_may,
    sessions_that_never_greet_are_closed,
    a_wrong_token_is_refused_before_the_upgrade,
);

/// What strangers may add to the memory of a server, beside what its allocator keeps for the next ones.
const STRANGERS_MIB_MAX: u64 = 48;

/// What may stay of a flood beside a fifth of what was there before: the tables of many connections keep their size.
const KEPT_MIB_MAX: u64 = 24;

/// What all unfinished input may take: the server's `INPUT_BYTES_MAX`, and as much again that the allocator keeps of
/// bodies given up while others come.
const INPUT_MIB_MAX: u64 = 2 * 128;

/// Between two looks at the memory of the server.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Between two pieces of a slow sender: its rate is what makes it an enemy.
const SENDERS_PAUSE: Duration = Duration::from_millis(100);

/// A server with one document.
struct Setting {
    server: Server,
    _scratch: Scratch,
}

impl Setting {
    fn new(driver: Driver, arguments: &[&str]) -> Self {
        let scratch = Scratch::new();
        let server = Options::new(driver, scratch.path()).shards(2).arguments(arguments).start();
        server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": "kept"}}));
        Self { server, _scratch: scratch }
    }

    /// The head of a request to the API with these fields.
    fn head(&self, fields: &str) -> Vec<u8> {
        let app = &self.server.app;
        let path = format!("/{app}/api/v5/store/execute");
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    }

    fn with_key(&self, fields: &str) -> Vec<u8> {
        self.head(&format!("Authorization: Bearer {}\r\n{fields}", self.server.key))
    }

    fn resident_mib(&self) -> u64 {
        self.server.resident_bytes() >> 20
    }

    fn metric(&self, name: &str) -> u64 {
        let answer = self.server.admin("GET", "/metrics", &Value::Null);
        let text = String::from_utf8(answer.body).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Reads for so long, one read after the other.
    fn read_for(client: &mut Client, time: Duration) -> Waits {
        Waits::during(time, || {
            let rows = client.select("SELECT * FROM cars WHERE _id = 'kept'", &json!({}));
            assert_eq!(rows.len(), 1);
        })
    }

    /// Reads beside a flood of another server, which does nothing but accept and close, and prints the limit of the
    /// machine: the enemy takes its processors in either case.
    fn beside_a_flood_of_another(&self, driver: Driver) {
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("bound");
        let mut client = self.server.client();
        let quiet = Self::read_for(&mut client, flood_time() / 4);
        let (stop, opened) = (&Stop::default(), &AtomicUsize::new(0));
        let beside = std::thread::scope(|scope| {
            // It closes the door at its end: what connects then is refused.
            let accepting = scope.spawn(move || {
                play_another_machine();
                while !stop.is_told() {
                    drop(other.accept());
                }
            });
            // It connects until the other has ended, which waits for a connection to look at the end.
            scope.spawn(move || {
                play_another_machine();
                while !stop.is_told() || !accepting.is_finished() {
                    let is_open = TcpStream::connect(address).is_ok();
                    opened.fetch_add(usize::from(is_open), Ordering::Relaxed);
                }
            });
            let _stop = stop.when_dropped();
            Self::read_for(&mut client, flood_time() / 2)
        });
        let opened = opened.load(Ordering::Relaxed);
        assert!(opened > 0, "the other server is flooded");
        eprintln!(
            "{driver}, {opened} connections to another server: quiet {quiet}; beside it {beside}; p99 {:.1} x",
            beside.p99_ratio(&quiet)
        );
    }

    /// Reads without and beside an enemy, and prints both; the enemy runs until it is told to stop.
    fn beside(&self, driver: Driver, what: &str, enemy: impl Fn(&Stop) + Sync) -> u64 {
        let mut client = self.server.client();
        let quiet = Self::read_for(&mut client, flood_time() / 2);
        let before = self.resident_mib();
        let (stop, most) = (Stop::default(), AtomicUsize::new(0));
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| {
                play_another_machine();
                enemy(&stop);
            });
            scope.spawn(|| {
                while !stop.comes_within(LOOK_PAUSE) {
                    most.fetch_max(self.resident_mib() as usize, Ordering::Relaxed);
                }
            });
            // The enemy also stops when a read fails.
            let _stop = stop.when_dropped();
            Self::read_for(&mut client, flood_time())
        });
        let most = most.load(Ordering::Relaxed) as u64;
        eprintln!(
            "{driver}, {what}: quiet {quiet}; beside it {beside}; p99 {:.1} x",
            beside.p99_ratio(&quiet)
        );
        assert!(beside.count() > 0, "honest reads are answered beside {what}");
        let ended = Instant::now();
        wait_until("what strangers held goes back to the system", || {
            (self.resident_mib() <= before * 12 / 10 + KEPT_MIB_MAX).then_some(())
        });
        eprintln!(
            "{driver}, {what}: {before} MiB before, at most {most} MiB, {} MiB {:.1?} after",
            self.resident_mib(),
            ended.elapsed()
        );
        most.saturating_sub(before)
    }

    fn check_unharmed(mut self) {
        let rows = self.server.client().select("SELECT * FROM cars", &json!({}));
        assert_eq!(rows, [json!({"_id": "kept"})]);
        let (status, log) = self.server.terminate();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains("panicked") && !log.contains("\"level\":\"error\""), "{log}");
    }
}

fn bodies_of_strangers_are_refused_at_their_heads(driver: Driver) {
    const STRANGERS: usize = 150;
    const BODY_BYTES: usize = 8 << 20;
    let setting = Setting::new(driver, &[]);
    let length = format!("Content-Length: {BODY_BYTES}\r\n");
    for (head, status) in [
        (setting.head(&length), 401),
        (setting.head(&format!("Authorization: Bearer wrong\r\n{length}")), 401),
        (setting.head(&format!("{length}Expect: 100-continue\r\n")), 401),
        (format!("POST /nothing HTTP/1.1\r\nHost: x\r\n{length}\r\n").into_bytes(), 404),
        (format!("POST /health/live HTTP/1.1\r\nHost: x\r\n{length}\r\n").into_bytes(), 405),
        (format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{length}\r\n").into_bytes(), 413),
    ] {
        let mut connection = Connection::open(setting.server.address()).expect("the server runs");
        // No byte of the body is sent: the answer waits for none.
        let answer = connection.exchange(&head).expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.complaint());
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")));
    }
    let refused = AtomicUsize::new(0);
    let head = setting.head(&length);
    let grown = setting.beside(driver, "150 bodies of 8 MiB without a key", |stop| {
        let address = setting.server.address();
        let mut held: Vec<TcpStream> = Vec::new();
        while !stop.comes_within(SENDERS_PAUSE) {
            held.retain_mut(|stream| {
                let sent = stream.write_all(&[b' '; 16 * 1024]);
                if sent.is_err() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                sent.is_ok()
            });
            while held.len() < STRANGERS {
                let mut stream = TcpStream::connect(address).expect("the server listens");
                let _ = stream.write_all(&head);
                held.push(stream);
            }
        }
    });
    let refused = refused.load(Ordering::Relaxed);
    eprintln!("{driver}: {refused} strangers were hung up on, {grown} MiB for the others");
    assert!(refused >= STRANGERS, "each of them is hung up on: {refused}");
    assert!(grown <= STRANGERS_MIB_MAX, "{grown} MiB for strangers");
    setting.check_unharmed();
}

fn slow_bodies_of_clients_share_one_bound_and_honest_ones_are_answered(driver: Driver) {
    const SENDERS: usize = 60;
    const BODY_BYTES: usize = 8 << 20;
    let setting = Setting::new(driver, &[]);
    let head = setting.with_key(&format!("Content-Length: {BODY_BYTES}\r\n"));
    let piece = vec![b' '; 256 * 1024];
    let (answered, broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let grown = setting.beside(driver, "60 bodies of 8 MiB that never end", |stop| {
        let address = setting.server.address();
        let mut streams: Vec<(TcpStream, usize)> = (0..SENDERS)
            .map(|_| {
                let mut stream = TcpStream::connect(address).expect("the server listens");
                stream.set_write_timeout(Some(Duration::from_millis(50))).expect("a socket");
                stream.write_all(&head).expect("the server reads");
                (stream, 0)
            })
            .collect();
        while !stop.comes_within(SENDERS_PAUSE / 10) {
            streams.retain_mut(|(stream, sent)| {
                // One byte of each body never comes.
                let left = (BODY_BYTES - 1 - *sent).min(piece.len());
                match stream.write(&piece[..left]) {
                    Ok(count) => *sent += count,
                    Err(error) if is_hang_up(&error) => {
                        broken.fetch_add(1, Ordering::Relaxed);
                        return false;
                    }
                    Err(_) => {}
                }
                true
            });
        }
        for (mut stream, _) in streams {
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
            let mut text = [0; 12];
            if stream.read_exact(&mut text).is_ok() && text.ends_with(b" 503") {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let shed = setting.metric("bigpeer_input_shed_total");
    let (answered, broken) = (answered.into_inner(), broken.into_inner());
    eprintln!("{driver}: {shed} shed ({answered} read their 503, {broken} hung up), {grown} MiB");
    assert!(shed > 0, "480 MiB do not fit");
    assert!(grown <= INPUT_MIB_MAX, "{grown} MiB for unfinished bodies");
    let large = "x".repeat(4 << 20);
    let args = json!({"doc": {"_id": "large", "text": large}});
    setting.server.client().run("INSERT INTO pages DOCUMENTS (:doc)", &args);
    setting.check_unharmed();
}

fn frames_before_the_preamble_hold_8_kib(driver: Driver) {
    const STRANGERS: usize = 150;
    const FRAME_BYTES: u32 = 8 << 20;
    let setting = Setting::new(driver, &[]);
    let address = peer_address(&setting.server);
    let closed = AtomicUsize::new(0);
    let grown = setting.beside(driver, "150 frames of 8 MiB before a preamble", |stop| {
        let mut held: Vec<TcpStream> = Vec::new();
        while !stop.comes_within(SENDERS_PAUSE) {
            held.retain_mut(|stream| {
                let sent = stream.write_all(&[b'{'; 16 * 1024]);
                if sent.is_err() {
                    closed.fetch_add(1, Ordering::Relaxed);
                }
                sent.is_ok()
            });
            while held.len() < STRANGERS {
                let mut stream = TcpStream::connect(address).expect("the server listens");
                let _ = stream.write_all(&FRAME_BYTES.to_le_bytes());
                held.push(stream);
            }
        }
    });
    let closed = closed.load(Ordering::Relaxed);
    eprintln!("{driver}: {closed} strangers were hung up on, {grown} MiB for the others");
    assert!(closed >= STRANGERS, "each of them is hung up on: {closed}");
    assert!(grown <= STRANGERS_MIB_MAX, "{grown} MiB for strangers");
    setting.check_unharmed();
}

fn strangers_that_spoke_at_length_and_wait_hold_little(driver: Driver) {
    const STRANGERS: u64 = 300;
    /// The last of a few bursts is read at once, by a buffer that has grown to it.
    const BURSTS: usize = 6;
    const REQUESTS: usize = 8;
    /// Of each connection; a read of 32 KiB that is kept waiting for more would be twice that.
    const EACH_KIB_MAX: u64 = 16;
    let setting = Setting::new(driver, &[]);
    let filler = "x".repeat(4000);
    let burst = request("GET", "/health/live", &[("X-Filler", &filler)], b"").repeat(REQUESTS);
    let speak = || {
        let mut connection = Connection::open(setting.server.address()).expect("it listens");
        for _ in 0..BURSTS {
            connection.send(&burst).expect("the server reads");
            for _ in 0..REQUESTS {
                assert_eq!(connection.receive().expect("an answer").status, 200);
            }
        }
        connection
    };
    drop(speak());
    let before = setting.server.resident_bytes() >> 10;
    let held: Vec<_> = (0..STRANGERS).map(|_| speak()).collect();
    let grown = (setting.server.resident_bytes() >> 10).saturating_sub(before);
    eprintln!("{driver}: {grown} KiB for {} strangers that wait", held.len());
    assert!(grown <= STRANGERS * EACH_KIB_MAX, "{grown} KiB");
    drop(held);
    setting.check_unharmed();
}

fn a_flood_of_connections_puts_out_strangers_and_nobody_else(driver: Driver) {
    let setting = Setting::new(driver, &["--connections-max", "64"]);
    setting.beside_a_flood_of_another(driver);
    let mut honest: Vec<_> = (0..8).map(|_| setting.server.client()).collect();
    for client in &mut honest {
        client.select("SELECT * FROM cars", &json!({}));
    }
    let honest = Mutex::new(honest);
    let (opened, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let grown = setting.beside(driver, "connections without a word", |stop| {
        let mut held = Vec::new();
        while !stop.is_told() {
            match TcpStream::connect(setting.server.address()) {
                Ok(stream) => {
                    opened.fetch_add(1, Ordering::Relaxed);
                    held.push(stream);
                }
                Err(error) => assert!(is_hang_up(&error), "{error}"),
            }
            if held.len() > sized(300, 500) {
                held.drain(..100);
                // Administrators have places of their own.
                assert_eq!(setting.metric("bigpeer_ready"), 1);
                let look = looks.fetch_add(1, Ordering::Relaxed);
                let mut honest = honest.lock().expect("no holder of this lock has panicked");
                let turn = look % honest.len();
                assert_eq!(honest[turn].select("SELECT * FROM cars", &json!({})).len(), 1);
            }
        }
    });
    let opened = opened.load(Ordering::Relaxed);
    let refused = |reason: &str| {
        setting.metric(&format!("bigpeer_connections_refused_total{{reason=\"{reason}\"}}"))
    };
    // On a busy machine the flood itself may close its connections before the server has seen as many as there are places.
    let connect = |_| TcpStream::connect(setting.server.address()).expect("it listens");
    let held: Vec<_> = (0..300).map(connect).collect();
    let idle = wait_until("strangers make room", || Some(refused("idle")).filter(|idle| *idle > 0));
    drop(held);
    let limit = refused("limit");
    let looks = looks.into_inner();
    eprintln!(
        "{driver}: {opened} opened, {idle} put out, {limit} refused, {grown} MiB, {looks} looks at the metrics"
    );
    assert!(looks > 0, "the admin door is answered meanwhile");
    assert!(grown <= STRANGERS_MIB_MAX, "{grown} MiB for strangers");
    let mut honest = honest.into_inner().expect("no holder of this lock has panicked");
    for client in &mut honest {
        let rows = client.select("SELECT * FROM cars", &json!({}));
        assert_eq!(rows.len(), 1, "whoever has shown a key is never put out");
    }
    setting.check_unharmed();
}

fn an_address_has_as_many_connections_as_it_may(driver: Driver) {
    let setting = Setting::new(driver, &["--connections-per-address", "4"]);
    let metric = "bigpeer_connections_refused_total{reason=\"address\"}";
    let served = || {
        let mut client = setting.server.try_client().ok()?;
        client.execute("SELECT * FROM cars", &json!({})).ok().map(|_| client)
    };
    // The server may not have seen yet that an earlier connection is closed.
    let mut open: Vec<_> =
        (0..4).map(|_| wait_until("there is a place for a connection", served)).collect();
    let before = setting.metric(metric);
    let mut refused = Connection::open(setting.server.address()).expect("the kernel accepts");
    assert!(refused.is_closed_in_silence().expect("a close"));
    assert_eq!(setting.metric(metric), before + 1, "the admin door is not counted");
    drop(open.pop());
    open.push(wait_until("the place of a closed connection is free", served));
    drop(open);
    drop(wait_until("all places are free", served));
    setting.check_unharmed();
}

fn sessions_that_never_greet_are_closed(driver: Driver) {
    const SILENT: usize = 20;
    let setting = Setting::new(driver, &[]);
    let begun = Instant::now();
    let mut streams: Vec<_> = (0..SILENT)
        .map(|_| Connection::open(peer_address(&setting.server)).expect("the server listens"))
        .collect();
    let app = &setting.server.app;
    let preamble = json!({"app": app, "token": setting.server.token}).to_string();
    for stream in &mut streams[SILENT / 2..] {
        stream.send(&frame(preamble.as_bytes())).expect("the server reads");
    }
    let mut sockets: Vec<_> = (0..SILENT).map(|_| WebSocket::open(&setting.server)).collect();
    for socket in &mut sockets {
        socket.send(PING, b"still here").expect("the server reads");
    }
    for mut stream in streams {
        let closed = stream.is_closed_in_silence();
        assert!(closed.is_ok() || closed.is_err_and(|error| is_hang_up(&error)));
    }
    for socket in sockets {
        let _ = socket.close_code();
    }
    eprintln!("{driver}: {} silent sessions were closed after {:?}", 2 * SILENT, begun.elapsed());
    setting.check_unharmed();
}

fn a_wrong_token_is_refused_before_the_upgrade(driver: Driver) {
    let setting = Setting::new(driver, &[]);
    for bearer in ["wrong", "", &setting.server.key[1..]] {
        let (_, answer) = upgrade(&setting.server, bearer).expect("the server runs");
        assert_eq!(answer.status, 401, "{}", answer.complaint());
    }
    let unknown = "/11111111-2222-4333-8444-555555555555/_ditto";
    let bearer = format!("Bearer {}", setting.server.token);
    let fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Authorization", &bearer),
    ];
    let mut connection = Connection::open(setting.server.address()).expect("the server runs");
    let answer = connection.exchange(&request("GET", unknown, &fields, b"")).expect("an answer");
    assert_eq!(answer.status, 404, "{}", answer.complaint());
    // A stream of frames with a wrong token ends before its greeting.
    let preamble = json!({"app": setting.server.app, "token": "wrong"}).to_string();
    let mut stream = Connection::open(peer_address(&setting.server)).expect("the server runs");
    stream.send(&frame(preamble.as_bytes())).expect("the server reads");
    let closed: io::Result<bool> = stream.is_closed_in_silence();
    assert!(closed.is_ok() || closed.is_err_and(|error| is_hang_up(&error)));
    setting.check_unharmed();
}

fn peer_address(server: &Server) -> SocketAddr {
    let text = server.ready["peerListen"].as_str().expect("the ready line names every listener");
    text.parse().expect("an address")
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_le_bytes()[..], payload].concat()
}
