//! Rounds: each begins with what the remote wants, and offers what it has not been told of that.

use super::{
    Phase, ROUND_EVERY, ROUNDS_AT_ONCE, SUBS_WAITING_MAX, Sending, issue_diff, item_bytes,
};
use crate::ident::Txn;
use crate::plant::{Plant, is_planted};
use crate::sync::cursor::{BootTable, Unknown};
use crate::sync::error::ProtocolError;
use crate::sync::frame::{Frame, Start, Subs};
use crate::sync::host::{HostCommand, Part, Wanted};
use crate::sync::link::{Link, SessionEvent};
use crate::sync::reconcile::Offering;
use crate::sync::subscription::{InterestScope, interest_hash};
use crate::time::Instant;

impl Sending {
    pub(crate) fn on_subs(&mut self, subs: Subs) -> Result<(), ProtocolError> {
        if self.subs.as_ref().is_some_and(|former| former.version >= subs.version) {
            return Err(ProtocolError::OutOfOrder {
                frame: "Subs",
                state: "with an older version",
            });
        }
        self.subs_waiting += 1;
        if self.subs_waiting > SUBS_WAITING_MAX && !is_planted(Plant::SubsUnbounded) {
            return Err(ProtocolError::WindowOverrun { frame: "Subs", limit: SUBS_WAITING_MAX });
        }
        self.subs = Some(subs);
        self.is_restarting = true;
        Ok(())
    }

    /// When the next round may begin: each costs us a compilation of what is wanted, and a scan.
    pub(super) fn round_at(&self) -> Instant {
        const AHEAD_NS: u64 = ROUND_EVERY.as_nanos() as u64 * (ROUNDS_AT_ONCE - 1);
        Instant { ns: self.rounds_until.ns.saturating_sub(AHEAD_NS) }
    }

    pub(super) fn begin_round(&mut self, table: &BootTable, durable: Txn, link: &mut Link) {
        self.leave_phase(link);
        self.is_restarting = false;
        self.subs_waiting = 0;
        self.wanted.clear();
        self.round += 1;
        let subs = self.subs.as_ref().expect("pump returns before the first Subs");
        let scope =
            InterestScope { readable: self.readable.hash, evict_generation: subs.evict_generation };
        let interest = interest_hash(&subs.interest, scope);
        let judged = if is_planted(Plant::SenderCursorTrusted) && self.recorded > Txn(0) {
            Ok(self.recorded)
        } else if self.is_diverged {
            Err(Unknown::StaleNonce)
        } else if self.owed.is_unlisted_due(subs.write_permission) {
            // What the remote refused and we could not name is among all that we hold.
            Err(Unknown::OtherInterest)
        } else {
            let judged = table.judge(subs.cursor.as_ref(), interest, durable);
            judged.and_then(|at| if at < self.shared { Err(Unknown::StaleNonce) } else { Ok(at) })
        };
        let (round, version, unknown) = (self.round, subs.version, judged.err());
        if let Some(read) = self.readable.text.clone() {
            link.frame(&Frame::Grant { read });
        }
        link.frame(&Frame::Start(Start { round, version, unknown, interest }));
        link.event(SessionEvent::UnsettledThere);
        self.target = self.target.max(durable);
        let interest = subs.interest.clone();
        match judged {
            Ok(from) => {
                self.want_owed();
                self.recorded = from;
                self.go_live(from, link);
            }
            Err(_) => {
                self.owed.begin_recount();
                let offering = Offering::begin(Part::Provide, round, interest, link);
                self.phase = Phase::Reconciling { offering, is_hold_ended: false };
            }
        }
    }

    pub(super) fn leave_phase(&mut self, link: &mut Link) {
        match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Waiting => {}
            Phase::Reconciling { offering, .. } => offering.stop(link),
            Phase::Live(live) => link.host(HostCommand::Unwatch { watch: live.watch }),
        }
    }

    /// Documents refused under another permission, or for their clock, are tried again.
    pub(super) fn want_owed(&mut self) {
        let permission = self.subs.as_ref().map_or(0, |subs| subs.write_permission);
        let again = self.owed.due(permission);
        self.wanted.extend(again.map(|key| Wanted { key: key.clone(), base: None }));
    }

    /// The remote refused something for its clock, and takes it when its time has come.
    pub(crate) fn is_parking(&self) -> bool {
        let is_parked = self.owed.parked().len() > 0 || self.owed.is_parked_unlisted();
        matches!(self.phase, Phase::Live(_)) && is_parked && !is_planted(Plant::ParkedForgotten)
    }

    /// Offers again what the remote refused for its clock; everything, if there is more of it than is named.
    pub(crate) fn offer_parked(&mut self) {
        if self.owed.is_parked_unlisted() {
            self.is_restarting = true;
        } else if self.wanted.is_empty() && self.diff.is_none() {
            let again = self.owed.parked();
            self.wanted.extend(again.map(|key| Wanted { key: key.clone(), base: None }));
        }
    }

    /// Reads the next documents that the remote asked for.
    pub(super) fn pump_wanted(&mut self, link: &mut Link) {
        if self.diff.is_some() || self.wanted.is_empty() {
            return;
        }
        let queued_bytes: usize = self.queue.iter().map(|queued| item_bytes(&queued.item)).sum();
        let credit_bytes = self.limits.update_target_bytes.saturating_sub(queued_bytes);
        if credit_bytes > 0 {
            let wanted: Vec<Wanted> = self.wanted.drain(..).collect();
            self.diff = Some(issue_diff(wanted, credit_bytes, link));
        }
    }
}
