//! Evictions at the server: of an edit that a device holds, the server has either the edit or the eviction that
//! took it.

use std::collections::BTreeMap;

use bigpeer_core::document::Vector;
use bigpeer_core::ident::Dot;

use super::{Documents, Failure, text_of};
use crate::profile::Rights;
use crate::workload::documents::is_grown;

/// The collection of documents that are evicted.
pub(crate) const MISC: &str = "misc";

/// All that evictions at the server have taken, by the text of the id; nothing for a document of which that is not
/// known.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    taken: BTreeMap<String, Option<Vector>>,
}

impl Evicted {
    /// The server has said that it evicted the document, and this is the marker that it keeps; none when the document
    /// lives again already.
    pub(crate) fn note(&mut self, id: &str, marker: Option<&Vector>) {
        let taken = self.taken.entry(id.to_owned()).or_insert_with(|| Some(Vector::new()));
        match (taken.as_mut(), marker) {
            (Some(taken), Some(marker)) => taken.join(marker),
            _ => *taken = None,
        }
    }

    /// Nobody knows what an eviction took, or whether there was one.
    pub(crate) fn lose_track(&mut self, id: &str) {
        self.taken.insert(id.to_owned(), None);
    }

    /// Whether an edit of a document is at the server, or was evicted there, as far as anybody knows.
    pub(crate) fn is_known(&self, id: &str, dot: Dot, server: &Documents) -> bool {
        let is_held = server.document(id).is_some_and(|there| there.vector().seen(dot));
        let is_marked = server.marker(id).is_some_and(|marker| marker.seen(dot));
        let is_taken = match self.taken.get(id) {
            None => false,
            Some(taken) => taken.as_ref().is_none_or(|taken| taken.seen(dot)),
        };
        is_held || is_marked || is_taken
    }

    /// No edit of the device's own is at the device alone.
    pub(crate) fn judge(
        &self,
        number: usize,
        rights: &Rights,
        is_own: impl Fn(Dot) -> bool,
        local: &Documents,
        server: &Documents,
    ) -> Result<(), Failure> {
        for ((collection, id), document) in &local.documents {
            let text = text_of(id);
            let is_judged = **collection == *MISC && document.is_visible() && !is_grown(&text);
            if !is_judged || !rights.must_write(MISC, &text) {
                continue;
            }
            let there = server.documents.get(&(collection.clone(), id.clone()));
            let taken = match self.taken.get(&text) {
                Some(None) => continue,
                Some(Some(taken)) => Some(taken),
                None => None,
            };
            let is_known = |dot: Dot| {
                there.is_some_and(|there| there.vector().seen(dot))
                    || taken.is_some_and(|taken| taken.seen(dot))
            };
            if let Some(dot) = document.vector().iter().find(|dot| is_own(*dot) && !is_known(*dot))
            {
                let text = format!(
                    "{text} of device {number} has {dot:?}, which is neither at the server nor evicted there"
                );
                return Err(Failure::new("acknowledged write lost", text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bigpeer_core::document::{Document, Edit, Path};
    use bigpeer_core::ident::Actor;
    use bigpeer_core::time::Hlc;
    use bigpeer_core::value::Value;

    use super::*;
    use crate::profile::Profile;

    fn edited(former: &Document, hlc: u64) -> Document {
        let mut edit = Edit::new(former, Dot { hlc: Hlc(hlc), actor: Actor([1; 16]) });
        edit.insert();
        let path = Path::from_steps(["v"]).expect("one short step is a path");
        edit.set_register(&path, Value::from(hlc)).expect("the path is not the root");
        edit.finish_with_document().expect("it writes something").1
    }

    #[test]
    fn an_edit_is_at_the_server_or_was_evicted_there() {
        let (old, rights) = (edited(&Document::new(), 10), Rights::new(Profile::Everything));
        let new = edited(&old, 20);
        let holds = |document: &Document| Documents::with("e1", Arc::new(document.clone()));
        let judge = |evicted: &Evicted, server: &Documents| {
            evicted.judge(1, &rights, |_| true, &holds(&new), server).is_ok()
        };
        let mut evicted = Evicted::default();
        assert!(judge(&evicted, &holds(&new)));
        assert!(!judge(&evicted, &holds(&old)), "the server has an older one");
        evicted.note("e1", Some(old.vector()));
        assert!(!judge(&evicted, &Documents::default()), "the eviction took an older one");
        evicted.note("e1", Some(new.vector()));
        assert!(judge(&evicted, &Documents::default()));
    }

    #[test]
    fn nothing_is_said_of_a_document_whose_eviction_nobody_saw() {
        let (new, rights) = (edited(&Document::new(), 10), Rights::new(Profile::Everything));
        let local = Documents::with("e1", Arc::new(new));
        let mut evicted = Evicted::default();
        let server = Documents::default();
        assert!(evicted.judge(1, &rights, |_| true, &local, &server).is_err());
        evicted.lose_track("e1");
        assert!(evicted.judge(1, &rights, |_| true, &local, &server).is_ok());
    }
}
