//! A server in this process: the engine of the core on a virtual disk, behind real sockets on the loopback.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod engine;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bigpeer_connection::{
    Config, Event, FramedConnection, Request, RequestId, Response, SendError, ServerConnection,
};
use bigpeer_core::node::{Credential, SessionId, SessionInput, SessionOpen};
use bigpeer_core::value::{Value, json};
use bigpeer_peer::{AppId, Object, Peer, PeerConfig, PeerStatus};
use bytes::Bytes;

use engine::ServerEngine;
pub(crate) use engine::{APP, BOATS_KEY, TOKEN};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a thread. Dropping it breaks its connections.
pub(crate) struct TestServer {
    pub(crate) websocket: SocketAddr,
    pub(crate) framed: SocketAddr,
    orders: Sender<Order>,
    pings: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Execute(String, Sender<String>),
    /// Break all connections.
    Cut,
    /// Take connections, or break them at once.
    Accept(bool),
    Stop,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let websocket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let framed = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addresses = [&websocket, &framed].map(|it| it.local_addr().expect("it is bound"));
        let (orders, inbox) = channel();
        let pings = Arc::new(AtomicU64::new(0));
        let count = pings.clone();
        let thread = std::thread::spawn(move || Loop::new([websocket, framed], inbox, count).run());
        let [websocket, framed] = addresses;
        Self { websocket, framed, orders, pings, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.websocket)
    }

    pub(crate) fn framed_url(&self) -> String {
        format!("tcp://{}", self.framed)
    }

    /// How many pings peers have sent: one that hears nothing for a while sends one.
    pub(crate) fn pings(&self) -> u64 {
        self.pings.load(Ordering::Relaxed)
    }

    /// Runs a statement that must succeed, and gives its rows.
    pub(crate) fn rows(&self, statement: &str) -> String {
        let (reply, answer) = channel();
        self.order(Order::Execute(statement.to_owned(), reply));
        answer.recv_timeout(PATIENCE).expect("the server answers")
    }

    pub(crate) fn cut(&self) {
        self.order(Order::Cut);
    }

    pub(crate) fn accept(&self, takes: bool) {
        self.order(Order::Accept(takes));
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the server runs");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server has panicked");
        }
    }
}

enum Machine {
    Http(Box<ServerConnection>),
    Framed(Box<FramedConnection>),
}

macro_rules! either {
    ($machine:expr, $it:ident => $call:expr) => {
        match $machine {
            Machine::Http($it) => $call,
            Machine::Framed($it) => $call,
        }
    };
}

struct Guest {
    session: SessionId,
    socket: TcpStream,
    machine: Machine,
    is_open: bool,
    queue: Vec<Bytes>,
    is_over: bool,
}

struct Loop {
    listeners: [TcpListener; 2],
    orders: Receiver<Order>,
    engine: ServerEngine,
    guests: Vec<Guest>,
    session_next: u64,
    takes: bool,
    config: Arc<Config>,
    pings: Arc<AtomicU64>,
}

/// The first byte of a ping.
const PING: u8 = 0x0E;

impl Loop {
    fn new(listeners: [TcpListener; 2], orders: Receiver<Order>, pings: Arc<AtomicU64>) -> Self {
        for listener in &listeners {
            listener.set_nonblocking(true).expect("a socket");
        }
        let (engine, guests) = (ServerEngine::new(), Vec::new());
        let config = Arc::new(Config::default());
        Self { listeners, orders, engine, guests, session_next: 0, takes: true, config, pings }
    }

    fn run(mut self) {
        loop {
            self.engine.settle();
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Execute(statement, reply) => {
                        let _ = reply.send(self.engine.rows(&statement));
                    }
                    Order::Cut => self.cut(),
                    Order::Accept(takes) => self.takes = takes,
                    Order::Stop => return,
                }
            }
            self.accept();
            for index in 0..self.guests.len() {
                self.serve(index);
            }
            self.engine.settle();
            self.carry_frames();
            self.guests.retain(|guest| !guest.is_over);
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn cut(&mut self) {
        for guest in self.guests.drain(..) {
            self.engine.session(guest.session, SessionInput::Closed);
        }
    }

    fn accept(&mut self) {
        for index in 0..2 {
            let Ok((socket, _)) = self.listeners[index].accept() else { continue };
            if !self.takes {
                continue;
            }
            socket.set_nonblocking(true).expect("a socket");
            let (config, now) = (self.config.clone(), self.engine.mono());
            let machine = if index == 0 {
                Machine::Http(Box::new(ServerConnection::new(config, None, now).expect("no TLS")))
            } else {
                Machine::Framed(Box::new(
                    FramedConnection::server(config, None, now).expect("no TLS"),
                ))
            };
            self.session_next += 1;
            let session = SessionId(self.session_next);
            let (is_open, queue, is_over) = (false, Vec::new(), false);
            self.guests.push(Guest { session, socket, machine, is_open, queue, is_over });
        }
    }

    fn serve(&mut self, index: usize) {
        let now = self.engine.mono();
        let guest = &mut self.guests[index];
        let mut chunk = [0; 16 * 1024];
        while either!(&guest.machine, it => it.wants_read()) {
            match guest.socket.read(&mut chunk) {
                Ok(0) => either!(&mut guest.machine, it => it.handle_eof(now)),
                Ok(count) => {
                    either!(&mut guest.machine, it => it.handle_bytes(&chunk[..count], now));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => either!(&mut guest.machine, it => it.handle_reset(now)),
            }
        }
        while let Some(event) = either!(&mut self.guests[index].machine, it => it.poll_event()) {
            self.on_event(index, event);
        }
        self.flush(index);
    }

    fn on_event(&mut self, index: usize, event: Event) {
        let guest = &mut self.guests[index];
        match event {
            Event::WebSocketUpgrade { id, request } => self.on_upgrade(index, id, &request),
            Event::Message(bytes) if guest.is_open => {
                self.pings.fetch_add(u64::from(bytes.first() == Some(&PING)), Ordering::Relaxed);
                self.engine.session(guest.session, SessionInput::Frame(bytes));
            }
            Event::Message(bytes) => {
                let Ok(Value::Object(preamble)) = json::parse(&bytes, json::Limits::default())
                else {
                    panic!("a bare stream begins with a preamble");
                };
                let text = |name| preamble.get(name).and_then(Value::as_str).map(str::to_owned);
                assert_eq!(text("app"), Some(APP.to_string()));
                self.open(index, text("token"));
            }
            Event::Closed { .. } => {
                guest.is_over = true;
                self.engine.session(guest.session, SessionInput::Closed);
            }
            _ => {}
        }
    }

    fn on_upgrade(&mut self, index: usize, id: RequestId, request: &Request) {
        let Machine::Http(machine) = &mut self.guests[index].machine else { unreachable!() };
        let token = request.authorization().and_then(|text| text.strip_prefix("Bearer "));
        assert_eq!(request.path(), "/_ditto");
        if request.query() != Some(&format!("app={APP}")) {
            return machine.respond(id, Response::json(404, r#"{"message":"unknown app"}"#));
        }
        if !matches!(token, Some(TOKEN | BOATS_KEY)) {
            return machine.respond(id, Response::json(401, r#"{"message":"wrong token"}"#));
        }
        machine.accept_websocket(id, Some("bigpeer.sync.v1"));
        let token = token.map(str::to_owned);
        self.open(index, token);
    }

    fn open(&mut self, index: usize, token: Option<String>) {
        let guest = &mut self.guests[index];
        guest.is_open = true;
        let credential = Credential::Bearer(token.map(Into::into));
        let open = SessionOpen { app: APP, credential };
        self.engine.session(guest.session, SessionInput::Open(open));
    }

    fn carry_frames(&mut self) {
        for (session, frame) in std::mem::take(&mut self.engine.frames) {
            if let Some(guest) = self.guests.iter_mut().find(|guest| guest.session == session) {
                guest.queue.push(frame);
            }
        }
        let closed = std::mem::take(&mut self.engine.closed);
        for index in 0..self.guests.len() {
            self.flush(index);
            let now = self.engine.mono();
            let guest = &mut self.guests[index];
            if closed.contains(&guest.session) {
                either!(&mut guest.machine, it => it.close(1000, now));
                self.flush(index);
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let now = self.engine.mono();
        let guest = &mut self.guests[index];
        let mut sent = 0;
        for frame in &guest.queue {
            match either!(&mut guest.machine, it => it.send_message(frame.clone())) {
                Err(SendError::NoCredit) => break,
                Ok(()) | Err(_) => sent += 1,
            }
        }
        guest.queue.drain(..sent);
        loop {
            let mut out = Vec::new();
            let given = either!(&mut guest.machine, it => it.poll_transmit(&mut out, 64 * 1024));
            if given == 0 {
                break;
            }
            guest.socket.set_nonblocking(false).expect("a socket");
            let written = guest.socket.write_all(&out);
            guest.socket.set_nonblocking(true).expect("a socket");
            match written {
                Ok(()) => either!(&mut guest.machine, it => it.handle_sent(given, now)),
                Err(_) => return either!(&mut guest.machine, it => it.handle_reset(now)),
            }
        }
        if either!(&guest.machine, it => it.wants_shutdown()) {
            let _ = guest.socket.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// An empty directory that is gone when the test ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bigpeer-peer-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn offline(&self) -> Peer {
        Peer::open(PeerConfig::offline(self.path(), APP)).expect("it opens")
    }

    pub(crate) fn with_server(&self, url: String) -> Peer {
        Peer::open(self.config(url)).expect("it opens")
    }

    pub(crate) fn config(&self, url: String) -> PeerConfig {
        let (url, token) = (Some(url), Some(TOKEN.to_owned()));
        PeerConfig { url, token, ..PeerConfig::offline(self.path(), APP) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a statement that must succeed, and gives its rows as text.
pub(crate) fn rows(peer: &Peer, statement: &str) -> String {
    let result = peer.execute(statement, Object::new()).expect(statement);
    let mut text = Vec::new();
    json::write(&Value::Array(result.items), &mut text);
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Waits until the status is as it should be.
pub(crate) fn await_status(
    peer: &Peer,
    what: &str,
    is_so: impl Fn(&PeerStatus) -> bool,
) -> PeerStatus {
    let mut watch = peer.watch_status();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = watch.next(Duration::from_millis(100))
            && is_so(&status)
        {
            return status;
        }
    }
    panic!("{what}: {:?}", peer.status());
}

/// An app that no server here knows.
pub(crate) fn other_app() -> AppId {
    AppId("00000000-0000-0000-0000-0000000000ff".parse().expect("a UUID"))
}

/// In the process that [`kill_a_writer`] starts: the directory to write to.
pub(crate) fn writer_dir() -> Option<PathBuf> {
    std::env::var_os(WRITER_DIR).map(PathBuf::from)
}

/// Runs the test of this name again, in a process of its own that finds [`writer_dir`] and tells each write by a line
/// of its standard error, and kills that process with the first line that `is_last`.
pub(crate) fn kill_a_writer(test: &str, dir: &Path, mut is_last: impl FnMut(&str) -> bool) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(WRITER_DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = child.stderr.take().expect("it is piped");
    for line in BufReader::new(output).lines() {
        if is_last(&line.expect("text")) {
            child.kill().expect("it runs");
        }
    }
    let status = child.wait().expect("it has ended");
    assert_eq!(status.code(), None, "it writes until it is killed: {status}");
}

const WRITER_DIR: &str = "BIGPEER_TEST_WRITER_DIR";
