//! Every image that one power loss can leave of one unsynced write: see `models/torn.py` in the design's notes.

use super::*;
use crate::disk_sim::SECTOR_BYTES;

const FILE: &str = "log/0000000000000001.seg";

/// The content of the only segment before and after a seal and a group were written, neither of them synced.
fn images() -> (Bench, Vec<u8>, Vec<u8>) {
    let mut bench = Bench::new(1, 16_384);
    bench.open_whole();
    bench.append_sizes(&[100]);
    bench.settle();
    let before = bench.disk.content(FILE).expect("it exists").to_vec();
    bench.tick();
    bench.settle();
    bench.append_sizes(&[600, 10, 10, 700, 400, 900, 0, 512]);
    let mut writes = bench.disk.pending();
    let (op, command) = writes.next().expect("a lone append is written at once");
    assert!(matches!(command, DiskCommand::Write { .. }) && writes.next().is_none());
    drop(writes);
    bench.disk.complete(op).expect("it is pending");
    let after = bench.disk.content(FILE).expect("it exists").to_vec();
    (bench, before, after)
}

#[test]
fn every_image_of_a_torn_group_opens_and_stays_cut() {
    let (bench, before, after) = images();
    let dirty: Vec<usize> = (0..before.len() / SECTOR_BYTES)
        .filter(|sector| {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            before[range.clone()] != after[range]
        })
        .collect();
    assert!((7..=10).contains(&dirty.len()), "{} sectors", dirty.len());
    for mask in 0_u32..1 << dirty.len() {
        let mut content = before.clone();
        for (bit, sector) in dirty.iter().enumerate() {
            if mask & (1 << bit) != 0 {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                content[range.clone()].copy_from_slice(&after[range]);
            }
        }
        let mut bench = Bench {
            disk: VirtualDisk::new(&[mask as u8; 32]),
            acked: bench.acked.clone(),
            possible: bench.possible.clone(),
            config: bench.config.clone(),
            ..Bench::new(2, 16_384)
        };
        bench.disk.install(FILE, &content);
        bench.reopen();
        bench.open_whole();
        bench.crash_and_open();
        bench.append_sizes(&[50]);
        bench.settle();
        bench.crash_and_open();
    }
}
