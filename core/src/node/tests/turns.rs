//! Statements take turns by what they cost, whatever that is made of.

use super::coordinate::{Call, Work};
use super::*;

/// One thread with a few documents of 200 KB text each, and many small ones.
fn server() -> Process {
    server_with(Options::default().partitions)
}

pub(super) fn server_with(partitions: u16) -> Process {
    let mut server = Process::server(&Options { partitions, ..Options::default() });
    let wide = "ab".repeat(100_000);
    for id in 0..8 {
        server.execute(
            "INSERT INTO wide DOCUMENTS (:d)",
            &format!(r#"{{"d":{{"_id":{id},"t":"{wide}"}}}}"#),
        );
    }
    for id in 0..40 {
        let documents: Vec<_> =
            (0..50).map(|n| format!(r#"{{"_id":{},"n":{n},"f":0.5}}"#, id * 50 + n)).collect();
        let documents = format!(r#"{{"d":[{}]}}"#, documents.join(","));
        assert_eq!(server.execute("INSERT INTO c DOCUMENTS (:d)", &documents).1.error, None);
    }
    server
}

impl Process {
    /// How many turns a statement takes until its answer is there.
    fn turns_of(&mut self, text: &str) -> usize {
        let request = self.submit(0, Request::Execute(Self::statement(text, "{}")));
        let mut turns = 0;
        loop {
            self.end_moment();
            if let Some((_, Some(outcome))) = self.replies.get(&request) {
                assert_eq!(outcome.error, None, "{text}");
                return turns;
            }
            self.now.mono.ns += 1_000;
            self.racks[0].handle_input(RackInput::Time, self.now);
            turns += 1;
            assert!(turns < 100_000, "{text} comes to no end");
        }
    }

    /// The bytes of rows that a turn gives out, which nobody takes.
    fn bytes_of_a_turn(&mut self) -> usize {
        self.now.mono.ns += 1_000;
        self.racks[0].handle_input(RackInput::Time, self.now);
        let mut bytes = 0;
        while let Some(output) = self.racks[0].poll_output() {
            if let RackOutput::Reply { reply: Reply::Rows(rows), .. } = output {
                bytes += rows.len();
            }
        }
        bytes
    }

    /// Everything that happens while time stands still: what is answered is taken at once.
    pub(super) fn end_moment(&mut self) {
        loop {
            while let Some(output) = self.racks[0].poll_output() {
                self.on_rack(0, output);
            }
            let Some((_, input)) = self.mail.pop_front() else { return };
            self.racks[0].handle_input(input, self.now);
        }
    }
}

#[test]
fn a_turn_is_measured_in_work_and_not_in_rows() {
    let mut server = server();
    let cheap = server.turns_of("SELECT COUNT(*) AS n FROM wide");
    let dear = server.turns_of("SELECT COUNT(*) AS n FROM wide WHERE t LIKE '%b%b_c%'");
    assert!(cheap < 10, "{cheap} turns for eight rows");
    assert!(dear > 4 * 8, "{dear} turns for eight rows of a millisecond each");
}

#[test]
fn a_document_of_many_terms_keeps_the_thread_no_longer_than_a_turn() {
    let mut server = server();
    let columns: Vec<_> = (0..1_000).map(|n| format!("char_length(c) + {n} AS c{n}")).collect();
    for text in [
        format!("SELECT COUNT(*) AS n FROM wide WHERE {}", ["_id = -1"; 4_000].join(" OR ")),
        format!("SELECT {} FROM wide", columns.join(", ")),
        format!("UPDATE wide SET x = 1 WHERE NOT ({})", ["t != 'x'"; 100].join(" AND ")),
    ] {
        server.turns_of(&text);
        let most = server.racks[0].work().moment_max;
        // A turn, the one document that it ends in, and what its coordinator does with the rows.
        assert!(most < 350_000, "{most} units of work at once: {}", &text[..60]);
    }
}

#[test]
fn a_scan_whose_rows_are_taken_goes_on_when_it_is_its_turn() {
    let mut server = server();
    let turns = server.turns_of("SELECT * FROM c");
    let most = server.racks[0].work().moment_max;
    // A turn of the scan, and what its coordinator does with the rows.
    assert!(most < 450_000, "{most} units at once, of {turns} turns");
}

#[test]
fn the_long_statements_of_a_thread_share_one_turn_of_a_moment() {
    let mut server = server_with(16);
    let columns: Vec<_> = (0..60).map(|n| format!("n + {n} AS c{n}")).collect();
    let costly = format!("SELECT {} FROM c", columns.join(", "));
    for text in [&*costly, "SELECT * FROM c", "SELECT _id, COUNT(*) AS k FROM c GROUP BY _id"] {
        let requests: Vec<_> = (0..3)
            .map(|_| server.submit(0, Request::Execute(Process::statement(text, "{}"))))
            .collect();
        let is_done = |server: &Process| {
            let outcome = |request| server.replies.get(request).and_then(|it| it.1.as_ref());
            requests.iter().all(|request| outcome(request).is_some())
        };
        let mut moments = 0;
        while !is_done(&server) {
            server.end_moment();
            server.now.mono.ns += 1_000;
            server.racks[0].handle_input(RackInput::Time, server.now);
            moments += 1;
            assert!(moments < 100_000, "{text} comes to no end");
        }
        for request in requests {
            assert_eq!(server.answer(request).1.error, None, "{text}");
        }
    }
    // A turn, and what taking in the parts costs that were handed on in it.
    let most = server.racks[0].work().moment_max;
    assert!(most < 450_000, "{most} units at once");
}

#[test]
fn a_mutation_of_many_documents_is_sorted_out_written_and_answered_in_turns() {
    let mut server = server();
    let update = Process::statement("UPDATE c SET x = 1", "{}");
    let request = server.submit(0, Request::Execute(update));
    let (mut turns, mut answering) = (0, 0);
    while server.replies.get(&request).is_none_or(|(_, outcome)| outcome.is_none()) {
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
        while let Some(output) = server.journal.poll_output() {
            server.on_journal(output);
        }
        while let Some((_, input)) = server.mail.pop_front() {
            server.racks[0].handle_input(input, server.now);
        }
        let home = &server.racks[0].nodes()[0];
        let is_mutation =
            |call| matches!(home.calls.get(&call).map(|it| &it.work), Some(Work::Mutate(_)));
        turns += usize::from(home.tasks.waiting_calls().any(is_mutation));
        let is_answering =
            |call: &Call| matches!(&call.work, Work::Mutate(it) if it.is_answering());
        answering += home.calls.count(is_answering);
        let has_slack = |call: &Call| matches!(&call.work, Work::Mutate(it) if it.room() > 2_000);
        assert_eq!(home.calls.count(has_slack), 0, "there is memory for the operations to come");
        server.step_disk();
        server.now.mono.ns += 1_000_000;
        server.journal.handle_timeout(server.now);
        server.racks[0].handle_input(RackInput::Time, server.now);
    }
    // Two thousand documents are gone over once to find their owners, and twice to write them.
    assert!(turns - answering >= 4, "{turns} turns, of which {answering} for the answer");
    assert!(answering >= 1, "their ids are put together at once");
    let count = server.execute("SELECT COUNT(*) AS n FROM c WHERE x = 1", "{}").0;
    assert_eq!(
        count.as_array().expect("rows")[0].as_object().expect("a row").get("n"),
        Some(&Value::Int(2_000))
    );
    server.check();
}

#[test]
fn the_documents_of_a_mutation_find_their_owners_some_at_a_moment() {
    let mut server = server();
    let documents: Vec<_> = (0..3_700).map(|n| format!(r#"{{"_id":"new {n}"}}"#)).collect();
    let args = format!(r#"{{"d":[{}]}}"#, documents.join(","));
    let insert = Process::statement("INSERT INTO c DOCUMENTS (:d)", &args);
    server.submit(0, Request::Execute(insert));
    let mut moments = 1;
    while server.racks[0].nodes().iter().all(|node| node.tasks.len() == 0) {
        server.end_moment();
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        moments += 1;
    }
    assert!((4..=8).contains(&moments), "{moments} moments before an owner is asked");
}

#[test]
fn an_answer_names_what_was_changed_in_the_order_of_the_statement() {
    let mut server = server();
    // 3,700 ids over all partitions, of which those below 2,000 are there; the last turn has fewer than the others.
    let numbers: Vec<_> = (0..3_700).map(|n| (n * 1_237) % 3_700).collect();
    let documents: Vec<_> = numbers.iter().map(|n| format!(r#"{{"_id":{n},"n":-1}}"#)).collect();
    let insert = "INSERT INTO c DOCUMENTS (:d) ON ID CONFLICT DO NOTHING";
    let (_, outcome) = server.execute(insert, &format!(r#"{{"d":[{}]}}"#, documents.join(",")));
    assert_eq!(outcome.error, None);
    let new: Vec<_> = numbers.iter().copied().filter(|n| *n >= 2_000).map(Value::Int).collect();
    assert_eq!(outcome.mutated, new);
}

#[test]
fn rows_are_put_together_in_turns_too() {
    let mut server = server();
    for text in [
        "SELECT _id, SUM(f) AS s FROM c GROUP BY _id HAVING SUM(f) > 0 ORDER BY _id",
        "SELECT DISTINCT _id, n FROM c ORDER BY n",
        "SELECT * FROM c ORDER BY n",
    ] {
        let turns = server.turns_of(text);
        // Two thousand rows take that many for being looked at alone; the first of each partition are not counted.
        assert!(turns >= 2_000 * 1_500 / 200_000 - 4, "{turns} turns: {text}");
    }
    let by_group = server.turns_of("SELECT _id, COUNT(*) AS k FROM c GROUP BY _id");
    let in_one = server.turns_of("SELECT COUNT(*) AS k FROM c");
    assert!(by_group > in_one + 2_000 * 500 / 200_000, "{by_group} and {in_one} turns");
}

#[test]
fn point_reads_beyond_what_a_moment_takes_are_answered_in_the_next_ones() {
    let mut server = server();
    let read = Process::statement("SELECT * FROM c WHERE _id = 7", "{}");
    let requests: Vec<_> =
        (0..2_000).map(|_| server.submit(0, Request::Execute(read.clone()))).collect();
    let mut moments = 1;
    loop {
        server.end_moment();
        let is_answered =
            |request| server.replies.get(request).is_some_and(|(_, outcome)| outcome.is_some());
        if requests.iter().all(is_answered) {
            break;
        }
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        moments += 1;
    }
    // Some five thousand units each, and a million a moment.
    assert!(moments < 40, "{moments} moments");
}

#[test]
fn rows_that_are_ready_leave_in_turns_too() {
    let mut server = server_with(16);
    for text in ["SELECT DISTINCT _id, n FROM c", "SELECT _id, COUNT(*) AS k FROM c GROUP BY _id"] {
        let request = server.submit(0, Request::Execute(Process::statement(text, "{}")));
        let (mut known, mut most) = (0, 0);
        while server.replies.get(&request).is_none_or(|(_, outcome)| outcome.is_none()) {
            server.end_moment();
            let rows = server.replies.get(&request).map_or(&[][..], |(rows, _)| rows);
            let count = rows.iter().filter(|byte| **byte == b'{').count();
            (most, known) = (most.max(count - known), count);
            server.now.mono.ns += 1_000;
            server.racks[0].handle_input(RackInput::Time, server.now);
        }
        assert_eq!(known, 2_000, "{text}");
        // Their client takes them as they come: 300 units each are a turn.
        assert!(most < 700, "{most} rows at once: {text}");
    }
}

#[test]
fn a_statement_that_costs_too_much_for_one_document_is_refused_and_says_so() {
    let mut server = server();
    let terms = vec!["t LIKE '%b_c%b_c%'"; 40].join(" OR ");
    for text in [
        format!("SELECT * FROM wide WHERE {terms}"),
        format!("UPDATE wide SET x = 1 WHERE {terms}"),
        format!("UPDATE wide SET x = ({terms}) WHERE _id = 1"),
        format!("DELETE FROM wide WHERE _id = 1 AND ({terms})"),
    ] {
        let error = server.execute(&text, "{}").1.error.expect("it is refused");
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("cost more than"), "{error}");
    }
    server.check();
}

#[test]
fn what_a_statement_holds_is_counted_in_every_place() {
    let mut server = Process::server(&Options { partitions: 16, ..Options::default() });
    for id in 0..20 {
        let documents: Vec<_> =
            (0..100).map(|n| format!(r#"{{"_id":{},"f":{n}.5}}"#, id * 100 + n)).collect();
        let documents = format!(r#"{{"d":[{}]}}"#, documents.join(","));
        assert_eq!(server.execute("INSERT INTO c DOCUMENTS (:d)", &documents).1.error, None);
    }
    // Each sum of floats takes half a kilobyte: 200 of them in 2,000 groups are 240 MB.
    let sums: Vec<_> = (0..200).map(|n| format!("SUM(f + {n}) AS s{n}")).collect();
    let text = format!("SELECT _id, {} FROM c GROUP BY _id", sums.join(","));
    let error = server.execute(&text, "{}").1.error.expect("it is refused");
    assert!(error.message.contains("bytes in one place: use LIMIT"), "{error}");
}

#[test]
fn an_answer_leaves_no_more_untaken_than_its_bound() {
    let mut server = server();
    let limit = NodeLimits::default().reply_bytes_max as usize;
    for text in
        ["SELECT * FROM wide ORDER BY t", "SELECT * FROM wide", "SELECT t FROM wide GROUP BY t"]
    {
        let request = server.submit(0, Request::Execute(Process::statement(text, "{}")));
        let mut untaken = 0;
        for _ in 0..1_000 {
            untaken += server.bytes_of_a_turn();
        }
        assert!(untaken > 0 && untaken < limit + 210_000, "{untaken} bytes: {text}");
        server.racks[0].handle_input(RackInput::Cancel { request }, server.now);
    }
    server.settle();
    server.check();
}

#[test]
fn a_read_that_has_enough_leaves_nothing_at_the_owners() {
    let mut server = server();
    for text in ["SELECT * FROM c LIMIT 400", "UPDATE c SET m = 1 WHERE n >= 0 LIMIT 400"] {
        assert_eq!(server.execute(text, "{}").1.error, None);
        let loads: Vec<_> = server.racks[0].nodes().iter().map(Node::load).collect();
        assert_eq!(loads, [0; 4], "{text}");
    }
}

#[test]
fn a_mutation_goes_on_without_who_asked_for_it_and_nobody_is_answered() {
    let mut server = server();
    let statement = Process::statement("UPDATE c SET gone = true WHERE _id = 7", "{}");
    let request = server.submit(0, Request::Execute(statement));
    server.racks[0].handle_input(RackInput::Cancel { request }, server.now);
    server.settle();
    let answer = server.replies.get(&request).and_then(|(_, outcome)| outcome.as_ref());
    assert!(answer.is_none(), "its request is over: {answer:?}");
    let rows = server.execute("SELECT _id FROM c WHERE gone", "{}").0;
    assert!(matches!(rows, Value::Array(rows) if rows.len() == 1), "it was begun");
    server.check();
}

#[test]
fn a_key_with_many_scans_waits_for_itself() {
    let mut server = server();
    let ask = |server: &mut Process, text: &str, credential: &Credential| {
        let credential = credential.clone();
        server.submit(0, Request::Execute(Execute { credential, ..Process::statement(text, "{}") }))
    };
    let key = Credential::Bearer(Some(KEY.into()));
    let scans: Vec<_> = (0..200)
        .map(|n| match n % 3 {
            0 => ask(&mut server, "SELECT COUNT(*) AS n FROM c WHERE n > 3", &key),
            1 => ask(&mut server, "UPDATE c SET m = 1 WHERE n = 7", &key),
            _ => ask(&mut server, "DELETE FROM c WHERE n > 1000", &key),
        })
        .collect();
    let running = |server: &Process| {
        server.racks[0].nodes()[0].calls.count(|call| matches!(&call.work, Work::Select(_)))
    };
    assert_eq!(running(&server), NodeLimits::default().scans_of_key_max);
    // Of those that wait some are given up; the others come to their turn all the same.
    for request in &scans[150..] {
        let request = *request;
        server.racks[0].handle_input(RackInput::Cancel { request }, server.now);
    }
    // What names its documents does not wait, nor does the process itself.
    let by_id = ask(&mut server, "SELECT _id FROM c WHERE _id = 7", &key);
    let local = ask(&mut server, "SELECT COUNT(*) AS n FROM wide", &Credential::Local);
    let drain = |server: &mut Process| {
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
    };
    drain(&mut server);
    let is_answered = |server: &Process, request| {
        server.replies.get(request).is_some_and(|(_, outcome)| outcome.is_some())
    };
    assert!(is_answered(&server, &by_id), "it was answered at once");
    while !is_answered(&server, &local) {
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        drain(&mut server);
    }
    let max = NodeLimits::default().scans_of_key_max;
    assert_eq!(running(&server), max, "its few documents took one turn of each partition");
    server.settle();
    for request in scans[..150].iter().chain([&by_id, &local]) {
        assert_eq!(server.answer(*request).1.error, None);
    }
    assert_eq!(server.racks[0].nodes()[0].load(), 0, "nothing is left");
    server.check();
}

#[test]
fn the_clock_of_a_read_stands_still_while_its_client_does_not_read() {
    let mut server = server();
    let second = 1_000_000_000;
    let deadline = Instant { ns: server.now.mono.ns + 30 * second };
    let execute = Execute { deadline, ..Process::statement("SELECT * FROM wide", "{}") };
    let request = server.submit(0, Request::Execute(execute));
    let mut taken = 0;
    let mut outcome = None;
    while outcome.is_none() {
        let mut untaken = 0;
        // It works for a while, and then its client takes ten seconds to read.
        for _ in 0..200 {
            server.now.mono.ns += 1_000;
            server.racks[0].handle_input(RackInput::Time, server.now);
            while let Some(output) = server.racks[0].poll_output() {
                match output {
                    RackOutput::Reply { reply: Reply::Rows(rows), .. } => untaken += rows.len(),
                    RackOutput::Reply { reply: Reply::Done(done), .. } => outcome = Some(done),
                    _ => {}
                }
            }
        }
        assert!(untaken > 0 || outcome.is_some(), "it goes on when there is room");
        taken += untaken;
        server.now.mono.ns += 10 * second;
        let bytes = untaken as u64;
        server.racks[0].handle_input(RackInput::Drained { request, bytes }, server.now);
    }
    assert_eq!(outcome.expect("it was answered").error, None);
    assert!(taken > 8 * 200_000, "{taken} bytes over more than a minute");
}

#[test]
fn the_clock_of_a_read_goes_on_when_there_is_room_for_a_byte() {
    let mut server = server();
    let deadline = server.now.mono.after(std::time::Duration::from_secs(30));
    let execute = Execute { deadline, ..Process::statement("SELECT * FROM wide", "{}") };
    let request = server.submit(0, Request::Execute(execute));
    let mut untaken = 0;
    for _ in 0..1_000 {
        untaken += server.bytes_of_a_turn() as u64;
    }
    let has_clock = |server: &Process| !server.racks[0].nodes()[0].deadlines.is_empty();
    assert!(!has_clock(&server), "it waits for its client");
    let bytes = untaken - NodeLimits::default().reply_bytes_max;
    server.racks[0].handle_input(RackInput::Drained { request, bytes }, server.now);
    assert!(!has_clock(&server), "as much is untaken as may be");
    server.racks[0].handle_input(RackInput::Drained { request, bytes: 1 }, server.now);
    assert!(has_clock(&server));
}

#[test]
fn clients_that_do_not_read_keep_no_other_of_their_key_waiting() {
    let mut server = server();
    let credential = Credential::Bearer(Some(KEY.into()));
    let max = NodeLimits::default().scans_of_key_max;
    let ask = |server: &mut Process, text: &str| {
        let credential = credential.clone();
        server.submit(0, Request::Execute(Execute { credential, ..Process::statement(text, "{}") }))
    };
    let work = |server: &mut Process, turns: usize| {
        for _ in 0..turns {
            server.now.mono.ns += 1_000;
            server.racks[0].handle_input(RackInput::Time, server.now);
            while let Some(output) = server.racks[0].poll_output() {
                server.on_rack(0, output);
            }
        }
    };
    let is_done = |server: &Process, request| {
        server.replies.get(request).is_some_and(|(_, outcome)| outcome.is_some())
    };
    let silent: Vec<_> = (0..2 * max).map(|_| ask(&mut server, "SELECT * FROM wide")).collect();
    work(&mut server, 2_000);
    assert!(!silent.iter().any(|request| is_done(&server, request)), "they have more to say");
    let count = ask(&mut server, "SELECT COUNT(*) AS n FROM wide");
    work(&mut server, 200);
    assert!(is_done(&server, &count), "nobody that waits for a reader keeps it waiting");
    // Now they read, all of them at once: each comes to its turn, and no more than may are at work.
    let mut turns = 0;
    while !silent.iter().all(|request| is_done(&server, request)) {
        if let Some((_, taken)) = server.mail.pop_front() {
            server.racks[0].handle_input(taken, server.now);
        } else {
            work(&mut server, 50);
            turns += 50;
            assert!(turns < 100_000, "somebody is given nothing");
        }
        let at_work = server.racks[0].nodes()[0].calls.count(|call| match &call.work {
            Work::Select(select) => select.has_seat(),
            _ => false,
        });
        assert!(at_work <= max, "{at_work} at once");
    }
    for request in silent.iter().chain([&count]) {
        assert_eq!(server.answer(*request).1.error, None);
    }
    assert_eq!(server.racks[0].nodes()[0].load(), 0, "nothing is left");
    server.check();
}

#[test]
fn what_a_key_makes_the_server_hold_for_clients_that_do_not_read_has_a_bound() {
    let mut server = server();
    let credential = Credential::Bearer(Some(KEY.into()));
    let max = NodeLimits::default().scans_of_key_max;
    for _ in 0..2 * max {
        let sorted = Process::statement("SELECT * FROM wide ORDER BY _id DESC", "{}");
        let sorted = Execute { credential: credential.clone(), ..sorted };
        server.submit(0, Request::Execute(sorted));
    }
    for _ in 0..20_000 {
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
    }
    let seated = server.racks[0].nodes()[0].calls.count(|call| match &call.work {
        Work::Select(select) => select.has_seat(),
        _ => false,
    });
    assert_eq!(seated, max, "what has gathered its rows keeps its seat");
    assert!(server.replies.len() <= max, "and the others have not begun");
}

/// Of a document with a text of 100 KB it costs seven turns' work, which are taken within one condition.
const COSTLY: &str = "SELECT COUNT(*) AS n FROM wide WHERE t LIKE '%b%b_c%' OR t LIKE '%b%b_d%'";

#[test]
fn many_scans_that_come_at_once_hold_up_a_point_read_by_one_document() {
    let mut server = Process::server(&Options { partitions: 16, ..Options::default() });
    let wide = "ab".repeat(50_000);
    for id in 0..32 {
        let args = format!(r#"{{"d":{{"_id":{id},"t":"{wide}"}}}}"#);
        server.execute("INSERT INTO wide DOCUMENTS (:d)", &args);
    }
    let before = server.racks[0].work();
    for _ in 0..5 {
        server.submit(0, Request::Execute(Process::statement(COSTLY, "{}")));
    }
    let by_id = "SELECT _id FROM wide WHERE _id = 7";
    let by_id = server.submit(0, Request::Execute(Process::statement(by_id, "{}")));
    while let Some(output) = server.racks[0].poll_output() {
        server.on_rack(0, output);
    }
    assert!(server.replies.contains_key(&by_id), "it was answered before any of them");
    let spent = server.racks[0].work().total - before.total;
    assert!(spent < 1_000_000, "{spent} units before that");
    for _ in 0..2_000 {
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
    }
    let most = server.racks[0].work().moment_max;
    assert!(most < 450_000, "{most} units between two looks");
    server.settle();
    server.check();
}

#[test]
fn a_client_that_closes_ends_its_read_and_no_mutation() {
    let mut server = server();
    let read = server.submit(0, Request::Execute(Process::statement("SELECT * FROM c", "{}")));
    let text = "UPDATE c SET m = 1 WHERE n >= 0";
    let write = server.submit(0, Request::Execute(Process::statement(text, "{}")));
    for request in [read, write] {
        server.racks[0].handle_input(RackInput::ClientClosed { request }, server.now);
    }
    while let Some(output) = server.racks[0].poll_output() {
        server.on_rack(0, output);
    }
    let error = server.answer(read).1.error.expect("it was ended");
    assert!(error.message.contains("closed its side"), "{error}");
    let before = server.racks[0].work().total;
    server.settle();
    let outcome = server.answer(write).1;
    assert_eq!((outcome.error, outcome.mutated.len()), (None, 2_000));
    assert!(server.racks[0].work().total > before);
    assert_eq!(server.racks[0].nodes()[0].load(), 0, "nothing is left of the read");
    server.check();
}
