//! Clients that close their side of a connection before they have their answer.

use std::time::Duration;

use super::*;

/// A statement that waits for a transaction which is far from being there.
fn waiting(first: &FirstStart, statement: &str) -> String {
    let body = format!(r#"{{"statement":"{statement}"}}"#);
    request(first, &body).replacen("\r\n\r\n", "\r\nX-DITTO-TXN-ID: 999999\r\n\r\n", 1)
}

#[test]
fn a_read_ends_well_before_the_bar_once_its_client_has_closed_and_a_mutation_does_not() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 1, 1);
    let first = server.first.take().expect("the first start");
    for (text, left_after_the_close) in
        [("SELECT * FROM cars", 0), ("UPDATE cars SET n = 1 WHERE _id = 7", 1)]
    {
        server.now = server.now.after(Duration::from_secs(1));
        let client = server.connect(0, Door::Data);
        server.send(client, waiting(&first, text).as_bytes());
        server.run();
        server.shards[0].handle_eof(client.conn);
        server.run();
        assert_eq!(server.shards[0].pending.len(), 1, "a client may only say that it asks no more");
        assert!(server.shards[0].poll_timeout().is_some(), "the thread does not sleep through it");
        server.now = server.now.after(Duration::from_millis(120));
        server.run();
        assert_eq!(server.shards[0].pending.len(), left_after_the_close, "{text}");
    }
}
