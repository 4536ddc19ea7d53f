//! The connection of a peer that lies.

use bigpeer_connection::Event as NetEvent;

use super::clock::{MS, SECOND};
use super::network::{ConnectionId, Owner, Side};
use super::process::SERVER;
use super::{Event, World};
use crate::coverage::Seen;

impl World {
    /// It connects, or says something that nobody has asked for.
    pub(crate) fn hostile_turn(&mut self, index: usize) {
        if !self.is_working() {
            // Honest peers agree without it.
            if let Some(id) = self.hostile[index].connection {
                self.cut(id);
            }
            return;
        }
        let pause_ns = 20 * MS + self.delays.below(500 * MS);
        self.clock.after(pause_ns, Event::HostileTurn(index));
        match self.hostile[index].connection {
            Some(id) => {
                self.hostile[index].act();
                self.hostile_speaks(index, id);
            }
            None if self.is_ready(SERVER) => {
                let id = self.connect(Owner::Hostile(index));
                self.hostile[index].connection = Some(id);
            }
            None => {}
        }
    }

    pub(crate) fn on_hostile_event(&mut self, index: usize, id: ConnectionId, event: NetEvent) {
        match event {
            NetEvent::WebSocketOpen { .. } => self.hostile[index].begin(),
            NetEvent::Message(frame) => self.hostile[index].on_frame(&frame),
            NetEvent::OutputDrained => self.flush(id, Side::Far),
            NetEvent::WebSocketClosed { .. } | NetEvent::Closed { .. } => {
                return self.on_hostile_lost(index, id);
            }
            _ => {}
        }
        self.hostile_speaks(index, id);
    }

    fn hostile_speaks(&mut self, index: usize, id: ConnectionId) {
        let mut said = Vec::new();
        while let Some(frame) = self.hostile[index].poll_frame() {
            said.push(frame);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.coverage.add(Seen::Lie, said.len() as u64);
        for frame in said {
            connection.wire.device_says(&frame);
            connection.waiting[Side::Far as usize].push_back(frame);
        }
        self.flush(id, Side::Far);
        self.clock.after(0, Event::Pump(id));
    }

    pub(crate) fn on_hostile_lost(&mut self, index: usize, id: ConnectionId) {
        if self.hostile[index].connection == Some(id) {
            self.hostile[index].connection = None;
            self.saw(Seen::LiarShown);
            let pause_ns = self.delays.below(SECOND);
            self.clock.after(pause_ns, Event::Pump(id));
        }
    }
}
