//! The query language: texts to statements, statements to small machines over rows.
//!
//! Nothing here reads or writes storage. A node parses a text ([`Statement::parse`]) once, binds arguments to it
//! ([`Bound::new`]), asks where its documents are ([`Bound::access`]) and pushes them as [`Row`]s into the machine
//! for the kind of statement: [`PartitionSelect`] in each partition and [`MergeSelect`] over all of them choose and
//! compute rows, [`Insert`] gives the documents of an INSERT, [`Update`] what to change in each matching one.

mod access;
mod aggregate;
pub mod ast;
mod bind;
mod error;
mod eval;
mod functions;
mod legacy;
mod lexer;
mod like;
mod mutate;
mod parser;
mod print;
mod row;
mod select;
mod subscription;

pub use access::Access;
pub use aggregate::{ExactSum, Extreme, Partial, Sorted, Sum};
pub use ast::Statement;
pub use bind::Bound;
pub use error::{DqlError, ErrorKind, Position};
pub use eval::{Env, eval, is_true};
pub use functions::Function;
pub use legacy::Permission;
pub use lexer::Span;
pub use like::PATTERN_CHARACTERS_MAX;
pub use mutate::{FieldOp, Insert, InsertDocument, ObjectMode, Update};
pub use parser::{DEPTH_MAX, PATH_STEPS_MAX, STATEMENT_BYTES_MAX};
pub use row::{ObjectRow, Row};
pub use select::{Limits, MergeSelect, OutRow, PartGroup, PartOut, PartitionSelect, SortKey};
pub use subscription::{SubscriptionQuery, subscription};

#[cfg(test)]
mod tests;
