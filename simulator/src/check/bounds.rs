//! Bounds of what may grow only with what is there.

use std::collections::BTreeMap;

use bigpeer_core::document::Vector;
use bigpeer_core::time::Hlc;

use super::{Documents, Failure, text_of};

/// A document's vector names, of each store, no more actors than the store has authored as: each epoch of it is one, and
/// the document lies in one of its partitions. `epochs` counts them by site.
pub(crate) fn vectors_name_no_more(
    held: &Documents,
    epochs: &BTreeMap<u64, u32>,
) -> Result<(), Failure> {
    for ((collection, id), document) in &held.documents {
        for (site, count) in actors_by_site(document.vector()) {
            let most = epochs.get(&site).copied().unwrap_or(0);
            if count > most {
                let text = text_of(id);
                let text = format!(
                    "{collection} {text} names {count} actors of a store that had {most} epochs"
                );
                return Err(Failure::new("bounds", text));
            }
        }
    }
    Ok(())
}

/// INITIAL content has no author.
fn actors_by_site(vector: &Vector) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for dot in vector.iter().filter(|dot| dot.hlc > Hlc(1)) {
        let site = dot.actor.0[..8].try_into().expect("an actor has more bytes than a site");
        *counts.entry(u64::from_be_bytes(site)).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bigpeer_core::document::{Document, Edit};
    use bigpeer_core::ident::{Actor, Dot};

    use super::*;

    /// Somebody's edit as the given epoch of the store with site 7.
    fn edited(former: &Document, epoch: u8) -> Document {
        let mut actor = [0; 16];
        (actor[7], actor[13]) = (7, epoch);
        let dot = Dot { hlc: Hlc(u64::from(epoch) + 10), actor: Actor(actor) };
        let mut edit = Edit::new(former, dot);
        edit.insert();
        edit.finish_with_document().expect("it writes something").1
    }

    #[test]
    fn a_store_is_no_more_actors_than_it_had_epochs() {
        let document = edited(&edited(&Document::new(), 1), 2);
        let held = Documents::with("d1", Arc::new(document));
        let judge = |count| vectors_name_no_more(&held, &BTreeMap::from([(7, count)])).is_ok();
        assert!(judge(2) && !judge(1));
        assert!(vectors_name_no_more(&held, &BTreeMap::new()).is_err(), "nobody is this store");
    }
}
