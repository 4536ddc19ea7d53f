//! The phases of a run, and its end: faults stop, devices sync in turns, everybody must agree.

use std::collections::BTreeMap;

use bigpeer_core::auth::{ApiKey, CatalogOp, Permissions, hash, key_prefix};
use bigpeer_core::disk_sim::FaultOdds;
use bigpeer_core::ident::{PeerKey, Txn};
use bigpeer_core::node::{Outcome, Rack, Request};
use bigpeer_core::time::{CLOCK_AHEAD_MS, WallMs};
use bigpeer_core::value::json;

use super::clock::{MS, SECOND};
use super::network::ConnectionId;
use super::process::{APP, ProcessId, SERVER};
use super::{Asker, Event, World};
use crate::check::bounds::vectors_name_no_more;
use crate::check::{Documents, Failure};
use crate::profile::{Profile, own_key};
use crate::shape::{Images, YEARS_MS};
use crate::workload::{client, documents};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The app, its keys and the first documents are made: so many steps are done.
    SettingUp(u32),
    /// Clients and devices work, faults happen.
    Working,
    /// Faults have stopped, and clocks are right. What was authored ahead of its time waits for it.
    Waiting,
    /// Faults have stopped. Devices sync, one round after the other.
    Syncing(u32),
    /// Everybody agrees and stays connected: so many bouts have begun since.
    Living(u32),
    /// The server has lost power once more and comes back.
    Reopening,
    /// Nothing was wrong.
    Over,
}

impl World {
    pub(crate) fn set_up(&mut self) {
        let Phase::SettingUp(step) = self.phase else { return };
        let body = match step {
            0 => Request::Catalog(self.app_and_keys()),
            1 => Request::Execute(client::local(
                &documents::first_insert(),
                self.deadline(SERVER, SECOND),
            )),
            _ => return self.begin_work(),
        };
        self.ask(SERVER, 0, body, Asker::Setup);
    }

    /// The app, a key for each profile, and those of devices with keys of their own.
    fn app_and_keys(&self) -> Vec<CatalogOp> {
        let development_token = Some(hash("dev"));
        let put_app = CatalogOp::PutApp { app: APP, name: "shop".into(), development_token };
        let of_profiles = Profile::ALL
            .into_iter()
            .map(|profile| key(&format!("{profile:?}"), profile.key(), profile));
        let of_devices = self.devices.iter().map(|device| {
            let (text, name) = own_key(device.key);
            key(&name, &text, device.rights.now)
        });
        let keys = of_profiles.chain(of_devices);
        let put_keys = keys.map(|key| CatalogOp::PutKey { app: APP, key });
        std::iter::once(put_app).chain(put_keys).collect()
    }

    pub(crate) fn on_setup_answer(&mut self, outcome: &Outcome) {
        if let Some(error) = &outcome.error {
            return self.fail(Failure::new("setup", error.to_string()));
        }
        if let Phase::SettingUp(step) = self.phase {
            self.phase = Phase::SettingUp(step + 1);
            self.set_up();
        }
    }

    fn begin_work(&mut self) {
        self.phase = Phase::Working;
        self.line("the work begins".into());
        for client in 0..self.clients.len() {
            let delay_ns = self.delays.below(50 * MS);
            self.clock.after(delay_ns, Event::ClientTurn(client));
        }
        for device in 1..=self.devices.len() {
            let delay_ns = self.delays.below(50 * MS);
            self.clock.after(delay_ns, Event::DeviceTurn(device));
            self.clock.after(delay_ns, Event::Probe(device));
            self.clock.after(delay_ns, Event::Connect(device));
        }
        for index in 0..self.hostile.len() {
            self.clock.after(SECOND, Event::HostileTurn(index));
        }
        if self.is_restless {
            self.clock.after(SECOND, Event::StartAgain(1));
        }
        // An image holds keys as well: where one is put back, none is changed.
        if self.images == Images::None {
            self.clock.after(2 * SECOND, Event::Rekey);
            for guest in 0..self.guests.len() {
                self.clock.after(MS, Event::HostTurn(guest));
                self.clock.after(SECOND, Event::GuestTurn(guest));
            }
            if self.is_racing {
                self.clock.after(100 * MS, Event::Race);
            }
        }
        self.plan_image();
        self.clock.after(100 * MS, Event::Fault);
        self.clock.after(WORK_NS - FINALE_NS, Event::Finale);
        self.clock.after(WORK_NS, Event::PhaseEnds(1));
        self.work_ends_ns = self.clock.now_ns() + WORK_NS;
    }

    /// The last part of the work: everybody wants the same documents, and who hears whom is drawn anew.
    pub(crate) fn begin_finale(&mut self) {
        for device in 0..self.devices.len() {
            let blocked = [self.faults.one_in(2), self.faults.one_in(2)];
            self.line(format!("device {} is partitioned for the finale: {blocked:?}", device + 1));
            self.devices[device].blocked = blocked;
        }
    }

    pub(crate) fn is_finale(&self) -> bool {
        self.is_working() && self.clock.now_ns() + FINALE_NS >= self.work_ends_ns
    }

    pub(crate) fn on_phase_ends(&mut self, phase: u32) {
        match (phase, self.phase) {
            (0, Phase::SettingUp(_)) => {
                self.fail(Failure::new("progress", "the set-up does not end".into()));
            }
            // The operator sees it through first. That may take long, and nobody is kept apart for it.
            (1, Phase::Working) if self.rekeying.is_some() => {
                if self.clock.now_ns() == self.work_ends_ns {
                    self.devices.iter_mut().for_each(|device| device.blocked = [false; 2]);
                }
                self.clock.after(300 * MS, Event::PhaseEnds(1));
            }
            (1, Phase::Working) => self.heal(),
            (4, Phase::Waiting) => self.begin_rounds(),
            (2, Phase::Syncing(round)) => {
                let waiting: Vec<String> = self
                    .devices
                    .iter()
                    .enumerate()
                    .filter(|(_, device)| device.is_active && !device.is_synced)
                    .map(|(index, device)| format!("device {} {:?}", index + 1, device.connection))
                    .collect();
                let text = format!("round {round} of syncing does not end: {}", waiting.join(", "));
                self.fail(Failure::new("progress", text));
            }
            (3, Phase::Reopening) => {
                self.fail(Failure::new("progress", "the server does not come back".into()));
            }
            _ => {}
        }
    }

    /// Faults stop: every disk works, every process runs, every connection may live.
    fn heal(&mut self) {
        self.line("faults stop".into());
        let now_ns = self.clock.now_ns();
        for id in 0..self.processes.len() {
            self.processes[id].set_faults(FaultOdds::default(), now_ns);
            self.processes[id].set_filled(false, now_ns);
            self.processes[id].commands_left = None;
            let has_failed =
                self.processes[id].running.as_ref().is_some_and(|running| running.has_failed);
            if has_failed {
                self.stop(id, false);
            }
            self.clock.after(MS, Event::Start(id));
        }
        for device in &mut self.devices {
            device.blocked = [false; 2];
        }
        let wait_ns = self.right_clocks();
        if wait_ns == 0 {
            return self.begin_rounds();
        }
        self.take_turns(0);
        self.phase = Phase::Waiting;
        self.line(format!("{} s until all that was authored is past", wait_ns / SECOND));
        self.clock.after(wait_ns, Event::PhaseEnds(4));
    }

    fn begin_rounds(&mut self) {
        self.begin_round(0);
        self.clock.after(CONVERGE_WITHIN_NS, Event::PhaseEnds(2));
    }

    /// Whether clocks may be further apart than a server bears.
    pub(super) fn may_be_ahead(&self) -> bool {
        self.clock_jump_ms * 2 >= CLOCK_AHEAD_MS
    }

    /// Clocks that jumped by more than a server bears are set right. The answer is the time until the last edit that was
    /// authored ahead of it has come, and was offered again.
    ///
    /// Where they jumped by years, all are set to the latest time that any of them has shown.
    fn right_clocks(&mut self) -> u64 {
        if !self.may_be_ahead() {
            return 0;
        }
        let now = super::process::wall(0, self.clock.now_ns());
        let wall_max = self.processes.iter().map(|process| process.wall_max).max();
        let ahead_ms = wall_max.map_or(0, |wall_max| wall_max.0.saturating_sub(now.0));
        // Nobody waits for years: they are over at once, while all machines are switched off as it were.
        let skipped_ms = if self.clock_jump_ms == YEARS_MS { ahead_ms } else { 0 };
        for process in &mut self.processes {
            process.wall_offset_ms = skipped_ms as i64;
        }
        self.server_jumped_ns = self.clock.now_ns();
        if ahead_ms == 0 { 0 } else { (ahead_ms - skipped_ms) * MS + OFFERED_AGAIN_NS }
    }

    /// Devices with one identity take turns: in each round one of them is connected.
    fn begin_round(&mut self, round: u32) {
        self.phase = Phase::Syncing(round);
        self.line(format!("round {round}"));
        self.take_turns(round);
    }

    fn take_turns(&mut self, round: u32) {
        let mut groups: BTreeMap<PeerKey, Vec<ProcessId>> = BTreeMap::new();
        for id in 1..=self.devices.len() {
            groups.entry(self.processes[id].peer_key).or_default().push(id);
        }
        for members in groups.values() {
            for (place, id) in members.iter().enumerate() {
                let is_active = round as usize % members.len() == place;
                let device = &mut self.devices[id - 1];
                device.is_active = is_active;
                device.is_synced = false;
                match (is_active, device.connection) {
                    (true, None) => {
                        let delay_ns = self.delays.below(100 * MS);
                        self.clock.after(delay_ns, Event::Connect(*id));
                    }
                    (true, Some(connection)) if self.devices[id - 1].ready == Some(connection) => {
                        if matches!(self.phase, Phase::Syncing(_)) {
                            self.probe(*id);
                        }
                    }
                    (true, Some(_)) => {}
                    (false, Some(connection)) => self.cut(connection),
                    (false, None) => {}
                }
            }
        }
    }

    /// How many rounds bring everything to everybody: one to bring it up, one to bring it down, for each of the
    /// devices that share an identity; and one more, that must change nothing.
    fn rounds(&self) -> u32 {
        let mut groups: BTreeMap<PeerKey, u32> = BTreeMap::new();
        for id in 1..=self.devices.len() {
            *groups.entry(self.processes[id].peer_key).or_default() += 1;
        }
        2 * groups.values().max().copied().unwrap_or(1) + 1
    }

    /// Introductions are over. The device asks at once when it is in sync.
    pub(crate) fn on_session_ready(&mut self, process: ProcessId, connection: ConnectionId) {
        if process == SERVER || self.devices[process - 1].connection != Some(connection) {
            return;
        }
        self.devices[process - 1].ready = Some(connection);
        self.devices[process - 1].waits_for_session = false;
        let is_asking = match self.phase {
            // What was refused before is on its way again.
            Phase::Working => true,
            Phase::Syncing(_) => self.devices[process - 1].is_active,
            _ => false,
        };
        if is_asking {
            self.probe(process);
        }
    }

    /// Whether a device should have a connection.
    pub(crate) fn wants_connection(&self, device: ProcessId) -> bool {
        match self.phase {
            Phase::Working => true,
            Phase::Waiting | Phase::Syncing(_) | Phase::Living(_) => {
                self.devices[device - 1].is_active
            }
            Phase::SettingUp(_) | Phase::Reopening | Phase::Over => false,
        }
    }

    pub(crate) fn on_synced(
        &mut self,
        process: ProcessId,
        connection: ConnectionId,
        asked_in: Option<u32>,
    ) {
        let Phase::Syncing(round) = self.phase else { return };
        if asked_in != Some(round) || self.devices[process - 1].connection != Some(connection) {
            return;
        }
        self.devices[process - 1].is_synced = true;
        self.line(format!("device {process} is in sync"));
        if self.devices.iter().any(|device| device.is_active && !device.is_synced) {
            return;
        }
        if round + 1 < self.rounds() {
            self.begin_round(round + 1);
        } else {
            // What was sent last may still be on its way through mailboxes.
            self.clock.after(SETTLE_NS, Event::Check);
        }
    }

    pub(crate) fn on_ready_in_phase(&mut self, process: ProcessId) {
        match self.phase {
            Phase::Working if process != SERVER => {
                self.clock.after(MS, Event::DeviceTurn(process));
                self.clock.after(MS, Event::Connect(process));
            }
            Phase::Waiting | Phase::Syncing(_) if process != SERVER => {
                self.clock.after(MS, Event::Connect(process));
            }
            Phase::Reopening if process == SERVER => self.check_after_cut(),
            _ => {}
        }
    }

    /// Everybody is in sync: judge, and then see whether it stays so by itself.
    pub(crate) fn on_check(&mut self) {
        let held: Vec<Documents> = (0..self.processes.len()).map(|id| self.documents(id)).collect();
        if let Err(failure) = crate::check::converged(self, &held, |_| true) {
            return self.fail(failure);
        }
        if let Err(failure) = crate::check::no_lie_is_told(self, &held) {
            return self.fail(failure);
        }
        if let Err(failure) = crate::check::no_document_is_larger(&held[SERVER], &self.limits) {
            return self.fail(failure);
        }
        if let Err(failure) = crate::check::only_writers_wrote(self, &held[SERVER]) {
            return self.fail(failure);
        }
        // A peer that lies is believed about the actors of others.
        if self.hostile.is_empty()
            && let Err(failure) = vectors_name_no_more(&held[SERVER], &self.epochs)
        {
            return self.fail(failure);
        }
        let wall_max = self.processes[SERVER].wall_max;
        if let Err(failure) = crate::check::no_edit_is_ahead(&held[SERVER], wall_max) {
            return self.fail(failure);
        }
        if let Err(failure) = self.ledger.judge_final(&held[SERVER]) {
            return self.fail(failure);
        }
        if let Err(failure) = self.check_quiet() {
            return self.fail(failure);
        }
        let judged = self.guests.iter().try_for_each(|guest| guest.judge_refused(&held[SERVER]));
        if let Err(failure) = judged {
            return self.fail(failure);
        }
        self.begin_living();
    }

    /// The last thing that goes wrong.
    pub(super) fn cut_power_at_last(&mut self, held: Vec<Documents>) {
        self.before_cut = held.into_iter().next();
        self.phase = Phase::Reopening;
        for device in &mut self.devices {
            device.is_active = false;
        }
        self.stop(SERVER, true);
        self.clock.after(MS, Event::Start(SERVER));
        self.clock.after(60 * SECOND, Event::PhaseEnds(3));
    }

    fn check_after_cut(&mut self) {
        let after = self.documents(SERVER);
        let before = self.before_cut.take().expect("it was kept before the power was cut");
        if let Err(failure) = crate::check::same(&before, &after) {
            return self.fail(failure);
        }
        self.line("all is well".into());
        self.phase = Phase::Over;
    }

    /// Nothing is in progress when nobody asks for anything.
    pub(super) fn check_quiet(&self) -> Result<(), Failure> {
        for (id, process) in self.processes.iter().enumerate() {
            let Some(running) = &process.running else { continue };
            let load: usize = running
                .racks
                .iter()
                .flat_map(Rack::nodes)
                .map(bigpeer_core::node::Node::load)
                .sum();
            if load > 0 || !running.askers.is_empty() {
                let text = format!("{}: {load} pieces of work never end", self.name(id));
                return Err(Failure::new("progress", text));
            }
        }
        Ok(())
    }

    /// Everything that a process holds.
    pub(crate) fn documents(&self, id: ProcessId) -> Documents {
        let Some(running) = &self.processes[id].running else { return Documents::default() };
        Documents::of(running.racks.iter().flat_map(Rack::nodes))
    }

    /// The log was opened again: what was durable before must still be there.
    pub(crate) fn check_reopened(&mut self, id: ProcessId, durable: Txn) {
        self.trace.mix(41, id as u64, durable.0);
        let mark = self.processes[id].durable_mark;
        if durable < mark {
            let text =
                format!("{} comes back with {durable}, and had {mark} durable", self.name(id));
            self.fail(Failure::new("durability", text));
        }
    }

    /// A session was closed by one of our own: sometimes that is nobody's fault, sometimes a bug.
    pub(crate) fn judge_close(&mut self, process: ProcessId, reason: &str) {
        const HARMLESS: [&str; 12] = [
            // The same identity has connected again.
            "closed here: Replaced",
            "closed by the remote: Replaced",
            // A record of the session was refused or lost: the disk is full or failed.
            "outcome is unknown",
            "nothing was written",
            "closed by the remote: Unavailable",
            // The rights of its credential have changed, or are over.
            "the API key is not valid for this app",
            "has expired",
            "the credential ",
            "closed here: PermissionChanged",
            "closed by the remote: PermissionChanged",
            // A direction was blocked for longer than silence is borne.
            "nothing heard for 75 s",
            "closed by the remote: Timeout nothing heard",
        ];
        if !HARMLESS.iter().any(|known| reason.contains(known)) {
            let text = format!("{} closed a session: {reason}", self.name(process));
            self.fail(Failure::new("protocol", text));
        }
    }
}

/// A key with the rights of a profile.
pub(super) fn key(name: &str, text: &str, profile: Profile) -> ApiKey {
    let value = json::parse(profile.permissions().as_bytes(), json::Limits::default());
    let value = value.expect("the permissions of a profile are JSON");
    let permissions = Permissions::from_value(&value).expect("a profile is a permission");
    ApiKey {
        name: name.into(),
        description: None,
        prefix: key_prefix(text).into(),
        hash: hash(text),
        expires: WallMs(u64::MAX),
        permissions: std::sync::Arc::new(permissions),
    }
}

/// How long clients and devices work.
const WORK_NS: u64 = 12 * SECOND;

/// How long, at the end of the work, devices and clients contend for a few documents without hearing each other.
const FINALE_NS: u64 = 2 * SECOND;

/// Everybody agrees within this time after faults have stopped.
const CONVERGE_WITHIN_NS: u64 = 400 * SECOND;

/// So much later than its time an edit that a server has refused for it is offered again.
const OFFERED_AGAIN_NS: u64 = 300 * SECOND;

/// How long mailboxes may take to run empty.
const SETTLE_NS: u64 = SECOND;
