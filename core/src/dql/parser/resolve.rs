//! Settles what the names of a statement mean, once all of it has been read: whose field a path is, which rows
//! become groups, and that nothing looks where there is nothing to see.

use super::super::ast::{
    Expr, ExprKind, Grouping, Insert, Item, Path, Projection, Removal, Select, Slot, Source,
    Update, UseIds,
};
use super::super::error::ErrorKind;
use super::super::lexer::Span;
use super::{Parsed, Parser};
use crate::map::Map;

/// The most aggregates in one statement.
const AGGREGATES_MAX: usize = 256;

/// The most expressions in `GROUP BY`.
const GROUP_KEYS_MAX: usize = 64;

/// What the projection of a SELECT says besides its items.
pub(super) struct Names {
    /// For each item, whether a name was given to it.
    pub(super) aliased: Vec<bool>,
    /// Each `name.*`.
    pub(super) sources: Vec<(Box<str>, Span)>,
}

impl Parser<'_> {
    pub(super) fn resolve_select(
        &self,
        mut select: Select,
        names: &Names,
        having_span: Span,
    ) -> Parsed<Select> {
        for (name, span) in &names.sources {
            if !is_source_name(&select.source, name) {
                let message = format!("`{name}` is neither the collection nor its alias");
                return Err(self.error_at(ErrorKind::Invalid, message, *span));
            }
        }
        self.resolve_source(&select.source)?;
        let Select { source, projection, filter, grouping, tail, .. } = &mut select;
        let grouping = grouping.as_mut().expect("the parser hands in a grouping");
        if let Projection::Items(items) = &mut *projection {
            for item in &mut *items {
                match item {
                    Item::Named(_, expr) => strip_source(expr, source),
                    Item::Drop(path) => strip_path(path, source),
                    Item::AllFields => {}
                }
            }
            let places = aliases(items, &names.aliased);
            tail.order.iter_mut().for_each(|order| use_alias(&mut order.by, &places));
        }
        let settled = grouping.keys.iter_mut().chain(&mut grouping.having).chain(&mut *filter);
        settled.for_each(|expr| strip_source(expr, source));
        tail.order.iter_mut().for_each(|order| strip_source(&mut order.by, source));
        for expr in filter.iter().chain(&grouping.keys) {
            self.refuse_aggregates(expr, "here")?;
        }
        self.resolve_paging(tail.limit.iter().chain(&tail.offset))?;
        let grouped = !grouping.keys.is_empty() || has_aggregates(&select);
        if grouped {
            self.resolve_grouping(&mut select)?;
        } else if select.grouping.take().is_some_and(|grouping| grouping.having.is_some()) {
            let message = "HAVING clause terms must depend only on group keys or aggregates";
            return Err(self.error_at(ErrorKind::Invalid, message, having_span));
        }
        Ok(select)
    }

    pub(super) fn resolve_insert(&self, insert: Insert) -> Parsed<Insert> {
        self.resolve_source(&insert.source)?;
        self.refuse_system(&insert.source)?;
        if insert.source.ids.is_some() {
            return Err(self.error("INSERT takes no USE IDS"));
        }
        for document in &insert.documents {
            self.refuse_aggregates(document, "in a document")?;
        }
        Ok(insert)
    }

    pub(super) fn resolve_update(&self, mut update: Update) -> Parsed<Update> {
        use super::super::ast::Action;
        self.resolve_source(&update.source)?;
        self.refuse_system(&update.source)?;
        for change in &mut update.changes {
            strip_path(&mut change.path, &update.source);
            let value = match &mut change.action {
                Action::Set(value) | Action::Increment(value) | Action::PnIncrement(value) => {
                    Some(value)
                }
                Action::Restart(value) => value.as_mut(),
                Action::Default | Action::Unset => None,
            };
            if let Some(value) = value {
                self.refuse_aggregates(value, "in UPDATE")?;
                strip_source(value, &update.source);
            }
        }
        self.check_changes(&update)?;
        self.resolve_choice(&update.source, &mut update.filter, &mut update.tail)?;
        Ok(update)
    }

    pub(super) fn resolve_removal(&self, mut removal: Removal) -> Parsed<Removal> {
        self.resolve_source(&removal.source)?;
        self.refuse_system(&removal.source)?;
        self.resolve_choice(&removal.source, &mut removal.filter, &mut removal.tail)?;
        Ok(removal)
    }

    /// The filter and tail of a statement that chooses documents.
    fn resolve_choice(
        &self,
        source: &Source,
        filter: &mut Option<Expr>,
        tail: &mut super::super::ast::Tail,
    ) -> Parsed<()> {
        let orders = tail.order.iter_mut().map(|order| &mut order.by);
        for expr in filter.iter_mut().chain(orders) {
            self.refuse_aggregates(expr, "here")?;
            strip_source(expr, source);
        }
        self.resolve_paging(tail.limit.iter().chain(&tail.offset))
    }

    fn resolve_source(&self, source: &Source) -> Parsed<()> {
        let ids = match &source.ids {
            None => &[][..],
            Some(UseIds::Each(ids)) => ids,
            Some(UseIds::List(list)) => std::slice::from_ref(list),
        };
        match ids.iter().find(|id| !id.is_constant()) {
            Some(id) => {
                let message = "USE IDS takes values that do not depend on a document";
                Err(self.error_at(ErrorKind::Invalid, message, id.span))
            }
            None => Ok(()),
        }
    }

    fn resolve_paging<'e>(&self, mut exprs: impl Iterator<Item = &'e Expr>) -> Parsed<()> {
        match exprs.find(|expr| !expr.is_constant()) {
            Some(expr) => {
                let message = "LIMIT and OFFSET take a number that does not depend on a document";
                Err(self.error_at(ErrorKind::Invalid, message, expr.span))
            }
            None => Ok(()),
        }
    }

    fn refuse_system(&self, source: &Source) -> Parsed<()> {
        use super::super::ast::Datasource;
        if source.datasource == Datasource::System {
            let message = format!("system:{} is read-only", source.collection);
            return Err(self.error_at(ErrorKind::Unsupported, message, Span::default()));
        }
        Ok(())
    }

    /// What needs no row to be seen wrong: a touched `_id`, one path twice.
    fn check_changes(&self, update: &Update) -> Parsed<()> {
        let mut seen = std::collections::BTreeSet::new();
        for change in &update.changes {
            if &*change.path[0] == "_id" {
                let message = "The document id `_id` cannot be modified";
                return Err(self.error_at(ErrorKind::Execution, message, change.span));
            }
            if !seen.insert(&*change.path) {
                let path = change.path.join(".");
                let message = format!("More than one modification specified for the path {path}");
                return Err(self.error_at(ErrorKind::Execution, message, change.span));
            }
        }
        Ok(())
    }

    fn refuse_aggregates(&self, expr: &Expr, place: &str) -> Parsed<()> {
        match find_aggregate(expr) {
            Some(span) => {
                let message = format!("an aggregate cannot stand {place}");
                Err(self.error_at(ErrorKind::Invalid, message, span))
            }
            None => Ok(()),
        }
    }

    /// Moves aggregates into the grouping and puts slots where they and the grouping expressions stood, so that
    /// what remains can be computed from a group alone.
    fn resolve_grouping(&self, select: &mut Select) -> Parsed<()> {
        let grouping = select.grouping.as_mut().expect("the parser hands in a grouping");
        let mut printed_keys = Vec::new();
        for (index, key) in grouping.keys.iter().enumerate() {
            if index == GROUP_KEYS_MAX {
                let message = format!("GROUP BY takes at most {GROUP_KEYS_MAX} expressions");
                return Err(self.error_at(ErrorKind::Invalid, message, key.span));
            }
            printed_keys.push((key.height, key.to_string()));
        }
        let Projection::Items(items) = &mut select.projection else {
            let message = "Projection \"*\" must depend only on group keys or aggregates";
            return Err(self.error_at(ErrorKind::Invalid, message, Span::default()));
        };
        let mut groups =
            Groups { parser: self, printed_keys, grouping, printed_aggregates: vec![] };
        for item in items {
            match item {
                Item::Named(_, expr) => groups.settle(expr, &|printed| {
                    format!("Projection \"{printed}\" must depend only on group keys or aggregates")
                })?,
                Item::AllFields => {
                    let message = "Projection \"*\" must depend only on group keys or aggregates";
                    return Err(self.error_at(ErrorKind::Invalid, message, Span::default()));
                }
                Item::Drop(_) => {}
            }
        }
        if let Some(mut having) = groups.grouping.having.take() {
            groups.settle(&mut having, &|_| {
                "HAVING clause terms must depend only on group keys or aggregates".to_owned()
            })?;
            groups.grouping.having = Some(having);
        }
        for order in &mut select.tail.order {
            groups.settle(&mut order.by, &|_| {
                "ORDER BY terms must depend only on group keys or aggregates".to_owned()
            })?;
        }
        Ok(())
    }
}

/// The grouping of one statement while its expressions are being rewritten.
struct Groups<'a, 'p> {
    parser: &'a Parser<'p>,
    /// Each grouping expression as text, and its height.
    printed_keys: Vec<(u16, String)>,
    printed_aggregates: Vec<String>,
    grouping: &'a mut Grouping,
}

impl Groups<'_, '_> {
    fn settle(&mut self, expr: &mut Expr, complaint: &dyn Fn(String) -> String) -> Parsed<()> {
        let span = expr.span;
        let printed = expr.to_string();
        if self.replace(expr)? {
            return Ok(());
        }
        Err(self.parser.error_at(ErrorKind::Invalid, complaint(printed), span))
    }

    /// False if a field is left that no group has one value of.
    fn replace(&mut self, expr: &mut Expr) -> Parsed<bool> {
        if matches!(expr.kind, ExprKind::Aggregate(_)) {
            self.replace_aggregate(expr)?;
            return Ok(true);
        }
        if matches!(expr.kind, ExprKind::Slot(..)) {
            return Ok(true);
        }
        // What is as tall as no key is none, and is not printed once more on every level of a tall tree.
        let may_be_key = self.printed_keys.iter().any(|(height, _)| *height == expr.height);
        if may_be_key && !expr.is_constant() {
            let printed = expr.to_string();
            if let Some(index) = self.printed_keys.iter().position(|(_, key)| *key == printed) {
                expr.kind = ExprKind::Slot(Slot::Key, index as u32);
                return Ok(true);
            }
        }
        if matches!(expr.kind, ExprKind::Path(_)) {
            return Ok(false);
        }
        let mut result = Ok(true);
        expr.kind.for_each_child_mut(&mut |child| {
            if matches!(result, Ok(true)) {
                result = self.replace(child);
            }
        });
        result
    }

    fn replace_aggregate(&mut self, expr: &mut Expr) -> Parsed<()> {
        let printed = expr.to_string();
        let known = self.printed_aggregates.iter().position(|other| *other == printed);
        let index = known.unwrap_or(self.printed_aggregates.len());
        let kind = std::mem::replace(&mut expr.kind, ExprKind::Slot(Slot::Aggregate, index as u32));
        let ExprKind::Aggregate(aggregate) = kind else { return Ok(()) };
        if let Some(argument) = &aggregate.argument {
            self.parser.refuse_aggregates(argument, "inside another")?;
        }
        if known.is_none() {
            if index == AGGREGATES_MAX {
                let message = format!("a statement has at most {AGGREGATES_MAX} aggregates");
                return Err(self.parser.error_at(ErrorKind::Invalid, message, expr.span));
            }
            self.printed_aggregates.push(printed);
            self.grouping.aggregates.push(*aggregate);
        }
        Ok(())
    }
}

fn has_aggregates(select: &Select) -> bool {
    let items = match &select.projection {
        Projection::Whole => &[][..],
        Projection::Items(items) => items,
    };
    let projected = items.iter().filter_map(|item| match item {
        Item::Named(_, expr) => Some(expr),
        Item::AllFields | Item::Drop(_) => None,
    });
    let having = select.grouping.iter().filter_map(|grouping| grouping.having.as_ref());
    let orders = select.tail.order.iter().map(|order| &order.by);
    projected.chain(having).chain(orders).any(|expr| find_aggregate(expr).is_some())
}

fn find_aggregate(expr: &Expr) -> Option<Span> {
    if matches!(expr.kind, ExprKind::Aggregate(_)) {
        return Some(expr.span);
    }
    let mut found = None;
    expr.kind.for_each_child(&mut |child| found = found.or_else(|| find_aggregate(child)));
    found
}

/// The place of each item that was given a name; of two with one name the last is the one in the row.
fn aliases(items: &[Item], aliased: &[bool]) -> Map<Box<str>, u32> {
    let mut places = Map::default();
    for (index, item) in items.iter().enumerate() {
        if let Item::Named(name, _) = item
            && aliased[index]
        {
            places.insert(name.clone(), index as u32);
        }
    }
    places
}

/// A bare name in `ORDER BY` that is the alias of a projected item stands for that item.
fn use_alias(expr: &mut Expr, places: &Map<Box<str>, u32>) {
    if let ExprKind::Path(path) = &expr.kind
        && path.len() == 1
        && let Some(&index) = places.get(&path[0])
    {
        expr.kind = ExprKind::Slot(Slot::Item, index);
    }
    expr.kind.for_each_child_mut(&mut |child| use_alias(child, places));
}

fn is_source_name(source: &Source, name: &str) -> bool {
    match &source.alias {
        Some(alias) => **alias == *name,
        None => *source.collection == *name,
    }
}

/// Takes the collection's name or alias off the front of every path below `expr`.
fn strip_source(expr: &mut Expr, source: &Source) {
    if let ExprKind::Path(path) = &mut expr.kind {
        strip_path(path, source);
    }
    expr.kind.for_each_child_mut(&mut |child| strip_source(child, source));
}

/// A name that stands alone is a field, even if the collection has the same name.
fn strip_path(path: &mut Path, source: &Source) {
    if path.len() > 1 && is_source_name(source, &path[0]) {
        *path = path[1..].into();
    }
}
