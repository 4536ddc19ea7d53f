//! What no row changes is computed once, when arguments are bound: constant parts of expressions, the sets behind
//! `IN`, the patterns of `LIKE`. The parser marks them, each with a place; a bound statement holds their values.

use std::borrow::Cow;

use super::ast::{Action, Expr, ExprKind, Item, Projection, StatementKind};
use super::error::DqlError;
use super::eval::{Env, Truth, value_of};
use super::like::Pattern;
use super::meter::{Fuel, Meter, Weight};
use crate::value::Value;

/// One value that was computed beforehand.
#[derive(Debug)]
pub(crate) enum Ready {
    /// Of an expression; `None` is MISSING.
    Value(Option<Value>),
    /// What is behind `IN`; `None` if that is no array.
    Members(Option<Members>),
    /// The pattern of a `LIKE`; `None` if it is too long to be tried.
    Pattern(Option<Pattern>),
}

/// Values to look one up among.
#[derive(Debug)]
pub(crate) struct Members {
    /// The whole is null, and so is every membership in it.
    is_null: bool,
    /// Sorted, without null.
    values: Vec<Value>,
    has_null: bool,
    has_missing: bool,
}

impl Members {
    fn of(items: impl Iterator<Item = Option<Value>>) -> Self {
        let mut members =
            Self { is_null: false, values: Vec::new(), has_null: false, has_missing: false };
        for item in items {
            match item {
                None => members.has_missing = true,
                Some(Value::Null) => members.has_null = true,
                Some(value) => members.values.push(value),
            }
        }
        members.values.sort_unstable_by(Value::total_cmp);
        members
    }

    fn of_array(array: &Value) -> Option<Self> {
        match array {
            Value::Array(items) => Some(Self::of(items.iter().cloned().map(Some))),
            Value::Null => Some(Self { is_null: true, ..Self::of(std::iter::empty()) }),
            _ => None,
        }
    }

    /// What looking a value up costs: a comparison for each halving.
    pub(super) fn look_up_fuel(&self, wanted: &Value) -> Fuel {
        let halvings = Fuel::from(usize::BITS - self.values.len().leading_zeros());
        halvings * (16 + Weight::of(wanted).fuel() / 16)
    }

    /// Whether `wanted` is among them, as a disjunction of equalities would have it: where none is true, a null
    /// outweighs a MISSING, which values of other types give, and both outweigh false.
    pub(super) fn contain(&self, wanted: &Value) -> Truth {
        if self.is_null {
            return Truth::Null;
        }
        if wanted.is_null() {
            return match (self.values.is_empty() && !self.has_null, self.has_missing) {
                (false, _) => Truth::Null,
                (true, true) => Truth::Missing,
                (true, false) => Truth::False,
            };
        }
        if self.values.binary_search_by(|value| value.total_cmp(wanted)).is_ok() {
            return Truth::True;
        }
        let is_of_other_type = |value: &Value| value.dql_cmp(wanted).is_none();
        // Types follow each other in this order, so that another one would show at an end.
        let ends = [self.values.first(), self.values.last()];
        let has_others = ends.into_iter().flatten().any(is_of_other_type);
        match (self.has_null, self.has_missing || has_others) {
            (true, _) => Truth::Null,
            (false, true) => Truth::Missing,
            (false, false) => Truth::False,
        }
    }
}

/// Marks what no row changes; returns how many places there are.
pub(super) fn mark(kind: &mut StatementKind) -> u32 {
    let mut marker = Marker { count: 0 };
    for_each_root(kind, &mut |expr| marker.mark_root(expr));
    marker.count
}

struct Marker {
    count: u32,
}

impl Marker {
    fn mark_root(&mut self, expr: &mut Expr) {
        if self.is_constant(expr) {
            self.keep(expr);
        }
    }

    /// Whether no row changes the expression. If one does, the parts that none changes are marked on the way.
    fn is_constant(&mut self, expr: &mut Expr) -> bool {
        match &mut expr.kind {
            ExprKind::Path(_) | ExprKind::Slot(..) | ExprKind::Aggregate(_) => return false,
            ExprKind::Literal(_) | ExprKind::Parameter(_) => return true,
            _ => {}
        }
        let mut constant = Vec::new();
        expr.kind.for_each_child_mut(&mut |child| constant.push(self.is_constant(child)));
        if constant.iter().all(|constant| *constant) {
            return true;
        }
        let place = self.mark_whole(&mut expr.kind, &constant);
        let mut index = 0;
        expr.kind.for_each_child_mut(&mut |child| {
            // What is behind a set or a pattern is looked at no more.
            let is_behind = place && index > 0;
            if constant[index] && !is_behind {
                self.keep(child);
            }
            index += 1;
        });
        false
    }

    /// Marks a set or a pattern, of which the first child is what is looked for.
    fn mark_whole(&mut self, kind: &mut ExprKind, constant: &[bool]) -> bool {
        let ready = match kind {
            ExprKind::InList(_, _, ready) | ExprKind::InArray(_, _, ready) => ready,
            ExprKind::Like(like) => &mut like.ready,
            _ => return false,
        };
        let is_ready = constant[1..].iter().all(|constant| *constant);
        if is_ready {
            *ready = Some(self.next());
        }
        is_ready
    }

    fn keep(&mut self, expr: &mut Expr) {
        if matches!(expr.kind, ExprKind::Literal(_) | ExprKind::Parameter(_)) {
            return;
        }
        let inner = std::mem::replace(expr, Expr::literal(Value::Null));
        let (span, height) = (inner.span, inner.height);
        *expr = Expr { kind: ExprKind::Ready(self.next(), Box::new(inner)), span, height };
    }

    fn next(&mut self) -> u32 {
        self.count += 1;
        self.count - 1
    }
}

/// Computes what was marked.
///
/// # Errors
///
/// `Execution` if that costs too much or makes too large a value.
pub(super) fn prepare(
    kind: &StatementKind,
    count: u32,
    parameters: &[Value],
) -> Result<Vec<Ready>, DqlError> {
    let mut ready: Vec<Ready> = (0..count).map(|_| Ready::Value(None)).collect();
    if count > 0 {
        let meter = Meter::default();
        meter.begin();
        let env = Env { parameters, meter: Some(&meter), ..Env::default() };
        for_each_root_in(kind, &mut |expr| fill(expr, &env, &mut ready));
        meter.check()?;
    }
    Ok(ready)
}

fn fill(expr: &Expr, env: &Env<'_>, ready: &mut [Ready]) {
    let owned = |expr| value_of(expr, env).map(Cow::into_owned);
    let (place, value) = match &expr.kind {
        ExprKind::Ready(place, inner) => {
            return ready[*place as usize] = Ready::Value(owned(inner));
        }
        ExprKind::InList(_, list, Some(place)) => {
            (place, Ready::Members(Some(Members::of(list.iter().map(owned)))))
        }
        ExprKind::InArray(_, array, Some(place)) => {
            let array = value_of(array, env);
            (place, Ready::Members(array.as_deref().and_then(Members::of_array)))
        }
        ExprKind::Like(like) if like.ready.is_some() => {
            let place = like.ready.as_ref().expect("it was just looked at");
            let pattern = value_of(&like.pattern, env);
            let value = match pattern.as_deref() {
                Some(Value::String(text)) if !env.charge(32 * text.len() as Fuel) => {
                    Ready::Pattern(None)
                }
                Some(Value::String(text)) => {
                    Ready::Pattern(Pattern::new(text, like.escape, like.ignore_case))
                }
                // Null and what is no text have answers of their own.
                other => Ready::Value(other.cloned()),
            };
            (place, value)
        }
        kind => return kind.for_each_child(&mut |child| fill(child, env, ready)),
    };
    ready[*place as usize] = value;
    let mut is_first = true;
    expr.kind.for_each_child(&mut |child| {
        if std::mem::take(&mut is_first) {
            fill(child, env, ready);
        }
    });
}

/// Calls `visit` with each expression that is evaluated for every row or group.
fn for_each_root(kind: &mut StatementKind, visit: &mut dyn FnMut(&mut Expr)) {
    let (filter, tail) = match kind {
        StatementKind::Select(select) => {
            if let Projection::Items(items) = &mut select.projection {
                items.iter_mut().filter_map(Item::expr_mut).for_each(&mut *visit);
            }
            if let Some(grouping) = &mut select.grouping {
                grouping.keys.iter_mut().chain(&mut grouping.having).for_each(&mut *visit);
                let aggregates = &mut grouping.aggregates;
                aggregates.iter_mut().filter_map(|a| a.argument.as_mut()).for_each(&mut *visit);
            }
            (&mut select.filter, &mut select.tail)
        }
        StatementKind::Insert(_) => return,
        StatementKind::Update(update) => {
            update.changes.iter_mut().filter_map(|c| c.action.expr_mut()).for_each(&mut *visit);
            (&mut update.filter, &mut update.tail)
        }
        StatementKind::Delete(removal) | StatementKind::Evict(removal) => {
            (&mut removal.filter, &mut removal.tail)
        }
    };
    filter.iter_mut().for_each(&mut *visit);
    tail.order.iter_mut().for_each(|order| visit(&mut order.by));
}

/// As [`for_each_root`], to look at.
fn for_each_root_in(kind: &StatementKind, visit: &mut dyn FnMut(&Expr)) {
    let (filter, tail) = match kind {
        StatementKind::Select(select) => {
            if let Projection::Items(items) = &select.projection {
                items.iter().filter_map(Item::expr).for_each(&mut *visit);
            }
            if let Some(grouping) = &select.grouping {
                grouping.keys.iter().chain(&grouping.having).for_each(&mut *visit);
                let aggregates = &grouping.aggregates;
                aggregates.iter().filter_map(|a| a.argument.as_ref()).for_each(&mut *visit);
            }
            (&select.filter, &select.tail)
        }
        StatementKind::Insert(_) => return,
        StatementKind::Update(update) => {
            update.changes.iter().filter_map(|c| c.action.expr()).for_each(&mut *visit);
            (&update.filter, &update.tail)
        }
        StatementKind::Delete(removal) | StatementKind::Evict(removal) => {
            (&removal.filter, &removal.tail)
        }
    };
    filter.iter().for_each(&mut *visit);
    tail.order.iter().for_each(|order| visit(&order.by));
}

impl Item {
    /// The expression that it computes.
    pub(super) fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Named(_, expr) => Some(expr),
            Self::AllFields | Self::Drop(_) => None,
        }
    }

    fn expr_mut(&mut self) -> Option<&mut Expr> {
        match self {
            Self::Named(_, expr) => Some(expr),
            Self::AllFields | Self::Drop(_) => None,
        }
    }
}

impl Action {
    fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Set(expr) | Self::Increment(expr) | Self::PnIncrement(expr) => Some(expr),
            Self::Restart(expr) => expr.as_ref(),
            Self::Default | Self::Unset => None,
        }
    }

    fn expr_mut(&mut self) -> Option<&mut Expr> {
        match self {
            Self::Set(expr) | Self::Increment(expr) | Self::PnIncrement(expr) => Some(expr),
            Self::Restart(expr) => expr.as_mut(),
            Self::Default | Self::Unset => None,
        }
    }
}
