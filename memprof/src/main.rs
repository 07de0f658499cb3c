//! Parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use memprof::{cli::Cli, session::status_of};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log_level());
    cli.run().unwrap_or_else(|error| {
        log::error!("{error:#}");
        status_of(&error)
    })
}

fn start_log(level: log::LevelFilter) {
    use std::io::Write as _;
    env_logger::Builder::new()
        .filter(Some("memprof"), level)
        .format(|output, record| writeln!(output, "memprof: {}", record.args()))
        .init();
}
