//! The options of `bigpeer serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::api::gate::parse_origin;
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
    /// A certificate chain in PEM, for the admin listener
    #[arg(long, value_name = "FILE", env = "BIGPEER_ADMIN_TLS_CERT", requires = "admin_tls_key")]
    pub admin_tls_cert: Option<PathBuf>,
    /// The key of the admin listener's certificate, in PEM
    #[arg(long, value_name = "FILE", env = "BIGPEER_ADMIN_TLS_KEY", requires = "admin_tls_cert")]
    pub admin_tls_key: Option<PathBuf>,
    /// The file of the token that opens the admin routes, in place of admin.token in the data directory; a change is
    /// noticed within 2 s
    #[arg(long, value_name = "FILE", env = "BIGPEER_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Let the admin listener be reached beyond loopback without TLS
    #[arg(long)]
    pub admin_insecure: bool,
    /// A name under which the admin listener answers, beside IP addresses and localhost; may be repeated
    #[arg(long, value_name = "NAME", env = "BIGPEER_ADMIN_HOST", value_delimiter = ',')]
    pub admin_host: Vec<String>,
    /// An origin whose pages may open the sync WebSocket, such as `https://app.example`; may be repeated, * is any
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "BIGPEER_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_parser = parse_origin
    )]
    pub allow_origin: Vec<String>,
    /// Stop when the log has failed, with exit code 4, instead of answering reads until a restart
    #[arg(long, env = "BIGPEER_EXIT_ON_LOG_FAILURE")]
    pub exit_on_log_failure: bool,
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
