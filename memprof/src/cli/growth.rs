//! `memprof growth`.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::{
    record::refuse_repetition,
    values::{period, unwind_memory},
};
use crate::{
    model::{Sampling, Selection},
    session::{
        Checking, Destination, Following, Format, Functions, Growing, Options, PERIOD_OF_ALL, Reach, Sizes, Unwind,
    },
};

const AFTERWORD: &str = "\
New memory comes with page faults. One in --period of them is counted, with the stack that touched the memory: no probe is set, \
anywhere. Figures are of anonymous memory (RssAnon), whether it was given back since or not.

Not seen is what comes without a page fault (MAP_POPULATE, mlock). Pages that are copied because of a fork are counted, and were in \
RssAnon before.";

#[derive(Args, Debug)]
#[command(after_help = AFTERWORD)]
pub(super) struct Growth {
    /// Process to watch; can be given several times
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..), required_unless_present = "all")]
    pid: Vec<u32>,
    /// Watch all processes that run at the start
    #[arg(short, long, conflicts_with = "pid")]
    all: bool,

    /// Count one in so many page faults [default: 1 with --pid, 17 with --all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    period: Option<u64>,
    /// Time between reports
    #[arg(short, long, value_name = "TIME", value_parser = period, default_value = "5s")]
    interval: Duration,
    /// End after this many reports
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(short, long, value_name = "TIME", value_parser = period)]
    duration: Option<Duration>,

    /// Stacks to show of each process; 0 for all
    #[arg(short, long, value_name = "N", default_value_t = 10, help_heading = "Report")]
    top: usize,
    /// Format of the report [default: json in a file of that name; text]
    #[arg(short, long, value_enum, help_heading = "Report")]
    format: Option<GrowthFormat>,
    /// Write reports to a file instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = "Report")]
    output: Option<PathBuf>,

    /// How to find the callers on a stack
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    unwind: Unwind,
    /// Memory for unwinding rows, of all programs and libraries
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(Sizes::default().unwind_bytes.into()), value_parser = unwind_memory)]
    unwind_memory: ByteSize,
}

/// What a report of growth can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GrowthFormat {
    /// For people
    Text,
    /// One JSON object a report, one a line
    Json,
}

impl Growth {
    fn format(&self) -> Format {
        let by_name = self.output.as_deref().map(Format::of_file_name);
        match (self.format, by_name) {
            (Some(GrowthFormat::Json), _) | (None, Some(Format::Json)) => Format::Json,
            _ => Format::Text,
        }
    }

    pub(super) fn into_session(self, log_programs: bool) -> (Growing, Options) {
        refuse_repetition(&self.pid);
        let period = self.period.unwrap_or(if self.all { PERIOD_OF_ALL } else { 1 });
        let format = self.format();
        let selection = Selection { top: (self.top > 0).then_some(self.top), ..Selection::default() };
        let growing = Growing { pids: (!self.all).then_some(self.pid), period };
        let options = Options {
            interval: Some(self.interval),
            count: self.count,
            duration: self.duration,
            selection,
            outputs: vec![Destination { format, path: self.output, selection }],
            checking: Checking::default(),
            trace: None,
            functions: Functions::with([]),
            unwind: self.unwind,
            sampling: Sampling::default(),
            max_overhead: None,
            // In range, as `unwind_memory` has seen to. Nothing is allocated, and nobody is in the allocator.
            sizes: Sizes {
                unwind_bytes: self.unwind_memory.as_u64() as u32,
                nursery_entries: 1,
                threads: 1,
                ..Sizes::default()
            },
            reach: Reach::Targets,
            following: Following::Nobody,
            is_live: false,
            log_programs,
        };
        (growing, options)
    }
}
