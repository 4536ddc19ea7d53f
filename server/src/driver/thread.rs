//! What every driver's thread has beside its sockets: the shard, the mailboxes, the disk and the clock.

use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bigpeer_core::disk::DiskDone;

use super::mailboxes::{Control, Mailboxes};
use crate::allocator;
use crate::clock::Clock;
use crate::disk::DiskPool;
use crate::first_start::FirstStart;
use crate::reader::{Read, Reader};
use crate::shard::{Arrival, ConnId, Shard, ShardOutput};

/// What a thread tells the process.
#[derive(Debug)]
pub enum Notice {
    /// Requests are answered from here on.
    Ready(Option<Box<FirstStart>>),
    /// The thread has ended in order.
    Stopped,
    /// The process must end, and why.
    Fatal(String),
    /// The log has failed, and the process shall stop then.
    LogFailed,
    /// A signal asks to stop.
    Signal(&'static str),
}

/// One thread's parts, whatever moves its bytes.
#[derive(Debug)]
pub struct ShardThread {
    /// The state machine.
    pub shard: Shard,
    /// To and from the other threads.
    pub mail: Mailboxes,
    /// The disk; only on the first thread.
    pub disk: Option<DiskPool>,
    /// Reads large statements; where there are nodes.
    pub reader: Option<Reader>,
    /// The time.
    pub clock: Clock,
    /// To the process.
    pub notices: Sender<Notice>,
    /// Completions that were found while looking whether to sleep.
    pub(super) done: Vec<DiskDone>,
    read: Vec<(u64, Read)>,
    pub(super) mail_waiting: usize,
    is_in_turn: bool,
}

/// How long to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// Not at all: there is work.
    Not,
    /// At most this long.
    For(Duration),
    /// Until something happens.
    Forever,
}

/// How soon to try again when a mailbox is full: nothing tells us that there is room.
const MAIL_RETRY: Duration = Duration::from_micros(100);

/// How often the shard may ask for another look at its connections before others get their turn.
const ROUNDS_MAX: usize = 8;

impl ShardThread {
    /// Joins the parts.
    #[must_use]
    pub fn new(
        shard: Shard,
        mail: Mailboxes,
        disk: Option<DiskPool>,
        reader: Option<Reader>,
        clock: Clock,
        notices: Sender<Notice>,
    ) -> Self {
        Self {
            shard,
            mail,
            disk,
            reader,
            clock,
            notices,
            done: Vec::new(),
            read: Vec::new(),
            mail_waiting: 0,
            is_in_turn: false,
        }
    }

    /// The shard, in a turn that has begun.
    pub fn in_turn(&mut self) -> &mut Shard {
        if !std::mem::replace(&mut self.is_in_turn, true) {
            self.shard.begin_turn(self.clock.mono(), self.clock.wall());
        }
        &mut self.shard
    }

    /// Begins a turn unless one has begun, and takes mail and completions. `accept` is given new connections.
    pub fn begin_turn(&mut self, mut accept: impl FnMut(&mut Shard, TcpStream, Arrival)) {
        self.in_turn();
        while let Some(control) = self.mail.pop_control() {
            match control {
                Control::Connection { stream, arrival } => {
                    accept(&mut self.shard, stream, arrival);
                }
                Control::Drain => self.shard.drain(),
            }
        }
        self.mail.drain(|mail| self.shard.handle_mail(mail));
        for done in self.done.drain(..) {
            self.shard.handle_disk(done);
        }
        while let Some(done) = self.disk.as_mut().and_then(DiskPool::poll_done) {
            self.shard.handle_disk(done);
        }
        self.read.extend(self.reader.as_mut().and_then(Reader::poll_done));
        for (request, read) in self.read.drain(..) {
            self.shard.handle_read(request, read);
        }
    }

    /// Ends a turn: carries out what the shard asks for. Returns false when the thread shall end.
    pub fn finish_turn(&mut self, mut service: impl FnMut(&mut Shard, ConnId)) -> bool {
        self.is_in_turn = false;
        let mut is_running = self.carry_out(&mut service);
        if self.shard.run_on() {
            is_running &= self.carry_out(&mut service);
            // A thread with a long statement never sleeps, and would keep its processor for a slice of the kernel's,
            // some milliseconds. Whoever waits for it (a client on this machine, another thread) goes first.
            std::thread::yield_now();
        }
        self.shard.note_mail_waiting(self.mail_waiting);
        if !is_running {
            self.notify(Notice::Stopped);
        }
        is_running
    }

    /// Carries out what the shard asks for, and what comes of that. Returns false when the thread shall end.
    fn carry_out(&mut self, service: &mut impl FnMut(&mut Shard, ConnId)) -> bool {
        let mut is_running = true;
        for _ in 0..ROUNDS_MAX {
            self.shard.settle();
            if !self.shard.has_output() {
                break;
            }
            while let Some(output) = self.shard.poll_output() {
                match output {
                    ShardOutput::Service(conn) => service(&mut self.shard, conn),
                    ShardOutput::Mail { thread, mail } => self.mail.post(thread, mail),
                    ShardOutput::Disk(op, command) => {
                        let disk = self.disk.as_mut().expect("the first thread has the disk");
                        disk.submit(op, command);
                    }
                    ShardOutput::Read(request, body) => {
                        let reader = self.reader.as_mut().expect("who has nodes has a reader");
                        reader.submit(request, body);
                    }
                    ShardOutput::Purge => self.purge(),
                    ShardOutput::Ready(first) => self.notify(Notice::Ready(first)),
                    ShardOutput::Fatal(cause) => self.notify(Notice::Fatal(cause)),
                    ShardOutput::Stop => self.notify(Notice::LogFailed),
                    ShardOutput::Stopped => is_running = false,
                }
            }
        }
        self.mail_waiting = self.mail.flush();
        is_running
    }

    /// Gives memory back, and leaves to the reader what takes long. Where there is none, nobody waits for long.
    fn purge(&self) {
        match &self.reader {
            Some(reader) => {
                allocator::collect();
                reader.purge();
            }
            None => allocator::purge(),
        }
    }

    /// Decides how long to sleep. Unless it says `Not`, call [`ShardThread::finish_sleep`] afterwards.
    pub fn prepare_sleep(&mut self) -> Sleep {
        if self.shard.has_output() {
            return Sleep::Not;
        }
        let deadline = self.shard.poll_timeout();
        let left = deadline.map(|deadline| deadline.since(self.clock.mono()));
        if left.is_some_and(|left| left.is_zero()) {
            return Sleep::Not;
        }
        let may_sleep = self.mail.prepare_park();
        self.done.extend(self.disk.as_mut().and_then(DiskPool::poll_done));
        self.read.extend(self.reader.as_mut().and_then(Reader::poll_done));
        if !may_sleep || !self.done.is_empty() || !self.read.is_empty() {
            self.mail.finish_park();
            return Sleep::Not;
        }
        let retry = (self.mail_waiting > 0).then_some(MAIL_RETRY);
        left.into_iter().chain(retry).min().map_or(Sleep::Forever, Sleep::For)
    }

    /// The thread is awake after a sleep that [`ShardThread::prepare_sleep`] allowed.
    pub fn finish_sleep(&mut self) {
        self.mail.finish_park();
    }

    fn notify(&self, notice: Notice) {
        // The process may be gone already; then there is nobody to tell.
        let _ = self.notices.send(notice);
    }
}
