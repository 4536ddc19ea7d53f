//! The turns of threads. A thread of a server looks at its clocks and at the durable position of the log when its turn
//! begins, and takes what has come in the meantime by what it saw then. Each thread looks for itself, so a message of a
//! thread that has looked later reaches one that knows of less.

use bigpeer_core::ident::Txn;
use bigpeer_core::node::{Rack, RackInput};
use bigpeer_core::seam::Now;

use super::World;
use super::clock::{MS, US};
use super::process::{ProcessId, Running};
use crate::coverage::Seen;

/// The present turn of one thread, or its last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    now: Now,
    /// An input that comes later than this begins a new turn.
    ends_ns: u64,
    /// The number of turns that the thread has begun.
    count: u64,
    /// The oldest transaction that the thread may still read at, as it told the others when the turn began.
    oldest_read: Txn,
}

impl World {
    /// The moment of an input as its thread sees it.
    pub(super) fn now_of_thread(&mut self, id: ProcessId, thread: u16, input: &RackInput) -> Now {
        let place = usize::from(thread);
        let is_over = self.processes[id]
            .running
            .as_ref()
            .is_none_or(|running| running.turns[place].ends_ns < self.clock.now_ns());
        if is_over {
            self.begin_turn(id, thread);
        }
        let running = self.processes[id].running.as_mut().expect("only a running process is asked");
        let (turn, durable) = (&mut running.turns[place].now, running.durable);
        let mut now = *turn;
        match input {
            // A commit tells its position to whoever hears of it.
            RackInput::Committed { upto, .. } => turn.durable = (*upto).max(turn.durable),
            // Whoever sent bytes may have heard of what became durable since the turn began, so they are taken by another
            // look. A driver may go by that one for the rest of the turn, or for these bytes alone.
            RackInput::Request { .. } | RackInput::Session { .. } => {
                now.durable = durable;
                if self.turns.one_in(4) {
                    turn.durable = durable;
                }
            }
            _ => {}
        }
        now.durable = now.durable.max(turn.durable);
        if let RackInput::Message(message) = input
            && message.watermark > now.durable
        {
            self.saw(Seen::PositionAhead);
        }
        now
    }

    /// The number of turns that a thread has begun since its process started.
    pub(super) fn turns_of(&self, id: ProcessId, thread: u16) -> u64 {
        let running = self.processes[id].running.as_ref();
        running.map_or(0, |running| running.turns[usize::from(thread)].count)
    }

    /// A thread looks at what it goes by from here on.
    pub(super) fn begin_turn(&mut self, id: ProcessId, thread: u16) {
        let is_long = self.turns.one_in(50);
        let most_ns = if is_long { self.turn_ns.max(MS) } else { self.turn_ns };
        let ends_ns = self.clock.now_ns() + self.turns.below(most_ns);
        let now = self.now_of(id);
        let running = self.processes[id].running.as_mut().expect("only a running process is asked");
        running.begin_turn(thread, now, ends_ns);
    }
}

impl Running {
    fn begin_turn(&mut self, thread: u16, now: Now, ends_ns: u64) {
        let place = usize::from(thread);
        let oldest = self.racks.get(place).and_then(Rack::oldest_read);
        let turn = &mut self.turns[place];
        turn.oldest_read = oldest.unwrap_or(now.durable).min(now.durable);
        turn.ends_ns = ends_ns;
        turn.count += 1;
        // Of the others it knows what they said when their turns began: too little, and never too much.
        let oldest_read = self.turns.iter().map(|turn| turn.oldest_read).min();
        self.turns[place].now = Now { oldest_read: oldest_read.unwrap_or_default(), ..now };
    }
}

/// The longest turn of a thread in most worlds, and in those where threads are kept from their processors.
pub(crate) const TURN_NS: u64 = 30 * US;
pub(crate) const LONG_TURN_NS: u64 = 5 * MS;
