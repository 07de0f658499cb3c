//! The command line.

mod checking;
mod completions;
mod diff;
mod examples;
mod growth;
mod man;
mod record;
mod report;
mod reporting;
mod sweep;
mod top;
mod values;
mod writing;

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{
    ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};

use self::{completions::Completions, man::Pages, record::Record, reporting::OwnFunctions, sweep::Sweep, top::Top};
use crate::session::{self, READ_NAMES, doctor};

const USAGE: &str = "\
memprof [OPTIONS] --pid <PID>
       memprof [OPTIONS] -- <COMMAND> [ARGUMENTS]...
       memprof <SUBCOMMAND> [OPTIONS]";

/// Shows which call stacks of a running process hold memory that was allocated and not freed.
#[derive(Debug, Parser)]
#[command(name = "memprof", version, override_usage = USAGE)]
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
    /// Show live, on the terminal, what is outstanding in which processes and stacks
    ///
    /// Without --pid it begins as `memprof sweep` does: it watches every process from outside, and attaches to those that grow.
    Top(Box<Top>),
    /// Show a saved profile again; without root, and on any machine
    Report(Box<report::Report>),
    /// Show what has changed from one saved profile to another
    Diff(diff::Diff),
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
    /// Print a script by which a shell completes memprof's options
    Completions(Completions),
    /// Write the man pages
    #[command(hide = true)]
    Man(Pages),
    /// Answer what lies at places in files (memprof starts itself so)
    #[command(hide = true, name = READ_NAMES)]
    ReadNames {
        /// Where separate debug information is
        debug_directories: Vec<PathBuf>,
    },
}

impl Cli {
    /// What the arguments of this process ask for. Ends the process if they make no sense, or ask for help.
    pub fn of_process() -> Self {
        let matches = command().get_matches();
        refuse_options_of_another(&matches);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command()).exit())
    }

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
            Some(Command::Top(top)) => {
                let (whom, options) = top.into_session(log_programs);
                session::run(&whom, &options)
            }
            Some(Command::Report(report)) => report.run(),
            Some(Command::Diff(diff)) => diff.run(),
            Some(Command::Growth(growth)) => {
                let (growing, options) = growth.into_session(log_programs);
                session::run_growth(&growing, &options)
            }
            Some(Command::Completions(completions)) => {
                completions.write(&command())?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::Man(pages)) => {
                pages.write(command()).context("cannot write the man pages")?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::ReadNames { debug_directories }) => {
                session::read_names(&debug_directories).context("this is for memprof itself, which asks for names")?;
                Ok(ExitCode::SUCCESS)
            }
            None => {
                let (whom, options) = self.record.into_session(log_programs);
                session::run(&whom, &options)
            }
        }
    }
}

/// The command line, as help, completions and man pages have it.
fn command() -> clap::Command {
    examples::add_to(Cli::command())
}

/// Options before a subcommand are those of `memprof` alone, which does something else.
fn refuse_options_of_another(matches: &ArgMatches) {
    let Some(subcommand) = matches.subcommand_name() else { return };
    let mut command = command();
    command.build();
    let is_given = |argument: &&clap::Arg| {
        !argument.is_global_set() && matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine)
    };
    if let Some(argument) = command.get_arguments().find(is_given) {
        let message = format!("{argument} cannot stand before {subcommand}: a subcommand's options go after its name");
        refuse(ErrorKind::ArgumentConflict, &message);
    }
}

fn refuse(kind: ErrorKind, message: &str) -> ! {
    command().error(kind, message).exit()
}
