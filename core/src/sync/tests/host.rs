//! A stand-in for the node: documents as sets of writes in a `BTreeMap`, with a log that only counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{Permissions, SharedPermissions};
use crate::ident::{Actor, AppId, BootId, LogId, PeerKey, StoreId, Txn, Uuid};
use crate::sync::*;
use crate::time::Hlc;

pub(crate) type Vector = BTreeMap<u64, u64>;

/// Writes by (clock, actor); a deletion is final and keeps only the vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doc {
    pub(crate) writes: BTreeMap<(u64, u64), (u64, u64)>,
    pub(crate) vector: Vector,
    pub(crate) deleted: bool,
}

#[derive(Clone, Debug, Default)]
struct Delta {
    base: Vector,
    doc: Doc,
}

impl Doc {
    pub(crate) fn field(&self, field: u64) -> Option<u64> {
        self.writes.values().rev().find(|(name, _)| *name == field).map(|(_, value)| *value)
    }

    pub(crate) fn digest(&self) -> Digest {
        let mut numbers = vec![u64::from(self.deleted)];
        put_vector(&mut numbers, &self.vector);
        let mut out = [0; 16];
        out.copy_from_slice(&blake3::hash(&to_bytes(&numbers)).as_bytes()[..16]);
        Digest(out)
    }

    fn diff(&self, base: &Vector) -> ItemBody {
        let seen = |actor: u64, at: u64| base.get(&actor).is_some_and(|last| *last >= at);
        let mut doc = self.clone();
        doc.writes.retain(|(at, actor), _| !seen(*actor, *at));
        let bytes = Delta { base: base.clone(), doc }.encode();
        match () {
            () if self.deleted => ItemBody::Tombstone { bytes },
            () if base.is_empty() => ItemBody::Delta { base: None, bytes },
            () => ItemBody::Delta { base: Some(Digest::default()), bytes },
        }
    }

    fn merge(&mut self, delta: &Doc) {
        self.deleted |= delta.deleted;
        self.writes.extend(delta.writes.iter().map(|(dot, write)| (*dot, *write)));
        join(&mut self.vector, &delta.vector);
        if self.deleted {
            self.writes.clear();
        }
    }
}

impl Delta {
    fn encode(&self) -> Bytes {
        let mut numbers = vec![u64::from(self.doc.deleted)];
        put_vector(&mut numbers, &self.base);
        put_vector(&mut numbers, &self.doc.vector);
        for ((at, actor), (field, value)) in &self.doc.writes {
            numbers.extend([*at, *actor, *field, *value]);
        }
        to_bytes(&numbers)
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut numbers = from_bytes(bytes);
        let deleted = numbers.remove(0) == 1;
        let base = take_vector(&mut numbers);
        let vector = take_vector(&mut numbers);
        let writes = numbers.chunks(4).map(|write| ((write[0], write[1]), (write[2], write[3])));
        Self { base, doc: Doc { writes: writes.collect(), vector, deleted } }
    }
}

fn join(vector: &mut Vector, other: &Vector) {
    for (actor, at) in other {
        let last = vector.entry(*actor).or_default();
        *last = (*last).max(*at);
    }
}

fn covers(vector: &Vector, other: &Vector) -> bool {
    other.iter().all(|(actor, at)| vector.get(actor).is_some_and(|last| last >= at))
}

fn to_bytes(numbers: &[u64]) -> Bytes {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into()
}

fn from_bytes(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect()
}

fn put_vector(numbers: &mut Vec<u64>, vector: &Vector) {
    numbers.push(vector.len() as u64);
    numbers.extend(vector.iter().flat_map(|(actor, at)| [*actor, *at]));
}

fn take_vector(numbers: &mut Vec<u64>) -> Vector {
    let count = numbers.remove(0) as usize * 2;
    let rest = numbers.split_off(count);
    let pairs = std::mem::replace(numbers, rest);
    pairs.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

fn encode_vector(vector: &Vector) -> Bytes {
    let mut numbers = Vec::new();
    put_vector(&mut numbers, vector);
    to_bytes(&numbers)
}

pub(crate) fn key(collection: &str, n: u64) -> DocKey {
    let id = crate::value::canonical::encode_text_id(&format!("{n:06}")).unwrap();
    DocKey { collection: collection.into(), id }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) doc: Doc,
    touched: u64,
    /// What each remote told us that it has.
    from: BTreeMap<PeerKey, Vector>,
    /// The vector before each touch.
    before: Vec<(u64, Vector)>,
    /// A tombstone that is shrunk: found by look-up, not listed.
    pub(crate) is_residue: bool,
    pub(crate) is_evicted_there: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct TestHost {
    pub(crate) role: Role,
    pub(crate) peer_key: PeerKey,
    pub(crate) boots: BootTable,
    pub(crate) store: StoreId,
    pub(crate) actor: u64,
    pub(crate) clock: u64,
    pub(crate) txn: u64,
    pub(crate) docs: BTreeMap<DocKey, Stored>,
    /// What was evicted here, with the vector at that time.
    pub(crate) markers: BTreeMap<DocKey, Vector>,
    pub(crate) evict_generation: u64,
    /// What remotes may read and write, as it is hashed; `forbidden` decides.
    pub(crate) permissions: SharedPermissions,
    pub(crate) remotes: BTreeMap<PeerKey, RemoteRecord>,
    pub(crate) interest: Interest,
    pub(crate) remote_interest: Interest,
    pub(crate) limits: Limits,
    /// Documents that remotes may not write.
    pub(crate) forbidden: BTreeSet<DocKey>,
    /// Documents whose deletion comes from a clock that is too far ahead.
    pub(crate) ahead: BTreeSet<DocKey>,
    pub(crate) docs_read: u64,
    pub(crate) epochs: u64,
    /// A new epoch was taken in this session.
    is_renewed: bool,
    watches: BTreeMap<CommandId, Watch>,
    scans: BTreeMap<CommandId, (u64, Vec<Offered>, usize)>,
}

#[derive(Clone, Debug)]
struct Watch {
    interest: Interest,
    pull: Option<Pull>,
    /// What is left of an open group, and the position that closes it.
    open: Option<(VecDeque<UpdateItem>, Txn)>,
}

#[derive(Clone, Debug)]
struct Pull {
    after: u64,
    until: Option<Txn>,
    credit_bytes: usize,
    lacking: Arc<Lacking>,
}

pub(crate) const APP: AppId = AppId(Uuid([1; 16]));

impl TestHost {
    pub(crate) fn new(role: Role, n: u8, interest: Interest) -> Self {
        let boot = BootRow { boot: BootId(Uuid([n; 16])), first: Txn(1), end: None };
        Self {
            role,
            peer_key: PeerKey([n; 32]),
            boots: BootTable { log: LogId(Uuid([n; 16])), rows: vec![boot], purge_floor: Txn(0) },
            store: StoreId(Uuid([n; 16])),
            actor: u64::from(n) << 32,
            clock: 0,
            txn: 0,
            docs: BTreeMap::new(),
            markers: BTreeMap::new(),
            evict_generation: 0,
            permissions: Arc::new(Permissions::everything()),
            remotes: BTreeMap::new(),
            interest,
            remote_interest: Interest::default(),
            limits: Limits::default(),
            forbidden: BTreeSet::new(),
            ahead: BTreeSet::new(),
            docs_read: 0,
            epochs: 0,
            is_renewed: false,
            watches: BTreeMap::new(),
            scans: BTreeMap::new(),
        }
    }

    pub(crate) fn config(&self, remote: PeerKey) -> SessionConfig {
        let mut actor = [0; 16];
        actor[..8].copy_from_slice(&self.actor.to_be_bytes());
        SessionConfig {
            role: self.role,
            app: APP,
            remote,
            local: LocalIdentity {
                store: self.store,
                boots: self.boots.clone(),
                actor: Actor(actor),
                peer_key: self.peer_key,
                hlc: Hlc(self.clock),
                device_name: "test".into(),
                tombstone_ttl_hours: 168,
                evict_generation: self.evict_generation,
            },
            interest: self.interest.clone(),
            permissions: self.permissions.clone(),
            limits: self.limits,
        }
    }

    /// A process starts on the log as it is: a row more in the boot table.
    pub(crate) fn restart(&mut self, boot: u8) {
        let first = Txn(self.txn + 1);
        self.boots.rows.last_mut().unwrap().end = Some(Txn(self.txn));
        self.boots.rows.push(BootRow { boot: BootId(Uuid([boot; 16])), first, end: None });
        self.disconnect();
    }

    pub(crate) fn disconnect(&mut self) {
        self.is_renewed = false;
        self.watches.clear();
        self.scans.clear();
    }

    pub(crate) fn write(&mut self, key: &DocKey, field: u64, value: u64) {
        self.clock += 1;
        let (clock, actor) = (self.clock, self.actor);
        self.markers.remove(key);
        self.touch(key, None, |doc| {
            if !doc.deleted {
                doc.writes.insert((clock, actor), (field, value));
                doc.vector.insert(actor, clock);
            }
        });
    }

    pub(crate) fn delete(&mut self, key: &DocKey) {
        if !self.docs.contains_key(key) {
            return;
        }
        self.clock += 1;
        let (clock, actor) = (self.clock, self.actor);
        self.touch(key, None, |doc| {
            doc.vector.insert(actor, clock);
            doc.deleted = true;
            doc.writes.clear();
        });
    }

    /// Drops the document here. Returns false when nothing is held.
    pub(crate) fn evict(&mut self, key: &DocKey) -> bool {
        let Some(stored) = self.docs.get(key).filter(|stored| !stored.doc.deleted) else {
            return false;
        };
        let vector = stored.doc.vector.clone();
        self.docs.remove(key);
        self.txn += 1;
        if self.role == Role::Server {
            self.markers.insert(key.clone(), vector);
        } else {
            self.evict_generation += 1;
            self.remotes.values_mut().for_each(|record| record.cursor = None);
        }
        true
    }

    fn touch(
        &mut self,
        key: &DocKey,
        from: Option<(PeerKey, &Vector)>,
        change: impl FnOnce(&mut Doc),
    ) {
        let stored = self.docs.entry(key.clone()).or_default();
        let before = stored.doc.clone();
        change(&mut stored.doc);
        if let Some((remote, told)) = from {
            join(stored.from.entry(remote).or_default(), told);
        }
        if stored.doc != before {
            self.txn += 1;
            stored.touched = self.txn;
            stored.before.push((self.txn, before.vector));
            self.clock = self.clock.max(stored.doc.vector.values().copied().max().unwrap_or(0));
        }
    }

    pub(crate) fn live(&self, interest: &Interest) -> BTreeMap<DocKey, Doc> {
        let docs = self
            .docs
            .iter()
            .filter(|(key, stored)| !stored.doc.deleted && matches(interest, key, &stored.doc));
        docs.map(|(key, stored)| (key.clone(), stored.doc.clone())).collect()
    }

    /// Carries out a command. `WatchMore` parks; see [`Self::report`].
    pub(crate) fn command(&mut self, remote: PeerKey, command: HostCommand) -> Option<HostEvent> {
        Some(match command {
            HostCommand::LoadRemote { id, peer } => {
                let record = Box::new(self.remotes.entry(peer).or_default().clone());
                HostEvent::Remote { id, record }
            }
            HostCommand::SaveRemote { id, peer, store, ours, theirs, is_stale } => {
                if is_stale {
                    self.renew_epoch();
                }
                let record = self.remotes.entry(peer).or_default();
                record.store = store.or(record.store);
                record.ours = ours;
                record.theirs = theirs.or(record.theirs);
                record.cursor = record.cursor.filter(|_| !is_stale);
                HostEvent::Saved { id }
            }
            HostCommand::NewEpoch { id, stale, .. } => {
                let record = self.remotes.entry(remote).or_default();
                record.cursor = record.cursor.filter(|_| !stale);
                self.renew_epoch();
                HostEvent::EpochChanged { id, actor: Actor([9; 16]) }
            }
            HostCommand::Watch { watch, interest } => {
                self.watches.insert(watch, Watch { interest, pull: None, open: None });
                return None;
            }
            HostCommand::WatchMore { watch, after, until, credit_bytes, lacking } => {
                assert!(credit_bytes > 0, "nothing can be told without credit");
                let target_bytes = self.limits.update_target_bytes;
                assert!(credit_bytes <= target_bytes, "what is told at once lies in memory");
                let pull = Pull { after: after.0, until, credit_bytes, lacking };
                self.watches.get_mut(&watch)?.pull = Some(pull);
                return None;
            }
            HostCommand::Unwatch { watch } => {
                self.watches.remove(&watch);
                return None;
            }
            HostCommand::Scan { scan, part, interest, batch_count } => {
                self.remote_interest = interest.clone();
                let listed = self.list(part, &interest);
                self.scans.insert(scan, (self.txn, listed, batch_count));
                return self.scan_more(scan);
            }
            HostCommand::ScanMore { scan } => return self.scan_more(scan),
            HostCommand::ScanStop { scan } => {
                self.scans.remove(&scan);
                return None;
            }
            HostCommand::Compare { id, part, offered } => {
                let verdicts = offered.iter().map(|offered| self.compare(part, offered));
                HostEvent::Verdicts { id, verdicts: verdicts.collect() }
            }
            HostCommand::Diff { id, wanted, credit_bytes } => {
                assert!(credit_bytes > 0, "what fills the next update is sent first");
                let mut bytes = 0;
                let mut items = Vec::new();
                for wanted in &wanted {
                    if bytes > credit_bytes {
                        break;
                    }
                    let item = self.diff(wanted);
                    if let Some(ItemBody::Delta { bytes: body, .. }) = &item {
                        bytes += body.len();
                    }
                    items.push(item);
                }
                HostEvent::Diffs { id, items }
            }
            HostCommand::Apply { id, items, cursor, reached } => {
                self.reach(remote, reached);
                let before = self.docs.clone();
                let mut outcomes: Vec<_> =
                    items.iter().map(|item| self.apply(remote, item)).collect();
                if self.role == Role::Device && cursor.is_some() && hold(&items, &mut outcomes) {
                    self.docs = before;
                }
                self.txn += 1;
                if outcomes.iter().all(|outcome| *outcome == Outcome::Accepted)
                    && let Some(cursor) = cursor
                {
                    self.remotes.entry(remote).or_default().cursor = Some(cursor);
                }
                HostEvent::Applied { id, txn: Txn(self.txn), outcomes }
            }
            HostCommand::KeepUnlisted { id, unlisted, reached } => {
                self.reach(remote, reached);
                self.remotes.entry(remote).or_default().unlisted = unlisted;
                HostEvent::Settled { id, refused: Vec::new() }
            }
            HostCommand::Settle { id, items, reached } => {
                self.reach(remote, reached);
                let is_refused = |(key, end): &(DocKey, Final)| {
                    matches!(end, Final::Deleted { .. }) && self.ahead.contains(key)
                };
                let (refused, taken): (Vec<_>, Vec<_>) = items.into_iter().partition(is_refused);
                taken.into_iter().for_each(|(key, end)| self.settle(remote, key, end));
                let refused = refused.into_iter().map(|(key, _)| (key, RejectReason::ClockSkew));
                HostEvent::Settled { id, refused: refused.collect() }
            }
        })
    }

    /// Once for each session, and only on a device.
    fn renew_epoch(&mut self) {
        if self.role == Role::Device && !std::mem::replace(&mut self.is_renewed, true) {
            self.actor += 1;
            self.epochs += 1;
        }
    }

    fn reach(&mut self, remote: PeerKey, reached: Option<Position>) {
        let record = self.remotes.entry(remote).or_default();
        record.reached = reached.or(record.reached);
    }

    /// Answers of parked `WatchMore` commands.
    pub(crate) fn report(&mut self, remote: PeerKey) -> Option<HostEvent> {
        let watches: Vec<_> = self.watches.iter().map(|(id, watch)| (*id, watch.clone())).collect();
        for (id, watch) in watches {
            let Some(Pull { after, until, credit_bytes, lacking }) = watch.pull else { continue };
            let (mut rest, upto) = match watch.open {
                Some(open) => open,
                None => {
                    (self.touched(remote, &watch.interest, after, &lacking).into(), Txn(self.txn))
                }
            };
            if rest.is_empty() && until.is_none_or(|until| upto < until) {
                continue;
            }
            let items = take_credit(&mut rest, credit_bytes);
            let open = (!rest.is_empty()).then_some((rest, upto));
            let upto = open.is_none().then_some(upto);
            let watch = self.watches.get_mut(&id)?;
            (watch.pull, watch.open) = (None, open);
            return Some(HostEvent::Touched { watch: id, items, upto });
        }
        None
    }

    fn touched(
        &mut self,
        remote: PeerKey,
        interest: &Interest,
        after: u64,
        lacking: &Lacking,
    ) -> Vec<UpdateItem> {
        let mut items = Vec::new();
        for (key, stored) in &self.docs {
            let is_known =
                stored.from.get(&remote).is_some_and(|from| covers(from, &stored.doc.vector));
            if stored.touched <= after || (is_known && !stored.doc.deleted) || stored.is_residue {
                continue;
            }
            self.docs_read += 1;
            let base = stored.before.iter().find(|(txn, _)| *txn > after);
            let base = base.map(|(_, vector)| vector.clone()).unwrap_or_default();
            let body = if let Some(base) = lacking.get(key) {
                let base = base.as_ref().map(|base| take_vector(&mut from_bytes(base)));
                stored.doc.diff(&base.unwrap_or_default())
            } else if matches(interest, key, &stored.doc) || stored.doc.deleted {
                stored.doc.diff(&base)
            } else {
                ItemBody::Left { digest: stored.doc.digest() }
            };
            items.push(UpdateItem { key: key.clone(), body });
        }
        items
    }

    fn list(&self, part: Part, interest: &Interest) -> Vec<Offered> {
        let listed = self.docs.iter().filter(|(key, stored)| {
            let is_wanted = match part {
                Part::Provide => matches(interest, key, &stored.doc),
                Part::Hold => true,
            };
            !stored.is_residue && (is_wanted || stored.doc.deleted)
        });
        let listed = listed.map(|(key, stored)| Offered {
            key: key.clone(),
            digest: stored.doc.digest(),
            tombstone: stored.doc.deleted,
        });
        listed.collect()
    }

    fn scan_more(&mut self, scan: CommandId) -> Option<HostEvent> {
        let (started_at, listed, batch_count) = self.scans.get_mut(&scan)?;
        let rest = listed.split_off(listed.len().min(*batch_count));
        let items = std::mem::replace(listed, rest);
        let (started_at, done) = (Txn(*started_at), listed.is_empty());
        Some(HostEvent::Held { scan, started_at, items, done })
    }

    fn compare(&mut self, part: Part, offered: &Offered) -> Verdict {
        let Some(stored) = self.docs.get(&offered.key) else {
            let marker = self.markers.get(&offered.key).cloned();
            let is_evicted = marker
                .is_some_and(|vector| Doc { vector, ..Doc::default() }.digest() == offered.digest);
            return match part {
                _ if is_evicted => Verdict::Answer(ItemBody::Evicted),
                Part::Provide => Verdict::Need { vector: None },
                Part::Hold => Verdict::Same,
            };
        };
        let doc = &stored.doc;
        if doc.digest() == offered.digest {
            return Verdict::Same;
        }
        if doc.deleted && !offered.tombstone {
            return Verdict::Answer(doc.diff(&Vector::new()));
        }
        match part {
            Part::Provide => Verdict::Need { vector: Some(encode_vector(&doc.vector)) },
            Part::Hold => Verdict::Answer(ItemBody::Left { digest: doc.digest() }),
        }
    }

    fn diff(&mut self, wanted: &Wanted) -> Option<ItemBody> {
        let doc = &self.docs.get(&wanted.key)?.doc;
        self.docs_read += 1;
        let base = wanted.base.as_ref().map(|base| take_vector(&mut from_bytes(base)));
        let base = base.unwrap_or_default();
        (base != doc.vector || doc.deleted).then(|| doc.diff(&base))
    }

    fn apply(&mut self, remote: PeerKey, item: &UpdateItem) -> Outcome {
        let key = &item.key;
        let held = self.docs.get(key).map(|stored| stored.doc.clone());
        let delta = match &item.body {
            ItemBody::Delta { bytes, .. } | ItemBody::Tombstone { bytes } => Delta::decode(bytes),
            ItemBody::Left { digest } => {
                let stale = held.filter(|doc| !doc.deleted && doc.digest() != *digest);
                return match stale.filter(|doc| matches(&self.interest, key, doc)) {
                    Some(doc) => Outcome::NeedBase { vector: Some(encode_vector(&doc.vector)) },
                    None => Outcome::Accepted,
                };
            }
            ItemBody::Evicted => {
                self.docs.entry(key.clone()).or_default().is_evicted_there = true;
                return Outcome::Accepted;
            }
        };
        if self.forbidden.contains(key) {
            return Outcome::Rejected(RejectReason::Forbidden);
        }
        if let Some(marker) = self.markers.get(key).filter(|_| held.is_none()) {
            if covers(marker, &delta.doc.vector) {
                return Outcome::Evicted;
            }
            if !delta.base.is_empty() {
                return Outcome::NeedBase { vector: None };
            }
            self.markers.remove(key);
        }
        let held = held.unwrap_or_default();
        if !delta.doc.deleted && !covers(&held.vector, &delta.base) {
            let vector = (!held.vector.is_empty()).then(|| encode_vector(&held.vector));
            return Outcome::NeedBase { vector };
        }
        self.touch(key, Some((remote, &delta.doc.vector)), |doc| doc.merge(&delta.doc));
        if held.deleted && !delta.doc.deleted {
            let doc = &self.docs[key].doc;
            let ItemBody::Tombstone { bytes } = doc.diff(&Vector::new()) else { unreachable!() };
            return Outcome::Deleted { tombstone: bytes };
        }
        Outcome::Accepted
    }

    fn settle(&mut self, remote: PeerKey, key: DocKey, end: Final) {
        let record = self.remotes.entry(remote).or_default();
        record.owed.retain(|owed| owed.key != key);
        match end {
            Final::Accepted => {}
            Final::Rejected { reason, write_permission } => {
                let owed = Owed { key, reason, write_permission };
                if record.owed.len() < self.limits.owed_max {
                    record.owed.push(owed);
                } else {
                    add_unlisted(&mut record.unlisted, owed.refused_under());
                }
            }
            Final::Evicted => {
                if let Some(stored) = self.docs.get_mut(&key) {
                    stored.is_evicted_there = true;
                }
            }
            Final::Deleted { tombstone } => {
                let delta = Delta::decode(&tombstone);
                self.touch(&key, Some((remote, &delta.doc.vector)), |doc| doc.merge(&delta.doc));
            }
        }
    }
}

/// True when nothing of these items is taken, since one of them goes over another state than is here.
fn hold(items: &[UpdateItem], outcomes: &mut [Outcome]) -> bool {
    let is_mistaken = |(item, outcome): (&UpdateItem, &Outcome)| {
        let has_another = matches!(outcome, Outcome::NeedBase { vector: Some(_) });
        has_another && !matches!(item.body, ItemBody::Left { .. })
    };
    let is_held = items.iter().zip(&*outcomes).any(is_mistaken);
    for (item, outcome) in items.iter().zip(outcomes).filter(|_| is_held) {
        *outcome = match (&item.body, &outcome) {
            (_, Outcome::NeedBase { vector: None }) => {
                Outcome::NeedBase { vector: Some(Bytes::new()) }
            }
            (ItemBody::Delta { .. }, Outcome::Accepted) => Outcome::NeedBase { vector: None },
            (_, outcome) => (*outcome).clone(),
        };
    }
    is_held
}

/// The first items, until their bytes pass the credit.
fn take_credit(rest: &mut VecDeque<UpdateItem>, credit_bytes: usize) -> Vec<UpdateItem> {
    let mut bytes = 0;
    let mut items = Vec::new();
    while bytes < credit_bytes
        && let Some(item) = rest.pop_front()
    {
        if let ItemBody::Delta { bytes: body, .. } | ItemBody::Tombstone { bytes: body } =
            &item.body
        {
            bytes += body.len();
        }
        items.push(item);
    }
    items
}

/// A query is a collection, or `collection?field=value`.
pub(crate) fn matches(interest: &Interest, key: &DocKey, doc: &Doc) -> bool {
    let Interest::Queries(queries) = interest else { return true };
    queries.iter().any(|query| match query.text.split_once('?') {
        None => key.collection == query.text,
        Some((collection, filter)) => {
            let (field, value) = filter.split_once('=').unwrap();
            key.collection == collection && doc.field(field.parse().unwrap()) == value.parse().ok()
        }
    })
}

pub(crate) fn query(text: &str) -> Subscription {
    Subscription { text: text.into(), args: Bytes::new() }
}

pub(crate) fn queries(texts: &[&str]) -> Interest {
    Interest::of(texts.iter().map(|text| query(text)).collect())
}
