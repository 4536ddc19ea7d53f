//! Reading: what of a document is visible.

use super::leaf::Number;
use super::path::{is_escaped, step_below, unescape};
use super::{Content, Document, Entry, Kind, Leaf, Path};
use crate::ident::{Actor, Dot};
use crate::value::{Object, Value, json};

impl Document {
    /// The visible value at `path`: a field, something inside an object register, or with the root the whole
    /// document. None where nothing is (MISSING). Does not ask whether the document itself is visible.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<Value> {
        let mut at = Path::root();
        let mut steps = path.steps();
        while at.as_bytes().len() < path.as_bytes().len() {
            if let Some(leaf) = self.visible_entry(&at) {
                let value = leaf.latest().held()?;
                return steps.try_fold(value, |value, step| value.as_object()?.get(&step)).cloned();
            }
            at.push(&steps.next()?).expect("the start of a path is no longer than the path");
        }
        self.value_at(path)
    }

    /// The visible value at the path of these steps; see [`Self::get`].
    #[must_use]
    pub fn get_steps(&self, steps: &[&str]) -> Option<Value> {
        self.get(&Path::from_steps(steps).ok()?)
    }

    /// All that readers see of a visible document; empty for one that is not visible.
    #[must_use]
    pub fn to_object(&self) -> Object {
        match self.value_at(&Path::root()) {
            Some(Value::Object(object)) if self.is_visible() => object,
            _ => Object::new(),
        }
    }

    /// Appends what [`Self::to_object`] shows as JSON, each field behind a comma and the field `_id` left out, without
    /// making the values in between.
    pub(crate) fn write_fields(&self, out: &mut Vec<u8>) {
        if !self.is_visible() {
            return;
        }
        let mut live = Vec::with_capacity(self.leaves.live_count());
        live.extend(self.leaves.iter().filter(|leaf| leaf.kind != Kind::MARK));
        // No value stands in the place of a whole document: no edit puts one there, and bytes with one are refused.
        let own_count = live.partition_point(|leaf| leaf.path.is_root());
        write_below(&live[own_count..], 0, out);
    }

    /// The component whose entry is visible at `path`; none if a map is, or nothing.
    pub(super) fn visible_entry(&self, path: &Path) -> Option<&Leaf> {
        let readable = |leaf: &&Leaf| leaf.is_readable();
        let own = self.leaves.node(path).filter(readable).max_by_key(|leaf| leaf.latest().dot)?;
        let map =
            self.leaves.subtree(path).filter(|leaf| leaf.path != *path || leaf.kind == Kind::MAP);
        let map = map.filter(|leaf| leaf.kind != Kind::MARK).map(|leaf| leaf.latest().dot).max();
        Some(own).filter(|own| Some(own.latest().dot) > map)
    }

    /// Whether anything at all is live at or below `path`.
    pub(super) fn has_content(&self, path: &Path) -> bool {
        self.leaves.subtree(path).any(|leaf| leaf.kind != Kind::MARK)
    }

    fn value_at(&self, path: &Path) -> Option<Value> {
        let live = self.leaves.subtree(path).filter(|leaf| leaf.kind != Kind::MARK);
        let live: Vec<&Leaf> = live.collect();
        visible(&live, path.as_bytes().len()).1
    }
}

impl Leaf {
    /// What this component alone shows.
    pub(super) fn own_value(&self) -> Option<Value> {
        match self.kind {
            Kind::REGISTER | Kind::ATTACHMENT => self.latest().held().cloned(),
            Kind::COUNTER => Some(Value::Int(clamp(self.counter_sum()))),
            Kind::PN_COUNTER => Some(self.pn_total().to_value()),
            _ => None,
        }
    }

    /// Appends [`Self::own_value`] as JSON; nothing if there is none.
    fn write_own(&self, out: &mut Vec<u8>) {
        match self.kind {
            Kind::REGISTER | Kind::ATTACHMENT => {
                if let Some(value) = self.latest().held() {
                    json::write(value, out);
                }
            }
            _ => {
                if let Some(value) = self.own_value() {
                    json::write(&value, out);
                }
            }
        }
    }

    /// The greatest setting and what was added to it. Without any setting in force all additions count: the
    /// setting that would exclude some was itself removed.
    pub(super) fn counter_sum(&self) -> i128 {
        let setting = self.entries.iter().rev().find_map(|entry| match entry.content {
            Content::Base(base) => Some((entry.dot, base)),
            _ => None,
        });
        let counted = |entry: &Entry| match (&entry.content, setting) {
            (Content::Sum { generation: Some(counted), amount }, Some((dot, _)))
                if **counted == dot =>
            {
                *amount
            }
            (Content::Sum { amount, .. }, None) => *amount,
            _ => 0,
        };
        let base = setting.map_or(0, |(_, base)| i128::from(base));
        base + self.entries.iter().map(|entry| i128::from(counted(entry))).sum::<i128>()
    }

    /// What `actor` has added that may still count.
    pub(super) fn added_by(&self, actor: Actor) -> i128 {
        let added = |entry: &Entry| match entry.content {
            Content::Sum { amount, .. } if entry.dot.actor == actor => i128::from(amount),
            _ => 0,
        };
        self.entries.iter().map(added).sum()
    }

    /// All additions, in the order of their dots, so that fractions add up to the same everywhere.
    pub(super) fn pn_total(&self) -> Number {
        let totals = self.entries.iter().filter_map(|entry| match entry.content {
            Content::Total(total) => Some(total),
            _ => None,
        });
        totals.reduce(Number::plus).unwrap_or(Number::Int(0))
    }

    /// Whether this build can show it as the content of a node.
    fn is_readable(&self) -> bool {
        self.kind.is_own_content() && self.kind.0 < Kind::UNKNOWN_LEAST
    }
}

/// The latest dot among `leaves`, which are all live leaves at and below one node, and what is visible there.
/// `path_bytes` is the length of that node's path.
fn visible(leaves: &[&Leaf], path_bytes: usize) -> (Option<Dot>, Option<Value>) {
    let own_count = leaves.partition_point(|leaf| leaf.path.as_bytes().len() == path_bytes);
    let (own, mut below) = leaves.split_at(own_count);
    let is_map = |leaf: &&&Leaf| leaf.kind == Kind::MAP;
    let mut map_dot = own.iter().find(is_map).map(|leaf| leaf.latest().dot);
    let mut fields = Vec::new();
    while let [first, ..] = below {
        let step = step_below(first.path.as_bytes(), path_bytes);
        let child_bytes = path_bytes + step.len() + 1;
        let same = &first.path.as_bytes()[..child_bytes];
        let (child, rest) =
            below.split_at(below.partition_point(|leaf| leaf.path.as_bytes().starts_with(same)));
        let (dot, value) = visible(child, child_bytes);
        map_dot = map_dot.max(dot);
        let name = unescape(step).expect("a path is made of whole steps");
        fields.extend(value.map(|value| (name, value)));
        below = rest;
    }
    let readable = own.iter().filter(|leaf| leaf.is_readable());
    let latest = readable.max_by_key(|leaf| leaf.latest().dot);
    let unknown = own.iter().map(|leaf| leaf.latest().dot).max();
    match (latest, map_dot) {
        (Some(leaf), map) if Some(leaf.latest().dot) > map => (unknown.max(map), leaf.own_value()),
        (_, None) => (unknown, None),
        (_, map) => {
            let object = Object::from_entries(fields).expect("paths are strictly ascending");
            (unknown.max(map), Some(Value::Object(object)))
        }
    }
}

/// As [`visible`], but the value is appended as JSON, if there is one.
fn write_visible(leaves: &[&Leaf], path_bytes: usize, out: &mut Vec<u8>) -> Option<Dot> {
    if let [leaf] = leaves
        && leaf.path.as_bytes().len() == path_bytes
        && leaf.is_readable()
    {
        leaf.write_own(out);
        return Some(leaf.latest().dot);
    }
    let own_count = leaves.partition_point(|leaf| leaf.path.as_bytes().len() == path_bytes);
    let (own, below) = leaves.split_at(own_count);
    let start = out.len();
    let below_dot = write_below(below, path_bytes, out);
    let map = own.iter().find(|leaf| leaf.kind == Kind::MAP).map(|leaf| leaf.latest().dot);
    let map = map.max(below_dot);
    let readable = own.iter().filter(|leaf| leaf.is_readable());
    let latest = readable.max_by_key(|leaf| leaf.latest().dot);
    let unknown = own.iter().map(|leaf| leaf.latest().dot).max();
    match (latest, map) {
        (Some(leaf), map) if Some(leaf.latest().dot) > map => {
            out.truncate(start);
            leaf.write_own(out);
        }
        (_, None) => out.truncate(start),
        // The comma in front of the first field makes room for the brace.
        _ if out.len() > start => {
            out[start] = b'{';
            out.push(b'}');
        }
        _ => out.extend_from_slice(b"{}"),
    }
    unknown.max(map)
}

/// Appends the visible fields of a map, each behind a comma; of the document itself without `_id`. Returns the
/// latest dot among `leaves`, which are all live leaves below the map's node.
fn write_below(mut leaves: &[&Leaf], path_bytes: usize, out: &mut Vec<u8>) -> Option<Dot> {
    let mut latest = None;
    while let [first, others @ ..] = leaves {
        let path = first.path.as_bytes();
        let step = step_below(path, path_bytes);
        let child_bytes = path_bytes + step.len() + 1;
        let same = |leaf: &&Leaf| leaf.path.as_bytes().starts_with(&path[..child_bytes]);
        // Most fields are a single leaf.
        let more = if others.first().is_some_and(same) { others.partition_point(same) } else { 0 };
        let (child, rest) = leaves.split_at(1 + more);
        let start = out.len();
        if is_escaped(step) {
            write_name(unescape(step).expect("a path is made of whole steps").as_bytes(), out);
        } else {
            write_name(step, out);
        }
        let value_start = out.len();
        latest = latest.max(write_visible(child, child_bytes, out));
        if out.len() == value_start || (path_bytes == 0 && step == b"_id") {
            out.truncate(start);
        }
        leaves = rest;
    }
    latest
}

fn write_name(name: &[u8], out: &mut Vec<u8>) {
    out.push(b',');
    json::write_text(name, out);
    out.push(b':');
}

fn clamp(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
