//! How often each fault and each state occurred. A simulator that never meets a state proves nothing about it.

use std::collections::BTreeMap;

/// Faults and states that a run may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    PowerCut,
    CrashAtWork,
    Kill,
    EndInOrder,
    TailCut,
    ReadUnmended,
    SealFound,
    SegmentSwitch,
    CheckpointMade,
    CheckpointFailed,
    CheckpointSkipped,
    Restored,
    ReadError,
    WriteError,
    WriteRefusedFull,
    NoDescriptor,
    StatementRefusedFull,
    SyncFailed,
    OpenFailed,
    DiskFull,
    DeviceRestored,
    DeviceCloned,
    ClonesApart,
    ServerImage,
    BulkWritten,
    BulkRefused,
    WallClockJump,
    ConnectionCut,
    PartitionBothWays,
    PartitionOneWay,
    SuspendedRead,
    FullMailbox,
    DuplicateMessage,
    MultiPartitionCommit,
    Conflict,
    Forbidden,
    AnswerUnknown,
    ReplaySync,
    Reconciliation,
    OfferCompared,
    NeedFull,
    Left,
    Tombstone,
    DeletedAnswer,
    EvictedAnswer,
    Rejected,
    StaleNonce,
    NewEpoch,
    ReplacedSession,
    SubscriptionChanged,
    LocalEvict,
    ServerEvict,
    Initial,
    Synced,
    Lie,
    LiarShown,
    RightsChanged,
    KeyReplaced,
    PositionAhead,
    GuestKeyChanged,
    ReadEndedForKey,
    RaceLost,
    Rush,
}

/// Counts by what was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    counts: BTreeMap<Seen, u64>,
}

impl Coverage {
    pub(crate) fn saw(&mut self, seen: Seen) {
        self.add(seen, 1);
    }

    pub(crate) fn add(&mut self, seen: Seen, count: u64) {
        *self.counts.entry(seen).or_default() += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (seen, count) in &other.counts {
            self.add(*seen, *count);
        }
    }

    pub(crate) fn of(&self, seen: Seen) -> u64 {
        self.counts.get(&seen).copied().unwrap_or(0)
    }

    /// What occurred fewer than `least` times.
    pub(crate) fn below(&self, least: u64) -> Vec<Seen> {
        ALL.iter().copied().filter(|seen| self.of(*seen) < least).collect()
    }

    /// One line for each.
    pub(crate) fn table(&self) -> String {
        let line = |seen: &Seen| format!("  {:<22} {:>9}\n", format!("{seen:?}"), self.of(*seen));
        ALL.iter().map(line).collect()
    }
}

/// Everything that must occur. A checkpoint is skipped only when a disk rots, which no disk here does.
const ALL: &[Seen] = &[
    Seen::PowerCut,
    Seen::CrashAtWork,
    Seen::Kill,
    Seen::EndInOrder,
    Seen::TailCut,
    Seen::SealFound,
    Seen::SegmentSwitch,
    Seen::CheckpointMade,
    Seen::CheckpointFailed,
    Seen::Restored,
    Seen::ReadError,
    Seen::WriteError,
    Seen::WriteRefusedFull,
    Seen::NoDescriptor,
    Seen::StatementRefusedFull,
    Seen::SyncFailed,
    Seen::OpenFailed,
    Seen::DiskFull,
    Seen::DeviceRestored,
    Seen::DeviceCloned,
    Seen::ClonesApart,
    Seen::ServerImage,
    Seen::BulkWritten,
    Seen::BulkRefused,
    Seen::WallClockJump,
    Seen::ConnectionCut,
    Seen::PartitionBothWays,
    Seen::PartitionOneWay,
    Seen::SuspendedRead,
    Seen::FullMailbox,
    Seen::DuplicateMessage,
    Seen::MultiPartitionCommit,
    Seen::Conflict,
    Seen::Forbidden,
    Seen::AnswerUnknown,
    Seen::ReplaySync,
    Seen::Reconciliation,
    Seen::OfferCompared,
    Seen::NeedFull,
    Seen::Left,
    Seen::Tombstone,
    Seen::DeletedAnswer,
    Seen::EvictedAnswer,
    Seen::Rejected,
    Seen::StaleNonce,
    Seen::NewEpoch,
    Seen::ReplacedSession,
    Seen::SubscriptionChanged,
    Seen::LocalEvict,
    Seen::ServerEvict,
    Seen::Initial,
    Seen::Synced,
    Seen::Lie,
    Seen::LiarShown,
    Seen::RightsChanged,
    Seen::KeyReplaced,
    Seen::PositionAhead,
    Seen::GuestKeyChanged,
    Seen::ReadEndedForKey,
    Seen::RaceLost,
    Seen::Rush,
];
