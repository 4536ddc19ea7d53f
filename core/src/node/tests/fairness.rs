//! Each node of a thread, and each statement at a node, gets its share of the thread's time.

use super::*;
use crate::value::canonical::encode_id;

const PARTITIONS: u16 = 8;

/// Documents of 100 KB that each partition has.
const DOCUMENTS: usize = 3;

/// One thread, and of each partition the ids of its documents.
fn server() -> (Process, Vec<Vec<i64>>) {
    let mut server = Process::server(&Options { partitions: PARTITIONS, ..Options::default() });
    let mut ids = vec![Vec::new(); usize::from(PARTITIONS)];
    let wide = "ab".repeat(50_000);
    for id in 0.. {
        let encoded = encode_id(&Value::Int(id)).expect("an integer is an id");
        let owner = Slot::of(APP, "wide", &encoded).partition(PARTITIONS);
        let known = &mut ids[usize::from(owner.0)];
        if known.len() < DOCUMENTS {
            known.push(id);
            let args = format!(r#"{{"d":{{"_id":{id},"t":"{wide}"}}}}"#);
            assert_eq!(server.execute("INSERT INTO wide DOCUMENTS (:d)", &args).1.error, None);
        }
        if ids.iter().all(|ids| ids.len() == DOCUMENTS) {
            break;
        }
    }
    (server, ids)
}

/// Some seven turns' work for each of the documents.
fn costly(ids: &[i64]) -> String {
    let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let like = "t LIKE '%b%b_c%' OR t LIKE '%b%b_d%'";
    format!("SELECT COUNT(*) AS n FROM wide WHERE _id IN ({ids}) AND ({like})")
}

fn point_read(ids: &[Vec<i64>], place: usize) -> String {
    format!("SELECT _id FROM wide WHERE _id = {}", ids[place][0])
}

impl Process {
    fn begin(&mut self, text: &str) -> RequestId {
        self.submit(0, Request::Execute(Self::statement(text, "{}")))
    }

    fn is_answered(&self, request: RequestId) -> bool {
        self.replies.get(&request).is_some_and(|(_, outcome)| outcome.is_some())
    }

    /// Goes on to the next moment, and lets everything happen that happens in it.
    fn next_moment(&mut self) {
        self.now.mono.ns += 1_000;
        self.racks[0].handle_input(RackInput::Time, self.now);
        self.end_moment();
    }

    /// At which moment from now on each of the requests is answered.
    fn moments_of(&mut self, requests: &[RequestId]) -> Vec<usize> {
        let mut moments = vec![None; requests.len()];
        self.end_moment();
        for moment in 0..20_000 {
            for (answered, request) in moments.iter_mut().zip(requests) {
                if answered.is_none() && self.is_answered(*request) {
                    *answered = Some(moment);
                }
            }
            if moments.iter().all(Option::is_some) {
                break;
            }
            self.next_moment();
        }
        moments.into_iter().map(|moment| moment.expect("each comes to its end")).collect()
    }
}

#[test]
fn nodes_with_as_much_to_do_come_to_their_ends_together() {
    let (mut server, ids) = server();
    let nodes = usize::from(PARTITIONS);
    for of_each in [1, 3] {
        let statements = (0..of_each).flat_map(|_| ids.iter().map(|ids| costly(ids)));
        let requests: Vec<_> = statements.map(|text| server.begin(&text)).collect();
        let moments = server.moments_of(&requests);
        let (first, last) = (moments.iter().min(), moments.iter().max());
        let (first, last) = (*first.expect("there are some"), *last.expect("there are some"));
        assert!(first > 10 * nodes * of_each, "{first} moments: each takes many turns");
        assert!(last - first <= 2 * nodes * of_each, "{moments:?}");
    }
}

#[test]
fn a_node_with_little_to_do_does_not_wait_for_one_with_much() {
    let (mut server, ids) = server();
    let others = |busy: usize| (0..ids.len()).filter(move |place| *place != busy);
    for busy in [0, 3, 7] {
        let many: Vec<_> = (0..40).map(|_| server.begin(&costly(&ids[busy]))).collect();
        let few: Vec<_> =
            others(busy).map(|place| server.begin(&costly(&ids[place][..1]))).collect();
        // A statement that names its documents may be short: all of these have their first turn before any has another.
        while server.racks[0].nodes().iter().any(Node::has_ready) {
            server.next_moment();
        }
        for place in others(busy) {
            let read = server.begin(&point_read(&ids, place));
            server.end_moment();
            assert!(server.is_answered(read), "what is short waits for nothing that is long");
            server.next_moment();
        }
        // A turn of each node is a round, and a document takes eight turns.
        let moments = server.moments_of(&few);
        assert!(moments.iter().all(|moment| *moment <= 8 * ids.len()), "{busy}: {moments:?}");
        assert!(!many.iter().any(|request| server.is_answered(*request)));
        for request in many {
            server.racks[0].handle_input(RackInput::Cancel { request }, server.now);
        }
        server.settle();
    }
    server.check();
}

#[test]
fn a_point_read_waits_for_those_that_came_before_it_and_for_no_later_ones() {
    let (mut server, ids) = server();
    for busy in [0, 3, 7] {
        let (mut before, mut asked) = (Vec::new(), Vec::new());
        let (mut before_done, mut asked_done) = (None, None);
        // Each moment brings more than it has time for, and all of it to one node.
        for moment in 0..30 {
            let many: Vec<_> = (0..500).map(|_| server.begin(&point_read(&ids, busy))).collect();
            if moment == 5 {
                before = many;
                asked =
                    (0..ids.len()).map(|place| server.begin(&point_read(&ids, place))).collect();
            }
            server.next_moment();
            let are_done = |requests: &[RequestId]| {
                !requests.is_empty() && requests.iter().all(|it| server.is_answered(*it))
            };
            before_done = before_done.or_else(|| are_done(&before).then_some(moment));
            asked_done = asked_done.or_else(|| are_done(&asked).then_some(moment));
        }
        let before_done = before_done.expect("those that come later do not keep it waiting");
        let asked_done = asked_done.expect("nor one of another node");
        assert!(asked_done <= before_done + 1, "{busy}: {asked_done}, and {before_done} before");
        server.settle();
    }
    server.check();
}

#[test]
fn a_read_of_few_documents_that_was_long_to_put_together_hands_its_rows_on_in_turns() {
    let (mut server, ids) = server();
    let ids: Vec<_> = ids.concat().iter().take(8).map(ToString::to_string).collect();
    // To write its rows was long, to hand them on is short.
    let ids = ids.join(", ");
    let text = format!("SELECT _id, MAX(t) AS t FROM wide WHERE _id IN ({ids}) GROUP BY _id");
    let requests: Vec<_> = (0..20).map(|_| server.begin(&text)).collect();
    while server.racks[0].poll_timeout().is_some_and(|at| at <= server.now.mono) {
        server.now.mono.ns += 1_000;
        server.racks[0].handle_input(RackInput::Time, server.now);
        while let Some(output) = server.racks[0].poll_output() {
            server.on_rack(0, output);
        }
    }
    assert!(!requests.iter().any(|request| server.is_answered(*request)), "all have more rows");
    // Their clients take what there is, all at one moment.
    let taken: Vec<_> = server.mail.drain(..).collect();
    assert!(taken.len() >= requests.len());
    let before = server.racks[0].work().total;
    server.now.mono.ns += 1_000;
    for (_, input) in taken {
        server.racks[0].handle_input(input, server.now);
    }
    let spent = server.racks[0].work().total - before;
    assert!(spent < 250_000, "{spent} units at once");
    server.settle();
    for request in requests {
        assert_eq!(server.answer(request).1.error, None);
    }
    server.check();
}

#[test]
fn rows_that_come_from_another_thread_all_at_once_are_handed_on_in_several_moments() {
    let mut server = Process::server(&Options { threads: 2, partitions: 2, ..Options::default() });
    let of_the_other = |id: &i64| {
        let id = encode_id(&Value::Int(*id)).expect("an integer is an id");
        Slot::of(APP, "wide", &id).partition(2) == PartitionId(1)
    };
    let id = (0..).find(of_the_other).expect("one of two");
    let wide = "ab".repeat(100_000);
    let args = format!(r#"{{"d":{{"_id":{id},"t":"{wide}"}}}}"#);
    assert_eq!(server.execute("INSERT INTO wide DOCUMENTS (:d)", &args).1.error, None);
    let text = format!("SELECT * FROM wide WHERE _id = {id}");
    let requests: Vec<_> = (0..60).map(|_| server.begin(&text)).collect();
    server.slow_thread = Some(0);
    server.settle();
    assert!(server.held.len() >= requests.len(), "each has its row on the way");
    let before = server.racks[0].work().total;
    server.now.mono.ns += 1_000;
    for (_, input) in std::mem::take(&mut server.held) {
        server.racks[0].handle_input(input, server.now);
    }
    // Fifty thousand units each, and a million a moment.
    let spent = server.racks[0].work().total - before;
    assert!((900_000..1_100_000).contains(&spent), "{spent} units at once");
    server.slow_thread = None;
    server.settle();
    for request in requests {
        assert_eq!(server.answer(request).1.error, None);
    }
    server.check();
}
