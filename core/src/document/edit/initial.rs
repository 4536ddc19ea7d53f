//! INITIAL documents: the same default content, created independently by many peers.

use super::{Edit, EditError, Fields, Objects};
use crate::document::Document;
use crate::ident::{Actor, Dot};
use crate::time::Hlc;
use crate::value::Object;

impl Edit {
    /// Creates a document as if at the beginning of time, where none exists: any real write wins over it, any
    /// deletion has seen it.
    ///
    /// Its actor is the hash of what is written (paths, types and values), so peers that seed the same content
    /// make one event of it, and two versions of an app make two events that merge.
    ///
    /// # Errors
    ///
    /// As [`Edit::assign`].
    pub fn initial(content: &Object, objects: Objects, fields: &Fields) -> Result<Self, EditError> {
        let by = |actor: Actor| {
            let mut edit = Self::new(&Document::new(), Dot { hlc: Hlc::INITIAL, actor });
            edit.set_objects(objects);
            edit.insert();
            edit.assign_content(content, fields)?;
            Ok(edit)
        };
        let nobody = by(Actor::default())?;
        let hash = blake3::hash(&nobody.document.canonical_bytes());
        let mut actor = Actor::default();
        actor.0.copy_from_slice(&hash.as_bytes()[..16]);
        by(actor)
    }
}
