//! Carries out the log's disk commands with plain files, in order, on a thread of their own: a read of a document
//! does not wait for a sync.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bigpeer_core::disk::{DiskCommand, DiskDone, DiskError, DiskOp, DiskReply, FileName};
use bigpeer_host::files::DIR_MODE;
use bigpeer_host::volume::volume;
use bytes::Bytes;

use crate::command::{Command, Inbox};
use crate::error::PeerError;

/// The thread, as the owner of the log sees it. Dropping it waits for the thread's end.
#[derive(Debug)]
pub(crate) struct Disk {
    commands: Option<Sender<(DiskOp, DiskCommand)>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Files lie below `root`; completions go to `inbox`.
    pub(crate) fn start(root: &Path, inbox: Inbox) -> Result<Self, PeerError> {
        let (commands, work) = channel();
        let files = Files::new(root);
        let thread = std::thread::Builder::new()
            .name("bigpeer-disk".to_owned())
            .spawn(move || run(files, &work, &inbox))
            .map_err(PeerError::io("start a thread"))?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    pub(crate) fn submit(&self, op: DiskOp, command: DiskCommand) {
        let commands = self.commands.as_ref().expect("the disk is not dropped");
        // The thread ends early only when the peer's own has ended: then nobody waits for the answer.
        let _ = commands.send((op, command));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut files: Files, work: &Receiver<(DiskOp, DiskCommand)>, inbox: &Inbox) {
    while let Ok((op, command)) = work.recv() {
        let result = files.execute(command).map_err(|error| to_disk_error(&error));
        if inbox.send(Command::Disk(DiskDone { op, result })).is_err() {
            return;
        }
    }
}

/// Files below a root, a few of them kept open.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    open: BTreeMap<FileName, File>,
}

/// The most files that are kept open.
const FILES_OPEN_MAX: usize = 8;

/// How many zeroes are written at once.
const ZEROES_BYTES: usize = 256 * 1024;

impl Files {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: BTreeMap::new() }
    }

    fn execute(&mut self, command: DiskCommand) -> io::Result<DiskReply> {
        match command {
            DiskCommand::List { dir } => return self.list(&dir),
            DiskCommand::Create { file, len_bytes, keep_free_bytes } => {
                self.create(&file, len_bytes, keep_free_bytes)?;
            }
            DiskCommand::Write { file, offset_bytes, data } => {
                self.file(&file)?.write_all_at(&data, offset_bytes)?;
            }
            // The length of a pre-written file does not change; that of another is data that `sync_data` covers.
            DiskCommand::Sync { file } => self.file(&file)?.sync_data()?,
            DiskCommand::SyncDir { dir } => File::open(self.root.join(&*dir))?.sync_all()?,
            DiskCommand::Rename { from, to } => {
                self.open.remove(&from);
                self.open.remove(&to);
                fs::rename(self.root.join(&*from), self.root.join(&*to))?;
            }
            DiskCommand::Delete { file } => {
                self.open.remove(&file);
                fs::remove_file(self.root.join(&*file))?;
            }
            DiskCommand::Read { file, offset_bytes, len_bytes } => {
                return self.read(&file, offset_bytes, len_bytes);
            }
        }
        Ok(DiskReply::Done)
    }

    fn list(&self, dir: &str) -> io::Result<DiskReply> {
        let path = self.root.join(dir);
        // Its owner's alone, whatever the umask of the application: see `Directory`.
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(&path)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        found.sort();
        Ok(DiskReply::Listed(found))
    }

    fn create(&mut self, name: &FileName, len_bytes: u64, keep_free_bytes: u64) -> io::Result<()> {
        self.open.remove(name);
        let path = self.root.join(&**name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path)?;
        // Asked behind the truncation: what the name held before counts as free.
        let needed_bytes = len_bytes.saturating_add(keep_free_bytes);
        if volume(&self.root).is_some_and(|volume| volume.free_bytes < needed_bytes) {
            drop(file);
            let _ = fs::remove_file(&path);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = write_zeroes(&file, len_bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a segment would take the space that is missing.
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn read(
        &mut self,
        name: &FileName,
        offset_bytes: u64,
        len_bytes: u32,
    ) -> io::Result<DiskReply> {
        match self.file(name) {
            // Opened for this one read: the volume may be writable when the file is used next.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                read_from(&File::open(self.root.join(&**name))?, offset_bytes, len_bytes)
            }
            opened => read_from(opened?, offset_bytes, len_bytes),
        }
    }

    fn file(&mut self, name: &FileName) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            if self.open.len() >= FILES_OPEN_MAX {
                self.open.pop_first();
            }
            let file = OpenOptions::new().read(true).write(true).open(self.root.join(&**name))?;
            self.open.insert(name.clone(), file);
        }
        Ok(&self.open[name])
    }
}

fn read_from(file: &File, offset_bytes: u64, len_bytes: u32) -> io::Result<DiskReply> {
    let length = file.metadata()?.len().saturating_sub(offset_bytes).min(u64::from(len_bytes));
    let mut bytes = vec![0; usize::try_from(length).expect("it is below a u32")];
    file.read_exact_at(&mut bytes, offset_bytes)?;
    Ok(DiskReply::Read(Bytes::from(bytes)))
}

fn write_zeroes(file: &File, len_bytes: u64) -> io::Result<()> {
    let zeroes = vec![0; ZEROES_BYTES];
    let mut offset = 0;
    while offset < len_bytes {
        let count = (len_bytes - offset).min(ZEROES_BYTES as u64);
        file.write_all_at(&zeroes[..count as usize], offset)?;
        offset += count;
    }
    Ok(())
}

/// These come from opening a file, or from a call that has done nothing yet.
#[cfg(unix)]
const PASSING: &[i32] = &[libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::EINTR];
#[cfg(not(unix))]
const PASSING: &[i32] = &[];

fn to_disk_error(error: &io::Error) -> DiskError {
    if error.raw_os_error().is_some_and(|code| PASSING.contains(&code)) {
        return DiskError::Again(error.to_string());
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        io::ErrorKind::NotFound => DiskError::NotFound,
        io::ErrorKind::ReadOnlyFilesystem => DiskError::ReadOnly,
        _ => DiskError::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn commands_do_what_the_seam_says() {
        let scratch = Scratch::new("disk");
        let mut files = Files::new(scratch.path());
        let mut run = |command| files.execute(command).map_err(|error| to_disk_error(&error));
        let file: FileName = "log/a".into();
        let dir = || DiskCommand::List { dir: "log".into() };
        assert_eq!(run(dir()), Ok(DiskReply::Listed(Vec::new())));
        let len_bytes = 1_000_448;
        let create = DiskCommand::Create { file: file.clone(), len_bytes, keep_free_bytes: 0 };
        assert_eq!(run(create), Ok(DiskReply::Done));
        let data = Bytes::from(vec![9; 512]);
        let write = DiskCommand::Write { file: file.clone(), offset_bytes: 512, data };
        assert_eq!(run(write), Ok(DiskReply::Done));
        assert_eq!(run(DiskCommand::Sync { file: file.clone() }), Ok(DiskReply::Done));
        let to: FileName = "log/b".into();
        let rename = DiskCommand::Rename { from: file, to: to.clone() };
        assert_eq!(run(rename), Ok(DiskReply::Done));
        assert_eq!(run(DiskCommand::SyncDir { dir: "log".into() }), Ok(DiskReply::Done));
        assert_eq!(run(dir()), Ok(DiskReply::Listed(vec![("b".into(), len_bytes)])));
        let read =
            |offset_bytes| DiskCommand::Read { file: to.clone(), offset_bytes, len_bytes: 600 };
        let Ok(DiskReply::Read(bytes)) = run(read(512)) else { panic!("bytes") };
        assert_eq!((bytes.len(), bytes[511], bytes[512]), (600, 9, 0));
        let Ok(DiskReply::Read(bytes)) = run(read(len_bytes - 10)) else { panic!("bytes") };
        assert_eq!(bytes.len(), 10);
        assert_eq!(run(DiskCommand::Delete { file: to.clone() }), Ok(DiskReply::Done));
        assert_eq!(run(read(0)), Err(DiskError::NotFound));
    }
}
