//! Clients that have closed their side of a connection. Most are gone; a few only say that they ask for nothing more,
//! and wait for their answer. So a read has a moment left, and a mutation goes on.

use std::collections::VecDeque;
use std::time::Duration;

use bigpeer_core::node::{self, RackInput};
use bigpeer_core::time::Instant;

use super::Shard;
use super::connection::ConnId;

/// How long a read goes on whose client has closed its side. The bar for its end is 200 ms, and a thread with long
/// statements takes some of that to notice the close and to come to this.
const READ_GOES_ON: Duration = Duration::from_millis(100);

/// Connections whose clients have closed their side, by the moment when their reads end.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    queue: VecDeque<(Instant, ConnId)>,
}

impl Leaving {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<ConnId> {
        self.queue.pop_front_if(|(at, _)| *at <= now).map(|(_, conn)| conn)
    }
}

impl Shard {
    /// The client of a connection has closed its side: what it has asked for and not heard of ends soon.
    pub(super) fn note_leaving(&mut self, conn: ConnId) {
        let Some(entry) = self.connections.get_mut(conn.0) else { return };
        entry.is_leaving = true;
        if !entry.requests.is_empty() {
            self.leaving.queue.push_back((self.now.mono.after(READ_GOES_ON), conn));
        }
    }

    /// Ends the reads whose moment is over.
    pub(super) fn end_reads_of_leaving(&mut self) {
        while let Some(conn) = self.leaving.pop_due(self.now.mono) {
            let Some(entry) = self.connections.get(conn.0) else { continue };
            for key in entry.requests.clone() {
                self.input(RackInput::ClientClosed { request: node::RequestId(key) });
            }
        }
    }
}
