//! The peer as an application sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bigpeer_core::dql::Statement;
use bigpeer_core::ident::{AppId, PeerKey};
use bigpeer_core::node::{ErrorKind, RequestError};
use bigpeer_core::value::{Object, Value};

use crate::command::{COMMANDS_MAX, Command, Inbox};
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::engine::{Engine, OpenParts};
use crate::error::PeerError;
use crate::observer::{Observed, Observer};
use crate::result::QueryResult;
use crate::status::{PeerStatus, StatusCell, StatusWatch};
use crate::wake::Sleeper;

/// How a peer is opened.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its directory, made when missing. One process uses it at a time.
    pub dir: PathBuf,
    /// Whose documents it holds, for the directory's whole life.
    pub app: AppId,
    /// What people call this device; the server sees it.
    pub name: String,
    /// The server to sync with: `ws://HOST:PORT` or `tcp://HOST:PORT`. Without one the peer stays by itself.
    pub url: Option<String>,
    /// What the server asks for before it lets a device in.
    pub token: Option<String>,
}

impl PeerConfig {
    /// A peer without a server.
    #[must_use]
    pub fn offline(dir: impl Into<PathBuf>, app: AppId) -> Self {
        Self { dir: dir.into(), app, name: "peer".to_owned(), url: None, token: None }
    }
}

/// A Small Peer: documents in a directory, read and written at once, and in sync with a server when one is there.
///
/// One thread does the work; the calls here hand it over and wait for the answer, never for the network, except
/// [`wait_synced`](Self::wait_synced). A peer may be shared among threads. Dropping it closes it.
#[derive(Debug)]
pub struct Peer {
    inbox: Inbox,
    status: Arc<StatusCell>,
    peer_key: PeerKey,
    id_next: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Opens the directory and reads its log. Sync begins with [`start_sync`](Self::start_sync).
    ///
    /// # Errors
    ///
    /// `Directory` if it is in use, another app's, newer than this build, or not writable; `Log` if the log is
    /// damaged; `Endpoint` if the address cannot be used; `Io` if the system has no thread or descriptor left.
    pub fn open(config: PeerConfig) -> Result<Self, PeerError> {
        let endpoint = config.url.as_deref().map(str::parse::<Endpoint>).transpose()?;
        let directory = Directory::open(&config.dir, config.app)?;
        let peer_key = directory.identity.peer_key;
        let sleeper = Sleeper::new()?;
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let inbox = Inbox::new(sender, sleeper.waker());
        let status = Arc::new(StatusCell::default());
        let parts = OpenParts {
            directory,
            app: config.app,
            name: config.name.into(),
            endpoint,
            token: config.token.map(Into::into),
            commands,
            inbox: inbox.clone(),
            sleeper,
            status: status.clone(),
        };
        let thread = start(parts)?;
        Ok(Self { inbox, status, peer_key, id_next: AtomicU64::new(0), thread: Some(thread) })
    }

    /// The public identity of this peer: the hash of its key.
    #[must_use]
    pub fn peer_key(&self) -> PeerKey {
        self.peer_key
    }

    /// Runs one DQL statement; `args` holds the values of its `:parameters`. What it wrote is durable here when
    /// this returns.
    ///
    /// # Errors
    ///
    /// `Statement` if it fails, `Closed` or `Stopped` if the peer has ended.
    pub fn execute(&self, statement: &str, args: Object) -> Result<QueryResult, PeerError> {
        let statement = statement.into();
        let (rows, outcome) = self.ask(|reply| Command::Execute { statement, args, reply })??;
        QueryResult::new(&rows, outcome)
    }

    /// Asks servers for the documents that a query (`SELECT * FROM …`, optionally with `WHERE`) selects, as long as
    /// the subscription lives, in this session and in later ones. Subscribe before `start_sync`, or the server is
    /// asked twice.
    ///
    /// # Errors
    ///
    /// `Statement` if the query cannot be subscribed to, `TooMany`, `Closed`.
    pub fn subscribe(&self, query: &str, args: Object) -> Result<Subscription, PeerError> {
        let id = self.next_id();
        let query = query.into();
        self.ask(|reply| Command::Subscribe { id, query, args, reply })??;
        Ok(Subscription { id, inbox: self.inbox.clone() })
    }

    /// Calls back with all items of a `SELECT`: once at first, and after commits, of this peer or of others, that
    /// changed the result. Several commits may be seen as one; a call begins once the one before has returned.
    /// Calls come from a thread of their own and may use the peer. A callback that panics is not called again.
    ///
    /// # Errors
    ///
    /// `Statement` if the query cannot run, `TooMany`, `Closed`.
    pub fn observe(
        &self,
        query: &str,
        args: Object,
        callback: impl FnMut(&[Value]) + Send + 'static,
    ) -> Result<Observer, PeerError> {
        check_is_select(query)?;
        let id = self.next_id();
        let cancelled = Arc::new(AtomicBool::new(false));
        let (statement, callback, flag) = (query.into(), Box::new(callback), cancelled.clone());
        self.ask(|reply| {
            let observed = Observed { statement, args, callback, cancelled: flag, reply };
            Command::Observe { id, observed: Box::new(observed) }
        })??;
        Ok(Observer { id, cancelled, inbox: self.inbox.clone() })
    }

    /// Reaches the server, and reaches it again whenever it is lost. A call while the peer waits for its next
    /// attempt makes that attempt at once.
    ///
    /// # Errors
    ///
    /// `NoServer` if the peer was opened without an address, `Closed`.
    pub fn start_sync(&self) -> Result<(), PeerError> {
        self.ask(|reply| Command::StartSync { reply })?
    }

    /// Leaves the server. Documents and subscriptions stay.
    pub fn stop_sync(&self) {
        // A peer that is closed has left it already.
        let _ = self.inbox.send(Command::StopSync);
    }

    /// How the peer stands towards its server.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        self.status.read()
    }

    /// Follows the status.
    #[must_use]
    pub fn watch_status(&self) -> StatusWatch {
        StatusWatch::new(self.status.clone())
    }

    /// Waits until the server has, durably, everything that was committed here before this call, and this peer has
    /// everything that the server had for its subscriptions when it heard the question. Documents that the server
    /// refused are listed in [`status`](Self::status) and do not make this fail.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NoServer`, `NotStarted`, `Closed`.
    pub fn wait_synced(&self, timeout: Duration) -> Result<(), PeerError> {
        self.ask(|reply| Command::WaitSynced { timeout, reply })?
    }

    /// Finishes what is under way, takes leave of the server, seals the log and ends the thread. The directory is
    /// free afterwards. A callback of an observer that runs meanwhile goes on to its end.
    ///
    /// # Errors
    ///
    /// `Stopped` if the thread had ended before, with the cause as far as it is known.
    pub fn close(mut self) -> Result<(), PeerError> {
        let asked = self.inbox.send(Command::Close);
        self.join();
        asked.map_err(|_| self.status.end_error())
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn next_id(&self) -> u64 {
        self.id_next.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands over a command and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, PeerError> {
        let (reply, answer) = sync_channel(1);
        self.inbox.send(command(reply)).map_err(|_| self.status.end_error())?;
        answer.recv().map_err(|_| self.status.end_error())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // A thread that has ended needs no telling.
            let _ = self.inbox.send(Command::Close);
            self.join();
        }
    }
}

/// Starts the thread, and waits until it has read the log.
fn start(parts: OpenParts) -> Result<JoinHandle<()>, PeerError> {
    let (opened_in, opened) = sync_channel(1);
    let work = move || match Engine::open(parts) {
        Ok(engine) => {
            let _ = opened_in.send(Ok(()));
            engine.run();
        }
        Err(error) => {
            let _ = opened_in.send(Err(error));
        }
    };
    let thread = std::thread::Builder::new().name("bigpeer-peer".to_owned());
    let thread = thread.spawn(work).map_err(PeerError::io("start a thread"))?;
    match opened.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(PeerError::Stopped("opening panicked".to_owned())),
    }
}

fn check_is_select(query: &str) -> Result<(), PeerError> {
    let invalid =
        |message: String| PeerError::Statement(RequestError::new(ErrorKind::Invalid, message));
    let statement = Statement::parse(query).map_err(|error| invalid(error.to_string()))?;
    if statement.is_mutation() {
        return Err(invalid(format!("an observer takes a SELECT, not {}", statement.query_type())));
    }
    Ok(())
}

/// A subscription. Dropping it cancels it; documents that came by it stay.
#[derive(Debug)]
#[must_use = "a subscription is cancelled when it is dropped"]
pub struct Subscription {
    id: u64,
    inbox: Inbox,
}

impl Subscription {
    /// Asks no server for these documents any more.
    pub fn cancel(self) {}
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A peer that is closed asks nobody.
        let _ = self.inbox.send(Command::Unsubscribe { id: self.id });
    }
}
