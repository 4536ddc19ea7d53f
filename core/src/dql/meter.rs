//! How much work a statement does. It is counted in steps and bytes: rows are no measure, since one row may cost
//! as much as a million others.

use std::cell::{Cell, OnceCell, RefCell};

use super::error::{DqlError, ErrorKind};
use super::eval::Kept;
use crate::value::Value;

/// Work, in units of about a nanosecond of one core.
pub type Fuel = u64;

/// The most work for the expressions of one statement over one document, and for those that its arguments settle. An
/// evaluation may be paused between two nodes of an expression, but within none other than a LIKE: so this also bounds
/// how long a statement can keep a thread from everything else.
pub const EVALUATION_FUEL_MAX: Fuel = 8_000_000;

/// The most bytes of a value that an expression makes. What it is given may be larger.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// What looking at any node of an expression costs.
const STEP: Fuel = 40;

/// What it costs to find a field of a document, beside the bytes of its value.
pub(super) const LOOK_UP: Fuel = 400;

/// Counts the work of one machine. Keeps where an evaluation is to go on that was paused, and the reason why one was
/// given up.
#[derive(Debug)]
pub(crate) struct Meter {
    spent: Cell<Fuel>,
    /// Beyond this the present evaluation is given up.
    limit: Cell<Fuel>,
    refusal: OnceCell<DqlError>,
    /// From here on the present evaluation is paused.
    pause_at: Cell<Fuel>,
    is_paused: Cell<bool>,
    /// The operators that were under way, the innermost first.
    kept: RefCell<Vec<Kept>>,
}

/// The fate of a node that an evaluation enters.
#[derive(Debug)]
pub(super) enum Entry {
    /// It begins, and is paid for.
    Begins,
    /// It was under way when the evaluation was paused, and goes on there.
    GoesOn(Kept),
    /// It must not begin, for now or at all.
    Refused,
}

impl Default for Meter {
    /// One that pauses nothing.
    fn default() -> Self {
        Self {
            spent: Cell::default(),
            limit: Cell::default(),
            refusal: OnceCell::default(),
            pause_at: Cell::new(Fuel::MAX),
            is_paused: Cell::default(),
            kept: RefCell::default(),
        }
    }
}

impl Meter {
    /// The evaluation of a document begins.
    pub(super) fn begin(&self) {
        self.limit.set(self.spent.get().saturating_add(EVALUATION_FUEL_MAX));
    }

    /// An evaluation begins or goes on, for so much work: at least one node of an expression, so that it comes to its
    /// end however little that is.
    pub(super) fn run_for(&self, fuel: Fuel) {
        self.pause_at.set(self.spent.get().saturating_add(fuel.max(1)));
        self.is_paused.set(false);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    /// Enters a node of an expression, and pays for it unless a pause interrupted it: then it was paid for at its
    /// beginning, before that pause.
    pub(super) fn enter(&self) -> Entry {
        let kept = if self.is_paused.get() { None } else { self.kept.borrow_mut().pop() };
        match kept {
            Some(operator) => Entry::GoesOn(operator),
            None if self.goes_on() && self.charge(STEP) => Entry::Begins,
            None => Entry::Refused,
        }
    }

    /// Pauses the evaluation if it has done its work: false once it is paused.
    pub(super) fn goes_on(&self) -> bool {
        if self.spent.get() >= self.pause_at.get() && self.refusal.get().is_none() {
            self.is_paused.set(true);
        }
        !self.is_paused.get()
    }

    /// Keeps an operator that was under way when the evaluation was paused.
    pub(super) fn keep(&self, operator: Kept) {
        assert!(self.is_paused.get(), "an operator is kept for a pause");
        self.kept.borrow_mut().push(operator);
    }

    /// About how much memory the operators that are kept take.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.borrow().iter().map(Kept::size).sum()
    }

    /// Counts work that is no evaluation, such as writing a row.
    pub(super) fn add(&self, fuel: Fuel) {
        self.spent.set(self.spent.get().saturating_add(fuel));
        self.limit.set(self.limit.get().saturating_add(fuel));
    }

    /// Counts work that is about to be done. False if it must not be: the evaluation has cost too much.
    pub(super) fn charge(&self, fuel: Fuel) -> bool {
        if self.refusal.get().is_some() {
            return false;
        }
        let (spent, limit) = (self.spent.get().saturating_add(fuel), self.limit.get());
        // What is not done is not spent.
        self.spent.set(spent.min(limit));
        if spent > limit {
            self.refuse(too_costly);
        }
        spent <= limit
    }

    /// Gives the evaluation up; the first reason stands.
    pub(super) fn refuse(&self, error: impl FnOnce() -> DqlError) {
        self.refusal.get_or_init(error);
    }

    /// Why the evaluation was given up, if it was.
    pub(super) fn check(&self) -> Result<(), DqlError> {
        self.refusal.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The work done since [`take_spent`](Self::take_spent) was last called.
    pub(super) fn spent(&self) -> Fuel {
        self.spent.get()
    }

    /// The work done since this was last asked.
    pub(crate) fn take_spent(&self) -> Fuel {
        let spent = self.spent.take();
        self.limit.set(self.limit.get().saturating_sub(spent));
        spent
    }
}

fn too_costly() -> DqlError {
    let message = format!(
        "the expressions cost more than {EVALUATION_FUEL_MAX} steps for one document: compare smaller values, \
         or use fewer terms"
    );
    DqlError::new(ErrorKind::Execution, message)
}

/// An expression would make a value that is too large.
pub(super) fn too_large(what: &str, bytes: usize) -> DqlError {
    let message = format!(
        "`{what}` would make a value of {bytes} bytes: an expression makes at most {VALUE_BYTES_MAX}"
    );
    DqlError::new(ErrorKind::Execution, message)
}

/// How large a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// No more than its text in JSON, so that no literal of a statement is larger than the statement.
    pub(super) bytes: usize,
    items: usize,
}

impl Weight {
    pub(super) fn of(value: &Value) -> Self {
        let mut weight = Self { bytes: 1, items: 0 };
        match value {
            Value::String(text) => weight.bytes = text.len(),
            Value::Bytes(bytes) => weight.bytes = bytes.len(),
            Value::Array(items) => items.iter().for_each(|item| weight.add(Self::of(item))),
            Value::Object(object) => {
                for (name, value) in object.iter() {
                    weight.bytes += name.len();
                    weight.add(Self::of(value));
                }
            }
            _ => {}
        }
        weight
    }

    /// With one more value inside.
    pub(super) fn add(&mut self, inner: Self) {
        self.bytes += inner.bytes;
        self.items += inner.items + 1;
    }

    /// What going over it costs.
    pub(super) fn fuel(self) -> Fuel {
        self.bytes as Fuel + 32 * self.items as Fuel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_is_given_up_at_its_bound_and_the_first_reason_stands() {
        let meter = Meter::default();
        meter.begin();
        assert!(meter.charge(EVALUATION_FUEL_MAX));
        assert!(!meter.charge(1), "nothing is left");
        assert_eq!(meter.take_spent(), EVALUATION_FUEL_MAX);
        meter.refuse(|| too_large("repeat", 1));
        let error = meter.check().expect_err("it was given up");
        assert!(error.message().contains("cost more than"), "{error}");
    }

    #[test]
    fn each_document_has_its_own_bound_and_other_work_counts_beside_it() {
        let meter = Meter::default();
        for _ in 0..3 {
            meter.begin();
            assert!(meter.charge(EVALUATION_FUEL_MAX / 2));
            meter.add(EVALUATION_FUEL_MAX);
            assert!(meter.charge(EVALUATION_FUEL_MAX / 2));
        }
        assert_eq!(meter.check(), Ok(()));
        assert_eq!(meter.take_spent(), 6 * EVALUATION_FUEL_MAX);
        assert_eq!(meter.take_spent(), 0);
    }
}
