//! Every interleaving of small runs, explored by loom. See the crate's documentation for the
//! command line.
#![cfg(loom)]

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

use bigpeer_mailbox::{Full, Parker, Receiver, Unparker, parker, ring};

/// Loom explores schedules with at most this many forced switches where a full search would not
/// end. Published concurrency bugs need two or three.
const PREEMPTIONS_MAX: usize = 3;

#[test]
fn no_message_is_lost_doubled_or_reordered() {
    loom::model(|| {
        // Two slots for three messages: the ring is full and wraps.
        let (mut sender, mut receiver) = ring(2);
        let producer = thread::spawn(move || {
            for message in 0..3 {
                let mut message = Box::new(message);
                while let Err(Full(refused)) = sender.try_send(message) {
                    message = refused;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            let message = loop {
                match receiver.pop() {
                    Some(message) => break message,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*message, expected);
        }
        producer.join().expect("a producer only sends");
        assert!(receiver.pop().is_none());
    });
}

#[test]
fn a_drain_gives_back_only_slots_it_has_emptied() {
    loom::model(|| {
        let (mut sender, mut receiver) = ring(2);
        let producer = thread::spawn(move || {
            (0..3).map(|message| sender.try_send(Box::new(message)).is_ok()).collect::<Vec<_>>()
        });
        let mut received: Vec<i32> = receiver.drain(2).map(|message| *message).collect();
        let sent = producer.join().expect("a producer only sends");
        received.extend(receiver.drain(usize::MAX).map(|message| *message));

        let accepted: Vec<i32> = (0..3).filter(|&message| sent[message as usize]).collect();
        assert_eq!(received, accepted);
    });
}

#[test]
fn a_closed_ring_still_yields_what_was_sent_before() {
    loom::model(|| {
        let (mut sender, mut receiver) = ring(2);
        let producer = thread::spawn(move || {
            sender.try_send(Box::new(7)).expect("an empty ring has room");
        });
        while !receiver.is_closed() {
            thread::yield_now();
        }
        assert_eq!(receiver.pop(), Some(Box::new(7)));
        assert_eq!(receiver.pop(), None);
        producer.join().expect("a producer only sends");
    });
}

#[test]
fn both_ends_dropped_in_any_order_free_every_message() {
    loom::model(|| {
        // Loom's own `Arc` reports a leak at the end of an execution, and a double drop at once.
        let alive = Arc::new(());
        let (mut sender, mut receiver) = ring(2);
        let messages = [Arc::clone(&alive), Arc::clone(&alive)];
        let producer = thread::spawn(move || {
            for message in messages {
                sender.try_send(message).expect("two fit in two");
            }
        });
        drop(receiver.pop());
        drop(receiver);
        producer.join().expect("a producer only sends");
        assert_eq!(Arc::strong_count(&alive), 1);
    });
}

#[test]
fn no_wake_up_is_lost() {
    bounded_model(|| {
        let (parker, unparker, notify, wake_count) = modelled_parker();
        let (mut sender, receiver) = ring(2);
        let producer = thread::spawn(move || {
            for message in 0..2 {
                sender.try_send(message).expect("two fit in two");
                unparker.unpark();
            }
        });
        let park_count = consume(parker, &mut [receiver], 2, &notify);
        producer.join().expect("a producer only sends");
        assert!(wake_count.load(Ordering::Relaxed) <= park_count, "one wake per park at most");
    });
}

#[test]
fn no_wake_up_is_lost_between_two_producers() {
    bounded_model(|| {
        let (parker, unparker, notify, wake_count) = modelled_parker();
        let (mut first, first_receiver) = ring(1);
        let (mut second, second_receiver) = ring(1);
        let other_unparker = unparker.clone();
        let producers = [
            thread::spawn(move || {
                first.try_send(0).expect("one fits in one");
                unparker.unpark();
            }),
            thread::spawn(move || {
                second.try_send(1).expect("one fits in one");
                other_unparker.unpark();
            }),
        ];
        let park_count = consume(parker, &mut [first_receiver, second_receiver], 2, &notify);
        for producer in producers {
            producer.join().expect("a producer only sends");
        }
        assert!(wake_count.load(Ordering::Relaxed) <= park_count, "one wake per park at most");
    });
}

/// A consumer's loop, as a driver runs it, until `count` messages have arrived. Returns how often
/// it prepared to park. A lost wake-up leaves it asleep, which loom reports as a deadlock.
fn consume(
    mut parker: Parker,
    receivers: &mut [Receiver<usize>],
    count: usize,
    notify: &Notify,
) -> usize {
    let mut received = 0;
    let mut park_count = 0;
    loop {
        for receiver in receivers.iter_mut() {
            received += receiver.drain(usize::MAX).count();
        }
        if received == count {
            return park_count;
        }
        parker.prepare_park();
        park_count += 1;
        if receivers.iter().all(Receiver::is_empty) {
            notify.wait();
        }
        parker.finish_park();
    }
}

/// A parker whose sleep is loom's `Notify`: sticky like an eventfd, and it wakes spuriously too.
fn modelled_parker() -> (Parker, Unparker, Arc<Notify>, Arc<AtomicUsize>) {
    let notify = Arc::new(Notify::new());
    let wake_count = Arc::new(AtomicUsize::new(0));
    let (bell, counter) = (Arc::clone(&notify), Arc::clone(&wake_count));
    let (parker, unparker) = parker(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        bell.notify();
    });
    (parker, unparker, notify, wake_count)
}

fn bounded_model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(run);
}
