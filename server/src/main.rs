//! `bigpeer`: the server, and the commands that speak with it.

use std::process::ExitCode;
use std::time::Duration;

use bigpeer_server::allocator::Allocator;
use bigpeer_server::cli;
use bigpeer_server::logging;
use bigpeer_server::serve::{ServeOptions, serve};
use clap::{Parser, Subcommand};

/// Every request makes and drops some hundred small values, many of them on another thread than the one that frees
/// them. The C library's allocator spent a quarter of a durable INSERT's time on that: see `benches`.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Documents that devices edit offline and that converge: server and tools.
#[derive(Debug, Parser)]
#[command(name = "bigpeer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(ServeOptions),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(options) => serve(&options),
        Command::Client(command) => return command.run(),
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::error(&error.to_string(), &[]);
            ExitCode::from(error.exit_code())
        }
    };
    logging::flush(LAST_WORDS);
    code
}

/// How long the end of the process waits for a reader of standard error that does not read. Long enough that a machine
/// with too much to do loses no reason of a failed start.
const LAST_WORDS: Duration = Duration::from_secs(5);
