//! The half of a query that joins what the partitions contribute.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::partition::{
    QUEUED, TAKEN_OUT, group_size, grouped_items, is_streaming, new_partials, order_of,
    size_of_key, size_of_partials,
};
use super::{
    Held, Limits, OutRow, PartGroup, PartOut, compare_keys, evaluate, is_distinct, row_json,
    row_object, sort_keys,
};
use crate::dql::access::Access;
use crate::dql::aggregate::{Partial, Sorted, size_of_value};
use crate::dql::ast::{Item, Select, StatementKind};
use crate::dql::bind::Bound;
use crate::dql::error::DqlError;
use crate::dql::eval::{Env, is_true};
use crate::dql::meter::{Fuel, Meter};
use crate::ident::DocId;
use crate::value::Value;

/// Takes in the parts of all partitions, in any order between them and in their own order each, and gives out
/// the rows of the result.
///
/// Call [`work`](Self::work) after each [`push`](Self::push), as often as it says that there is more to do.
#[derive(Debug)]
pub struct MergeSelect {
    bound: Bound,
    held: Held,
    meter: Meter,
    parts: Vec<Part>,
    gathered: Gathered,
    /// The rows of what was gathered, as far as they have been made.
    sorted: BTreeSet<Ranked>,
    /// The rows of groups so far, where each is wanted once.
    seen: BTreeSet<Sorted>,
    groups_made: u64,
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
    /// The value that tells a row from others is the key, and stands in the row no more.
    Distinct(BTreeMap<Sorted, OutRow>),
    Groups(BTreeMap<Vec<Sorted>, (DocId, Vec<Partial>)>),
}

impl Gathered {
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Distinct(rows) => rows.is_empty(),
            Self::Groups(groups) => groups.is_empty(),
        }
    }
}

/// A row in the order of the result: by its sort keys, then by the rank of its group, then by document.
#[derive(Debug, PartialEq, Eq)]
struct Ranked {
    row: OutRow,
    rank: u64,
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_keys(&self.row.keys, &other.row.keys)
            .then(self.rank.cmp(&other.rank))
            .then_with(|| self.row.id.cmp(&other.row.id))
    }
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
        Self {
            bound,
            held: Held::new(limits),
            meter: Meter::default(),
            parts,
            gathered,
            sorted: BTreeSet::new(),
            seen: BTreeSet::new(),
            groups_made: 0,
            offset,
            left,
        }
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
        let each = if matches!(self.gathered, Gathered::Nothing) { QUEUED } else { GATHERED };
        self.meter.add((part.rows.len() + part.groups.len()) as Fuel * each);
        if !matches!(self.gathered, Gathered::Distinct(_)) {
            self.held.add(part.rows.iter().map(OutRow::size).sum())?;
        }
        match &mut self.gathered {
            Gathered::Distinct(rows) => {
                for mut row in part.rows {
                    let size = row.size();
                    self.held.add(size)?;
                    let value = Sorted(row.distinct.take());
                    match rows.remove_entry(&value) {
                        // Equal values may differ in looks: those of the least document stand.
                        Some((known_value, known)) if known.id < row.id => {
                            rows.insert(known_value, known);
                            self.held.remove(size);
                        }
                        Some((Sorted(distinct), known)) => {
                            self.held.remove(OutRow { distinct, ..known }.size());
                            rows.insert(value, row);
                        }
                        None => _ = rows.insert(value, row),
                    }
                }
            }
            _ if from.rows.is_empty() => from.rows = part.rows.into(),
            _ => from.rows.extend(part.rows),
        }
        for group in part.groups {
            self.take_in_group(group)?;
        }
        if self.has_all() {
            self.add_group_of_nothing();
        }
        Ok(())
    }

    /// Makes rows of what has been gathered, once everything has come. True while there is more to do.
    ///
    /// # Errors
    ///
    /// `Execution` if the statement would hold more than its limit, or costs too much for one group.
    pub fn work(&mut self, fuel: Fuel) -> Result<bool, DqlError> {
        if !self.has_all() {
            return Ok(false);
        }
        let end = self.meter.spent().saturating_add(fuel);
        while self.meter.spent() < end && !self.gathered.is_empty() {
            self.make_row()?;
            self.meter.add(GATHERED);
        }
        Ok(!self.gathered.is_empty())
    }

    /// The next rows of the result, in order: as many as are ready, no more when they have so many bytes, and no more
    /// than so much work takes out.
    pub fn take_rows(&mut self, bytes_max: usize, fuel: Fuel) -> Vec<OutRow> {
        let mut ready = Vec::new();
        let mut bytes = 0;
        let end = self.meter.spent().saturating_add(fuel);
        // The first rows of all partitions are compared for each.
        let each = match self.gathered {
            Gathered::Nothing => QUEUED + FRONT * self.parts.len() as Fuel,
            _ => TAKEN_OUT,
        };
        while self.left > 0
            && bytes < bytes_max
            && self.meter.spent() < end
            && let Some(row) = self.next_row()
        {
            self.held.remove(row.size());
            self.meter.add(row.json.len() as Fuel / 4 + each);
            if self.offset > 0 {
                self.offset -= 1;
            } else {
                self.left -= 1;
                bytes += row.json.len() + 1;
                ready.push(row);
            }
        }
        ready
    }

    /// The work done since this was last asked.
    pub fn take_spent(&self) -> Fuel {
        self.meter.take_spent()
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

    /// Whether the statement looks through a collection, and does not name its documents.
    #[must_use]
    pub fn is_scan(&self) -> bool {
        *self.bound.access() == Access::Scan
    }

    /// Whether the merge holds a few rows of each partition alone, however many there are.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        is_streaming(&self.bound)
    }

    /// All rows have been taken; parts that have not come make no difference.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_out = |part: &Part| part.last && part.rows.is_empty();
        self.left == 0
            || (self.parts.iter().all(is_out) && self.gathered.is_empty() && self.sorted.is_empty())
    }

    /// The least of the rows in front, once every partition has shown one or its end.
    fn next_row(&mut self) -> Option<OutRow> {
        if !matches!(self.gathered, Gathered::Nothing) {
            let is_sorted = self.has_all() && self.gathered.is_empty();
            return if is_sorted { self.sorted.pop_first().map(|ranked| ranked.row) } else { None };
        }
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

    fn has_all(&self) -> bool {
        self.parts.iter().all(|part| part.last)
    }

    fn take_in_group(&mut self, group: PartGroup) -> Result<(), DqlError> {
        let Gathered::Groups(groups) = &mut self.gathered else { return Ok(()) };
        let PartGroup { key, id, partials } = group;
        self.held.add(group_size(&key, &partials))?;
        let key: Vec<_> = key.into_iter().map(Sorted).collect();
        let Some((known_key, (known_id, mut known))) = groups.remove_entry(&key) else {
            groups.insert(key, (id, partials));
            return Ok(());
        };
        let before = size_of_group(&known_key, &known) + size_of_group(&key, &partials);
        for (partial, more) in known.iter_mut().zip(partials) {
            partial.merge(more);
        }
        // Equal keys may differ in looks, as 1 and 1.0 do: those of the least document stand.
        let (key, id) = if id < known_id { (key, id) } else { (known_key, known_id) };
        self.held.remove(before);
        self.held.add(size_of_group(&key, &known))?;
        groups.insert(key, (id, known));
        Ok(())
    }

    /// Without `GROUP BY` all documents are one group, even if there are none.
    fn add_group_of_nothing(&mut self) {
        if let Gathered::Groups(groups) = &mut self.gathered
            && groups.is_empty()
            && let StatementKind::Select(Select { grouping: Some(grouping), .. }) =
                self.bound.statement().kind()
            && grouping.keys.is_empty()
        {
            groups.insert(Vec::new(), (DocId::from_canonical(&[]), new_partials(grouping)));
        }
    }

    /// Makes the row of the next value or group.
    fn make_row(&mut self) -> Result<(), DqlError> {
        let (row, rank) = match &mut self.gathered {
            Gathered::Nothing => return Ok(()),
            Gathered::Distinct(rows) => {
                let Some((Sorted(distinct), row)) = rows.pop_first() else { return Ok(()) };
                (Some(OutRow { distinct, ..row }), 0)
            }
            Gathered::Groups(groups) => {
                let Some((key, (id, partials))) = groups.pop_first() else { return Ok(()) };
                let size = size_of_group(&key, &partials);
                let key: Vec<_> = key.into_iter().map(|Sorted(value)| value).collect();
                self.groups_made += 1;
                let row = self.group_row(&key, id, &partials)?;
                self.held.remove(size);
                if let Some(row) = &row {
                    self.held.add(row.size())?;
                }
                (row, self.groups_made)
            }
        };
        let Some(row) = row else { return Ok(()) };
        // Of groups that look the same the first is wanted. Its value is held twice from here on.
        if rank > 0 && row.distinct.is_some() {
            self.held.add(row.distinct.as_ref().map_or(0, size_of_value))?;
            if !self.seen.insert(Sorted(row.distinct.clone())) {
                self.held.remove(row.size());
                return Ok(());
            }
        }
        self.sorted.insert(Ranked { row, rank });
        Ok(())
    }

    /// The row of one group, if `HAVING` accepts it.
    fn group_row(
        &self,
        key: &[Option<Value>],
        id: DocId,
        partials: &[Partial],
    ) -> Result<Option<OutRow>, DqlError> {
        let StatementKind::Select(select) = self.bound.statement().kind() else { return Ok(None) };
        let Some(grouping) = &select.grouping else { return Ok(None) };
        self.meter.begin();
        let results: Vec<_> = partials
            .iter()
            .zip(&grouping.aggregates)
            .map(|(partial, aggregate)| {
                self.meter.add(partial.below_bytes() as Fuel);
                partial.finish(aggregate.function)
            })
            .collect();
        let meter = Some(&self.meter);
        let env = Env { keys: key, aggregates: &results, meter, ..self.bound.env() };
        let is_wanted = grouping.having.as_ref().is_none_or(|having| is_true(having, &env));
        if !is_wanted {
            return self.meter.check().map(|()| None);
        }
        let items = grouped_items(&select.projection);
        let order = order_of(&self.bound);
        let (mut values, mut keys) = (Vec::new(), Vec::new());
        evaluate(&mut values, items.iter().map(Item::expr), &env);
        let by = order.iter().map(|order| Some(&order.by));
        evaluate(&mut keys, by, &Env { items: &values, ..env });
        self.meter.check()?;
        let object = row_object(items, values, None);
        let json = row_json(&object);
        self.meter.add(json.len() as Fuel);
        let keys = sort_keys(order, keys);
        Ok(Some(OutRow { keys, id, json, distinct: select.distinct.then(|| object.into()) }))
    }
}

fn size_of_group(key: &[Sorted], partials: &[Partial]) -> usize {
    size_of_key(key.iter().filter_map(|Sorted(value)| value.as_ref())) + size_of_partials(partials)
}

/// What taking up one value or group costs, beside its expressions.
const GATHERED: Fuel = 500;

/// The cost of comparing the row that a partition has in front.
const FRONT: Fuel = 10;
