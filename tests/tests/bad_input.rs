//! What clients should not send: a clear JSON error with the right status, and a server that goes on unharmed.

use bigpeer_tests::http::{Answer, Connection, request};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Client, Options, Server};
use bigpeer_tests::suite;
use bigpeer_tests::suite::Driver;
use bigpeer_tests::websocket::{
    BINARY, BINARY_BEGINS, CONTINUATION_ENDS, PING, TEXT, WebSocket, upgrade,
};
use serde_json::{Value, json};

suite!(
    "the file system of temporary files",
    bodies_that_are_no_request_are_refused,
    statements_that_are_wrong_say_where,
    values_that_cannot_be_ids_are_refused,
    bodies_beyond_the_limit_are_refused_unread,
    wrong_methods_and_routes_say_which_are_right,
    credentials_that_do_not_open_are_refused,
    a_key_reaches_only_its_collections,
    garbage_behind_a_good_request_does_not_hurt_it,
    many_requests_in_one_write_are_all_answered,
    a_head_that_never_ends_is_given_up,
    an_unread_answer_of_100_mb_costs_little,
    clients_that_ask_and_never_read_are_bounded,
    an_answer_that_fails_after_its_head_is_told_and_cut,
    wrong_websocket_frames_close_the_socket,
    a_wrong_token_opens_no_session,
);

/// A server, its first client, and a document that must outlive everything.
struct Setting {
    server: Server,
    client: Client,
    _scratch: Scratch,
}

impl Setting {
    fn new(driver: Driver) -> Self {
        let scratch = Scratch::new();
        let server = Options::new(driver, scratch.path()).start();
        let mut client = server.client();
        client.run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": "kept"}}));
        Self { server, client, _scratch: scratch }
    }

    /// Sends bytes on a connection of their own.
    fn send(&self, bytes: &[u8]) -> Answer {
        let mut connection = Connection::open(self.server.address()).expect("the server runs");
        connection.exchange(bytes).expect("an answer")
    }

    /// The server answers as if nothing had been.
    fn check_unharmed(mut self) {
        let rows = self.server.client().select("SELECT * FROM cars", &json!({}));
        assert_eq!(rows, [json!({"_id": "kept"})]);
        let (status, log) = self.server.terminate();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains("panicked") && !log.contains("\"level\":\"error\""), "{log}");
    }
}

#[track_caller]
fn check_refused(answer: &Answer, status: u16, part: &str) {
    let complaint = answer.complaint();
    assert_eq!(answer.status, status, "{complaint}");
    assert!(complaint.contains(part), "`{part}` is not in: {complaint}");
}

fn bodies_that_are_no_request_are_refused(driver: Driver) {
    let setting = Setting::new(driver);
    let deep_args =
        format!("{{\"statement\":\"SELECT * FROM cars\",\"args\":{}", "[".repeat(400_000));
    let deep_object = format!("{{\"statement\":{}", "{\"a\":".repeat(400_000));
    for (body, part) in [
        (&b"{\"statement\":"[..], "line 1, column 14"),
        (b"", "ends"),
        (b"[]", "object"),
        (b"{\"statement\":1}", "statement"),
        (b"{\"args\":{}}", "statement"),
        (b"{\"statement\":\"SELECT * FROM cars\",\"args\":[]}", "args"),
        (
            b"{\"statement\":\"SELECT * FROM cars\",\"statement\":\"DELETE FROM cars\"}",
            "more than once",
        ),
        (b"{\"statement\":\"SELECT * FROM cars\",\"args\":{\"a\":1,\"a\":2}}", "more than once"),
        (b"{\"statement\":\"SELECT * FROM cars\"} {}", "after the end"),
        (b"{\"statement\":\"\xC3\x28\"}", "UTF-8"),
        (b"{\"statement\":\"SELECT * FROM cars\",\"args\":{\"a\":\"\\ud800\"}}", "surrogate"),
        (b"{\"statement\":\"SELECT * FROM cars\",\"args\":{\"a\":1e999}}", "range"),
        (b"{\"statement\":\"SELECT * FROM cars\",\"args\":{\"a\":18446744073709551616}}", "range"),
        (deep_args.as_bytes(), "nest"),
        (deep_object.as_bytes(), "nest"),
    ] {
        let answer = setting.send(&setting.client.request_of_body(body));
        check_refused(&answer, 400, part);
    }
    setting.check_unharmed();
}

fn statements_that_are_wrong_say_where(driver: Driver) {
    let mut setting = Setting::new(driver);
    let nested = format!("SELECT * FROM cars WHERE {}1", "(".repeat(200_000));
    let negated = format!("SELECT * FROM cars WHERE {} true", "NOT ".repeat(100_000));
    for (statement, part) in [
        ("SELEC * FROM cars", "line 1, column 1"),
        ("SELECT *\nFROM cars WHERE ?", "line 2, column 17"),
        ("SELECT * FROM cars WHERE", "column 25"),
        ("SELECT * FROM cars; DELETE FROM cars", "column 21"),
        ("SELECT * FROM cars WHERE a = :missing", "missing"),
        ("SELECT 1", "FROM"),
        ("", "column 1"),
        (&nested, "nest"),
        (&negated, "nest"),
    ] {
        let answer = setting.client.execute(statement, &json!({})).expect("the server runs");
        check_refused(&answer, 400, part);
    }
    setting.check_unharmed();
}

fn values_that_cannot_be_ids_are_refused(driver: Driver) {
    let mut setting = Setting::new(driver);
    for (id, part) in [
        (json!(1.5), "Floats"),
        (json!({"a": {"b": 2.0}}), "Floats"),
        (json!(null), "Null"),
        (json!({"a": null}), "Null"),
    ] {
        for client in [setting.server.client(), setting.server.client().strict()] {
            let mut client = client;
            let args = json!({"doc": {"_id": id}});
            let answer = client.execute("INSERT INTO cars DOCUMENTS (:doc)", &args);
            check_refused(&answer.expect("the server runs"), 400, part);
        }
    }
    let statement = "UPDATE cars SET _id = 'other' WHERE _id = 'kept'";
    let answer = setting.client.execute(statement, &json!({})).expect("the server runs");
    check_refused(&answer, 400, "_id");
    setting.check_unharmed();
}

fn bodies_beyond_the_limit_are_refused_unread(driver: Driver) {
    let setting = Setting::new(driver);
    let head =
        |fields: &str| format!("POST {} HTTP/1.1\r\nHost: x\r\n{fields}\r\n", setting.client.path);
    for (fields, status, part) in [
        ("Content-Length: 3221225472\r\n", 413, "limit"),
        ("Content-Length: 99999999999999999999999\r\n", 413, "limit"),
        ("Content-Length: -1\r\n", 400, "malformed"),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400, "malformed"),
        ("Content-Length: 3\r\nContent-Encoding: gzip\r\n", 415, "encoding"),
    ] {
        check_refused(&setting.send(head(fields).as_bytes()), status, part);
    }
    let long = format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    check_refused(&setting.send(long.as_bytes()), 431, "longer");
    let resident_mib = setting.server.resident_bytes() >> 20;
    assert!(resident_mib < 512, "a claim is not an allocation: {resident_mib} MiB");
    setting.check_unharmed();
}

fn wrong_methods_and_routes_say_which_are_right(driver: Driver) {
    let setting = Setting::new(driver);
    let app = &setting.server.app;
    let unknown_app = "/11111111-2222-4333-8444-555555555555/api/v5/store/execute";
    let body = br#"{"statement":"SELECT * FROM cars"}"#;
    let bearer = [("Authorization", &*setting.client.authorization)];
    for (method, path, status, part) in [
        ("GET", &*setting.client.path, 405, "POST"),
        ("DELETE", &setting.client.path, 405, "POST"),
        ("POST", "/health/live", 405, "GET"),
        ("POST", "/api/v4/store/execute", 404, "first part of the path"),
        ("POST", &format!("/{app}/api/v3/store/find"), 404, "v4 or v5"),
        ("POST", &format!("/{app}/api/v5/store/nothing"), 404, "store/execute"),
        ("GET", "/nothing/", 404, "nothing at /nothing/:"),
        ("POST", "/", 405, "GET"),
        ("BREW", &setting.client.path, 405, "BREW is not allowed on /"),
        ("GET", "/admin/apps", 404, "nothing at"),
        ("POST", "/shop/api/v5/store/execute", 404, "unknown app `shop`"),
        ("POST", unknown_app, 404, "11111111-2222"),
        ("GET", &format!("/{app}/_ditto"), 426, "WebSocket"),
    ] {
        check_refused(&setting.send(&request(method, path, &bearer, body)), status, part);
    }
    let root = setting.send(&request("GET", "/", &[], b""));
    assert_eq!((root.status, root.json()["name"].as_str()), (200, Some("bigpeer")));
    assert_eq!(root.json()["links"]["ready"], "/health/ready");
    let answer = setting.send(&request("GET", &setting.client.path, &bearer, b""));
    assert_eq!(answer.header("allow"), Some("POST"));
    setting.check_unharmed();
}

fn credentials_that_do_not_open_are_refused(driver: Driver) {
    let setting = Setting::new(driver);
    let body = br#"{"statement":"SELECT * FROM cars"}"#;
    let ask = |headers: &[(&str, &str)]| {
        setting.send(&request("POST", &setting.client.path, headers, body))
    };
    let wrong = format!("{}x", setting.client.authorization);
    for headers in [
        &[][..],
        &[("Authorization", "")],
        &[("Authorization", "Bearer")],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", "Basic d2hvOndobw==")],
        &[("Authorization", &wrong)],
    ] {
        let answer = ask(headers);
        check_refused(&answer, 401, "");
        assert!(!answer.complaint().is_empty());
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let answer = setting.server.admin("POST", "/admin/apps", &json!({"name": "other"}));
    let other = answer.json()["appId"].as_str().expect("an app has an id").to_owned();
    let path = format!("/{other}/api/v5/store/execute");
    let bearer = [("Authorization", &*setting.client.authorization)];
    check_refused(&setting.send(&request("POST", &path, &bearer, body)), 401, "");

    let revoked = format!("Bearer {}", setting.server.new_key(&json!({"name": "revoked"})));
    assert_eq!(ask(&[("Authorization", &revoked)]).status, 200);
    let path = format!("/admin/apps/{}/keys/revoked", setting.server.app);
    assert_eq!(setting.server.admin("DELETE", &path, &Value::Null).status, 200);
    check_refused(&ask(&[("Authorization", &revoked)]), 401, "");

    // Asks until the key has expired: an answer every time, and no other than these two.
    let expires = system_time_rfc3339(2);
    let key = setting.server.new_key(&json!({"name": "short", "expiresAt": expires}));
    let bearer = format!("Bearer {key}");
    let begun = std::time::Instant::now();
    let refusal = loop {
        let answer = ask(&[("Authorization", &bearer)]);
        if answer.status != 200 {
            break answer;
        }
        assert!(begun.elapsed().as_secs() < 30, "a key outlives its expiry");
    };
    check_refused(&refusal, 401, "expire");
    setting.check_unharmed();
}

/// The moment some seconds from the start of this one, as `date` writes it.
fn system_time_rfc3339(seconds: u32) -> String {
    let moment = format!("{seconds} seconds");
    let output = std::process::Command::new("date")
        .args(["--utc", "--date", &moment, "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("there is `date`");
    String::from_utf8(output.stdout).expect("a timestamp").trim().to_owned()
}

fn a_key_reaches_only_its_collections(driver: Driver) {
    let mut setting = Setting::new(driver);
    let permissions = json!({
        "read": {"everything": false, "queriesByCollection": {"cars": ["_id != 'hidden'"]}},
        "write": {"everything": false, "queriesByCollection": {"boats": ["true"]}},
    });
    let key = setting.server.new_key(&json!({"name": "limited", "permissions": permissions}));
    let args = json!({"doc": {"_id": "hidden"}});
    setting.client.run("INSERT INTO cars DOCUMENTS (:doc)", &args);
    let mut limited = setting.server.client();
    limited.authorization = format!("Bearer {key}");
    assert_eq!(limited.select("SELECT * FROM cars", &json!({})), [json!({"_id": "kept"})]);
    limited.run("INSERT INTO boats DOCUMENTS (:doc)", &args);
    for statement in [
        "SELECT * FROM trucks",
        "INSERT INTO cars DOCUMENTS (:doc)",
        "UPDATE cars SET a = 1 WHERE _id = 'kept'",
        "DELETE FROM cars WHERE _id = 'kept'",
    ] {
        let answer = limited.execute(statement, &args).expect("the server runs");
        check_refused(&answer, 403, "");
    }
    setting.client.run("DELETE FROM cars WHERE _id = 'hidden'", &json!({}));
    setting.check_unharmed();
}

fn garbage_behind_a_good_request_does_not_hurt_it(driver: Driver) {
    let setting = Setting::new(driver);
    let good = setting.client.request("SELECT * FROM cars", &json!({}));
    let mut connection = Connection::open(setting.server.address()).expect("the server runs");
    connection.send(&[&good[..], &good, b"\x00\xFFGARBAGE\r\n\r\n", &good].concat()).expect("sent");
    for _ in 0..2 {
        let answer = connection.receive().expect("good requests are answered");
        assert_eq!((answer.status, &answer.json()["items"][0]["_id"]), (200, &json!("kept")));
    }
    check_refused(&connection.receive().expect("garbage is answered"), 400, "malformed");
    assert!(connection.is_closed_in_silence().expect("a close"), "nothing after it is a request");
    setting.check_unharmed();
}

/// More than one connection is served at once, on a thread that nothing else wakes: what it leaves for later it must
/// come back to by itself.
fn many_requests_in_one_write_are_all_answered(driver: Driver) {
    const REQUESTS: usize = 400;
    let scratch = Scratch::new();
    let server = Options::new(driver, scratch.path()).shards(1).start();
    let mut client = server.client();
    client.run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": 1}}));
    let asks = [
        client.request_of_body(br#"{"statement":""}"#),
        client.request("SELECT * FROM cars WHERE _id = 1", &json!({})),
    ];
    for (ask, status) in asks.iter().zip([400, 200]) {
        let mut connection = Connection::open(server.address()).expect("it takes connections");
        assert_eq!(connection.exchange(ask).expect("an answer").status, status);
        connection.send(&ask.repeat(REQUESTS)).expect("they are taken");
        for request in 0..REQUESTS {
            let answer = connection.receive();
            let answer = answer.unwrap_or_else(|error| panic!("request {request}: {error}"));
            assert_eq!(answer.status, status);
        }
    }
}

fn a_head_that_never_ends_is_given_up(driver: Driver) {
    let setting = Setting::new(driver);
    let mut connection = Connection::open(setting.server.address()).expect("the server runs");
    connection.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ").expect("sent");
    check_refused(&connection.receive().expect("an answer"), 408, "in time");
    assert!(connection.is_closed_in_silence().expect("a close"));
    setting.check_unharmed();
}

fn an_unread_answer_of_100_mb_costs_little(driver: Driver) {
    const STATEMENTS: usize = 20;
    const ROWS: usize = 500;
    const GROWTH_MIB_MAX: u64 = 8;
    let mut setting = Setting::new(driver);
    let text = "x".repeat(10_000);
    let places: Vec<_> = (0..ROWS).map(|row| format!("(:d{row})")).collect();
    let insert = format!("INSERT INTO pages DOCUMENTS {}", places.join(", "));
    for statement in 0..STATEMENTS {
        let mut args = json!({});
        for row in 0..ROWS {
            args[format!("d{row}")] = json!({"_id": statement * ROWS + row, "text": text});
        }
        setting.client.run(&insert, &args);
    }
    let before = setting.server.resident_bytes();
    let mut silent = Connection::open(setting.server.address()).expect("the server runs");
    let request = setting.client.request("SELECT * FROM pages", &json!({}));
    silent.send(&request).expect("the socket's buffer holds a request");
    // While everybody else is served, the answer goes as far as it can.
    let kept = setting.client.request("SELECT * FROM cars", &json!({}));
    let mut grown_mib = 0;
    for _ in 0..500 {
        assert_eq!(setting.client.connection.exchange(&kept).expect("an answer").status, 200);
        grown_mib = grown_mib.max(setting.server.resident_bytes().saturating_sub(before) >> 20);
    }
    eprintln!("{driver}: {grown_mib} MiB for an unread answer of 100 MB");
    assert!(grown_mib <= GROWTH_MIB_MAX, "{grown_mib} MiB for a client that never reads");
    drop(silent);
    setting.check_unharmed();
}

fn an_answer_that_fails_after_its_head_is_told_and_cut(driver: Driver) {
    const ROWS: usize = 1_000;
    let mut setting = Setting::new(driver);
    let places: Vec<_> = (0..ROWS).map(|row| format!("(:d{row})")).collect();
    let mut args = json!({});
    for row in 0..ROWS {
        // A text of 1 MiB is the longest that an expression may make.
        let count = if row == ROWS - 1 { 2 << 20 } else { 1_000 };
        args[format!("d{row}")] = json!({"_id": row, "count": count});
    }
    setting.client.run(&format!("INSERT INTO pages DOCUMENTS {}", places.join(", ")), &args);
    let statement = "SELECT repeat('x', count) AS text FROM pages";
    for _ in 0..3 {
        let mut connection = Connection::open(setting.server.address()).expect("the server runs");
        connection.send(&setting.client.request(statement, &json!({}))).expect("sent");
        let text = connection.rest().expect("the server closes the connection");
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with("HTTP/1.1 200"), "the head was gone: {:.100}", text);
        assert!(text.contains("\"error\":{"), "it is told: {}", &text[text.len() - 300..]);
        assert!(!text.ends_with("0\r\n\r\n"), "and there is no last chunk");
    }
    setting.check_unharmed();
}

fn clients_that_ask_and_never_read_are_bounded(driver: Driver) {
    const ROWS: usize = 200;
    const REQUESTS: usize = 200;
    const CLIENTS: usize = 4;
    /// What a connection takes in before it stops reading.
    const REQUESTS_IN_FLIGHT_MAX: usize = 64;
    const PART_MIB_MAX: f64 = 0.75;
    let mut setting = Setting::new(driver);
    let text = "x".repeat(10_000);
    for number in 0..ROWS {
        let args = json!({"doc": {"_id": number, "text": text}});
        setting.client.run("INSERT INTO pages DOCUMENTS (:doc)", &args);
    }
    let before = setting.server.resident_bytes();
    let request = setting.client.request("SELECT * FROM pages", &json!({}));
    let mut silent = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(setting.server.address()).expect("the server runs");
        connection.send(&request.repeat(REQUESTS)).expect("the sockets' buffers hold the requests");
        silent.push(connection);
    }
    for _ in 0..20 {
        let rows = setting.server.client().select("SELECT * FROM pages", &json!({}));
        assert_eq!(rows.len(), ROWS, "everybody else is served");
    }
    let grown_mib = setting.server.resident_bytes().saturating_sub(before) >> 20;
    let limit = (CLIENTS * REQUESTS_IN_FLIGHT_MAX) as f64 * PART_MIB_MAX;
    assert!(grown_mib as f64 <= limit, "{grown_mib} MiB for {CLIENTS} clients that never read");
    drop(silent);
    setting.check_unharmed();
}

fn wrong_websocket_frames_close_the_socket(driver: Driver) {
    type Send = fn(&mut WebSocket) -> std::io::Result<()>;
    let setting = Setting::new(driver);
    let cases: [(&str, Option<u16>, Send); 11] = [
        ("text", Some(1003), |socket| socket.send(TEXT, b"{}")),
        ("a continuation of nothing", Some(1002), |socket| socket.send(CONTINUATION_ENDS, b"x")),
        ("a message inside another", Some(1002), |socket| {
            socket.send(BINARY_BEGINS, b"x")?;
            socket.send(BINARY, b"y")
        }),
        ("a reserved bit", Some(1002), |socket| socket.send(BINARY | 0x40, b"x")),
        ("an unknown opcode", Some(1002), |socket| socket.send(0x83, b"x")),
        ("a long ping", Some(1002), |socket| socket.send(PING, &[0; 126])),
        ("no mask", Some(1002), |socket| socket.send_raw(b"\x82\x01x")),
        ("a length not in its shortest form", Some(1002), |socket| {
            socket.send_raw(b"\x82\xFE\x00\x01\x00\x00\x00\x00x")
        }),
        ("a message of 3 GB", Some(1009), |socket| {
            socket.send_raw(b"\x82\xFF\x00\x00\x00\x00\xC0\x00\x00\x00\x00\x00\x00\x00")
        }),
        ("a message of 2^63 bytes", Some(1002), |socket| {
            socket.send_raw(b"\x82\xFF\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
        }),
        ("a frame of the session that is none", None, |socket| socket.send(BINARY, &[0xFF; 300])),
    ];
    for (what, code, send) in cases {
        let mut socket = WebSocket::open(&setting.server);
        send(&mut socket).expect("the socket is open");
        let found = socket.close_code();
        match code {
            Some(code) => assert_eq!(found, Some(code), "{what}"),
            None => assert!(found.is_some(), "{what}"),
        }
    }
    // The connection ends without a word: nothing to answer, and nothing to fall over.
    let mut socket = WebSocket::open(&setting.server);
    socket.send_raw(b"\x82\xFF\x00\x00").expect("the socket is open");
    drop(socket);
    setting.check_unharmed();
}

fn a_wrong_token_opens_no_session(driver: Driver) {
    let setting = Setting::new(driver);
    for bearer in ["wrong", ""] {
        let (_, answer) = upgrade(&setting.server, bearer).expect("the server runs");
        check_refused(&answer, 401, "");
    }
    setting.check_unharmed();
}
