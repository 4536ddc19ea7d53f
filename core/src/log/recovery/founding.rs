//! Making a log in an empty directory: its first segment gets its name only when its header is durable.

use super::mend::Mend;
use super::{Outcome, Recovery, RecoveryStep, Stage};
use crate::disk::{DiskCommand, FileName};
use crate::ident::{LogId, Txn};
use crate::log::Io;
use crate::log::group::LogIdentity;
use crate::log::reader::Walk;
use crate::log::segment::{LOG_DIR, SEGMENT_HEADER_BYTES, SPARE_TMP, SegmentHeader, segment_file};
use crate::rng::Rng;

/// The number of a log's first segment.
pub(super) const FIRST_SEGMENT: u64 = 1;

#[derive(Clone, Copy, Debug)]
pub(super) enum Founding {
    Creating,
    Writing,
    Syncing,
    Renaming,
    SyncingDir,
}

impl Recovery {
    pub(super) fn found(&mut self, step: Founding, io: &mut Io) -> Outcome {
        self.stage = Stage::Founding(step);
        let tmp: FileName = SPARE_TMP.into();
        let command = match step {
            Founding::Creating => {
                let len_bytes = self.config.segment_bytes;
                DiskCommand::Create { file: tmp, len_bytes, keep_free_bytes: 0 }
            }
            Founding::Writing => {
                let header = self.first_header();
                let data = header.encode();
                self.headers.insert(FIRST_SEGMENT, header);
                DiskCommand::Write { file: tmp, offset_bytes: 0, data }
            }
            Founding::Syncing => DiskCommand::Sync { file: tmp },
            Founding::Renaming => {
                DiskCommand::Rename { from: tmp, to: segment_file(FIRST_SEGMENT) }
            }
            Founding::SyncingDir => return self.sync_dir(LOG_DIR, io),
        };
        self.issue(command, io)
    }

    pub(super) fn on_founding(&mut self, step: Founding, io: &mut Io) -> Outcome {
        match step {
            Founding::Creating => self.found(Founding::Writing, io),
            Founding::Writing => self.found(Founding::Syncing, io),
            Founding::Syncing => self.found(Founding::Renaming, io),
            Founding::Renaming => self.found(Founding::SyncingDir, io),
            Founding::SyncingDir => {
                let header = &self.headers[&FIRST_SEGMENT];
                self.files.insert(FIRST_SEGMENT, header.len_bytes);
                self.end = (FIRST_SEGMENT, SEGMENT_HEADER_BYTES);
                self.walk = Some(Walk {
                    log: header.log,
                    boots: None,
                    next: header.first,
                    last: header.previous_last,
                });
                let mut recovered = self.finish();
                recovered.created = true;
                // It was just made, every step of it durable.
                recovered.mend = Mend::default();
                Ok(RecoveryStep::Done(Box::new(recovered)))
            }
        }
    }

    pub(super) fn first_header(&self) -> SegmentHeader {
        let mut rng = Rng::new(&self.config.seed, "log identity");
        SegmentHeader {
            log: LogIdentity { id: LogId(rng.uuid()), salt: rng.next_u64() },
            number: FIRST_SEGMENT,
            len_bytes: self.config.segment_bytes,
            first: Txn(1),
            previous_last: Txn(0),
            previous_end_bytes: 0,
            boot: self.config.boot,
            created: self.now.wall,
        }
    }
}
