//! Parse, run, exit code.

use std::process::ExitCode;

use memprof::{
    cli::Cli,
    session::{Diagnostics, printable, status_of},
};

fn main() -> ExitCode {
    let cli = Cli::of_process();
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
        .target(env_logger::Target::Pipe(Box::new(Diagnostics)))
        .format(|output, record| writeln!(output, "memprof: {}", printable(&record.args().to_string())))
        .init();
}
