//! The former versions of documents are dropped once no read needs them, and never for long at once.

use super::*;

const DOCUMENTS: usize = 200;
const AT_ONCE: usize = 3;

/// A process of one partition with a read that is under way, and with all its documents changed since.
fn process() -> (Process, RequestId) {
    let limits =
        NodeLimits { reply_bytes_max: 700, folded_at_once: AT_ONCE, ..NodeLimits::default() };
    let mut process =
        Process::server(&Options { partitions: 1, threads: 1, limits, ..Options::default() });
    process.insert_all();
    process.silent = Some(RequestId(process.request_next + 1));
    let read = process.submit(0, Request::Execute(Process::statement("SELECT * FROM c", "{}")));
    process.settle();
    process.rows("UPDATE c SET n = 1");
    assert_eq!(process.kept(), DOCUMENTS, "the read is not over");
    (process, read)
}

impl Process {
    fn insert_all(&mut self) {
        let documents = (0..DOCUMENTS).map(|id| format!(r#"{{"_id":{id},"n":0}}"#));
        let documents = format!(r#"{{"d":[{}]}}"#, documents.collect::<Vec<_>>().join(","));
        assert_eq!(self.execute("INSERT INTO c DOCUMENTS (:d)", &documents).1.error, None);
    }

    /// The number of older versions that are kept.
    fn kept(&self) -> usize {
        self.racks[0].nodes()[0].store().foldable_count()
    }

    fn is_due(&self) -> bool {
        self.racks[0].poll_timeout().is_some_and(|at| at <= self.now.mono)
    }

    fn time_passes(&mut self) {
        self.publish_oldest_read();
        self.now.mono.ns += 1_000;
        self.racks[0].handle_input(RackInput::Time, self.now);
    }
}

#[test]
fn when_a_long_read_ends_the_versions_that_it_needed_are_dropped_a_few_at_a_time() {
    let (mut process, read) = process();
    process.time_passes();
    assert!(process.kept() == DOCUMENTS && !process.is_due(), "nothing is to be done yet");
    process.racks[0].handle_input(RackInput::Cancel { request: read }, process.now);
    let mut kept = process.kept();
    while kept > 0 {
        process.time_passes();
        let left = process.kept();
        assert_eq!(kept - left, kept.min(AT_ONCE));
        assert_eq!(process.is_due(), left > 0, "{left} are left");
        kept = left;
    }
    process.check();
}

#[test]
fn a_checkpoint_that_begins_meanwhile_stops_it_only_where_it_needs_the_versions() {
    let (mut process, read) = process();
    process.racks[0].handle_input(RackInput::Cancel { request: read }, process.now);
    process.time_passes();
    assert!(process.is_due());
    let (partition, ask) = (PartitionId(0), SnapshotAsk::Begin { at: process.now.durable });
    process.racks[0].handle_input(RackInput::Snapshot { partition, ask }, process.now);
    for _ in 0..DOCUMENTS {
        process.time_passes();
    }
    assert!(!process.is_due(), "nothing is left to do: {} versions are kept", process.kept());
    assert_eq!(process.kept(), 0, "the checkpoint is of a later position");
}

#[test]
fn a_record_that_comes_in_pieces_drops_as_many_versions_as_it_makes() {
    let limits = NodeLimits { applied_at_once: 20, folded_at_once: 0, ..NodeLimits::default() };
    let mut process =
        Process::server(&Options { partitions: 1, threads: 1, limits, ..Options::default() });
    process.insert_all();
    for n in 1..6 {
        process.rows(&format!("UPDATE c SET n = {n}"));
        assert!(process.kept() <= DOCUMENTS, "{} after update {n}", process.kept());
    }
}

#[test]
fn what_commits_make_of_older_versions_they_drop_too() {
    let (mut process, read) = process();
    process.racks[0].handle_input(RackInput::Cancel { request: read }, process.now);
    // Each changes as many documents as are kept: they would become ever more.
    for n in 2..6 {
        process.rows(&format!("UPDATE c SET n = {n}"));
        assert!(process.kept() <= DOCUMENTS, "{} after update {n}", process.kept());
    }
    process.time_passes();
    process.settle();
    assert_eq!(process.kept(), 0);
}
