//! The judges: what must hold in every run.

pub(crate) mod answers;
pub(crate) mod authority;
pub(crate) mod bounds;
pub(crate) mod catalog;
pub(crate) mod evicted;
pub(crate) mod fairness;
pub(crate) mod ledger;
pub(crate) mod promise;
pub(crate) mod remotes;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bigpeer_core::document::{Document, Vector};
use bigpeer_core::ident::{Actor, DocId, Dot, Slot};
use bigpeer_core::log::transaction::{Op, Transaction};
use bigpeer_core::node::{Node, NodeLimits};
use bigpeer_core::store::{DocKey, Held};
use bigpeer_core::time::{CLOCK_AHEAD_MS, Hlc, WallMs};
use bigpeer_core::value::canonical::encode_text_id;
use bigpeer_core::value::{Object, Value};

use crate::workload::device::Device;
use crate::workload::documents::{KEPT, collection_of, is_grown};
use crate::workload::hostile::LIE;
use crate::world::World;
use crate::world::process::{APP, SERVER};
use evicted::MISC;

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The rule.
    pub(crate) rule: &'static str,
    /// The case.
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(rule: &'static str, text: String) -> Self {
        Self { rule, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.rule, self.text)
    }
}

/// Everything that one process holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Documents {
    documents: BTreeMap<(Arc<str>, DocId), Arc<Document>>,
    /// Eviction markers, by document.
    markers: BTreeMap<(Arc<str>, DocId), Vector>,
}

impl Documents {
    pub(crate) fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let (mut documents, mut markers) = (BTreeMap::new(), BTreeMap::new());
        for node in nodes {
            let store = node.store();
            for (collection, _) in store.collections(APP) {
                let mut last = None;
                while let Some((id, held)) = store.held_after(APP, collection, last.as_ref()) {
                    let key = (collection.clone(), id.clone());
                    match held {
                        Held::Document(document) => drop(documents.insert(key, document)),
                        Held::Evicted(marker) => drop(markers.insert(key, marker)),
                    }
                    last = Some(id);
                }
            }
        }
        Self { documents, markers }
    }

    /// The visible documents of a collection, with the texts of their ids.
    pub(crate) fn visible(&self, collection: &str) -> impl Iterator<Item = (String, &Document)> {
        self.documents
            .iter()
            .filter(move |((name, _), document)| **name == *collection && document.is_visible())
            .map(|((_, id), document)| (text_of(id), &**document))
    }

    /// The fields of the documents that are never deleted, as far as they are there.
    pub(crate) fn kept<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<Object> {
        let nodes: Vec<&Node> = nodes.collect();
        let held = |index: u64| {
            let (collection, id) = key_of(&format!("k{index}"))?;
            let key = DocKey { app: APP, collection, id };
            nodes.iter().find_map(|node| match node.store().held(&key)? {
                Held::Document(document) => Some(document.to_object()),
                Held::Evicted(_) => None,
            })
        };
        (0..KEPT).filter_map(held).collect()
    }

    /// The fields of a visible document, by the text of its id.
    pub(crate) fn object(&self, id: &str) -> Option<Object> {
        self.document(id).filter(|it| it.is_visible()).map(|document| document.to_object())
    }

    fn document(&self, id: &str) -> Option<&Arc<Document>> {
        self.documents.get(&key_of(id)?)
    }

    /// A store with one document.
    #[cfg(test)]
    pub(crate) fn with(id: &str, document: Arc<Document>) -> Self {
        let key = key_of(id).expect("it is an id of the workload");
        Self { documents: BTreeMap::from([(key, document)]), ..Self::default() }
    }

    /// The edits of a store in a document, by the text of its id. INITIAL content has no author.
    pub(crate) fn edits_of(&self, id: &str, site: u64) -> Vec<Dot> {
        let vector = self.document(id).map(|document| document.vector());
        let is_edit = |dot: &Dot| is_of(*dot, site) && dot.hlc > Hlc(1);
        vector.into_iter().flat_map(Vector::iter).filter(is_edit).collect()
    }

    /// The marker of an evicted document, by the text of its id.
    pub(crate) fn marker(&self, id: &str) -> Option<&Vector> {
        self.markers.get(&key_of(id)?)
    }
}

/// The key of a document of the workload.
fn key_of(id: &str) -> Option<(Arc<str>, DocId)> {
    Some((collection_of(id)?.into(), encode_text_id(id).ok()?))
}

/// The text of an `_id`; the workload uses no other.
pub(crate) fn text_of(id: &DocId) -> String {
    match id.to_value() {
        Value::String(text) => (*text).into(),
        other => format!("{other:?}"),
    }
}

/// Devices and server hold equal bytes of what the devices ask for and may read and write, and nothing that is
/// deleted.
pub(crate) fn converged(
    world: &World,
    held: &[Documents],
    is_judged: impl Fn(&Device) -> bool,
) -> Result<(), Failure> {
    let server = &held[SERVER];
    for (index, device) in world.devices.iter().enumerate().filter(|(_, it)| is_judged(it)) {
        let local = &held[index + 1];
        for ((collection, id), document) in &server.documents {
            let text = text_of(id);
            if !document.is_visible()
                || is_grown(&text)
                || !device.interest.asks_for(collection, &text, document)
                || !device.rights.must_read(collection, &text)
            {
                continue;
            }
            let there = local.documents.get(&(collection.clone(), id.clone()));
            let is_equal = device.rights.must_write(collection, &text)
                && !is_evicted_on_server(collection, &text)
                && !is_of_liars(collection, &text);
            if is_equal {
                check_equal(index + 1, &text, Some(document), there)?;
            } else if there.is_none_or(|there| !document.vector().leq(there.vector())) {
                let text = format!("{text} of the server has not reached device {}", index + 1);
                return Err(Failure::new("convergence", text));
            }
        }
        let site = world.processes[index + 1].peer_key.site();
        check_device(index + 1, device, site, local, server)?;
        let is_own = |dot| is_of(dot, site) && dot.hlc > Hlc(1);
        world.evicted.judge(index + 1, &device.rights, is_own, local, server)?;
    }
    Ok(())
}

/// True of documents that the server evicts and a device keeps: the device may have more than the server for good.
fn is_evicted_on_server(collection: &str, id: &str) -> bool {
    collection == MISC && id.starts_with(['e', 'y'])
}

/// True of documents that peers which lie may write. Such a peer says different things under one dot: then what a copy
/// shows goes by which of them came first, and all copies know the same edits.
fn is_of_liars(collection: &str, id: &str) -> bool {
    collection == MISC && id.starts_with('x')
}

/// Nothing that the server holds is from a time that its clock has never come near.
pub(crate) fn no_edit_is_ahead(server: &Documents, wall_max: WallMs) -> Result<(), Failure> {
    let limit_ms = wall_max.0 + CLOCK_AHEAD_MS + 1;
    for ((collection, id), document) in &server.documents {
        let ahead = document.vector().iter().find(|dot| dot.hlc.physical_ms() > limit_ms);
        if let Some(dot) = ahead {
            let ms = dot.hlc.physical_ms() - limit_ms;
            let text = format!("{collection} {} has {dot:?}, {ms} ms too far ahead", text_of(id));
            return Err(Failure::new("clock", text));
        }
    }
    Ok(())
}

/// Judges that a device holds what the server has, or its own.
fn check_device(
    number: usize,
    device: &Device,
    site: u64,
    local: &Documents,
    server: &Documents,
) -> Result<(), Failure> {
    for ((collection, id), document) in &local.documents {
        let text = text_of(id);
        let may_read = device.rights.must_read(collection, &text);
        let may_hold = device.rights.may_hold(collection, &text);
        if !may_hold && document.vector().iter().any(|dot| !is_of(dot, site)) {
            let text = format!("device {number} holds {text}, which it may not read");
            return Err(Failure::new("permission", text));
        }
        if !document.is_visible()
            || is_grown(&text)
            || is_evicted_on_server(collection, &text)
            || !device.rights.must_write(collection, &text)
        {
            continue;
        }
        let there = server.documents.get(&(collection.clone(), id.clone()));
        let is_judged = may_read && !is_of_liars(collection, &text);
        if is_judged && device.interest.asks_for(collection, &text, document) {
            check_equal(number, &text, there, Some(document))?;
        }
        let is_known = there.is_some_and(|there| document.vector().leq(there.vector()));
        if !is_known {
            let text = format!("{text} of device {number} has not reached the server");
            return Err(Failure::new("convergence", text));
        }
        let is_deleted = there.is_some_and(|there| !there.is_visible());
        if may_read && is_deleted && device.interest.has_collection(collection) {
            let text = format!("{text} is deleted, and device {number} shows it");
            return Err(Failure::new("deleted value came back", text));
        }
    }
    Ok(())
}

/// Nothing is there that a peer that lies has made up, except where it may write.
pub(crate) fn no_lie_is_told(world: &World, held: &[Documents]) -> Result<(), Failure> {
    for hostile in &world.hostile {
        for ((collection, id), document) in held.iter().flat_map(|held| &held.documents) {
            let id = text_of(id);
            let is_lie = document.to_object().get(LIE).is_some()
                || document.vector().iter().any(|dot| dot.hlc > Hlc(FUTURE))
                || document
                    .vector()
                    .iter()
                    .any(|dot| is_of(dot, hostile.peer_key.site()) && dot.hlc > Hlc(1));
            if is_lie && !hostile.profile.may_write(collection, &id) {
                let text =
                    format!("{collection} {id} is a lie of a peer with {:?}", hostile.profile);
                return Err(Failure::new("permission", text));
            }
        }
    }
    Ok(())
}

/// A record of what a peer sent writes nothing in the name of an actor of the server's that it had not written by then.
///
/// That is promised of the actors under which the server authors at that time. Of a former one it cannot know what is
/// a lie: a server that was put back to an older copy of its store takes back from its devices what it wrote after
/// that. Nothing is ever written under such an actor again, so an entry that is too high hides nothing that is to
/// come. Nor does one of another lane than the document's, since that lane never writes there.
pub(crate) fn nobody_wrote_as(
    present: &[Dot],
    partitions: u16,
    issued: &BTreeMap<Actor, Hlc>,
    transaction: &Transaction,
) -> Result<(), Failure> {
    for op in &transaction.ops {
        let Op::Merge { collection, id, delta, .. } = op else { continue };
        let lane = Slot::of(transaction.app, collection, id).partition(partitions).0;
        let is_forged = |dot: &&Dot| {
            // What was issued for a statement that is not in the log, or not yet, is a gap in which a lie hides nothing.
            let is_beyond = |own: &Dot| own.actor == dot.actor && dot.hlc > own.hlc;
            let is_ours = dot.actor.0[14..] == lane.to_be_bytes();
            is_ours
                && present.iter().any(is_beyond)
                && issued.get(&dot.actor).is_some_and(|issued| dot.hlc > *issued)
        };
        if let Some(dot) = delta.raised().iter().find(is_forged) {
            let text = text_of(id);
            let text = format!("{collection} {text} has {dot:?}, which the server never wrote");
            return Err(Failure::new("foreign value", text));
        }
    }
    Ok(())
}

/// No document of a server has become larger than merging may make one, but for one local write: what it was made on may
/// have grown by a merge before it is applied. The grown document is written by devices alone. A document that is above
/// the bound is listed and skipped like any that was there before there was one.
pub(crate) fn no_document_is_larger(
    server: &Documents,
    limits: &NodeLimits,
) -> Result<(), Failure> {
    for ((collection, id), document) in &server.documents {
        let (id, bytes) = (text_of(id), document.size_bytes());
        let local_bytes = if is_grown(&id) { 0 } else { limits.document_bytes_max };
        if bytes > limits.merged_bytes_max + local_bytes {
            let text = format!("{collection} {id} has {bytes} bytes");
            return Err(Failure::new("bounds", text));
        }
    }
    Ok(())
}

/// The server holds no edit of a device that may not write the document.
pub(crate) fn only_writers_wrote(world: &World, server: &Documents) -> Result<(), Failure> {
    for ((collection, id), document) in &server.documents {
        let id = text_of(id);
        // INITIAL documents have no author.
        for dot in document.vector().iter().filter(|dot| dot.hlc > Hlc(1)) {
            let mut authors = (1..)
                .zip(&world.devices)
                .filter(|(number, _)| is_of(dot, world.processes[*number].peer_key.site()));
            let is_foreign = authors.clone().next().is_some()
                && !authors.any(|(_, device)| device.rights.may_have_written(collection, &id));
            if is_foreign {
                let text =
                    format!("{collection} {id} has {dot:?}, of a device that may not write it");
                return Err(Failure::new("permission", text));
            }
        }
    }
    Ok(())
}

/// A clock value that no honest store comes to: a thousand years from now.
const FUTURE: u64 = 33_000_000_000_000 << 16;

/// Whether an event is of the store with this site, or of nobody, as those of INITIAL documents are.
fn is_of(dot: Dot, site: u64) -> bool {
    dot.hlc == Hlc(1) || dot.actor.0[..8] == site.to_be_bytes()
}

fn check_equal(
    number: usize,
    id: &str,
    server: Option<&Arc<Document>>,
    device: Option<&Arc<Document>>,
) -> Result<(), Failure> {
    let bytes =
        |document: Option<&Arc<Document>>| document.map(|document| document.canonical_bytes());
    if bytes(server) == bytes(device) {
        return Ok(());
    }
    let show = |document: Option<&Arc<Document>>| match document {
        None => "nothing".to_owned(),
        Some(document) => format!(
            "{:?} visible {} vector {:?}",
            document.to_object(),
            document.is_visible(),
            document.vector()
        ),
    };
    let text = format!(
        "{id} differs: the server has {}; device {number} has {}",
        show(server),
        show(device)
    );
    Err(Failure::new("convergence", text))
}

/// The same documents before and after a restart.
pub(crate) fn same(before: &Documents, after: &Documents) -> Result<(), Failure> {
    for (key, document) in &before.documents {
        let there = after.documents.get(key);
        if there.map(|there| there.canonical_bytes()) != Some(document.canonical_bytes()) {
            let text = format!("{} is another document after a restart", text_of(&key.1));
            return Err(Failure::new("durability", text));
        }
    }
    if before.documents.len() != after.documents.len() {
        return Err(Failure::new("durability", "there are more documents after a restart".into()));
    }
    Ok(())
}
