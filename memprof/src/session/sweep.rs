//! `memprof sweep`: watches every process from outside, then attaches to those that grow.

use std::{
    hash::{BuildHasher as _, RandomState},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use super::{
    Options, Session, Sweep,
    output::Output,
    progress::Progress,
    recorder::{Candidate, Recorder},
    signals::{Asked, Signals},
};
use crate::{
    model::{EndedProcesses, Ranking, Report, Timestamp, Trend, Watched},
    target::{self, TargetError},
    trend::Series,
    watch::{Ranked, Seen, Watch, rank},
};

/// How many looks there are, if that is neither too often nor too seldom.
const LOOKS: u32 = 60;
const LEAST_PAUSE: Duration = Duration::from_millis(50);
const GREATEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether the user has had enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    InTime,
    Interrupted,
}

/// Sweeps. What cannot be attached to is no error.
pub(super) async fn sweep(sweep: &Sweep, options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(parent) = sweep.parent {
        target::began(parent).ok_or(TargetError::NoSuchProcess(parent))?;
    }
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let Some(window) = sweep.watch else {
        let everybody = everybody(sweep.parent)?;
        log::info!("attaching to {}", processes(everybody.len()));
        return observe(&everybody, None, options, signals).await;
    };
    let mut watching = Watching::new(sweep, window);
    let ending = watching.watch(&mut signals).await?;
    let ranking = watching.ranking();
    log::info!("{}", summary(&ranking));
    if ending == Ending::Interrupted || ranking.suspects.is_empty() {
        Output::open(options.output.as_deref(), options.format)?.write(&without_observation(ranking, options))?;
        return Ok(ExitCode::SUCCESS);
    }
    let suspects = watching.candidates(&ranking);
    observe(&suspects, Some(ranking), options, signals).await
}

/// Attaches to these, as far as that is possible, and reports.
async fn observe(
    candidates: &[Candidate],
    ranking: Option<Ranking>,
    options: &Options,
    signals: Signals,
) -> anyhow::Result<ExitCode> {
    let mut recorder = Recorder::new(options)?;
    recorder.attach_to_those_possible(candidates);
    let mut session = Session::open(options, recorder, signals)?;
    session.ranking = ranking;
    session.ranks_by_growth = true;
    session.run(None).await?;
    Ok(ExitCode::SUCCESS)
}

/// Every process, the largest first.
fn everybody(parent: Option<u32>) -> anyhow::Result<Vec<Candidate>> {
    let mut watch = Watch::<()>::new(std::process::id(), parent);
    watch.take(&target::census().context("/proc")?, |(), _| {});
    let mut sightings: Vec<_> = watch.seen().into_iter().map(|seen| seen.sighting).collect();
    sightings.sort_by_key(|sighting| std::cmp::Reverse(sighting.memory.all_anonymous()));
    Ok(sightings.into_iter().map(|sighting| Candidate::new(sighting, command(sighting.pid))).collect())
}

/// The first stage.
struct Watching {
    watch: Watch<Series>,
    window: Duration,
    most_suspects: usize,
    start: Instant,
}

impl Watching {
    fn new(sweep: &Sweep, window: Duration) -> Self {
        Self {
            watch: Watch::new(std::process::id(), sweep.parent),
            window,
            most_suspects: sweep.suspects,
            start: Instant::now(),
        }
    }

    /// Looks at all processes again and again until the time is over. The last look is at its end.
    async fn watch(&mut self, signals: &mut Signals) -> anyhow::Result<Ending> {
        let progress = Progress::of(self.window);
        log::info!("watching for {}", humantime::format_duration(self.window));
        loop {
            self.look()?;
            let elapsed = self.start.elapsed();
            progress.show(elapsed, processes(self.watch.seen().len()));
            let left = self.window.saturating_sub(elapsed);
            if left.is_zero() {
                return Ok(Ending::InTime);
            }
            tokio::select! {
                () = sleep(self.pause().min(left)) => {}
                asked = signals.next() => match asked {
                    Asked::Report => log::info!("{}", summary(&self.ranking())),
                    Asked::End(_) => return Ok(Ending::Interrupted),
                },
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let now = Timestamp(self.start.elapsed().as_nanos() as u64);
        let sightings = target::census().context("/proc")?;
        self.watch.take(&sightings, |series, memory| series.push(now, memory.all_anonymous()));
        Ok(())
    }

    /// Until the next look. Looks come at irregular times, so that nothing regular in a process hides from them.
    fn pause(&self) -> Duration {
        let random = RandomState::new().hash_one(0) as u32;
        let pause = (self.window / LOOKS).clamp(LEAST_PAUSE, GREATEST_PAUSE);
        pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
    }

    /// Who grows, as far as one can see.
    fn ranking(&self) -> Ranking {
        let seen: Vec<_> = self.watch.seen().into_iter().map(|seen| (seen, seen.history.trend())).collect();
        let processes = seen.len();
        let Ranked { growing, suspects, others } = rank(seen, |(_, trend)| *trend, self.most_suspects);
        let all = |list: Vec<(&Seen<Series>, Trend)>| list.into_iter().map(watched).collect();
        Ranking { elapsed: self.start.elapsed(), processes, growing, suspects: all(suspects), others: all(others) }
    }

    fn candidates(&self, ranking: &Ranking) -> Vec<Candidate> {
        let seen = self.watch.seen();
        let sighting = |pid: u32| seen.iter().find(|seen| seen.sighting.pid == pid).map(|seen| seen.sighting);
        let suspects = ranking.suspects.iter();
        suspects.filter_map(|suspect| Some(Candidate::new(sighting(suspect.pid)?, suspect.command.clone()))).collect()
    }
}

fn watched((seen, trend): (&Seen<Series>, Trend)) -> Watched {
    let pid = seen.sighting.pid;
    Watched {
        pid,
        command: command(pid),
        identity: target::identity(pid).unwrap_or_default(),
        memory: seen.sighting.memory,
        trend,
    }
}

/// Its name; none if it is gone.
fn command(pid: u32) -> String {
    target::command_name(pid).unwrap_or_default()
}

fn processes(number: usize) -> String {
    if number == 1 { "1 process".to_owned() } else { format!("{number} processes") }
}

fn summary(ranking: &Ranking) -> String {
    let watched = processes(ranking.processes);
    let elapsed = humantime::format_duration(Duration::from_secs(ranking.elapsed.as_secs_f64().round() as u64));
    let names: Vec<_> =
        ranking.suspects.iter().map(|suspect| format!("{} ({})", suspect.command, suspect.pid)).collect();
    match ranking.growing {
        0 => format!("watched {watched} for {elapsed}: none grows steadily"),
        1 => format!("watched {watched} for {elapsed}: {} grows steadily", names.join(", ")),
        growing if growing == names.len() => {
            format!("watched {watched} for {elapsed}: {growing} grow steadily: {}", names.join(", "))
        }
        growing => format!("watched {watched} for {elapsed}: {growing} grow steadily, fastest {}", names.join(", ")),
    }
}

/// A report of what was seen from outside, and no more.
fn without_observation(ranking: Ranking, options: &Options) -> Report {
    let elapsed = ranking.elapsed;
    Report {
        time: jiff::Timestamp::now(),
        elapsed,
        since_previous: elapsed,
        sample_bytes: options.sampling.bytes(),
        max_overhead: options.max_overhead,
        losses: Default::default(),
        warnings: Vec::new(),
        ranking: Some(ranking),
        processes: Vec::new(),
        ended: EndedProcesses::default(),
    }
}
