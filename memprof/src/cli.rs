//! The command line.

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode, time::Duration};

use bytesize::ByteSize;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{
    model::{AllocatorFunction, OverheadLimit, Sampling, Selection, Sort},
    session::{self, Following, Format, Functions, Options, Reach, Sizes, Unwind, Whom, doctor, parse_function},
};

const EXAMPLES: &str = "\
Examples:
  memprof --pid 1234                    report every 5 seconds until Ctrl-C
  memprof --pid 1234 --older 1m -n 3    three reports of what is older than a minute
  memprof -- ./program --its-option     launch a command, report at its end
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
    /// Say whether this kernel, these privileges and a target can be profiled
    Doctor {
        /// Process to examine
        #[arg(short, long, value_name = "PID")]
        pid: Vec<u32>,
        #[command(flatten)]
        functions: OwnFunctions,
    },
}

/// From when on a forked process is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FollowChildren {
    /// From when memprof has put probes into it: within milliseconds
    WhenSeen,
    /// From its first instruction: there are probes in every process that uses the same allocator, at a cost to them
    Exact,
}

/// Functions that memprof does not know.
#[derive(Args, Debug)]
struct OwnFunctions {
    /// A function of the program's own that allocates or frees, and the one of C that it is like: pool_alloc:malloc;
    /// pool_alloc:malloc+1 if one other argument comes first. Can be given several times
    #[arg(long = "function", value_name = "NAME:KIND", value_parser = parse_function)]
    own: Vec<AllocatorFunction>,
}

#[derive(Args, Debug)]
struct Record {
    /// Process to attach to; can be given several times
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Command to launch, with its arguments, after `--`
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "pid")]
    command: Vec<OsString>,

    /// Time between reports [default: 5s with --pid, at the end only with a command]
    #[arg(short, long, value_name = "TIME", value_parser = period)]
    interval: Option<Duration>,
    /// End after this many reports
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(short, long, value_name = "TIME", value_parser = period)]
    duration: Option<Duration>,

    /// Stacks to show of each process; 0 for all
    #[arg(short, long, value_name = "N", default_value_t = 10, help_heading = "Report")]
    top: usize,
    /// Order of the stacks
    #[arg(long, value_enum, default_value_t, help_heading = "Report")]
    sort: Sort,
    /// Only allocations at least this old, such as 30s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Report")]
    older: Option<Duration>,
    /// Only allocations of at least this size, such as 4KiB
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Report")]
    min_size: Option<ByteSize>,
    /// Only allocations of at most this size
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Report")]
    max_size: Option<ByteSize>,
    /// List every allocation of the stacks shown
    #[arg(long, help_heading = "Report")]
    show_allocations: bool,
    /// Format of the report
    #[arg(short, long, value_enum, default_value_t, help_heading = "Report")]
    format: Format,
    /// Write reports to a file instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = "Report")]
    output: Option<PathBuf>,

    /// Observe the processes that the target forks too, and theirs [without a value: when-seen]
    #[arg(long, value_name = "FROM", num_args = 0..=1, require_equals = true, default_missing_value = "when-seen")]
    follow_children: Option<FollowChildren>,

    /// How to find the callers on a stack
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    unwind: Unwind,

    /// Take a sample: one point in so many allocated bytes on average, and each block as large as that [without a value: 512KiB]
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "512KiB", value_parser = sample_rate)]
    sample: Option<ByteSize>,

    /// Cost each process no more than this share of its CPU time, such as 5%: observe what is allocated in random windows only
    #[arg(long, value_name = "PERCENT", value_parser = overhead_limit)]
    max_overhead: Option<OverheadLimit>,

    #[command(flatten)]
    functions: OwnFunctions,

    #[command(flatten)]
    tables: Tables,
}

/// Sizes of the kernel's tables. What does not fit is lost, and each report says how much was.
#[derive(Args, Debug)]
#[command(next_help_heading = "Kernel tables")]
struct Tables {
    /// Live allocations that can wait in the kernel to be drained
    #[arg(long, value_name = "N", default_value_t = Sizes::default().nursery_entries, value_parser = table_size())]
    nursery_entries: u32,
    /// Stacks that can wait in the kernel to be drained; there are two tables of as many
    #[arg(long, value_name = "N", default_value_t = Sizes::default().stack_entries, value_parser = table_size())]
    stack_entries: u32,
    /// Ring buffer of frees and new stacks
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(Sizes::default().ring_bytes.into()), value_parser = ring_size)]
    ring_size: ByteSize,
    /// Unwinding rows, of all programs and libraries
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(Sizes::default().unwind_bytes.into()), value_parser = unwind_memory)]
    unwind_memory: ByteSize,
    /// Threads that can be followed
    #[arg(long, value_name = "N", default_value_t = Sizes::default().threads, value_parser = table_size())]
    threads: u32,
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
        match &self.subcommand {
            Some(Command::Doctor { pid, functions }) => {
                let functions = Functions::with(functions.own.iter().copied());
                let is_well = doctor::examine(pid, &functions, &mut io::stdout().lock())?;
                Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            None => {
                let log_programs = self.verbose > 0;
                let (whom, options) = self.record.into_session(log_programs);
                session::run(&whom, &options)
            }
        }
    }
}

impl Record {
    fn into_session(self, log_programs: bool) -> (Whom, Options) {
        self.refuse_contradictions();
        let selection = Selection {
            top: (self.top > 0).then_some(self.top),
            sort: self.sort,
            older: self.older,
            min_size: self.min_size.map(|size| size.as_u64()),
            max_size: self.max_size.map(|size| size.as_u64()),
            show_allocations: self.show_allocations,
        };
        let default_interval = self.command.is_empty().then_some(Duration::from_secs(5));
        let whom = if self.command.is_empty() { Whom::Processes(self.pid) } else { Whom::Command(self.command) };
        let options = Options {
            interval: self.interval.or(default_interval),
            count: self.count,
            duration: self.duration,
            selection,
            format: self.format,
            output: self.output,
            functions: Functions::with(self.functions.own),
            unwind: self.unwind,
            sampling: self.sample.map_or(Sampling::default(), |rate| Sampling::by_bytes(rate.as_u64())),
            max_overhead: self.max_overhead,
            reach: match self.follow_children {
                Some(FollowChildren::Exact) => Reach::Everyone,
                Some(FollowChildren::WhenSeen) | None => Reach::Targets,
            },
            following: if self.follow_children.is_some() { Following::Children } else { Following::Nobody },
            sizes: self.tables.sizes(),
            log_programs,
        };
        (whom, options)
    }

    /// What each option allows by itself, but not all together. Ends the process, as clap does with its own findings.
    fn refuse_contradictions(&self) {
        if self.pid.is_empty() && self.command.is_empty() {
            refuse(ErrorKind::MissingRequiredArgument, "whom to profile? give --pid PID, or a command after --");
        }
        let mut pids = self.pid.clone();
        pids.sort_unstable();
        if pids.windows(2).any(|pair| pair[0] == pair[1]) {
            refuse(ErrorKind::ValueValidation, "the same --pid is given twice");
        }
        if let (Some(least), Some(greatest)) = (self.min_size, self.max_size)
            && least > greatest
        {
            refuse(ErrorKind::ValueValidation, "--min-size is larger than --max-size");
        }
        if self.max_overhead.is_some() && self.follow_children == Some(FollowChildren::Exact) {
            refuse(ErrorKind::ArgumentConflict, "--max-overhead cannot be kept with --follow-children=exact");
        }
        if self.count.is_some() && self.interval.is_none() && !self.command.is_empty() {
            refuse(ErrorKind::MissingRequiredArgument, "--count needs --interval when a command is launched");
        }
    }
}

impl Tables {
    fn sizes(&self) -> Sizes {
        Sizes {
            nursery_entries: self.nursery_entries,
            stack_entries: self.stack_entries,
            // In range, as `ring_size` has seen to.
            ring_bytes: self.ring_size.as_u64() as u32,
            threads: self.threads,
            // Likewise.
            unwind_bytes: self.unwind_memory.as_u64() as u32,
        }
    }
}

fn refuse(kind: ErrorKind, message: &str) -> ! {
    use clap::CommandFactory as _;
    Cli::command().error(kind, message).exit()
}

fn period(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("it must be longer than nothing".into()) } else { Ok(duration) }
}

fn table_size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 28)
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "it must be a number and a unit, such as 512B, 4KiB or 1.5MiB".into())
}

fn ring_size(text: &str) -> Result<ByteSize, String> {
    size_within(text, ByteSize::kib(4), ByteSize::gib(1))
}

fn unwind_memory(text: &str) -> Result<ByteSize, String> {
    size_within(text, ByteSize::kib(4), ByteSize::gib(2))
}

fn sample_rate(text: &str) -> Result<ByteSize, String> {
    size_within(text, ByteSize::b(1), ByteSize(Sampling::MAX_BYTES))
}

fn overhead_limit(text: &str) -> Result<OverheadLimit, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let limit = percent.and_then(|percent| OverheadLimit::of_share(percent / 100.0));
    limit.ok_or_else(|| "it must be a percentage above 0 and up to 99, such as 5%".into())
}

fn size_within(text: &str, least: ByteSize, greatest: ByteSize) -> Result<ByteSize, String> {
    let size = size(text)?;
    if (least..=greatest).contains(&size) { Ok(size) } else { Err(format!("it must be from {least} to {greatest}")) }
}
