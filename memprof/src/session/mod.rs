//! The only module that sees every stage: wires them, and runs the loop.

mod checks;
mod code;
mod copies;
mod diagnostics;
pub mod doctor;
mod growth;
mod histories;
mod jit;
mod launch;
mod meter;
mod naming;
mod observed;
mod open_files;
mod options;
mod output;
mod progress;
mod recorder;
mod rights;
mod show;
mod signals;
mod sink;
mod stacks;
mod sweep;
mod time_of_day;
mod top;
mod trace;

use std::{
    cmp::Reverse,
    future::pending,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

pub use self::checks::read_suppressions;
pub use self::diagnostics::{Diagnostics, printable};
pub use self::growth::{Growing, PERIOD_OF_ALL, run_growth};
pub use self::options::{
    Checking, Destination, Following, Format, Functions, Options, Reach, Sizes, Suppressions, Sweep, Trace,
    TraceFormat, Unwind, Whom, parse_function,
};
pub use self::show::{Showing, show, show_difference};
use self::{
    checks::{Checks, status_of_judgement},
    launch::{Held, Launched},
    naming::Naming,
    open_files::OpenFiles,
    output::Reader,
    recorder::Recorder,
    signals::{Asked, Signals, reaches_group},
    sink::Sink,
    top::Granted,
};
pub use crate::symbols::{READ_NAMES, read_names};
use crate::{
    kernel,
    model::{Frame, Profile, Ranking, Report},
    target::{
        LaunchError,
        launch::{Surroundings, objects_of},
    },
    tui,
};

/// Observes, reports, and returns the status to exit with: that of a launched command, if there was one.
///
/// # Errors
/// One line each, with the remedy where there is one.
pub fn run(whom: &Whom, options: &Options) -> anyhow::Result<ExitCode> {
    if options.is_live {
        tui::require()?;
    }
    kernel::require().map_err(|reason| anyhow!(reason))?;
    let open_files = OpenFiles::raise();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
    runtime.block_on(async {
        match whom {
            Whom::Processes(pids) => observe_processes(pids, options).await,
            Whom::Command(command) => observe_command(command, options, &open_files).await,
            Whom::Machine(machine) => sweep::sweep(machine, options).await,
        }
    })
}

async fn observe_processes(pids: &[u32], options: &Options) -> anyhow::Result<ExitCode> {
    // What goes wrong with the processes must not cost an older report its file, so that is opened last.
    let signals = Signals::catch().context("cannot catch signals")?;
    rights::reduce(rights::Observed::Processes);
    let mut recorder = Recorder::new(options)?;
    for &pid in pids {
        recorder.attach(pid)?;
    }
    let mut session = Session::open(options, recorder, signals)?;
    session.run(None).await?;
    Ok(status_of_judgement(session.checks.conclude()))
}

async fn observe_command(
    command: &[std::ffi::OsString],
    options: &Options,
    open_files: &OpenFiles,
) -> anyhow::Result<ExitCode> {
    let program = Path::new(command.first().context("there is no command")?);
    let surroundings = Surroundings::own().context("the working directory is gone")?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let mut recorder = Recorder::new(options)?;
    let objects = objects_of(program, &surroundings, recorder.objects_mut())?;
    let held = Held::start(command, open_files, &signals)?;
    rights::reduce(rights::Observed::Command);
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    recorder.prepare(held.pid(), name, &objects)?;
    let mut session = Session::open(options, recorder, signals)?;
    let mut launched = held.release()?;
    let reported = session.run(Some(&launched)).await;
    if let Err(error) = &reported {
        log::error!("{error:#}");
    }
    let Session { recorder, mut signals, checks, .. } = session;
    // Without probes the command goes on at full speed, if it goes on.
    drop(recorder);
    let judged = reported.as_ref().map_or(ExitCode::FAILURE, |()| status_of_judgement(checks.conclude()));
    let status = wait_for(&mut launched, &mut signals).await?;
    // Scripts rely on the command's own failure.
    Ok(if reported.is_ok() && !status.success() { exit_code(status) } else { judged })
}

/// The status to exit with after an error: that of `env` or `nice` for what is no command.
pub fn status_of(error: &anyhow::Error) -> ExitCode {
    error.downcast_ref::<LaunchError>().map_or(ExitCode::FAILURE, |error| error.exit_status().into())
}

/// Waits for the end of the command, passing signals on meanwhile.
async fn wait_for(launched: &mut Launched, signals: &mut Signals) -> anyhow::Result<ExitStatus> {
    let exit = observed::exit_watch(launched.pid())?;
    loop {
        tokio::select! {
            ready = exit.readable() => {
                ready.context("epoll")?.retain_ready();
                return launched.wait();
            }
            asked = signals.next() => pass_on(asked, launched),
        }
    }
}

fn pass_on(asked: Asked, launched: &Launched) {
    if let Asked::End(signal) = asked
        && !reaches_group(signal)
    {
        launched.forward(signal);
    }
}

/// As a shell would have it: the command's own status, or 128 and the number of the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(code as u8)
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// There is something that has not been reported.
    Unreported,
    /// The last report that was asked for has been made.
    Reported,
    /// Nobody reads the reports.
    Unread,
}

struct Session<'a> {
    // Dropped first: to take the probes out may take seconds.
    sink: Sink,
    options: &'a Options,
    recorder: Recorder,
    naming: Naming,
    checks: Checks<'a>,
    signals: Signals,
    reports: u64,
    /// What a sweep had seen before.
    ranking: Option<Ranking>,
    /// Whether processes come in the order of their growth.
    ranks_by_growth: bool,
}

impl<'a> Session<'a> {
    fn open(options: &'a Options, mut recorder: Recorder, signals: Signals) -> anyhow::Result<Self> {
        let sink = Sink::open(options)?;
        if let (Some(trace), Sink::Outputs(outputs)) = (&options.trace, &sink) {
            recorder.begin_trace(trace, outputs)?;
        }
        rights::settle(options);
        Ok(Self {
            options,
            sink,
            signals,
            recorder,
            naming: Naming::start().context("cannot start a thread")?,
            checks: Checks::new(&options.checking, options.selection),
            reports: 0,
            ranking: None,
            ranks_by_growth: false,
        })
    }

    /// Reports until it is time to end, and then once more, if there is more to say.
    async fn run(&mut self, launched: Option<&Launched>) -> anyhow::Result<()> {
        let observed = self.observe_to_the_end(launched).await;
        let finished = self.sink.finish();
        observed?;
        finished
    }

    async fn observe_to_the_end(&mut self, launched: Option<&Launched>) -> anyhow::Result<()> {
        let ending = self.observe(launched).await?;
        if ending == Ending::Unreported {
            self.recorder.stop_counting()?;
            self.recorder.drain()?;
        }
        self.end_trace()?;
        if ending == Ending::Unreported {
            self.report().await?;
        }
        if self.recorder.is_over() { self.linger().await } else { Ok(()) }
    }

    /// Ends the trace, if there is one. A log has no report beside it that would tell of doubts.
    fn end_trace(&mut self) -> anyhow::Result<()> {
        let is_log = self.options.trace.is_some_and(|trace| trace.format == TraceFormat::Mtrace);
        let warnings = if is_log { self.recorder.profile(&self.options.selection)?.warnings } else { Vec::new() };
        let remarks: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        remarks.iter().for_each(|remark| log::warn!("{remark}"));
        self.recorder.end_trace(&remarks)
    }

    async fn observe(&mut self, launched: Option<&Launched>) -> anyhow::Result<Ending> {
        let start = Instant::now();
        let deadline = self.options.duration.map(|duration| start + duration);
        let mut interval = self.options.interval.map(|period| ticks(start, period));
        while !self.recorder.is_over() {
            let (wakes, looks) = (self.recorder.wakes_in(), self.recorder.looks_in());
            let trace = self.recorder.trace_period().map(|period| Instant::now() + period);
            let must_report = tokio::select! {
                ready = self.recorder.ready() => {
                    ready.context("epoll")?;
                    false
                }
                () = tokio::time::sleep(wakes) => {
                    self.recorder.govern()?;
                    continue;
                }
                () = tokio::time::sleep(looks) => false,
                () = sleep(trace) => false,
                () = tick(interval.as_mut()) => true,
                () = sleep(deadline) => return Ok(Ending::Unreported),
                wish = self.sink.wish() => match self.grant(wish?).await? {
                    Granted::End => return Ok(Ending::Reported),
                    Granted::GoOn => continue,
                },
                asked = self.signals.next() => match (asked, launched) {
                    (Asked::Report, _) => true,
                    (Asked::End(_), None) => return Ok(Ending::Unreported),
                    // Only what it has forked still runs.
                    (Asked::End(_), Some(_)) if self.recorder.has_ended_as_asked() => return Ok(Ending::Unreported),
                    (Asked::End(_), Some(launched)) => {
                        pass_on(asked, launched);
                        false
                    }
                },
            };
            self.recorder.drain()?;
            // Without a reader, somebody may still want the status.
            if self.recorder.trace_is_unread() && !self.checks.judge() {
                return Ok(Ending::Unread);
            }
            self.recorder.look_if_due();
            if must_report && !self.recorder.is_over() {
                if self.options.count.is_some_and(|count| self.reports + 1 >= count) {
                    return Ok(Ending::Unreported);
                }
                if self.report().await? == Reader::Gone && !self.checks.judge() {
                    return Ok(Ending::Unread);
                }
            }
        }
        Ok(Ending::Unreported)
    }

    async fn report(&mut self) -> anyhow::Result<Reader> {
        if self.recorder.watches_growth() {
            return self.report_growth().await;
        }
        let is_whole = self.sink.wants_whole_reports();
        let asked = self.sink.selection(&self.options.selection);
        let profile = self.recorder.profile(&self.checks.selection(asked))?;
        let mut report = self.name(profile).await?;
        report.ranking.clone_from(&self.ranking);
        if self.ranks_by_growth {
            report.processes.sort_by_key(|process| Reverse(process.growth_bytes));
        }
        self.checks.take(&mut report, is_whole);
        self.reports += 1;
        self.sink.take(report)
    }

    async fn name(&mut self, profile: Profile) -> anyhow::Result<Report> {
        let mut stacks = Vec::new();
        let profile = profile.map_frames(|frames| {
            stacks.push(frames);
            Vec::<Frame>::new()
        });
        let mut named = self.name_stacks(stacks).await?.into_iter();
        Ok(profile.map_frames(|_| named.next().unwrap_or_default()))
    }
}

fn ticks(start: Instant, period: Duration) -> Interval {
    let mut interval = interval_at(start + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}

async fn sleep(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
