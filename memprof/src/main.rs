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

/// Names come from processes, and a terminal obeys what it is sent.
fn without_orders(message: &str) -> String {
    message.replace(|character: char| character.is_control() && character != '\n', "\u{fffd}")
}

fn start_log(level: log::LevelFilter) {
    use std::io::Write as _;
    env_logger::Builder::new()
        .filter(Some("memprof"), level)
        .format(|output, record| writeln!(output, "memprof: {}", without_orders(&record.args().to_string())))
        .init();
}
