//! A bounded ring of messages from one thread to one other.
//!
//! The producer owns `tail`, the consumer owns `head`: each is written by one side and read by the
//! other, on cache lines of their own. Both count up for ever and wrap; a message's slot is its
//! count modulo the capacity. Slots in `head..tail` hold messages and belong to the consumer, the
//! rest are empty and belong to the producer. Each side keeps a copy of the other's counter and
//! reads the shared one only when the copy says "full" or "empty".
#![allow(
    unsafe_code,
    reason = "slots change owner by counters, which the borrow checker cannot follow"
)]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// The largest capacity of a ring, in messages: a mailbox that needs more hides a stuck consumer.
const CAPACITY_MAX: usize = 1 << 20;

/// Makes a ring that holds up to `capacity` messages.
///
/// # Panics
///
/// If `capacity` is not a power of two between 1 and 2^20.
pub fn ring<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity.is_power_of_two(),
        "slots are found by masking, capacity {capacity} has no mask"
    );
    assert!(capacity <= CAPACITY_MAX, "capacity {capacity} exceeds {CAPACITY_MAX}");
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        closed: AtomicBool::new(false),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let sender = Sender { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    let receiver = Receiver { shared, head: 0, tail_seen: 0 };
    (sender, receiver)
}

/// The ring holds as many messages as it may. The message comes back untouched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mailbox is full")
    }
}

impl<T> std::error::Error for Full<T> {}

/// The producer's end of a ring.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// Messages sent so far: the shared `tail`, which only this end writes.
    tail: usize,
    /// The shared `head` when it was last read. The consumer may have taken more since.
    head_seen: usize,
}

impl<T: Send> Sender<T> {
    /// Puts `message` at the end of the ring. It does not wake the consumer: see
    /// [`Unparker::unpark`](crate::Unparker::unpark).
    ///
    /// Messages sent to a receiver that is gone fill the ring and are dropped with it: see
    /// [`is_closed`](Self::is_closed).
    ///
    /// # Errors
    ///
    /// [`Full`], with the message, when the ring is at capacity.
    pub fn try_send(&mut self, message: T) -> Result<(), Full<T>> {
        let shared = &*self.shared;
        if self.tail.wrapping_sub(self.head_seen) == shared.slots.len() {
            // Acquire: the consumer has moved its messages out before we overwrite their slots.
            self.head_seen = shared.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == shared.slots.len() {
                return Err(Full(message));
            }
        }
        shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: `tail` lies outside `head..tail`, so the slot is empty and the producer's.
            // This is the only producer: `Sender` is not `Clone` and the method takes `&mut self`.
            unsafe { (*slot).write(message) };
        });
        self.tail = self.tail.wrapping_add(1);
        // Release: a consumer that sees the new tail sees the message as well.
        shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// The number of messages that certainly fit now. The consumer may make room at any time.
    pub fn free_count(&mut self) -> usize {
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        self.shared.slots.len() - self.tail.wrapping_sub(self.head_seen)
    }

    /// The number of messages the ring holds when it is full.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the receiver is gone, so that nothing sent will be read.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: a consumer that sees the ring closed sees every message sent before.
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("sent", &self.tail).finish_non_exhaustive()
    }
}

/// The consumer's end of a ring.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Messages taken so far. The shared `head` follows it, at once or when a [`Drain`] ends.
    head: usize,
    /// The shared `tail` when it was last read. The producer may have sent more since.
    tail_seen: usize,
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest message, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        let message = self.take()?;
        self.publish_head();
        Some(message)
    }

    /// Takes up to `count_max` messages, oldest first.
    ///
    /// Their room is given back to the producer in one step when the iterator is dropped; what it
    /// has not yielded by then stays in the ring.
    pub fn drain(&mut self, count_max: usize) -> Drain<'_, T> {
        Drain { receiver: self, count_left: count_max }
    }

    /// Whether there is nothing to take. Between [`Parker::prepare_park`](crate::Parker) and the
    /// sleep this answer is reliable: what it misses is followed by a wake.
    pub fn is_empty(&self) -> bool {
        self.head == self.tail_seen && self.head == self.shared.tail.load(Ordering::Acquire)
    }

    /// Whether the sender is gone. Messages may be left: once this is true, take until `None`, and
    /// nothing follows.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Moves the oldest message out without giving its slot back.
    fn take(&mut self) -> Option<T> {
        let shared = &*self.shared;
        if self.head == self.tail_seen {
            // Acquire: the messages up to this tail are in their slots.
            self.tail_seen = shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let message = shared.slot(self.head).with_mut(|slot| {
            // SAFETY: `head` lies inside `head..tail`, so the slot holds a message and is the
            // consumer's. This is the only consumer: `Receiver` is not `Clone` and the method takes
            // `&mut self`. The next line moves `head` on, so no message is read twice.
            unsafe { (*slot).assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        Some(message)
    }
}

impl<T> Receiver<T> {
    /// Gives the slots of all messages taken so far back to the producer.
    fn publish_head(&self) {
        // Release: the messages are out of their slots before the producer sees these as free.
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // A leaked `Drain` leaves the shared head behind the messages taken. `Shared::drop` frees
        // from that head on, and must not free those again.
        self.publish_head();
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("taken", &self.head).finish_non_exhaustive()
    }
}

/// Takes messages out of a ring: see [`Receiver::drain`].
#[derive(Debug)]
pub struct Drain<'a, T> {
    receiver: &'a mut Receiver<T>,
    count_left: usize,
}

impl<T: Send> Iterator for Drain<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.count_left = self.count_left.checked_sub(1)?;
        self.receiver.take()
    }
}

impl<T> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        self.receiver.publish_head();
    }
}

struct Shared<T> {
    /// Messages whose slots the consumer has given back.
    head: CachePadded<AtomicUsize>,
    /// Messages the producer has put in place.
    tail: CachePadded<AtomicUsize>,
    /// One of the two ends is gone; the other asks which.
    closed: AtomicBool,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by one end at a time, which `head` and `tail` decide; a message moves
// from the producer's thread to the consumer's and is never shared, so `T: Send` is enough.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, count: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // The capacity is a power of two, so the counters may wrap without a seam in the slots.
        &self.slots[count & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone, and dropping the last `Arc` orders all they did before this.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: slots in `head..tail` hold messages that were never taken: `Receiver`
                // publishes its head when it is dropped. `&mut self` says nobody else is left.
                unsafe { (*slot).assume_init_drop() };
            });
            head = head.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
