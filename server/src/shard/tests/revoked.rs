//! Answers that are under way when their key is revoked.

use super::*;

#[test]
fn of_a_read_whose_key_is_revoked_nothing_more_leaves() {
    let mut server = Server::start(VirtualDisk::new(&[4; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(1, Door::Data);
    server.insert_many(client, &first);
    server.send(client, request(&first, SELECT).as_bytes());
    server.run();
    // As much as its connection holds has left the server, whoever still has to read it.
    let written = pending_bytes(&server, client);
    let path = format!("/admin/apps/{}/keys/default", first.app);
    let admin = server.connect(0, Door::Admin);
    server.send(admin, administer("DELETE", &path, "").as_bytes());
    server.run();
    assert!(server.receive(admin).starts_with("HTTP/1.1 200 "));
    let answer = server.receive(client);
    assert!(answer.starts_with("HTTP/1.1 200 "), "its head was sent before");
    let grown = answer.len().saturating_sub(written);
    assert!(grown < 1_000, "{grown} bytes more than there were");
    let rows = answer.matches("\"_id\":").count();
    assert!(rows > 10 && rows < 500, "{rows} of 1,000 rows");
    assert!(!answer.ends_with("0\r\n\r\n"), "the answer lacks its end");
    assert_eq!(server.shards[1].pending.len(), 0);
    let again = server.connect(1, Door::Data);
    assert!(server.execute(again, &first, SELECT).starts_with("HTTP/1.1 401 "));
}

fn pending_bytes(server: &Server, client: Client) -> usize {
    let entry = server.shards[client.thread].connections.get(client.conn.0).expect("open");
    match &entry.machine {
        connection::Machine::Http(machine) => machine.pending_output_bytes(),
        connection::Machine::Framed(_) => unreachable!("it speaks HTTP"),
    }
}

#[test]
fn rows_that_were_collected_for_a_revoked_key_are_not_sent() {
    let mut server = Server::start(VirtualDisk::new(&[4; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let (client, admin) = (server.connect(0, Door::Data), server.connect(0, Door::Admin));
    let documents: Vec<_> = (0..4_000).map(|id| format!("{{\"_id\":{id}}}")).collect();
    let body = format!(
        "{{\"statement\":\"INSERT INTO cars DOCUMENTS (:d)\",\"args\":{{\"d\":[{}]}}}}",
        documents.join(",")
    );
    assert!(server.execute(client, &first, &body).starts_with("HTTP/1.1 200 "));
    server.send(client, request(&first, SELECT).as_bytes());
    let mut turns = 0;
    while server.shards[0].collected_rows() == 0 {
        server.run_first();
        for (thread, mail) in std::mem::take(&mut server.mail) {
            server.shards[usize::from(thread)].handle_mail(mail);
        }
        server.turn(1);
        server.now.ns += 1_000;
        turns += 1;
        assert!(turns < 1_000, "no row comes before the last");
    }
    let path = format!("/admin/apps/{}/keys/default", first.app);
    server.send(admin, administer("DELETE", &path, "").as_bytes());
    server.run_first();
    assert!(server.receive_now(admin).starts_with("HTTP/1.1 200 "));
    let answer = server.receive_now(client);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("revoked or changed while the read was in progress"), "{answer}");
    assert!(answer.contains(r#""items":[],"#), "{answer}");
    server.run();
    assert!(server.shards.iter().all(|shard| shard.pending.is_empty()));
}

impl Shard {
    /// Rows of answers that have not begun, in bytes.
    fn collected_rows(&self) -> usize {
        self.pending.keys().filter_map(|key| self.pending.get(key)).map(Pending::collected).sum()
    }
}
