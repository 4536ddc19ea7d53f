//! What a start finds in its directory.

use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::ident::{BootId, Txn, Uuid};
use bigpeer_core::log::checkpoint::{CheckpointReader, ReaderOutput};
use bigpeer_core::log::{Log, LogConfig, LogOutput};
use bigpeer_core::seam::Now;
use bigpeer_core::store::Store;
use bigpeer_core::time::WallMs;

pub(crate) fn checkpoint_part(bytes: &[u8]) {
    let mut store = Store::new();
    if let Some(content) = bytes.get(2..)
        && store.restore_part(Txn::MAX, content).is_ok()
    {
        store.check_invariants();
    }
}

pub(crate) fn checkpoint(bytes: &[u8]) {
    let mut disk = VirtualDisk::new(&[0; 32]);
    disk.install("checkpoint/0000000000000009.ckpt", bytes);
    let mut reader = CheckpointReader::start();
    loop {
        while let Some(output) = reader.poll_output() {
            match output {
                ReaderOutput::Disk(op, command) => disk.submit(op, command),
                ReaderOutput::Found(_) => reader.more(u64::MAX),
                _ => {}
            }
        }
        let Some(done) = disk.step() else { return };
        reader.handle_disk(done);
    }
}

/// Opens a log whose only segment is these bytes; it is whole, damaged or empty, and says which.
pub(crate) fn log(bytes: &[u8]) {
    let mut disk = VirtualDisk::new(&[0; 32]);
    disk.install("log/0000000000000001.seg", bytes);
    let mut now = Now { wall: WallMs(1_700_000_000_000), ..Now::default() };
    let config =
        LogConfig { segment_bytes: 4_096, ..LogConfig::new(BootId(Uuid([9; 16])), [1; 32]) };
    let mut log = Log::open(config, now);
    let mut has_answered = false;
    loop {
        while let Some(output) = log.poll_output() {
            match output {
                LogOutput::Disk(op, command) => disk.submit(op, command),
                LogOutput::Opened(_) => {
                    has_answered = true;
                    log.replay_more(u64::MAX, now);
                }
                LogOutput::Failed { .. } => has_answered = true,
                _ => {}
            }
        }
        now.mono.ns += 1_000;
        let Some(done) = disk.step() else { break };
        log.handle_disk(done, now);
    }
    assert!(has_answered, "opening a log comes to an end");
}
