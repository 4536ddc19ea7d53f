//! Waking a consumer that sleeps, and only one that sleeps.
//!
//! Both sides write one thing and then read the other's: the consumer announces that it is about
//! to sleep and looks into its mailboxes, the producer fills a mailbox and looks at the
//! announcement. A sequentially consistent fence between the write and the read on each side means
//! that at least one of them sees the other, so a message is either found by the consumer's second
//! look or followed by a wake. Several producers may share a consumer: the first to find it parking
//! claims the wake, so one park costs at most one system call, and a busy consumer costs none.

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicU8, Ordering, fence};

/// The consumer is awake and will look into its mailboxes before it parks.
const RUNNING: u8 = 0;
/// The consumer sleeps or is about to: whoever sends must wake it.
const PARKING: u8 = 1;
/// A producer has claimed the wake of this park.
const NOTIFIED: u8 = 2;

/// Makes a parker for the calling consumer and a handle for its producers.
///
/// `wake` ends the consumer's sleep: a driver writes to an eventfd there. It is called on a
/// producer's thread, at most once per park. It must be sticky: a wake that comes between
/// [`Parker::prepare_park`] and the sleep itself makes that sleep end at once. A wake may also come
/// late, after the park it was meant for, and then ends a later sleep early.
pub fn parker(wake: impl Fn() + Send + Sync + 'static) -> (Parker, Unparker) {
    let shared =
        Arc::new(Shared { state: CachePadded::new(AtomicU8::new(RUNNING)), wake: Box::new(wake) });
    (Parker { shared: Arc::clone(&shared) }, Unparker { shared })
}

/// The consumer's side. There is one per thread, whatever the number of its mailboxes.
#[derive(Debug)]
pub struct Parker {
    shared: Arc<Shared>,
}

impl Parker {
    /// Announces that this thread is about to sleep.
    ///
    /// Look into every mailbox after this call and before the sleep. Call
    /// [`finish_park`](Self::finish_park) afterwards, also when a mailbox was found filled and
    /// nothing slept.
    pub fn prepare_park(&mut self) {
        self.shared.state.store(PARKING, Ordering::Relaxed);
        // Orders the announcement before the caller's look into its mailboxes. Pairs with the
        // fence in `Unparker::unpark`.
        fence(Ordering::SeqCst);
    }

    /// Ends a park: producers need not wake this thread any more.
    ///
    /// Returns whether a producer claimed the wake of this park. If so, the wake function has been
    /// called or is about to be.
    pub fn finish_park(&mut self) -> bool {
        // Acquire makes visible all that the producer did before it claimed the wake.
        self.shared.state.swap(RUNNING, Ordering::Acquire) == NOTIFIED
    }
}

/// The producers' side. Clone it for each of them.
#[derive(Clone, Debug)]
pub struct Unparker {
    shared: Arc<Shared>,
}

impl Unparker {
    /// Wakes the consumer if it parks. Call it after sending, once for all messages of a turn.
    pub fn unpark(&self) {
        // Orders the caller's sends before the look at the state. Pairs with the fence in
        // `Parker::prepare_park`.
        fence(Ordering::SeqCst);
        // A plain load first: a busy consumer's cache line is then only read, never taken.
        if self.shared.state.load(Ordering::Relaxed) != PARKING {
            return;
        }
        let claim = self.shared.state.compare_exchange(
            PARKING,
            NOTIFIED,
            Ordering::Release,
            Ordering::Relaxed,
        );
        // A lost claim means that another producer wakes the consumer, or that it is awake.
        if claim.is_ok() {
            (self.shared.wake)();
        }
    }
}

struct Shared {
    state: CachePadded<AtomicU8>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_running_consumer_is_never_woken() {
        let (mut parker, unparker, wake_count) = counting_parker();
        unparker.unpark();
        parker.prepare_park();
        assert!(!parker.finish_park());
        unparker.unpark();
        assert_eq!(wake_count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_park_is_woken_once_however_many_producers_send() {
        let (mut parker, unparker, wake_count) = counting_parker();
        let other = unparker.clone();
        parker.prepare_park();
        unparker.unpark();
        other.unpark();
        unparker.unpark();
        assert!(parker.finish_park());
        assert_eq!(wake_count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_next_park_is_woken_again() {
        let (mut parker, unparker, wake_count) = counting_parker();
        for expected in 1..=3 {
            parker.prepare_park();
            unparker.unpark();
            assert!(parker.finish_park());
            assert_eq!(wake_count.load(Ordering::Relaxed), expected);
        }
    }

    fn counting_parker() -> (Parker, Unparker, Arc<AtomicUsize>) {
        let wake_count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wake_count);
        let (parker, unparker) = parker(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (parker, unparker, wake_count)
    }
}
