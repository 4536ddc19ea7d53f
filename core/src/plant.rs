//! Planted bugs: known mistakes that the simulator must find, each by what it does and not by its name.
//!
//! Without the feature `planted-bugs` nothing is planted, and the compiler removes every hook.

/// One known mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A write is acknowledged once it has a position, before it is durable.
    AckBeforeSync,
    /// The log syncs its directory where it should sync the file.
    WrongSync,
    /// The checksums of records are not compared.
    RecordChecksumIgnored,
    /// The last record of a group is taken even when its end never reached the disk.
    TornRecordAccepted,
    /// A new segment is entered before its name is durable.
    SegmentNameNotSynced,
    /// A partition goes on with its actor after a restart, and does not take up what its clock had issued.
    ClockNotRestored,
    /// A message between partitions that arrives twice is acted on twice.
    MessageTwice,
    /// A cursor moves on with an update of which something was not taken.
    CursorBeforeAck,
    /// Deletions are not sent to peers.
    TombstoneNotSent,
    /// A statement over several partitions is logged as two records.
    TransactionHalved,
    /// A mutation is evaluated against the committed state, and not against what is in flight.
    DotsOutOfOrder,
    /// An increment is added once more when it is applied.
    IncrementTwice,
    /// A sender goes on from where it believes the receiver to be.
    SenderCursorTrusted,
    /// A register holds only its greatest entry.
    SingleRegisterEntry,
    /// A cursor is taken for one of the present interest, whatever it was of.
    InterestIgnored,
    /// A document that leaves a peer's interest is not mentioned to it.
    LeftNotSent,
    /// Nobody notices that a store was rolled back or cloned.
    NonceIgnored,
    /// The nonce that a remote may have lost is overwritten before the remote has heard of it.
    NonceKeptAtHello,
    /// Nobody keeps how far the log of a remote had come when something of it was taken.
    ReachedNotKept,
    /// A refused write stays in what later statements are evaluated against.
    RefusedWriteKept,
    /// A scan reads what is newest instead of its snapshot.
    SnapshotIgnored,
    /// A document that another statement holds is written all the same.
    LockIgnored,
    /// An update for a peer is closed before the last partition has given its part.
    PartitionSkipped,
    /// A document that is touched while an update for a peer is read is told with it again, at each touch. Healed by
    /// merging, which takes it as often as it comes: what grows is the traffic, and a group that ends without items
    /// leaves no frame by which a judge could count.
    ToldAtEachTouch,
    /// A partition's answer about a former update of a peer is taken for its part of the present one. Healed by
    /// `forget_asked`: with a group its questions are given up, and their answers find nobody.
    LateAnswerTaken,
    /// A peer is told what was judged of its update before the append, whatever apply made of it.
    JudgementTold,
    /// What a peer may not write is taken from it.
    SyncPermissionIgnored,
    /// What the sender of a delta had seen and does not list is kept.
    UnlistedKept,
    /// The directories of log and checkpoints are made, and their parent is not synced.
    MadeDirNotSynced,
    /// The condition of a mutation sees documents that its key may not read.
    MutationSeesUnreadable,
    /// A cursor counts as one of the present interest, whatever its receiver may read by now.
    PermissionNotHashed,
    /// A session goes on under the permission that it began with.
    PermissionKept,
    /// A session of a peer goes on when a newer one of it has come.
    ReplacedKept,
    /// Nonces of a peer that nothing is kept about are written at once.
    StrangersKept,
    /// On a full disk, segments that nothing needs are kept all the same.
    RetainedWhenFull,
    /// A log whose boot table finds no space is not opened.
    FullVolumeNotOpened,
    /// A command that the disk refuses for the moment ends the log.
    PassingErrorFatal,
    /// After a sync that found no space, what it had covered is not written again.
    RefusedSyncTrusted,
    /// Touched documents are sent to a peer whether or not it may read them.
    ReadRuleIgnoredInNews,
    /// Documents are offered to a peer whether or not it may read them.
    ReadRuleIgnoredInOffers,
    /// A peer's offer is compared with documents that it may not read.
    ReadRuleIgnoredInAnswers,
    /// An update is answered with the state of a document that its sender may not read.
    ReadRuleIgnoredInVerdicts,
    /// A document is asked for that a peer says has left, though the peer may not read it.
    ReadRuleIgnoredInLeft,
    /// A position without records, and a snapshot, come to a partition before the records that wait for its turn.
    BacklogOvertaken,
    /// A deletion with which a peer answers is merged, whatever the peer may write.
    AcknowledgementBelieved,
    /// A peer is believed that we wrote more than we did.
    OwnEntryBelieved,
    /// Items of any size are taken, and merged into documents of any size.
    SizeUnjudged,
    /// An item that fitted into its document when it was judged is merged, whatever has come into that since.
    SizeJudgedOnce,
    /// A document that a peer refused for its clock is not offered again by itself.
    ParkedForgotten,
    /// A group is read no further than an update aims at, and not given out before it is as large as one may be.
    PulledToTargetAlone,
    /// A peer may change what it wants any number of times before it is answered.
    SubsUnbounded,
    /// Edits from beyond the greatest clock that is allowed are taken.
    ClockCheckSkipped,
    /// A session that begins to wait for a touch does not look whether there was one meanwhile.
    WakeUpLost,
    /// The position of a reconciliation is read when its scan ends.
    PositionReadLate,
    /// Versions that an open group is still to be read at are dropped.
    FoldedUnderGroup,
    /// Each part of a group that is too large for one update carries the position of the whole. Healed by the credit of
    /// what is pulled: the end of a group never comes with more than one update takes. With `PulledBeyondRoom` beside it,
    /// seed 6 finds a position that is told before all that leads to it.
    PositionWithEveryPart,
    /// A rolled-back device takes its new epoch only after the record that takes the proof away.
    EpochAfterProof,
    /// A copied directory of a device authors as the one that it was copied from.
    GuardHoldsForCopies,
    /// A device goes on with its epoch, though its kernel is gone with what it had not written.
    LostKernelIgnored,
    /// A new epoch is authored under before it is kept.
    EpochKeptLate,
    /// Two are called in sync while what was refused before is still on its way. Healed by the order: what is offered again
    /// leaves before what is live, and until then the session is not where it was asked about. With `LiveBeforeOwed` beside
    /// it, seed 84 finds an edit that is not at the server when both are called in sync.
    SyncedBeforeOwed,
    /// Refused documents that the list of a remote has no room for are never offered again.
    OwedDropped,
    /// A device evicts documents that its server has refused.
    OwedEvicted,
    /// A peer's item counts as known by what lies above its base, whatever the base holds.
    RefusedBaseKnown,
    /// A base that is named by a digest is taken for what the receiver has, whether or not it has that digest.
    BaseMismatchBelieved,
    /// Of an update that misses the base of one document, a device merges the others at once.
    UpdateHalved,
    /// A position in our log that a remote tells, and that our log never reached, is taken for no loss.
    LostPositionIgnored,
    /// News are sent before what was refused and is offered again. Healed by the rule that nobody is in sync while
    /// something is offered again: see `SyncedBeforeOwed`.
    LiveBeforeOwed,
    /// More of a group is pulled than one update has room for. Healed by the parts in which it leaves: see
    /// `PositionWithEveryPart`.
    PulledBeyondRoom,
    /// A device evicts what its server had, while that does not know whether it still has it.
    SettledForGood,
    /// A device that lacks a base is sent what it lacks after all else, as of a later position.
    LackedFollows,
    /// A watch takes it for certain that its thread has looked at the log no earlier than the one whose message came to it.
    ThreadsLookAtOnce,
    /// A statement goes on by the right that it began with, whatever its key is worth by now.
    AuthorityKept,
    /// The end of a key is looked at when a statement begins, and not again.
    AuthorityOutlived,
    /// A change of the catalog does not wait for the one that is on its way to the log.
    CatalogUnordered,
    /// At each moment the first node of a thread goes on first, however much comes to it.
    FirstNodeFirst,
}

impl Plant {
    /// Those that the simulator finds.
    pub const ALL: &[Self] = &[
        Self::AckBeforeSync,
        Self::WrongSync,
        Self::RecordChecksumIgnored,
        Self::TornRecordAccepted,
        Self::SegmentNameNotSynced,
        Self::ClockNotRestored,
        Self::MessageTwice,
        Self::CursorBeforeAck,
        Self::TombstoneNotSent,
        Self::TransactionHalved,
        Self::DotsOutOfOrder,
        Self::IncrementTwice,
        Self::SenderCursorTrusted,
        Self::SingleRegisterEntry,
        Self::InterestIgnored,
        Self::LeftNotSent,
        Self::NonceIgnored,
        Self::RefusedWriteKept,
        Self::SnapshotIgnored,
        Self::LockIgnored,
        Self::PartitionSkipped,
        Self::SyncPermissionIgnored,
        Self::UnlistedKept,
        Self::MadeDirNotSynced,
        Self::MutationSeesUnreadable,
        Self::ReadRuleIgnoredInNews,
        Self::ReadRuleIgnoredInOffers,
        Self::ReadRuleIgnoredInAnswers,
        Self::PermissionNotHashed,
        Self::RefusedBaseKnown,
        Self::FoldedUnderGroup,
        Self::WakeUpLost,
        Self::JudgementTold,
        Self::ClockCheckSkipped,
        Self::GuardHoldsForCopies,
        Self::PulledToTargetAlone,
        Self::SubsUnbounded,
        Self::AcknowledgementBelieved,
        Self::ReadRuleIgnoredInVerdicts,
        Self::ReadRuleIgnoredInLeft,
        Self::RetainedWhenFull,
        Self::FullVolumeNotOpened,
        Self::PassingErrorFatal,
        Self::BacklogOvertaken,
        Self::BaseMismatchBelieved,
        Self::OwedEvicted,
        Self::ReplacedKept,
        Self::StrangersKept,
        Self::PermissionKept,
        Self::OwedDropped,
        Self::LostKernelIgnored,
        Self::OwnEntryBelieved,
        Self::PositionReadLate,
        Self::RefusedSyncTrusted,
        Self::ParkedForgotten,
        Self::SizeUnjudged,
        Self::SizeJudgedOnce,
        Self::EpochKeptLate,
        Self::LostPositionIgnored,
        Self::ThreadsLookAtOnce,
        Self::AuthorityKept,
        Self::AuthorityOutlived,
        Self::CatalogUnordered,
        Self::FirstNodeFirst,
    ];

    /// Mistakes that no simulated world shows. Either the mechanism that heals one is named at it, and with the lack of that
    /// beside it a seed finds both; or a world or a judge is missing, and whoever adds it moves the name up.
    pub const UNSEEN: &[Self] = &[
        Self::SyncedBeforeOwed,
        Self::PositionWithEveryPart,
        Self::LateAnswerTaken,
        Self::ToldAtEachTouch,
        Self::EpochAfterProof,
        Self::NonceKeptAtHello,
        Self::ReachedNotKept,
        Self::UpdateHalved,
        Self::LiveBeforeOwed,
        Self::PulledBeyondRoom,
        Self::LackedFollows,
        Self::SettledForGood,
    ];
}

/// Whether the mistake is made on this thread.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is_planted(plant: Plant) -> bool {
    SELECTED.get().contains(&Some(plant))
}

/// Nothing is planted in this build.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline]
pub const fn is_planted(_plant: Plant) -> bool {
    false
}

/// Chooses the mistakes that are made on this thread from now on: one, and another that may have healed it.
#[cfg(feature = "planted-bugs")]
pub fn select(plants: [Option<Plant>; 2]) {
    SELECTED.set(plants);
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static SELECTED: std::cell::Cell<[Option<Plant>; 2]> = const { std::cell::Cell::new([None; 2]) };
}
