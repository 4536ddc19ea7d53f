//! The clauses of each kind of statement, in the order in which they are written.

use super::super::ast::{
    Action, Change, Conflict, Datasource, DeclaredType, Expr, ExprKind, Grouping, Insert, Item,
    Order, Path, Projection, Removal, Select, Source, StatementKind, Tail, TypeDeclaration, Update,
    UseIds,
};
use super::super::lexer::{Span, TokenKind};
use super::{COLUMNS_MAX, ORDER_KEYS_MAX, Parsed, Parser, is_word, resolve};

/// Collection names are shorter than this.
const COLLECTION_BYTES_MAX: usize = 100;

/// The most field types on one level of a collection reference.
const TYPES_MAX: usize = 256;

/// The most changes in one UPDATE.
const CHANGES_MAX: usize = 4096;

/// What a projection says before names are settled.
pub(super) struct Projected {
    pub(super) projection: Projection,
    /// Each item with whether its name was given with `AS` (or without), as opposed to derived.
    pub(super) aliased: Vec<bool>,
    /// The source named by each `name.*`.
    pub(super) sources: Vec<(Box<str>, Span)>,
}

impl Parser<'_> {
    pub(super) fn statement(&mut self) -> Parsed<StatementKind> {
        let start = self.token.span;
        let TokenKind::Word(word) = self.token.kind else {
            return Err(self.expected("a statement"));
        };
        let kind = match word.to_ascii_uppercase().as_str() {
            "SELECT" => StatementKind::Select(self.select()?),
            "INSERT" => StatementKind::Insert(self.insert()?),
            "UPDATE" => StatementKind::Update(self.update()?),
            "DELETE" | "TOMBSTONE" => StatementKind::Delete(self.removal()?),
            "EVICT" => StatementKind::Evict(self.removal()?),
            other @ ("EXPLAIN" | "PROFILE" | "ADVISE" | "CREATE" | "DROP" | "SHOW" | "ALTER") => {
                return Err(self.unsupported(other, start));
            }
            _ => return Err(self.expected("SELECT, INSERT, UPDATE, DELETE or EVICT")),
        };
        if self.is_word("RETURNING") {
            return Err(self.unsupported("RETURNING", self.token.span));
        }
        self.take_mark(";")?;
        if self.token.kind == TokenKind::End { Ok(kind) } else { Err(self.expected("the end")) }
    }

    fn select(&mut self) -> Parsed<Select> {
        self.advance()?;
        let distinct = self.take_word("DISTINCT")?;
        let projected = self.projections()?;
        self.expect_word("FROM")?;
        let source = self.source(true)?;
        for join in ["JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS"] {
            if self.is_word(join) {
                return Err(self.unsupported("Joining", self.token.span));
            }
        }
        let filter = self.filter()?;
        let mut keys = Vec::new();
        let mut having = None;
        if self.take_word("GROUP")? {
            self.expect_word("BY")?;
            keys = self.list(Self::expr)?;
        }
        let having_span = self.token.span;
        if self.take_word("HAVING")? {
            having = Some(self.expr()?);
        }
        let tail = self.tail()?;
        let grouping = Grouping { keys, aggregates: Vec::new(), having };
        let select = Select {
            source,
            projection: projected.projection,
            distinct,
            filter,
            grouping: Some(grouping),
            tail,
        };
        let names = resolve::Names { aliased: projected.aliased, sources: projected.sources };
        self.resolve_select(select, &names, having_span)
    }

    fn projections(&mut self) -> Parsed<Projected> {
        let start = self.token.span;
        let mut aliased = Vec::new();
        let mut sources = Vec::new();
        if self.take_mark("*")? {
            if self.is_mark(",") {
                return Err(self.star_with_others(start));
            }
            return Ok(Projected { projection: Projection::Whole, aliased, sources });
        }
        let items = self.list(|parser| {
            if parser.is_mark("*") {
                return Err(parser.star_with_others(parser.token.span));
            }
            let (item, named) = parser.projection(aliased.len() + 1, &mut sources)?;
            aliased.push(named);
            parser.check_count(aliased.len(), COLUMNS_MAX, "columns")?;
            Ok(item)
        })?;
        Ok(Projected { projection: Projection::Items(items), aliased, sources })
    }

    fn star_with_others(&self, span: Span) -> super::DqlError {
        let message = "unqualified * with other projection elements is not supported";
        self.error_at(super::ErrorKind::Invalid, message, span)
    }

    /// One item and whether a name was given to it; `place` is its own, from 1.
    fn projection(
        &mut self,
        place: usize,
        sources: &mut Vec<(Box<str>, Span)>,
    ) -> Parsed<(Item, bool)> {
        if self.take_word("MISSING")? {
            return Ok((Item::Drop(self.path()?), false));
        }
        if self.is_all_fields() {
            let span = self.token.span;
            sources.push((self.name("a collection or alias")?, span));
            self.advance()?;
            self.advance()?;
            return Ok((Item::AllFields, false));
        }
        let expr = self.expr()?;
        if self.take_word("AS")? || self.is_name() {
            return Ok((Item::Named(self.name("an alias")?, expr), true));
        }
        let name = match &expr.kind {
            ExprKind::Path(steps) => steps.last().cloned(),
            ExprKind::Member(_, name) => Some(name.clone()),
            _ => None,
        };
        let name = name.unwrap_or_else(|| format!("(${place})").into());
        Ok((Item::Named(name, expr), false))
    }

    /// At `name.*`, which only two tokens of looking ahead tell from a path.
    fn is_all_fields(&self) -> bool {
        let mut lexer = self.lexer;
        let mut next_is =
            |mark| lexer.next_token().is_ok_and(|token| token.kind == TokenKind::Mark(mark));
        self.is_name() && next_is(".") && next_is("*")
    }

    fn source(&mut self, takes_alias: bool) -> Parsed<Source> {
        let declared = self.take_word("COLLECTION")?;
        let (datasource, collection) = self.collection()?;
        let mut types = Vec::new();
        if declared && self.take_mark("(")? {
            types = self.type_declarations()?;
            self.expect_mark(")")?;
        }
        let mut alias = None;
        if takes_alias && (self.take_word("AS")? || self.is_name()) {
            alias = Some(self.name("an alias")?);
        }
        let mut source =
            Source { datasource, collection: collection.into(), types, alias, ids: None };
        while self.take_word("USE")? {
            self.use_clause(&mut source)?;
        }
        Ok(source)
    }

    fn collection(&mut self) -> Parsed<(Datasource, Box<str>)> {
        let mut span = self.token.span;
        let mut name = self.name("a collection")?;
        let mut datasource = Datasource::Default;
        if self.take_mark(":")? {
            datasource = match name.to_ascii_lowercase().as_str() {
                "default" => Datasource::Default,
                "system" => Datasource::System,
                _ => {
                    let message =
                        format!("unknown datasource `{name}`: expected default or system");
                    return Err(self.error_at(super::ErrorKind::Invalid, message, span));
                }
            };
            span = self.token.span;
            name = self.name("a collection")?;
        }
        if name.is_empty()
            || name.len() >= COLLECTION_BYTES_MAX
            || name.contains('\0')
            || name.starts_with("$TS_")
        {
            let message = format!(
                "a collection's name has 1 to {} bytes, no NUL, and does not begin with $TS_",
                COLLECTION_BYTES_MAX - 1
            );
            return Err(self.error_at(super::ErrorKind::Invalid, message, span));
        }
        Ok((datasource, name))
    }

    fn type_declarations(&mut self) -> Parsed<Vec<TypeDeclaration>> {
        self.enter()?;
        let declarations = self.list(|parser| {
            let name = parser.name("a field")?;
            Ok(TypeDeclaration { name, declared: parser.declared_type()? })
        })?;
        self.leave();
        if declarations.len() > TYPES_MAX {
            return Err(self.error(format!("at most {TYPES_MAX} fields are declared together")));
        }
        Ok(declarations)
    }

    fn declared_type(&mut self) -> Parsed<DeclaredType> {
        let what = "REGISTER, MAP, COUNTER, PN_COUNTER or ATTACHMENT";
        let TokenKind::Word(word) = self.token.kind else { return Err(self.expected(what)) };
        let declared = match word.to_ascii_uppercase().as_str() {
            "REGISTER" => DeclaredType::Register,
            "COUNTER" => DeclaredType::Counter,
            "PN_COUNTER" => DeclaredType::PnCounter,
            "ATTACHMENT" => DeclaredType::Attachment,
            "MAP" => DeclaredType::Map(Vec::new()),
            _ => return Err(self.expected(what)),
        };
        self.advance()?;
        if matches!(declared, DeclaredType::Map(_)) && self.take_mark("(")? {
            let fields = self.type_declarations()?;
            self.expect_mark(")")?;
            return Ok(DeclaredType::Map(fields));
        }
        Ok(declared)
    }

    /// `USE INDEX` and `USE DIRECTIVES` are hints: read, and otherwise ignored.
    fn use_clause(&mut self, source: &mut Source) -> Parsed<()> {
        if self.take_word("INDEX")? || self.take_word("DIRECTIVES")? {
            self.string("a string")?;
            return Ok(());
        }
        self.expect_word("IDS")?;
        if source.ids.is_some() {
            return Err(self.error("USE IDS was already given"));
        }
        let is_list = self.is_word("LIST") && self.following_begins_expr();
        source.ids = Some(if is_list {
            self.advance()?;
            UseIds::List(self.expr()?)
        } else {
            if self.is_mark("(") {
                return Err(self.expected("ids without parentheses"));
            }
            UseIds::Each(self.list(Self::expr)?)
        });
        Ok(())
    }

    fn following_begins_expr(&self) -> bool {
        match self.following() {
            TokenKind::Mark(mark) => matches!(mark, "[" | ":" | "("),
            TokenKind::Word(word) => !super::is_reserved(word),
            TokenKind::Quoted(_) => true,
            _ => false,
        }
    }

    fn filter(&mut self) -> Parsed<Option<Expr>> {
        if self.take_word("WHERE")? { self.expr().map(Some) } else { Ok(None) }
    }

    /// `LIMIT` and `OFFSET` may come in either order, before `ORDER BY` as well.
    fn tail(&mut self) -> Parsed<Tail> {
        let mut tail = Tail::default();
        loop {
            if tail.order.is_empty() && self.take_word("ORDER")? {
                self.expect_word("BY")?;
                tail.order = self.list(Self::order)?;
                self.check_count(tail.order.len(), ORDER_KEYS_MAX, "keys in ORDER BY")?;
            } else if tail.limit.is_none() && self.take_word("LIMIT")? {
                tail.limit = Some(self.expr()?);
            } else if tail.offset.is_none() && self.take_word("OFFSET")? {
                tail.offset = Some(self.expr()?);
            } else {
                return Ok(tail);
            }
        }
    }

    fn order(&mut self) -> Parsed<Order> {
        let by = self.expr()?;
        let descending = self.take_word("DESC")?;
        if !descending {
            self.take_word("ASC")?;
        }
        Ok(Order { by, descending })
    }

    fn insert(&mut self) -> Parsed<Insert> {
        self.advance()?;
        self.expect_word("INTO")?;
        let source = self.source(false)?;
        let initial = self.take_word("INITIAL")?;
        if self.is_word("SELECT") {
            return Err(self.unsupported("INSERT from a SELECT", self.token.span));
        }
        if !self.take_word("DOCUMENTS")? && !self.take_word("VALUES")? {
            return Err(self.expected("DOCUMENTS or VALUES"));
        }
        self.in_documents = true;
        let documents = self.list(|parser| {
            parser.expect_mark("(")?;
            let document = parser.expr()?;
            parser.expect_mark(")")?;
            Ok(document)
        })?;
        self.in_documents = false;
        let mut conflict = Conflict::default();
        if self.is_word("ON") {
            if initial {
                return Err(self.error("INITIAL and ON ID CONFLICT exclude each other"));
            }
            conflict = self.conflict()?;
        }
        let insert = Insert { source, documents, initial, conflict };
        self.resolve_insert(insert)
    }

    fn conflict(&mut self) -> Parsed<Conflict> {
        for word in ["ON", "ID", "CONFLICT"] {
            self.expect_word(word)?;
        }
        let done = self.take_word("DO")?;
        let policies = [
            ("FAIL", Conflict::Fail),
            ("NOTHING", Conflict::Nothing),
            ("UPDATE", Conflict::Update),
            ("MERGE", Conflict::Update),
            ("UPDATE_LOCAL_DIFF", Conflict::UpdateLocalDiff),
        ];
        let known = policies.into_iter().find(|(word, _)| self.is_word(word));
        match known {
            Some((_, policy)) if done || policy == Conflict::Fail => {
                self.advance()?;
                Ok(policy)
            }
            _ if done => Err(self.expected("FAIL, NOTHING, UPDATE or UPDATE_LOCAL_DIFF")),
            _ => Err(self.expected("DO or FAIL")),
        }
    }

    fn update(&mut self) -> Parsed<Update> {
        self.advance()?;
        let source = self.source(false)?;
        let mut changes = Vec::new();
        if self.take_word("APPLY")? {
            changes.extend(self.list(Self::apply)?);
        }
        if self.take_word("SET")? {
            self.assignments(&Vec::new(), &mut changes)?;
        }
        if self.take_word("UNSET")? {
            changes.extend(self.list(|parser| {
                let (path, span) = parser.spanned_path()?;
                Ok(Change { path, span, action: Action::Unset })
            })?);
        }
        if changes.is_empty() {
            return Err(self.expected("APPLY, SET or UNSET"));
        }
        if changes.len() > CHANGES_MAX {
            return Err(self.error(format!("an UPDATE makes at most {CHANGES_MAX} changes")));
        }
        let filter = self.filter()?;
        let tail = self.tail()?;
        self.resolve_update(Update { source, changes, filter, tail })
    }

    fn spanned_path(&mut self) -> Parsed<(Path, Span)> {
        let start = self.token.span;
        let path = self.path()?;
        Ok((path, Span { start: start.start, end: self.last_end }))
    }

    fn apply(&mut self) -> Parsed<Change> {
        let (path, span) = self.spanned_path()?;
        let action = if self.take_word("INCREMENT")? {
            self.expect_word("BY")?;
            Action::Increment(self.expr()?)
        } else if self.take_word("PN_INCREMENT")? {
            self.expect_word("BY")?;
            Action::PnIncrement(self.expr()?)
        } else if self.take_word("RESTART")? {
            Action::Restart(if self.take_word("WITH")? { Some(self.expr()?) } else { None })
        } else {
            return Err(self.expected("INCREMENT, PN_INCREMENT or RESTART"));
        };
        Ok(Change { path, span, action })
    }

    /// Assignments below the path `above`, which is not empty inside the 4.x form `m -> (a = 1)`.
    fn assignments(&mut self, above: &[Box<str>], changes: &mut Vec<Change>) -> Parsed<()> {
        self.enter()?;
        self.list(|parser| parser.assignment(above, changes))?;
        self.leave();
        Ok(())
    }

    fn assignment(&mut self, above: &[Box<str>], changes: &mut Vec<Change>) -> Parsed<()> {
        let (below, span) = self.spanned_path()?;
        let path: Path = above.iter().chain(&*below).cloned().collect();
        self.check_steps(path.len(), span)?;
        if self.take_mark("=")? {
            let value = self.expr()?;
            changes.push(Change { path, span, action: Action::Set(value) });
            return Ok(());
        }
        if !self.take_mark("->")? {
            return Err(self.expected("`=`"));
        }
        if self.take_mark("(")? {
            self.assignments(&path, changes)?;
            return self.expect_mark(")");
        }
        let action = if is_word(&self.token.kind, "tombstone") {
            Action::Unset
        } else if is_word(&self.token.kind, "default") {
            Action::Default
        } else {
            return Err(self.expected("tombstone(), default() or a list of assignments"));
        };
        self.advance()?;
        self.expect_mark("(")?;
        changes.push(Change { path, span, action });
        self.expect_mark(")")
    }

    fn removal(&mut self) -> Parsed<Removal> {
        self.advance()?;
        self.expect_word("FROM")?;
        let source = self.source(false)?;
        let filter = self.filter()?;
        let tail = self.tail()?;
        self.resolve_removal(Removal { source, filter, tail })
    }
}
