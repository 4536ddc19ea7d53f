//! Schedules that lose something unless the code takes care.

use super::refused::Appending;
use super::*;

#[test]
fn nothing_builds_on_what_a_refusal_will_supersede() {
    let mut world = Appending::new();
    let id = Appending::id_of(1);
    let hot = format!("INSERT INTO c DOCUMENTS ({{'_id': {id}, 'b': 1}}) ON ID CONFLICT DO UPDATE");
    world.execute(1, 1, &hot);
    world.execute(1, 2, &hot);
    let first = world.appends.pop_front().expect("the first INSERT is appended");
    let second = world.appends.pop_front().expect("the second INSERT is appended");
    world.refuse(&first);
    // That the second one is superseded is not known here yet, but certain.
    world.execute(1, 3, &format!("INSERT INTO c DOCUMENTS ({{'_id': {id}, 'a': 1}})"));
    let third = world.appends.pop_front().expect("no document stands in its way");
    assert!(third.epoch > second.epoch, "and the gate admits it");
    assert!(world.outcome(2).expect("it ended with the first").error.is_some());
    let result = Err(AppendRefused::Superseded);
    world.input(1, Input::Appended { ticket: second.ticket, result });
    world.commit(&third);
    assert_eq!(world.outcome(3).expect("it was committed").error, None);
    world.nodes[1].check_invariants();
}

#[test]
fn a_full_disk_takes_nothing_that_was_sent_after_what_it_refused() {
    let mut now = Now { wall: WallMs(1_700_000_000_000), ..Now::default() };
    let mut disk = VirtualDisk::new(&[1; 32]);
    let boot = BootId(Uuid([1; 16]));
    let config = LogConfig { segment_bytes: 4_096, ..LogConfig::new(boot, [1; 32]) };
    let mut journal = Journal::open(config, 2, now);
    let mut epoch = 0;
    let mut refused = 0;
    for round in 0..400_u64 {
        if round == 4 {
            disk.set_capacity(8_192);
        }
        let sizes = if round % 8 == 0 { [3_000, 16] } else { [200, 16] };
        for (place, size) in sizes.into_iter().enumerate() {
            let record = Bytes::from(vec![7; size]).into();
            let ticket = Ticket(round * 2 + place as u64);
            journal
                .append(Append { from: PartitionId(1), ticket, epoch, frees: false, record }, now);
        }
        let mut results = BTreeMap::new();
        for _ in 0..40 {
            now.mono.ns += 20_000_000;
            while let Some(output) = journal.poll_output() {
                match output {
                    JournalOutput::Disk(op, command) => disk.submit(op, command),
                    JournalOutput::Appended { ticket, result, .. } => {
                        results.insert(ticket, result);
                    }
                    _ => {}
                }
            }
            if let Some(done) = disk.step() {
                journal.handle_disk(done, now);
            } else if journal.poll_timeout().is_some_and(|at| at <= now.mono) {
                journal.handle_timeout(now);
            }
        }
        let results: Vec<_> = results.into_values().collect();
        if let [first, second] = &results[..]
            && first.is_err()
        {
            refused += 1;
            epoch += 1;
            assert!(second.is_err(), "round {round}: {first:?}, then {second:?}");
        }
    }
    assert!(refused > 0, "the disk was full at times");
}
