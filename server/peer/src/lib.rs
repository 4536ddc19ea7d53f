//! The Small Peer: the bigpeer engine embedded in an application.
//!
//! Documents live in a directory, are read and written at once without any network, and converge with those of a
//! server whenever one is in reach.
//!
//! ```
//! use bigpeer_peer::{AppId, Object, Peer, PeerConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("bigpeer-peer-doc-{}", std::process::id()));
//! let app = AppId("6f1e9c1c-9a2b-4c53-9d0c-0f5f0c2d7a11".parse()?);
//! let peer = Peer::open(PeerConfig::offline(&dir, app))?;
//! // With a server: set `url` and `token` in the config, then
//! // `let _cars = peer.subscribe("SELECT * FROM cars", Object::new())?; peer.start_sync()?;`
//!
//! let (seen, results) = std::sync::mpsc::channel();
//! let observer = peer.observe("SELECT * FROM cars", Object::new(), move |cars| {
//!     let _ = seen.send(cars.len());
//! })?;
//! assert_eq!(results.recv()?, 0);
//! peer.execute("INSERT INTO cars DOCUMENTS ({'_id': 'c1', 'color': 'red'})", Object::new())?;
//! assert_eq!(results.recv()?, 1);
//! observer.cancel();
//! peer.close()?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! Inside, one plain thread drives the same state machines as a server's: [`bigpeer_core`]'s journal and rack, and a
//! connection of [`bigpeer_connection`]. It sleeps in `poll`. Helper threads do what blocks: the disk, the lookup of
//! names, the callbacks of observers.

#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!(
    "bigpeer-peer needs a Unix: it sleeps in poll(2) and locks its directory by flock(2)"
);

mod backoff;
mod clock;
mod command;
mod connection;
mod dial;
mod directory;
mod disk;
mod endpoint;
mod engine;
mod error;
mod fork_guard;
mod identity;
mod observer;
mod peer;
mod random;
mod result;
mod status;
#[cfg(test)]
mod testing;
mod wake;

pub use bigpeer_core::ident::{AppId, PeerKey, Txn};
pub use bigpeer_core::value::{Object, Value};

pub use directory::{DirectoryError, FORMAT_VERSION};
pub use endpoint::{Endpoint, EndpointError};
pub use error::PeerError;
pub use observer::Observer;
pub use peer::{Peer, PeerConfig, Subscription};
pub use result::{QueryResult, failure_json};
pub use status::{PeerStatus, REJECTED_MAX, Rejected, StatusWatch, SyncState};
