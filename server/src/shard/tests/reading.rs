//! Statements with large bodies, which a reader beside the thread reads.

use super::*;

/// A list with more text than is read on the thread.
fn long_select() -> String {
    let list: Vec<_> = (0..20_000).map(|n| (n + 7).to_string()).collect();
    format!(
        r#"{{"statement":"SELECT _id FROM cars WHERE n IN :n","args":{{"n":[{}]}}}}"#,
        list.join(",")
    )
}

fn is_ok(answer: &str, rows: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(rows), "{answer}");
}

#[test]
fn who_asks_little_is_answered_while_a_large_body_is_read() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let (large, small) = (server.connect(1, Door::Data), server.connect(1, Door::Data));
    let insert =
        r#"{"statement":"INSERT INTO cars DOCUMENTS (:d)","args":{"d":{"_id":"1","n":9}}}"#;
    is_ok(&server.execute(small, &first, insert), "\"mutatedDocumentIds\":[\"1\"]");
    server.readers_work = false;
    let body = long_select();
    server.send(large, request(&first, &body).as_bytes());
    server.run();
    assert_eq!(server.receive_now(large), "");
    is_ok(&server.execute(small, &first, SELECT), "\"n\":9");
    // What is asked behind it on the same connection waits for its answer, and comes after it.
    server.send(large, request(&first, r#"{"statement":"SELECT n FROM cars"}"#).as_bytes());
    server.run();
    assert_eq!(server.receive_now(large), "");
    server.readers_work = true;
    server.run();
    let answers = server.receive(large);
    let (found, behind) = (answers.find(r#"[{"_id":"1"}]"#), answers.find(r#"[{"n":9}]"#));
    assert!(found.is_some() && found < behind, "{answers}");
    for shard in &server.shards {
        assert!(shard.unread.is_empty());
    }
}

#[test]
fn what_is_wrong_with_a_large_body_is_said() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let body = long_select();
    for (wrong, text) in [
        (body.replacen('{', "[", 1), "400"),
        (body.replace("SELECT", "SELEC"), "SELEC"),
        (body.replace(":n", ":m"), "m"),
    ] {
        let client = server.connect(0, Door::Data);
        let answer = server.execute(client, &first, &wrong);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(text), "{answer}");
    }
    let mut stranger = request(&first, &body).into_bytes();
    let key = first.api_key.reveal().as_bytes();
    let at = stranger.windows(key.len()).position(|bytes| bytes == key).expect("the key");
    stranger[at + key.len() - 1] ^= 1;
    server.readers_work = false;
    let client = server.connect(0, Door::Data);
    server.send(client, &stranger);
    server.run();
    let answer = server.receive_now(client);
    assert!(answer.starts_with("HTTP/1.1 401 "), "nothing is read for a stranger: {answer}");
    assert!(server.bodies.is_empty());
}

#[test]
fn a_client_that_is_gone_before_its_body_is_read_asks_for_nothing() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let text = "x".repeat(100_000);
    let insert = format!(
        r#"{{"statement":"INSERT INTO cars DOCUMENTS (:d)","args":{{"d":{{"_id":"1","t":"{text}"}}}}}}"#
    );
    server.readers_work = false;
    let client = server.connect(0, Door::Data);
    server.send(client, request(&first, &insert).as_bytes());
    server.run();
    server.shards[0].handle_reset(client.conn);
    server.run();
    server.readers_work = true;
    server.run();
    assert!(server.shards[0].unread.is_empty() && server.shards[0].pending.is_empty());
    let client = server.connect(0, Door::Data);
    is_ok(&server.execute(client, &first, SELECT), "\"items\":[]");
}

#[test]
fn what_is_asked_in_one_order_is_begun_in_that_order() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    let put = |text: &str| {
        format!(
            r#"{{"statement":"INSERT INTO cars DOCUMENTS (:d) ON ID CONFLICT DO UPDATE","args":{{"d":{{"_id":"1","t":"{text}"}}}}}}"#
        )
    };
    let client = server.connect(0, Door::Data);
    server.send(client, request(&first, &put(&"x".repeat(100_000))).as_bytes());
    server.send(client, request(&first, &put("short")).as_bytes());
    server.run();
    server.receive(client);
    is_ok(&server.execute(client, &first, SELECT), "\"t\":\"short\"");
}

#[test]
fn the_reader_has_one_body_and_what_a_client_leaves_behind_is_not_read() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    server.readers_work = false;
    let body = long_select();
    let clients: Vec<_> = (0..3).map(|_| server.connect(0, Door::Data)).collect();
    for client in &clients {
        server.send(*client, request(&first, &body).as_bytes());
        server.run();
    }
    assert_eq!(server.bodies.len(), 1, "the others wait with their connections");
    for client in &clients[..2] {
        server.shards[0].handle_reset(client.conn);
    }
    server.run();
    server.read_bodies();
    server.run();
    assert_eq!(server.bodies.len(), 1);
    server.readers_work = true;
    server.run();
    is_ok(&server.receive(clients[2]), "\"items\":[]");
    assert!(server.shards[0].unread.is_empty() && server.shards[0].pending.is_empty());
}
