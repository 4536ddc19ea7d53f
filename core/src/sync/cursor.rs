//! The cursor: how far a receiver has come in a sender's log, and when a sender may believe it.
//!
//! The receiver owns it. It is written in the same atomic record as the data that it covers and presented at
//! the start of each session. Whatever a sender remembers about a receiver is for status only: a receiver
//! restored from a backup would otherwise miss for ever what it had acknowledged and lost.

use crate::ident::{BootId, LogId, Txn};
use crate::plant::{Plant, is_planted};

/// A position in one peer's log. The boot tells apart two histories of one log after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The sender's log.
    pub log: LogId,
    /// The boot that had written up to here.
    pub boot: BootId,
    /// The position.
    pub txn: Txn,
}

/// What a receiver has of a sender: everything of `interest` that was touched up to `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// How far.
    pub position: Position,
    /// Of what. See [`interest_hash`](super::subscription::interest_hash); opaque to the receiver.
    pub interest: InterestHash,
}

/// A hash over subscriptions, permission and evict generation: equal means that the same documents match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestHash(pub [u8; 16]);

/// One row of a log's boot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRow {
    /// The boot.
    pub boot: BootId,
    /// The first position that it wrote, or will write.
    pub first: Txn,
    /// The last position that it wrote; `None` while it runs.
    pub end: Option<Txn>,
}

/// Which positions each boot of our own log wrote, and below which position nothing can be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTable {
    /// Our log.
    pub log: LogId,
    /// In the order of the boots; the last is the running one.
    pub rows: Vec<BootRow>,
    /// Residue of deletions is complete only from here on: older cursors reconcile.
    pub purge_floor: Txn,
}

/// Why a cursor does not let us replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The remote presents none.
    NoCursor,
    /// It counts in another log.
    OtherLog,
    /// The boot is not in our table, or did not get that far: one of us was restored.
    OtherHistory,
    /// It lies below the purge floor.
    Purged,
    /// It covers other documents than those of interest.
    OtherInterest,
    /// The store of one of the two was rolled back or cloned.
    StaleNonce,
}

impl Unknown {
    pub(crate) const fn code(self) -> u64 {
        match self {
            Self::NoCursor => 1,
            Self::OtherLog => 2,
            Self::OtherHistory => 3,
            Self::Purged => 4,
            Self::OtherInterest => 5,
            Self::StaleNonce => 6,
        }
    }

    pub(crate) const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::NoCursor,
            2 => Self::OtherLog,
            3 => Self::OtherHistory,
            4 => Self::Purged,
            5 => Self::OtherInterest,
            6 => Self::StaleNonce,
            _ => return None,
        })
    }
}

impl BootTable {
    /// The table of the log `log`, as it was found when it was opened.
    #[must_use]
    pub fn new(log: LogId, boots: &crate::log::BootTable) -> Self {
        let rows = boots.spans();
        let rows = rows.map(|(entry, end)| BootRow { boot: entry.boot, first: entry.first, end });
        Self { log, rows: rows.collect(), purge_floor: Txn(0) }
    }

    /// Judges a cursor that a receiver presents: `Ok` is the position to replay from. `durable` ends the
    /// running boot.
    ///
    /// # Errors
    ///
    /// Why the two sides have to reconcile.
    pub fn judge(
        &self,
        cursor: Option<&Cursor>,
        interest: InterestHash,
        durable: Txn,
    ) -> Result<Txn, Unknown> {
        let cursor = cursor.ok_or(Unknown::NoCursor)?;
        let Position { log, boot, txn } = cursor.position;
        if log != self.log {
            return Err(Unknown::OtherLog);
        }
        let row = self.rows.iter().find(|row| row.boot == boot).ok_or(Unknown::OtherHistory)?;
        if txn < row.before() || txn > row.end.unwrap_or(durable) {
            return Err(Unknown::OtherHistory);
        }
        if txn < self.purge_floor {
            return Err(Unknown::Purged);
        }
        if cursor.interest != interest && !is_planted(Plant::InterestIgnored) {
            return Err(Unknown::OtherInterest);
        }
        Ok(txn)
    }

    /// False when our log does not hold what it once held: somebody was told of `position`, which is not in it. Of
    /// another log nothing is said.
    pub(crate) fn has_reached(&self, position: Position) -> bool {
        let is_of_boot = |row: &BootRow| {
            row.boot == position.boot && row.end.is_none_or(|end| position.txn <= end)
        };
        position.log != self.log || self.rows.iter().any(is_of_boot)
    }

    /// Names a position of our log by the youngest boot that had reached it.
    #[must_use]
    pub fn position(&self, txn: Txn) -> Position {
        let row = self.rows.iter().rev().find(|row| row.before() <= txn);
        let boot = row.or(self.rows.first()).map_or_else(BootId::default, |row| row.boot);
        Position { log: self.log, boot, txn }
    }
}

impl BootRow {
    /// The position at which this boot began, before its own first record.
    fn before(&self) -> Txn {
        Txn(self.first.0.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Uuid;

    fn boot(n: u8) -> BootId {
        BootId(Uuid([n; 16]))
    }

    fn table() -> BootTable {
        BootTable {
            log: LogId(Uuid([9; 16])),
            rows: vec![
                BootRow { boot: boot(7), first: Txn(1), end: Some(Txn(60)) },
                BootRow { boot: boot(8), first: Txn(61), end: None },
            ],
            purge_floor: Txn(10),
        }
    }

    fn judge(boot_number: u8, txn: u64) -> Result<Txn, Unknown> {
        let position =
            Position { log: LogId(Uuid([9; 16])), boot: boot(boot_number), txn: Txn(txn) };
        let cursor = Cursor { position, interest: InterestHash([1; 16]) };
        table().judge(Some(&cursor), InterestHash([1; 16]), Txn(110))
    }

    #[test]
    fn a_cursor_beyond_the_end_of_its_boot_is_another_history() {
        assert_eq!(judge(7, 100), Err(Unknown::OtherHistory));
        assert_eq!(judge(8, 111), Err(Unknown::OtherHistory));
        assert_eq!(judge(8, 59), Err(Unknown::OtherHistory));
        assert_eq!(judge(6, 30), Err(Unknown::OtherHistory));
    }

    #[test]
    fn a_cursor_into_what_a_restore_has_lost_is_another_history() {
        let mut boots = crate::log::BootTable::default();
        for (number, first) in [(1, 1), (2, 47 + crate::log::RESTORE_GAP)] {
            boots.push(crate::log::BootEntry { boot: boot(number), first: Txn(first) });
        }
        let table = BootTable::new(LogId::default(), &boots);
        let judge = |txn| {
            let position = Position { log: table.log, boot: boot(1), txn: Txn(txn) };
            let cursor = Cursor { position, interest: InterestHash::default() };
            table.judge(Some(&cursor), cursor.interest, Txn(47 + crate::log::RESTORE_GAP))
        };
        assert_eq!(judge(46), Ok(Txn(46)));
        assert_eq!(judge(47), Err(Unknown::OtherHistory));
    }

    #[test]
    fn a_position_that_was_told_before_the_end_of_the_log_was_mended_is_of_another_history() {
        let table = |firsts: &[(u8, u64)]| {
            let mut boots = crate::log::BootTable::default();
            for &(number, first) in firsts {
                boots.push(crate::log::BootEntry { boot: boot(number), first: Txn(first) });
            }
            BootTable::new(LogId::default(), &boots)
        };
        // Boot 2 reads up to 60 what boot 1 wrote, and loses 56 to 60 with its own table: boot 3 writes them anew.
        let (told_by, asked) = (table(&[(1, 1), (2, 61)]), table(&[(1, 1), (3, 56)]));
        let position = told_by.position(Txn(60));
        let cursor = Cursor { position, interest: InterestHash::default() };
        assert_eq!(
            asked.judge(Some(&cursor), cursor.interest, Txn(100)),
            Err(Unknown::OtherHistory)
        );
        assert!(!asked.has_reached(position));
        assert!(asked.has_reached(told_by.position(Txn(55))), "what was not lost is there");
    }

    #[test]
    fn a_cursor_within_its_boot_is_replayed_from() {
        assert_eq!(judge(7, 60), Ok(Txn(60)));
        assert_eq!(judge(8, 60), Ok(Txn(60)));
        assert_eq!(judge(8, 110), Ok(Txn(110)));
    }

    #[test]
    fn a_cursor_below_the_purge_floor_reconciles() {
        assert_eq!(judge(7, 9), Err(Unknown::Purged));
    }

    #[test]
    fn every_position_that_we_grant_is_one_that_we_accept() {
        for txn in 10..=110 {
            let cursor =
                Cursor { position: table().position(Txn(txn)), interest: InterestHash([1; 16]) };
            assert_eq!(table().judge(Some(&cursor), cursor.interest, Txn(110)), Ok(Txn(txn)));
        }
    }

    #[test]
    fn no_cursor_another_log_and_another_interest_reconcile() {
        let table = table();
        assert_eq!(table.judge(None, InterestHash::default(), Txn(110)), Err(Unknown::NoCursor));
        let mut cursor =
            Cursor { position: table.position(Txn(50)), interest: InterestHash([1; 16]) };
        assert_eq!(
            table.judge(Some(&cursor), InterestHash([2; 16]), Txn(110)),
            Err(Unknown::OtherInterest)
        );
        cursor.position.log = LogId(Uuid([3; 16]));
        assert_eq!(table.judge(Some(&cursor), cursor.interest, Txn(110)), Err(Unknown::OtherLog));
    }
}
