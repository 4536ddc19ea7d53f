use std::sync::Arc;

use super::*;

#[test]
fn messages_arrive_in_the_order_sent() {
    let (mut sender, mut receiver) = ring(4);
    for round in 0..10 {
        for message in 0..3 {
            sender.try_send((round, message)).expect("three fit in four");
        }
        for message in 0..3 {
            assert_eq!(receiver.pop(), Some((round, message)));
        }
        assert_eq!(receiver.pop(), None);
    }
}

#[test]
fn a_full_ring_hands_the_message_back_and_takes_it_once_there_is_room() {
    let (mut sender, mut receiver) = ring(2);
    sender.try_send("a").expect("room for one");
    sender.try_send("b").expect("room for two");
    assert_eq!(sender.try_send("c"), Err(Full("c")));
    assert_eq!(sender.free_count(), 0);
    assert_eq!(receiver.pop(), Some("a"));
    sender.try_send("c").expect("one was taken");
    assert_eq!(receiver.drain(9).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(sender.free_count(), sender.capacity());
}

#[test]
fn counters_wrap_without_a_seam() {
    let (mut sender, mut receiver) = ring(4);
    let start = usize::MAX - 2;
    sender.shared.head.store(start, Ordering::Relaxed);
    sender.shared.tail.store(start, Ordering::Relaxed);
    (sender.tail, sender.head_seen) = (start, start);
    (receiver.head, receiver.tail_seen) = (start, start);
    for message in 0..4 {
        sender.try_send(message).expect("four fit");
    }
    assert_eq!(sender.try_send(4), Err(Full(4)));
    assert_eq!(receiver.drain(9).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(receiver.is_empty());
}

#[test]
fn a_drain_stops_at_its_bound_and_leaves_the_rest() {
    let (mut sender, mut receiver) = ring(8);
    for message in 0..6 {
        sender.try_send(message).expect("six fit");
    }
    assert_eq!(receiver.drain(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(receiver.drain(4).next(), Some(4));
    assert!(!receiver.is_empty());
    assert_eq!(receiver.pop(), Some(5));
    assert!(receiver.is_empty());
}

#[test]
fn a_drain_gives_room_back_when_it_ends() {
    let (mut sender, mut receiver) = ring(2);
    sender.try_send(0).expect("room for one");
    sender.try_send(1).expect("room for two");
    let mut drain = receiver.drain(2);
    assert_eq!(drain.next(), Some(0));
    assert_eq!(sender.free_count(), 0);
    drop(drain);
    assert_eq!(sender.free_count(), 1);
}

#[test]
fn a_leaked_drain_frees_nothing_twice() {
    let alive = Arc::new(());
    let (mut sender, mut receiver) = ring(4);
    for _ in 0..3 {
        sender.try_send(Arc::clone(&alive)).expect("three fit");
    }
    let mut drain = receiver.drain(2);
    drop(drain.next());
    std::mem::forget(drain);
    drop(receiver);
    drop(sender);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn messages_never_read_are_dropped_with_the_ring() {
    for receiver_first in [true, false] {
        let alive = Arc::new(());
        let (mut sender, mut receiver) = ring(4);
        for _ in 0..4 {
            sender.try_send(Arc::clone(&alive)).expect("four fit");
        }
        drop(receiver.pop());
        if receiver_first {
            drop(receiver);
            assert!(sender.is_closed());
            drop(sender);
        } else {
            drop(sender);
            assert!(receiver.is_closed());
            assert!(!receiver.is_empty());
            drop(receiver);
        }
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn both_ends_may_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Sender<Vec<u8>>>();
    assert_send::<Receiver<Vec<u8>>>();
}

#[test]
#[should_panic(expected = "capacity 3 has no mask")]
fn a_capacity_without_a_mask_is_refused() {
    let _ = ring::<u8>(3);
}
