use super::*;
use crate::value::canonical::encode_id;

#[test]
fn a_document_is_inserted_read_changed_and_deleted() {
    let mut server = Process::server(&Options::default());
    let (_, outcome) = server.execute(
        "INSERT INTO cars DOCUMENTS (:doc1)",
        r#"{"doc1":{"_id":{"id":"777","locationId":"123456"},"color":"blue","timestamp":"1732192529"}}"#,
    );
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.query_type, "insert");
    assert_eq!(to_text(&Value::Array(outcome.mutated)), r#"[{"id":"777","locationId":"123456"}]"#);
    assert_eq!(
        server.rows("SELECT * FROM cars"),
        r#"[{"_id":{"id":"777","locationId":"123456"},"color":"blue","timestamp":"1732192529"}]"#
    );
    server.rows("UPDATE cars SET color = 'red', doors.front = 2 WHERE color = 'blue'");
    assert_eq!(
        server.rows("SELECT color, doors FROM cars WHERE _id.id = '777'"),
        r#"[{"color":"red","doors":{"front":2}}]"#
    );
    server.rows("UPDATE cars APPLY km INCREMENT BY 5");
    server.rows("UPDATE cars APPLY km INCREMENT BY 7 UNSET doors");
    assert_eq!(server.rows("SELECT km, doors FROM cars"), r#"[{"km":12}]"#);
    server.rows("DELETE FROM cars WHERE km > 1");
    assert_eq!(server.rows("SELECT * FROM cars"), "[]");
    assert_eq!(server.rows("SELECT COUNT(*) AS n FROM cars"), r#"[{"n":0}]"#);
    server.check();
}

#[test]
fn everything_acknowledged_is_there_after_a_restart_with_other_threads() {
    let options = Options { threads: 2, partitions: 8, ..Options::default() };
    let mut server = Process::server(&options);
    for index in 0..200 {
        server.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id': 'd{index}', 'n': {index}}})"));
    }
    server.rows("UPDATE c SET big = true WHERE n >= 100");
    server.rows("DELETE FROM c WHERE n % 2 = 0");
    let before = server.rows("SELECT * FROM c ORDER BY n");
    let mut disk = server.disk;
    disk.crash();
    let options = Options { threads: 3, partitions: 8, boot: 2, ..Options::default() };
    let mut server = Process::on_disk(&options, disk);
    assert_eq!(server.rows("SELECT * FROM c ORDER BY n"), before);
    assert_eq!(server.rows("SELECT COUNT(*) AS n FROM c WHERE big = true"), r#"[{"n":50}]"#);
    server.check();
}

#[test]
fn a_request_that_no_longer_waits_for_a_transaction_leaves_no_deadline_behind() {
    let mut server = Process::server(&Options::default());
    let deadline = server.now.mono.after(std::time::Duration::from_secs(60));
    let min_txn = Some(server.now.durable.next());
    let waiting = Execute { min_txn, deadline, ..Process::statement("SELECT * FROM c", "{}") };
    let cancelled = server.submit(0, Request::Execute(waiting.clone()));
    let answered = server.submit(0, Request::Execute(waiting));
    let deadlines = |server: &Process| -> usize {
        server.racks.iter().flat_map(Rack::nodes).map(|node| node.deadlines.len()).sum()
    };
    assert_eq!(deadlines(&server), 4, "each has its own and that of the wait");
    server.racks[0].handle_input(RackInput::Cancel { request: cancelled }, server.now);
    assert_eq!(deadlines(&server), 2);
    server.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    assert_eq!(to_text(&server.answer(answered).0), r#"[{"_id":1}]"#);
    assert_eq!(deadlines(&server), 0);
}

#[test]
fn a_deadline_is_over_at_the_moment_that_it_names() {
    let mut server = Process::server(&Options::default());
    let deadline = server.now.mono.after(std::time::Duration::from_secs(1));
    let min_txn = Some(server.now.durable.next());
    let waiting = Execute { min_txn, deadline, ..Process::statement("SELECT * FROM c", "{}") };
    let request = server.submit(0, Request::Execute(waiting));
    assert_eq!(server.racks[0].poll_timeout(), Some(deadline));
    server.now.mono = deadline;
    server.racks[0].handle_input(RackInput::Time, server.now);
    assert_ne!(server.racks[0].poll_timeout(), Some(deadline), "it would be called without end");
    server.settle();
    let error = server.answer(request).1.error.expect("it has waited for nothing");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[test]
fn of_racing_inserts_of_one_id_exactly_one_wins() {
    let mut server = Process::server(&Options { threads: 2, ..Options::default() });
    let requests: Vec<RequestId> = (0..64)
        .map(|index| {
            let text = format!("INSERT INTO c DOCUMENTS ({{'_id': 'one', 'by': {index}}})");
            let body = Request::Execute(Process::statement(&text, "{}"));
            server.submit(index % 2, body)
        })
        .collect();
    server.settle();
    let outcomes: Vec<Outcome> = requests.into_iter().map(|r| server.answer(r).1).collect();
    let won = outcomes.iter().filter(|outcome| outcome.error.is_none()).count();
    assert_eq!(won, 1);
    assert!(
        outcomes.iter().filter_map(|o| o.error.as_ref()).all(|e| e.kind == ErrorKind::Conflict)
    );
    server.check();
}

#[test]
fn racing_increments_and_fields_of_one_document_all_count() {
    let mut server = Process::server(&Options { threads: 2, ..Options::default() });
    server.rows("INSERT INTO c DOCUMENTS ({'_id': 'one', 'seed': 1})");
    let mut requests = Vec::new();
    for index in 0..64_u16 {
        for text in [
            "UPDATE c APPLY total INCREMENT BY 1 WHERE _id = 'one'".to_owned(),
            format!("UPDATE c SET f{index} = {index} WHERE _id = 'one'"),
            "UPDATE c SET seed = seed + 1 WHERE _id = 'one'".to_owned(),
            "UPDATE c SET touched = true".to_owned(),
        ] {
            let body = Request::Execute(Process::statement(&text, "{}"));
            requests.push(server.submit(index % 2, body));
        }
    }
    server.settle();
    for request in requests {
        assert_eq!(server.answer(request).1.error, None);
    }
    assert_eq!(server.rows("SELECT total, seed FROM c"), r#"[{"seed":65,"total":64}]"#);
    assert_eq!(server.rows("SELECT f0, f63 FROM c"), r#"[{"f0":0,"f63":63}]"#);
    server.check();
}

#[test]
fn a_statement_over_many_partitions_is_one_transaction() {
    let mut server = Process::server(&Options { partitions: 16, ..Options::default() });
    let documents: Vec<String> = (0..50).map(|i| format!("({{'_id': {i}, 'n': {i}}})")).collect();
    let (_, outcome) =
        server.execute(&format!("INSERT INTO c DOCUMENTS {}", documents.join(",")), "{}");
    assert_eq!(outcome.mutated.len(), 50);
    let before = server.now.durable;
    server.rows("UPDATE c SET n = n * 2");
    assert_eq!(server.now.durable, before.next(), "one statement takes one position");
    let (_, conflict) = server
        .execute("INSERT INTO c DOCUMENTS ({'_id': 100}), ({'_id': 7}), ({'_id': 101})", "{}");
    assert_eq!(conflict.error.expect("7 is taken").kind, ErrorKind::Conflict);
    assert_eq!(
        server.rows("SELECT COUNT(*) AS n FROM c"),
        r#"[{"n":50}]"#,
        "nothing of it was written"
    );
    assert_eq!(
        server.rows("SELECT _id FROM c ORDER BY n DESC LIMIT 2 OFFSET 1"),
        r#"[{"_id":48},{"_id":47}]"#
    );
    server.check();
}

#[test]
fn statements_that_must_wait_for_blocks_give_the_same_answers() {
    let mut warm = Process::server(&Options::default());
    let mut cold = Process::server(&Options { cold: true, ..Options::default() });
    let mut run = |text: &str| {
        let (a, b) = (warm.rows(text), cold.rows(text));
        assert_eq!(a, b, "{text}");
        a
    };
    for index in 0..60 {
        run(&format!("INSERT INTO c DOCUMENTS ({{'_id': {index}, 'n': {index}}})"));
    }
    run("UPDATE c SET even = true WHERE n % 2 = 0");
    run("DELETE FROM c WHERE n > 40");
    assert_eq!(run("SELECT COUNT(*) AS n FROM c WHERE even = true"), r#"[{"n":21}]"#);
    run("SELECT * FROM c ORDER BY n DESC LIMIT 5");
}

#[test]
fn an_insert_waits_for_the_block_of_its_document() {
    let mut cold = Process::server(&Options { cold: true, ..Options::default() });
    for index in 0..60 {
        cold.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id': {index}}})"));
    }
    assert!((10..=60).contains(&cold.fetched), "{}: about one in two is cold", cold.fetched);
}

#[test]
fn a_mutation_that_names_its_documents_asks_their_owner_once() {
    let mut server = Process::server(&Options { threads: 2, partitions: 2, ..Options::default() });
    let is_of_the_other = |id: &i64| {
        let id = encode_id(&Value::Int(*id)).expect("an integer is an id");
        Slot::of(APP, "c", &id).partition(2) == PartitionId(1)
    };
    let id = (0..).find(is_of_the_other).expect("one of two");
    server.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id': {id}, 'n': 1}})"));
    for text in ["UPDATE c SET n = 2", "DELETE FROM c"] {
        let statement = Process::statement(&format!("{text} WHERE _id = {id}"), "{}");
        server.slow_thread = Some(1);
        let request = server.submit(0, Request::Execute(statement));
        server.settle();
        assert_eq!(server.held.len(), 1, "{text}");
        let (_, asked) = server.held.pop_front().expect("there is one");
        server.racks[1].handle_input(asked, server.now);
        server.settle();
        let outcome = server.answer(request).1;
        assert_eq!((outcome.error, outcome.mutated.len()), (None, 1), "{text}");
        server.slow_thread = None;
        server.mail.append(&mut server.held);
        server.settle();
    }
}

#[test]
fn what_is_evicted_is_gone_and_can_be_inserted_again() {
    let mut server = Process::server(&Options::default());
    server.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'a': 1})");
    server.rows("EVICT FROM c WHERE _id = 1");
    assert_eq!(server.rows("SELECT * FROM c"), "[]");
    server.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'b': 2})");
    assert_eq!(server.rows("SELECT * FROM c"), r#"[{"_id":1,"b":2}]"#);
    server.check();
}

#[test]
fn credentials_are_checked_and_errors_say_where() {
    let mut server = Process::server(&Options::default());
    let mut refused = |change: &dyn Fn(&mut Execute)| {
        let mut execute = Process::statement("SELECT * FROM c", "{}");
        change(&mut execute);
        let request = server.submit(0, Request::Execute(execute));
        server.settle();
        server.answer(request).1.error.expect("it is refused")
    };
    let unknown = refused(&|e| e.credential = Credential::Bearer(Some("wrong".into())));
    assert_eq!(unknown.kind, ErrorKind::Unauthorized);
    let app = refused(&|e| e.app = AppId(Uuid([9; 16])));
    assert_eq!(app.kind, ErrorKind::NotFound);
    let syntax = refused(&|e| e.statement = "SELEC * FROM c".into());
    assert_eq!(syntax.kind, ErrorKind::Invalid);
    assert!(syntax.message.contains("line 1, column 1"), "{}", syntax.message);
    let float = refused(&|e| e.statement = "INSERT INTO c DOCUMENTS ({'_id': 1.5})".into());
    assert_eq!(float.kind, ErrorKind::Invalid);
    let late = refused(&|e| e.deadline = Instant { ns: 0 });
    assert_eq!(late.kind, ErrorKind::TimedOut);
}
