//! A rush: to one partition of a thread come more short reads than a moment has time for, moment after moment, and a few
//! to the others. Nothing else happens, and nothing goes wrong.

use std::collections::BTreeMap;

use bigpeer_core::ident::Slot;
use bigpeer_core::node::Request;
use bigpeer_core::value::canonical::encode_text_id;

use super::clock::{MS, SECOND, US};
use super::process::{APP, SERVER};
use super::{Asker, Event, World};
use crate::check::Documents;
use crate::check::fairness::{Read, judge};
use crate::coverage::Seen;
use crate::workload::client;
use crate::workload::documents::CARS;

/// The rush that is under way, or none.
#[derive(Debug, Default)]
pub(crate) struct Rush {
    pub(super) is_on: bool,
    thread: u16,
    /// A document of each node of the thread; all of the crowd ask for that of the first.
    ids: Vec<String>,
    reads: Vec<Read>,
}

impl Rush {
    /// Reads without an answer.
    pub(super) fn open(&self) -> usize {
        self.reads.iter().filter(|read| read.answered.is_none()).count()
    }
}

impl World {
    /// Begins a rush to a thread that has several partitions; false when there is none.
    pub(super) fn begin_rush(&mut self) -> bool {
        let held = self.documents(SERVER);
        let by_node = self.documents_by_node(&held);
        let thread = self.rushing.below(u64::from(self.threads(SERVER))) as u16;
        let mut ids: Vec<String> =
            by_node.into_iter().filter(|((of, _), _)| *of == thread).map(|(_, id)| id).collect();
        if ids.len() < 2 {
            return false;
        }
        // The first node of a thread answers for all.
        if self.rushing.one_in(2) {
            let place = self.rushing.below(ids.len() as u64) as usize;
            ids.swap(0, place);
        }
        self.line(format!("a rush for {ids:?} at thread {thread}"));
        self.saw(Seen::Rush);
        self.rush = Rush { is_on: true, thread, ids, reads: Vec::new() };
        for moment in 0..MOMENTS {
            self.clock.after(moment * MOMENT_NS, Event::Rush(moment));
        }
        self.clock.after(ENDS_NS, Event::RushEnds);
        true
    }

    /// One document of each node that has any, by thread and place.
    fn documents_by_node(&self, held: &Documents) -> BTreeMap<(u16, u16), String> {
        let (partitions, threads) = (self.processes[SERVER].partitions, self.threads(SERVER));
        let node_of = |(id, _): (String, _)| {
            let key = encode_text_id(&id).ok()?;
            let owner = Slot::of(APP, CARS, &key).partition(partitions).0;
            Some(((owner % threads, owner / threads), id))
        };
        held.visible(CARS).filter_map(node_of).collect()
    }

    /// A moment of the rush.
    pub(crate) fn rush(&mut self, moment: u64) {
        let thread = self.rush.thread;
        for _ in 0..CROWD {
            self.rush_for(thread, 0);
        }
        if moment == OTHERS_AT {
            for place in 1..self.rush.ids.len() {
                self.rush_for(thread, place);
            }
        }
    }

    fn rush_for(&mut self, thread: u16, place: usize) {
        let text = format!("SELECT _id FROM cars WHERE _id = '{}'", self.rush.ids[place]);
        let execute = client::local(&text, self.deadline(SERVER, 20 * SECOND));
        let asked = self.turns_of(SERVER, thread);
        let read = self.rush.reads.len();
        self.rush.reads.push(Read { is_of_crowd: place == 0, asked, answered: None });
        self.ask(SERVER, thread, Request::Execute(execute), Asker::Rush(read));
    }

    pub(super) fn on_rush_answer(&mut self, read: usize) {
        let answered = self.turns_of(SERVER, self.rush.thread);
        self.rush.reads[read].answered = Some(answered);
    }

    /// All of it is answered.
    pub(crate) fn end_rush(&mut self) {
        let rush = std::mem::take(&mut self.rush);
        self.line("the rush is over".into());
        if let Err(failure) = judge(&rush.reads) {
            return self.fail(failure);
        }
        self.end_living();
    }
}

/// Moments in which a crowd comes, and when it is that somebody comes to the others.
const MOMENTS: u64 = 40;
const OTHERS_AT: u64 = 3;

/// As long as a thread takes from one turn to the next.
const MOMENT_NS: u64 = 2 * US;

/// Reads that come in each moment: about twice as many as it has time for.
const CROWD: usize = 60;

/// A rush is over within this time.
const ENDS_NS: u64 = 50 * MS;
