//! The documents of a device that its servers have refused, as the partitions know them that own these documents.
//!
//! A position counts as settled at a server although some edits up to it were refused: those stand in `owed`, which
//! the owner of the remote's record keeps. EVICT is judged by the owner of the document. So the node of a session
//! tells every partition what of its documents is owed: all of it when the session has loaded the record, before any
//! position of the session counts as settled, and then each change.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::sync_ask::{Ask, GatherId};
use super::sync_host::SessionId;
use super::sync_wire::RecordChange;
use crate::ident::{AppId, PartitionId, PeerKey, Txn};
use crate::plant::{Plant, is_planted};
use crate::store::DocKey;
use crate::sync::{DocKey as SyncKey, RemoteRecord};

/// Changes of which documents of one partition a remote refuses.
#[derive(Clone, Debug)]
pub struct OwedNews {
    /// The remote that refuses them.
    pub peer: PeerKey,
    /// These are all: everything known of the remote before is void.
    pub is_whole: bool,
    /// Documents that it has refused.
    pub refused: Vec<SyncKey>,
    /// Documents that it has taken, or answered for good.
    pub settled: Vec<SyncKey>,
    /// Whether it has refused documents that nobody can name; none when that is as before.
    pub has_unlisted: Option<bool>,
}

/// Documents of one partition that remotes have refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    of_remotes: BTreeMap<(AppId, PeerKey), Refused>,
}

#[derive(Debug, Default)]
struct Refused {
    keys: BTreeSet<SyncKey>,
    has_unlisted: bool,
}

/// Whether a remote lacks edits of a document for having refused them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has refused none of the document's.
    None,
    /// It has refused some of them.
    Certain,
    /// It has refused more documents than are named, and this may be one of those.
    Possible,
}

impl Refusals {
    pub(crate) fn apply(&mut self, app: AppId, news: OwedNews) {
        let refused = self.of_remotes.entry((app, news.peer)).or_default();
        if news.is_whole {
            *refused = Refused::default();
        }
        for key in &news.settled {
            refused.keys.remove(key);
        }
        refused.keys.extend(news.refused);
        refused.has_unlisted = news.has_unlisted.unwrap_or(refused.has_unlisted);
    }

    pub(crate) fn of(&self, key: &DocKey) -> Refusal {
        let of_app = self.of_remotes.iter().filter(|((app, _), _)| *app == key.app);
        let sync_key = SyncKey { collection: key.collection.as_ref().into(), id: key.id.clone() };
        let mut refusal = Refusal::None;
        for (_, refused) in of_app.filter(|_| !is_planted(Plant::OwedEvicted)) {
            if refused.keys.contains(&sync_key) {
                return Refusal::Certain;
            }
            if refused.has_unlisted {
                refusal = Refusal::Possible;
            }
        }
        refusal
    }
}

impl Node {
    /// The record of a session's remote is loaded: nothing of the session counts as settled yet.
    pub(crate) fn tell_all_owed(&mut self, id: SessionId, record: &RemoteRecord) {
        let changes: Vec<_> = record.owed.iter().cloned().map(RecordChange::Owed).collect();
        self.tell_owed_news(id, &changes, Some(record.unlisted.is_some()), true);
    }

    /// Tells the owners what a session's record says of their documents from now on.
    pub(crate) fn tell_owed(&mut self, id: SessionId, changes: &[RecordChange]) {
        let unlisted = changes.iter().rev().find_map(|change| match change {
            RecordChange::Unlisted(unlisted) => Some(unlisted.is_some()),
            _ => None,
        });
        self.tell_owed_news(id, changes, unlisted, false);
    }

    fn tell_owed_news(
        &mut self,
        id: SessionId,
        changes: &[RecordChange],
        has_unlisted: Option<bool>,
        is_whole: bool,
    ) {
        let Some(app) = self.session_app(id).filter(|_| self.config.is_device) else { return };
        let peer = self.session_peer(id);
        let nothing =
            OwedNews { peer, is_whole, refused: Vec::new(), settled: Vec::new(), has_unlisted };
        let mut news = vec![nothing; usize::from(self.config.partitions)];
        for change in changes {
            let (RecordChange::Owed(crate::sync::Owed { key, .. }) | RecordChange::NotOwed(key)) =
                change
            else {
                continue;
            };
            let owner = self.owner(app, &key.collection, &key.id);
            let of_owner = &mut news[usize::from(owner.0)];
            match change {
                RecordChange::Owed(_) => of_owner.refused.push(key.clone()),
                _ => of_owner.settled.push(key.clone()),
            }
        }
        for (partition, news) in (0..).map(PartitionId).zip(news) {
            let is_empty = news.refused.is_empty() && news.settled.is_empty();
            if is_empty && !is_whole && has_unlisted.is_none() {
                continue;
            }
            if partition == self.config.partition {
                self.sync.refusals.apply(app, news);
            } else {
                self.ask(partition, GatherId(0), app, Txn(0), Ask::Owed(news));
            }
        }
    }
}
