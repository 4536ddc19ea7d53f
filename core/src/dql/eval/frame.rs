//! How far operators have come, while an evaluation runs and while it is paused.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::compare::Truth;
use super::{Env, value_of};
use crate::dql::aggregate::size_of_value;
use crate::dql::ast::Expr;
use crate::dql::functions::Argument;
use crate::dql::like::Trial;
use crate::value::Value;

/// How far one operator has come with its operands.
#[derive(Default)]
pub(super) struct Frame<'a> {
    /// The operand that is next, for operators that keep no values.
    pub(super) next: usize,
    /// The result of the operands before it.
    pub(super) truth: Option<Truth>,
    /// The values of the first operands.
    pub(super) values: SmallVec<[Argument<'a>; 2]>,
    /// The pattern that is being tried on the first of them.
    pub(super) trial: Option<Box<Trial>>,
}

impl<'a> Frame<'a> {
    /// Evaluates operands, from the first on, but for those that have their values. `None` once that is paused.
    pub(super) fn evaluate(
        &mut self,
        operands: impl IntoIterator<Item = &'a Expr>,
        env: &Env<'a>,
    ) -> Option<()> {
        for operand in operands.into_iter().skip(self.values.len()) {
            self.values.push(self::operand(operand, env)?);
        }
        Some(())
    }
}

/// The value of an operand. `None` once that is paused.
pub(super) fn operand<'a>(operand: &'a Expr, env: &Env<'a>) -> Option<Argument<'a>> {
    let value = value_of(operand, env);
    (!env.is_paused()).then_some(value)
}

/// A [`Frame`] that outlives what it was made of.
#[derive(Debug)]
pub(crate) struct Kept {
    next: usize,
    truth: Option<Truth>,
    values: Vec<Option<Value>>,
    trial: Option<Box<Trial>>,
}

impl Kept {
    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        let values = self.values.iter().flatten().map(size_of_value).sum::<usize>();
        size_of::<Self>() + values + self.trial.as_ref().map_or(0, |trial| trial.size())
    }
}

impl From<Frame<'_>> for Kept {
    fn from(Frame { next, truth, values, trial }: Frame<'_>) -> Self {
        let values = values.into_iter().map(|value| value.map(Cow::into_owned)).collect();
        Self { next, truth, values, trial }
    }
}

impl From<Option<Kept>> for Frame<'_> {
    fn from(kept: Option<Kept>) -> Self {
        let Some(Kept { next, truth, values, trial }) = kept else { return Self::default() };
        let values = values.into_iter().map(|value| value.map(Cow::Owned)).collect();
        Self { next, truth, values, trial }
    }
}
