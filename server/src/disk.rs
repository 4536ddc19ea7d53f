//! Carries out disk commands with plain files, on threads of its own.
//!
//! Three threads: one writes and syncs the log, one makes, lists, reads and deletes what belongs to it, and one does
//! everything for checkpoints. Making a segment writes all of it once, a checkpoint writes all that is held, and
//! the log must wait for neither. Each takes its commands in order; completions go into one queue.
//!
//! The log's directory and its newest segments stay open. Where every other descriptor of the process is taken by
//! connections, the log goes on in the segment that it has made ready, and only makes the next one later.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bigpeer_core::disk::{DiskCommand, DiskDone, DiskError, DiskOp, DiskReply, FileName};
use bigpeer_core::log::checkpoint::CHECKPOINT_DIR;
use bigpeer_host::volume::volume;
use bigpeer_mailbox::Unparker;
use bytes::Bytes;

/// The threads, as the owner of the log sees them. Dropping it lets them end and waits.
#[derive(Debug)]
pub struct DiskPool {
    foreground: Option<Sender<(DiskOp, DiskCommand)>>,
    background: Option<Sender<(DiskOp, DiskCommand)>>,
    checkpoints: Option<Sender<(DiskOp, DiskCommand)>>,
    done: Receiver<DiskDone>,
    /// Commands without a completion: mostly there are none, and polls in each turn are answered by this number alone.
    out: usize,
    threads: Vec<JoinHandle<()>>,
}

impl DiskPool {
    /// Starts the threads, which take over the files that `disk` holds open; `waker` wakes the owner after a
    /// completion.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(disk: DiskHere, waker: &Unparker) -> io::Result<Self> {
        let (done_in, done) = channel();
        let mut threads = Vec::new();
        let mut start = |name: &str| {
            let (commands, inbox) = channel();
            let worker = disk.0.clone();
            let (done, waker) = (done_in.clone(), waker.clone());
            let thread = std::thread::Builder::new().name(name.to_owned());
            threads.push(thread.spawn(move || worker.run(&inbox, &done, &waker))?);
            Ok::<_, io::Error>(Some(commands))
        };
        let foreground = start("disk-write")?;
        let background = start("disk-make")?;
        let checkpoints = start("disk-checkpoint")?;
        Ok(Self { foreground, background, checkpoints, done, out: 0, threads })
    }

    /// Hands over a command.
    pub fn submit(&mut self, op: DiskOp, command: DiskCommand) {
        let is_urgent = matches!(command, DiskCommand::Write { .. } | DiskCommand::Sync { .. });
        let queue = if is_of_checkpoints(&command) {
            &self.checkpoints
        } else if is_urgent {
            &self.foreground
        } else {
            &self.background
        };
        let queue = queue.as_ref().expect("the pool is not dropped");
        self.out += 1;
        queue.send((op, command)).expect("a disk thread ends only with the pool");
    }

    /// The next completion.
    pub fn poll_done(&mut self) -> Option<DiskDone> {
        if self.out == 0 {
            return None;
        }
        let done = self.done.try_recv().ok()?;
        self.out -= 1;
        Some(done)
    }
}

impl Drop for DiskPool {
    fn drop(&mut self) {
        self.foreground = None;
        self.background = None;
        self.checkpoints = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether a command is about the directory of checkpoints or a file in it. A rename stays in its directory.
fn is_of_checkpoints(command: &DiskCommand) -> bool {
    directory_of(command.file()) == CHECKPOINT_DIR
}

/// Carries out commands on the calling thread, for those who have nothing else to do meanwhile.
#[derive(Debug)]
pub struct DiskHere(Worker);

impl DiskHere {
    /// Files lie below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self(Worker::new(root))
    }

    /// Carries out one command.
    pub fn execute(&mut self, op: DiskOp, command: DiskCommand) -> DiskDone {
        let result = self.0.execute(command).map_err(|error| to_disk_error(&error));
        DiskDone { op, result }
    }
}

/// One thread's view of the disk. Clones share what is open.
#[derive(Clone, Debug)]
struct Worker {
    root: PathBuf,
    open: Arc<Mutex<Open>>,
}

/// Files that are kept open. One follows its renames: so the thread that makes a segment hands it to the one that
/// writes.
#[derive(Debug, Default)]
struct Open {
    files: BTreeMap<FileName, Arc<File>>,
    /// The directories that were listed: all that there are.
    directories: BTreeMap<FileName, Arc<File>>,
}

impl Open {
    /// Of each directory the newest files stay, whose names are the greatest: the segment that is written and the next,
    /// the checkpoint that is made. The rest would take descriptors that are kept free for these.
    fn keep(&mut self, name: &FileName, file: Arc<File>) {
        self.files.insert(name.clone(), file);
        let siblings =
            || self.files.keys().filter(|other| directory_of(other) == directory_of(name));
        if siblings().count() > FILES_OPEN_MAX {
            let oldest = siblings().find(|&other| other != name).cloned();
            self.files.remove(&oldest.expect("there are several"));
        }
    }
}

fn directory_of(file: &str) -> &str {
    file.split('/').next().expect("also an empty name has a first part")
}

/// The most files of one directory that are kept open: a segment that is written, one that is ready, and a longer one
/// that is made to take its place.
const FILES_OPEN_MAX: usize = 3;

/// The most descriptors that the disk threads take beside those of their directories: the files of the log and of the
/// checkpoints, and one for each thread's command.
pub const DESCRIPTORS_MAX: u64 = 2 * FILES_OPEN_MAX as u64 + 3;

/// The segment that is written and the one that is ready.
const SEGMENTS_HELD: usize = 2;

/// How many zeroes are written at once.
const ZEROES_BYTES: usize = 256 * 1024;

/// How many zeroes are synced at once: a sync of the log that arrives meanwhile waits behind no more than this.
const ZEROES_SYNCED_BYTES: u64 = 2 << 20;

impl Worker {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: Arc::default() }
    }

    fn run(
        self,
        inbox: &Receiver<(DiskOp, DiskCommand)>,
        done: &Sender<DiskDone>,
        waker: &Unparker,
    ) {
        while let Ok((op, command)) = inbox.recv() {
            let result = self.execute(command).map_err(|error| to_disk_error(&error));
            if done.send(DiskDone { op, result }).is_err() {
                return;
            }
            waker.unpark();
        }
    }

    fn execute(&self, command: DiskCommand) -> io::Result<DiskReply> {
        match command {
            DiskCommand::List { dir } => return self.list(&dir),
            DiskCommand::Create { file, len_bytes, keep_free_bytes } => {
                self.create(&file, len_bytes, keep_free_bytes)?;
            }
            DiskCommand::Write { file, offset_bytes, data } => {
                self.file(&file)?.write_all_at(&data, offset_bytes)?;
            }
            // The length and the blocks of a file never change after it was made: its data is all there is.
            DiskCommand::Sync { file } => self.file(&file)?.sync_data()?,
            DiskCommand::SyncDir { dir } => self.directory(&dir)?.sync_all()?,
            DiskCommand::Rename { from, to } => {
                fs::rename(self.root.join(&*from), self.root.join(&*to))?;
                let held = self.open().files.remove(&from);
                self.open().files.remove(&to);
                match held {
                    Some(file) => self.open().keep(&to, file),
                    None => self.hold(&to),
                }
            }
            DiskCommand::Delete { file } => {
                self.open().files.remove(&file);
                fs::remove_file(self.root.join(&*file))?;
            }
            DiskCommand::Read { file, offset_bytes, len_bytes } => {
                return self.read(&file, offset_bytes, len_bytes);
            }
        }
        Ok(DiskReply::Done)
    }

    fn list(&self, dir: &FileName) -> io::Result<DiskReply> {
        let path = self.root.join(&**dir);
        fs::create_dir_all(&path)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        found.sort();
        self.directory(dir)?;
        let segments = found.iter().rev().filter(|(name, _)| name.ends_with(".seg"));
        for (name, _) in segments.take(SEGMENTS_HELD) {
            self.hold(&format!("{dir}/{name}").into());
        }
        Ok(DiskReply::Listed(found))
    }

    /// Opens a file ahead of its use. Where that fails it is tried again when it is used.
    fn hold(&self, name: &FileName) {
        let _ = self.file(name);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no holder of this lock panics")
    }

    fn directory(&self, name: &FileName) -> io::Result<Arc<File>> {
        if let Some(directory) = self.open().directories.get(name) {
            return Ok(directory.clone());
        }
        let directory = Arc::new(File::open(self.root.join(&**name))?);
        self.open().directories.insert(name.clone(), directory.clone());
        Ok(directory)
    }

    fn create(&self, name: &FileName, len_bytes: u64, keep_free_bytes: u64) -> io::Result<()> {
        let path = self.root.join(&**name);
        self.open().files.remove(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
        // Asked behind the truncation: what the name held before counts as free.
        let needed_bytes = len_bytes.saturating_add(keep_free_bytes);
        if volume(&self.root).is_some_and(|volume| volume.free_bytes < needed_bytes) {
            drop(file);
            let _ = fs::remove_file(&path);
            return Err(ErrorKind::StorageFull.into());
        }
        let written = write_zeroes(&file, len_bytes).and_then(|()| file.sync_all());
        match &written {
            Ok(()) => self.open().keep(name, Arc::new(file)),
            // Half a segment would take the space that is missing.
            Err(_) => drop(fs::remove_file(&path)),
        }
        written
    }

    fn read(&self, name: &FileName, offset_bytes: u64, len_bytes: u32) -> io::Result<DiskReply> {
        let file = self.file_to_read(name)?;
        let length = file.metadata()?.len().saturating_sub(offset_bytes).min(u64::from(len_bytes));
        let mut bytes = vec![0; usize::try_from(length).expect("it is below a u32")];
        file.read_exact_at(&mut bytes, offset_bytes)?;
        Ok(DiskReply::Read(Bytes::from(bytes)))
    }

    /// A file on a read-only volume is opened for this one read: the volume may be writable when it is used next.
    fn file_to_read(&self, name: &FileName) -> io::Result<Arc<File>> {
        match self.file(name) {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                File::open(self.root.join(&**name)).map(Arc::new)
            }
            opened => opened,
        }
    }

    fn file(&self, name: &FileName) -> io::Result<Arc<File>> {
        if let Some(file) = self.open().files.get(name) {
            return Ok(file.clone());
        }
        let path = self.root.join(&**name);
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(path)?);
        self.open().keep(name, file.clone());
        Ok(file)
    }
}

fn write_zeroes(file: &File, len_bytes: u64) -> io::Result<()> {
    let zeroes = vec![0; ZEROES_BYTES];
    let mut offset = 0;
    while offset < len_bytes {
        let count = (len_bytes - offset).min(ZEROES_BYTES as u64);
        file.write_all_at(&zeroes[..count as usize], offset)?;
        offset += count;
        if offset.is_multiple_of(ZEROES_SYNCED_BYTES) {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// These come from opening a file, or from a call that has done nothing yet.
const PASSING: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::EINTR];

fn to_disk_error(error: &io::Error) -> DiskError {
    if error.raw_os_error().is_some_and(|code| PASSING.contains(&code)) {
        return DiskError::Again(error.to_string());
    }
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full,
        ErrorKind::NotFound => DiskError::NotFound,
        ErrorKind::ReadOnlyFilesystem => DiskError::ReadOnly,
        _ => DiskError::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pool: &mut DiskPool, command: DiskCommand) -> Result<DiskReply, DiskError> {
        pool.submit(DiskOp(7), command);
        let done = pool.done.recv().expect("the pool lives");
        assert_eq!(done.op, DiskOp(7));
        done.result
    }

    fn scratch(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("bigpeer-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("temporary");
        root
    }

    #[test]
    fn however_many_files_come_and_go_a_few_stay_open_and_those_are_the_newest() {
        let root = scratch("open");
        let worker = Worker::new(&root);
        let execute = |command| worker.execute(command).expect("it is a plain directory");
        for dir in ["log", CHECKPOINT_DIR] {
            execute(DiskCommand::List { dir: dir.into() });
        }
        for number in 1..20 {
            for dir in ["log", CHECKPOINT_DIR] {
                let tmp: FileName = format!("{dir}/spare.tmp").into();
                let to: FileName = format!("{dir}/{number:016x}.seg").into();
                execute(DiskCommand::Create {
                    file: tmp.clone(),
                    len_bytes: 512,
                    keep_free_bytes: 0,
                });
                execute(DiskCommand::Rename { from: tmp, to });
                let oldest: FileName = format!("{dir}/{:016x}.seg", 1).into();
                execute(DiskCommand::Sync { file: oldest });
            }
            let open = worker.open();
            assert!(open.files.len() + 3 <= DESCRIPTORS_MAX as usize, "{:?}", open.files.keys());
            let newest: FileName = format!("log/{number:016x}.seg").into();
            assert!(open.files.contains_key(&newest), "the segment that is written stays");
        }
        fs::remove_dir_all(&root).expect("ours");
    }

    #[test]
    fn commands_do_what_the_seam_says() {
        let root = scratch("disk");
        let (_parker, unparker) = bigpeer_mailbox::parker(|| {});
        let mut pool = DiskPool::start(DiskHere::new(&root), &unparker).expect("threads");
        for dir in ["log", CHECKPOINT_DIR] {
            commands_do_it_in(dir, &mut pool);
        }
        drop(pool);
        fs::remove_dir_all(&root).expect("ours");
    }

    /// Names are taken by one file after the other, which must not be mistaken for each other.
    fn commands_do_it_in(name: &str, pool: &mut DiskPool) {
        let file: FileName = format!("{name}/a").into();
        let dir = || DiskCommand::List { dir: name.into() };
        assert_eq!(run(pool, dir()), Ok(DiskReply::Listed(Vec::new())));
        let (len_bytes, keep_free_bytes) = (1_000_448, 0);
        let create = |file: &FileName, len_bytes, keep_free_bytes| DiskCommand::Create {
            file: file.clone(),
            len_bytes,
            keep_free_bytes,
        };
        assert_eq!(run(pool, create(&file, len_bytes, u64::MAX)), Err(DiskError::Full));
        assert_eq!(run(pool, dir()), Ok(DiskReply::Listed(Vec::new())), "nothing is left of it");
        let made = create(&file, len_bytes, keep_free_bytes);
        assert_eq!(run(pool, made), Ok(DiskReply::Done));
        let data = Bytes::from(vec![9; 512]);
        let write = DiskCommand::Write { file: file.clone(), offset_bytes: 512, data };
        assert_eq!(run(pool, write), Ok(DiskReply::Done));
        assert_eq!(run(pool, DiskCommand::Sync { file: file.clone() }), Ok(DiskReply::Done));
        let to: FileName = format!("{name}/b").into();
        let rename = DiskCommand::Rename { from: file.clone(), to: to.clone() };
        assert_eq!(run(pool, rename), Ok(DiskReply::Done));
        assert_eq!(run(pool, DiskCommand::SyncDir { dir: name.into() }), Ok(DiskReply::Done));
        assert_eq!(run(pool, dir()), Ok(DiskReply::Listed(vec![("b".into(), len_bytes)])));
        let read =
            |offset_bytes| DiskCommand::Read { file: to.clone(), offset_bytes, len_bytes: 600 };
        let Ok(DiskReply::Read(bytes)) = run(pool, read(512)) else { panic!("bytes") };
        assert_eq!((bytes.len(), bytes[511], bytes[512]), (600, 9, 0));
        let Ok(DiskReply::Read(bytes)) = run(pool, read(len_bytes - 10)) else { panic!("bytes") };
        assert_eq!(bytes.len(), 10);
        assert_eq!(run(pool, DiskCommand::Delete { file: to.clone() }), Ok(DiskReply::Done));
        assert_eq!(run(pool, read(0)), Err(DiskError::NotFound));
        assert_eq!(run(pool, create(&to, 0, 0)), Ok(DiskReply::Done));
        let write =
            DiskCommand::Write { file: to.clone(), offset_bytes: 0, data: Bytes::from("new") };
        assert_eq!(run(pool, write), Ok(DiskReply::Done));
        assert_eq!(run(pool, dir()), Ok(DiskReply::Listed(vec![("b".into(), 3)])));
    }
}
