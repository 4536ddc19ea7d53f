//! Guests: readers whose keys are revoked, narrowed, made anew and expire while their reads stream and their mutations
//! choose. A guest takes what it is sent in its own time, so that a read lives long. Its host changes its key.

use std::collections::{BTreeMap, BTreeSet};

use bigpeer_core::auth::{ApiKey, CatalogOp, Permissions};
use bigpeer_core::node::{Credential, ErrorKind, Execute, Outcome, Request};
use bigpeer_core::time::WallMs;
use bigpeer_core::value::{Value, json};

use super::clock::{MS, SECOND};
use super::process::{APP, SERVER, wall};
use super::{Asker, Event, Failure, World, final_phase};
use crate::check::Documents;
use crate::check::authority::{GRACE_NS, KeyHistory, Moment, Worth};
use crate::coverage::Seen;
use crate::profile::Profile;
use crate::workload::client;

/// One guest and its host.
#[derive(Debug)]
pub(crate) struct Guest {
    number: usize,
    history: KeyHistory,
    key: Key,
    /// The worth that the key was made with, and its end.
    made: (Worth, Option<WallMs>),
    /// The host waits for an answer to this.
    change: Option<Change>,
    has_documents: bool,
    asked_last: u64,
    open: BTreeMap<u64, Open>,
    /// The numbers of mutations that were refused for the key.
    refused: BTreeSet<u64>,
}

/// The keys of a guest's text, as far as its host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// A change without an answer has left one of them, both, or none.
    Unknown,
    Absent,
    Plain,
    /// A second one of another worth has the same text. Its name is the first, so it is the one that counts.
    Covered,
}

/// A change that a host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Documents,
    Make,
    Revoke,
    Cover,
    Uncover,
}

/// A statement of a guest that has no end yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    asked_ns: u64,
    is_read: bool,
    has_rows: bool,
}

impl Guest {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            history: KeyHistory::default(),
            key: Key::Unknown,
            made: (Worth::Nothing, None),
            change: None,
            has_documents: false,
            asked_last: 0,
            open: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    fn text(&self) -> String {
        format!("guest{:05}-key", self.number)
    }

    fn name(&self) -> Box<str> {
        format!("guest {}", self.number).into()
    }

    /// The name of the key that covers the other: it is the first of both.
    fn cover_name(&self) -> Box<str> {
        format!("cover {}", self.number).into()
    }

    fn key(&self, name: Box<str>, worth: Worth, expires: Option<WallMs>) -> ApiKey {
        let value = json::parse(worth.permissions().as_bytes(), json::Limits::default());
        let value = value.expect("the permissions of a worth are JSON");
        let permissions = Permissions::from_value(&value).expect("a worth is a permission");
        ApiKey {
            name,
            expires: expires.unwrap_or(WallMs(u64::MAX)),
            permissions: std::sync::Arc::new(permissions),
            ..final_phase::key("", &self.text(), Profile::Nothing)
        }
    }

    /// The field that a mutation of a guest writes.
    fn field(&self, ask: u64) -> String {
        format!("w{}x{ask}", self.number)
    }

    /// Nothing is written by a mutation that was refused for its key.
    pub(crate) fn judge_refused(&self, server: &Documents) -> Result<(), Failure> {
        let written = |ask: &&u64| {
            let field = self.field(**ask);
            server.visible(GUESTS).any(|(_, document)| document.to_object().get(&field).is_some())
        };
        match self.refused.iter().find(written) {
            Some(ask) => {
                let text =
                    format!("statement {ask} of guest {} was refused, and wrote", self.number);
                Err(Failure::new("authority", text))
            }
            None => Ok(()),
        }
    }
}

impl World {
    /// The host of a guest changes its key, or leaves it as it is for a while.
    pub(crate) fn host_turn(&mut self, place: usize) {
        if !self.is_working() || self.is_finale() {
            return;
        }
        let pause_ns = 50 * MS + self.visits.below(600 * MS);
        self.clock.after(pause_ns, Event::HostTurn(place));
        if self.guests[place].change.is_some() || !self.is_ready(SERVER) {
            return;
        }
        let thread = self.visits.below(u64::from(self.threads(SERVER))) as u16;
        if !self.guests[place].has_documents {
            self.guests[place].change = Some(Change::Documents);
            let execute = client::local(&documents(), self.deadline(SERVER, 20 * SECOND));
            self.ask(SERVER, thread, Request::Execute(execute), Asker::Host(place));
            return;
        }
        let (now_ns, is_other) = (self.clock.now_ns(), self.visits.one_in(2));
        let is_half = self.visits.one_in(3);
        let lent_ns = self.visits.below(2 * SECOND);
        let ends = wall(self.processes[SERVER].wall_offset_ms, now_ns + lent_ns);
        let guest = &mut self.guests[place];
        let change = match guest.key {
            // Whichever of the two is there is taken away: the one that covers first.
            Key::Unknown | Key::Covered => Change::Uncover,
            Key::Absent => Change::Make,
            Key::Plain if is_other => Change::Cover,
            Key::Plain => Change::Revoke,
        };
        guest.change = Some(change);
        let (worth, expires) = guest.made;
        let other = if worth == Worth::All { Worth::Half } else { Worth::All };
        let delete = |name| CatalogOp::DeleteKey { app: APP, name };
        let op = match change {
            Change::Make => {
                let worth = if is_half { Worth::Half } else { Worth::All };
                guest.made = (worth, is_other.then_some(ends));
                guest.history.ask(worth, guest.made.1, now_ns);
                CatalogOp::PutKey { app: APP, key: guest.key(guest.name(), worth, guest.made.1) }
            }
            Change::Cover => {
                guest.history.ask(other, None, now_ns);
                CatalogOp::PutKey { app: APP, key: guest.key(guest.cover_name(), other, None) }
            }
            Change::Uncover => {
                guest.history.ask(worth, expires, now_ns);
                delete(guest.cover_name())
            }
            Change::Revoke | Change::Documents => {
                guest.history.ask(Worth::Nothing, None, now_ns);
                delete(guest.name())
            }
        };
        self.line(format!("the key of guest {place}: {change:?}"));
        self.ask(SERVER, thread, Request::Catalog(vec![op]), Asker::Host(place));
    }

    pub(super) fn on_host_answer(&mut self, place: usize, outcome: &Outcome) {
        let now_ns = self.clock.now_ns();
        let guest = &mut self.guests[place];
        let Some(change) = guest.change.take() else { return };
        let kind = outcome.error.as_ref().map(|error| error.kind);
        // It may have been made by a change whose answer nobody heard.
        let is_made = kind.is_none() || kind == Some(ErrorKind::Conflict);
        if change == Change::Documents {
            guest.has_documents |= is_made;
            return;
        }
        if kind == Some(ErrorKind::OutcomeUnknown) {
            return self.on_host_vanished(place);
        }
        if !is_made {
            return guest.history.refused();
        }
        let was_unknown = guest.key == Key::Unknown;
        guest.key = match change {
            Change::Make | Change::Documents => Key::Plain,
            Change::Cover => Key::Covered,
            Change::Uncover => Key::Plain,
            Change::Revoke => Key::Absent,
        };
        if was_unknown {
            // The other key may be there, or not.
            return guest.history.lost();
        }
        guest.history.answered(now_ns);
        self.saw(Seen::GuestKeyChanged);
        self.clock.after(GRACE_NS + MS, Event::GuestCheck(place));
        let expires = self.guests[place].made.1.filter(|_| change == Change::Make);
        let shown = wall(self.processes[SERVER].wall_offset_ms, now_ns);
        if let Some(expires) = expires {
            let left_ns = expires.0.saturating_sub(shown.0) * MS;
            self.clock.after(left_ns + GRACE_NS + 2 * MS, Event::GuestCheck(place));
        }
    }

    /// Nobody will answer the host: the keys are as they may be.
    pub(super) fn on_host_vanished(&mut self, place: usize) {
        let guest = &mut self.guests[place];
        if guest.change.take() != Some(Change::Documents) {
            guest.key = Key::Unknown;
            guest.history.lost();
        }
    }

    /// A guest asks the next thing.
    pub(crate) fn guest_turn(&mut self, place: usize) {
        if !self.is_working() || self.is_finale() {
            return;
        }
        let pause_ns = MS + self.visits.below(150 * MS);
        self.clock.after(pause_ns, Event::GuestTurn(place));
        if self.guests[place].open.len() >= OPEN_MAX || !self.is_ready(SERVER) {
            return;
        }
        let (now_ns, drawn) = (self.clock.now_ns(), self.visits.below(10));
        let guest = &mut self.guests[place];
        guest.asked_last += 1;
        let (ask, token) = (guest.asked_last, guest.text());
        let text = match drawn {
            0..=4 => "SELECT * FROM guests".to_owned(),
            5 => "SELECT * FROM guests ORDER BY _id".to_owned(),
            6 => "SELECT * FROM guests WHERE _id = 'v3'".to_owned(),
            _ => {
                let (field, id) = (guest.field(ask), drawn);
                format!(
                    "UPDATE guests SET {field} = {ask} WHERE kind = 'v' AND _id <= 'v{}'",
                    id - 5
                )
            }
        };
        let is_read = drawn < 7;
        guest.open.insert(ask, Open { asked_ns: now_ns, is_read, has_rows: false });
        let deadline = self.deadline(SERVER, 20 * SECOND);
        let credential = Credential::Bearer(Some(token.into()));
        let execute = Execute { credential, ..client::local(&text, deadline) };
        let thread = self.visits.below(u64::from(self.threads(SERVER))) as u16;
        self.ask(SERVER, thread, Request::Execute(execute), Asker::Guest { guest: place, ask });
    }

    /// Rows leave for a guest. The answer is the time that it takes to read them.
    pub(super) fn on_guest_rows(&mut self, place: usize, ask: u64, rows: &[u8]) -> u64 {
        let moment = self.moment_of_guests();
        let guest = &mut self.guests[place];
        if let Some(open) = guest.open.get_mut(&ask) {
            open.has_rows = true;
            let asked_ns = open.asked_ns;
            if let Err(failure) = guest.history.judge_rows(asked_ns, &ids_of(rows), moment) {
                self.fail(failure);
            }
        }
        MS + self.visits.below(150 * MS)
    }

    pub(super) fn on_guest_answer(&mut self, place: usize, ask: u64, outcome: &Outcome) {
        let moment = self.moment_of_guests();
        let kind = outcome.error.as_ref().map(|error| error.kind);
        let guest = &mut self.guests[place];
        let Some(Open { asked_ns, is_read, has_rows }) = guest.open.remove(&ask) else { return };
        let judged = guest.history.judge_end(asked_ns, is_read, kind, moment);
        if kind == Some(ErrorKind::Unauthorized) {
            if !is_read {
                guest.refused.insert(ask);
            }
            if has_rows {
                self.saw(Seen::ReadEndedForKey);
            }
        }
        if let Err(failure) = judged {
            self.fail(failure);
        }
    }

    pub(super) fn on_guest_vanished(&mut self, place: usize, ask: u64) {
        self.guests[place].open.remove(&ask);
    }

    /// A change of a guest's key is in force: what went by the former worth has ended.
    pub(crate) fn check_guest(&mut self, place: usize) {
        let moment = self.moment_of_guests();
        let guest = &self.guests[place];
        let mut reads = guest.open.values().filter(|open| open.is_read);
        let judged = reads.try_for_each(|open| guest.history.judge_open(open.asked_ns, moment));
        if let Err(failure) = judged {
            self.fail(failure);
        }
    }

    fn moment_of_guests(&self) -> Moment {
        let at_ns = self.clock.now_ns();
        let wall = wall(self.processes[SERVER].wall_offset_ms, at_ns);
        Moment { at_ns, wall, steady_ns: self.server_jumped_ns }
    }
}

/// The texts of the ids in rows of an answer.
fn ids_of(rows: &[u8]) -> Vec<String> {
    let text = [b"[".as_slice(), rows, b"]"].concat();
    let Ok(Value::Array(rows)) = json::parse(&text, json::Limits::default()) else {
        return Vec::new();
    };
    let id = |row: &Value| Some(row.as_object()?.get("_id")?.as_str()?.to_owned());
    rows.iter().filter_map(id).collect()
}

/// Inserts the documents of guests.
fn documents() -> String {
    let text = "v".repeat(200);
    let documents: Vec<String> = (0..DOCUMENTS)
        .map(|index| format!("({{'_id': 'v{index}', 'kind': 'v', 'text': '{text}'}})"))
        .collect();
    format!("INSERT INTO {GUESTS} DOCUMENTS {}", documents.join(", "))
}

/// The collection of guests, which nobody else reads or writes.
const GUESTS: &str = "guests";

const DOCUMENTS: u64 = 10;

/// Statements that a guest has under way at once.
const OPEN_MAX: usize = 3;
