//! Aggregates as partial results that any grouping of rows into parts leads to the same whole.

mod exact;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::ast::{Aggregate, AggregateFunction};
use super::eval;
use crate::ident::DocId;
use crate::value::Value;

pub use exact::ExactSum;

/// What some of the rows of a group contribute to one aggregate.
#[derive(Clone, Debug)]
pub enum Partial {
    /// Rows counted.
    Count(u64),
    /// Numbers added up.
    Sum(Sum),
    /// The ends of the order, each with its document.
    Extremes(Option<Box<(Extreme, Extreme)>>),
    /// Values that differ, for an aggregate with `DISTINCT`, and about how many bytes they take.
    Distinct(BTreeSet<Sorted>, usize),
}

/// Numbers added up without rounding.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    count: u64,
    integers: i128,
    /// Present once there was a float.
    floats: Option<ExactSum>,
}

/// A value at an end of the order. Of equal values, such as `1` and `1.0`, that of the least document stands.
#[derive(Clone, Debug)]
pub struct Extreme {
    value: Value,
    id: DocId,
}

/// A value that sorts by its total order, MISSING last.
#[derive(Clone, Debug)]
pub struct Sorted(pub Option<Value>);

impl PartialEq for Sorted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sorted {}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sorted {
    fn cmp(&self, other: &Self) -> Ordering {
        Value::cmp_option(self.0.as_ref(), other.0.as_ref())
    }
}

impl Partial {
    /// Of no rows.
    pub(crate) fn new(aggregate: &Aggregate) -> Self {
        let plain = Self::plain(aggregate.function);
        // The ends of the order are the same with and without doubles.
        let distinct = aggregate.distinct && !matches!(plain, Self::Extremes(_));
        if distinct { Self::Distinct(BTreeSet::new(), 0) } else { plain }
    }

    fn plain(function: AggregateFunction) -> Self {
        match function {
            AggregateFunction::Count => Self::Count(0),
            AggregateFunction::Sum | AggregateFunction::Average => Self::Sum(Sum::default()),
            AggregateFunction::Minimum | AggregateFunction::Maximum | AggregateFunction::Middle => {
                Self::Extremes(None)
            }
        }
    }

    /// About how many bytes it holds beside itself.
    pub(crate) fn below_bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Extremes(None) => 0,
            Self::Sum(sum) => sum.floats.as_ref().map_or(0, ExactSum::size_bytes),
            Self::Extremes(Some(ends)) => ends.0.size_bytes() + ends.1.size_bytes(),
            Self::Distinct(_, bytes) => *bytes,
        }
    }

    /// Takes in one row: the value of the argument, none for `COUNT(*)`.
    pub(crate) fn add(&mut self, argument: Option<&Value>, id: &DocId) {
        let Some(value) = argument.filter(|value| !value.is_null()) else { return };
        match self {
            Self::Count(count) => *count += u64::from(*value != Value::Bool(false)),
            Self::Sum(sum) => sum.add(value),
            Self::Extremes(extremes) => {
                let extreme = || Extreme { value: value.clone(), id: id.clone() };
                match extremes {
                    Some(ends) => ends.take_in(value, id),
                    None => *extremes = Some(Box::new((extreme(), extreme()))),
                }
            }
            Self::Distinct(values, bytes) => *bytes += add_distinct(values, value.clone()),
        }
    }

    /// Counts a row whatever it holds.
    pub(crate) fn add_row(&mut self) {
        if let Self::Count(count) = self {
            *count += 1;
        }
    }

    /// Takes in another part's. Both are of one aggregate.
    pub(crate) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Sum(sum), Self::Sum(more)) => sum.merge(more),
            (Self::Extremes(Some(ends)), Self::Extremes(Some(more))) => {
                ends.take_in(&more.0.value, &more.0.id);
                ends.take_in(&more.1.value, &more.1.id);
            }
            (Self::Extremes(ends), Self::Extremes(more)) => *ends = ends.take().or(more),
            (Self::Distinct(values, bytes), Self::Distinct(more, _)) => {
                for value in more.into_iter().filter_map(|sorted| sorted.0) {
                    *bytes += add_distinct(values, value);
                }
            }
            // A part from elsewhere that does not fit contributes nothing.
            _ => {}
        }
    }

    /// The aggregate over all rows taken in; `None` is MISSING.
    pub(crate) fn finish(&self, function: AggregateFunction) -> Option<Value> {
        match (self, function) {
            (Self::Count(count), _) => Some(Value::from(*count)),
            (Self::Sum(sum), AggregateFunction::Average) => sum.average(),
            (Self::Sum(sum), _) => sum.total(),
            (Self::Extremes(ends), _) => ends.as_deref().and_then(|ends| end(ends, function)),
            (Self::Distinct(values, _), _) => {
                let no_id = DocId::from_canonical(&[]);
                let mut plain = Self::plain(function);
                for Sorted(value) in values {
                    plain.add(value.as_ref(), &no_id);
                }
                plain.finish(function)
            }
        }
    }
}

/// Of equal numbers an integer stands for a float, so that neither order nor parts decide which is kept.
fn add_distinct(values: &mut BTreeSet<Sorted>, value: Value) -> usize {
    if value == Value::Bool(false) {
        return 0;
    }
    let size = size_of_value(&value);
    let is_float = matches!(value, Value::Float(_));
    let value = Sorted(Some(value));
    if values.contains(&value) {
        if !is_float {
            values.replace(value);
        }
        return 0;
    }
    values.insert(value);
    size
}

impl Extreme {
    fn size_bytes(&self) -> usize {
        size_of::<DocId>() + self.id.as_bytes().len() + size_of_value(&self.value)
    }
}

/// The least and the greatest.
trait Ends {
    fn take_in(&mut self, value: &Value, id: &DocId);
}

impl Ends for (Extreme, Extreme) {
    fn take_in(&mut self, value: &Value, id: &DocId) {
        for (extreme, wanted) in [(&mut self.0, Ordering::Less), (&mut self.1, Ordering::Greater)] {
            let order = value.total_cmp(&extreme.value);
            if order == wanted || (order.is_eq() && *id < extreme.id) {
                *extreme = Extreme { value: value.clone(), id: id.clone() };
            }
        }
    }
}

fn end((least, greatest): &(Extreme, Extreme), function: AggregateFunction) -> Option<Value> {
    match function {
        AggregateFunction::Minimum => Some(least.value.clone()),
        AggregateFunction::Maximum => Some(greatest.value.clone()),
        _ => {
            let (least, greatest) = (least.value.as_f64()?, greatest.value.as_f64()?);
            Some(eval::finite(least / 2.0 + greatest / 2.0))
        }
    }
}

impl Sum {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Int(number) => self.integers += i128::from(*number),
            Value::UInt(number) => self.integers += i128::from(*number),
            Value::Float(number) => self.floats.get_or_insert_default().add(*number),
            _ => return,
        }
        self.count += 1;
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.integers += other.integers;
        match (&mut self.floats, other.floats) {
            (Some(floats), Some(more)) => floats.merge(more),
            (floats, more) => *floats = floats.take().or(more),
        }
    }

    /// All integers give an integer, unless 64 bits do not hold it.
    fn total(&self) -> Option<Value> {
        match &self.floats {
            _ if self.count == 0 => None,
            None => Some(eval::from_integer(self.integers)),
            Some(_) => Some(eval::finite(self.rounded())),
        }
    }

    fn average(&self) -> Option<Value> {
        (self.count > 0).then(|| eval::finite(self.rounded() / self.count as f64))
    }

    fn rounded(&self) -> f64 {
        let mut all = self.floats.clone().unwrap_or_default();
        all.add_integer(self.integers);
        all.round()
    }
}

/// About how much memory a value takes.
pub(crate) fn size_of_value(value: &Value) -> usize {
    let below = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::Object(object) => {
            object.iter().map(|(name, value)| name.len() + 16 + size_of_value(value)).sum()
        }
        _ => 0,
    };
    size_of::<Value>() + below
}
