//! "Synced" is true at the moment it is said.

use bigpeer_core::document::Document;
use bigpeer_core::ident::Dot;

use super::{Documents, Failure, text_of};
use crate::profile::Rights;
use crate::workload::device::Interest;

/// The documents of both sides when a device asked whether they agree: by the time it hears yes, each has that of the
/// other.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) local: Documents,
    pub(crate) server: Documents,
    pub(crate) interest: Interest,
    /// The round of the last phase in which it was asked.
    pub(crate) round: Option<u32>,
    /// Transactions have come in parts since, and some of them may not be whole.
    pub(crate) is_partial: bool,
    /// The device has asked for something else since, or may do something else: the answer is not judged.
    pub(crate) is_void: bool,
}

impl Promise {
    /// Judges the answer by what both sides hold now. The device's own edits carry its `site`.
    pub(crate) fn judge(
        &self,
        number: usize,
        rights: &Rights,
        site: u64,
        local: &Documents,
        server: &Documents,
    ) -> Result<(), Failure> {
        let lie = |text: String| Err(Failure::new("synced", format!("device {number}: {text}")));
        for ((collection, id), before) in &self.local.documents {
            let text = text_of(id);
            if !rights.must_write(collection, &text) || collection.as_ref() == "misc" {
                continue;
            }
            let there = server.documents.get(&(collection.clone(), id.clone()));
            let is_own = |dot: &Dot| dot.actor.0[..8] == site.to_be_bytes();
            let has = |dot: Dot| there.is_some_and(|there| there.vector().seen(dot));
            if let Some(dot) = before.vector().iter().filter(is_own).find(|dot| !has(*dot)) {
                return lie(format!("{text} of the device, {dot:?}, is not at the server"));
            }
        }
        for ((collection, id), before) in &self.server.documents {
            let text = text_of(id);
            if !rights.must_read(collection, &text) || collection.as_ref() == "misc" {
                continue;
            }
            let key = (collection.clone(), id.clone());
            let (here, there) = (local.documents.get(&key), server.documents.get(&key));
            // It may have left since, before it was deleted or before it came back: then its end is told to nobody who
            // never had it, and what it has become is told with what came later.
            let may_have_left = |there: &Document| {
                self.interest.goes_by_content() && there.vector() != before.vector()
            };
            let is_owed = if before.is_visible() {
                self.interest.asks_for(collection, &text, before)
                    && there.is_some_and(|there| !may_have_left(there))
            } else {
                // A document made again since may have left instead, and its next end is told with what came later.
                self.interest.has_collection(collection)
                    && here.is_some_and(|here| here.is_visible())
                    && there.is_some_and(|there| !there.is_visible() && !may_have_left(there))
            };
            if is_owed && here.is_none_or(|here| !before.vector().leq(here.vector())) {
                let here = here.map(|here| here.vector());
                let before = before.vector();
                return lie(format!("{text} of the server, {before:?}, is not here: {here:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bigpeer_core::document::{Edit, Path};
    use bigpeer_core::ident::Actor;
    use bigpeer_core::time::Hlc;
    use bigpeer_core::value::Value;

    use super::*;
    use crate::profile::Profile;

    fn edit(former: &Document, hlc: u64, act: impl FnOnce(&mut Edit)) -> Document {
        let mut edit = Edit::new(former, Dot { hlc: Hlc(hlc), actor: Actor([1; 16]) });
        act(&mut edit);
        edit.finish_with_document().expect("it writes something").1
    }

    /// Whether the answer is taken for a lie when the device still holds nothing of a document of group 0.
    fn is_lie(interest: Interest, is_deleted: bool) -> bool {
        let group = Path::from_steps(["grp"]).expect("one short step is a path");
        let asked = edit(&Document::new(), 10, |edit| {
            edit.insert();
            edit.set_register(&group, Value::from(0_u64)).expect("the path is not the root");
        });
        let deleted = edit(&asked, 20, |edit| edit.delete(false));
        let holds = |document: &Document| Documents::with("d1", Arc::new(document.clone()));
        let promise = Promise {
            local: Documents::default(),
            server: holds(&asked),
            interest,
            round: None,
            is_partial: false,
            is_void: false,
        };
        let rights = Rights::new(Profile::Everything);
        let there = holds(if is_deleted { &deleted } else { &asked });
        promise.judge(1, &rights, 7, &Documents::default(), &there).is_err()
    }

    #[test]
    fn what_was_there_when_it_was_asked_is_here() {
        assert!(is_lie(Interest::Everything, false) && is_lie(Interest::Group(0), false));
        assert!(!is_lie(Interest::Group(1), false), "nobody has asked for it");
    }

    #[test]
    fn what_was_deleted_then_made_again_and_deleted_again_may_have_left_in_between() {
        let made = edit(&Document::new(), 10, Edit::insert);
        let ends = |hlc| edit(&made, hlc, |edit| edit.delete(false));
        let holds = |document: &Document| Documents::with("d1", Arc::new(document.clone()));
        let is_lie = |interest, there: &Document| {
            let promise = Promise {
                local: Documents::default(),
                server: holds(&ends(20)),
                interest,
                round: None,
                is_partial: false,
                is_void: false,
            };
            let rights = Rights::new(Profile::Everything);
            promise.judge(1, &rights, 7, &holds(&made), &holds(there)).is_err()
        };
        assert!(is_lie(Interest::Everything, &ends(20)) && is_lie(Interest::Group(0), &ends(20)));
        assert!(is_lie(Interest::Everything, &ends(30)) && !is_lie(Interest::Group(0), &ends(30)));
    }

    #[test]
    fn what_was_deleted_since_may_have_left_first_where_content_decides() {
        assert!(is_lie(Interest::Everything, true) && is_lie(Interest::Prefix("d"), true));
        assert!(!is_lie(Interest::Group(0), true) && !is_lie(Interest::Below(1), true));
    }
}
