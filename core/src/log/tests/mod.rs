//! The log against a hostile disk.

mod crash;
mod damage;
mod expected;
mod scarce;
mod service;
mod torn;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::disk_sim::VirtualDisk;
use crate::rng::Rng;

/// A log on a virtual disk, and the judge of what it says.
struct Bench {
    disk: VirtualDisk,
    log: Log,
    config: LogConfig,
    now: Now,
    rng: Rng,
    boots: u64,
    tickets: u64,
    /// What each ticket in this boot brought.
    given: BTreeMap<u64, Vec<Bytes>>,
    /// Acknowledged, or found durable: must be there after every opening.
    acked: BTreeMap<u64, Bytes>,
    /// Has a position and no acknowledgement: may be there after the next opening, once.
    possible: BTreeMap<u64, Bytes>,
    /// The position that the next replayed or live record must not be below.
    next: u64,
    opened: Option<LogOpened>,
    refused: Vec<(u64, Refusal)>,
    failed: Option<LogError>,
    /// The answer to a seal, and whether all was on the disk then.
    sealed: Option<bool>,
    commits: u64,
}

impl Bench {
    fn new(seed: u64, segment_bytes: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = Rng::new(&bytes, "bench");
        let mut config = LogConfig::new(BootId(rng.uuid()), bytes);
        config.segment_bytes = segment_bytes;
        config.retain_bytes = 0;
        let mut disk = VirtualDisk::new(&bytes);
        let log = Log::open(config.clone(), Now::default());
        disk.set_capacity(u64::MAX);
        let mut bench = Self {
            disk,
            log,
            config,
            now: Now::default(),
            rng,
            boots: 0,
            tickets: 0,
            given: BTreeMap::new(),
            acked: BTreeMap::new(),
            possible: BTreeMap::new(),
            next: 0,
            opened: None,
            refused: Vec::new(),
            failed: None,
            sealed: None,
            commits: 0,
        };
        bench.reopen();
        bench
    }

    /// Starts another process on the same disk.
    fn reopen(&mut self) {
        self.disk.kill();
        self.boots += 1;
        self.config.boot = BootId(self.rng.uuid());
        self.log = Log::open(self.config.clone(), self.now);
        self.given.clear();
        self.next = self.config.replay_from.0 + 1;
        self.opened = None;
        self.refused.clear();
        self.failed = None;
        self.sealed = None;
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.log.poll_output() {
            match output {
                LogOutput::Disk(op, command) => self.disk.submit(op, command),
                LogOutput::Opened(opened) => self.on_opened(*opened),
                LogOutput::Appended { ticket, first } => {
                    let records = self.given.remove(&ticket).expect("one answer for each append");
                    for (index, record) in records.into_iter().enumerate() {
                        self.possible.insert(first.0 + index as u64, record);
                    }
                }
                LogOutput::Committed { first, records } => self.on_committed(first, records),
                LogOutput::Refused { ticket, reason } => {
                    self.given.remove(&ticket).expect("one answer for each append");
                    self.refused.push((ticket, reason));
                }
                LogOutput::Failed { error } => self.failed = Some(error),
                LogOutput::Short => self.log.deny_space(self.now),
                LogOutput::Sealed { is_whole } => self.sealed = Some(is_whole),
            }
        }
        self.log.check_invariants();
    }

    /// What lies above the end of an opened log was reported lost: it must never come back.
    fn on_opened(&mut self, opened: LogOpened) {
        let lost = self.possible.split_off(&(opened.durable.0 + 1));
        drop(lost);
        self.acked.append(&mut self.possible);
        let last = self.acked.keys().next_back().copied().unwrap_or(0);
        assert!(last <= opened.durable.0, "{last} was acknowledged, the log ends at {opened:?}");
        assert_eq!(opened.boots.newest().map(|entry| entry.boot), Some(self.config.boot));
        self.opened = Some(opened);
    }

    fn on_committed(&mut self, first: Txn, records: Vec<LogRecord>) {
        assert!(self.opened.is_some(), "nothing is committed before the log is open");
        assert!(first.0 >= self.next, "position {first} came again, or out of order");
        assert!(!records.is_empty());
        let skipped = self.acked.range(self.next..first.0).next();
        assert_eq!(skipped, None, "an acknowledged record was left out");
        for (index, record) in records.into_iter().enumerate() {
            let position = first.0 + index as u64;
            if let Some(bytes) = self.possible.remove(&position) {
                self.acked.insert(position, bytes);
            }
            let expected = self.acked.get(&position);
            assert_eq!(expected, Some(record.bytes()), "phantom at position {position}");
            assert_eq!(record.flags(), flags_of(record.bytes()));
            self.next = position + 1;
            self.commits += 1;
        }
    }

    fn step(&mut self) -> bool {
        self.now.mono.ns += 20_000;
        let Some(done) = self.disk.step() else { return false };
        self.log.handle_disk(done, self.now);
        self.drain();
        true
    }

    fn tick(&mut self) -> bool {
        let Some(at) = self.log.poll_timeout() else { return false };
        self.now.mono = self.now.mono.max(at);
        self.log.handle_timeout(self.now);
        self.drain();
        true
    }

    /// Runs until the disk is quiet.
    fn settle(&mut self) {
        while self.step() {}
    }

    /// Runs until disk and timers have nothing more to do, or the given number of timers has fired.
    fn settle_timers(&mut self, timers: usize) {
        self.settle();
        for _ in 0..timers {
            if !self.tick() {
                break;
            }
            self.settle();
        }
    }

    /// Opens, replays everything and checks that nothing acknowledged is missing.
    fn open_whole(&mut self) {
        self.settle();
        assert_eq!(self.failed, None);
        assert!(self.opened.is_some());
        self.replay(u64::MAX);
        self.settle();
        self.check_replayed();
    }

    fn replay(&mut self, bytes: u64) {
        self.log.replay_more(bytes, self.now);
        self.drain();
    }

    fn check_replayed(&self) {
        let durable = self.opened.as_ref().expect("it is open").durable;
        let missing = self.acked.range(self.next..).next().filter(|(at, _)| **at <= durable.0);
        assert_eq!(missing, None, "acknowledged, and not replayed");
    }

    fn append_sizes(&mut self, sizes: &[usize]) -> u64 {
        self.tickets += 1;
        let records: Vec<Bytes> = sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| payload(self.boots, self.tickets, index, size))
            .collect();
        self.given.insert(self.tickets, records.clone());
        let records =
            records.into_iter().map(|bytes| LogRecord::new(flags_of(&bytes), bytes)).collect();
        self.log.append(self.tickets, records, self.now);
        self.drain();
        self.tickets
    }

    fn seal(&mut self) {
        self.log.seal(self.now);
        self.drain();
        self.settle_timers(8);
        assert_eq!(self.sealed, Some(true), "a healthy log seals");
    }

    fn crash_and_open(&mut self) {
        self.disk.crash();
        self.reopen();
        self.open_whole();
    }
}

/// A payload that nobody else has: of boot, ticket and index, filled up to a size.
fn payload(boot: u64, ticket: u64, index: usize, size: usize) -> Bytes {
    let mut bytes = format!("{boot}/{ticket}/{index}/").into_bytes();
    let fill = ticket as u8;
    while bytes.len() < size {
        bytes.push(fill.wrapping_add(bytes.len() as u8));
    }
    bytes.into()
}

fn flags_of(bytes: &[u8]) -> u8 {
    (bytes.len() % 3) as u8
}
