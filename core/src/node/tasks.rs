//! Work that this node does for a coordinator, suspended and resumed.
//!
//! A task is resumed until it is done, waits for something by name, or has had its turn. What names its documents
//! runs as soon as it is made or woken, so that a point read does not queue behind a scan, and as long as all of it
//! together costs no more than the thread may spend at one moment. What looks through a collection, and what has had
//! its turn, goes on when the driver calls with time.

use std::collections::{BTreeMap, VecDeque};

use super::message::CallId;
use super::mutate::MutateTask;
use super::select::SelectTask;
use super::{Node, Output};
use crate::dql::Fuel;
use crate::ident::{PartitionId, Txn};
use crate::map::Map;
use crate::seam::Now;
use crate::store::BlockId;

/// Why a task gives back control.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing is left to do.
    Done,
    /// It needs a block that is not in memory.
    Blocked(BlockId),
    /// It has had its turn.
    Yield,
    /// It needs a document that another statement holds.
    Locked,
    /// It needs the log applied up to here.
    Behind(Txn),
    /// It has sent what it may; the asker says when to go on.
    Credit,
}

/// One suspended piece of work.
#[derive(Debug)]
pub(crate) enum Task {
    Select(Box<SelectTask>),
    Mutate(Box<MutateTask>),
}

/// Names a task within its node: whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskId {
    pub(crate) from: PartitionId,
    pub(crate) call: CallId,
}

/// A task and what is known of its length.
#[derive(Debug)]
struct Entry {
    task: Task,
    /// It looks through a collection, or has had a turn that it did not come to its end in: it always waits for its
    /// turn. What keeps coming back would else take the time of those that are done as soon as they have come.
    is_long: bool,
}

/// A task or a call that waits for some of the thread's time.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Task(TaskId),
    /// A call of this node with work of its own: a read whose rows are being put together, a mutation that is being
    /// sorted out among owners or written.
    Call(CallId),
}

/// The tasks of one node, each in at most one queue, and the calls that wait among them.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: Map<TaskId, Entry>,
    /// Those that go on as soon as the moment has work left.
    ready: VecDeque<Waiting>,
    /// Those that go on in their turn.
    yielded: VecDeque<Waiting>,
    blocked: BTreeMap<BlockId, Vec<TaskId>>,
    behind: BTreeMap<Txn, Vec<TaskId>>,
    locked: VecDeque<TaskId>,
}

impl Tasks {
    /// Takes a task on. One that looks through a collection waits for its first turn as for any later one: many that
    /// come at once would else keep the thread for the sum of their first rows.
    pub(crate) fn start(&mut self, id: TaskId, task: Task) {
        let is_long = matches!(&task, Task::Select(task) if task.is_scan());
        self.tasks.insert(id, Entry { task, is_long });
        self.wake([id]);
    }

    fn is_long(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|entry| entry.is_long)
    }

    /// The tasks go on: what they waited for is there.
    fn wake(&mut self, ids: impl IntoIterator<Item = TaskId>) {
        for id in ids {
            let queue = if self.is_long(id) { &mut self.yielded } else { &mut self.ready };
            queue.push_back(Waiting::Task(id));
        }
    }

    /// A call waits for its turn among the tasks that do.
    pub(crate) fn wait_for_turn(&mut self, call: CallId) {
        self.yielded.push_back(Waiting::Call(call));
    }

    /// A call waits for a moment that has work left.
    pub(crate) fn wait_for_moment(&mut self, call: CallId) {
        self.ready.push_back(Waiting::Call(call));
    }

    /// The calls that wait for their turn.
    #[cfg(test)]
    pub(crate) fn waiting_calls(&self) -> impl Iterator<Item = CallId> {
        self.yielded.iter().filter_map(|waiting| match waiting {
            Waiting::Call(call) => Some(*call),
            Waiting::Task(_) => None,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn has_runnable(&self) -> bool {
        !self.yielded.is_empty() || !self.ready.is_empty()
    }

    /// Something that is not known to be long waits for nothing.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// True when some task waits for the log to be applied further.
    pub(crate) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    pub(crate) fn wake_block(&mut self, block: BlockId) {
        let waiting = self.blocked.remove(&block);
        self.wake(waiting.into_iter().flatten());
    }

    pub(crate) fn wake_applied(&mut self, applied: Txn) {
        while let Some(entry) = self.behind.first_entry().filter(|entry| *entry.key() <= applied) {
            let waiting = entry.remove();
            self.wake(waiting);
        }
    }

    /// A lock was released: everyone who waits for one tries again, in the order they came.
    pub(crate) fn wake_unlocked(&mut self) {
        let waiting = std::mem::take(&mut self.locked);
        self.wake(waiting);
    }

    pub(crate) fn want_more(&mut self, from: PartitionId, call: CallId) {
        let id = TaskId { from, call };
        if let Some(Entry { task: Task::Select(task), .. }) = self.tasks.get_mut(&id)
            && task.grant()
        {
            // A merge asks for many such parts one after the other: they leave while the thread's turn is not over.
            if task.is_at_end() {
                self.ready.push_back(Waiting::Task(id));
            } else {
                self.wake([id]);
            }
        }
    }

    /// Forgets a task; a queue that still names it passes over it.
    pub(crate) fn cancel(&mut self, from: PartitionId, call: CallId) {
        self.tasks.remove(&TaskId { from, call });
    }

    fn suspend(&mut self, id: TaskId, mut entry: Entry, progress: &Progress) {
        match progress {
            Progress::Done => return,
            Progress::Blocked(block) => self.blocked.entry(*block).or_default().push(id),
            Progress::Yield => {
                entry.is_long = true;
                self.yielded.push_back(Waiting::Task(id));
            }
            Progress::Locked => self.locked.push_back(id),
            Progress::Behind(txn) => self.behind.entry(*txn).or_default().push(id),
            Progress::Credit => {}
        }
        self.tasks.insert(id, entry);
    }
}

impl Node {
    /// Runs what was just made or woken, as far as there is work to be spent; the rest waits for the driver's call
    /// with time.
    pub(crate) fn run_ready(&mut self, now: Now) {
        while self.moment.has_time()
            && let Some(waiting) = self.tasks.ready.pop_front()
        {
            let is_long = matches!(waiting, Waiting::Task(id) if self.tasks.is_long(id));
            match self.turn_left() {
                0 if is_long => self.tasks.yielded.push_back(waiting),
                turn if is_long => self.run_waiting(waiting, turn, now),
                _ => self.run_waiting(waiting, self.whole_turn(), now),
            }
        }
    }

    /// Gives those that wait for turns theirs, until the turn that the thread has left is over.
    pub(crate) fn run_yielded(&mut self, now: Now) {
        while let turn @ 1.. = self.turn_left()
            && let Some(waiting) = self.tasks.yielded.pop_front()
        {
            self.in_turn(|node| node.run_waiting(waiting, turn, now));
        }
    }

    fn run_waiting(&mut self, waiting: Waiting, turn: Fuel, now: Now) {
        match waiting {
            Waiting::Task(id) => self.run_task(id, turn, now),
            Waiting::Call(call) => self.advance_call(call, turn),
        }
    }

    fn run_task(&mut self, id: TaskId, turn: Fuel, now: Now) {
        let Some(mut entry) = self.tasks.tasks.remove(&id) else { return };
        let mut resume = |node: &mut Self| {
            node.note_work(RESUME);
            match &mut entry.task {
                Task::Select(task) => node.resume_select(id, task, turn),
                Task::Mutate(task) => node.resume_mutate(task, turn, now),
            }
        };
        // Rows that a long one hands on from among the others are part of its turn too.
        let progress = if entry.is_long { self.in_turn(resume) } else { resume(self) };
        if let Progress::Blocked(block) = progress {
            self.outputs.push_back(Output::FetchBlock(block));
        }
        self.tasks.suspend(id, entry, &progress);
    }
}

/// The cost of resuming a task, whatever it does.
const RESUME: Fuel = 1_000;
