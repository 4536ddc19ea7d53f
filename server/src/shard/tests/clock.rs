use super::*;

#[test]
fn a_clock_that_is_ahead_is_told_by_every_thread() {
    let mut server = Server::start(VirtualDisk::new(&[9; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let client = server.connect(0, Door::Data);
    let answer = server.execute(client, &first, INSERT);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.run();
    for thread in 0..2 {
        let client = server.connect(thread, Door::Data);
        for (behind_ms, expected) in [(0, None), (60_000, None), (3_600_000, Some("up to 3600 s"))]
        {
            let shard = &mut server.shards[thread];
            shard.begin_turn(server.now, WallMs(WALL.0 - behind_ms));
            shard.handle_bytes(client.conn, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n");
            let answer = server.receive(client);
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("ready"), "{answer}");
            assert_eq!(answer.contains("clock_ahead"), expected.is_some(), "{answer}");
            assert!(expected.is_none_or(|text| answer.contains(text)), "{answer}");
        }
    }
}
