//! Devices: an application that edits its own store, connected or not.

use bigpeer_core::disk_sim::VirtualDisk;
use bigpeer_core::document::Document;
use bigpeer_core::ident::{LogId, Txn};
use bigpeer_core::node::{ObjectMode, Request};
use bigpeer_core::rng::Rng;
use bigpeer_core::value::{Object, Value};

use super::client::{Asked, local};
use super::documents::GROUPS;
use super::statement::{Pen, Statement};
use crate::check::ledger::{End, Ledger, SiteId};
use crate::profile::Profile;
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
    /// Nothing of `cars`.
    Nothing,
}

/// A copy of a device's disk.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    pub(crate) disk: VirtualDisk,
    pub(crate) log: Option<LogId>,
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
    pub(crate) profile: Profile,
    pub(crate) interest: Interest,
    pub(crate) backup: Option<Backup>,
    /// In the last phase: whether it is its turn, and whether it has said that it is in sync.
    pub(crate) is_active: bool,
    pub(crate) is_synced: bool,
    /// The connection whose session is past its introductions.
    pub(crate) ready: Option<ConnectionId>,
    asked: Option<Asked>,
    number: usize,
    pen: Pen,
    rng: Rng,
}

impl Device {
    pub(crate) fn new(
        site: SiteId,
        number: usize,
        profile: Profile,
        ledger: &mut Ledger,
        mut rng: Rng,
    ) -> Self {
        ledger.set_profile(site, profile);
        let mut device = Self {
            site,
            connection: None,
            blocked: [false; 2],
            profile,
            interest: Interest::Everything,
            backup: None,
            is_active: false,
            is_synced: false,
            ready: None,
            asked: None,
            number,
            pen: Pen::new(ledger),
            rng: rng.split(),
        };
        device.choose_interest(&mut rng);
        device
    }

    /// A device with a copy of this one's disk.
    pub(crate) fn twin(&self, site: SiteId, number: usize, ledger: &mut Ledger, rng: Rng) -> Self {
        Self::new(site, number, self.profile, ledger, rng)
    }

    /// What it does from now on is judged by itself.
    pub(crate) fn begin_site(&mut self, site: SiteId, ledger: &mut Ledger) {
        self.site = site;
        ledger.set_profile(site, self.profile);
        self.pen = Pen::new(ledger);
    }

    pub(crate) fn choose_interest(&mut self, rng: &mut Rng) {
        self.interest = match rng.below(8) {
            0..=2 => Interest::Everything,
            3..=4 => Interest::Group(rng.below(GROUPS)),
            5..=6 => Interest::Below(1 + rng.below(GROUPS - 1)),
            _ => Interest::Nothing,
        };
    }

    pub(crate) fn queries(&self) -> Vec<(Box<str>, Object)> {
        let mut texts = vec!["SELECT * FROM misc".to_owned()];
        match self.interest {
            Interest::Everything => texts.push("SELECT * FROM cars".into()),
            Interest::Group(group) => texts.push(format!("SELECT * FROM cars WHERE grp = {group}")),
            Interest::Below(group) => texts.push(format!("SELECT * FROM cars WHERE grp < {group}")),
            Interest::Nothing => {}
        }
        texts.into_iter().map(|text| (text.into(), Object::default())).collect()
    }

    /// True when it asks for this document.
    pub(crate) fn asks_for(&self, collection: &str, document: &Document) -> bool {
        let group = document.to_object().get("grp").and_then(Value::as_u64);
        match self.interest {
            _ if collection != "cars" => collection == "misc",
            Interest::Everything => true,
            Interest::Group(wanted) => group == Some(wanted),
            Interest::Below(limit) => group.is_some_and(|group| group < limit),
            Interest::Nothing => false,
        }
    }

    pub(crate) fn has_collection(&self, collection: &str) -> bool {
        collection == "misc" || (collection == "cars" && self.interest != Interest::Nothing)
    }

    /// What it shows the server: whoever may do everything has the development token.
    pub(crate) fn token(&self) -> &'static str {
        if self.profile == Profile::Everything { "dev" } else { self.profile.key() }
    }
}

impl World {
    /// The application on a device does the next thing.
    pub(crate) fn device_turn(&mut self, id: ProcessId) {
        if !self.is_working() || !self.is_ready(id) || self.devices[id - 1].asked.is_some() {
            return;
        }
        let (now_ns, is_finale) = (self.clock.now_ns(), self.is_finale());
        let device = &mut self.devices[id - 1];
        let (pen, rng) = (&mut device.pen, &mut device.rng);
        let statement = Statement::for_device(pen, device.number, is_finale, rng);
        let site = device.site;
        let op = self.ledger.begin(site, statement.effect, statement.target.clone(), now_ns);
        self.line(format!("device {id} does {}", statement.text));
        let mut execute = local(&statement.text, self.deadline(id, 20 * SECOND));
        if statement.is_v4 {
            execute.mode = ObjectMode::Register;
        }
        let held = self.note_held(id, op, &statement);
        let profile = Profile::Everything;
        let asked = Asked { op, statement, asked_ns: now_ns, profile, held, newest_txn: 0 };
        self.devices[id - 1].asked = Some(asked);
        self.ask(id, 0, Request::Execute(execute), Asker::Local { rows: Vec::new() });
    }

    pub(crate) fn on_local_answer(&mut self, id: ProcessId, answer: Answer) {
        let Some(asked) = self.devices[id - 1].asked.take() else { return };
        let site = self.devices[id - 1].site;
        self.judge_answer(&format!("device {id}"), site, &asked, &answer);
        let delay_ns = self.delays.below(150 * MS);
        self.clock.after(delay_ns, Event::DeviceTurn(id));
    }

    /// The device went down before it answered its application.
    pub(crate) fn on_local_vanished(&mut self, id: ProcessId) {
        if let Some(asked) = self.devices[id - 1].asked.take() {
            self.ledger.end(asked.op, End::Unknown, self.clock.now_ns());
            self.devices[id - 1].pen = Pen::new(&mut self.ledger);
        }
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
