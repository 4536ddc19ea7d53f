//! The Big Peer server: shards, their connections, and the drivers that move bytes for them.

pub mod cli;
pub mod driver;
