//! The command line.

mod growth;
mod record;
mod reporting;
mod sweep;
mod values;

use std::{io, process::ExitCode};

use clap::{ArgAction, Parser, Subcommand, error::ErrorKind};

use self::{record::Record, reporting::OwnFunctions, sweep::Sweep};
use crate::session::{self, doctor};

const EXAMPLES: &str = "\
Examples:
  memprof --pid 1234                    report every 5 seconds until Ctrl-C
  memprof --pid 1234 --older 1m -n 3    three reports of what is older than a minute
  memprof -- ./program --its-option     launch a command, report at its end
  memprof sweep                         the whole machine: who grows, and where
  memprof growth --all                  where memory grows, of all processes, without a probe
  memprof doctor --pid 1234             can it be profiled, and if not, why?";

/// Shows which call stacks of a running process hold memory that was allocated and not freed.
#[derive(Debug, Parser)]
#[command(name = "memprof", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    subcommand: Option<Command>,
    #[command(flatten)]
    record: Record,
    /// Say more on standard error; twice for still more
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "Diagnostics")]
    verbose: u8,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Diagnostics")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find out which processes of the whole machine grow, and where
    ///
    /// First it only watches every process's memory from outside. Then it attaches to those that grow, and reports the stacks that
    /// hold more and more. Ctrl-C while it watches ends with what was seen until then.
    Sweep(Box<Sweep>),
    /// Say whether this kernel, these privileges and a target can be profiled
    Doctor {
        /// Process to examine
        #[arg(short, long, value_name = "PID")]
        pid: Vec<u32>,
        #[command(flatten)]
        functions: OwnFunctions,
    },
    /// Show where memory grows, without any probe: the call stacks that touch new memory
    Growth(growth::Growth),
}

impl Cli {
    /// How much to log.
    pub fn log_level(&self) -> log::LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => log::LevelFilter::Error,
            (false, 0) => log::LevelFilter::Info,
            (false, 1) => log::LevelFilter::Debug,
            (false, _) => log::LevelFilter::Trace,
        }
    }

    /// Does what was asked, and returns the status to exit with.
    ///
    /// # Errors
    /// One line each.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let log_programs = self.verbose > 0;
        match self.subcommand {
            Some(Command::Doctor { pid, functions }) => {
                let functions = functions.into_functions();
                let is_well = doctor::examine(&pid, &functions, &mut io::stdout().lock())?;
                Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Some(Command::Sweep(sweep)) => {
                let (whom, options) = sweep.into_session(log_programs);
                session::run(&whom, &options)
            }
            Some(Command::Growth(growth)) => {
                let (growing, options) = growth.into_session(log_programs);
                session::run_growth(&growing, &options)
            }
            None => {
                let (whom, options) = self.record.into_session(log_programs);
                session::run(&whom, &options)
            }
        }
    }
}

fn refuse(kind: ErrorKind, message: &str) -> ! {
    use clap::CommandFactory as _;
    Cli::command().error(kind, message).exit()
}
