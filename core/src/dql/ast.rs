//! A statement as plain data: what the parser makes and every machine of this module reads.
//!
//! Once parsed, names are settled: a path begins inside the document (a collection name or alias before it is
//! gone), and what stands for a grouping expression, an aggregate or a projected item is a [`Slot`].

use std::sync::Arc;

use super::functions::Function;
use super::lexer::Span;
use crate::value::Value;

/// Steps from a document's root to a field.
pub type Path = Arc<[Box<str>]>;

/// An expression and where it stands in the text.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it computes.
    pub kind: ExprKind,
    /// Where it was written.
    pub span: Span,
    /// The longest way down to a leaf. The parser bounds it, so that walking the tree may recurse.
    pub(crate) height: u16,
}

/// What an expression computes.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A constant.
    Literal(Value),
    /// The parameter at this place of [`Statement::parameters`].
    Parameter(u32),
    /// A field of the row.
    Path(Path),
    /// A field of a computed object.
    Member(Box<Expr>, Box<str>),
    /// A value computed beforehand, elsewhere.
    Slot(Slot, u32),
    /// A value that no row changes: its place among those computed when arguments are bound, and of what.
    Ready(u32, Box<Expr>),
    /// `[a, b]`
    Array(Vec<Expr>),
    /// `{'a': b}`; a pair whose key is no string is dropped.
    Object(Vec<(Expr, Expr)>),
    /// `-x`, `+x`, `NOT x`
    Unary(UnaryOp, Box<Expr>),
    /// Arithmetic, concatenation, comparison, `XOR`.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// Two or more operands of `AND`.
    And(Vec<Expr>),
    /// Two or more operands of `OR`.
    Or(Vec<Expr>),
    /// `x BETWEEN low AND high`, in this order.
    Between(Box<[Expr; 3]>),
    /// `x IN (a, b)`, and the place of the set if no row changes it.
    InList(Box<Expr>, Vec<Expr>, Option<u32>),
    /// `x IN array`, likewise.
    InArray(Box<Expr>, Box<Expr>, Option<u32>),
    /// `s LIKE p`, `s ILIKE p`
    Like(Box<Like>),
    /// `x IS …`, without the `NOT`
    Is(IsTest, Box<Expr>),
    /// `CASE … END`
    Case(Box<Case>),
    /// `f(a, b)`
    Call(&'static Function, Vec<Expr>),
    /// An aggregate, in statements that group. Only inside [`Grouping::aggregates`] once parsed.
    Aggregate(Box<Aggregate>),
}

/// Where a [`ExprKind::Slot`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The value of a grouping expression.
    Key,
    /// The result of an aggregate.
    Aggregate,
    /// A projected item of the same row.
    Item,
}

/// A prefix operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Minus,
    /// `+`
    Plus,
    /// `NOT`, `!`
    Not,
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum BinaryOp {
    Multiply,
    Divide,
    Remainder,
    Add,
    Subtract,
    Concat,
    ShiftLeft,
    ShiftRight,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Xor,
}

/// What an `IS` test asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum IsTest {
    Null,
    Missing,
    True,
    False,
}

/// `text LIKE pattern ESCAPE escape`
#[derive(Clone, Debug)]
pub struct Like {
    /// What is tested.
    pub text: Expr,
    /// The pattern: `%` is any run, `_` one character.
    pub pattern: Expr,
    /// The character that takes the meaning from the one after it.
    pub escape: Option<char>,
    /// `ILIKE`
    pub ignore_case: bool,
    /// The place of the pattern if no row changes it.
    pub(crate) ready: Option<u32>,
}

/// `CASE operand WHEN a THEN b … ELSE c END`
#[derive(Clone, Debug)]
pub struct Case {
    /// Compared with each `WHEN`; without it each `WHEN` is a condition.
    pub operand: Option<Expr>,
    /// Each `WHEN` and its `THEN`.
    pub arms: Vec<(Expr, Expr)>,
    /// What is left when nothing matched; null without it.
    pub otherwise: Option<Expr>,
}

/// `COUNT(DISTINCT x)` and the like.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Which.
    pub function: AggregateFunction,
    /// Only values that differ.
    pub distinct: bool,
    /// Computed for each row; only `COUNT(*)` has none.
    pub argument: Option<Expr>,
}

/// The aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum AggregateFunction {
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
    Middle,
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(crate) text: Box<str>,
    pub(crate) kind: StatementKind,
    pub(crate) parameters: Vec<Parameter>,
    /// How many values can be computed when arguments are bound.
    pub(crate) ready_count: u32,
    pub(crate) size_bytes: usize,
}

/// A placeholder, listed once however often it is used.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Without the colon.
    pub name: Box<str>,
    /// Where it was first used.
    pub span: Span,
}

/// The kinds of statement.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum StatementKind {
    Select(Select),
    Insert(Insert),
    Update(Update),
    Delete(Removal),
    Evict(Removal),
}

/// Which documents a statement looks at.
#[derive(Clone, Debug)]
pub struct Source {
    /// User data or a virtual collection.
    pub datasource: Datasource,
    /// The collection, exactly as written.
    pub collection: Arc<str>,
    /// Declared field types.
    pub types: Vec<TypeDeclaration>,
    /// The name by which expressions address it, instead of the collection's.
    pub alias: Option<Box<str>>,
    /// `USE IDS`: only these documents.
    pub ids: Option<UseIds>,
}

/// The namespace of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datasource {
    /// User data.
    Default,
    /// `system:`, virtual collections.
    System,
}

/// `USE IDS a, b` or `USE IDS LIST array`
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum UseIds {
    Each(Vec<Expr>),
    List(Expr),
}

/// `field TYPE` in a collection reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeDeclaration {
    /// The field.
    pub name: Box<str>,
    /// Its type.
    pub declared: DeclaredType,
}

/// A declared field type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DeclaredType {
    Register,
    /// With the types of its own fields.
    Map(Vec<TypeDeclaration>),
    Counter,
    PnCounter,
    Attachment,
}

/// `SELECT`
#[derive(Clone, Debug)]
pub struct Select {
    /// Whence.
    pub source: Source,
    /// The shape of a result row.
    pub projection: Projection,
    /// Each distinct row once.
    pub distinct: bool,
    /// `WHERE`
    pub filter: Option<Expr>,
    /// Present when rows are aggregated, with or without `GROUP BY`.
    pub grouping: Option<Grouping>,
    /// `ORDER BY`, `LIMIT`, `OFFSET`
    pub tail: Tail,
}

/// The shape of a result row.
#[derive(Clone, Debug)]
pub enum Projection {
    /// `*`
    Whole,
    /// Anything else, in the order written.
    Items(Vec<Item>),
}

/// One element of a projection.
#[derive(Clone, Debug)]
pub enum Item {
    /// `alias.*`
    AllFields,
    /// `MISSING path`
    Drop(Path),
    /// A value under a name.
    Named(Box<str>, Expr),
}

/// `GROUP BY … HAVING …` and the aggregates of the whole statement.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    /// The grouping expressions; without any, all rows are one group, even no rows.
    pub keys: Vec<Expr>,
    /// What is aggregated.
    pub aggregates: Vec<Aggregate>,
    /// The condition on groups.
    pub having: Option<Expr>,
}

/// Which of the matching rows, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// The sort keys, most significant first.
    pub order: Vec<Order>,
    /// At most so many.
    pub limit: Option<Expr>,
    /// After leaving out so many.
    pub offset: Option<Expr>,
}

/// One sort key.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is sorted by.
    pub by: Expr,
    /// `DESC`
    pub descending: bool,
}

/// `INSERT`
#[derive(Clone, Debug)]
pub struct Insert {
    /// Whither.
    pub source: Source,
    /// Each gives an object, or an array of objects.
    pub documents: Vec<Expr>,
    /// Default data, older than anything.
    pub initial: bool,
    /// What happens when a live document has the id.
    pub conflict: Conflict,
}

/// What INSERT does when a live document has the id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// The statement fails.
    #[default]
    Fail,
    /// The live document stays as it is.
    Nothing,
    /// Every supplied leaf is written.
    Update,
    /// Every supplied leaf that differs is written.
    UpdateLocalDiff,
}

/// `UPDATE`
#[derive(Clone, Debug)]
pub struct Update {
    /// Where.
    pub source: Source,
    /// What is done to each document, in order.
    pub changes: Vec<Change>,
    /// `WHERE`
    pub filter: Option<Expr>,
    /// Which of the matching documents.
    pub tail: Tail,
}

/// One modification of a field.
#[derive(Clone, Debug)]
pub struct Change {
    /// The field.
    pub path: Path,
    /// Where it was written.
    pub span: Span,
    /// What is done to it.
    pub action: Action,
}

/// What is done to a field.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    Set(Expr),
    /// `-> default()`: what it gives depends on the declared type.
    Default,
    Unset,
    Increment(Expr),
    PnIncrement(Expr),
    Restart(Option<Expr>),
}

/// `DELETE` and `EVICT`
#[derive(Clone, Debug)]
pub struct Removal {
    /// Whence.
    pub source: Source,
    /// `WHERE`
    pub filter: Option<Expr>,
    /// Which of the matching documents.
    pub tail: Tail,
}

impl Statement {
    /// The class as the HTTP API names it: `select`, `insert`, `update`, `delete` or `evict`.
    #[must_use]
    pub fn query_type(&self) -> &'static str {
        match self.kind {
            StatementKind::Select(_) => "select",
            StatementKind::Insert(_) => "insert",
            StatementKind::Update(_) => "update",
            StatementKind::Delete(_) => "delete",
            StatementKind::Evict(_) => "evict",
        }
    }

    /// True for statements that write.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        !matches!(self.kind, StatementKind::Select(_))
    }

    /// The one collection that the statement speaks of.
    #[must_use]
    pub fn collection(&self) -> &str {
        &self.source().collection
    }

    /// The same, to be kept.
    pub(crate) fn shared_collection(&self) -> &Arc<str> {
        &self.source().collection
    }

    /// User data or a virtual collection.
    #[must_use]
    pub fn datasource(&self) -> Datasource {
        self.source().datasource
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The kind, with all its parts.
    #[must_use]
    pub fn kind(&self) -> &StatementKind {
        &self.kind
    }

    /// The placeholders it uses, each once.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    pub(crate) fn source(&self) -> &Source {
        match &self.kind {
            StatementKind::Select(select) => &select.source,
            StatementKind::Insert(insert) => &insert.source,
            StatementKind::Update(update) => &update.source,
            StatementKind::Delete(removal) | StatementKind::Evict(removal) => &removal.source,
        }
    }

    pub(crate) fn filter(&self) -> Option<&Expr> {
        match &self.kind {
            StatementKind::Select(select) => select.filter.as_ref(),
            StatementKind::Insert(_) => None,
            StatementKind::Update(update) => update.filter.as_ref(),
            StatementKind::Delete(removal) | StatementKind::Evict(removal) => {
                removal.filter.as_ref()
            }
        }
    }

    pub(crate) fn tail(&self) -> Option<&Tail> {
        match &self.kind {
            StatementKind::Select(select) => Some(&select.tail),
            StatementKind::Insert(_) => None,
            StatementKind::Update(update) => Some(&update.tail),
            StatementKind::Delete(removal) | StatementKind::Evict(removal) => Some(&removal.tail),
        }
    }
}

impl Expr {
    pub(crate) fn new(kind: ExprKind, span: Span) -> Self {
        let mut height = 0;
        kind.for_each_child(&mut |child| height = height.max(child.height + 1));
        Self { kind, span, height }
    }

    pub(crate) fn literal(value: Value) -> Self {
        Self::new(ExprKind::Literal(value), Span::default())
    }

    /// True when its value is the same for every row: nothing below it looks at one.
    pub(crate) fn is_constant(&self) -> bool {
        let looks_at_row =
            matches!(self.kind, ExprKind::Path(_) | ExprKind::Slot(..) | ExprKind::Aggregate(_));
        let mut constant = !looks_at_row;
        self.kind.for_each_child(&mut |child| constant = constant && child.is_constant());
        constant
    }
}

impl ExprKind {
    /// Calls `visit` with each operand, in the order written.
    pub(crate) fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Literal(_) | Self::Parameter(_) | Self::Path(_) | Self::Slot(..) => {}
            Self::Member(base, _)
            | Self::Unary(_, base)
            | Self::Is(_, base)
            | Self::Ready(_, base) => visit(base),
            Self::Array(exprs) | Self::And(exprs) | Self::Or(exprs) | Self::Call(_, exprs) => {
                exprs.iter().for_each(visit);
            }
            Self::Object(pairs) => pairs.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Binary(_, left, right) | Self::InArray(left, right, _) => {
                visit(left);
                visit(right);
            }
            Self::Between(operands) => operands.iter().for_each(visit),
            Self::InList(left, list, _) => {
                visit(left);
                list.iter().for_each(visit);
            }
            Self::Like(like) => {
                visit(&like.text);
                visit(&like.pattern);
            }
            Self::Case(case) => {
                case.operand.iter().for_each(&mut *visit);
                for (when, then) in &case.arms {
                    visit(when);
                    visit(then);
                }
                case.otherwise.iter().for_each(visit);
            }
            Self::Aggregate(aggregate) => aggregate.argument.iter().for_each(visit),
        }
    }

    /// Calls `visit` with each operand, to change.
    pub(crate) fn for_each_child_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        match self {
            Self::Literal(_) | Self::Parameter(_) | Self::Path(_) | Self::Slot(..) => {}
            Self::Member(base, _)
            | Self::Unary(_, base)
            | Self::Is(_, base)
            | Self::Ready(_, base) => visit(base),
            Self::Array(exprs) | Self::And(exprs) | Self::Or(exprs) | Self::Call(_, exprs) => {
                exprs.iter_mut().for_each(visit);
            }
            Self::Object(pairs) => pairs.iter_mut().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Binary(_, left, right) | Self::InArray(left, right, _) => {
                visit(left);
                visit(right);
            }
            Self::Between(operands) => operands.iter_mut().for_each(visit),
            Self::InList(left, list, _) => {
                visit(left);
                list.iter_mut().for_each(visit);
            }
            Self::Like(like) => {
                visit(&mut like.text);
                visit(&mut like.pattern);
            }
            Self::Case(case) => {
                case.operand.iter_mut().for_each(&mut *visit);
                for (when, then) in &mut case.arms {
                    visit(when);
                    visit(then);
                }
                case.otherwise.iter_mut().for_each(visit);
            }
            Self::Aggregate(aggregate) => aggregate.argument.iter_mut().for_each(visit),
        }
    }
}
