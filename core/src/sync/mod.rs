//! Sync: one session between two peers, the same on a server and on a device.
//!
//! A [`Session`] turns frames of an authenticated remote into commands for its host, and the host's answers into
//! frames. It holds no document, opens no socket and reads no clock; its owner is the node, which asks the
//! partitions that own the documents.
mod cursor;
mod error;
mod frame;
mod host;
mod link;
mod receiving;
mod reconcile;
mod sending;
mod session;
mod subscription;
#[cfg(test)]
mod tests;

pub use cursor::{BootRow, BootTable, Cursor, InterestHash, Position, Unknown};
pub use error::{ByeReason, CloseReason, ProtocolError};
pub use frame::{FrameFacts, Hello, Role};
pub use host::{
    CommandId, Digest, DocKey, Final, HostCommand, HostEvent, ItemBody, NONCES_KEPT, Nonce,
    Offered, Outcome, Owed, Part, RejectReason, RemoteRecord, UpdateItem, Verdict, Wanted,
};
pub use link::{SessionEvent, SessionOutput};
pub use session::{Limits, LocalIdentity, Session, SessionConfig, SessionState, SessionStatus};
pub use subscription::{Interest, InterestScope, Subscription, interest_hash};
