//! A mutation of many documents reserves them until the last is authored.

use super::turns::server_with;
use super::*;
use crate::value::canonical::encode_id;

impl Process {
    /// One turn of the first thread, and nothing of the disk.
    fn turn(&mut self) {
        self.now.mono.ns += 1_000;
        self.racks[0].handle_input(RackInput::Time, self.now);
        while let Some(output) = self.racks[0].poll_output() {
            self.on_rack(0, output);
        }
    }

    /// Gives turns until a mutation has authored some of its documents, among which is number 7 of `c`.
    fn turn_until_reserved(&mut self) {
        let id = encode_id(&Value::Int(7)).expect("a number may be an id");
        let key = DocKey { app: APP, collection: "c".into(), id };
        for _ in 0..1_000 {
            if self.racks[0].nodes()[0].tips.is_reserved_by_another(&key, None) {
                return;
            }
            self.turn();
        }
        panic!("it is authored in one step");
    }
}

#[test]
fn a_huge_update_is_authored_in_turns_and_stays_whole() {
    let mut server = server_with(1);
    let all = "UPDATE c SET m = n + 1, k = 'all'";
    let huge = server.submit(0, Request::Execute(Process::statement(all, "{}")));
    server.turn_until_reserved();
    // Another statement about one of its documents, while some are authored and none is appended.
    let text = "UPDATE c SET k = 'one' WHERE _id = 7";
    let one = server.submit(0, Request::Execute(Process::statement(text, "{}")));
    let count = "SELECT COUNT(*) AS n FROM c WHERE k = 'all' AND _id IN (1, 7, 77, 777, 1999)";
    for _ in 0..10 {
        server.turn();
        let read = server.submit(0, Request::Execute(Process::statement(count, "{}")));
        server.turn();
        assert_eq!(to_text(&server.answer(read).0), r#"[{"n":0}]"#, "it is answered meanwhile");
    }
    assert!(!server.replies.contains_key(&one) && !server.replies.contains_key(&huge));
    server.settle();
    assert_eq!(server.answer(huge).1.mutated.len(), 2_000);
    assert_eq!(server.answer(one).1.error, None);
    let rows = server.rows("SELECT COUNT(*) AS n FROM c WHERE m = n + 1 AND k = 'all'");
    assert_eq!(rows, r#"[{"n":1999}]"#, "the one came after all");
    let most = server.racks[0].work().moment_max;
    assert!(most < 2_400_000, "{most} units between two looks");
    server.check();
}

#[test]
fn a_statement_that_waits_for_one_document_looks_once_at_those_before_it() {
    const UPDATES: u64 = 50;
    let mut server = server_with(2);
    let is_first_ones = |collection: &str, id: &i64| {
        let id = encode_id(&Value::Int(*id)).expect("a number may be an id");
        Slot::of(APP, collection, &id).partition(2) == PartitionId(0)
    };
    let last = (0..2_000).rev().find(|id| is_first_ones("c", id)).expect("half of them");
    let other = (0..).find(|id| is_first_ones("d", id)).expect("one of two");
    server.rows(&format!("INSERT INTO d DOCUMENTS ({{'_id': {other}}})"));
    let write_another = |server: &mut Process| {
        let before = server.racks[0].work().total;
        for n in 0..UPDATES {
            server.rows(&format!("UPDATE d SET n = {n} WHERE _id = {other}"));
        }
        server.racks[0].work().total - before
    };
    let alone = write_another(&mut server);

    // The last document of the first owner is in flight, and stays so.
    let held = format!("UPDATE c SET k = 'held' WHERE _id = {last}");
    let held = server.submit(0, Request::Execute(Process::statement(&held, "{}")));
    let mut append = None;
    while let Some(output) = server.racks[0].poll_output() {
        match output {
            RackOutput::Append(found) => append = Some(found),
            other => server.on_rack(0, other),
        }
    }
    let all = "UPDATE c SET k = 'all', m = coalesce(k, 'none')";
    let all = server.submit(0, Request::Execute(Process::statement(all, "{}")));
    server.settle();
    assert!(!server.replies.contains_key(&all), "it waits");

    // Documents that others let go of wake it, each time for nothing.
    let beside = write_another(&mut server);
    let each = beside.saturating_sub(alone) / UPDATES;
    // To be woken, and to look at one.
    assert!((1_100..5_000).contains(&each), "{each} units for looking at one of a thousand");

    // It has reserved them all: who comes later comes after it, also where nobody held anything.
    let first = (0..2_000).find(|id| is_first_ones("c", id)).expect("half of them");
    let late = format!("UPDATE c SET k = 'late' WHERE _id = {first}");
    let late = server.submit(0, Request::Execute(Process::statement(&late, "{}")));
    server.settle();
    assert!(!server.replies.contains_key(&late), "it waits too");
    server.journal.append(append.expect("it was authored at once"), server.now);
    server.settle();
    for request in [held, all, late] {
        assert_eq!(server.answer(request).1.error, None);
    }
    let rows = server.rows("SELECT k, COUNT(*) AS n FROM c GROUP BY k ORDER BY k");
    assert_eq!(rows, r#"[{"k":"all","n":1999},{"k":"late","n":1}]"#);
    let rows = server.rows("SELECT _id FROM c WHERE m = 'held'");
    assert_eq!(rows, format!(r#"[{{"_id":{last}}}]"#));
    server.check();
}

#[test]
fn a_refusal_between_its_turns_makes_a_huge_update_begin_anew() {
    let mut server = server_with(1);
    // The write that the first of them builds on is refused after it was authored.
    let first = "UPDATE c SET k = 'refused' WHERE _id = 0";
    let refused = server.submit(0, Request::Execute(Process::statement(first, "{}")));
    let mut append = None;
    while let Some(output) = server.racks[0].poll_output() {
        match output {
            RackOutput::Append(found) => append = Some(found),
            other => server.on_rack(0, other),
        }
    }
    let append = append.expect("it was authored at once");
    let all = "UPDATE c SET m = coalesce(k, 'none')";
    let huge = server.submit(0, Request::Execute(Process::statement(all, "{}")));
    server.turn_until_reserved();
    let input = RackInput::Appended {
        from: append.from,
        ticket: append.ticket,
        result: Err(AppendRefused::Full),
    };
    server.racks[0].handle_input(input, server.now);
    server.settle();
    assert!(server.answer(refused).1.error.is_some());
    assert_eq!(server.answer(huge).1.mutated.len(), 2_000);
    let rows = server.rows("SELECT COUNT(*) AS n FROM c WHERE m = 'none'");
    assert_eq!(rows, r#"[{"n":2000}]"#, "nothing stands on what was refused");
    server.check();
}
