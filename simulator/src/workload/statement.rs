//! Statements, each with what it means for the ledger.

use bigpeer_core::rng::Rng;

use super::documents::{
    GROUPS, GROWN, KEPT, any, deleted, evicted, evicted_on_devices, kept, large,
};
use crate::check::ledger::{Effect, Ledger, WriterId};
use crate::coverage::Seen;
use crate::shape::Bulk;

/// Documents that everybody contends for at the end.
const FINALE_KEPT: u64 = 2;

/// Devices that write large documents.
const LARGE_WRITERS: usize = 2;

/// One statement to run.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) effect: Effect,
    /// The only document it may reach; none for any.
    pub(crate) target: Option<String>,
    pub(crate) read: Option<Read>,
    /// Objects are written whole, as the older version of the API does.
    pub(crate) is_v4: bool,
    /// With the key that may not.
    pub(crate) is_forbidden: bool,
    /// With the key that may write `cars` and read nothing: it changes nothing and names nothing.
    pub(crate) is_blind: bool,
    /// Fails when its document is there.
    pub(crate) is_insert: bool,
    pub(crate) seen: Option<Seen>,
    /// The bytes of a text of the device's own in the document that is bound to `:bulk`; none for no argument.
    pub(crate) bulk_bytes: Option<usize>,
}

/// What a read asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// One document.
    Point(String),
    /// All documents of `cars`.
    Scan,
    /// At most this many.
    Some(usize),
}

/// The fields of one writer: one for single documents, one for those that are written together.
#[derive(Clone, Debug)]
pub(crate) struct Pen {
    pub(crate) single: WriterId,
    pub(crate) whole: WriterId,
    number: u64,
}

impl Pen {
    pub(crate) fn new(ledger: &mut Ledger) -> Self {
        Self { single: ledger.add_writer(), whole: ledger.add_writer(), number: 0 }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

impl Statement {
    fn new(text: String, effect: Effect) -> Self {
        Self {
            text,
            effect,
            target: None,
            read: None,
            is_v4: false,
            is_forbidden: false,
            is_blind: false,
            is_insert: false,
            seen: None,
            bulk_bytes: None,
        }
    }

    fn at(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    fn read(text: String, read: Read) -> Self {
        Self { read: Some(read), ..Self::new(text, Effect::Other) }
    }

    /// What a client of the server does next.
    pub(crate) fn for_client(pen: &mut Pen, is_finale: bool, rng: &mut Rng) -> Self {
        if is_finale && rng.one_in(2) {
            return contend(FINALE_KEPT, rng);
        }
        match rng.below(100) {
            0..=3 => misc_of_client(pen, rng),
            4..=6 => forbidden(rng),
            7..=8 => blind(rng),
            _ => Self::common(pen, rng),
        }
    }

    /// What the application on a device does next.
    pub(crate) fn for_device(pen: &mut Pen, number: usize, is_finale: bool, rng: &mut Rng) -> Self {
        if is_finale && rng.one_in(2) {
            return contend(FINALE_KEPT, rng);
        }
        match rng.below(100) {
            0..=2 => secret(number, rng),
            3..=8 => misc_of_device(pen, rng),
            _ => Self::common(pen, rng),
        }
    }

    /// A statement of the application on a device, now and then, where documents are large.
    pub(crate) fn bulk(bulk: Bulk, number: usize, rng: &mut Rng) -> Option<Self> {
        let (id, bytes) = match bulk {
            Bulk::None => return None,
            Bulk::Grown => (GROWN.to_owned(), 38_000 + rng.below(6_000)),
            // Edits that do not know each other add up: those of two devices are as much as a merge may make.
            Bulk::Large if number > LARGE_WRITERS => return None,
            Bulk::Large => (large(rng), 1 + rng.below(3 << 20)),
        };
        let text = "INSERT INTO misc DOCUMENTS (:bulk) ON ID CONFLICT DO UPDATE".to_owned();
        let bulk_bytes = Some(bytes as usize);
        let seen = Some(Seen::BulkWritten);
        Some(Self { bulk_bytes, seen, ..Self::new(text, Effect::Other).at(&id) })
    }

    fn common(pen: &mut Pen, rng: &mut Rng) -> Self {
        if rng.one_in(120) {
            return insert_many(pen, rng);
        }
        match rng.below(100) {
            0..=17 => set(pen, rng),
            18..=22 => set_and_move(pen, rng),
            23..=25 => contend(KEPT, rng),
            26..=36 => set_together(pen),
            37..=46 => increment(rng),
            47..=58 => insert(pen, rng),
            59..=62 => upsert(pen, rng),
            63..=66 => delete_one(rng),
            67..=68 => delete_some(rng),
            69..=72 => set_some(pen, rng),
            73..=75 => objects(rng),
            76..=78 => contend(KEPT, rng),
            79..=81 => initial(rng),
            82..=89 => read_one("cars", any(rng)),
            90..=96 => Self::read("SELECT * FROM cars".into(), Read::Scan),
            _ => {
                let limit = 1 + rng.below(6) as usize;
                let text =
                    format!("SELECT * FROM cars WHERE grp < 2 ORDER BY _id DESC LIMIT {limit}");
                Self::read(text, Read::Some(limit))
            }
        }
    }
}

fn single(pen: &mut Pen) -> (Effect, String) {
    let (writer, number) = (pen.single, pen.next());
    (Effect::Set { writer, number }, format!("w{writer} = {number}"))
}

fn set(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let id = any(rng);
    let (effect, assignment) = single(pen);
    let text = format!("UPDATE cars SET {assignment} WHERE _id = '{id}'");
    Statement { is_v4: rng.one_in(3), ..Statement::new(text, effect).at(&id) }
}

fn set_and_move(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let id = any(rng);
    let (effect, assignment) = single(pen);
    let group = rng.below(GROUPS);
    let text = format!("UPDATE cars SET {assignment}, grp = {group} WHERE _id = '{id}'");
    Statement::new(text, effect).at(&id)
}

/// All documents that are never deleted, in one statement.
pub(crate) fn set_together(pen: &mut Pen) -> Statement {
    let (writer, number) = (pen.whole, pen.next());
    let text = format!("UPDATE cars SET w{writer} = {number} WHERE kind = 'k'");
    let effect = Effect::Set { writer, number };
    Statement { seen: Some(Seen::MultiPartitionCommit), ..Statement::new(text, effect) }
}

fn increment(rng: &mut Rng) -> Statement {
    if rng.one_in(4) {
        let text = "UPDATE cars APPLY n INCREMENT BY 1 WHERE kind = 'k'".to_owned();
        return Statement::new(text, Effect::Increment);
    }
    let id = kept(rng);
    let text = format!("UPDATE cars APPLY n INCREMENT BY 1 WHERE _id = '{id}'");
    Statement::new(text, Effect::Increment).at(&id)
}

fn insert(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let (writer, number) = (pen.single, pen.next());
    let mut ids: Vec<String> = (0..1 + rng.below(3)).map(|_| deleted(rng)).collect();
    ids.sort();
    ids.dedup();
    let documents: Vec<String> = ids
        .iter()
        .map(|id| {
            let group = rng.below(GROUPS);
            format!("({{'_id': '{id}', 'kind': 'd', 'grp': {group}, 'w{writer}': {number}}})")
        })
        .collect();
    let text = format!("INSERT INTO cars DOCUMENTS {}", documents.join(", "));
    let effect = Effect::Set { writer, number };
    let statement = Statement { is_insert: true, ..Statement::new(text, effect) };
    if ids.len() == 1 { statement.at(&ids[0]) } else { statement }
}

/// Documents that nobody touches again: what a peer once missed of them it misses for ever. Together they are more
/// than a small update takes.
fn insert_many(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let (writer, number) = (pen.single, pen.next());
    let documents: Vec<String> = (0..4 + rng.below(16))
        .map(|index| {
            let group = rng.below(GROUPS);
            format!(
                "({{'_id': 'u{writer}-{number}-{index}', 'grp': {group}, 'w{writer}': {number}}})"
            )
        })
        .collect();
    let text = format!("INSERT INTO cars DOCUMENTS {}", documents.join(", "));
    Statement::new(text, Effect::Set { writer, number })
}

fn upsert(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let id = deleted(rng);
    let (writer, number) = (pen.single, pen.next());
    let conflict = ["DO UPDATE", "DO NOTHING", "DO UPDATE_LOCAL_DIFF"][rng.below(3) as usize];
    let group = rng.below(GROUPS);
    let text = format!(
        "INSERT INTO cars DOCUMENTS ({{'_id': '{id}', 'kind': 'd', 'grp': {group}, 'w{writer}': {number}}}) \
         ON ID CONFLICT {conflict}"
    );
    Statement::new(text, Effect::Set { writer, number }).at(&id)
}

fn delete_one(rng: &mut Rng) -> Statement {
    let id = deleted(rng);
    Statement::new(format!("DELETE FROM cars WHERE _id = '{id}'"), Effect::Delete).at(&id)
}

fn delete_some(rng: &mut Rng) -> Statement {
    let group = rng.below(GROUPS);
    let text =
        format!("DELETE FROM cars WHERE kind = 'd' AND grp = {group} ORDER BY _id DESC LIMIT 2");
    Statement::new(text, Effect::Delete)
}

fn set_some(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let (effect, assignment) = single(pen);
    let group = rng.below(GROUPS);
    let text = format!(
        "UPDATE cars SET {assignment} WHERE grp = {group} AND kind = 'd' ORDER BY _id LIMIT 3"
    );
    Statement::new(text, effect)
}

fn objects(rng: &mut Rng) -> Statement {
    let (id, number) = (any(rng), rng.below(1_000));
    let change = match rng.below(12) {
        0 => format!("SET obj = {{'x': {number}, 'z': {{'deep': true}}}}"),
        1 => format!("SET obj.y = {number}"),
        2 => "UNSET obj".to_owned(),
        3 => format!("SET list = [{number}, {number}]"),
        4 => format!("SET obj.z.deep = {{'a': {number}, 'b': [{number}, {{'c': {number}}}]}}"),
        5 => format!("SET obj.z.deep.b = [[{number}], []]"),
        6 => "UNSET obj.z".to_owned(),
        // A counter in what may be deleted, removed with what holds it, and set anew.
        7 | 8 => format!("APPLY obj.count INCREMENT BY {}", rng.below(5)),
        9 => format!("APPLY obj.count RESTART WITH {number}"),
        10 => "UNSET obj.count".to_owned(),
        _ => "UNSET obj.x".to_owned(),
    };
    let text = format!("UPDATE cars {change} WHERE _id = '{id}'");
    Statement { is_v4: rng.one_in(2), ..Statement::new(text, Effect::Other).at(&id) }
}

/// A register that everybody writes and removes: what was written beside a removal must outlive it everywhere.
/// It is one of the first `documents` that are never deleted.
fn contend(documents: u64, rng: &mut Rng) -> Statement {
    let (id, number) = (format!("k{}", rng.below(documents)), rng.below(1_000));
    let (change, effect) = match rng.one_in(3) {
        true => ("UNSET v".to_owned(), Effect::Remove),
        false => (format!("SET v = {number}"), Effect::Contend),
    };
    Statement::new(format!("UPDATE cars {change} WHERE _id = '{id}'"), effect).at(&id)
}

fn initial(rng: &mut Rng) -> Statement {
    let id = deleted(rng);
    let text =
        format!("INSERT INTO cars INITIAL DOCUMENTS ({{'_id': '{id}', 'kind': 'd', 'grp': 1}})");
    Statement { seen: Some(Seen::Initial), ..Statement::new(text, Effect::Other).at(&id) }
}

fn misc_of_client(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let id = evicted(rng);
    if rng.one_in(4) {
        let text = format!("EVICT FROM misc WHERE _id = '{id}'");
        let seen = Some(Seen::ServerEvict);
        return Statement { seen, ..Statement::new(text, Effect::Evict).at(&id) };
    }
    if rng.one_in(6) {
        return read_one("misc", id);
    }
    let id = if rng.one_in(2) { evicted_on_devices(rng) } else { id };
    let (writer, number) = (pen.single, pen.next());
    let text = format!(
        "INSERT INTO misc DOCUMENTS ({{'_id': '{id}', 'w{writer}': {number}}}) ON ID CONFLICT DO UPDATE"
    );
    Statement::new(text, Effect::Set { writer, number }).at(&id)
}

fn misc_of_device(pen: &mut Pen, rng: &mut Rng) -> Statement {
    let id = if rng.one_in(2) { evicted(rng) } else { evicted_on_devices(rng) };
    match rng.below(7) {
        0..=1 => {
            let text = format!("EVICT FROM misc WHERE _id = '{id}'");
            let seen = Some(Seen::LocalEvict);
            Statement { seen, ..Statement::new(text, Effect::Evict).at(&id) }
        }
        2 => read_one("misc", id),
        _ => {
            let (effect, assignment) = single(pen);
            let text = format!("UPDATE misc SET {assignment} WHERE _id = '{id}'");
            Statement::new(text, effect).at(&id)
        }
    }
}

/// A document that only few may write: where the server has refused it, it is at this device alone, and is not evicted.
fn secret(number: usize, rng: &mut Rng) -> Statement {
    let id = format!("s{number}-{}", rng.below(8));
    if rng.one_in(3) {
        let text = format!("EVICT FROM secret WHERE _id = '{id}'");
        let seen = Some(Seen::LocalEvict);
        return Statement { seen, ..Statement::new(text, Effect::Evict).at(&id) };
    }
    let text = format!("INSERT INTO secret DOCUMENTS ({{'_id': '{id}', 'v': 1}})");
    Statement::new(text, Effect::Other)
}

fn read_one(collection: &str, id: String) -> Statement {
    Statement::read(format!("SELECT * FROM {collection} WHERE _id = '{id}'"), Read::Point(id))
}

fn blind(rng: &mut Rng) -> Statement {
    let change = ["UPDATE cars SET blind = 1", "DELETE FROM cars"][rng.below(2) as usize];
    let condition = match rng.below(3) {
        0 => format!("_id = '{}'", kept(rng)),
        1 => format!("_id IN ('{}', '{}')", kept(rng), any(rng)),
        _ => "_id > 'a' ORDER BY w1 DESC LIMIT 2".to_owned(),
    };
    let text = format!("{change} WHERE {condition}");
    Statement { is_blind: true, ..Statement::new(text, Effect::Other) }
}

fn forbidden(rng: &mut Rng) -> Statement {
    let text = format!("INSERT INTO secret DOCUMENTS ({{'_id': 's0-{}'}})", rng.below(1_000_000));
    Statement { is_forbidden: true, ..Statement::new(text, Effect::Other) }
}
