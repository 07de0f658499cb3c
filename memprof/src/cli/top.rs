//! `memprof top`.

use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::{
    record::{FollowChildren, refuse_limit_for_everyone, refuse_repetition},
    reporting::{Observing, Reporting, Timing},
    sweep::whom,
    values::{period, size},
};
use crate::{
    model::Sort,
    session::{Options, Sweep, Whom},
};

const AFTERWORD: &str = "\
? shows the keys. Standard output must be a terminal. A command cannot be started here: both would write to the terminal. Start it, and \
attach to it.";

/// By what stacks can be sorted in the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Outstanding bytes
    Bytes,
    /// Number of outstanding allocations
    Allocations,
    /// Growth of outstanding bytes by the second
    Growth,
    /// Age of the oldest outstanding allocation
    Age,
    /// Number of allocations made there in all, freed since or not
    Churn,
}

impl From<Order> for Sort {
    fn from(order: Order) -> Self {
        match order {
            Order::Bytes => Self::Bytes,
            Order::Allocations => Self::Allocations,
            Order::Growth => Self::Growth,
            Order::Age => Self::Age,
            Order::Churn => Self::Churn,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = AFTERWORD)]
pub(super) struct Top {
    /// Process to attach to; can be given several times
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Observe the processes that the target forks too, and theirs [without a value: when-seen]
    #[arg(long, value_name = "FROM", num_args = 0..=1, require_equals = true, default_missing_value = "when-seen", requires = "pid")]
    follow_children: Option<FollowChildren>,

    /// Without --pid: watch all processes from outside for this long, to learn which grow
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = period, conflicts_with = "pid")]
    watch: Duration,
    /// Attach to so many of those that grow, the fastest first
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "pid")]
    suspects: u16,
    /// Do not watch, but attach to every process at once
    #[arg(long, conflicts_with_all = ["watch", "suspects", "pid"])]
    all: bool,
    /// Only this process and those that descend from it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "pid")]
    parent: Option<u32>,

    /// Time between two looks
    #[arg(short, long, value_name = "TIME", value_parser = period, default_value = "1s")]
    interval: Duration,
    /// Order of the stacks in the beginning
    #[arg(long, value_enum, default_value = "bytes")]
    sort: Order,
    /// Only allocations at least this old, such as 30s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older: Option<Duration>,
    /// Only allocations of at least this size, such as 4KiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_size: Option<ByteSize>,
    /// Only allocations of at most this size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<ByteSize>,

    #[command(flatten)]
    observing: Observing,
}

impl Top {
    pub(super) fn into_session(self, log_programs: bool) -> (Whom, Options) {
        refuse_repetition(&self.pid);
        refuse_limit_for_everyone(&self.observing, self.follow_children);
        let reporting = Reporting::live(self.sort.into(), self.older, (self.min_size, self.max_size));
        reporting.refuse_contradictions();
        let timing = Timing { interval: Some(self.interval), count: None, duration: None };
        let (reach, following) = match self.pid.is_empty() {
            true => whom(self.all, self.parent, &self.observing),
            false => FollowChildren::reach(self.follow_children),
        };
        let options = self.observing.into_options(reporting, Sort::Bytes, timing, log_programs);
        let options = Options { reach, following, is_live: true, ..options };
        let watch = (!self.all).then_some(self.watch);
        let sweep = Sweep { watch, suspects: self.suspects.into(), parent: self.parent };
        let whom = if self.pid.is_empty() { Whom::Machine(sweep) } else { Whom::Processes(self.pid) };
        (whom, options)
    }
}
