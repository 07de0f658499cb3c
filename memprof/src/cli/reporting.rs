//! Options that all modes which report have: what is shown, how it is observed, and how much room it gets.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, error::ErrorKind};

use super::{
    refuse,
    values::{overhead_limit, ring_size, sample_rate, size, table_size, unwind_memory},
    writing::Writing,
};
use crate::{
    model::{AllocatorFunction, Moment, OverheadLimit, Sampling, Selection, Sort},
    session::{Checking, Destination, Following, Format, Functions, Options, Reach, Sizes, Unwind, parse_function},
};

/// Stacks that are shown where nothing else is asked for.
const DEFAULT_TOP: usize = 10;

/// What is reported.
#[derive(Args, Debug)]
pub(super) struct Reporting {
    /// Stacks to show of each process; 0 for all [default: 10 in text and JSON; all in other formats]
    #[arg(short, long, value_name = "N", help_heading = "Report")]
    top: Option<usize>,
    /// Order of the stacks [default: bytes; growth with sweep]
    #[arg(long, value_enum, help_heading = "Report")]
    sort: Option<Sort>,
    /// Show stacks as they stood when their process held most
    #[arg(long, conflicts_with_all = ["older", "min_size", "max_size", "show_allocations"], help_heading = "Report")]
    at_peak: bool,
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
    #[command(flatten)]
    writing: Writing,
}

/// How it is observed.
#[derive(Args, Debug)]
pub(super) struct Observing {
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

/// Functions that memprof does not know.
#[derive(Args, Debug)]
pub(super) struct OwnFunctions {
    /// A function of the program's own that allocates or frees, and the one of C that it is like: pool_alloc:malloc, or
    /// pool_alloc:malloc+1 if one other argument comes first; can be given several times
    #[arg(long = "function", value_name = "NAME:KIND", value_parser = parse_function)]
    own: Vec<AllocatorFunction>,
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

/// When reports are made, whatever the mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) interval: Option<Duration>,
    pub(super) count: Option<u64>,
    pub(super) duration: Option<Duration>,
}

impl Reporting {
    /// What each option allows by itself, but not all together. Ends the process, as clap does with its own findings.
    pub(super) fn refuse_contradictions(&self) {
        self.writing.refuse_repetition();
        if let (Some(least), Some(greatest)) = (self.min_size, self.max_size)
            && least > greatest
        {
            refuse(ErrorKind::ValueValidation, "--min-size is larger than --max-size");
        }
    }

    /// What a live view begins with. It is all that it needs to be told.
    pub(super) fn live(sort: Sort, older: Option<Duration>, sizes: (Option<ByteSize>, Option<ByteSize>)) -> Self {
        let (min_size, max_size) = sizes;
        let (top, at_peak, show_allocations, writing) = (None, false, false, Writing::default());
        Self { top, sort: Some(sort), at_peak, older, min_size, max_size, show_allocations, writing }
    }

    /// Where reports go, and what of them.
    pub(super) fn destinations(&self, default_sort: Sort) -> Vec<Destination> {
        let destination = |(path, format): (Option<PathBuf>, Format)| {
            let selection = self.selection(default_sort);
            let top = if format.wants_all_stacks() { self.top.filter(|top| *top > 0) } else { selection.top };
            let selection = Selection { top, show_groups: format.wants_all_stacks(), ..selection };
            Destination { path, format, selection }
        };
        self.writing.files().into_iter().map(destination).collect()
    }

    /// Ends the process likewise if a log of calls is asked for where there are reports only.
    pub(super) fn refuse_log(&self) {
        self.writing.refuse_log();
    }

    /// Whether the order is that of blocks which are freed soon.
    pub(super) fn sorts_by_temporary(&self) -> bool {
        self.sort == Some(Sort::Temporary)
    }

    pub(super) fn selection(&self, default_sort: Sort) -> Selection {
        let top = self.top.unwrap_or(DEFAULT_TOP);
        Selection {
            top: (top > 0).then_some(top),
            sort: self.sort.unwrap_or(default_sort),
            older: self.older,
            min_size: self.min_size.map(|size| size.as_u64()),
            max_size: self.max_size.map(|size| size.as_u64()),
            show_allocations: self.show_allocations,
            show_groups: false,
            moment: if self.at_peak { Moment::Peak } else { Moment::Now },
        }
    }
}

impl Observing {
    /// What cannot be known where only some allocations are observed. Ends the process likewise.
    pub(super) fn refuse_contradictions(&self, reporting: &Reporting) {
        if self.is_partial() && reporting.sorts_by_temporary() {
            refuse(
                ErrorKind::ArgumentConflict,
                "--sort temporary needs every allocation: not with --sample or --max-overhead",
            );
        }
        if self.has_limit() && reporting.at_peak {
            refuse(ErrorKind::ArgumentConflict, "--at-peak needs all of the time: not with --max-overhead");
        }
    }

    /// Whether some allocations only are observed.
    pub(super) fn is_partial(&self) -> bool {
        self.sample.is_some() || self.has_limit()
    }

    /// Whether a process may bear only so much.
    pub(super) fn has_limit(&self) -> bool {
        self.max_overhead.is_some()
    }

    /// What a session is told. No process is followed.
    pub(super) fn into_options(
        self,
        reporting: Reporting,
        default_sort: Sort,
        timing: Timing,
        log_programs: bool,
    ) -> Options {
        Options {
            interval: timing.interval,
            count: timing.count,
            duration: timing.duration,
            selection: reporting.selection(default_sort),
            outputs: reporting.destinations(default_sort),
            checking: Checking::default(),
            trace: None,
            functions: self.functions.into_functions(),
            unwind: self.unwind,
            sampling: self.sample.map_or(Sampling::default(), |rate| Sampling::by_bytes(rate.as_u64())),
            max_overhead: self.max_overhead,
            reach: Reach::Targets,
            following: Following::Nobody,
            sizes: self.tables.sizes(),
            is_live: false,
            log_programs,
        }
    }
}

impl OwnFunctions {
    pub(super) fn into_functions(self) -> Functions {
        Functions::with(self.own)
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
