//! Real threads, a million messages: order, loss, and a consumer that truly sleeps.
#![cfg(not(loom))]

use std::thread;

use bigpeer_mailbox::{Full, Receiver, Sender, Unparker, parker, ring};

const MESSAGE_COUNT: u64 = 1_000_000;
/// Small, so that both "full" and "empty" happen all the time.
const CAPACITY: usize = 64;
const DRAIN_COUNT_MAX: usize = 16;

#[test]
fn a_million_messages_arrive_once_and_in_order() {
    let (mut sender, mut receiver) = ring(CAPACITY);
    let consumer = thread::spawn(move || {
        let mut expected = 0;
        while expected < MESSAGE_COUNT {
            let before = expected;
            for message in receiver.drain(DRAIN_COUNT_MAX) {
                assert_eq!(message, expected);
                expected += 1;
            }
            if before == expected {
                thread::yield_now();
            }
        }
        assert!(receiver.is_empty());
    });
    for message in 0..MESSAGE_COUNT {
        send(&mut sender, message, thread::yield_now);
    }
    consumer.join().expect("the consumer saw every message in order");
}

#[test]
fn a_consumer_that_parks_misses_nothing_from_two_producers() {
    let consumer = thread::current();
    let (mut parker, unparker) = parker(move || consumer.unpark());
    let mut receivers = Vec::new();
    let mut producers = Vec::new();
    for _ in 0..2 {
        let (sender, receiver) = ring(CAPACITY);
        receivers.push(receiver);
        let unparker = unparker.clone();
        producers.push(thread::spawn(move || produce(sender, &unparker)));
    }

    let mut expected = [0; 2];
    while expected != [MESSAGE_COUNT / 2; 2] {
        for (receiver, expected) in receivers.iter_mut().zip(&mut expected) {
            for message in receiver.drain(usize::MAX) {
                assert_eq!(message, *expected);
                *expected += 1;
            }
        }
        parker.prepare_park();
        let done = expected == [MESSAGE_COUNT / 2; 2];
        if !done && receivers.iter().all(Receiver::is_empty) {
            thread::park();
        }
        parker.finish_park();
    }
    for producer in producers {
        producer.join().expect("a producer only sends");
    }
}

fn produce(mut sender: Sender<u64>, unparker: &Unparker) {
    for message in 0..MESSAGE_COUNT / 2 {
        send(&mut sender, message, || {
            unparker.unpark();
            thread::yield_now();
        });
        unparker.unpark();
    }
}

fn send(sender: &mut Sender<u64>, message: u64, on_full: impl Fn()) {
    let mut message = message;
    while let Err(Full(refused)) = sender.try_send(message) {
        message = refused;
        on_full();
    }
}
