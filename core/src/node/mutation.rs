//! A bound mutation, shared by every partition that takes part.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::request::ObjectMode;
use crate::auth::SharedPermissions;
use crate::dql::{BoundStatement, InsertPlan};
use crate::ident::{AppId, DocId};
use crate::time::Instant;
use crate::value::Object;

/// What to do to documents. Which ones comes beside it.
#[derive(Debug)]
pub struct Mutation {
    /// Whose documents.
    pub app: AppId,
    /// In which collection.
    pub collection: Arc<str>,
    /// What the asker may write.
    pub permissions: SharedPermissions,
    /// How objects are written.
    pub mode: ObjectMode,
    /// After this moment nothing is appended.
    pub deadline: Instant,
    /// The kind, with what it needs.
    pub kind: MutationKind,
}

/// The kinds of mutation.
#[derive(Debug)]
pub enum MutationKind {
    /// Insert documents.
    Insert {
        /// Conflict policy and declared types.
        plan: InsertPlan,
        /// The documents by id.
        documents: BTreeMap<DocId, Object>,
    },
    /// Change fields of the documents that still match.
    Update(Arc<BoundStatement>),
    /// Delete the documents that still match.
    Delete(Arc<BoundStatement>),
    /// Evict the documents that still match.
    Evict(Arc<BoundStatement>),
}
