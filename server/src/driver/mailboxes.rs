//! The mailboxes between the threads of the process, and how a thread is woken.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use bigpeer_mailbox::{Parker, Receiver, Sender, Unparker, parker, ring};

use super::os::EventFd;
use crate::shard::{Arrival, Mail};

/// How many messages fit into a mailbox; beyond that they wait with their sender.
const MAILBOX_CAPACITY: usize = 4096;

/// How much of one sender's mail is read in a turn.
const MAIL_OF_TURN_MAX: usize = 64;

/// How many accepted connections may wait for a thread.
const CONTROL_CAPACITY: usize = 1024;

/// What the process itself tells a thread.
#[derive(Debug)]
pub enum Control {
    /// A connection was accepted.
    Connection {
        /// Its socket, non-blocking.
        stream: TcpStream,
        /// How it came.
        arrival: Arrival,
    },
    /// Begin to stop.
    Drain,
}

/// Sends [`Control`] to one thread.
#[derive(Debug)]
pub struct ControlSender {
    sender: Sender<Control>,
    waker: Unparker,
}

impl ControlSender {
    /// Sends, unless too much waits already.
    pub fn send(&mut self, control: Control) -> Result<(), Control> {
        self.sender.try_send(control).map_err(|full| full.0)?;
        self.waker.unpark();
        Ok(())
    }
}

/// All mailboxes of one thread, both ways.
#[derive(Debug)]
pub struct Mailboxes {
    inboxes: Vec<Receiver<Mail>>,
    outboxes: Vec<Option<Outbox>>,
    control: Receiver<Control>,
    parker: Parker,
    wake: Arc<EventFd>,
    waker: Unparker,
}

/// The way to one other thread.
#[derive(Debug)]
struct Outbox {
    sender: Sender<Mail>,
    waker: Unparker,
    /// What did not fit. A full mailbox never stops its sender from reading its own.
    overflow: VecDeque<Mail>,
    is_filled: bool,
}

/// Connects that many threads with each other, and each with the process.
///
/// # Errors
///
/// When the system has no more file descriptors.
pub fn connect(threads: u16) -> io::Result<(Vec<Mailboxes>, Vec<ControlSender>)> {
    let count = usize::from(threads);
    let (mut boxes, mut controls) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let wake = Arc::new(EventFd::blocking()?);
        let signal = wake.clone();
        let (parker, waker) = parker(move || signal.signal());
        let (sender, control) = ring(CONTROL_CAPACITY);
        controls.push(ControlSender { sender, waker: waker.clone() });
        let (inboxes, outboxes) = (Vec::new(), Vec::new());
        boxes.push(Mailboxes { inboxes, outboxes, control, parker, wake, waker });
    }
    for from in 0..count {
        for to in 0..count {
            let outbox = (from != to).then(|| {
                let (sender, receiver) = ring(MAILBOX_CAPACITY);
                boxes[to].inboxes.push(receiver);
                let waker = boxes[to].waker.clone();
                Outbox { sender, waker, overflow: VecDeque::new(), is_filled: false }
            });
            boxes[from].outboxes.push(outbox);
        }
    }
    Ok((boxes, controls))
}

impl Mailboxes {
    /// The descriptor that becomes readable when this thread is woken.
    #[must_use]
    pub fn wake(&self) -> &Arc<EventFd> {
        &self.wake
    }

    /// Wakes this thread, for whoever completes its work elsewhere.
    #[must_use]
    pub fn waker(&self) -> &Unparker {
        &self.waker
    }

    /// The next word of the process.
    pub fn pop_control(&mut self) -> Option<Control> {
        self.control.pop()
    }

    /// Hands mail that waits to `take`, of each sender at most `MAIL_OF_TURN_MAX`: whoever sends as fast as this
    /// thread reads does not keep it from everything else.
    pub fn drain(&mut self, mut take: impl FnMut(Mail)) {
        for inbox in &mut self.inboxes {
            for mail in inbox.drain(MAIL_OF_TURN_MAX) {
                take(mail);
            }
        }
    }

    /// Sends mail; it is on its way after [`Mailboxes::flush`].
    pub fn post(&mut self, thread: u16, mail: Mail) {
        let outbox =
            self.outboxes[usize::from(thread)].as_mut().expect("no thread mails to itself");
        outbox.is_filled = true;
        if !outbox.overflow.is_empty() {
            outbox.overflow.push_back(mail);
        } else if let Err(full) = outbox.sender.try_send(mail) {
            outbox.overflow.push_back(full.0);
        }
    }

    /// Sends what waited, wakes whoever got something, and returns how much still waits.
    pub fn flush(&mut self) -> usize {
        let mut waiting = 0;
        for outbox in self.outboxes.iter_mut().flatten() {
            while let Some(mail) = outbox.overflow.pop_front() {
                if let Err(full) = outbox.sender.try_send(mail) {
                    outbox.overflow.push_front(full.0);
                    break;
                }
                outbox.is_filled = true;
            }
            if std::mem::take(&mut outbox.is_filled) {
                outbox.waker.unpark();
            }
            waiting += outbox.overflow.len();
        }
        waiting
    }

    /// Announces that this thread is about to sleep. It may, if this returns true; call
    /// [`Mailboxes::finish_park`] in any case.
    pub fn prepare_park(&mut self) -> bool {
        self.parker.prepare_park();
        self.control.is_empty() && self.inboxes.iter_mut().all(|inbox| inbox.is_empty())
    }

    /// This thread is awake.
    pub fn finish_park(&mut self) {
        self.parker.finish_park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_beyond_a_full_mailbox_waits_and_arrives_in_order() {
        let (mut boxes, _controls) = connect(2).expect("descriptors");
        let mut second = boxes.pop().expect("two");
        let mut first = boxes.pop().expect("two");
        let sent = MAILBOX_CAPACITY as u64 + 10;
        for upto in 0..sent {
            let upto = bigpeer_core::ident::Txn(upto);
            first.post(1, Mail::Applied { thread: 0, upto });
        }
        assert_eq!(first.flush(), 10);
        let mut received = Vec::new();
        while received.len() < sent as usize {
            second.drain(|mail| match mail {
                Mail::Applied { upto, .. } => received.push(upto.0),
                other => panic!("{other:?}"),
            });
            first.flush();
        }
        assert_eq!(received, (0..sent).collect::<Vec<_>>());
        assert!(second.prepare_park());
        second.finish_park();
    }
}
