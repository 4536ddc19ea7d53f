//! Statements that are under way while the key of whoever asked is revoked, changed, or expires.

use super::credentials::TOKEN;
use super::refused::Appending;
use super::*;

const EVERYTHING: &str = r#"{"everything":true}"#;
const NEVER: WallMs = WallMs(u64::MAX);

/// Rows of this size each leave alone, and two of them are more than a client may leave untaken.
const ROW_BYTES: usize = 200_000;
const ROWS: usize = 12;

fn put_key(name: &str, read: &str, expires: WallMs) -> CatalogOp {
    CatalogOp::PutKey { app: APP, key: Process::key_of(name, read, EVERYTHING, expires) }
}

fn revoke(name: &str) -> CatalogOp {
    CatalogOp::DeleteKey { app: APP, name: name.into() }
}

/// A statement with the key that is about to change.
fn asked(text: &str) -> Execute {
    let credential = Credential::Bearer(Some(TOKEN.into()));
    Execute { credential, ..Process::statement(text, "{}") }
}

impl Process {
    fn with_rows() -> Self {
        let mut server = Self::server(&Options { threads: 2, ..Options::default() });
        let text = "x".repeat(ROW_BYTES);
        for id in 0..ROWS {
            server.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id': {id}, 't': '{text}'}})"));
        }
        server
    }

    /// The rows that have left so far, and how it ended.
    fn so_far(&self, request: RequestId) -> (usize, Option<Option<RequestError>>) {
        let (rows, outcome) = self.replies.get(&request).expect("it has begun");
        (rows.len(), outcome.as_ref().map(|outcome| outcome.error.clone()))
    }
}

impl Appending {
    /// Two nodes with a document in each, and the key.
    fn with_key(expires: WallMs) -> Self {
        let mut world = Self::limited(NodeLimits { scans_of_key_max: 1, ..NodeLimits::default() });
        let put_app = CatalogOp::PutApp { app: APP, name: "shop".into(), development_token: None };
        for op in [put_app, put_key("m", EVERYTHING, expires)] {
            world.change(0, 1_000, op);
            world.commit_next();
        }
        for partition in 0..2 {
            let id = Self::id_of(partition);
            world.execute(0, 1_001, &format!("INSERT INTO c DOCUMENTS ({{'_id': {id}, 'n': 1}})"));
            world.commit_next();
        }
        world
    }

    fn commit_next(&mut self) {
        let append = self.appends.pop_front().expect("something is on its way to the log");
        self.commit(&append);
    }

    fn ask(&mut self, request: u64, text: &str) {
        let body = Request::Execute(asked(text));
        self.input(0, Input::Request { request: RequestId(request), body });
    }

    fn change_and_commit(&mut self, op: CatalogOp) {
        self.change(0, 2_000, op);
        self.commit_next();
    }

    fn work(&mut self) {
        for _ in 0..20 {
            self.input(0, Input::Time);
            self.input(1, Input::Time);
        }
    }

    fn error(&self, request: u64) -> RequestError {
        let outcome = self.outcome(request).expect("it is answered");
        outcome.error.clone().expect("it failed")
    }
}

#[test]
fn a_read_ends_when_its_key_is_worth_something_else_on_every_thread() {
    let narrowed = r#"{"queriesByCollection":{"c":["_id == 1"]}}"#;
    let changes = [
        ("revoked", revoke("m")),
        ("narrowed", put_key("a", narrowed, NEVER)),
        ("nothing left", put_key("a", "{}", NEVER)),
        ("another end", put_key("a", EVERYTHING, WallMs(u64::MAX - 1))),
        ("no app", CatalogOp::DeleteApp { app: APP }),
        ("the same", put_key("a", EVERYTHING, NEVER)),
        ("another key", put_key("z", narrowed, NEVER)),
    ];
    for thread in [0, 1] {
        for (name, change) in changes.clone() {
            let mut server = Process::with_rows();
            server.put_key("m", EVERYTHING, EVERYTHING, NEVER);
            let request = server.submit(thread, Request::Execute(asked("SELECT * FROM c")));
            server.silent = Some(request);
            server.settle();
            let (before, end) = server.so_far(request);
            assert!(before > ROW_BYTES && end.is_none(), "it waits for its client: {before}");
            let changed = server.submit(1 - thread, Request::Catalog(vec![change]));
            server.settle();
            assert_eq!(server.answer(changed).1.error, None);
            let bytes = before as u64;
            server.racks[usize::from(thread)]
                .handle_input(RackInput::Drained { request, bytes }, server.now);
            server.silent = None;
            server.settle();
            let (after, end) = server.so_far(request);
            let error = end.expect("it has ended");
            if name == "the same" || name == "another key" {
                assert_eq!(error, None, "{name}");
                assert!(after > ROWS * ROW_BYTES, "all of them: {after}");
            } else {
                let error = error.unwrap_or_else(|| panic!("{name}, thread {thread}"));
                assert_eq!(error.kind, ErrorKind::Unauthorized, "{name}: {error}");
                assert!(error.message.contains("revoked or changed while"), "{error}");
                assert_eq!(after, before, "{name}: no row more");
            }
            assert_eq!(server.racks.iter().map(Rack::load).sum::<usize>(), 0, "{name}");
            server.check();
        }
    }
}

#[test]
fn what_is_choosing_or_waits_for_its_turn_is_judged_by_what_its_key_is_worth_now() {
    for second in ["SELECT * FROM c", "UPDATE c SET n = 2", "DELETE FROM c WHERE n = 1"] {
        let mut world = Appending::with_key(NEVER);
        // One of the key may look through a collection at once: the others wait for it.
        world.ask(1, "UPDATE c SET n = 3 WHERE n = 1");
        world.ask(2, second);
        world.ask(3, second);
        world.change_and_commit(revoke("m"));
        world.work();
        for request in 1..=3 {
            let error = world.error(request);
            assert_eq!(error.kind, ErrorKind::Unauthorized, "{second}: {error}");
        }
        assert!(world.error(1).message.contains("nothing was written"));
        assert!(world.appends.is_empty(), "nothing is written by it: {second}");
        for node in &world.nodes {
            assert_eq!(node.load(), 0, "nothing is left");
            node.check_invariants();
        }
        // The seat of the key is free again.
        world.change_and_commit(put_key("m", EVERYTHING, NEVER));
        world.ask(4, "SELECT * FROM c");
        world.work();
        assert_eq!(world.outcome(4).expect("it is answered").error, None);
    }
}

#[test]
fn a_mutation_that_was_accepted_goes_on() {
    let mut world = Appending::with_key(NEVER);
    let ids = [Appending::id_of(0), Appending::id_of(1)];
    world.ask(1, &format!("UPDATE c SET n = 2 WHERE _id IN ({}, {})", ids[0], ids[1]));
    let accepted = world.appends.pop_front().expect("its record is on its way");
    world.change(0, 2_000, revoke("m"));
    let change = world.appends.pop_front().expect("the change as well");
    world.commit(&change);
    world.commit(&accepted);
    assert_eq!(world.outcome(1).expect("it is answered").error, None);
}

#[test]
fn a_statement_that_waits_for_a_transaction_is_judged_when_it_begins() {
    let mut world = Appending::with_key(NEVER);
    let min_txn = Some(Txn(world.now.durable.0 + 1));
    let body = Request::Execute(Execute { min_txn, ..asked("SELECT * FROM c") });
    world.input(0, Input::Request { request: RequestId(1), body });
    world.change_and_commit(revoke("m"));
    world.work();
    assert_eq!(world.error(1).kind, ErrorKind::Unauthorized);
}

#[test]
fn a_read_ends_in_the_second_in_which_its_key_expires() {
    let expires = WallMs(1_700_000_010_000);
    for text in ["SELECT * FROM c", "UPDATE c SET n = 2"] {
        let mut world = Appending::with_key(expires);
        world.ask(1, text);
        world.ask(2, text);
        let due = world.nodes[0].next_timer().expect("there is a timer");
        let in_ms = due.since(world.now.mono).as_millis();
        assert_eq!(in_ms, 10_000, "it is due when the key expires: {text}");
        world.now.wall = WallMs(expires.0 - 1);
        world.input(0, Input::Timers);
        assert!(world.outcome(1).is_none() && world.outcome(2).is_none(), "{text}");
        world.now.wall = expires;
        world.input(0, Input::Timers);
        for request in [1, 2] {
            let error = world.error(request);
            assert_eq!(error.kind, ErrorKind::Unauthorized, "{text}: {error}");
            assert!(error.message.contains("expired while"), "{error}");
        }
        assert!(world.appends.is_empty(), "nothing is written by it");
        world.nodes.iter().for_each(Node::check_invariants);
    }
}

#[test]
fn rows_do_not_leave_after_their_key_has_expired_however_long_their_client_took() {
    let hour_ms = 3_600_000;
    // Far beyond the time of any statement.
    let mut server = Process::with_rows();
    let expires = WallMs(server.now.wall.0 + 2 * hour_ms);
    server.put_key("m", EVERYTHING, EVERYTHING, expires);
    let request = server.submit(0, Request::Execute(asked("SELECT * FROM c")));
    server.silent = Some(request);
    server.settle();
    let (before, end) = server.so_far(request);
    assert!(end.is_none());
    server.now.wall = expires;
    server.now.mono.ns += 2 * hour_ms * 1_000_000;
    server.settle();
    let bytes = before as u64;
    server.racks[0].handle_input(RackInput::Drained { request, bytes }, server.now);
    server.settle();
    let (after, end) = server.so_far(request);
    let error = end.expect("it has ended").expect("its key has expired");
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error}");
    assert_eq!(after, before, "no row more");
    server.check();
}
