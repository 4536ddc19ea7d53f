//! Committed records come to the partitions of a thread in turns.

use super::*;
use crate::node::shredder::{LARGE_OPS_MIN, SHREDDED_AT_ONCE};
use crate::value::canonical::encode_id;

const PARTITIONS: u16 = 16;

fn server(applied_at_once: usize) -> Process {
    server_with(NodeLimits { applied_at_once, ..NodeLimits::default() })
}

fn server_with(limits: NodeLimits) -> Process {
    let mut server =
        Process::server(&Options { partitions: PARTITIONS, limits, ..Options::default() });
    server.execute("INSERT INTO cars DOCUMENTS (:d)", r#"{"d":{"_id":"kept"}}"#);
    server
}

fn documents(count: usize) -> String {
    let documents: Vec<_> = (0..count).map(|n| format!(r#"{{"_id":{n},"n":{n}}}"#)).collect();
    format!(r#"{{"d":[{}]}}"#, documents.join(","))
}

fn text(rows: &Value) -> String {
    let mut out = Vec::new();
    json::write(rows, &mut out);
    String::from_utf8(out).expect("JSON is text")
}

/// The mail that tells of the next commit; everything else is carried on.
fn next_commit(server: &mut Process) -> RackInput {
    loop {
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
        while let Some(output) = server.journal.poll_output() {
            server.on_journal(output);
        }
        match server.mail.pop_front() {
            Some((_, commit @ RackInput::Committed { .. })) => return commit,
            Some((_, input)) => server.racks[0].handle_input(input, server.now),
            None => {
                server.now.mono.ns += 1_000;
                server.racks[0].handle_input(RackInput::Time, server.now);
                server.journal.handle_timeout(server.now);
                server.step_disk();
            }
        }
    }
}

impl Process {
    /// One look at everything: mail, one call for time on each thread, the log and the disk.
    fn end_moment_of_all(&mut self) {
        self.now.mono.ns += 1_000;
        self.publish_oldest_read();
        while let Some((thread, input)) = self.mail.pop_front() {
            self.racks[usize::from(thread)].handle_input(input, self.now);
        }
        for thread in 0..self.racks.len() {
            self.racks[thread].handle_input(RackInput::Time, self.now);
            while let Some(output) = self.racks[thread].poll_output() {
                self.on_rack(thread as u16, output);
            }
        }
        while let Some(output) = self.journal.poll_output() {
            self.on_journal(output);
        }
        self.journal.handle_timeout(self.now);
        self.step_disk();
    }
}

fn behind(server: &Process) -> usize {
    let durable = server.now.durable;
    server.racks[0].nodes().iter().filter(|node| node.applied() < durable).count()
}

#[test]
fn a_huge_record_is_dropped_in_pieces_by_whoever_holds_it_last() {
    for threads in [1, 2] {
        let options = Options { partitions: PARTITIONS, threads, ..Options::default() };
        let mut server = Process::server(&options);
        let count = 2 * LARGE_OPS_MIN;
        let args = documents(count);
        let statement = Process::statement("INSERT INTO cars DOCUMENTS (:d)", &args);
        let request = server.submit(0, Request::Execute(statement));
        let (mut pieces, mut left, mut calls) = (0, 0, 0);
        loop {
            server.end_moment_of_all();
            let now: usize = server.racks.iter().map(|rack| rack.shredder.waiting()).sum();
            if now > left {
                assert_eq!((left, now), (0, count - SHREDDED_AT_ONCE), "one of them has it");
            }
            pieces += usize::from(now != left);
            if now < left {
                assert_eq!(left - now, left.min(SHREDDED_AT_ONCE));
            }
            left = now;
            calls += 1;
            assert!(calls < 100_000, "it comes to no end: {left} are left");
            let is_answered = matches!(server.replies.get(&request), Some((_, Some(_))));
            if is_answered && pieces > 0 && left == 0 {
                break;
            }
        }
        assert_eq!(pieces, count.div_ceil(SHREDDED_AT_ONCE), "on {threads} threads");
        server.settle();
        assert!(server.racks.iter().all(|rack| !rack.shredder.is_due(|| Txn::MAX)));
    }
}

#[test]
fn a_huge_commit_holds_up_others_by_a_piece_of_one_partition_at_a_time() {
    // Of three thousand documents a partition has about two hundred.
    let mut server = server(50);
    let insert = Process::statement("INSERT INTO many DOCUMENTS (:d)", &documents(3_000));
    let insert = server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    server.now.mono.ns += 1_000;
    server.racks[0].handle_input(commit, server.now);
    assert_eq!(behind(&server), usize::from(PARTITIONS), "the first has not come to its end");
    // Whoever reads meanwhile reads at the newest position, and so waits for a partition that is behind, if he asks it.
    let kept = Process::statement("SELECT * FROM cars WHERE _id = 'kept'", "{}");
    let count = Process::statement("SELECT COUNT(*) AS n, SUM(n) AS s FROM many", "{}");
    let kept = server.submit(0, Request::Execute(kept));
    let count = server.submit(0, Request::Execute(count));
    // Who writes has what is written as the base of his change, wherever the pieces stand.
    let update = Process::statement("UPDATE many SET n = n + 1", "{}");
    let update = server.submit(0, Request::Execute(update));
    let (mut moments, mut left) = (1, behind(&server));
    while left > 0 {
        assert!(server.racks[0].poll_timeout().is_some_and(|at| at <= server.now.mono));
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        assert!(left - behind(&server) <= 1, "one partition after the other");
        (moments, left) = (moments + 1, behind(&server));
    }
    // A moment takes fifty, and what is left of a partition before them.
    assert!(moments > 2 * PARTITIONS, "{moments} moments");
    server.settle();
    assert_eq!(text(&server.answer(kept).0), r#"[{"_id":"kept"}]"#);
    let sum = (0..3_000).sum::<usize>();
    assert_eq!(text(&server.answer(count).0), format!(r#"[{{"n":3000,"s":{sum}}}]"#));
    assert_eq!(server.answer(insert).1.error, None);
    assert_eq!(server.answer(update).1.error, None);
    let rows = server.execute("SELECT SUM(n) AS s FROM many", "{}").0;
    assert_eq!(text(&rows), format!(r#"[{{"s":{}}}]"#, sum + 3_000));
    server.check();
}

#[test]
fn a_moment_that_begins_with_a_commit_takes_its_share_of_what_waits() {
    let mut server = server(250);
    let insert = Process::statement("INSERT INTO many DOCUMENTS (:d)", &documents(3_000));
    server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    let RackInput::Committed { upto, .. } = commit else { unreachable!("it is a commit") };
    let next = Txn(upto.0 + 1);
    let empty = RackInput::Committed { first: next, records: Arc::new([]), upto: next };
    let left = [commit, empty].map(|input| {
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(input, server.now);
        server.racks[0].nodes().iter().filter(|node| node.applied() < upto).count()
    });
    assert!(left[1] < left[0], "{left:?} partitions are behind");
}

#[test]
fn who_asks_for_a_transaction_goes_on_once_it_is_applied_and_not_when_it_is_durable() {
    let mut server = server(50);
    let insert = Process::statement("INSERT INTO few DOCUMENTS (:d)", &documents(1));
    server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    let RackInput::Committed { upto, .. } = commit else { unreachable!("it is a commit") };
    // The log is further than that by one position.
    let next = Txn(upto.0 + 1);
    server.now.durable = next;
    let empty = RackInput::Committed { first: next, records: Arc::new([]), upto: next };
    let kept = Process::statement("SELECT * FROM cars WHERE _id = 'kept'", "{}");
    let kept = Execute { min_txn: Some(next), ..kept };
    let kept = server.submit(0, Request::Execute(kept));
    let is_answered = [commit, empty].map(|input| {
        server.racks[0].handle_input(input, server.now);
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
        server.replies.contains_key(&kept)
    });
    assert_eq!(is_answered, [false, true]);
}

#[test]
fn what_a_partition_has_of_a_small_record_comes_to_it_whole() {
    let mut server = server(3);
    let ids_of = |place: u16| {
        let is_there = move |id: &i64| {
            let id = encode_id(&Value::Int(*id)).expect("an integer is an id");
            Slot::of(APP, "few", &id).partition(PARTITIONS) == PartitionId(place)
        };
        (0..).filter(is_there).take(2)
    };
    // Two and two are more than a moment takes, and neither is cut: the second has begun before the moment is over.
    let documents: Vec<_> =
        ids_of(3).chain(ids_of(7)).map(|id| format!(r#"{{"_id":{id}}}"#)).collect();
    let args = format!(r#"{{"d":[{}]}}"#, documents.join(","));
    let insert = Process::statement("INSERT INTO few DOCUMENTS (:d)", &args);
    server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    server.now.mono.ns += 1_000;
    server.racks[0].handle_input(commit, server.now);
    assert_eq!(behind(&server), 0);
}

#[test]
fn a_partition_that_a_read_waits_for_is_next() {
    // A partition has no more of three thousand documents: one is applied in a moment.
    let mut server = server(250);
    let insert = Process::statement("INSERT INTO many DOCUMENTS (:d)", &documents(3_000));
    server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    server.now.mono.ns += 1_000;
    server.racks[0].handle_input(commit, server.now);
    let nodes = server.racks[0].nodes();
    let last = nodes.iter().rposition(|node| node.applied() < server.now.durable);
    let owner = nodes[last.expect("all but one are behind")].partition();
    let id = (0..3_000).find(|id| {
        let id = encode_id(&Value::Int(*id)).expect("an integer is an id");
        Slot::of(APP, "many", &id).partition(PARTITIONS) == owner
    });
    let id = id.expect("each partition has some of three thousand");
    let text = format!("SELECT * FROM many WHERE _id = {id}");
    let read = server.submit(0, Request::Execute(Process::statement(&text, "{}")));
    server.now.mono.ns += 1_000;
    server.racks[0].handle_input(RackInput::Time, server.now);
    while let Some(output) = server.racks[0].poll_output() {
        server.on_rack(0, output);
    }
    assert_eq!(text_of_one(&server, read), format!(r#"{{"_id":{id},"n":{id}}}"#));
    server.settle();
    server.check();
}

/// The rows that have come for a request.
fn text_of_one(server: &Process, request: RequestId) -> String {
    let (rows, _) = server.replies.get(&request).expect("it has been answered");
    String::from_utf8(rows.clone()).expect("JSON is text")
}

#[test]
fn a_record_that_this_process_wrote_comes_to_its_nodes_as_it_was() {
    let mut server = server(1);
    server.submit(
        0,
        Request::Execute(Process::statement("INSERT INTO c DOCUMENTS (:d)", &documents(9))),
    );
    let RackInput::Committed { records, .. } = next_commit(&mut server) else {
        unreachable!("it is a commit")
    };
    let [record] = &records[..] else { panic!("{} records", records.len()) };
    let written = record.transaction.as_ref().expect("it is not decoded");
    assert_eq!(Transaction::decode(&record.bytes).as_ref(), Ok(&**written));
}

#[test]
fn nothing_overtakes_what_waits_to_be_applied() {
    let mut server = server(1);
    let insert = |from: usize| {
        let (a, b) = (from, from + 1);
        let args = format!(r#"{{"d":[{{"_id":{a}}},{{"_id":{b}}}]}}"#);
        Process::statement("INSERT INTO many DOCUMENTS (:d)", &args)
    };
    let mut requests = Vec::new();
    for round in 0..20 {
        requests.push(server.submit(0, Request::Execute(insert(round * 2))));
        let commit = next_commit(&mut server);
        server.racks[0].handle_input(commit, server.now);
    }
    assert!(behind(&server) > 0, "time has not gone on");
    server.settle();
    assert_eq!(behind(&server), 0);
    for request in requests {
        assert_eq!(server.answer(request).1.error, None);
    }
    let rows = server.execute("SELECT COUNT(*) AS n FROM many", "{}").0;
    assert_eq!(text(&rows), r#"[{"n":40}]"#);
    server.check();
}

#[test]
fn who_has_fallen_far_behind_catches_up_at_once() {
    let limits =
        NodeLimits { applied_at_once: 1, applied_later_max: 2_000, ..NodeLimits::default() };
    let mut server = server_with(limits);
    let insert = Process::statement("INSERT INTO many DOCUMENTS (:d)", &documents(3_200));
    server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    server.racks[0].handle_input(commit, server.now);
    // Each of sixteen partitions has about two hundred operations; no more than two thousand wait.
    let behind = behind(&server);
    assert!((9..=11).contains(&behind), "{behind} partitions are behind");
    server.settle();
    server.check();
}

#[test]
fn a_change_of_keys_is_in_force_at_once() {
    let mut server = server(1);
    let insert = Process::statement("INSERT INTO many DOCUMENTS (:d)", &documents(500));
    server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    server.racks[0].handle_input(commit, server.now);
    assert!(behind(&server) > 0);
    let revoke = CatalogOp::DeleteKey { app: APP, name: "k".into() };
    server.submit(0, Request::Catalog(vec![revoke]));
    let commit = next_commit(&mut server);
    server.racks[0].handle_input(commit, server.now);
    assert_eq!(behind(&server), 0);
    let credential = Credential::Bearer(Some(KEY.into()));
    let read = Execute { credential, ..Process::statement("SELECT * FROM cars", "{}") };
    let read = server.submit(0, Request::Execute(read));
    server.settle();
    assert!(server.answer(read).1.error.is_some(), "the key opens nothing any more");
}

#[test]
fn a_log_that_fails_leaves_what_is_durable_and_waits_its_known_end() {
    let mut server = server(1);
    let insert = Process::statement("INSERT INTO many DOCUMENTS (:d)", &documents(500));
    let insert = server.submit(0, Request::Execute(insert));
    let commit = next_commit(&mut server);
    server.racks[0].handle_input(commit, server.now);
    assert!(behind(&server) > 0);
    for from in (0..PARTITIONS).map(PartitionId) {
        let result = Err(AppendRefused::OutcomeUnknown);
        let unknown = RackInput::Appended { from, ticket: Ticket(u64::MAX), result };
        server.racks[0].handle_input(unknown, server.now);
    }
    server.settle();
    assert_eq!(server.answer(insert).1.error, None);
}

#[test]
fn a_log_of_many_small_records_is_replayed_in_batches() {
    let options = Options { partitions: 1, ..Options::default() };
    let mut process = Process::server(&options);
    for n in 0..1_500 {
        process.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id': {n}}})"));
    }
    process.disk.kill();
    let config = LogConfig::new(BootId(Uuid([2; 16])), [1; 32]);
    let mut journal = Journal::open(config, options.partitions, process.now);
    let mut batches = Vec::new();
    loop {
        match journal.poll_output() {
            Some(JournalOutput::Committed { records, .. }) => batches.push(records.len()),
            Some(JournalOutput::Disk(op, command)) => process.disk.submit(op, command),
            Some(JournalOutput::Replayed) => break,
            Some(_) => {}
            None => {
                let done = process.disk.step().expect("something leads to the end");
                journal.handle_disk(done, process.now);
            }
        }
    }
    assert!(batches.iter().sum::<usize>() >= 1_500);
    assert!(batches.iter().all(|count| *count <= 512), "{batches:?}");
}
