//! A bound mutation, shared by every partition that takes part, and which documents it may see and change.
//!
//! A permission looks at nothing but ids, so the coordinator can judge it before any owner is asked: a mutation
//! sees what its key may read, and an owner is handed no id that the key may not write.

use std::sync::Arc;

use super::request::{ErrorKind, RequestError};
use crate::auth::SharedPermissions;
use crate::dql::{Bound, Insert, Update};
use crate::ident::{AppId, DocId};
use crate::plant::{Plant, is_planted};
use crate::time::Instant;
use crate::value::{Object, json};

/// What to do to documents. Which ones comes beside it.
#[derive(Debug)]
pub struct Mutation {
    /// Whose documents.
    pub app: AppId,
    /// In which collection.
    pub collection: Arc<str>,
    /// What the asker may read and write.
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

impl Mutation {
    /// Whether the asker may read the document: if not, it is not there for this mutation.
    pub(crate) fn may_read(&self, id: &DocId) -> bool {
        self.permissions.read.covers(&self.collection, id)
            || is_planted(Plant::MutationSeesUnreadable)
    }

    /// Whether the asker may write the document.
    pub(crate) fn may_write(&self, id: &DocId) -> bool {
        self.permissions.write.covers(&self.collection, id)
    }

    /// Of the documents that the statement names those that it may see, for the owners to judge by the condition.
    /// `None` when some of them may not be written: then it takes a read to know whether one of these matches,
    /// and which is the least.
    pub(crate) fn without_a_look(&self, mut ids: Vec<DocId>) -> Option<Vec<DocId>> {
        ids.retain(|id| self.may_read(id));
        ids.iter().all(|id| self.may_write(id)).then_some(ids)
    }

    /// Refuses the whole statement when one of its documents may not be written, and names the least.
    pub(crate) fn check_may_write(&self, ids: &[DocId]) -> Result<(), RequestError> {
        let Some(id) = ids.iter().filter(|id| !self.may_write(id)).min() else { return Ok(()) };
        Err(RequestError::new(
            ErrorKind::Forbidden,
            format!(
                "the credential may not write document {} of `{}`: nothing was written",
                display_id(id),
                self.collection
            ),
        ))
    }
}

/// An `_id` as JSON, for people.
pub(crate) fn display_id(id: &DocId) -> String {
    let mut text = Vec::new();
    json::write(&id.to_value(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
