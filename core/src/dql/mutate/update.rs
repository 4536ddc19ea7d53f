//! The changes of an UPDATE to one document.

use super::{ObjectMode, check_depth, declared_at};
use crate::dql::ast::{
    self, Action, Change, DeclaredType, Expr, Path, StatementKind, TypeDeclaration,
};
use crate::dql::bind::Bound;
use crate::dql::error::{DqlError, ErrorKind};
use crate::dql::eval::{Env, eval};
use crate::dql::meter::Meter;
use crate::dql::row::Row;
use crate::value::{Object, Value};

/// An UPDATE ready to be carried out, and known not to contradict its declarations.
#[derive(Clone, Debug)]
pub struct Update {
    bound: Bound,
    mode: ObjectMode,
    /// The declared type for each change of the statement.
    declared: Vec<Option<DeclaredType>>,
}

/// One change to a document. Paths are never empty and never lead into `_id`.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldOp {
    /// Assigns; an object assigned to a map merges into it.
    Set {
        /// The field.
        path: Path,
        /// Its value, evaluated before any change.
        value: Value,
        /// Its declared type, with those of the fields below.
        declared: Option<DeclaredType>,
    },
    /// Removes a field with all below it.
    Unset {
        /// The field.
        path: Path,
    },
    /// Adds to a counter, which begins at 0.
    Increment {
        /// The field.
        path: Path,
        /// The summand.
        by: i64,
    },
    /// Sets a counter.
    Restart {
        /// The field.
        path: Path,
        /// Its new count.
        to: i64,
    },
    /// Adds to a counter of the older kind.
    PnIncrement {
        /// The field.
        path: Path,
        /// The summand.
        by: f64,
    },
}

impl Update {
    /// `None` if the statement is not an UPDATE.
    ///
    /// # Errors
    ///
    /// `Execution` if an operation does not go with the declared types, or under [`ObjectMode::Register`] needs a
    /// declaration that is not there.
    pub fn new(bound: Bound, mode: ObjectMode) -> Result<Option<Self>, DqlError> {
        if let StatementKind::Update(update) = bound.statement().kind() {
            let text = bound.statement().text();
            let types = &update.source.types;
            let mut declared = Vec::with_capacity(update.changes.len());
            for change in &update.changes {
                check_change(change, types, mode, text)?;
                declared.push(declared_at(types, &change.path).cloned());
            }
            return Ok(Some(Self { bound, mode, declared }));
        }
        Ok(None)
    }

    /// What to change in a document that the statement's condition has accepted, in order. Every value is
    /// evaluated against the document as it is; an assignment of MISSING changes nothing.
    ///
    /// # Errors
    ///
    /// `Evaluation` for a counter's step that is not an integer, `Execution` for a value that nests too deeply.
    pub fn assignments_for(&self, row: &dyn Row) -> Result<Vec<FieldOp>, DqlError> {
        self.assignments_within(row, &Meter::default())
    }

    /// As [`Self::assignments_for`], with the work counted.
    pub(crate) fn assignments_within(
        &self,
        row: &dyn Row,
        meter: &Meter,
    ) -> Result<Vec<FieldOp>, DqlError> {
        meter.begin();
        let env = Env { meter: Some(meter), ..self.bound.env_of(row) };
        let mut ops = Vec::with_capacity(self.statement().changes.len());
        for (change, declared) in self.statement().changes.iter().zip(&self.declared) {
            let op = self.op(change, declared, &env);
            meter.check()?;
            ops.extend(op?);
        }
        Ok(ops)
    }

    /// The declared types of fields.
    #[must_use]
    pub fn types(&self) -> &[TypeDeclaration] {
        &self.statement().source.types
    }

    /// How objects are written that no declaration speaks of.
    #[must_use]
    pub fn mode(&self) -> ObjectMode {
        self.mode
    }

    fn statement(&self) -> &ast::Update {
        match self.bound.statement().kind() {
            StatementKind::Update(update) => update,
            _ => unreachable!("checked when this was made"),
        }
    }

    fn op(
        &self,
        change: &Change,
        declared: &Option<DeclaredType>,
        env: &Env<'_>,
    ) -> Result<Option<FieldOp>, DqlError> {
        let path = change.path.clone();
        let declared = declared.clone();
        Ok(Some(match &change.action {
            Action::Set(expr) => {
                let Some(value) = eval(expr, env) else { return Ok(None) };
                check_depth(&value, path.len())?;
                FieldOp::Set { path, value, declared }
            }
            Action::Default => {
                let is_map = matches!(declared, Some(DeclaredType::Map(_)));
                let value = if is_map { Value::Object(Object::new()) } else { Value::Null };
                FieldOp::Set { path, value, declared }
            }
            Action::Unset => FieldOp::Unset { path },
            Action::Increment(expr) => FieldOp::Increment { path, by: self.integer(expr, env)? },
            Action::Restart(Some(expr)) => FieldOp::Restart { path, to: self.integer(expr, env)? },
            Action::Restart(None) => FieldOp::Restart { path, to: 0 },
            Action::PnIncrement(expr) => {
                let step = eval(expr, env).and_then(|value| value.as_f64());
                let by = step.ok_or_else(|| self.bad_step(expr, env, "a number"))?;
                FieldOp::PnIncrement { path, by }
            }
        }))
    }

    /// A float without a fraction is an integer here.
    fn integer(&self, expr: &Expr, env: &Env<'_>) -> Result<i64, DqlError> {
        const INTEGERS: std::ops::Range<f64> =
            -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
        match eval(expr, env) {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::Float(number)) if number.fract() == 0.0 && INTEGERS.contains(&number) => {
                Ok(number as i64)
            }
            _ => Err(self.bad_step(expr, env, "an integer value")),
        }
    }

    fn bad_step(&self, expr: &Expr, env: &Env<'_>, wanted: &str) -> DqlError {
        let found =
            eval(expr, env).map_or_else(|| "MISSING".into(), |v| Expr::literal(v).to_string());
        let message = format!("Expected {found} to be {wanted}");
        let offset = expr.span.start as usize;
        DqlError::at(ErrorKind::Evaluation, message, self.bound.statement().text(), offset)
    }
}

fn check_change(
    change: &Change,
    types: &[TypeDeclaration],
    mode: ObjectMode,
    text: &str,
) -> Result<(), DqlError> {
    let fail = |message: String| {
        Err(DqlError::at(ErrorKind::Execution, message, text, change.span.start as usize))
    };
    for length in 1..change.path.len() {
        let above = &change.path[..length];
        let kind = match declared_at(types, above) {
            Some(DeclaredType::Map(_)) => continue,
            // Unset paths are ignored where there is nothing to unset.
            None if mode == ObjectMode::Map || matches!(change.action, Action::Unset) => continue,
            Some(DeclaredType::Register) | None => "REGISTER",
            Some(DeclaredType::Counter) => "COUNTER",
            Some(DeclaredType::PnCounter) => "PN_COUNTER",
            Some(DeclaredType::Attachment) => "ATTACHMENT",
        };
        let message = "Unsupported DML operation on";
        return fail(format!("{message} {kind} field \"{}\"", above.join(".")));
    }
    let declared = declared_at(types, &change.path);
    let (wanted, fits) = match &change.action {
        Action::Increment(_) | Action::Restart(_) => {
            ("COUNTER", matches!(declared, Some(DeclaredType::Counter)))
        }
        Action::PnIncrement(_) => ("PN_COUNTER", matches!(declared, Some(DeclaredType::PnCounter))),
        Action::Default => (
            "REGISTER or MAP",
            matches!(declared, None | Some(DeclaredType::Register | DeclaredType::Map(_))),
        ),
        Action::Set(_) | Action::Unset => return Ok(()),
    };
    if fits || (declared.is_none() && mode == ObjectMode::Map) {
        return Ok(());
    }
    let path = change.path.join(".");
    fail(format!("field \"{path}\" must be declared {wanted} for this operation"))
}
