//! The options of `bigpeer serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::driver::probe::DriverChoice;

/// How to run the server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// The data directory; made when it is missing
    #[arg(long, value_name = "DIR", default_value = "./bigpeer-data", env = "BIGPEER_DATA")]
    pub data: PathBuf,
    /// Where the HTTP API and the sync WebSocket listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "BIGPEER_LISTEN")]
    pub listen: SocketAddr,
    /// Where peers connect with plain frames over TCP
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:4040",
        env = "BIGPEER_PEER_LISTEN"
    )]
    pub peer_listen: SocketAddr,
    /// Where metrics and administration listen
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9464",
        env = "BIGPEER_ADMIN_LISTEN"
    )]
    pub admin_listen: SocketAddr,
    /// What moves the bytes
    #[arg(long, value_enum, default_value = "auto", env = "BIGPEER_DRIVER")]
    pub driver: DriverChoice,
    /// How many threads run the shards; as many as cores unless given
    #[arg(long, value_name = "N", env = "BIGPEER_SHARDS", value_parser = clap::value_parser!(u16).range(1..))]
    pub shards: Option<u16>,
    /// A certificate chain in PEM, for the data and peer listeners
    #[arg(long, value_name = "FILE", env = "BIGPEER_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "BIGPEER_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The most connections of one source address at once, the admin door apart; no limit unless given, since a proxy is
    /// one address
    #[arg(long, value_name = "N", env = "BIGPEER_CONNECTIONS_PER_ADDRESS", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_per_address: Option<u32>,
    /// The most connections of each thread, the admin door apart; as many as descriptors allow unless given
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_max: Option<u32>,
    /// Say that the server is ready as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Make a checkpoint whenever so many bytes of log would have to be replayed, for tests
    #[arg(long, hide = true, value_name = "BYTES")]
    pub checkpoint_after: Option<u64>,
    /// Answer `POST /{app}/api/v5/bench/empty` at once, for measurements
    #[arg(long, hide = true)]
    pub bench_empty_handler: bool,
    /// Panic on `POST /{app}/api/v5/test/panic`, for tests
    #[arg(long, hide = true)]
    pub test_panic: bool,
}
