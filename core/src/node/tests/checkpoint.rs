use super::sync::Pair;
use super::*;

fn small() -> Options {
    Options {
        threads: 2,
        seed: 3,
        segment_bytes: 16 << 10,
        checkpoint_after: 64 << 10,
        ..Options::default()
    }
}

/// Writes, deletes and evicts.
fn work(process: &mut Process, rounds: std::ops::Range<u64>) {
    for round in rounds {
        let id = round % 40;
        let insert = format!(
            "INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'round': {round}}}) ON ID CONFLICT DO UPDATE"
        );
        process.rows(&insert);
        match round % 9 {
            3 => drop(process.rows(&format!("DELETE FROM cars WHERE _id = {}", (id + 7) % 40))),
            5 => drop(process.rows(&format!("EVICT FROM cars WHERE _id = {}", (id + 11) % 40))),
            _ => {}
        }
    }
}

fn made(process: &Process) -> usize {
    let is_made = |event: &&CheckpointEvent| matches!(event, CheckpointEvent::Made { .. });
    process.checkpoints.iter().filter(is_made).count()
}

fn restart(mut process: Process, options: &Options, boot: u8) -> Process {
    process.disk.kill();
    let mut next = Process::on_disk(&Options { boot, ..*options }, process.disk);
    next.settle();
    next
}

#[test]
fn a_start_from_a_checkpoint_has_everything_and_the_log_is_trimmed() {
    let mut process = Process::server(&small());
    work(&mut process, 0..300);
    assert!(made(&process) >= 3, "{:?}", process.checkpoints);
    assert!(process.journal.fill().segment_count < 16, "{:?}", process.journal.fill());
    let is_over = |node: &Node| node.snapshot.is_none();
    assert!(process.racks.iter().flat_map(Rack::nodes).all(is_over), "old versions may go");
    let mut before = process.rows("SELECT * FROM cars");
    process.check();
    for threads in [1, 3] {
        let options = Options { threads, ..small() };
        process = restart(process, &options, 1 + threads as u8);
        assert_eq!(process.rows("SELECT * FROM cars"), before);
        process.check();
        work(&mut process, 0..7);
        before = process.rows("SELECT * FROM cars");
    }
}

#[test]
fn a_checkpoint_is_of_one_position_while_writes_go_on() {
    for seed in 0..12 {
        let options = Options { seed, cold: true, ..small() };
        let mut process = Process::server(&options);
        // All of these are under way while parts are given.
        let mut requests = Vec::new();
        for round in 0..400_u64 {
            let text = format!(
                "INSERT INTO cars DOCUMENTS ({{'_id': {}, 'round': {round}, 'text': 'some more'}}), \
                 ({{'_id': {}, 'round': {round}}}) ON ID CONFLICT DO UPDATE",
                round % 30,
                100 + round % 7
            );
            let thread = (round % 2) as u16;
            requests
                .push(process.submit(thread, Request::Execute(Process::statement(&text, "{}"))));
            if round % 16 == u64::from(seed) {
                process.settle();
            }
        }
        process.settle();
        for request in requests {
            assert_eq!(process.answer(request).1.error, None);
        }
        assert!(made(&process) >= 2, "{:?}", process.checkpoints);
        let before = process.rows("SELECT * FROM cars");
        let mut next = restart(process, &options, 2);
        assert_eq!(next.rows("SELECT * FROM cars"), before, "seed {seed}");
        next.check();
    }
}

#[test]
fn the_greatest_wall_clock_is_known_again_after_a_start() {
    const HOUR_MS: u64 = 3_600_000;
    for checkpoint_after in [64 << 10, u64::MAX] {
        let options = Options { threads: 1, partitions: 1, checkpoint_after, ..small() };
        let mut process = Process::server(&options);
        process.now.wall.0 += HOUR_MS;
        let greatest = process.now.wall;
        work(&mut process, 0..3);
        // The clock is put right: what is logged behind a checkpoint tells nothing of that hour.
        process.now.wall.0 -= HOUR_MS;
        work(&mut process, 3..200);
        assert_eq!(made(&process) > 0, checkpoint_after < u64::MAX);
        let next = restart(process, &options, 2);
        assert!(next.now.wall < greatest);
        assert_eq!(next.racks[0].nodes()[0].clock_wall_max, greatest, "{checkpoint_after}");
    }
}

#[test]
fn a_device_is_known_again_after_a_start_from_a_checkpoint() {
    let mut pair = Pair::with_server(&small());
    work(&mut pair.server, 0..60);
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    work(&mut pair.server, 60..200);
    pair.probe();
    pair.disconnect();
    assert!(made(&pair.server) >= 2);
    let server = std::mem::replace(&mut pair.server, Process::new(&Options::default()));
    pair.server = restart(server, &small(), 2);
    work(&mut pair.server, 200..203);
    pair.connect(&["SELECT * FROM cars"]);
    pair.probe();
    let all = "SELECT * FROM cars";
    let evicted_there = "the server does not send what it evicted, and the device keeps it";
    for row in json_rows(&pair.server.rows(all)) {
        assert!(json_rows(&pair.device.local_rows(all)).contains(&row), "{evicted_there}");
    }
}

fn json_rows(text: &str) -> Vec<Value> {
    match json::parse(text.as_bytes(), json::Limits::default()) {
        Ok(Value::Array(rows)) => rows.into_iter().collect(),
        other => panic!("rows are an array: {other:?}"),
    }
}
