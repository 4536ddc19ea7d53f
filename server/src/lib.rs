//! The Big Peer server: shards, their connections, and the drivers that move bytes for them.

pub mod admin_token;
pub mod allocator;
pub mod api;
pub mod cli;
pub mod clock;
pub mod datadir;
pub mod disk;
pub mod driver;
pub mod files;
pub mod first_start;
pub mod keepalive;
pub mod logging;
pub mod metrics;
pub mod panic;
pub mod reader;
pub mod refusals;
pub mod secrets;
pub mod serve;
pub mod shard;
pub mod shared;
pub mod slab;
pub mod tls;
