//! A process on a volume that is small, or full.

use super::*;
use crate::disk::DiskError;
use crate::disk_sim::CommandKind;

const CAPACITY_BYTES: u64 = 1 << 20;

fn small_options() -> Options {
    Options {
        threads: 2,
        seed: 5,
        segment_bytes: 16 << 10,
        // As much as is kept on a large volume: here the volume is the bound.
        retain_bytes: 1 << 30,
        ..Options::default()
    }
}

fn small(capacity_bytes: u64) -> Process {
    let mut disk = VirtualDisk::new(&[small_options().seed; 32]);
    disk.set_capacity(capacity_bytes);
    let mut process = Process::on_disk(&small_options(), disk);
    process.create_app();
    process
}

impl Process {
    /// Writes one of `count` documents of some 700 bytes.
    fn update(&mut self, round: u64, count: u64) -> Option<RequestError> {
        let (id, text) = (round % count, "x".repeat(700));
        let statement = format!(
            "INSERT INTO cars DOCUMENTS ({{'_id': {id}, 'round': {round}, 'text': '{text}'}}) ON ID CONFLICT DO UPDATE"
        );
        self.execute(&statement, "{}").1.error
    }

    fn space(&self) -> String {
        let files: Vec<_> = self.disk.files().collect();
        format!(
            "{} bytes: {files:?}, {:?}, {:?}",
            self.used_bytes(),
            self.journal.fill(),
            self.checkpoints
        )
    }

    fn used_bytes(&self) -> u64 {
        self.disk.files().map(|(_, bytes)| bytes).sum()
    }

    fn pass(&mut self, seconds: u64) {
        self.now.mono.ns += seconds * 1_000_000_000;
        self.settle();
    }
}

#[test]
fn updates_of_a_constant_set_of_documents_never_fill_a_small_volume() {
    let capacity_bytes = CAPACITY_BYTES / 4;
    let mut process = small(capacity_bytes);
    let rounds = 10 * capacity_bytes / 1_000;
    for round in 0..rounds {
        assert_eq!(process.update(round, 20), None, "round {round}: {}", process.space());
    }
    assert!(process.used_bytes() <= capacity_bytes);
    let before = process.rows("SELECT * FROM cars");
    process.disk.kill();
    let mut next = Process::on_disk(&Options { boot: 2, ..small_options() }, process.disk);
    assert_eq!(next.rows("SELECT * FROM cars"), before);
    next.check();
}

#[test]
fn a_volume_that_is_full_of_documents_takes_writes_again_when_it_grows() {
    let mut process = small(CAPACITY_BYTES);
    let mut count = 0;
    while process.update(count, u64::MAX).is_none() {
        count += 1;
        assert!(count < 1_000, "more than the volume holds");
    }
    assert!(count > 100, "{count} documents of 700 bytes in {CAPACITY_BYTES}");
    let made = process.checkpoints.len();
    for round in 0..100 {
        assert!(process.update(count + round, u64::MAX).is_some());
    }
    assert!(process.checkpoints.len() <= made + 1, "no checkpoint for each refused write");
    process.disk.set_capacity(2 * CAPACITY_BYTES);
    process.pass(2);
    assert_eq!(process.update(count, u64::MAX), None);
    assert_eq!(
        process.rows("SELECT COUNT(*) AS n FROM cars"),
        format!("[{{\"n\":{}}}]", count + 1)
    );
}

#[test]
fn a_full_volume_takes_deletions_evictions_and_keys_until_there_is_room_again() {
    let mut process = small(CAPACITY_BYTES);
    let mut count = 0;
    while process.update(count, u64::MAX).is_none() {
        count += 1;
    }
    assert!(process.journal.fill().disk_full);
    let key = ApiKey {
        name: "another".into(),
        description: None,
        prefix: key_prefix("another-secret").into(),
        hash: hash("another-secret"),
        expires: WallMs(u64::MAX),
        permissions: Arc::new(Permissions::everything()),
    };
    let request = process.submit(0, Request::Catalog(vec![CatalogOp::PutKey { app: APP, key }]));
    process.settle();
    assert_eq!(process.answer(request).1.error, None);
    assert_eq!(process.execute("EVICT FROM cars WHERE _id = 0", "{}").1.error, None);
    for id in 1..count {
        let deleted = process.execute(&format!("DELETE FROM cars WHERE _id = {id}"), "{}");
        assert_eq!(deleted.1.error, None, "of {count} documents, {id}: {}", process.space());
        process.pass(1);
        if process.update(count, u64::MAX).is_none() {
            process.check();
            return;
        }
    }
    panic!("with all documents deleted there is still no room");
}

#[test]
fn a_failed_checkpoint_is_made_again_after_a_pause_and_not_before() {
    // The log has its spare segment already: only the checkpoint renames a file.
    let options = Options { segment_bytes: 1 << 20, checkpoint_after: 20 << 10, ..small_options() };
    let mut process = Process::server(&options);
    process.disk.fail_next(CommandKind::Rename, DiskError::Io("gone".into()));
    let mut rounds = 0;
    while !process.checkpoints.iter().any(|event| matches!(event, CheckpointEvent::Failed { .. })) {
        assert_eq!(process.update(rounds, 8), None);
        rounds += 1;
    }
    let tries = process.checkpoints.len();
    assert_eq!(process.update(rounds, 8), None);
    assert_eq!(process.checkpoints.len(), tries, "not at once");
    let at = process.journal.poll_timeout().expect("it will be tried again without another write");
    process.now.mono = process.now.mono.max(at);
    process.pass(1);
    assert!(matches!(process.checkpoints.last(), Some(CheckpointEvent::Made { .. })));
}

#[test]
fn a_checkpoint_that_was_never_finished_takes_no_space_after_the_next_start() {
    let mut process = small(CAPACITY_BYTES);
    assert_eq!(process.update(0, 1), None);
    process.disk.kill();
    process.disk.install("checkpoint/0000000000000099.tmp", &[7; 100_000]);
    let next = Process::on_disk(&Options { boot: 2, ..small_options() }, process.disk);
    assert!(next.disk.files().all(|(name, _)| !name.starts_with("checkpoint/")));
}

#[test]
fn a_checkpoint_that_lacks_a_descriptor_for_a_moment_is_made_all_the_same() {
    for kind in [CommandKind::Create, CommandKind::Write, CommandKind::Sync, CommandKind::List] {
        let options =
            Options { segment_bytes: 1 << 20, checkpoint_after: 20 << 10, ..small_options() };
        let mut process = Process::server(&options);
        let mut rounds = 0;
        while process.checkpoints.is_empty() {
            process.disk.fail_next(kind, DiskError::Again("no descriptor is left".into()));
            assert_eq!(process.update(rounds, 8), None);
            process.now.mono.ns += 20_000_000;
            process.settle();
            rounds += 1;
        }
        assert!(
            matches!(process.checkpoints[..], [CheckpointEvent::Made { .. }]),
            "{kind:?}: {:?}",
            process.checkpoints
        );
    }
}
