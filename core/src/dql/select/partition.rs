//! The half of a query that runs where the documents are.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BinaryHeap, VecDeque};

use super::{
    Held, Limits, OutRow, PartGroup, PartOut, SortKey, compare_keys, document_json, is_distinct,
    item_values, row_json, row_object, sort_keys,
};
use crate::dql::aggregate::{Partial, Sorted, size_of_value};
use crate::dql::ast::{Grouping, Item, Order, Projection, StatementKind};
use crate::dql::bind::Bound;
use crate::dql::error::DqlError;
use crate::dql::eval::{Env, eval};
use crate::dql::row::Row;
use crate::ident::DocId;
use crate::value::Value;

/// About how many bytes a part carries.
const PART_BYTES: usize = 64 << 10;

/// Takes in the documents of one partition for a statement that reads or chooses: SELECT, or the filter and tail
/// of UPDATE, DELETE and EVICT, whose rows are mere ids.
///
/// Call [`push`](Self::push) with each document, in ascending order of ids, until there are no more or
/// [`is_full`](Self::is_full); then [`finish`](Self::finish). Call [`take_output`](Self::take_output) at any time,
/// and after `finish` until the part that is marked as the last.
#[derive(Debug)]
pub struct PartitionSelect {
    bound: Bound,
    held: Held,
    state: State,
    /// The document pushed last.
    last_id: Option<DocId>,
    /// Rows on their way out, in order.
    rows: VecDeque<OutRow>,
    groups: VecDeque<PartGroup>,
    finished: bool,
    last_taken: bool,
}

#[derive(Debug)]
enum State {
    /// Rows leave in the order in which they come.
    Stream { rows: u64 },
    /// The first rows by the sort keys; all of them without a limit.
    Sorted(BinaryHeap<OutRow>),
    /// One row for each distinct value.
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
            _ => State::Sorted(BinaryHeap::new()),
        };
        let (rows, groups) = (VecDeque::new(), VecDeque::new());
        let held = Held::new(limits);
        Self { bound, held, state, last_id: None, rows, groups, finished: false, last_taken: false }
    }

    /// Its rows are the documents that a mutation is about.
    #[must_use]
    pub fn is_choosing(&self) -> bool {
        self.bound.statement().is_mutation()
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
    /// `Execution` if the statement would hold more than its limit.
    pub fn push(&mut self, row: &dyn Row) -> Result<(), DqlError> {
        assert!(!self.finished, "no document comes after the last");
        let in_order = self.last_id.as_ref().is_none_or(|last| last < row.doc_id());
        assert!(in_order, "documents come in the order of their ids");
        self.last_id = Some(row.doc_id().clone());
        if self.is_full() || !self.bound.matches(row) {
            return Ok(());
        }
        if matches!(self.state, State::Groups(_)) {
            return self.push_into_group(row);
        }
        let Some(out) = self.out_row(row) else { return Ok(()) };
        self.held.add(out.size())?;
        match &mut self.state {
            State::Stream { rows } => {
                *rows += 1;
                self.rows.push_back(out);
            }
            State::Sorted(heap) => {
                heap.push(out);
                if Some(heap.len() as u64) > self.bound.paging().rows_max().or(Some(u64::MAX)) {
                    let greatest = heap.pop().expect("a row was just put in");
                    self.held.remove(greatest.size());
                }
            }
            State::Distinct(rows) => {
                let value = Sorted(out.distinct.clone());
                match rows.entry(value) {
                    Entry::Occupied(_) => self.held.remove(out.size()),
                    Entry::Vacant(place) => _ = place.insert(out),
                }
            }
            State::Groups(_) => {}
        }
        Ok(())
    }

    /// There are no more documents.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let done = State::Stream { rows: 0 };
        match std::mem::replace(&mut self.state, done) {
            State::Stream { .. } => {}
            State::Sorted(heap) => self.rows = heap.into_sorted_vec().into(),
            State::Distinct(rows) => self.rows = rows.into_values().collect(),
            State::Groups(groups) => {
                self.groups = groups
                    .into_iter()
                    .map(|(key, (id, partials))| {
                        let key = key.into_iter().map(|Sorted(value)| value).collect();
                        PartGroup { key, id, partials }
                    })
                    .collect();
            }
        }
    }

    /// A part of what this partition contributes: `None` while too little is ready, and after the last.
    pub fn take_output(&mut self) -> Option<PartOut> {
        let ready = self.finished || self.rows_bytes_reach(PART_BYTES);
        if !ready || self.last_taken {
            return None;
        }
        let mut part = PartOut::default();
        let mut bytes = 0;
        let mut fits = |row: &OutRow| {
            let has_room = bytes < PART_BYTES;
            bytes += if has_room { row.size() } else { 0 };
            has_room
        };
        let count = self.rows.iter().take_while(|row| fits(row)).count();
        part.rows = if count == self.rows.len() {
            std::mem::take(&mut self.rows).into()
        } else {
            self.rows.drain(..count).collect()
        };
        self.held.remove(bytes);
        while bytes < PART_BYTES
            && let Some(group) = self.groups.pop_front()
        {
            bytes += group_size(&group.key, group.partials.len());
            part.groups.push(group);
        }
        part.last = self.finished && self.rows.is_empty() && self.groups.is_empty();
        self.last_taken = part.last;
        Some(part)
    }

    /// Before the end only streams have rows, and then all that is held is rows.
    fn rows_bytes_reach(&self, bytes: usize) -> bool {
        matches!(self.state, State::Stream { .. }) && self.held.bytes >= bytes
    }

    /// The row that a document gives, unless it sorts behind all that are wanted.
    fn out_row(&self, row: &dyn Row) -> Option<OutRow> {
        let env = self.bound.env_of(row);
        let id = row.doc_id().clone();
        let order = order_of(&self.bound);
        let StatementKind::Select(select) = self.bound.statement().kind() else {
            let keys = sort_keys(order, &env);
            return Some(OutRow { keys, id, json: Vec::new(), distinct: None });
        };
        let Projection::Items(items) = &select.projection else {
            let keys = sort_keys(order, &env);
            let wanted = self.is_wanted(&keys, &id);
            return wanted.then(|| OutRow { keys, id, json: document_json(row), distinct: None });
        };
        let values = item_values(items, &env);
        let keys = sort_keys(order, &Env { items: &values, ..env });
        if !self.is_wanted(&keys, &id) {
            return None;
        }
        let object = row_object(items, values, Some(row));
        let json = row_json(&object);
        let distinct = is_distinct(select.distinct, &select.projection).then(|| object.into());
        Some(OutRow { keys, id, json, distinct })
    }

    /// Spares the work of writing a row that would leave the heap at once.
    fn is_wanted(&self, keys: &[SortKey], id: &DocId) -> bool {
        let State::Sorted(heap) = &self.state else { return true };
        match (self.bound.paging().rows_max(), heap.peek()) {
            (Some(rows_max), Some(greatest)) if heap.len() as u64 >= rows_max => {
                compare_keys(keys, &greatest.keys).then_with(|| id.cmp(&greatest.id)).is_lt()
            }
            _ => true,
        }
    }

    fn push_into_group(&mut self, row: &dyn Row) -> Result<(), DqlError> {
        let (State::Groups(groups), StatementKind::Select(select)) =
            (&mut self.state, self.bound.statement().kind())
        else {
            return Ok(());
        };
        let Some(grouping) = &select.grouping else { return Ok(()) };
        let env = self.bound.env_of(row);
        let id = row.doc_id();
        let key: Vec<_> = grouping.keys.iter().map(|key| Sorted(eval(key, &env))).collect();
        if !groups.contains_key(&key) {
            let values: Vec<_> = key.iter().map(|sorted| sorted.0.clone()).collect();
            self.held.add(group_size(&values, grouping.aggregates.len()))?;
            groups.insert(key.clone(), (id.clone(), new_partials(grouping)));
        }
        let (_, partials) = groups.get_mut(&key).expect("the group was just made");
        let mut bytes = 0;
        for (partial, aggregate) in partials.iter_mut().zip(&grouping.aggregates) {
            match &aggregate.argument {
                Some(argument) => bytes += partial.add(eval(argument, &env).as_ref(), id),
                None => partial.add_row(),
            }
        }
        self.held.add(bytes)
    }
}

pub(super) fn new_partials(grouping: &Grouping) -> Vec<Partial> {
    grouping.aggregates.iter().map(Partial::new).collect()
}

pub(super) fn order_of(bound: &Bound) -> &[Order] {
    bound.statement().tail().map_or(&[], |tail| &tail.order)
}

/// About how many bytes a group takes.
pub(super) fn group_size(key: &[Option<Value>], aggregates: usize) -> usize {
    let values: usize = key.iter().flatten().map(size_of_value).sum();
    size_of::<PartGroup>() + values + aggregates * size_of::<Partial>()
}

/// The items of a SELECT that groups.
pub(super) fn grouped_items(projection: &Projection) -> &[Item] {
    match projection {
        Projection::Items(items) => items,
        Projection::Whole => &[],
    }
}
