//! Everybody is connected, in sync, and nothing goes wrong any more: what is committed reaches everybody by
//! itself, and soon.

use bigpeer_core::log::transaction::{Origin, Transaction};
use bigpeer_core::node::Request;

use super::clock::{MS, SECOND};
use super::final_phase::Phase;
use super::process::{ProcessId, SERVER};
use super::{Asker, Event, World};
use crate::check::Failure;
use crate::shape::{Hole, is_met};
use crate::workload::client;
use crate::workload::documents::KEPT;

impl World {
    /// Everybody has agreed. From here on nobody asks whether they do.
    pub(super) fn begin_living(&mut self) {
        self.line("everybody lives on".into());
        self.phase = Phase::Living(0);
        self.clock.after(PAUSE_NS, Event::Live);
    }

    /// The next commits, or the judgement of the last.
    pub(crate) fn on_live(&mut self) {
        let Phase::Living(step) = self.phase else { return };
        if step == STEPS {
            return self.judge_living();
        }
        self.phase = Phase::Living(step + 1);
        let kept = u64::from(step) % KEPT;
        let text = match step % 3 {
            0 => format!("UPDATE cars SET alive = {step} WHERE kind = 'k'"),
            1 => format!("UPDATE cars SET alive = {step}, grp = 1 WHERE _id = 'k{kept}'"),
            _ => format!(
                "INSERT INTO cars DOCUMENTS ({{'_id': 'k9{step}', 'kind': 'late', 'grp': 0}})"
            ),
        };
        self.commit(SERVER, &text);
        let delay_ns = self.delays.below(PAUSE_NS);
        self.clock.after(delay_ns, Event::LiveOnDevices(step));
        let pause_ns = if step + 1 == STEPS { PAUSE_NS + WITHIN_NS } else { PAUSE_NS };
        self.clock.after(pause_ns, Event::Live);
    }

    pub(crate) fn live_on_devices(&mut self, step: u32) {
        for id in 1..=self.devices.len() {
            if self.devices[id - 1].is_active && self.is_ready(id) {
                let kept = (u64::from(step) + id as u64) % KEPT;
                let text = format!("UPDATE cars SET alive{id} = {step} WHERE _id = 'k{kept}'");
                self.commit(id, &text);
            }
        }
    }

    fn commit(&mut self, process: ProcessId, text: &str) {
        let execute = client::local(text, self.deadline(process, 20 * SECOND));
        self.ask(process, 0, Request::Execute(execute), Asker::Setup);
    }

    fn judge_living(&mut self) {
        let held: Vec<_> = (0..self.processes.len()).map(|id| self.documents(id)).collect();
        let judged = crate::check::converged(self, &held, |device| device.is_active);
        match judged {
            Ok(()) => self.cut_power_at_last(held),
            Err(Failure { text, .. }) => {
                let text = format!("{} s after the last commit, {text}", WITHIN_NS / SECOND);
                self.fail(Failure::new("live delivery", text));
            }
        }
    }

    /// The record of an edit of one field is about that field, however often devices and server have started.
    pub(super) fn judge_record(&mut self, process: ProcessId, record: &[u8]) {
        if !is_met(Hole::EditsGrowWithStarts) || !matches!(self.phase, Phase::Living(_)) {
            return;
        }
        let Ok(transaction) = Transaction::decode(record) else { return };
        let is_edit = transaction.origin == Origin::Http && transaction.ops.len() == 1;
        if is_edit && record.len() > RECORD_BYTES_MAX {
            let text = format!("{} logs {} bytes for one field", self.name(process), record.len());
            self.fail(Failure::new("bounds", text));
        }
    }
}

/// How many times the server commits something, and each device.
const STEPS: u32 = 4;

/// Between two of them.
const PAUSE_NS: u64 = 700 * MS;

/// Whoever is connected has a commit within this time.
const WITHIN_NS: u64 = 5 * SECOND;

/// What a log group takes at least.
const RECORD_BYTES_MAX: usize = 512;
