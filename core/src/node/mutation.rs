//! A bound mutation, shared by every partition that takes part.

use std::sync::Arc;

use crate::auth::SharedPermissions;
use crate::dql::{Bound, Insert, Update};
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
        /// Conflict policy, declared types, how objects are written.
        plan: Insert,
        /// The documents, by ascending id.
        documents: Vec<(DocId, Object)>,
    },
    /// Change fields of the documents that still match.
    Update {
        /// The condition.
        filter: Bound,
        /// The changes.
        update: Update,
    },
    /// Delete the documents that still match.
    Delete(Bound),
    /// Evict the documents that still match.
    Evict(Bound),
}
