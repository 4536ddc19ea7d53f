//! Everybody is connected, in sync, and nothing goes wrong any more: what is committed reaches everybody by
//! itself, and soon.
//!
//! In a few bouts of some milliseconds each, commits follow each other so closely that they meet whatever a session
//! has under way: a group that is read, a wait for the next touch, a reconciliation, a verdict that travels. Then
//! nobody asks for anything, and soon all must agree.

use bigpeer_core::log::transaction::{Op, Origin, Transaction};
use bigpeer_core::node::{Node, Outcome, Rack, Request};

use super::clock::{MS, SECOND};
use super::final_phase::Phase;
use super::process::{Process, ProcessId, SERVER};
use super::{Asker, Event, World};
use crate::check::remotes::no_stranger_is_kept;
use crate::check::{Failure, nobody_wrote_as};
use crate::workload::client;
use crate::workload::documents::{GROUPS, KEPT};

/// One deed of somebody in a bout.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// The server inserts a document that nobody touches again: who misses it does so for good.
    Insert(u32),
    /// The server writes all documents that are never deleted, in one statement.
    Together(u32),
    /// One field of one document, at the server or on a device.
    Edit(ProcessId, u32),
    /// A device asks whether it is in sync.
    Ask(ProcessId),
    /// A device asks for something else.
    Subscribe(ProcessId),
    /// The server makes a document for a device to edit in the next bout.
    Lend(ProcessId, u32),
    /// The server evicts that of the former bout.
    Evict(ProcessId, u32),
    /// The device edits that of the former bout.
    Touch(ProcessId, u32),
}

impl World {
    /// Everybody has agreed. From here on nobody asks whether they do.
    pub(super) fn begin_living(&mut self) {
        self.line("everybody lives on".into());
        self.phase = Phase::Living(0);
        self.clock.after(WITHIN_NS, Event::Live);
    }

    /// The judgement of a bout, and the next.
    pub(crate) fn on_live(&mut self) {
        let Phase::Living(bout) = self.phase else { return };
        if bout > 0 && !self.judge_living() {
            return;
        }
        if bout == BOUTS {
            if !(self.has_rush && self.begin_rush()) {
                self.end_living();
            }
            return;
        }
        self.phase = Phase::Living(bout + 1);
        self.line(format!("bout {bout}"));
        for act in self.acts_of(bout) {
            let delay_ns = self.delays.below(BOUT_NS);
            self.clock.after(delay_ns, Event::Act(act));
        }
        // What is told is told by then; sessions that hear nothing for hours are alive all the same.
        let idle_ns = if bout == 0 { self.idle_ns } else { 0 };
        // Whoever is cut off connects again first.
        let again_ns = if self.is_cut_due { WITHIN_NS } else { 0 };
        self.clock.after(BOUT_NS + WITHIN_NS + again_ns + idle_ns, Event::Live);
    }

    /// The last bout is judged, and the rush behind it.
    pub(super) fn end_living(&mut self) {
        let held = (0..self.processes.len()).map(|id| self.documents(id)).collect();
        self.cut_power_at_last(held);
    }

    fn acts_of(&mut self, bout: u32) -> Vec<Act> {
        let mut acts: Vec<Act> = (0..INSERTS).map(|n| Act::Insert(bout * INSERTS + n)).collect();
        acts.extend((0..TOGETHER).map(|n| Act::Together(bout * TOGETHER + n)));
        acts.push(Act::Edit(SERVER, bout));
        let active = |id: &ProcessId| self.devices[*id - 1].is_active;
        let devices: Vec<ProcessId> = (1..=self.devices.len()).filter(active).collect();
        for id in devices.iter().copied() {
            acts.push(Act::Edit(id, bout));
            let asks = if self.asks_often { 12 } else { 3 };
            acts.extend(std::iter::repeat_n(Act::Ask(id), asks));
            acts.push(Act::Lend(id, bout));
            if let Some(former) = bout.checked_sub(1) {
                acts.extend([Act::Evict(id, former), Act::Touch(id, former)]);
            }
        }
        for id in devices {
            if self.odds.one_in(3) {
                acts.push(Act::Subscribe(id));
            }
        }
        self.is_cut_due = self.odds.one_in(2);
        acts
    }

    pub(crate) fn act(&mut self, act: Act) {
        let (process, text) = match act {
            Act::Insert(n) => {
                let (group, text) = (u64::from(n) % GROUPS, "b".repeat(300));
                let document = format!("{{'_id': 'b{n}', 'grp': {group}, 'text': '{text}'}}");
                (SERVER, format!("INSERT INTO cars DOCUMENTS ({document})"))
            }
            Act::Together(n) => (SERVER, format!("UPDATE cars SET {ALIVE} = {n} WHERE kind = 'k'")),
            Act::Edit(id, bout) => {
                let kept = (u64::from(bout) + id as u64) % KEPT;
                (id, format!("UPDATE cars SET alive{id} = {bout} WHERE _id = 'k{kept}'"))
            }
            Act::Ask(id) if self.is_ready(id) => return self.probe(id),
            Act::Ask(_) => return,
            Act::Subscribe(id) => return self.change_subscription(id),
            Act::Lend(id, bout) => {
                let text = format!("INSERT INTO misc DOCUMENTS ({{'_id': '{}'}})", lent(id, bout));
                (SERVER, text)
            }
            Act::Evict(id, bout) => {
                (SERVER, format!("EVICT FROM misc WHERE _id = '{}'", lent(id, bout)))
            }
            Act::Touch(id, bout) => {
                (id, format!("UPDATE misc SET alive = 1 WHERE _id = '{}'", lent(id, bout)))
            }
        };
        if !self.is_ready(process) {
            return;
        }
        let execute = client::local(&text, self.deadline(process, 20 * SECOND));
        let thread = self.delays.below(u64::from(self.threads(process))) as u16;
        self.ask(process, thread, Request::Execute(execute), Asker::Act(act));
    }

    pub(super) fn on_act_answer(&mut self, act: Act, outcome: &Outcome) {
        if let Some(error) = &outcome.error {
            return self.fail(Failure::new("answers", format!("{act:?}: {error}")));
        }
        if let Act::Evict(id, bout) = act {
            let server = self.documents(SERVER);
            let id = lent(id, bout);
            self.evicted.note(&id, server.marker(&id));
        }
    }

    fn judge_living(&mut self) -> bool {
        // Whatever was asked has its answer.
        if let Err(failure) = self.check_quiet() {
            self.fail(failure);
            return false;
        }
        let held: Vec<_> = (0..self.processes.len()).map(|id| self.documents(id)).collect();
        let judged = crate::check::converged(self, &held, |device| device.is_active);
        if let Err(Failure { text, .. }) = &judged {
            let text = format!("seconds after the last commit, {text}");
            self.fail(Failure::new("live delivery", text));
        }
        judged.is_ok()
    }

    /// The record of an edit of one field is about that field, however often devices and server have started.
    pub(super) fn judge_record(&mut self, process: ProcessId, record: &[u8]) {
        let is_own = process == SERVER;
        if !is_own && !matches!(self.phase, Phase::Living(_)) {
            return;
        }
        let Ok(transaction) = Transaction::decode(record) else { return };
        if is_own {
            let judged = self
                .judge_authors(&transaction)
                .and_then(|()| no_stranger_is_kept(&mut self.known_peers, &transaction));
            if let Err(failure) = judged {
                return self.fail(failure);
            }
        }
        if !matches!(self.phase, Phase::Living(_)) {
            return;
        }
        let is_edit = transaction.origin == Origin::Http && transaction.ops.len() == 1;
        if is_edit && record.len() > RECORD_BYTES_MAX {
            let text = format!("{} logs {} bytes for one field", self.name(process), record.len());
            self.fail(Failure::new("bounds", text));
        }
    }
}

impl World {
    /// Notes at which times the server has authored, and that nobody else says so.
    fn judge_authors(&mut self, transaction: &Transaction) -> Result<(), Failure> {
        if transaction.origin != Origin::Http {
            let Process { running: Some(running), partitions, .. } = &self.processes[SERVER] else {
                return Ok(());
            };
            let present: Vec<_> =
                running.racks.iter().flat_map(Rack::nodes).map(Node::issued).collect();
            return nobody_wrote_as(&present, *partitions, &self.issued, transaction);
        }
        for op in &transaction.ops {
            let Op::Merge { delta, .. } = op else { continue };
            for dot in delta.raised() {
                let issued = self.issued.entry(dot.actor).or_default();
                *issued = dot.hlc.max(*issued);
            }
        }
        Ok(())
    }
}

/// The document that the server makes for a device in a bout.
fn lent(id: ProcessId, bout: u32) -> String {
    format!("y{id}-{bout}")
}

/// The field that the server writes in all documents that are never deleted.
pub(crate) const ALIVE: &str = "alive";

const BOUTS: u32 = 3;

/// How long a bout takes.
const BOUT_NS: u64 = 20 * MS;

/// Documents that the server inserts in a bout.
const INSERTS: u32 = 10;

/// How often in a bout it writes all that are never deleted.
const TOGETHER: u32 = 5;

/// Whoever is connected has a commit within this time.
const WITHIN_NS: u64 = 5 * SECOND;

/// The smallest group of a log, in bytes: an edit of one field takes no more.
const RECORD_BYTES_MAX: usize = 512;
