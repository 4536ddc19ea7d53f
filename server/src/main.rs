//! The binary `bigpeer`.

use std::process::ExitCode;

use bigpeer_server::cli;
use clap::Parser;

/// An open edge-sync server, and the commands that talk to one.
#[derive(Parser)]
#[command(name = "bigpeer", version)]
struct Arguments {
    #[command(subcommand)]
    command: cli::Command,
}

fn main() -> ExitCode {
    Arguments::parse().command.run()
}
