//! The half of a query that runs where the documents are.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};

use super::{
    Held, Limits, OutRow, PartGroup, PartOut, SortKey, compare_keys, document_json, evaluate,
    is_distinct, row_json, row_object, sort_keys,
};
use crate::dql::aggregate::{Partial, Sorted, size_of_value};
use crate::dql::ast::{Grouping, Item, Order, Projection, StatementKind};
use crate::dql::bind::Bound;
use crate::dql::error::DqlError;
use crate::dql::eval::Env;
use crate::dql::meter::{Fuel, Meter};
use crate::dql::row::Row;
use crate::ident::DocId;
use crate::value::Value;

/// About how many bytes a part carries. The coordinator holds one of each partition.
const PART_BYTES: usize = 16 << 10;

/// Takes in the documents of one partition for a statement that reads or chooses: SELECT, or the filter and tail
/// of UPDATE, DELETE and EVICT, whose rows are mere ids.
///
/// Call [`push`](Self::push) or [`push_within`](Self::push_within) with each document, in ascending order of ids,
/// until there are no more or [`is_full`](Self::is_full); then [`finish`](Self::finish). Call
/// [`take_output`](Self::take_output) at any time, and after `finish` until the part that is marked as the last.
#[derive(Debug)]
pub struct PartitionSelect {
    bound: Bound,
    held: Held,
    meter: Meter,
    state: State,
    /// The document pushed last.
    last_id: Option<DocId>,
    look: Look,
    /// The rows of a stream on their way out, in order.
    rows: VecDeque<OutRow>,
    finished: bool,
    last_taken: bool,
}

/// Everything computed of the document that was pushed last.
#[derive(Debug, Default)]
struct Look {
    /// Whether the condition accepts it.
    accepts: Option<bool>,
    /// The projected items; of a statement that groups the keys, then the arguments of its aggregates.
    values: Vec<Option<Value>>,
    /// The values that its row is sorted by.
    keys: Vec<Option<Value>>,
    /// How many bytes of it, and of what the meter keeps, are counted while it waits for its next turn.
    counted: usize,
}

impl Look {
    /// About how much memory it takes.
    fn size(&self) -> usize {
        self.values.iter().chain(&self.keys).flatten().map(size_of_value).sum()
    }
}

#[derive(Debug)]
enum State {
    /// Rows leave in the order in which they come.
    Stream { rows: u64 },
    /// The first rows by the sort keys; all of them without a limit. Sorted as they come: to sort them in the end
    /// would take a turn without an end.
    Sorted(BTreeSet<OutRow>),
    /// One row for each distinct value, which is the key and stands in the row no more.
    Distinct(BTreeMap<Sorted, OutRow>),
    /// One entry for each group, with its least document.
    Groups(BTreeMap<Vec<Sorted>, (DocId, Vec<Partial>)>),
}

impl PartitionSelect {
    /// A machine that has seen no document.
    #[must_use]
    pub fn new(bound: Bound, limits: Limits) -> Self {
        let state = match bound.statement().kind() {
            StatementKind::Select(select) if select.grouping.is_some() => {
                State::Groups(BTreeMap::new())
            }
            StatementKind::Select(select) if is_distinct(select.distinct, &select.projection) => {
                State::Distinct(BTreeMap::new())
            }
            _ if order_of(&bound).is_empty() => State::Stream { rows: 0 },
            _ => State::Sorted(BTreeSet::new()),
        };
        Self {
            bound,
            held: Held::new(limits),
            meter: Meter::default(),
            state,
            last_id: None,
            look: Look::default(),
            rows: VecDeque::new(),
            finished: false,
            last_taken: false,
        }
    }

    /// Its rows are the documents that a mutation is about.
    #[must_use]
    pub fn is_choosing(&self) -> bool {
        self.bound.statement().is_mutation()
    }

    /// The statement.
    #[must_use]
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// No further document can change the result.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Some(rows_max) = self.bound.paging().rows_max() else { return false };
        match &self.state {
            State::Stream { rows, .. } => *rows >= rows_max,
            State::Sorted(_) | State::Distinct(_) => rows_max == 0,
            State::Groups(_) => false,
        }
    }

    /// Takes in a document, if the statement's condition accepts it.
    ///
    /// # Errors
    ///
    /// `Execution` if the statement would hold more than its limit, or costs too much for one document.
    pub fn push(&mut self, row: &dyn Row) -> Result<(), DqlError> {
        let is_in = self.push_within(row, Fuel::MAX)?;
        assert!(is_in, "no document costs all the work there is");
        Ok(())
    }

    /// As [`push`](Self::push), for about so much work. False if the document costs more: then the same one is to be
    /// pushed again, and its evaluation goes on where it is.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn push_within(&mut self, row: &dyn Row, fuel: Fuel) -> Result<bool, DqlError> {
        assert!(!self.finished, "no document comes after the last");
        if self.meter.is_paused() {
            assert_eq!(self.last_id.as_ref(), Some(row.doc_id()), "what is begun comes first");
        } else {
            let in_order = self.last_id.as_ref().is_none_or(|last| last < row.doc_id());
            assert!(in_order, "documents come in the order of their ids");
            self.last_id = Some(row.doc_id().clone());
            if self.is_full() {
                return Ok(true);
            }
            self.meter.begin();
            self.look = Look::default();
        }
        self.held.remove(std::mem::take(&mut self.look.counted));
        self.meter.run_for(fuel);
        let is_computed = self.compute(row);
        self.meter.check()?;
        if !is_computed {
            self.look.counted = self.look.size() + self.meter.kept_bytes();
            self.held.add(self.look.counted)?;
        } else if self.look.accepts == Some(true) {
            self.take_in(row)?;
        }
        Ok(is_computed)
    }

    /// Computes what the statement asks of a document; false once that is paused.
    fn compute(&mut self, row: &dyn Row) -> bool {
        let env = Env { meter: Some(&self.meter), ..self.bound.env_of(row) };
        let Look { accepts, values, keys, .. } = &mut self.look;
        if accepts.is_none() {
            let accepted = self.bound.accepts(&env);
            if env.is_paused() {
                return false;
            }
            *accepts = Some(accepted);
        }
        if *accepts != Some(true) {
            return true;
        }
        if let StatementKind::Select(select) = self.bound.statement().kind() {
            if let Some(grouping) = &select.grouping {
                let arguments = grouping.aggregates.iter().map(|it| it.argument.as_ref());
                return evaluate(values, grouping.keys.iter().map(Some).chain(arguments), &env);
            }
            if let Projection::Items(items) = &select.projection
                && !evaluate(values, items.iter().map(Item::expr), &env)
            {
                return false;
            }
        }
        let by = order_of(&self.bound).iter().map(|order| Some(&order.by));
        evaluate(keys, by, &Env { items: values, ..env })
    }

    /// Takes in what was computed of a document.
    fn take_in(&mut self, row: &dyn Row) -> Result<(), DqlError> {
        if matches!(self.state, State::Groups(_)) {
            return self.take_into_group(row.doc_id());
        }
        let Some(mut out) = self.out_row(row) else { return Ok(()) };
        self.meter.add(out.json.len() as Fuel);
        self.held.add(out.size())?;
        match &mut self.state {
            State::Stream { rows } => {
                *rows += 1;
                self.rows.push_back(out);
            }
            State::Sorted(rows) => {
                rows.insert(out);
                if Some(rows.len() as u64) > self.bound.paging().rows_max().or(Some(u64::MAX)) {
                    let greatest = rows.pop_last().expect("a row was just put in");
                    self.held.remove(greatest.size());
                }
            }
            State::Distinct(rows) => {
                let size = out.size();
                match rows.entry(Sorted(out.distinct.take())) {
                    Entry::Occupied(_) => self.held.remove(size),
                    Entry::Vacant(place) => _ = place.insert(out),
                }
            }
            State::Groups(_) => {}
        }
        Ok(())
    }

    /// The work done since this was last asked.
    pub fn take_spent(&self) -> Fuel {
        self.meter.take_spent()
    }

    /// There are no more documents.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// A part of what this partition contributes: `None` while too little is ready, and after the last.
    pub fn take_output(&mut self) -> Option<PartOut> {
        let ready = self.finished || self.rows_bytes_reach(PART_BYTES);
        if !ready || self.last_taken {
            return None;
        }
        let mut part = PartOut::default();
        let mut bytes = 0;
        while bytes < PART_BYTES
            && let Some(row) = self.next_row()
        {
            bytes += row.size();
            part.rows.push(row);
        }
        while bytes < PART_BYTES
            && let Some(group) = self.next_group()
        {
            bytes += group_size(&group.key, &group.partials);
            part.groups.push(group);
        }
        self.held.remove(bytes);
        let count = part.rows.len() + part.groups.len();
        let each = if matches!(self.state, State::Stream { .. }) { QUEUED } else { TAKEN_OUT };
        self.meter.add(bytes as Fuel / 4 + count as Fuel * each);
        part.last = self.finished && self.is_empty();
        self.last_taken = part.last;
        Some(part)
    }

    /// The first of the rows that wait to leave. All but those of a stream wait for the last document.
    fn next_row(&mut self) -> Option<OutRow> {
        match &mut self.state {
            State::Stream { .. } => self.rows.pop_front(),
            State::Sorted(rows) => rows.pop_first(),
            State::Distinct(rows) => {
                let (Sorted(distinct), row) = rows.pop_first()?;
                Some(OutRow { distinct, ..row })
            }
            State::Groups(_) => None,
        }
    }

    fn next_group(&mut self) -> Option<PartGroup> {
        let State::Groups(groups) = &mut self.state else { return None };
        let (key, (id, partials)) = groups.pop_first()?;
        let key = key.into_iter().map(|Sorted(value)| value).collect();
        Some(PartGroup { key, id, partials })
    }

    fn is_empty(&self) -> bool {
        match &self.state {
            State::Stream { .. } => self.rows.is_empty(),
            State::Sorted(rows) => rows.is_empty(),
            State::Distinct(rows) => rows.is_empty(),
            State::Groups(groups) => groups.is_empty(),
        }
    }

    /// Before the end only streams have rows, and then all that is held is rows, but for a document that is paused.
    fn rows_bytes_reach(&self, bytes: usize) -> bool {
        matches!(self.state, State::Stream { .. }) && self.held.bytes - self.look.counted >= bytes
    }

    /// The row that a document gives, unless it sorts behind all that are wanted.
    fn out_row(&mut self, row: &dyn Row) -> Option<OutRow> {
        let id = row.doc_id().clone();
        let Look { values, keys, .. } = std::mem::take(&mut self.look);
        let keys = sort_keys(order_of(&self.bound), keys);
        let StatementKind::Select(select) = self.bound.statement().kind() else {
            return Some(OutRow { keys, id, json: Vec::new(), distinct: None });
        };
        if !self.is_wanted(&keys, &id) {
            return None;
        }
        let Projection::Items(items) = &select.projection else {
            return Some(OutRow { keys, id, json: document_json(row), distinct: None });
        };
        let object = row_object(items, values, Some(row));
        let json = row_json(&object);
        let distinct = is_distinct(select.distinct, &select.projection).then(|| object.into());
        Some(OutRow { keys, id, json, distinct })
    }

    /// Spares the work of writing a row that would be dropped at once.
    fn is_wanted(&self, keys: &[SortKey], id: &DocId) -> bool {
        let State::Sorted(rows) = &self.state else { return true };
        match (self.bound.paging().rows_max(), rows.last()) {
            (Some(rows_max), Some(greatest)) if rows.len() as u64 >= rows_max => {
                compare_keys(keys, &greatest.keys).then_with(|| id.cmp(&greatest.id)).is_lt()
            }
            _ => true,
        }
    }

    fn take_into_group(&mut self, id: &DocId) -> Result<(), DqlError> {
        let (State::Groups(groups), StatementKind::Select(select)) =
            (&mut self.state, self.bound.statement().kind())
        else {
            return Ok(());
        };
        let Some(grouping) = &select.grouping else { return Ok(()) };
        let mut values = std::mem::take(&mut self.look.values).into_iter();
        let key: Vec<_> = values.by_ref().take(grouping.keys.len()).map(Sorted).collect();
        let (_, partials) = match groups.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let partials = new_partials(grouping);
                let values = place.key().iter().filter_map(|Sorted(value)| value.as_ref());
                self.held.add(size_of_key(values) + size_of_partials(&partials))?;
                place.insert((id.clone(), partials))
            }
        };
        for ((partial, aggregate), value) in
            partials.iter_mut().zip(&grouping.aggregates).zip(values)
        {
            let before = partial.below_bytes();
            match &aggregate.argument {
                Some(_) => partial.add(value.as_ref(), id),
                None => partial.add_row(),
            }
            self.held.remove(before);
            self.held.add(partial.below_bytes())?;
        }
        Ok(())
    }
}

pub(super) fn new_partials(grouping: &Grouping) -> Vec<Partial> {
    grouping.aggregates.iter().map(Partial::new).collect()
}

/// The cost of taking a row or a group out of what is kept in order, beside its bytes.
pub(super) const TAKEN_OUT: Fuel = 300;

/// The cost of a row that only waits behind others of its partition.
pub(super) const QUEUED: Fuel = 50;

/// Whether each row goes out as it is found, and none has to be kept for those that come later.
pub(super) fn is_streaming(bound: &Bound) -> bool {
    let keeps_rows = match bound.statement().kind() {
        StatementKind::Select(select) => {
            select.grouping.is_some() || is_distinct(select.distinct, &select.projection)
        }
        _ => false,
    };
    !keeps_rows && order_of(bound).is_empty()
}

pub(super) fn order_of(bound: &Bound) -> &[Order] {
    bound.statement().tail().map_or(&[], |tail| &tail.order)
}

/// About how many bytes a group takes, with its place among the others.
pub(super) fn group_size(key: &[Option<Value>], partials: &[Partial]) -> usize {
    size_of_key(key.iter().flatten()) + size_of_partials(partials)
}

pub(super) fn size_of_key<'v>(values: impl Iterator<Item = &'v Value>) -> usize {
    2 * size_of::<PartGroup>() + values.map(size_of_value).sum::<usize>()
}

pub(super) fn size_of_partials(partials: &[Partial]) -> usize {
    partials.iter().map(|partial| size_of::<Partial>() + partial.below_bytes()).sum()
}

/// The items of a SELECT that groups.
pub(super) fn grouped_items(projection: &Projection) -> &[Item] {
    match projection {
        Projection::Items(items) => items,
        Projection::Whole => &[],
    }
}
