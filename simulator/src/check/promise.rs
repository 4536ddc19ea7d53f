//! "Synced" is true at the moment it is said.

use bigpeer_core::ident::Dot;

use super::{Documents, Failure, text_of};
use crate::workload::device::{Device, Interest};

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
        device: &Device,
        site: u64,
        local: &Documents,
        server: &Documents,
    ) -> Result<(), Failure> {
        let lie = |text: String| Err(Failure::new("synced", format!("device {number}: {text}")));
        for ((collection, id), before) in &self.local.documents {
            let text = text_of(id);
            if !device.rights.must_write(collection, &text) || collection.as_ref() == "misc" {
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
            if !device.rights.must_read(collection, &text) || collection.as_ref() == "misc" {
                continue;
            }
            let key = (collection.clone(), id.clone());
            let (here, there) = (local.documents.get(&key), server.documents.get(&key));
            let is_owed = if before.is_visible() {
                self.interest.asks_for(collection, &text, before)
                    && there.is_some_and(|there| {
                        !there.is_visible() || self.interest.asks_for(collection, &text, there)
                    })
            } else {
                // What was made again since may have left instead.
                self.interest.has_collection(collection)
                    && here.is_some_and(|here| here.is_visible())
                    && there.is_some_and(|there| !there.is_visible())
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
