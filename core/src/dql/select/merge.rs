//! The half of a query that joins what the partitions contribute.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::partition::{group_size, grouped_items, new_partials, order_of};
use super::{
    Held, Limits, OutRow, PartGroup, PartOut, is_distinct, item_values, row_json, row_object,
    sort_keys,
};
use crate::dql::aggregate::{Partial, Sorted};
use crate::dql::ast::{Grouping, Select, StatementKind};
use crate::dql::bind::Bound;
use crate::dql::error::DqlError;
use crate::dql::eval::{Env, is_true};
use crate::ident::DocId;
use crate::value::Value;

/// Takes in the parts of all partitions, in any order between them and in their own order each, and gives out
/// the rows of the result.
#[derive(Debug)]
pub struct MergeSelect {
    bound: Bound,
    held: Held,
    parts: Vec<Part>,
    gathered: Gathered,
    /// Rows to leave out.
    offset: u64,
    /// Rows still wanted.
    left: u64,
}

/// One partition.
#[derive(Debug, Default)]
struct Part {
    rows: VecDeque<OutRow>,
    last: bool,
}

/// What cannot leave before everything has come.
#[derive(Debug)]
enum Gathered {
    Nothing,
    Distinct(BTreeMap<Sorted, OutRow>),
    Groups(BTreeMap<Vec<Sorted>, (DocId, Vec<Partial>)>),
}

impl MergeSelect {
    /// A machine that waits for parts from so many partitions, numbered from 0.
    #[must_use]
    pub fn new(bound: Bound, partitions: usize, limits: Limits) -> Self {
        let gathered = match bound.statement().kind() {
            StatementKind::Select(select) if select.grouping.is_some() => {
                Gathered::Groups(BTreeMap::new())
            }
            StatementKind::Select(select) if is_distinct(select.distinct, &select.projection) => {
                Gathered::Distinct(BTreeMap::new())
            }
            _ => Gathered::Nothing,
        };
        let paging = bound.paging();
        let (offset, left) = (paging.offset, paging.limit.unwrap_or(u64::MAX));
        let parts = (0..partitions).map(|_| Part::default()).collect();
        Self { bound, held: Held::new(limits), parts, gathered, offset, left }
    }

    /// Takes in a part of one partition.
    ///
    /// # Errors
    ///
    /// `Execution` if the statement would hold more than its limit.
    pub fn push(&mut self, partition: usize, part: PartOut) -> Result<(), DqlError> {
        let from = &mut self.parts[partition];
        assert!(!from.last, "no part comes after the last of its partition");
        from.last = part.last;
        if !matches!(self.gathered, Gathered::Distinct(_)) {
            self.held.add(part.rows.iter().map(OutRow::size).sum())?;
        }
        match &mut self.gathered {
            Gathered::Distinct(rows) => {
                for row in part.rows {
                    self.held.add(row.size())?;
                    let value = Sorted(row.distinct.clone());
                    match rows.get(&value) {
                        Some(known) if known.id < row.id => self.held.remove(row.size()),
                        _ => {
                            if let Some(known) = rows.insert(value, row) {
                                self.held.remove(known.size());
                            }
                        }
                    }
                }
            }
            _ if from.rows.is_empty() => from.rows = part.rows.into(),
            _ => from.rows.extend(part.rows),
        }
        for group in part.groups {
            self.take_in_group(group)?;
        }
        if self.parts.iter().all(|part| part.last) {
            self.on_all_gathered();
        }
        Ok(())
    }

    /// The rows of the result that are ready, in order.
    pub fn take_rows(&mut self) -> Vec<OutRow> {
        // The rows of a single partition are in order by themselves.
        if let [part] = &mut self.parts[..]
            && self.offset == 0
            && self.left >= part.rows.len() as u64
        {
            self.left -= part.rows.len() as u64;
            self.held.remove(part.rows.iter().map(OutRow::size).sum());
            return std::mem::take(&mut part.rows).into();
        }
        let mut ready = Vec::new();
        while self.left > 0
            && let Some(row) = self.next_row()
        {
            self.held.remove(row.size());
            if self.offset > 0 {
                self.offset -= 1;
            } else {
                self.left -= 1;
                ready.push(row);
            }
        }
        ready
    }

    /// True when this partition has more to say and nothing of it waits here.
    #[must_use]
    pub fn wants(&self, partition: usize) -> bool {
        let part = &self.parts[partition];
        !part.last && part.rows.is_empty()
    }

    /// True when this partition has said all.
    #[must_use]
    pub fn is_last(&self, partition: usize) -> bool {
        self.parts[partition].last
    }

    /// All rows have been taken; parts that have not come make no difference.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == 0 || self.parts.iter().all(|part| part.last && part.rows.is_empty())
    }

    /// The least of the rows in front, once every partition has shown one or its end.
    fn next_row(&mut self) -> Option<OutRow> {
        let mut least: Option<(usize, &OutRow)> = None;
        for (index, part) in self.parts.iter().enumerate() {
            match part.rows.front() {
                Some(row) if least.is_none_or(|(_, other)| row < other) => {
                    least = Some((index, row));
                }
                None if !part.last => return None,
                _ => {}
            }
        }
        let (index, _) = least?;
        self.parts[index].rows.pop_front()
    }

    fn take_in_group(&mut self, group: PartGroup) -> Result<(), DqlError> {
        let Gathered::Groups(groups) = &mut self.gathered else { return Ok(()) };
        let PartGroup { key, id, partials } = group;
        let size = group_size(&key, partials.len());
        let key: Vec<_> = key.into_iter().map(Sorted).collect();
        let Some((known_key, (known_id, mut known))) = groups.remove_entry(&key) else {
            groups.insert(key, (id, partials));
            return self.held.add(size);
        };
        for (partial, more) in known.iter_mut().zip(partials) {
            partial.merge(more);
        }
        // Equal keys may differ in looks, as 1 and 1.0 do: those of the least document stand.
        if id < known_id {
            groups.insert(key, (id, known));
        } else {
            groups.insert(known_key, (known_id, known));
        }
        Ok(())
    }

    fn on_all_gathered(&mut self) {
        let rows = match std::mem::replace(&mut self.gathered, Gathered::Nothing) {
            Gathered::Nothing => return,
            Gathered::Distinct(rows) => {
                let mut rows: Vec<_> = rows.into_values().collect();
                rows.sort();
                rows
            }
            Gathered::Groups(groups) => self.group_rows(groups),
        };
        // From here on they are as good as the rows of one partition.
        if let Some(part) = self.parts.first_mut() {
            part.rows = rows.into();
        }
    }

    fn group_rows(&self, mut groups: BTreeMap<Vec<Sorted>, (DocId, Vec<Partial>)>) -> Vec<OutRow> {
        let StatementKind::Select(select) = self.bound.statement().kind() else {
            return Vec::new();
        };
        let Some(grouping) = &select.grouping else { return Vec::new() };
        if grouping.keys.is_empty() && groups.is_empty() {
            groups.insert(Vec::new(), (DocId::from_canonical(&[]), new_partials(grouping)));
        }
        let mut rows = Vec::new();
        let mut seen = BTreeSet::new();
        for (key, (id, partials)) in groups {
            let key: Vec<_> = key.into_iter().map(|Sorted(value)| value).collect();
            let Some(row) = self.group_row(select, grouping, &key, id, &partials) else { continue };
            if !select.distinct || seen.insert(Sorted(row.distinct.clone())) {
                rows.push(row);
            }
        }
        // Groups of equal sort keys stay in the order of their own keys, because this sort is stable.
        rows.sort_by(|a, b| super::compare_keys(&a.keys, &b.keys));
        rows
    }

    /// The row of one group, if `HAVING` accepts it.
    fn group_row(
        &self,
        select: &Select,
        grouping: &Grouping,
        key: &[Option<Value>],
        id: DocId,
        partials: &[Partial],
    ) -> Option<OutRow> {
        let results: Vec<_> = partials
            .iter()
            .zip(&grouping.aggregates)
            .map(|(partial, aggregate)| partial.finish(aggregate.function))
            .collect();
        let env = Env { keys: key, aggregates: &results, ..self.bound.env() };
        if grouping.having.as_ref().is_some_and(|having| !is_true(having, &env)) {
            return None;
        }
        let items = grouped_items(&select.projection);
        let values = item_values(items, &env);
        let keys = sort_keys(order_of(&self.bound), &Env { items: &values, ..env });
        let object = row_object(items, values, None);
        let json = row_json(&object);
        Some(OutRow { keys, id, json, distinct: select.distinct.then(|| object.into()) })
    }
}
