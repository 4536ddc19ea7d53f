//! The admin door on a thread of its own, which has no nodes.

use super::*;

fn ask(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn the_admin_door_answers_though_no_thread_with_nodes_moves() {
    let mut server = Server::start_with(VirtualDisk::new(&[1; 32]), 2, 1, true);
    let client = server.connect(2, Door::Admin);
    for (path, found) in [
        ("/health/live", "{\"status\":\"live\"}"),
        ("/health/ready", "{\"status\":\"ready\"}"),
        ("/metrics", "bigpeer_shards 2"),
        ("/admin/nothing", "nothing"),
    ] {
        server.send(client, ask("GET", path, "").as_bytes());
        let answer = server.receive_now(client);
        assert!(answer.contains(found), "{path}: {answer}");
    }
    assert!(server.mail.is_empty(), "and none of them was asked");
}

#[test]
fn what_takes_the_catalog_is_asked_of_the_first_thread() {
    let mut server = Server::start_with(VirtualDisk::new(&[1; 32]), 2, 1, true);
    let client = server.connect(2, Door::Admin);
    let body = r#"{"name":"tills"}"#;
    server.send(client, ask("POST", "/admin/apps", body).as_bytes());
    server.run();
    let answer = server.receive(client);
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("developmentToken"), "{answer}");
    server.send(client, ask("GET", "/admin/apps", "").as_bytes());
    server.run();
    let answer = server.receive(client);
    assert!(answer.contains("\"tills\"") && answer.contains("\"default\""), "{answer}");
    // One who leaves before the answer is no trouble.
    server.send(client, ask("GET", "/admin/apps", "").as_bytes());
    server.shards[2].handle_reset(client.conn);
    server.shards[2].remove_connection(client.conn);
    server.run();
    for shard in &mut server.shards {
        shard.begin_turn(server.now, WALL);
        shard.drain();
    }
    server.run();
    assert_eq!((server.stopped, server.fatal), (3, None), "the door stops with the others");
}
