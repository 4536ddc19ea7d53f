//! Whether the log that was found is the one that the directory's owner knows of.

use super::Recovery;
use super::founding::FIRST_SEGMENT;
use crate::ident::{LogId, Txn};
use crate::log::checkpoint::checkpoint_file;
use crate::log::segment::segment_file;
use crate::log::{DamageKind, LogError, LogExpected, damaged};

impl Recovery {
    /// The directory was listed.
    pub(super) fn check_listed(&self) -> Result<(), LogError> {
        let replay_from = self.config.replay_from;
        let has_checkpoint = replay_from > Txn(0);
        match self.config.expected {
            LogExpected::Unwritten if has_checkpoint => {
                return Err(LogError::Unnamed { file: checkpoint_file(replay_from) });
            }
            LogExpected::Existing | LogExpected::This(_) if self.files.is_empty() => {
                return Err(LogError::Missing { file: segment_file(FIRST_SEGMENT) });
            }
            _ => {}
        }
        if self.files.is_empty() && has_checkpoint {
            return Err(damaged(FIRST_SEGMENT, 0, DamageKind::MissingSegment));
        }
        Ok(())
    }

    /// The newest segment's header states its log.
    pub(super) fn check_log(&self, newest: u64, found: LogId) -> Result<(), LogError> {
        match self.config.expected {
            LogExpected::This(expected) if expected != found => {
                Err(LogError::Other { file: segment_file(newest), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// The log was walked to its end, and nothing was overwritten yet; `last` is its last record's position.
    pub(super) fn check_unwritten(&self, last: Txn) -> Result<(), LogError> {
        if self.config.expected == LogExpected::Unwritten && last > Txn(0) {
            return Err(LogError::Unnamed { file: segment_file(self.end.0) });
        }
        Ok(())
    }
}
