//! `bigpeer serve`: brings the parts together, says when it is ready, and ends in order.

mod exposure;
mod options;
mod report;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bigpeer_connection::Config as ConnectionConfig;
use bigpeer_core::ident::{BootId, LogId, PartitionId, Uuid};
use bigpeer_core::log::{LogConfig, LogError};
use bigpeer_core::node::{NodeConfig, NodeLimits, Rack, RackConfig, SyncIdentity};
use bigpeer_core::rng::Seed;
use bigpeer_core::seam::Now;
use bigpeer_core::sync::BootTable;

pub use options::ServeOptions;
use report::Ready;

use crate::admin_token::AdminToken;
use crate::allocator;
use crate::api::Door;
use crate::api::gate::Gate;
use crate::clock::Clock;
use crate::datadir::{DataDir, DataDirError};
use crate::disk::{self, DiskHere, DiskPool};
use crate::driver::listen::{self, Acceptor, BindError, Bound, Doors};
use crate::driver::probe::{self, ChooseError, Driver};
use crate::driver::thread::{Notice, ShardThread};
use crate::driver::{self, EventFd, Mailboxes};
use crate::files::{self, FileError};
use crate::first_start::{self, FirstStart, Owed};
use crate::logging;
use crate::panic;
use crate::reader::Reader;
use crate::secrets::os_random;
use crate::shard::{LogSizes, OpenLog, Shard, ShardConfig, open_log};
use crate::shared::Shared;
use crate::tls::Tls;

/// Why the server did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log did not open.
    #[error("{0}")]
    Log(#[from] LogError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The admin listener would be reached in the clear from other machines.
    #[error(
        "the admin listener {address} can be reached from other machines, and its token would cross the network \
         unencrypted: give --admin-tls-cert and --admin-tls-key, listen on 127.0.0.1 with --admin-listen, or say \
         --admin-insecure where something else guards the way"
    )]
    AdminExposed {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The driver that was asked for cannot run here.
    #[error(transparent)]
    Driver(#[from] ChooseError),
    /// The operating system refuses something else.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A thread cannot go on.
    #[error("{0}")]
    Fatal(String),
    /// The server has stopped in order, and its log had failed before: see what was logged then.
    #[error(
        "stopped after the log had failed: the last writes may or may not be there after the next start"
    )]
    LogFailed,
}

impl ServeError {
    /// The exit code of the process: 4 after the log failed, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::LogFailed => 4,
            _ => 1,
        }
    }
}

/// Runs the server until a signal ends it.
///
/// # Errors
///
/// [`ServeError`], with what to do about it.
pub fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    allocator::give_back_when_told();
    panic::abort_on_panic();
    driver::block_stop_signals();
    driver::keep_others_out();
    let limit = probe::raise_file_limit().unwrap_or(1024);
    let (driver, why) = probe::choose(options.driver)?;
    logging::info("driver chosen", &[("driver", &driver.to_string()), ("why", &why)]);
    let tls = load_tls(options.tls_cert.as_deref(), options.tls_key.as_deref())?;
    let admin_tls = load_tls(options.admin_tls_cert.as_deref(), options.admin_tls_key.as_deref())?;
    exposure::check_admin(options)?;
    let mut directory = DataDir::open(&options.data, os_random)?;
    let admin_token = AdminToken::read(&match &options.admin_token_file {
        Some(file) => file.clone(),
        None => directory.admin_token(os_random)?,
    })?;
    let bound = bind(options)?;
    exposure::warn(&bound, tls.is_some());
    let threads = options.shards.unwrap_or_else(cores).clamp(1, directory.partitions);
    let clock = Clock::start();
    let (mut log, disk) = open(&mut directory, &clock, options.checkpoint_after)?;
    log.owed = owed(&directory, log.was_empty())?;
    let is_kept = !matches!(log.owed, Owed::Nothing);
    let template = ShardConfig {
        thread: 0,
        threads,
        has_door_thread: true,
        partitions: directory.partitions,
        connection: Arc::new(connection_config()),
        tls: tls.as_ref().map(|tls| tls.config.clone()),
        admin_tls: admin_tls.as_ref().map(|tls| tls.config.clone()),
        gate: Arc::new(gate(options)),
        admin_token,
        random: os_random,
        connections_max: options
            .connections_max
            .map_or_else(|| connections_max(limit, threads), |max| max as usize),
        input_bytes_max: input_bytes_max(threads),
        exit_on_log_failure: options.exit_on_log_failure,
        has_empty_handler: options.bench_empty_handler,
        has_panic_handler: options.test_panic,
    };
    let certificates = [("tls-cert", &tls), ("admin-tls-cert", &admin_tls)];
    let certificates =
        certificates.into_iter().filter_map(|(name, tls)| Some((name, tls.as_ref()?.watched())));
    let mut watched: Vec<_> = certificates.collect();
    watched.push(("admin-token-file", template.admin_token.watched()));
    let running = start(&template, &directory, log, disk, clock, driver)?;
    spawn("files", {
        let shared = running.shared.clone();
        move || files::watch(watched, shared.reload_errors())
    })?;
    let stop = Arc::new(EventFd::new()?);
    let addresses = report::addresses(&bound);
    let ready = Ready::new(options, &directory.path, &addresses, driver, threads, is_kept);
    let acceptor = spawn("accept", {
        let (stop, shared) = (stop.clone(), running.shared.clone());
        let acceptor = Acceptor::new(running.doors, shared, clock, options.connections_per_address)
            .below_descriptor(sockets_max(limit));
        move || acceptor.run(&bound, &stop)
    })?;
    let result = watch(&running.notices, running.threads.len(), &ready, &stop);
    stop.signal();
    let _ = acceptor.join();
    if result.is_ok() {
        for thread in running.threads {
            let _ = thread.join();
        }
        logging::info("stopped", &[]);
        if running.shared.failed_at().is_some() {
            return Err(ServeError::LogFailed);
        }
    }
    result
}

/// The threads of a server.
struct Running {
    threads: Vec<JoinHandle<()>>,
    doors: Doors,
    shared: Arc<Shared>,
    notices: Receiver<Notice>,
}

fn start(
    template: &ShardConfig,
    directory: &DataDir,
    log: OpenLog,
    disk: DiskHere,
    clock: Clock,
    driver: Driver,
) -> Result<Running, ServeError> {
    let (notify, notices) = channel();
    let node = node_config(directory, &log, template.threads);
    let shared = Arc::new(Shared::new(template.threads));
    shared.watch_volume(&directory.path);
    let (boxes, mut controls) = driver::connect(template.threads_of_all())?;
    let (mut log, mut disk) = (Some(log), Some(disk));
    let mut threads = Vec::new();
    for (thread, mail) in (0..).zip(boxes) {
        // The last has the admin door, and no nodes.
        let has_nodes = thread < template.threads;
        let rack = has_nodes.then(|| RackConfig {
            thread,
            threads: template.threads,
            node: node.clone(),
            seed: seed(),
        });
        let config = ShardConfig { thread, ..template.clone() };
        // The first thread has the log.
        let disk = disk.take().map(|disk| DiskPool::start(disk, mail.waker())).transpose()?;
        let reader = has_nodes.then(|| Reader::start(thread, mail.waker(), seed())).transpose()?;
        let parts = Parts { config, rack, log: log.take(), mail, disk, reader, clock };
        threads.push(run_thread(parts, shared.clone(), notify.clone(), driver)?);
    }
    spawn("signals", move || {
        loop {
            let signal = driver::wait_for_stop_signal();
            if notify.send(Notice::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    let admin = controls.pop().expect("the admin door has a thread");
    Ok(Running { threads, doors: Doors { shards: controls, admin }, shared, notices })
}

/// What goes into one thread.
struct Parts {
    config: ShardConfig,
    rack: Option<RackConfig>,
    log: Option<OpenLog>,
    mail: Mailboxes,
    disk: Option<DiskPool>,
    reader: Option<Reader>,
    clock: Clock,
}

fn run_thread(
    parts: Parts,
    shared: Arc<Shared>,
    notify: Sender<Notice>,
    driver: Driver,
) -> io::Result<JoinHandle<()>> {
    let name = match parts.rack {
        Some(_) => format!("shard-{}", parts.config.thread),
        None => "admin".to_owned(),
    };
    spawn(&name, move || {
        let Parts { config, rack, log, mail, disk, reader, clock } = parts;
        let is_door = rack.is_none();
        if config.threads >= cores() && !is_door {
            driver::pin_thread(usize::from(config.thread));
        }
        driver::ask_for_short_slices();
        // Made where it is used, so that its memory lies near the core.
        let rack = rack.map(Rack::new);
        let shard = Shard::new(config, shared, rack, log, clock.mono(), clock.wall());
        let thread = ShardThread::new(shard, mail, disk, reader, clock, notify.clone());
        let result = match driver {
            // A few connections that say little: no reason for a ring of its own.
            _ if is_door => driver::epoll::run(thread),
            Driver::TokioUring => driver::tokio_uring::run(thread),
            Driver::Glommio => driver::glommio::run(thread),
            Driver::Epoll => driver::epoll::run(thread),
        };
        if let Err(error) = result {
            let _ = notify.send(Notice::Fatal(format!("the {driver} driver failed: {error}")));
        }
    })
}

/// Says when the server is ready, and waits until it shall end and has ended.
fn watch(
    notices: &Receiver<Notice>,
    threads: usize,
    ready: &Ready,
    stop: &EventFd,
) -> Result<(), ServeError> {
    let (mut stopped, mut signals) = (0, 0);
    while stopped < threads {
        match notices.recv().expect("the signal thread holds a sender") {
            Notice::Ready(first) => ready.print(first.as_deref())?,
            Notice::Stopped => stopped += 1,
            Notice::Fatal(cause) => return Err(ServeError::Fatal(cause)),
            Notice::LogFailed => {
                logging::info("stopping", &[("cause", "the log has failed")]);
                stop.signal();
            }
            Notice::Signal(name) => {
                signals += 1;
                if signals > 1 {
                    let text = format!("{name} a second time: requests in flight were given up");
                    return Err(ServeError::Fatal(text));
                }
                logging::info("stopping", &[("signal", name)]);
                stop.signal();
            }
        }
    }
    Ok(())
}

fn bind(options: &ServeOptions) -> Result<Vec<Bound>, BindError> {
    Ok(vec![
        listen::bind(options.listen, Door::Data, "--listen")?,
        listen::bind(options.peer_listen, Door::Peer, "--peer-listen")?,
        listen::bind(options.admin_listen, Door::Admin, "--admin-listen")?,
    ])
}

fn load_tls(chain: Option<&Path>, key: Option<&Path>) -> Result<Option<Tls>, FileError> {
    match (chain, key) {
        (Some(chain), Some(key)) => Tls::load(chain, key).map(Some),
        // The options require each other.
        _ => Ok(None),
    }
}

fn gate(options: &ServeOptions) -> Gate {
    Gate { admin_hosts: options.admin_host.clone(), origins: options.allow_origin.clone() }
}

/// Opens the log. From here on the directory is whole, and its log may take records.
fn open(
    directory: &mut DataDir,
    clock: &Clock,
    checkpoint_after: Option<u64>,
) -> Result<(OpenLog, DiskHere), ServeError> {
    let mut config = LogConfig::new(BootId(uuid()), seed());
    let volume_bytes =
        bigpeer_host::volume::volume(&directory.path).map(|volume| volume.size_bytes);
    if let Some(volume_bytes) = volume_bytes {
        config = config.on_volume(volume_bytes);
    }
    config.expected = directory.log_expected();
    let now = || Now { mono: clock.mono(), wall: clock.wall(), ..Now::default() };
    let mut disk = DiskHere::new(&directory.path);
    let execute = |op, command| disk.execute(op, command);
    let sizes = LogSizes { volume_bytes, checkpoint_after };
    let log = match open_log(config, directory.partitions, sizes, now, execute) {
        Ok(log) => log,
        Err(LogError::Unnamed { .. }) => return Err(directory.format_missing().into()),
        Err(error) => return Err(error.into()),
    };
    finish(directory, log.opened.log_id)?;
    if let Some(cut) = &log.opened.cut {
        let (offset, bytes) = (cut.offset_bytes.to_string(), cut.len_bytes.to_string());
        let fields = [("file", &*cut.file), ("offset", &*offset), ("bytes", &*bytes)];
        logging::info("an unfinished write at the end of the log was cut off", &fields);
    }
    Ok((log, disk))
}

/// Makes the secrets of a first start, and keeps them before any of them is logged; beside a log that is not empty reads
/// those that an earlier start has kept.
fn owed(directory: &DataDir, log_is_empty: bool) -> Result<Owed, DataDirError> {
    if log_is_empty {
        let first = FirstStart::new(os_random);
        directory.keep(&first)?;
        return Ok(Owed::Make(first));
    }
    let kept = FirstStart::kept(&directory.path).unwrap_or_else(|error| {
        let file = directory.path.join(first_start::KEPT).display().to_string();
        let advice =
            "if nobody has its key, make one with `bigpeer key create`, and delete the file";
        let fields = [("file", &*file), ("cause", &*error.to_string()), ("advice", advice)];
        logging::warn("what the first start made cannot be read", &fields);
        None
    });
    Ok(kept.map_or(Owed::Nothing, Owed::Tell))
}

fn finish(directory: &mut DataDir, log: LogId) -> Result<(), DataDirError> {
    match directory.finish(log) {
        // The FORMAT of an earlier build, on a volume that is full or read-only: it can be completed another time.
        Err(error) if directory.is_finished() => {
            logging::warn("FORMAT was not completed", &[("cause", &error.to_string())]);
            Ok(())
        }
        result => result,
    }
}

fn node_config(directory: &DataDir, log: &OpenLog, threads: u16) -> NodeConfig {
    let site = directory.peer_key.site();
    // A new epoch at every start, also of a directory that was copied: two processes never author as one.
    let mut epoch = [0; 8];
    os_random(&mut epoch);
    let epoch = u64::from_be_bytes(epoch);
    let boots = BootTable::new(log.opened.log_id, &log.opened.boots);
    let boot = boots.rows.last().expect("this boot is in the table").boot;
    let identity = SyncIdentity {
        store: directory.store,
        boots,
        peer_key: directory.peer_key,
        name: "bigpeer".into(),
    };
    NodeConfig {
        partition: PartitionId(0),
        partitions: directory.partitions,
        boot,
        site,
        epoch,
        seed: seed(),
        pretend_cold: false,
        limits: limits(threads),
        identity: Arc::new(identity),
        is_device: false,
    }
}

/// A thread counts the statements of a key for itself: each has its part of what a key may have in the process.
fn limits(threads: u16) -> NodeLimits {
    let whole = NodeLimits::default();
    let scans_of_key_max = (whole.scans_of_key_max / usize::from(threads)).max(1);
    NodeLimits { scans_of_key_max, ..whole }
}

fn connection_config() -> ConnectionConfig {
    ConnectionConfig {
        requests_in_flight_max: REQUESTS_PER_CONNECTION_MAX,
        asks_first: true,
        ..Default::default()
    }
}

/// Requests that a client may send ahead of their answers. Each may hold 256 KiB of rows: 4 MiB for one client.
const REQUESTS_PER_CONNECTION_MAX: usize = 16;

/// The most that connections may hold of unfinished input in the whole process, in bytes: an eighth of 1 GiB.
const INPUT_BYTES_MAX: usize = 128 << 20;

/// Each thread has its part, and room for two bodies at the least.
fn input_bytes_max(threads: u16) -> usize {
    let bodies = 2 * ConnectionConfig::default().body_bytes_max;
    (INPUT_BYTES_MAX / usize::from(threads)).max(bodies)
}

/// The number from which on descriptors are left for the files of the log: an eighth of all, and never fewer than the
/// disk's threads and the acceptor take.
fn sockets_max(descriptors: u64) -> u64 {
    descriptors.saturating_sub((descriptors / 8).clamp(DESCRIPTORS_LEAST, DESCRIPTORS_RESERVED))
}

/// The disk's, one for a connection that is only accepted to be closed, and one for a certificate that is read again.
const DESCRIPTORS_LEAST: u64 = disk::DESCRIPTORS_MAX + 2;

/// What the process needs beside connections, in file descriptors.
const DESCRIPTORS_RESERVED: u64 = 64;

fn connections_max(descriptors: u64, threads: u16) -> usize {
    let each = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / u64::from(threads);
    usize::try_from(each).unwrap_or(usize::MAX).max(16)
}

fn cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

fn uuid() -> Uuid {
    let mut bytes = [0; 16];
    os_random(&mut bytes);
    Uuid(bytes)
}

fn seed() -> Seed {
    let mut seed = Seed::default();
    os_random(&mut seed);
    seed
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}
