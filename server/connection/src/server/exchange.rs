//! The requests that wait for their answers, and the answers that wait for their turn.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::{OutputQueue, QUEUE_RETAINED_MAX};
use crate::error::{CloseReason, SendError};
use crate::event::RequestId;
use crate::http::head::{Method, RequestHead, Version};
use crate::http::response::{
    HeadShape, Response, ResponseFraming, status_has_body, write_chunk_size, write_head,
};
use crate::server::is_chunked;
use crate::wire::{Linger, Wire};

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    version: Version,
    /// The answer has a head and no body.
    is_bodiless: bool,
    keep_alive: bool,
    held_bytes: usize,
    answer: Answer,
    /// Why the connection ends with this exchange, if it is not that one side asked for no more.
    ending: Option<Box<CloseReason>>,
}

/// An exchange in the queue.
#[derive(Debug)]
struct Slot {
    exchange: Exchange,
    /// What has been answered while earlier requests wait.
    parked: Option<Box<OutputQueue>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Waiting,
    Streaming,
    Done,
}

impl Exchange {
    /// The exchange that a request with this head begins, which holds `held_bytes` of memory.
    pub(crate) fn new(head: &RequestHead, keep_alive: bool, held_bytes: usize) -> Self {
        Self {
            version: head.version,
            is_bodiless: head.method == Method::Head,
            keep_alive,
            held_bytes,
            answer: Answer::Waiting,
            ending: None,
        }
    }

    pub(crate) fn for_upgrade(held_bytes: usize) -> Self {
        Self {
            version: Version::Http11,
            is_bodiless: false,
            keep_alive: true,
            held_bytes,
            answer: Answer::Waiting,
            ending: None,
        }
    }

    /// The exchange that ends the connection.
    pub(crate) fn for_refusal(reason: CloseReason) -> Self {
        let mut exchange = Self::for_upgrade(0);
        exchange.keep_alive = false;
        exchange.ending = Some(Box::new(reason));
        exchange
    }

    fn write_head(
        &self,
        output: &mut OutputQueue,
        status: u16,
        framing: ResponseFraming,
        content_type: &str,
        headers: &[(&str, String)],
        date: u64,
    ) {
        let shape =
            HeadShape { status, version: self.version, framing, keep_alive: self.keep_alive, date };
        write_head(output.tail_mut(), shape, content_type, headers);
    }
}

/// The exchanges under way, in the order of their requests.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    queue: VecDeque<Slot>,
    /// The id of the first in `queue`; the others follow without a gap.
    first_id: u64,
    held_bytes: usize,
}

impl Exchanges {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What the requests under way hold in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn push(&mut self, exchange: Exchange) -> RequestId {
        self.held_bytes += exchange.held_bytes;
        self.queue.push_back(Slot { exchange, parked: None });
        RequestId(self.first_id + self.queue.len() as u64 - 1)
    }

    pub(crate) fn is_front(&self, id: RequestId) -> bool {
        !self.queue.is_empty() && id.0 == self.first_id
    }

    pub(crate) fn is_streaming(&self, id: RequestId) -> bool {
        self.index(id).is_some_and(|index| self.queue[index].exchange.answer == Answer::Streaming)
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.first_id += self.queue.len() as u64;
        self.queue.clear();
        self.held_bytes = 0;
    }

    /// The last request under way ends the connection.
    pub(crate) fn close_after_last(&mut self) {
        if let Some(last) = self.queue.back_mut()
            && last.exchange.answer == Answer::Waiting
        {
            last.exchange.keep_alive = false;
        }
    }

    /// Answers a request as a whole.
    pub(crate) fn answer(&mut self, wire: &mut Wire, id: RequestId, response: Response) {
        let date = wire.config.date.get();
        let Some((exchange, output)) = self.place(wire, id, Answer::Waiting) else { return };
        let framing = ResponseFraming::Length(response.body.len());
        let Response { status, content_type, headers, body } = response;
        exchange.write_head(output, status, framing, &content_type, &headers, date);
        if !exchange.is_bodiless && status_has_body(status) {
            output.push(body);
        }
        exchange.answer = Answer::Done;
    }

    /// Begins an answer in pieces.
    pub(crate) fn start(
        &mut self,
        wire: &mut Wire,
        id: RequestId,
        status: u16,
        content_type: &str,
    ) {
        let date = wire.config.date.get();
        let Some((exchange, output)) = self.place(wire, id, Answer::Waiting) else { return };
        let framing = if is_chunked(exchange.version) {
            ResponseFraming::Chunked
        } else {
            exchange.keep_alive = false;
            ResponseFraming::UntilEnd
        };
        exchange.write_head(output, status, framing, content_type, &[], date);
        exchange.is_bodiless |= !status_has_body(status);
        exchange.answer = Answer::Streaming;
    }

    /// Queues the next piece of an answer.
    pub(crate) fn push_chunk(
        &mut self,
        wire: &mut Wire,
        id: RequestId,
        chunk: Bytes,
    ) -> Result<(), SendError> {
        let place = self.place(wire, id, Answer::Streaming);
        let (exchange, output) = place.ok_or(SendError::Closed)?;
        // An empty chunk would end the body.
        if exchange.is_bodiless || chunk.is_empty() {
            return Ok(());
        }
        if is_chunked(exchange.version) {
            write_chunk_size(output.tail_mut(), chunk.len());
            output.push(chunk);
            output.tail_mut().extend_from_slice(b"\r\n");
        } else {
            output.push(chunk);
        }
        Ok(())
    }

    /// Ends an answer in pieces.
    pub(crate) fn end(&mut self, wire: &mut Wire, id: RequestId) {
        let Some((exchange, output)) = self.place(wire, id, Answer::Streaming) else { return };
        if is_chunked(exchange.version) && !exchange.is_bodiless {
            output.tail_mut().extend_from_slice(b"0\r\n\r\n");
        }
        exchange.answer = Answer::Done;
    }

    /// Gives up an answer in pieces: it lacks its end, and the connection ends with it.
    pub(crate) fn abort(&mut self, wire: &mut Wire, id: RequestId) {
        let Some((exchange, _)) = self.place(wire, id, Answer::Streaming) else { return };
        exchange.keep_alive = false;
        exchange.ending = Some(Box::new(CloseReason::Aborted));
        exchange.answer = Answer::Done;
    }

    /// Forgets exchanges that are done and sends what waited for them. True if the connection ends here.
    pub(crate) fn flush(&mut self, wire: &mut Wire) -> bool {
        while self.queue.front().is_some_and(|front| front.exchange.answer == Answer::Done) {
            let done = self.queue.pop_front().expect("there is a front").exchange;
            self.first_id += 1;
            self.held_bytes -= done.held_bytes;
            if !done.keep_alive {
                let reason = done.ending.map_or(CloseReason::Finished, |reason| *reason);
                // What follows a refused request has not been read.
                let refused = matches!(
                    reason,
                    CloseReason::Http(_) | CloseReason::Refused(_) | CloseReason::Shed
                );
                wire.begin_close(reason, if refused { Linger::Yes } else { Linger::No });
                return true;
            }
            self.on_turn(wire);
        }
        if self.queue.is_empty() {
            self.queue.shrink_to(QUEUE_RETAINED_MAX);
        }
        false
    }

    /// The front of the queue has come to its turn.
    fn on_turn(&mut self, wire: &mut Wire) {
        let Some(front) = self.queue.front_mut() else { return };
        if let Some(parked) = front.parked.take() {
            wire.output.append(*parked);
        }
        if front.exchange.answer == Answer::Streaming {
            wire.notice_drained();
        }
    }

    /// The exchange `id` if its answer has come so far, and where more of it goes.
    fn place<'a>(
        &'a mut self,
        wire: &'a mut Wire,
        id: RequestId,
        answer: Answer,
    ) -> Option<(&'a mut Exchange, &'a mut OutputQueue)> {
        if !wire.is_open() {
            return None;
        }
        let index = self.index(id)?;
        let Slot { exchange, parked } = &mut self.queue[index];
        debug_assert!(exchange.answer == answer, "a request is answered once");
        let output = if index == 0 { &mut wire.output } else { parked.get_or_insert_default() };
        (exchange.answer == answer).then_some((exchange, output))
    }

    fn index(&self, id: RequestId) -> Option<usize> {
        let index = usize::try_from(id.0.checked_sub(self.first_id)?).ok()?;
        (index < self.queue.len()).then_some(index)
    }
}
