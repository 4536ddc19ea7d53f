//! The server's directory put back from an older image; or two images that run by turns, which is how a device meets a
//! cloned server: under one identity, with two histories.
//!
//! Promises that the server has made its clients since an image was taken may be lost with it. All that a device holds must
//! come back: its own edits, those that it had from the server, and every deletion that it has heard of.

use bigpeer_core::disk_sim::FaultOdds;

use super::clock::{MS, SECOND};
use super::network::{ConnectionId, Owner};
use super::process::SERVER;
use super::{Event, World};
use crate::coverage::Seen;
use crate::shape::Images;
use crate::workload::device::Backup;

impl World {
    /// The next image is due.
    pub(super) fn plan_image(&mut self) {
        if self.images != Images::None {
            let pause_ns = SECOND + self.faults.below(3 * SECOND);
            self.clock.after(pause_ns, Event::Image);
        }
    }

    /// An image is taken; or that of before is put in its place.
    pub(crate) fn on_image(&mut self) {
        if !self.is_working() || self.is_finale() {
            return;
        }
        match self.server_image.take() {
            None => {
                self.line("an image of the server is taken".into());
                self.server_image = Some(self.image_of_server());
            }
            Some(image) => self.put_image_back(image),
        }
        self.plan_image();
    }

    /// The disk as it would be found if the process were killed now.
    fn image_of_server(&self) -> Backup {
        let process = &self.processes[SERVER];
        let mut disk = process.disk.clone();
        disk.kill();
        Backup {
            disk,
            log: process.log,
            guard: process.guard,
            kernel: process.kernel,
            at_ns: self.clock.now_ns(),
            durable: process.durable_mark,
        }
    }

    fn put_image_back(&mut self, image: Backup) {
        let Backup { disk, log, guard, at_ns, durable, .. } = image;
        self.saw(Seen::ServerImage);
        self.line(format!("the server is put back to {:.3} s", at_ns as f64 / 1e9));
        if self.processes[SERVER].running.is_some() {
            self.stop(SERVER, false);
        }
        if self.images == Images::ByTurns {
            self.server_image = Some(self.image_of_server());
        }
        let now_ns = self.clock.now_ns();
        let is_told = self.faults.one_in(2);
        let process = &mut self.processes[SERVER];
        (process.disk, process.log, process.guard) = (disk, log, guard);
        process.durable_mark = durable;
        process.commands_left = None;
        // A driver may know that the directory is a copy; nothing depends on it.
        process.is_restored = is_told;
        process.set_faults(FaultOdds::default(), now_ns);
        process.set_filled(false, now_ns);
        self.forget_answers();
        let live = self.devices.iter().map(|device| device.site).collect();
        self.ledger.put_back(at_ns, &live);
        let pause_ns = MS + self.faults.below(SECOND);
        self.clock.after(pause_ns, Event::Start(SERVER));
    }

    /// Words of the server that are still on their way are about a history that is no more.
    fn forget_answers(&mut self) {
        let owners: Vec<(ConnectionId, Owner)> =
            self.connections.iter().map(|(id, connection)| (*id, connection.owner)).collect();
        for (id, owner) in owners {
            match owner {
                Owner::Client(client) => {
                    self.connections.remove(&id);
                    self.on_client_lost(client, id);
                }
                Owner::Device(_) | Owner::Hostile(_) => {
                    let connection = self.connections.get_mut(&id).expect("it was just listed");
                    connection.promises.iter_mut().for_each(|promise| promise.is_void = true);
                }
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].begin_history(&mut self.ledger);
        }
        for device in &mut self.devices {
            device.is_partial = true;
        }
    }
}
