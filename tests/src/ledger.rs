//! What writers asked for and what they were told, held against what a server shows after a crash.
//!
//! An acknowledged write must be there. A write whose answer never came may be there or not, but whole, and once it
//! has been looked up it must stay so. What nobody asked for must not be there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::server::Client;

/// How many documents a group has: all of them are inserted by one statement.
pub const GROUP_SIZE: usize = 5;

/// Whether a write was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With a 200.
    Acknowledged,
    /// The answer never came, or was that the outcome is unknown.
    Unknown,
}

/// A number that only rises: what was acknowledged, and what was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rising {
    /// The last value that was acknowledged.
    pub acknowledged: u64,
    /// The last value that was sent.
    pub asked: u64,
}

/// The notes of one writer. Writers share no ids, so that each knows all about its own.
#[derive(Clone, Debug)]
pub struct Notes {
    /// The writer's name, which begins its ids.
    pub name: String,
    /// How many ids it has made.
    pub id_count: u64,
    /// Documents inserted one by one.
    pub singles: BTreeMap<String, Fate>,
    /// Deletions of such documents.
    pub deletions: BTreeMap<String, Fate>,
    /// Groups of [`GROUP_SIZE`] documents.
    pub groups: BTreeMap<String, Fate>,
    /// A field that is set to ever greater numbers.
    pub register: Rising,
    /// Increments of the counter that all writers share.
    pub increments: Rising,
}

impl Notes {
    /// The empty notes of a number of writers.
    #[must_use]
    pub fn of_writers(count: usize) -> Vec<Self> {
        (0..count).map(|number| Self::new(format!("w{number}"))).collect()
    }

    fn new(name: String) -> Self {
        Self {
            name,
            id_count: 0,
            singles: BTreeMap::new(),
            deletions: BTreeMap::new(),
            groups: BTreeMap::new(),
            register: Rising::default(),
            increments: Rising::default(),
        }
    }

    /// How many writes were acknowledged, groups and deletions counted once.
    #[must_use]
    pub fn acknowledged_count(&self) -> u64 {
        let maps = [&self.singles, &self.deletions, &self.groups];
        let fates = maps.into_iter().flat_map(BTreeMap::values);
        let count = fates.filter(|&&fate| fate == Fate::Acknowledged).count() as u64;
        count + self.register.acknowledged + self.increments.acknowledged
    }
}

/// Holds the notes of all writers against the server, and settles what was unknown.
///
/// # Panics
///
/// When an acknowledged write is missing, half a write is visible, or there is something that nobody wrote.
pub fn check(notes: &mut [Notes], client: &mut Client) {
    let singles = ids(client, "SELECT _id FROM singles");
    let members = ids(client, "SELECT _id FROM members");
    let mut known = BTreeSet::new();
    let mut known_members = BTreeSet::new();
    for notes in notes.iter_mut() {
        known.extend(notes.singles.keys().cloned());
        known_members.extend(notes.groups.keys().flat_map(|group| members_of(group)));
        check_singles(notes, &singles);
        check_groups(notes, &members);
        check_register(notes, client);
    }
    let strange: Vec<_> =
        singles.difference(&known).chain(members.difference(&known_members)).collect();
    assert!(strange.is_empty(), "nobody wrote {strange:?}");
    check_counter(notes, client);
}

/// The ids of the members of a group.
pub fn members_of(group: &str) -> impl Iterator<Item = String> {
    (0..GROUP_SIZE).map(move |member| format!("{group}-{member}"))
}

fn check_singles(notes: &mut Notes, found: &BTreeSet<String>) {
    let Notes { singles, deletions, .. } = notes;
    singles.retain(|id, fate| {
        let is_there = found.contains(id);
        match (deletions.get(id), *fate) {
            (Some(Fate::Acknowledged), _) => assert!(!is_there, "{id} was deleted, and is back"),
            (None, Fate::Acknowledged) => assert!(is_there, "{id} was acknowledged, and is lost"),
            (Some(Fate::Unknown), _) | (None, Fate::Unknown) => {}
        }
        *fate = Fate::Acknowledged;
        // An id that was acknowledged and deleted is remembered: it must not come back.
        is_there || deletions.contains_key(id)
    });
    deletions.retain(|id, fate| {
        *fate = Fate::Acknowledged;
        !found.contains(id)
    });
}

fn check_groups(notes: &mut Notes, found: &BTreeSet<String>) {
    notes.groups.retain(|group, fate| {
        let count = members_of(group).filter(|member| found.contains(member)).count();
        match *fate {
            Fate::Acknowledged => assert_eq!(count, GROUP_SIZE, "group {group} is not whole"),
            Fate::Unknown => assert!(
                count == 0 || count == GROUP_SIZE,
                "half a transaction: {count} of {GROUP_SIZE} in group {group}"
            ),
        }
        *fate = Fate::Acknowledged;
        count > 0
    });
}

fn check_register(notes: &mut Notes, client: &mut Client) {
    let row = client.select("SELECT * FROM registers WHERE _id = :id", &json!({"id": notes.name}));
    let value = row.first().and_then(|row| row["value"].as_u64()).unwrap_or(0);
    let Rising { acknowledged, asked } = notes.register;
    assert!(
        (acknowledged..=asked).contains(&value),
        "register {} holds {value}; {acknowledged} was acknowledged, {asked} asked for",
        notes.name
    );
    notes.register = Rising { acknowledged: value, asked: value };
}

fn check_counter(notes: &mut [Notes], client: &mut Client) {
    let rows = client.select("SELECT * FROM counters", &json!({}));
    let value = rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0);
    let sum = |part: fn(&Rising) -> u64| notes.iter().map(|it| part(&it.increments)).sum::<u64>();
    let (acknowledged, asked) = (sum(|it| it.acknowledged), sum(|it| it.asked));
    assert!(
        (acknowledged..=asked).contains(&value),
        "the counter is {value} after {acknowledged} acknowledged of {asked} increments"
    );
    // Whose increments are in doubt cannot be told: the first writer takes them on.
    for notes in notes.iter_mut() {
        notes.increments = Rising::default();
    }
    notes[0].increments = Rising { acknowledged: value, asked: value };
}

fn ids(client: &mut Client, statement: &str) -> BTreeSet<String> {
    let rows = client.select(statement, &json!({}));
    let ids = rows.iter().map(|row: &Value| row["_id"].as_str().expect("our ids are text"));
    ids.map(str::to_owned).collect()
}
