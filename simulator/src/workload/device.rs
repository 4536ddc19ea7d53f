//! Devices: an application that edits its own store, connected or not.

use std::collections::BTreeSet;

use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::document::Document;
use bigpeer_core::ident::{Dot, LogId, Txn, Uuid};
use bigpeer_core::node::{EpochRecord, ObjectMode, Request};
use bigpeer_core::rng::Rng;
use bigpeer_core::sync::DocKey;
use bigpeer_core::value::{Object, Value};

use super::client::{Asked, local};
use super::documents::{CARS, GROUPS, KEPT};
use super::statement::{Pen, Statement};
use crate::check::Failure;
use crate::check::ledger::{Effect, End, Ledger, SiteId};
use crate::profile::{Profile, Rights, own_key};
use crate::shape::Bulk;
use crate::world::api::Answer;
use crate::world::clock::{MS, SECOND};
use crate::world::network::{ConnectionId, Owner};
use crate::world::process::{ProcessId, SERVER};
use crate::world::{Asker, Event, World};

/// What a device asks the server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// All of `cars`.
    Everything,
    /// One group.
    Group(u64),
    /// The groups below this one.
    Below(u64),
    /// Those whose id begins with these letters.
    Prefix(&'static str),
    /// Nothing of `cars`.
    Nothing,
}

impl Interest {
    /// True when a document is asked for.
    pub(crate) fn asks_for(&self, collection: &str, id: &str, document: &Document) -> bool {
        let group = document.to_object().get("grp").and_then(Value::as_u64);
        match self {
            _ if collection != CARS => collection == "misc",
            Self::Everything => true,
            Self::Group(wanted) => group == Some(*wanted),
            Self::Below(limit) => group.is_some_and(|group| group < *limit),
            Self::Prefix(prefix) => id.starts_with(prefix),
            Self::Nothing => false,
        }
    }

    /// True when a document of `cars` can leave by being edited.
    pub(crate) const fn goes_by_content(&self) -> bool {
        matches!(self, Self::Group(_) | Self::Below(_))
    }

    /// True when documents of a collection are asked for.
    pub(crate) fn has_collection(&self, collection: &str) -> bool {
        collection == "misc" || (collection == CARS && *self != Self::Nothing)
    }
}

/// A copy of a device's disk.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    pub(crate) disk: VirtualDisk,
    pub(crate) log: Option<LogId>,
    pub(crate) guard: Option<EpochRecord>,
    /// The boot of the kernel at that moment.
    pub(crate) kernel: Uuid,
    pub(crate) at_ns: u64,
    /// The last position that was durable in it.
    pub(crate) durable: Txn,
}

/// The application on one device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) site: SiteId,
    pub(crate) connection: Option<ConnectionId>,
    /// What the network lets through: to the server, from the server.
    pub(crate) blocked: [bool; 2],
    pub(crate) rights: Rights,
    /// Whose key it has: the number of the first device that had it.
    pub(crate) key: usize,
    /// A reconciliation has begun and not been seen to end: transactions may be here in part.
    pub(crate) is_partial: bool,
    /// Documents of the server's that it refused for its clock and has not taken since.
    pub(crate) refused: BTreeSet<DocKey>,
    pub(crate) interest: Interest,
    pub(crate) backup: Option<Backup>,
    /// In the last phase: whether it is its turn, and whether it has said that it is in sync.
    pub(crate) is_active: bool,
    pub(crate) is_synced: bool,
    /// It was put back to an earlier image, and writes nothing before a session is past its introductions.
    pub(crate) waits_for_session: bool,
    /// The connection whose session is past its introductions.
    pub(crate) ready: Option<ConnectionId>,
    /// Its application has written nothing yet.
    is_new: bool,
    asked: Option<Asked>,
    /// Edits of its own in the document that it has asked to evict.
    evicting: Vec<Dot>,
    number: usize,
    pen: Pen,
    rng: Rng,
}

impl Device {
    pub(crate) fn new(
        site: SiteId,
        number: usize,
        rights: Rights,
        ledger: &mut Ledger,
        mut rng: Rng,
    ) -> Self {
        ledger.set_rights(site, number, rights.clone());
        let mut device = Self {
            site,
            connection: None,
            blocked: [false; 2],
            rights,
            key: number,
            is_partial: true,
            refused: BTreeSet::new(),
            interest: Interest::Everything,
            backup: None,
            is_active: false,
            is_synced: false,
            waits_for_session: false,
            ready: None,
            is_new: true,
            asked: None,
            evicting: Vec::new(),
            number,
            pen: Pen::new(ledger),
            rng: rng.split(),
        };
        device.choose_interest(&mut rng);
        device
    }

    /// A device with a copy of this one's disk.
    pub(crate) fn twin(&self, site: SiteId, number: usize, ledger: &mut Ledger, rng: Rng) -> Self {
        let twin = Self::new(site, number, self.rights.clone(), ledger, rng);
        ledger.set_rights(site, self.key, self.rights.clone());
        Self { key: self.key, ..twin }
    }

    /// What it does from now on is judged by itself.
    pub(crate) fn begin_site(&mut self, site: SiteId, ledger: &mut Ledger) {
        self.site = site;
        ledger.set_rights(site, self.key, self.rights.clone());
        self.is_partial = true;
        self.pen = Pen::new(ledger);
    }

    pub(crate) fn choose_interest(&mut self, rng: &mut Rng) {
        self.interest = match rng.below(9) {
            0..=2 => Interest::Everything,
            3..=4 => Interest::Group(rng.below(GROUPS)),
            8 => Interest::Prefix(PREFIXES[rng.below(PREFIXES.len() as u64) as usize]),
            5..=6 => Interest::Below(1 + rng.below(GROUPS - 1)),
            _ => Interest::Nothing,
        };
    }

    pub(crate) fn queries(&self) -> Vec<(Box<str>, Object)> {
        let mut args = Object::default();
        let cars = match self.interest {
            Interest::Everything => "SELECT * FROM cars".to_owned(),
            // Half of the devices bind arguments.
            Interest::Group(group) if self.number.is_multiple_of(2) => {
                args.insert("group", Value::from(group));
                "SELECT * FROM cars WHERE grp = :group".to_owned()
            }
            Interest::Group(group) => format!("SELECT * FROM cars WHERE grp = {group}"),
            Interest::Below(2) if self.number.is_multiple_of(2) => {
                "SELECT * FROM cars WHERE grp IN (0, 1)".to_owned()
            }
            Interest::Below(group) => format!("SELECT * FROM cars WHERE grp < {group}"),
            Interest::Prefix(prefix) => format!("SELECT * FROM cars WHERE _id LIKE '{prefix}%'"),
            Interest::Nothing => return vec![("SELECT * FROM misc".into(), args)],
        };
        vec![("SELECT * FROM misc".into(), Object::default()), (cars.into(), args)]
    }

    /// The credential that it shows the server: half of those that may do everything have the development token, whose
    /// rights never change.
    pub(crate) fn token(&self) -> String {
        if self.has_own_key() { own_key(self.key).0 } else { "dev".into() }
    }

    pub(crate) fn has_own_key(&self) -> bool {
        self.key % 2 == 1 || self.rights.first() != Profile::Everything
    }
}

impl World {
    /// The application on a device does the next thing.
    pub(crate) fn device_turn(&mut self, id: ProcessId) {
        if !self.is_working() || !self.is_ready(id) || self.devices[id - 1].asked.is_some() {
            return;
        }
        if self.devices[id - 1].waits_for_session {
            return self.clock.after(200 * MS, Event::DeviceTurn(id));
        }
        let (now_ns, is_finale) = (self.clock.now_ns(), self.is_finale());
        let device = &mut self.devices[id - 1];
        let (pen, rng) = (&mut device.pen, &mut device.rng);
        // The texts of devices that do not know each other add up: each writes its first before it has heard of any.
        let is_due = match self.bulk {
            Bulk::None => false,
            Bulk::Grown => std::mem::take(&mut device.is_new) || rng.one_in(BULK_ONE_IN),
            Bulk::Large => rng.one_in(BULK_ONE_IN),
        };
        let bulk = if is_due { self.bulk } else { Bulk::None };
        let statement = Statement::bulk(bulk, device.number, rng)
            .unwrap_or_else(|| Statement::for_device(pen, device.number, is_finale, rng));
        let site = device.site;
        let op = self.ledger.begin(site, statement.effect, statement.target.clone(), now_ns);
        self.line(format!("device {id} does {}", statement.text));
        let mut execute = local(&statement.text, self.deadline(id, 20 * SECOND));
        if statement.is_v4 {
            execute.mode = ObjectMode::Register;
        }
        if let Some(bytes) = statement.bulk_bytes {
            let target = statement.target.as_deref().unwrap_or_default();
            let mut document = Object::default();
            document.insert("_id", Value::from(target));
            document.insert(format!("bulk{id}"), Value::from("x".repeat(bytes)));
            execute.args.insert("bulk", Value::Object(document));
        }
        let held = self.note_held(id, op, &statement);
        if statement.effect == Effect::Evict {
            let local = self.documents(id);
            let site = self.processes[id].peer_key.site();
            let target = statement.target.as_deref().unwrap_or_default();
            self.devices[id - 1].evicting = local.edits_of(target, site);
        }
        let (profile, newest_txn) = (Profile::Everything, 0);
        let is_whole = self.is_whole_at(site);
        let asked = Asked { op, statement, asked_ns: now_ns, profile, held, newest_txn, is_whole };
        self.devices[id - 1].asked = Some(asked);
        self.ask(id, 0, Request::Execute(execute), Asker::Local { rows: Vec::new() });
    }

    pub(crate) fn on_local_answer(&mut self, id: ProcessId, answer: Answer) {
        let Some(asked) = self.devices[id - 1].asked.take() else { return };
        let site = self.devices[id - 1].site;
        self.judge_answer(&format!("device {id}"), site, &asked, &answer);
        if asked.statement.effect == Effect::Evict && !answer.mutated.is_empty() {
            self.judge_local_eviction(id, asked.statement.target.as_deref().unwrap_or_default());
        }
        let delay_ns = self.delays.below(150 * MS);
        self.clock.after(delay_ns, Event::DeviceTurn(id));
    }

    /// A device has evicted a document: its edits there are known to the server, or evicted there.
    fn judge_local_eviction(&mut self, id: ProcessId, target: &str) {
        let dots = std::mem::take(&mut self.devices[id - 1].evicting);
        // A server that was put back has lost what it had acknowledged, and no device can know yet.
        if !self.is_ready(SERVER) || self.ledger.is_server_put_back() {
            return;
        }
        let server = self.documents(SERVER);
        if let Some(dot) = dots.iter().find(|dot| !self.evicted.is_known(target, **dot, &server)) {
            let text = format!("device {id} evicts {target}, and nobody else has {dot:?}");
            self.fail(Failure::new("acknowledged write lost", text));
        }
    }

    /// The device went down before it answered its application.
    pub(crate) fn on_local_vanished(&mut self, id: ProcessId) {
        if let Some(asked) = self.devices[id - 1].asked.take() {
            self.ledger.end(asked.op, End::Unknown, self.clock.now_ns());
            self.devices[id - 1].pen = Pen::new(&mut self.ledger);
        }
    }

    /// Whether a device takes all of `cars`, update by update, so that it has each transaction whole or not at all.
    pub(crate) fn is_whole_at(&self, site: SiteId) -> bool {
        let now_ns = self.clock.now_ns();
        self.devices.iter().any(|device| {
            device.site == site
                && device.interest == Interest::Everything
                // Until a change of its key is made, the server may go by the former rights, or know no such key.
                && !device.rights.is_changing(now_ns)
                && (0..KEPT).all(|id| device.rights.must_read(CARS, &format!("k{id}")))
                && !device.is_partial
        })
    }

    /// Connects a device that should be connected, or tries again later.
    pub(crate) fn device_connects(&mut self, id: ProcessId) {
        if self.devices[id - 1].connection.is_some() || !self.wants_connection(id) {
            return;
        }
        if self.is_ready(SERVER) && self.is_ready(id) {
            let connection = self.connect(Owner::Device(id));
            self.devices[id - 1].connection = Some(connection);
            return;
        }
        let delay_ns = 50 * MS + self.delays.below(200 * MS);
        self.clock.after(delay_ns, Event::Connect(id));
    }

    pub(crate) fn on_device_lost(&mut self, id: ProcessId, connection: ConnectionId) {
        if self.devices[id - 1].connection == Some(connection) {
            self.devices[id - 1].connection = None;
            let delay_ns = 10 * MS + self.delays.below(400 * MS);
            self.clock.after(delay_ns, Event::Connect(id));
        }
    }
}

/// Where documents are large, one of so many statements writes one.
const BULK_ONE_IN: u64 = 16;

/// Beginnings of the ids that statements ask for.
const PREFIXES: [&str; 3] = ["d1", "k", "d"];
