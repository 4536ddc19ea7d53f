//! Brings each frame and each answer of the host to the half that it concerns.

use crate::seam::Now;
use crate::sync::error::{ByeReason, CloseReason, ProtocolError};
use crate::sync::frame::{self, Frame, Need, Offer, OfferEnd};
use crate::sync::host::{HostEvent, Part};
use crate::sync::link::SessionEvent;

use super::{PROBES_MAX, Session};

impl Session {
    pub(super) fn on_frame(&mut self, bytes: &[u8], now: Now) -> Result<(), CloseReason> {
        let Some(frame) = frame::decode(bytes)? else { return Ok(()) };
        let is_met = self.handshake.is_met();
        if !is_met && !matches!(frame, Frame::Hello(_) | Frame::Ping | Frame::Pong | Frame::Bye(_))
        {
            let frame = frame.name();
            return Err(ProtocolError::OutOfOrder { frame, state: "before Hello" }.into());
        }
        if !matches!(frame, Frame::Ping | Frame::Pong | Frame::Probe { .. }) {
            self.timers.stalled = None;
        }
        let log = self.handshake.log();
        match frame {
            Frame::Hello(hello) => self.on_hello(hello)?,
            Frame::Subs(subs) => self.on_subs(*subs)?,
            Frame::Start(start) => self.receiving.on_start(start, &mut self.link)?,
            Frame::Grant { read } => self.link.event(SessionEvent::Granted { read }),
            Frame::Offer(offer) => self.on_offer(offer)?,
            Frame::OfferEnd(end) => self.on_offer_end(end)?,
            Frame::Need(need) => self.on_need(need)?,
            Frame::UpdBegin(begin) => {
                let reached = begin.at.map(|at| self.handshake.position(at));
                self.receiving.on_begin(begin, reached, log)?;
            }
            Frame::UpdChunk(chunk) => self.receiving.on_chunk(&chunk, &mut self.link)?,
            Frame::UpdEnd(end) => self.receiving.on_end(end, &mut self.link)?,
            Frame::Got(got) => self.sending.on_got(got)?,
            Frame::Ack(ack) => {
                let reached = ack.at.map(|at| self.handshake.position(at));
                self.sending.on_ack(ack, reached, &mut self.link)?;
            }
            Frame::Probe { probe } => self.on_probe(probe, now)?,
            Frame::ProbeReply { probe } => {
                if let Some(asked) = self.probes.asked.get_mut(&probe) {
                    asked.is_replied = asked.is_sent;
                }
            }
            Frame::Ping => self.link.frame(&Frame::Pong),
            Frame::Pong => {}
            Frame::Bye(bye) => {
                return Err(CloseReason::Remote { reason: bye.reason, text: bye.text });
            }
        }
        Ok(())
    }

    fn on_probe(&mut self, probe: u64, now: Now) -> Result<(), ProtocolError> {
        if self.probes.owed.len() == PROBES_MAX {
            let limit = PROBES_MAX as u64;
            return Err(ProtocolError::WindowOverrun { frame: "Probe", limit });
        }
        self.probes.owed.push_back((probe, now.durable));
        self.sending.want_through(now.durable);
        Ok(())
    }

    /// True for the round under way, false for a former one, whose frames are void.
    fn is_of_round(
        &self,
        frame: &'static str,
        part: Part,
        round: u64,
        is_ours: bool,
    ) -> Result<bool, ProtocolError> {
        // The provider counts the rounds of its direction. `is_ours`: the frame is about an offer of ours.
        let we_provide = (part == Part::Provide) == is_ours;
        let current = if we_provide { self.sending.round() } else { self.receiving.round() };
        if round == 0 || round > current {
            return Err(ProtocolError::Malformed { frame, field: "round" });
        }
        Ok(round == current)
    }

    fn on_offer(&mut self, offer: Offer) -> Result<(), ProtocolError> {
        if self.is_of_round("Offer", offer.part, offer.round, false)? {
            self.comparing.on_offer(offer, &mut self.link)?;
        }
        Ok(())
    }

    fn on_offer_end(&mut self, end: OfferEnd) -> Result<(), ProtocolError> {
        let is_current = self.is_of_round("OfferEnd", end.part, end.round, false)?;
        if is_current && end.part == Part::Hold {
            self.sending.on_hold_end();
        }
        Ok(())
    }

    fn on_need(&mut self, need: Need) -> Result<(), ProtocolError> {
        if !self.is_of_round("Need", need.part, need.round, true)? {
            return Ok(());
        }
        match need.part {
            Part::Provide => self.sending.on_need(need),
            Part::Hold => self.receiving.on_need(need),
        }
    }

    pub(super) fn on_host(&mut self, event: HostEvent) -> Result<(), CloseReason> {
        match event {
            HostEvent::Remote { id, record } => self.on_remote(id, *record),
            HostEvent::Saved { id } => self.on_saved(id)?,
            HostEvent::EpochChanged { id, actor } => self.on_epoch(id, actor),
            HostEvent::Touched { watch, items, upto } => {
                self.sending.on_touched(watch, items, upto, &mut self.link);
            }
            HostEvent::Held { scan, started_at, mut items, done } => {
                self.sending.on_held(scan, started_at, &mut items, done);
                self.receiving.on_held(scan, started_at, &mut items, done);
            }
            HostEvent::Verdicts { id, verdicts } => {
                let queue = self.sending.queue_mut();
                let taken = self.comparing.on_verdicts(id, verdicts, queue, &mut self.link);
                if taken == Some(false) {
                    return Err(CloseReason::HostFailed("not one verdict for each offer".into()));
                }
            }
            HostEvent::Diffs { id, items } => self.sending.on_diffs(id, items, &mut self.link)?,
            HostEvent::Applied { id, txn, outcomes } => {
                self.receiving.on_applied(id, txn, outcomes, &mut self.link)?;
            }
            HostEvent::Settled { id, refused } => {
                self.sending.on_settled(id, refused, &mut self.link);
            }
            HostEvent::Evicted { generation } => {
                self.config.local.evict_generation = generation;
                self.receiving.forget_cursor();
                self.is_subs_due = true;
            }
            HostEvent::PermissionChanged => {
                return Err(CloseReason::Local(ByeReason::PermissionChanged));
            }
            HostEvent::Failed { reason } => return Err(CloseReason::HostFailed(reason)),
        }
        Ok(())
    }
}
