//! Races for the catalog: several operators make, change and delete apps and keys of the same names at once. They ask
//! different threads of the server.

use bigpeer_core::auth::{Catalog, CatalogOp, key_prefix};
use bigpeer_core::ident::{AppId, Uuid};
use bigpeer_core::node::{ErrorKind, Outcome, Request};

use super::clock::{MS, US};
use super::final_phase::key;
use super::process::{APP, SERVER};
use super::{Asker, Event, World};
use crate::check::catalog::{Answer, Asked, Change, Model, judge};
use crate::coverage::Seen;
use crate::profile::Profile;

/// The race under way, and what was stored before it.
#[derive(Debug, Default)]
pub(crate) struct Race {
    before: Model,
    /// So many are still to be asked.
    ahead: u64,
    asked: Vec<Asked>,
    secrets: u64,
}

impl World {
    /// The next race begins.
    pub(crate) fn race(&mut self) {
        if !self.is_working() || self.is_finale() {
            return;
        }
        if !self.is_catalog_steady() {
            return self.clock.after(100 * MS, Event::Race);
        }
        self.race.before = self.stored_of_races();
        self.race.asked.clear();
        self.race.ahead = 3 + self.racing.below(5);
        for _ in 0..self.race.ahead {
            let delay_ns = if self.racing.one_in(2) { 0 } else { self.racing.below(800 * US) };
            self.clock.after(delay_ns, Event::RaceAsk);
        }
        self.clock.after(RACE_NS, Event::RaceEnds);
    }

    /// One of the operators asks.
    pub(crate) fn race_ask(&mut self) {
        self.race.ahead -= 1;
        if !self.is_ready(SERVER) {
            return;
        }
        let app = self.racing.below(2) as u8;
        let name = ["race desk", "race till"][self.racing.below(2) as usize];
        let change = match self.racing.below(8) {
            0..=2 => {
                self.race.secrets += 1;
                Change::PutKey { app, name, secret: format!("race{:06}", self.race.secrets) }
            }
            3..=4 => Change::DeleteKey { app, name },
            5..=6 => {
                let name = ["race branch", "race depot"][self.racing.below(2) as usize];
                Change::PutApp { app: 1 + app, name }
            }
            _ => Change::DeleteApp { app: 1 + app },
        };
        let op = match &change {
            Change::PutKey { app, name, secret } => {
                let key = key(name, &format!("{secret}-key"), Profile::Nothing);
                CatalogOp::PutKey { app: id_of(*app), key }
            }
            Change::DeleteKey { app, name } => {
                CatalogOp::DeleteKey { app: id_of(*app), name: (*name).into() }
            }
            Change::PutApp { app, name } => {
                let name = (*name).into();
                CatalogOp::PutApp { app: id_of(*app), name, development_token: None }
            }
            Change::DeleteApp { app } => CatalogOp::DeleteApp { app: id_of(*app) },
        };
        let place = self.race.asked.len();
        let (asked_ns, answer) = (self.clock.now_ns(), Answer::Unknown);
        self.race.asked.push(Asked { change, asked_ns, answer, answered_ns: u64::MAX });
        let thread = self.racing.below(u64::from(self.threads(SERVER))) as u16;
        self.ask(SERVER, thread, Request::Catalog(vec![op]), Asker::Racer(place));
    }

    pub(super) fn on_race_answer(&mut self, place: usize, outcome: &Outcome) {
        let answer = match outcome.error.as_ref().map(|error| error.kind) {
            None => Answer::Made,
            Some(ErrorKind::Conflict) => Answer::Conflict,
            Some(ErrorKind::OutcomeUnknown) => Answer::Unknown,
            Some(_) => Answer::Refused,
        };
        if answer == Answer::Conflict {
            self.saw(Seen::RaceLost);
        }
        let asked = &mut self.race.asked[place];
        (asked.answer, asked.answered_ns) = (answer, self.clock.now_ns());
    }

    /// The race is judged once all have an answer, or none will come.
    pub(crate) fn end_race(&mut self) {
        if self.race.ahead > 0 || !self.is_catalog_steady() {
            return self.clock.after(RACE_NS, Event::RaceEnds);
        }
        let stored = self.stored_of_races();
        if let Err(failure) = judge(&self.race.before, &self.race.asked, &stored) {
            self.fail(failure);
        }
        let pause_ns = self.racing.below(600 * MS);
        self.clock.after(pause_ns, Event::Race);
    }

    /// The server is there, and what it has of the catalog will not be more or less but by what is asked from here on. Once
    /// its log has failed, its next start tells what of the last changes was made.
    fn is_catalog_steady(&self) -> bool {
        let is_asked = |asker: &Asker| matches!(asker, Asker::Racer(_));
        self.processes[SERVER].running.as_ref().is_some_and(|running| {
            running.is_ready && !running.has_failed && !running.askers.values().any(is_asked)
        })
    }

    /// The part of the catalog that is raced for, as partition 0 has it.
    fn stored_of_races(&self) -> Model {
        let Some(running) = &self.processes[SERVER].running else { return Model::default() };
        model_of(running.racks[0].nodes()[0].catalog())
    }
}

fn model_of(catalog: &Catalog) -> Model {
    let app = |number: u8| {
        let app = catalog.app(id_of(number))?;
        let keys = app.keys().filter(|key| key.name.starts_with("race"));
        let keys = keys.map(|key| (key.name.to_string(), key_prefix(&key.prefix).to_owned()));
        Some((number, (app.name.to_string(), keys.collect())))
    };
    Model { apps: (0..3).filter_map(app).collect() }
}

/// The id of an app by its number. The first is that of all documents, which is neither changed nor deleted.
fn id_of(number: u8) -> AppId {
    if number == 0 { APP } else { AppId(Uuid([0xB0 + number; 16])) }
}

/// A race that nothing delays is over within this time.
const RACE_NS: u64 = 60 * MS;
