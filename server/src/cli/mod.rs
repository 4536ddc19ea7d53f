//! The client's side of the binary `bigpeer`: commands that talk to a server over HTTP, `peer` and `doctor`.
//!
//! A command parses its arguments, talks through `http`, and ends with one of four exit codes: 0 done, 1 failed,
//! 2 usage, 3 refused by the server. What the answers mean is the business of `api`; starting a server is not done
//! here.

mod admin;
mod api;
mod doctor;
mod error;
mod export;
mod http;
mod import;
mod json;
mod peer;
mod query;
mod spool;
mod statement;
mod table;
mod text;

use std::process::ExitCode;

pub use admin::{AppArgs, KeyArgs};
pub use doctor::DoctorArgs;
pub use export::ExportArgs;
pub use import::ImportArgs;
pub use peer::PeerArgs;
pub use query::QueryArgs;

/// The commands of the client's side. Flatten it into the binary's own set, or use the parts one by one.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run one DQL statement, or open a shell.
    Query(QueryArgs),
    /// Load a JSON, NDJSON or CSV file into a collection.
    Import(ImportArgs),
    /// Write a collection as NDJSON, JSON or CSV.
    Export(ExportArgs),
    /// Create, list and delete apps.
    App(AppArgs),
    /// Create, list and revoke API keys.
    Key(KeyArgs),
    /// Run a Small Peer: documents in a directory, in sync with a server when one is there.
    Peer(PeerArgs),
    /// Check this machine: kernel, limits, disk.
    Doctor(DoctorArgs),
}

impl Command {
    /// Does it, and says how it went.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self {
            Self::Query(args) => args.run(),
            Self::Import(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::App(args) => args.run(),
            Self::Key(args) => args.run(),
            Self::Peer(args) => args.run(),
            Self::Doctor(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod testing;
