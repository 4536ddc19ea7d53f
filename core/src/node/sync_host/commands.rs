//! Commands of sessions, each brought to the part of the host that carries it out.

use super::remotes::Nonces;
use super::{AppendAnswer, SessionId};
use crate::node::Node;
use crate::node::sync_gather::JudgedFor;
use crate::node::sync_watch::{Watch, Wish};
use crate::node::sync_wire::RecordChange;
use crate::seam::Now;
use crate::sync::{HostCommand, HostEvent};

impl Node {
    pub(super) fn on_host_command(&mut self, id: SessionId, command: HostCommand, now: Now) {
        match command {
            HostCommand::LoadRemote { id: command, peer } => {
                self.load_remote(id, command, peer, now);
            }
            HostCommand::SaveRemote { id: command, store, ours, theirs, is_stale, .. } => {
                let nonces = Nonces { store, ours, theirs, is_stale };
                self.save_remote(id, AppendAnswer::Saved(command), nonces, now);
            }
            HostCommand::NewEpoch { id: command, stale, .. } => {
                self.renew_epoch_for(id);
                let changes = if stale { self.forget_cursor(id) } else { Vec::new() };
                self.append_for(id, Vec::new(), changes, AppendAnswer::Renewed(command), now);
            }
            HostCommand::Watch { watch, interest } => match self.filter(id, &interest) {
                Ok(filter) => {
                    if let Some(hosted) = self.sync.sessions.get_mut(&id) {
                        hosted.watches.insert(watch, Watch::new(filter));
                    }
                }
                Err(reason) => self.tell(id, HostEvent::Failed { reason }, now),
            },
            HostCommand::WatchMore { watch, after, until, credit_bytes, lacking } => {
                let wish = Wish { after, until, credit_bytes };
                self.watch_more(id, watch, wish, lacking, now);
            }
            HostCommand::Unwatch { watch } => self.unwatch(id, watch),
            HostCommand::Scan { scan, part, interest, batch_count } => {
                self.start_scan(id, scan, part, &interest, batch_count, now);
            }
            HostCommand::ScanMore { scan } => self.scan_more(id, scan),
            HostCommand::ScanStop { scan } => {
                if let Some(hosted) = self.sync.sessions.get_mut(&id) {
                    hosted.scans.remove(&scan);
                }
            }
            HostCommand::Compare { id: command, part, offered } => {
                self.gather_compare(id, command, part, offered, now);
            }
            HostCommand::Diff { id: command, wanted, credit_bytes } => {
                self.gather_diff(id, command, wanted, credit_bytes, now);
            }
            HostCommand::Apply { id: command, items, cursor, reached } => {
                let verdict_for = JudgedFor::Update { cursor, reached };
                self.gather_judge(id, command, items, verdict_for, now);
            }
            HostCommand::Settle { id: command, items, reached } => {
                self.settle_items(id, command, items, reached, now);
            }
            HostCommand::KeepUnlisted { id: command, unlisted, reached } => {
                let mut changes = vec![RecordChange::Unlisted(unlisted)];
                changes.extend(self.reach(id, reached));
                let answer = AppendAnswer::Settled(command, Vec::new());
                self.tell_owed(id, &changes);
                self.append_for(id, Vec::new(), changes, answer, now);
            }
        }
    }
}
