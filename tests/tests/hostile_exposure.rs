//! What strangers and other users of the machine may see and reach, and what they can make the server say.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use bigpeer_tests::binary::{bigpeer, printed};
use bigpeer_tests::http::{Answer, Connection, request};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::Options;
use bigpeer_tests::suite::Driver;
use bigpeer_tests::{hostile_suite, system, wait_until};
use serde_json::{Value, json};

hostile_suite!(
    "the file system of temporary files",
    nothing_in_the_directory_is_for_other_users,
    a_tls_key_that_everybody_can_read_is_warned_of,
    the_admin_door_is_not_opened_to_other_machines_in_the_clear,
    the_admin_door_answers_to_no_name_of_a_stranger,
    the_admin_token_comes_from_the_file_that_was_named_and_changes_with_it,
    a_page_of_a_stranger_opens_no_websocket,
    a_host_that_is_no_host_is_refused,
    metrics_name_nothing_of_what_is_stored,
    standard_error_that_nobody_reads_stops_nothing,
);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// All that lies below a directory, and the directory.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("readable") {
            found.extend(all_below(&entry.expect("readable").path()));
        }
    }
    found
}

fn nothing_in_the_directory_is_for_other_users(driver: Driver) {
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.join("new/data")).checkpoint_after(1);
    let mut server = options.start();
    for number in 0..20 {
        let args = json!({"doc": {"_id": number}});
        server.client().run("INSERT INTO cars DOCUMENTS (:doc)", &args);
    }
    server.terminate();
    // What an earlier build made, or a restore: open to everybody.
    for name in ["log", "identity", "admin.token"] {
        let path = options.data.join(name);
        let open = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(open)).expect("ours");
    }
    let server = server.restart();
    let found = all_below(&scratch.join("new"));
    assert!(found.iter().any(|path| path.ends_with("log/0000000000000001.seg")), "{found:?}");
    for path in found {
        assert_eq!(mode(&path) & 0o077, 0, "{} is open to others", path.display());
    }
    drop(server);
}

/// A server that must not start, with these options.
fn refused(driver: Driver, scratch: &Scratch, arguments: &[&str]) -> String {
    let mut command = Command::new(bigpeer());
    command.args(["serve", "--driver", driver.name(), "--data"]).arg(scratch.join("data"));
    for option in ["--listen", "--peer-listen"] {
        command.args([option, "127.0.0.1:0"]);
    }
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("the binary was just built");
    assert!(!output.status.success(), "{}", printed(&output));
    printed(&output)
}

fn a_tls_key_that_everybody_can_read_is_warned_of(driver: Driver) {
    let scratch = Scratch::new();
    let (chain, key) = (scratch.join("chain.pem"), scratch.join("key.pem"));
    fs::write(&chain, "no PEM").expect("temporary");
    fs::write(&key, "no PEM").expect("temporary");
    for (mode, is_warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("ours");
        let (chain, key) = (chain.to_str().expect("ours"), key.to_str().expect("ours"));
        let tls = ["--admin-listen", "127.0.0.1:0", "--tls-cert", chain, "--tls-key", key];
        let text = refused(driver, &scratch, &tls);
        assert_eq!(text.contains("can read the TLS key"), is_warned, "{mode:o}: {text}");
    }
}

fn the_admin_door_is_not_opened_to_other_machines_in_the_clear(driver: Driver) {
    let scratch = Scratch::new();
    let text = refused(driver, &scratch, &["--admin-listen", "0.0.0.0:0"]);
    for part in ["--admin-tls-cert", "--admin-insecure", "--admin-listen"] {
        assert!(text.contains(part), "{text}");
    }
    let text = refused(driver, &scratch, &["--admin-listen", "[::]:0"]);
    assert!(text.contains("--admin-insecure"), "{text}");
    assert!(!scratch.join("data").exists(), "it is refused before anything is made");
}

/// A request to the admin door under a name.
fn ask(address: SocketAddr, path: &str, host: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut connection = Connection::open(address).expect("the server runs");
    connection.exchange(request.as_bytes()).expect("an answer")
}

fn the_admin_token_comes_from_the_file_that_was_named_and_changes_with_it(driver: Driver) {
    let (scratch, secrets) = (Scratch::new(), Scratch::new());
    let file = secrets.path().join("token");
    let put = |text: &str| {
        // Renamed into place, as those who renew secrets do.
        let next = secrets.path().join("next");
        fs::write(&next, text).expect("temporary");
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::rename(&next, &file).expect("temporary");
    };
    let name = file.to_str().expect("UTF-8").to_owned();
    let options = Options::new(driver, scratch.path()).arguments(&["--admin-token-file", &name]);
    put("two words");
    let refused = options.try_start().expect_err("no token").stderr;
    assert!(refused.contains("holds no token") && refused.contains(&name), "{refused}");
    put("first-token");
    let server = options.start();
    assert!(!server.data().join("admin.token").exists(), "nothing else opens the routes");
    let apps = |token: &str| {
        let bearer = format!("Bearer {token}");
        let ask = request("GET", "/admin/apps", &[("Authorization", &bearer)], b"");
        let mut connection = Connection::open(server.admin_address()).expect("the server runs");
        connection.exchange(&ask).expect("an answer").status
    };
    assert_eq!((apps("first-token"), apps("second-token")), (200, 401));
    let admin = format!("http://{}", server.admin_address());
    let list = ["app", "list", "--admin", &admin, "--admin-token-file", &name];
    let list = printed(&Command::new(bigpeer()).args(list).output().expect("it was built"));
    assert!(list.contains("default"), "{list}");

    put("second-token");
    wait_until("the new token opens", || (apps("second-token") == 200).then_some(()));
    assert_eq!(apps("first-token"), 401);
    put("");
    let errors = || {
        let mut connection = Connection::open(server.admin_address()).expect("the server runs");
        let answer = connection.exchange(&request("GET", "/metrics", &[], b"")).expect("an answer");
        let text = String::from_utf8(answer.body).expect("text");
        text.contains("bigpeer_file_reload_errors_total{file=\"admin-token-file\"} 1").then_some(())
    };
    wait_until("the bad file is counted", errors);
    assert_eq!(apps("second-token"), 200, "the one before stays");
}

fn the_admin_door_answers_to_no_name_of_a_stranger(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.join("data")).start();
    let admin = server.admin_address();
    for path in ["/metrics", "/admin/apps", "/health/live"] {
        let answer = ask(admin, path, "evil.example:9464");
        assert_eq!(answer.status, 421, "{}", answer.complaint());
        assert!(answer.complaint().contains("--admin-host"), "{}", answer.complaint());
    }
    for host in [&*admin.to_string(), "localhost", "[::1]:9464", "10.1.2.3"] {
        assert_eq!(ask(admin, "/metrics", host).status, 200, "{host}");
    }
    assert_eq!(ask(server.address(), "/health/live", "api.example").status, 200, "the data door");
}

fn a_page_of_a_stranger_opens_no_websocket(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.join("data")).start();
    let upgrade = |origin: &str| {
        let request = format!(
            "GET /{}/_ditto HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {}\r\n{origin}\r\n",
            server.app, server.token
        );
        let mut connection = Connection::open(server.address()).expect("the server runs");
        connection.exchange(request.as_bytes()).expect("an answer")
    };
    assert_eq!(upgrade("").status, 101, "what is no browser sends no origin");
    for origin in ["https://evil.example", "null", "http://localhost"] {
        let answer = upgrade(&format!("Origin: {origin}\r\n"));
        assert_eq!(answer.status, 403, "{}", answer.complaint());
        assert!(answer.complaint().contains("--allow-origin"), "{}", answer.complaint());
    }
}

fn a_host_that_is_no_host_is_refused(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.join("data")).start();
    for host in ["a b", "user@host", "http://x", "[::1", "x:y", "a,b"] {
        for address in [server.address(), server.admin_address()] {
            assert_eq!(ask(address, "/health/live", host).status, 400, "{host}");
        }
    }
}

fn metrics_name_nothing_of_what_is_stored(driver: Driver) {
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.join("data")).start();
    let args = json!({"doc": {"_id": "mallory", "text": "confidential"}});
    server.client().run("INSERT INTO salaries DOCUMENTS (:doc)", &args);
    let answer = ask(server.admin_address(), "/metrics", "localhost");
    let text = String::from_utf8(answer.body).expect("text");
    let data = server.data().to_str().expect("ours").to_owned();
    let known =
        [&*server.app, &server.key[..10], "mallory", "confidential", "salaries", "default", &data];
    for secret in known {
        assert!(!text.contains(secret), "{secret} is in: {text}");
    }
    assert!(text.contains("\nbigpeer_events_dropped_total 0\n"), "{text}");
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server whose standard error is a pipe that is full before its first line.
fn start_with_full_stderr(options: &Options) -> (Running, Value, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut filling = writer.try_clone().expect("a descriptor");
    // Blocks for as long as nobody reads, and keeps the pipe full.
    std::thread::spawn(move || while filling.write_all(&[b'x'; 4096]).is_ok() {});
    let child = options.command().stderr(writer).spawn().expect("the binary was just built");
    let mut child = Running(child);
    let (line_in, line) = channel();
    let stdout = child.0.stdout.take().expect("it is piped");
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = BufReader::new(stdout).read_line(&mut text);
        line_in.send(text)
    });
    let line = line.recv_timeout(Duration::from_secs(60));
    let line = line.expect("a server that does not wait for the reader of its standard error");
    let ready = serde_json::from_str(&line).expect("the ready line is JSON");
    (child, ready, reader)
}

fn standard_error_that_nobody_reads_stops_nothing(driver: Driver) {
    const BAD_FRAMES: usize = 1500;
    let scratch = Scratch::new();
    let options = Options::new(driver, scratch.join("data"));
    let (mut child, ready, unread) = start_with_full_stderr(&options);
    let address = |name: &str| -> SocketAddr {
        ready[name].as_str().expect("an address").parse().expect("an address")
    };
    for _ in 0..BAD_FRAMES {
        let mut peer = Connection::open(address("peerListen")).expect("the server takes them");
        // A frame of four bytes that is no preamble, of a terminal's control characters.
        peer.send(b"\x04\0\0\0\x1b[2J").expect("the server takes them");
        assert!(peer.is_closed_in_silence().is_ok());
    }
    assert_eq!(ask(address("listen"), "/health/ready", "localhost").status, 200);
    let metrics = ask(address("admin"), "/metrics", "localhost");
    let metrics = String::from_utf8(metrics.body).expect("text");
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("bigpeer_events_total{level=\"info\"} "));
    let lines: usize = line.and_then(|count| count.parse().ok()).expect("a counter");
    eprintln!("{driver}: {lines} lines for {BAD_FRAMES} bad frames");
    assert!(lines < BAD_FRAMES / 2, "{lines} lines: each stranger wrote one");
    system::terminate(child.0.id());
    let status = wait_until("it ends though nobody reads its last words", || {
        child.0.try_wait().expect("it is our child")
    });
    assert!(status.success(), "{status}");
    drop(unread);
}
