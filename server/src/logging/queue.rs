//! The queue of lines, and the thread that writes them.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The most lines that wait. A line has a message of ours and a few fields, each bounded: some 4 MiB at the very most,
/// and 200 KiB as a rule.
const LINES_MAX: usize = 1024;

/// Lines on their way to where they are written.
#[derive(Debug)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    taken: AtomicU64,
    dropped: AtomicU64,
    written: Arc<Written>,
}

/// How many lines the thread has written.
#[derive(Debug, Default)]
struct Written {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Queue {
    /// Starts the thread.
    pub(super) fn start(out: impl Write + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let written = Arc::new(Written::default());
        let thread = std::thread::Builder::new().name("log".to_owned());
        let counted = written.clone();
        // A system without another thread has no place for lines either: they are all dropped, and counted.
        let _ = thread.spawn(move || write_all(&waiting, out, &counted));
        Self { lines, taken: AtomicU64::new(0), dropped: AtomicU64::new(0), written }
    }

    /// Takes a line, or drops it if there is no place. Never waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        let counter = match self.lines.try_send(line) {
            Ok(()) => &self.taken,
            Err(_) => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was taken before is written, or nothing was for as long as `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let target = self.taken.load(Ordering::Relaxed);
        let mut count = self.written.count.lock().expect("no holder of this lock panics");
        let mut deadline = Instant::now() + patience;
        while *count < target {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let before = *count;
            let waited = self.written.changed.wait_timeout(count, left);
            count = waited.expect("no holder of this lock panics").0;
            if *count > before {
                deadline = Instant::now() + patience;
            }
        }
    }
}

fn write_all(waiting: &Receiver<Vec<u8>>, mut out: impl Write, written: &Written) {
    while let Ok(line) = waiting.recv() {
        // A closed standard error must not stop a server.
        let _ = out.write_all(&line);
        *written.count.lock().expect("no holder of this lock panics") += 1;
        written.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let queue = Queue::start(writer);
        let count = 3 * LINES_MAX as u64;
        for _ in 0..count {
            queue.push(vec![b'x'; 1000]);
        }
        queue.flush(Duration::from_millis(10));
        let taken = queue.taken.load(Ordering::Relaxed);
        assert!(queue.dropped() > 0, "a pipe holds less than three queues");
        assert_eq!(taken + queue.dropped(), count);
        // Now somebody reads: what was taken comes, and a flush waits for all of it.
        let thread = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes.len() as u64)
        });
        queue.flush(Duration::from_secs(60));
        assert_eq!(*queue.written.count.lock().expect("not poisoned"), taken);
        drop(queue);
        let read = thread.join().expect("no panic").expect("a pipe can be read");
        assert_eq!(read, 1000 * taken);
    }

    #[test]
    fn a_flush_of_nothing_returns_at_once() {
        Queue::start(std::io::sink()).flush(Duration::from_secs(3600));
    }
}
