//! Batches on their way: several requests at once over one connection, and what becomes of those that fail.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::Batch;
use super::records::Bad;
use crate::cli::api::{Api, Refusal, Reply};
use crate::cli::error::CliError;
use crate::cli::http::Transport;

/// How many requests are under way at once: one is read, one written, one synced to disk, one waits.
const IN_FLIGHT_MAX: usize = 4;

/// How often a batch is sent before a server that is busy is given up.
const ATTEMPTS_MAX: u32 = 6;

/// How long to wait before a batch is sent the second time; doubled each further time.
const BACK_OFF: Duration = Duration::from_millis(100);

/// After so many documents refused one by one with none accepted between, the fault is not in the documents.
const REFUSED_IN_A_ROW_MAX: u32 = 100;

/// How many documents went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Taken by the server.
    pub(super) accepted: u64,
    /// Of those, how many were written.
    pub(super) changed: u64,
    /// Refused by the server, each alone.
    pub(super) refused: u64,
}

/// Sends batches and reads the answers.
///
/// A batch that is refused is halved until the documents at fault stand alone. Two batches that share an id are never
/// under way together: of two records with one id the later one wins, as in the file.
pub(super) struct Pipeline<T> {
    api: Api<T>,
    statement: String,
    in_flight: VecDeque<Batch>,
    /// To be sent again, before anything new.
    again: VecDeque<Batch>,
    totals: Totals,
    refused_in_a_row: u32,
    back_off: Duration,
}

impl<T: Transport> Pipeline<T> {
    pub(super) fn new(api: Api<T>, statement: String) -> Self {
        Self {
            api,
            statement,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            totals: Totals::default(),
            refused_in_a_row: 0,
            back_off: BACK_OFF,
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Sends a batch as soon as there is room for it.
    ///
    /// # Errors
    ///
    /// If the import cannot go on.
    pub(super) fn submit(&mut self, batch: Batch, on_bad: &dyn Fn(&Bad)) -> Result<(), CliError> {
        loop {
            if self.in_flight.len() == IN_FLIGHT_MAX {
                self.settle_oldest(on_bad)?;
            } else if let Some(again) = self.again.pop_front() {
                self.send(again)?;
            } else if self.in_flight.iter().any(|other| other.overlaps(&batch)) {
                self.settle_oldest(on_bad)?;
            } else {
                return self.send(batch);
            }
        }
    }

    /// Waits until every document has been accepted or refused.
    ///
    /// # Errors
    ///
    /// If the import cannot go on.
    pub(super) fn drain(&mut self, on_bad: &dyn Fn(&Bad)) -> Result<(), CliError> {
        loop {
            if self.in_flight.len() < IN_FLIGHT_MAX
                && let Some(again) = self.again.pop_front()
            {
                self.send(again)?;
            } else if self.in_flight.is_empty() {
                return Ok(());
            } else {
                self.settle_oldest(on_bad)?;
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), CliError> {
        self.api.send(&self.statement, &batch.args())?;
        self.in_flight.push_back(batch);
        Ok(())
    }

    fn settle_oldest(&mut self, on_bad: &dyn Fn(&Bad)) -> Result<(), CliError> {
        let batch = self.in_flight.pop_front().expect("a request is under way");
        match self.api.receive(&mut |_| Ok(())).map_err(resumable)? {
            Reply::Done(outcome) => {
                self.totals.accepted += batch.len() as u64;
                self.totals.changed += outcome.mutated();
                self.refused_in_a_row = 0;
                Ok(())
            }
            Reply::Refused(refusal) if refusal.is_temporary() => self.on_busy(batch, refusal),
            // No other document would fare better: the key, the app, or the server's disk.
            Reply::Refused(refusal) if matches!(refusal.status, 401 | 404 | 405 | 507) => {
                Err(resumable(refusal.into_error()))
            }
            Reply::Refused(refusal) => self.on_refused(batch, refusal, on_bad),
        }
    }

    fn on_busy(&mut self, mut batch: Batch, refusal: Refusal) -> Result<(), CliError> {
        batch.attempts += 1;
        if batch.attempts == ATTEMPTS_MAX {
            return Err(resumable(refusal.into_error()));
        }
        std::thread::sleep(self.back_off * 2u32.pow(batch.attempts - 1));
        self.again.push_back(batch);
        Ok(())
    }

    fn on_refused(
        &mut self,
        batch: Batch,
        refusal: Refusal,
        on_bad: &dyn Fn(&Bad),
    ) -> Result<(), CliError> {
        let document = match batch.halve() {
            Ok(halves) => {
                self.again.extend(halves);
                return Ok(());
            }
            Err(document) => document,
        };
        self.totals.refused += 1;
        self.refused_in_a_row += 1;
        if self.refused_in_a_row == REFUSED_IN_A_ROW_MAX {
            let message = format!(
                "the server refused {REFUSED_IN_A_ROW_MAX} documents in a row, so the import was \
                 stopped. The last answer: {refusal}"
            );
            return Err(CliError::Refused(message));
        }
        on_bad(&Bad { line: document.line, reason: refusal.to_string() });
        Ok(())
    }
}

/// The error, with what to do about a half-done import.
fn resumable(error: CliError) -> CliError {
    let hint = "A part may have been imported; run the same command again to complete it.";
    match error {
        CliError::Failed(message) => CliError::Failed(format!("{message}. {hint}")),
        CliError::Refused(message) => CliError::Refused(format!("{message}. {hint}")),
        other => other,
    }
}

#[cfg(test)]
mod tests;
