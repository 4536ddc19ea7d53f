//! Who gets a place on a thread and who is put out for whom, and what strangers are told at the head of a request.

use super::*;
use crate::refusals::Refusal;
use crate::shard::admission::{PURGE_WORK_MIN, Purge};

/// As many as [`Server::start`] gives each thread.
const PLACES: usize = 8;

impl Server {
    fn open(&mut self, door: Door) -> Option<Client> {
        let shard = &mut self.shards[0];
        shard.begin_turn(self.now, WALL);
        shard.open_connection(door).map(|conn| Client { thread: 0, conn })
    }

    fn is_open(&self, client: Client) -> bool {
        !self.shards[client.thread].is_closed(client.conn)
    }

    fn pass(&mut self, millis: u64) {
        self.now = Instant { ns: self.now.ns + millis * 1_000_000 };
    }

    fn refused(&self, reason: Refusal) -> u64 {
        self.shared.refusals().count(reason)
    }
}

#[test]
fn the_stranger_that_is_idle_longest_makes_room_and_whoever_has_a_key_stays() {
    let mut server = Server::start(VirtualDisk::new(&[8; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let mut clients = Vec::new();
    for _ in 0..PLACES {
        server.pass(1);
        clients.push(server.open(Door::Data).expect("there is room"));
    }
    server.pass(1);
    assert!(server.execute(clients[0], &first, SELECT).starts_with("HTTP/1.1 200 "));
    server.send(clients[1], b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    server.receive(clients[1]);
    let newcomer = server.open(Door::Data).expect("a stranger makes room");
    assert!(!server.is_open(clients[2]), "the first that neither showed a key nor spoke");
    assert!(server.is_open(clients[0]) && server.is_open(clients[1]) && server.is_open(newcomer));
    assert_eq!((server.refused(Refusal::Idle), server.refused(Refusal::Limit)), (1, 0));
    // Administrators have places of their own.
    assert!(server.open(Door::Admin).is_some());
    assert_eq!(server.refused(Refusal::Idle), 1);
}

#[test]
fn where_everybody_has_a_key_a_newcomer_is_refused_and_counted() {
    let mut server = Server::start(VirtualDisk::new(&[9; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let clients: Vec<_> =
        (0..PLACES).map(|_| server.open(Door::Data).expect("there is room")).collect();
    for &client in &clients {
        assert!(server.execute(client, &first, SELECT).starts_with("HTTP/1.1 200 "));
    }
    assert!(server.open(Door::Peer).is_none());
    assert_eq!((server.refused(Refusal::Idle), server.refused(Refusal::Limit)), (0, 1));
    let text = crate::metrics::render(&server.shared, WALL);
    assert!(text.contains("\nbigpeer_connections_refused_total{reason=\"limit\"} 1\n"), "{text}");
    assert!(text.contains("\nbigpeer_connections_refused_total{reason=\"queue\"} 0\n"), "{text}");
    server.shards[0].handle_reset(clients[0].conn);
    assert!(server.open(Door::Peer).is_some(), "a place is free at the end of its connection");
}

#[test]
fn connections_that_are_gone_are_not_remembered() {
    let mut server = Server::start(VirtualDisk::new(&[10; 32]), 1, 1);
    for _ in 0..1000 {
        let client = server.open(Door::Data).expect("there is room");
        server.shards[0].handle_reset(client.conn);
        server.shards[0].remove_connection(client.conn);
    }
    let remembered = server.shards[0].strangers.len();
    assert!(remembered <= 100, "{remembered} of none");
}

#[test]
fn a_stranger_is_refused_at_the_head_and_a_client_is_told_to_go_on() {
    let mut server = Server::start(VirtualDisk::new(&[11; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let head = |app: &str, key: &str| {
        format!(
            "POST /{app}/api/v5/store/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Content-Length: 8000000\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let (app, key) = (first.app.to_string(), first.api_key.reveal().to_owned());
    let unknown = "00000000-0000-0000-0000-000000000001";
    for (app, key, status) in [(&*app, "wrong", 401), (unknown, &*key, 404), (&app, &key, 100)] {
        let client = server.open(Door::Data).expect("there is room");
        server.send(client, head(app, key).as_bytes());
        let answer = server.receive(client);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[test]
fn a_key_that_was_shown_before_is_asked_for_again() {
    let mut server = Server::start(VirtualDisk::new(&[13; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let client = server.open(Door::Data).expect("there is room");
    let ask = |server: &mut Server, status: u16| {
        let answer = server.execute(client, &first, SELECT);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    };
    ask(&mut server, 200);
    ask(&mut server, 200);
    let app = first.app;
    let admin = server.open(Door::Admin).expect("there is room");
    let revoke = format!(
        "DELETE /admin/apps/{app}/keys/default HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    );
    server.send(admin, revoke.as_bytes());
    server.run();
    assert!(server.receive(admin).starts_with("HTTP/1.1 200 "));
    ask(&mut server, 401);
}

#[test]
fn unfinished_input_has_one_bound_and_the_slowest_goes_first() {
    const PIECE: usize = 1 << 20;
    let mut server = Server::start(VirtualDisk::new(&[12; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let (app, key) = (first.app, first.api_key.reveal().to_owned());
    let head = format!(
        "POST /{app}/api/v5/store/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 8000000\r\n\r\n"
    );
    let clients: Vec<_> =
        (0..PLACES).map(|_| server.open(Door::Data).expect("there is room")).collect();
    for &client in &clients {
        server.send(client, head.as_bytes());
    }
    let bound = server.shards[0].config.input_bytes_max;
    for _ in 0..7 {
        server.pass(1000);
        for (pace, &client) in clients.iter().enumerate() {
            // The first is slowest, the last fastest.
            server.send(client, &vec![b' '; PIECE * (pace + 1) / PLACES]);
        }
        assert!(server.shards[0].held_bytes <= bound, "{}", server.shards[0].held_bytes);
    }
    let answers: Vec<_> = clients.iter().map(|&client| server.receive(client)).collect();
    let is_shed: Vec<_> = answers.iter().map(|text| text.starts_with("HTTP/1.1 503 ")).collect();
    assert!(is_shed[0] && !is_shed[PLACES - 1], "{is_shed:?}");
    assert!(is_shed.is_sorted_by(|slow, fast| slow >= fast), "{is_shed:?}");
    for &client in &clients {
        server.shards[0].handle_reset(client.conn);
    }
    assert_eq!(server.shards[0].held_bytes, 0);
    let shard = &mut server.shards[0];
    assert_eq!(shard.purge.deadline(), Some(server.now.after(std::time::Duration::from_secs(1))));
    shard.begin_turn(server.now.after(std::time::Duration::from_secs(1)), WALL);
    shard.settle();
    let outputs: Vec<_> = std::iter::from_fn(|| shard.poll_output()).collect();
    assert!(outputs.iter().any(|output| matches!(output, ShardOutput::Purge)));
}

#[test]
fn input_that_goes_on_puts_the_giving_back_of_memory_off_for_seconds_and_not_for_ever() {
    let at = |millis: u64| Instant { ns: millis * 1_000_000 };
    let mut purge = Purge::default();
    purge.note(2 << 20, at(0));
    for millis in (100..1000).step_by(100) {
        purge.note(0, at(millis));
    }
    assert_eq!(purge.deadline(), Some(at(1000)), "requests that leave nothing put nothing off");
    let due = (100..).step_by(100).map(at).find(|&now| {
        purge.note(4096, now);
        purge.take_due(now)
    });
    assert_eq!(due, Some(at(5000)));
    purge.note_work(PURGE_WORK_MIN, at(6000));
    (6100..7000).step_by(100).for_each(|millis| purge.note(2 << 20, at(millis)));
    assert_eq!(purge.deadline(), Some(at(7000)), "input does not put off what statements left");
}

#[test]
fn what_statements_leave_goes_back_a_second_after_they_did_much_however_long_they_go_on() {
    let at = |millis: u64| Instant { ns: millis * 1_000_000 };
    let mut purge = Purge::default();
    purge.note_work(PURGE_WORK_MIN - 1, at(0));
    assert_eq!(purge.deadline(), None);
    purge.note_work(PURGE_WORK_MIN, at(10));
    purge.note_work(9 * PURGE_WORK_MIN, at(500));
    assert_eq!(purge.deadline(), Some(at(1010)));
    assert!(!purge.take_due(at(1009)) && purge.take_due(at(1010)) && !purge.take_due(at(1011)));
    purge.note_work(10 * PURGE_WORK_MIN - 1, at(1020));
    assert_eq!(purge.deadline(), None, "what was done before has been seen to");
}
