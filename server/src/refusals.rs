//! Connections that were not taken, or were given up for others: counted by reason, and said at most once a second.
//! And how many each address has, where that is bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::logging;

/// Why a connection was not taken, or was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Every place is taken by somebody who has shown a credential.
    Limit,
    /// It had shown no credential and had been idle longest when another one needed its place.
    Idle,
    /// Its address has as many connections as `--connections-per-address` allows.
    Address,
    /// So many accepted connections wait for every thread that no more fit.
    Queue,
    /// The descriptors that are left are for the files of the log.
    Descriptors,
    /// The server is stopping.
    Stopping,
}

impl Refusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 6] =
        [Self::Limit, Self::Idle, Self::Address, Self::Queue, Self::Descriptors, Self::Stopping];

    /// The value of the metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Idle => "idle",
            Self::Address => "address",
            Self::Queue => "queue",
            Self::Descriptors => "descriptors",
            Self::Stopping => "stopping",
        }
    }
}

/// Counters that any thread may raise.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Refusal::ALL.len()],
    /// The second of the last line in the log, and how many there were by then.
    said_second: AtomicU64,
    said_count: AtomicU64,
}

impl Refusals {
    /// Counts one; `second` is the time, for the log.
    pub fn note(&self, reason: Refusal, second: u64) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let said = self.said_second.load(Ordering::Relaxed);
        // Of several threads in one second, one has the word.
        let has_word = said < second
            && self
                .said_second
                .compare_exchange(said, second, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !has_word || reason == Refusal::Stopping {
            return;
        }
        let total: u64 = Refusal::ALL.iter().map(|&reason| self.count(reason)).sum();
        let since = total - self.said_count.swap(total, Ordering::Relaxed);
        let fields = [("reason", reason.label()), ("count", &*since.to_string())];
        logging::warn("connections refused", &fields);
    }

    /// How many there were for a reason.
    #[must_use]
    pub fn count(&self, reason: Refusal) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }
}

/// How many connections each address has. An IPv6 address counts with its network of 64 bits, which is what one
/// customer has.
#[derive(Debug)]
pub struct Addresses {
    each_max: u32,
    open: Mutex<BTreeMap<IpAddr, u32>>,
}

/// The place of one connection in its address's count, given back when it is dropped.
#[derive(Debug)]
pub struct AddressSlot {
    address: IpAddr,
    addresses: Arc<Addresses>,
}

impl Addresses {
    /// Bounds each address to so many connections at once.
    #[must_use]
    pub fn new(each_max: u32) -> Arc<Self> {
        Arc::new(Self { each_max, open: Mutex::default() })
    }

    /// A place for one more connection of `address`, if it has one left.
    #[must_use]
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressSlot> {
        let address = network_of(address);
        let mut open = self.open.lock().expect(NO_PANIC);
        let count = open.entry(address).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        drop(open);
        Some(AddressSlot { address, addresses: self.clone() })
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().expect(NO_PANIC);
        let count = open.get_mut(&self.address).expect("a slot is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            open.remove(&self.address);
        }
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

fn network_of(address: IpAddr) -> IpAddr {
    const HOST_BITS: u128 = u64::MAX as u128;
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !HOST_BITS).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_as_many_places_as_it_may_and_gets_them_back() {
        let addresses = Addresses::new(2);
        let first = addresses.take(address("192.0.2.1")).expect("the first");
        let second = addresses.take(address("::ffff:192.0.2.1")).expect("the second");
        assert!(addresses.take(address("192.0.2.1")).is_none());
        assert!(addresses.take(address("192.0.2.2")).is_some(), "another address");
        drop(first);
        assert!(addresses.take(address("192.0.2.1")).is_some());
        drop(second);
        assert!(addresses.open.lock().expect(NO_PANIC).is_empty(), "nothing is kept of the gone");
        let network = Addresses::new(1);
        let _one = network.take(address("2001:db8::1")).expect("the first");
        assert!(network.take(address("2001:db8::ffff:2")).is_none(), "of the same network");
        assert!(network.take(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn refusals_are_counted_by_their_reason() {
        let refusals = Refusals::default();
        for second in [5, 5, 6] {
            refusals.note(Refusal::Queue, second);
        }
        let counts = Refusal::ALL.map(|reason| refusals.count(reason));
        assert_eq!(counts, [0, 0, 0, 3, 0, 0]);
        assert_eq!(refusals.said_count.load(Ordering::Relaxed), 3);
    }
}
