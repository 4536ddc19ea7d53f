//! Poison: statements of one key that each cost as much as a statement may, all at once. Whoever reads one document
//! meanwhile is answered, so is whoever asks for the server's health, and each of the statements comes to its end.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bigpeer_tests::hostile::{Stop, Waits, flood_time, sized};
use bigpeer_tests::hostile_suite;
use bigpeer_tests::http::{Connection, request};
use bigpeer_tests::scratch::Scratch;
use bigpeer_tests::server::{Client, Options, Server};
use bigpeer_tests::suite::Driver;
use bigpeer_tests::system::play_another_machine;
use bigpeer_tests::wait_until;
use serde_json::{Value, json};

hostile_suite!(
    "the file system of temporary files, loopback",
    point_reads_and_health_are_answered_beside_poison_and_every_poison_ends,
    a_client_that_closes_ends_its_read_and_no_mutation,
);

/// Clients that send poison, each in its turn all of it, from another place on.
const POISONERS: usize = 5;

/// Bytes of each wide text.
const WIDE_BYTES: usize = 1_000_000;

/// Work of statements that a thread may do between two looks at its connections: what statements by id may do at one
/// moment, a turn, and one document's expressions at their bound for each.
const WORK_AT_ONCE_MAX: u64 = 1_000_000 + 200_000 + 2 * 8_500_000;

/// The statuses with which poison may end: it is answered, refused for what it costs or holds, or has had its time.
const ENDS: [u16; 4] = [200, 400, 408, 413];

/// The status that stands for an answer that was cut.
const CUT: u16 = 0;

/// How long a statement may take.
const STATEMENT_TIME: Duration = Duration::from_secs(30);

/// A request by its name, and the bytes of its body.
type Poison = (&'static str, Vec<u8>);

/// A server with `kept`, which the honest read, eight wide documents, and many small ones.
struct Setting {
    server: Server,
    documents: usize,
    _scratch: Scratch,
}

impl Setting {
    fn new(driver: Driver) -> Self {
        let scratch = Scratch::new();
        let server = Options::new(driver, scratch.path()).shards(2).start();
        let documents = sized(20_000, 100_000);
        let mut client = server.client();
        client.run("INSERT INTO cars DOCUMENTS (:doc)", &json!({"doc": {"_id": "kept", "n": 1}}));
        let text = "ab".repeat(WIDE_BYTES / 2);
        for id in 0..8 {
            let doc = json!({"_id": id, "t": text, "n": id});
            client.run("INSERT INTO wide DOCUMENTS (:doc)", &json!({"doc": doc}));
        }
        for first in (0..documents).step_by(1_000) {
            let docs: Vec<_> = (first..first + 1_000).map(small).collect();
            client.run("INSERT INTO many DOCUMENTS (:docs)", &json!({"docs": docs}));
        }
        Self { server, documents, _scratch: scratch }
    }

    /// A number of `/metrics`.
    fn metric(&self, name: &str) -> u64 {
        let answer = self.server.admin("GET", "/metrics", &Value::Null);
        let text = String::from_utf8(answer.body).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    fn work_pending(&self) -> u64 {
        self.metric("bigpeer_work_pending")
    }

    fn check_unharmed(mut self) {
        read_one(&mut self.server.client());
        let (status, log) = self.server.terminate();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains("panicked") && !log.contains("\"level\":\"error\""), "{log}");
    }
}

fn small(number: usize) -> Value {
    json!({"_id": number, "n": number, "f": number as f64 + 0.5, "s": format!("text number {number}")})
}

fn joined(count: usize, between: &str, piece: impl Fn(usize) -> String) -> String {
    (0..count).map(piece).collect::<Vec<_>>().join(between)
}

fn poisons() -> Vec<Poison> {
    let of = |statement: &str, args: Value| {
        json!({"statement": statement, "args": args}).to_string().into_bytes()
    };
    let plain = |statement: &str| of(statement, json!({}));
    let terms = joined(4_000, " OR ", |n| format!("n = -{n}"));
    let columns = joined(1_024, ", ", |n| format!("n + {n} AS c{n}"));
    let sums = joined(200, ", ", |n| format!("SUM(f + {n}) AS s{n}"));
    let likes = joined(6, " OR ", |n| format!("t LIKE '%b%b_c{n}%'"));
    let nested = format!("{}n{}", "(1 + ".repeat(120), ")".repeat(120));
    let text = format!("[{}1]", "1,".repeat(1_000_000));
    let list: Vec<_> = (0..100_000).map(|n| json!(1_000_000 + n)).collect();
    let ids: Vec<_> = (0..100_000).collect();
    let literals = joined(100_000, ",", |n| format!("-{n}"));
    let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    let deep = format!("[{}{deep}]", format!("{deep},").repeat((7 << 20) / (deep.len() + 1)));
    let deep =
        format!(r#"{{"statement":"SELECT * FROM cars WHERE n IN (:a)","args":{{"a":{deep}}}}}"#);
    let numbers = format!("[{}1]", "1,".repeat(4_000_000 - 50));
    let numbers =
        format!(r#"{{"statement":"SELECT * FROM cars WHERE :a = n","args":{{"a":{numbers}}}}}"#);
    let fresh: Vec<_> = (0..50_000).map(|n| json!({"_id": format!("x{n}"), "n": n})).collect();
    vec![
        ("LIKE over 1 MB", plain(&format!("SELECT COUNT(*) AS k FROM wide WHERE {likes}"))),
        ("4,000 OR terms", plain(&format!("SELECT COUNT(*) AS k FROM many WHERE {terms}"))),
        ("1,024 columns", plain(&format!("SELECT {columns} FROM many LIMIT 2000"))),
        (
            "deserialize_json(2 MB)",
            of("SELECT * FROM many WHERE n IN deserialize_json(:a)", json!({"a": text})),
        ),
        ("IN of 100,000", of("SELECT * FROM many WHERE n IN :a", json!({"a": list}))),
        ("IN of 100,000 literals", plain(&format!("SELECT * FROM many WHERE n IN ({literals})"))),
        ("ids of 100,000", of("SELECT * FROM many WHERE _id IN :a", json!({"a": ids}))),
        ("repeat", plain("SELECT * FROM many WHERE byte_length(repeat(s, 60000)) = 1")),
        ("lpad", plain("SELECT * FROM many WHERE byte_length(lpad(s, 1000000, 'ab')) = 1")),
        ("upper over 1 MB", plain("SELECT COUNT(*) AS k FROM wide WHERE upper(t) = lower(t)")),
        ("200 sums", plain(&format!("SELECT n, {sums} FROM many GROUP BY n"))),
        ("huge UPDATE", plain("UPDATE many SET n = n + 1")),
        ("huge UPDATE of two", plain("UPDATE many SET u = upper(s), v = n WHERE s LIKE '%e%t%'")),
        ("UPDATE of wide", plain("UPDATE wide SET n = byte_length(upper(t))")),
        ("DELETE of none", plain(&format!("DELETE FROM many WHERE {terms}"))),
        ("DISTINCT", plain("SELECT DISTINCT n, s, f FROM many")),
        ("ORDER BY", plain("SELECT * FROM many ORDER BY s DESC, n, f")),
        ("everything", plain("SELECT * FROM many")),
        ("everything wide", plain("SELECT * FROM wide")),
        ("nested", plain(&format!("SELECT COUNT(*) AS k FROM many WHERE {nested} = 1"))),
        ("7 MiB of deep JSON", deep.into_bytes()),
        ("8 MB of numbers", numbers.into_bytes()),
        (
            "huge INSERT",
            of(
                "INSERT INTO fresh DOCUMENTS (:docs) ON ID CONFLICT DO UPDATE",
                json!({"docs": fresh}),
            ),
        ),
        ("count of many", plain("SELECT COUNT(*) AS k, MID(s) AS m FROM many GROUP BY n % 7")),
    ]
}

fn read_one(client: &mut Client) {
    let rows = client.select("SELECT * FROM cars WHERE _id = 'kept'", &json!({}));
    assert_eq!(rows.len(), 1);
}

fn ask_live(connection: &mut Connection) {
    let answer = connection.exchange(&request("GET", "/health/live", &[], b"")).expect("an answer");
    assert_eq!(answer.status, 200);
}

/// Asks as the honest do for so long; the waits of each kind.
fn observe(setting: &Setting, time: Duration) -> [(&'static str, Waits); 4] {
    let server = &setting.server;
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut client = server.client();
            Waits::during(time, || read_one(&mut client))
        });
        let door = |address| {
            scope.spawn(move || {
                let mut connection = Connection::open(address).expect("the server listens");
                Waits::during(time, || ask_live(&mut connection))
            })
        };
        let (admin, public) = (door(server.admin_address()), door(server.address()));
        let machine = scope.spawn(move || Waits::of_the_machine(time));
        [
            ("point reads", reads.join().expect("each is answered")),
            ("health of the admin door", admin.join().expect("each is answered")),
            ("health of the public door", public.join().expect("each is answered")),
            ("a thread that only wakes", machine.join().expect("it sleeps")),
        ]
    })
}

/// Every status that a poison ended with, how often, and the longest that it took.
type Ends = Mutex<BTreeMap<&'static str, (BTreeMap<u16, usize>, Duration)>>;

fn poison(setting: &Setting, poisons: &[Poison], first: usize, stop: &Stop, ends: &Ends) {
    play_another_machine();
    let mut client = setting.server.client();
    for (name, body) in poisons.iter().cycle().skip(first) {
        if stop.is_told() {
            return;
        }
        let begun = Instant::now();
        let bytes = client.request_of_body(body);
        let answer = client.connection.exchange(&bytes);
        let time = begun.elapsed();
        let status = match answer {
            Ok(answer) => {
                let status = answer.status;
                assert!(ENDS.contains(&status), "{name} got {status}: {}", answer.complaint());
                status
            }
            // Its time was over when some of its rows had left: such an answer is cut, so that nobody takes it for whole.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{name}: {error}");
                assert!(time >= STATEMENT_TIME, "{name} was cut after {time:?}");
                client = setting.server.client();
                CUT
            }
        };
        let mut ends = ends.lock().expect("no holder of this lock panics");
        let end = ends.entry(name).or_default();
        *end.0.entry(status).or_default() += 1;
        end.1 = end.1.max(time);
    }
}

fn point_reads_and_health_are_answered_beside_poison_and_every_poison_ends(driver: Driver) {
    let setting = Setting::new(driver);
    let poisons = poisons();
    for (what, waits) in observe(&setting, flood_time() / 2) {
        eprintln!("{driver}, quiet: {what}: {waits}");
    }
    let (stop, ends) = (Stop::default(), Ends::default());
    let beside = std::thread::scope(|scope| {
        for poisoner in 0..POISONERS {
            let (setting, poisons, stop, ends) = (&setting, &poisons, &stop, &ends);
            let first = poisoner * poisons.len() / POISONERS;
            scope.spawn(move || poison(setting, poisons, first, stop, ends));
        }
        // Poison also ends when a claim does not hold.
        let _stop = stop.when_dropped();
        observe(&setting, flood_time())
    });
    for (what, waits) in beside {
        eprintln!("{driver}, beside poison: {what}: {waits}");
        assert!(waits.count() > 0, "{what} are answered");
    }
    let ends = ends.into_inner().expect("no holder of this lock panics");
    for (name, (statuses, longest)) in &ends {
        eprintln!("{driver}: {name}: {statuses:?}, at most {longest:?}");
    }
    let most = setting.metric("bigpeer_statement_work_at_once_max");
    let all = setting.metric("bigpeer_statement_work_total");
    eprintln!("{driver}: {all} units of work, {most} at once");
    assert!(!ends.is_empty(), "some poison has come to its end");
    assert!(most <= WORK_AT_ONCE_MAX, "{most} units of work between two looks at connections");
    wait_until("nothing is left of it", || (setting.work_pending() == 0).then_some(()));
    setting.check_unharmed();
}

/// A read that takes some seconds here and now, and its work.
fn long_read(setting: &Setting) -> (String, u64) {
    let mut client = setting.server.client();
    let mut terms = 50;
    loop {
        let condition = joined(terms, " OR ", |n| format!("n = -{n}"));
        let read = format!("SELECT COUNT(*) AS k FROM many WHERE {condition}");
        let before = setting.metric("bigpeer_statement_work_total");
        let begun = Instant::now();
        let answer = client.execute(&read, &json!({})).expect("the server runs");
        assert_eq!(answer.status, 200, "{}", answer.complaint());
        if begun.elapsed() > Duration::from_secs(2) || terms > 2_000 {
            return (read, setting.metric("bigpeer_statement_work_total") - before);
        }
        terms *= 2;
    }
}

fn a_client_that_closes_ends_its_read_and_no_mutation(driver: Driver) {
    let setting = Setting::new(driver);
    let work = || setting.metric("bigpeer_statement_work_total");
    let (read, whole) = long_read(&setting);
    let before = work();
    let mut client = setting.server.client();
    let bytes = client.request(&read, &json!({}));
    client.connection.send(&bytes).expect("the server reads");
    wait_until("it has begun", || (work() > before).then_some(()));
    let closed = Instant::now();
    drop(client);
    wait_until("it ends", || (setting.work_pending() == 0).then_some(()));
    let done = work() - before;
    eprintln!(
        "{driver}: {done} of {whole} units of work, ended {:?} after the close",
        closed.elapsed()
    );
    assert!(done < whole, "the read went on for nobody: {done} of {whole} units");

    // A mutation goes on, and so does what says that it only stops asking: both are answered.
    let mut half = setting.server.client();
    let bytes = half.request("UPDATE many SET m = 'half'", &json!({}));
    half.connection.send(&bytes).expect("the server reads");
    half.connection.shut_down().expect("a socket");
    let answer = half.connection.receive().expect("a mutation is answered");
    assert_eq!(answer.status, 200, "{}", answer.complaint());
    let mut gone = setting.server.client();
    let before = work();
    let bytes = gone.request("UPDATE many SET g = 'gone'", &json!({}));
    gone.connection.send(&bytes).expect("the server reads");
    wait_until("it has begun", || (work() > before).then_some(()));
    drop(gone);
    let mut client = setting.server.client();
    let count = "SELECT COUNT(*) AS k FROM many WHERE m = 'half' AND g = 'gone'";
    wait_until("both are carried out", || {
        let rows = client.select(count, &json!({}));
        (rows == [json!({"k": setting.documents})]).then_some(())
    });
    let mut half = setting.server.client();
    let bytes = half.request("SELECT * FROM cars WHERE _id = 'kept'", &json!({}));
    half.connection.send(&bytes).expect("the server reads");
    half.connection.shut_down().expect("a socket");
    assert_eq!(half.connection.receive().expect("a quick read is answered").status, 200);
    setting.check_unharmed();
}
