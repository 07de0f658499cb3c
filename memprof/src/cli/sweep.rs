//! `memprof sweep`.

use std::time::Duration;

use clap::{Args, error::ErrorKind};

use super::{
    checking::CheckingOptions,
    refuse,
    reporting::{Observing, Reporting, Timing},
    values::period,
};
use crate::{
    model::Sort,
    session::{self, Following, Options, Reach, Whom},
};

#[derive(Args, Debug)]
pub(super) struct Sweep {
    /// Watch all processes from outside for this long, to learn which grow
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = period)]
    watch: Duration,
    /// Attach to so many of those that grow, the fastest first
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    suspects: u16,
    /// Do not watch, but attach to every process at once
    #[arg(long, conflicts_with_all = ["watch", "suspects"])]
    all: bool,
    /// Only this process and those that descend from it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    parent: Option<u32>,

    /// Observe for this long what was attached to
    #[arg(short, long, value_name = "TIME", default_value = "30s", value_parser = period)]
    duration: Duration,
    /// Time between reports [default: a report at the end only]
    #[arg(short, long, value_name = "TIME", value_parser = period)]
    interval: Option<Duration>,
    /// End after this many reports
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    reporting: Reporting,
    #[command(flatten)]
    checking: CheckingOptions,
    #[command(flatten)]
    observing: Observing,
}

impl Sweep {
    pub(super) fn into_session(self, log_programs: bool) -> (Whom, Options) {
        self.reporting.refuse_contradictions();
        self.reporting.refuse_log();
        self.observing.refuse_contradictions(&self.reporting);
        if self.count.is_some() && self.interval.is_none() {
            refuse(ErrorKind::MissingRequiredArgument, "--count needs --interval with sweep");
        }
        let timing = Timing { interval: self.interval, count: self.count, duration: Some(self.duration) };
        let (reach, following) = whom(self.all, self.parent, &self.observing);
        let options = self.observing.into_options(self.reporting, Sort::Growth, timing, log_programs);
        let options = Options { reach, following, checking: self.checking.into_checking(), ..options };
        let watch = (!self.all).then_some(self.watch);
        let sweep = session::Sweep { watch, suspects: self.suspects.into(), parent: self.parent };
        (Whom::Machine(sweep), options)
    }
}

/// What is attached to everything reaches everyone in any case, but for a limit to what that costs each. Otherwise nobody is to pay
/// but the suspects.
pub(super) fn whom(all: bool, parent: Option<u32>, observing: &Observing) -> (Reach, Following) {
    let reach = if all && !observing.has_limit() { Reach::Everyone } else { Reach::Targets };
    let is_everyone = all && parent.is_none();
    (reach, if is_everyone { Following::Everyone } else { Following::Children })
}
