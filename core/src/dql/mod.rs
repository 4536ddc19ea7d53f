//! The query language: texts to statements, statements to small machines over rows.
//!
//! Nothing here reads or writes storage. A node parses a text ([`Statement::parse`]) once, binds arguments to it
//! ([`Bound::new`]), asks where its documents are ([`Bound::access`]) and pushes them as [`Row`]s into the machine
//! for the kind of statement: [`PartitionSelect`] in each partition and [`MergeSelect`] over all of them choose and
//! compute rows, [`Insert`] gives the documents of an INSERT, [`Update`] what to change in each matching one.
//!
//! ```
//! use std::sync::Arc;
//! use bigpeer_core::dql::*;
//! use bigpeer_core::value::{canonical, Object, Value};
//!
//! let car = |id: &str, price: i64| ObjectRow {
//!     id: canonical::encode_text_id(id).unwrap(),
//!     fields: [("price", price)].into_iter().collect(),
//! };
//! let partitions = [vec![car("a", 10), car("b", 30)], vec![car("c", 20)]];
//!
//! let text = "SELECT _id, price * 2 AS p FROM cars WHERE price > :low ORDER BY p DESC LIMIT 2";
//! let statement = Arc::new(Statement::parse(text)?); // kept by text
//! let arguments: Object = [("low", 5)].into_iter().collect();
//! let bound = Bound::new(statement, &arguments)?;
//! assert_eq!(bound.access(), &Access::Scan);
//!
//! let mut merge = MergeSelect::new(bound.clone(), partitions.len(), Limits::default());
//! let mut result = Vec::new();
//! for (index, rows) in partitions.iter().enumerate() {
//!     let mut select = PartitionSelect::new(bound.clone(), Limits::default());
//!     for row in rows {
//!         select.push(row)?; // in ascending order of ids, until `is_full`
//!     }
//!     select.finish();
//!     while let Some(part) = select.take_output() {
//!         merge.push(index, part)?;
//!         while merge.work(200_000)? {} // others may have their turn in between
//!         result.extend(merge.take_rows(usize::MAX, 1_000_000)); // as far as one turn goes
//!     }
//! }
//! assert!(merge.is_done());
//! assert_eq!(result[0].json, br#"{"_id":"b","p":60}"#);
//! assert_eq!(result[1].json, br#"{"_id":"c","p":40}"#);
//!
//! let text = "UPDATE cars SET price = price + 1 WHERE _id = 'a'";
//! let bound = Bound::new(Arc::new(Statement::parse(text)?), &Object::new())?;
//! let update = Update::new(bound.clone(), ObjectMode::Map)?.expect("an UPDATE");
//! let row = &partitions[0][0];
//! assert_eq!(bound.access(), &Access::Ids(vec![row.id.clone()]));
//! if bound.matches(row) {
//!     for op in update.assignments_for(row)? {
//!         let path = Arc::from(["price".into()]);
//!         assert_eq!(op, FieldOp::Set { path, value: Value::Int(11), declared: None });
//!     }
//! }
//! # Ok::<(), DqlError>(())
//! ```

mod access;
mod aggregate;
pub mod ast;
mod bind;
mod error;
mod eval;
mod functions;
pub mod legacy;
mod lexer;
mod like;
mod meter;
mod mutate;
mod parser;
mod print;
mod ready;
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
pub use legacy::IdFilter;
pub use lexer::Span;
pub use like::PATTERN_CHARACTERS_MAX;
pub(crate) use meter::Meter;
pub use meter::{EVALUATION_FUEL_MAX, Fuel, VALUE_BYTES_MAX};
pub use mutate::{Documents, FieldOp, Insert, ObjectMode, Update};
pub use parser::{
    COLUMNS_MAX, DEPTH_MAX, NAMES_MAX, PATH_STEPS_MAX, STATEMENT_BYTES_MAX, TERMS_MAX,
};
pub use row::{ObjectRow, Row};
pub use select::{
    Limits, MergeSelect, OutRow, PartGroup, PartOut, PartitionSelect, STATEMENT_HELD_BYTES_MAX,
    SortKey,
};
pub use subscription::{SubscriptionQuery, subscription};

#[cfg(test)]
mod testing;
