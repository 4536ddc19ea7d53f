//! The two queues of a connection: input not yet understood, output not yet sent.

use std::collections::VecDeque;

use bytes::Bytes;

/// Capacity that an empty buffer keeps. An idle connection must fit into 4 KiB with everything it has.
const RETAINED_BYTES_MAX: usize = 1024;

/// Places that an empty queue of events or requests keeps, for the same reason.
pub(crate) const QUEUE_RETAINED_MAX: usize = 4;

/// A queued piece of at least this size is kept as it is; a smaller one is copied beside its neighbours.
const SEGMENT_BYTES_MIN: usize = 4 * 1024;

/// What is reserved for bytes that were announced and have not arrived.
const RESERVED_BYTES_MAX: usize = 64 * 1024;

/// Appends `bytes` to `into`, where `missing` more are to follow. A claim reserves little by itself; after that the buffer
/// doubles with what has really come, and ends with the capacity that it needs.
pub(crate) fn extend_towards(into: &mut Vec<u8>, bytes: &[u8], missing: usize) {
    let wanted = into.len() + bytes.len();
    if wanted > into.capacity() {
        let ahead = missing.min(wanted.max(RESERVED_BYTES_MAX));
        into.reserve_exact(bytes.len() + ahead);
    }
    into.extend_from_slice(bytes);
}

/// Empties `buffer` and gives back memory that an idle connection should not hold.
fn release(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > RETAINED_BYTES_MAX {
        *buffer = Vec::new();
    }
}

/// Received bytes that no protocol has consumed yet: an unfinished head, or what waits behind a full queue.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    bytes: Vec<u8>,
    start: usize,
}

impl Stash {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Keeps `bytes` behind what is kept already.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            // Moving the rest to the front costs less than growing by what is consumed already.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops `count` bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.bytes.len(), "no more is consumed than is there");
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        release(&mut self.bytes);
    }
}

/// Bytes to be sent, in order. Small pieces share one buffer; large ones are kept without a copy.
#[derive(Debug, Default)]
pub(crate) struct OutputQueue {
    /// Leave before `tail`. Never holds an empty piece.
    segments: VecDeque<Bytes>,
    segments_bytes: usize,
    tail: Vec<u8>,
    tail_start: usize,
}

impl OutputQueue {
    pub(crate) fn len(&self) -> usize {
        self.segments_bytes + self.tail.len() - self.tail_start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer that takes small pieces. Only ever appended to.
    pub(crate) fn tail_mut(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Queues `bytes`.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SEGMENT_BYTES_MIN {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal_tail();
            self.push_segment(bytes);
        }
    }

    /// Queues all of `other`.
    pub(crate) fn append(&mut self, mut other: Self) {
        while let Some(segment) = other.segments.pop_front() {
            self.push(segment);
        }
        self.tail.extend_from_slice(&other.tail[other.tail_start..]);
    }

    /// The first bytes in line; empty only if the queue is.
    pub(crate) fn front(&self) -> &[u8] {
        self.segments.front().map_or(&self.tail[self.tail_start..], |segment| &segment[..])
    }

    /// Drops `count` bytes of what [`front`](Self::front) shows.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(segment) = self.segments.front_mut() {
            bytes::Buf::advance(segment, count);
            self.segments_bytes -= count;
            if segment.is_empty() {
                self.segments.pop_front();
            }
            return;
        }
        self.tail_start += count;
        assert!(self.tail_start <= self.tail.len(), "no more is consumed than is there");
        if self.tail_start == self.tail.len() {
            self.tail_start = 0;
            release(&mut self.tail);
        }
    }

    /// Moves at most `bytes_max` bytes to the end of `out`.
    pub(crate) fn take_into(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        let mut room = bytes_max;
        while room > 0 && !self.is_empty() {
            let front = self.front();
            let count = front.len().min(room);
            out.extend_from_slice(&front[..count]);
            self.consume(count);
            room -= count;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal_tail(&mut self) {
        if self.tail_start < self.tail.len() {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            bytes::Buf::advance(&mut tail, self.tail_start);
            self.push_segment(tail);
        }
        self.tail.clear();
        self.tail_start = 0;
    }

    fn push_segment(&mut self, bytes: Bytes) {
        self.segments_bytes += bytes.len();
        self.segments.push_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_leaves_in_the_order_it_was_queued_whatever_its_size() {
        let mut queue = OutputQueue::default();
        let mut expected = Vec::new();
        for (index, size) in [3, 5000, 1, 4096, 4095, 0, 9000, 2_000].into_iter().enumerate() {
            let piece = vec![index as u8; size];
            expected.extend_from_slice(&piece);
            queue.push(Bytes::from(piece));
        }
        assert_eq!(queue.len(), expected.len());
        let mut out = Vec::new();
        while !queue.is_empty() {
            queue.take_into(&mut out, 777);
            assert_eq!(queue.len(), expected.len() - out.len());
        }
        assert_eq!(out, expected);
    }

    #[test]
    fn an_appended_queue_follows_what_was_there() {
        let (mut first, mut second) = (OutputQueue::default(), OutputQueue::default());
        first.push(Bytes::from_static(b"one"));
        second.push(Bytes::from(vec![b'x'; 5000]));
        second.push(Bytes::from_static(b"two"));
        second.consume(4999);
        first.append(second);
        let mut out = Vec::new();
        first.take_into(&mut out, usize::MAX);
        assert_eq!(out, b"onextwo");
    }

    #[test]
    fn an_emptied_buffer_gives_its_memory_back() {
        let mut stash = Stash::default();
        stash.push(&[1; 100_000]);
        stash.consume(100_000);
        assert!(stash.bytes.capacity() <= RETAINED_BYTES_MAX);
        let mut queue = OutputQueue::default();
        queue.tail_mut().extend_from_slice(&[1; 100_000]);
        queue.consume(100_000);
        assert!(queue.tail.capacity() <= RETAINED_BYTES_MAX);
    }

    #[test]
    fn a_claim_reserves_little_and_a_whole_buffer_has_no_slack() {
        let mut into = Vec::new();
        extend_towards(&mut into, b"x", 8_000_000);
        assert_eq!(into.capacity(), 1 + RESERVED_BYTES_MAX);
        let (size, mut missing) = (1_000_000, 999_999);
        while missing > 0 {
            let count = missing.min(9_999);
            missing -= count;
            extend_towards(&mut into, &vec![1; count], missing);
            assert!(into.capacity() <= size);
            assert!(into.capacity() <= 2 * into.len() + RESERVED_BYTES_MAX);
        }
        assert_eq!((into.len(), into.capacity()), (size, size));
    }

    #[test]
    fn a_stash_keeps_what_is_not_consumed() {
        let mut stash = Stash::default();
        stash.push(b"abcdef");
        stash.consume(4);
        stash.push(b"gh");
        assert_eq!(stash.as_slice(), b"efgh");
        assert_eq!(stash.len(), 4);
    }
}
