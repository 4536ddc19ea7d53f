//! A statement with the values of its placeholders: what every machine that runs it starts from.

use std::sync::Arc;

use super::access::Access;
use super::ast::{Expr, Statement, StatementKind, Tail};
use super::error::{DqlError, ErrorKind};
use super::eval::{Env, eval, is_true};
use super::meter::Meter;
use super::mutate::{self, Documents};
use super::print;
use super::ready::{self, Ready};
use super::row::Row;
use crate::value::{Object, Value};

/// A statement ready to run. Cheap to clone, and to be given to every partition.
#[derive(Clone, Debug)]
pub struct Bound {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    statement: Arc<Statement>,
    parameters: Vec<Value>,
    /// What no row changes.
    ready: Vec<Ready>,
    paging: Paging,
    access: Access,
    /// The documents of an INSERT, or why there are none, when they were found before a node asked.
    planned: Option<Result<Documents, DqlError>>,
}

/// How many of the matching rows a statement wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    pub(crate) offset: u64,
    pub(crate) limit: Option<u64>,
}

impl Paging {
    /// How many rows of one partition can be among the wanted ones; `None` is all.
    pub(crate) fn rows_max(self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_add(self.offset))
    }
}

impl Bound {
    /// Gives each placeholder the argument of its name. Arguments that the statement does not use are ignored.
    ///
    /// # Errors
    ///
    /// `Parameter` if an argument is absent, or is no number of rows where `LIMIT` or `OFFSET` take it.
    pub fn new(statement: Arc<Statement>, arguments: &Object) -> Result<Self, DqlError> {
        Self::with(statement, |name| arguments.get(name).cloned())
    }

    /// As [`Self::new`], but takes the values out of `arguments` instead of copying them: whole documents travel
    /// as arguments.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn taking(statement: Arc<Statement>, arguments: &mut Object) -> Result<Self, DqlError> {
        Self::with(statement, |name| arguments.remove(name))
    }

    fn with(
        statement: Arc<Statement>,
        mut argument: impl FnMut(&str) -> Option<Value>,
    ) -> Result<Self, DqlError> {
        let mut parameters = Vec::with_capacity(statement.parameters.len());
        // Each name is listed once, however often the statement uses it.
        for parameter in &statement.parameters {
            let Some(value) = argument(&parameter.name) else {
                let message = format!("Parameter {} was not provided", parameter.name);
                let offset = parameter.span.start as usize;
                return Err(DqlError::at(ErrorKind::Parameter, message, &statement.text, offset));
            };
            parameters.push(value);
        }
        let ready = ready::prepare(&statement.kind, statement.ready_count, &parameters)?;
        let meter = Meter::default();
        meter.begin();
        let env =
            Env { parameters: &parameters, ready: &ready, meter: Some(&meter), ..Env::default() };
        let paging = match statement.tail() {
            None => Paging { offset: 0, limit: None },
            Some(Tail { offset, limit, .. }) => Paging {
                offset: count(&statement, offset.as_ref(), &env)?.unwrap_or(0),
                limit: count(&statement, limit.as_ref(), &env)?,
            },
        };
        let access = Access::of(&statement, &env);
        meter.check()?;
        let planned = None;
        let shared = Shared { statement, parameters, ready, paging, access, planned };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Finds the documents of an INSERT ahead, for whoever has time for many of them; of another statement there is
    /// nothing to find. What is wrong with them is said when they are asked for, to who may insert at all. `fresh_id`
    /// makes an id for each that has none.
    pub fn plan_insert(&mut self, fresh_id: &mut dyn FnMut() -> Value) {
        let is_alone = Arc::get_mut(&mut self.shared).is_some();
        if is_alone && matches!(self.statement().kind(), StatementKind::Insert(_)) {
            let planned = mutate::find(self, fresh_id);
            let shared = Arc::get_mut(&mut self.shared).expect("no clone of it was made meanwhile");
            shared.planned = Some(planned);
        }
    }

    pub(crate) fn shared_statement(&self) -> Arc<Statement> {
        self.shared.statement.clone()
    }

    /// The statement.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.shared.statement
    }

    /// Where this statement finds its documents. Found out once: the coordinator asks whom to send the statement
    /// to, and each of those where to look.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.shared.access
    }

    /// Whether `WHERE` accepts a document; true for all without one. Whatever that costs.
    #[must_use]
    pub fn matches(&self, row: &dyn Row) -> bool {
        self.accepts(&self.env_of(row))
    }

    /// Whether `WHERE` accepts a document; true for all without one.
    ///
    /// # Errors
    ///
    /// `Execution` if that costs more than [`EVALUATION_FUEL_MAX`](super::EVALUATION_FUEL_MAX), or makes too large
    /// a value.
    pub fn check_matches(&self, row: &dyn Row) -> Result<bool, DqlError> {
        self.accepts_within(row, &Meter::default())
    }

    /// As [`Self::check_matches`], with the work counted.
    pub(crate) fn accepts_within(&self, row: &dyn Row, meter: &Meter) -> Result<bool, DqlError> {
        meter.begin();
        let accepts = self.accepts(&Env { meter: Some(meter), ..self.env_of(row) });
        meter.check().map(|()| accepts)
    }

    pub(super) fn accepts(&self, env: &Env<'_>) -> bool {
        self.statement().filter().is_none_or(|condition| is_true(condition, env))
    }

    /// Whether `ORDER BY`, `LIMIT` or `OFFSET` choose among the matching documents, so that no partition alone
    /// can know which are meant.
    #[must_use]
    pub fn needs_choice(&self) -> bool {
        let Paging { offset, limit } = self.paging();
        offset > 0 || limit.is_some()
    }

    /// The condition as text, its parameters replaced by their values: the same for all that ask the same.
    #[must_use]
    pub fn condition_text(&self) -> String {
        let parameters = &self.shared.parameters;
        let condition = self.statement().filter();
        condition.map_or_else(String::new, |expr| print::Bound { expr, parameters }.to_string())
    }

    /// Takes a parameter's value out, when nobody else holds this: whole documents travel as parameters. What is
    /// evaluated from here on finds NULL there.
    pub(super) fn take_parameter(&mut self, index: u32) -> Option<Value> {
        let shared = Arc::get_mut(&mut self.shared)?;
        Some(std::mem::replace(shared.parameters.get_mut(index as usize)?, Value::Null))
    }

    /// The documents that were found ahead; not copied when nobody else holds this.
    pub(super) fn take_planned(&mut self) -> Option<Result<Documents, DqlError>> {
        match Arc::get_mut(&mut self.shared) {
            Some(shared) => shared.planned.take(),
            None => self.shared.planned.clone(),
        }
    }

    pub(crate) fn paging(&self) -> Paging {
        self.shared.paging
    }

    /// For what looks at no document.
    pub(crate) fn env(&self) -> Env<'_> {
        let Shared { parameters, ready, .. } = &*self.shared;
        Env { parameters, ready, ..Env::default() }
    }

    pub(crate) fn env_of<'a>(&'a self, row: &'a dyn Row) -> Env<'a> {
        Env { row: Some(row), ..self.env() }
    }
}

/// The number of rows that `LIMIT` or `OFFSET` say.
fn count(
    statement: &Statement,
    expr: Option<&Expr>,
    env: &Env<'_>,
) -> Result<Option<u64>, DqlError> {
    let Some(expr) = expr else { return Ok(None) };
    if let Some(count) = eval(expr, env).and_then(|value| value.as_u64()) {
        return Ok(Some(count));
    }
    let message = "LIMIT and OFFSET take an integer that is not negative";
    Err(DqlError::at(ErrorKind::Parameter, message, &statement.text, expr.span.start as usize))
}
