//! `memprof sweep`: watches every process from outside, then attaches to those that grow.

use std::{
    future::pending,
    hash::{BuildHasher as _, RandomState},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

use super::{
    Following, Options, PERIOD_OF_ALL, Reach, Session, Sizes, Sweep,
    checks::{Checks, status_of_judgement},
    growth::follow_those_possible,
    output::Outputs,
    progress::Progress,
    recorder::{Candidate, Recorder},
    rights,
    signals::{Asked, Signals},
};
use crate::{
    model::{Frame, Growth, Ranking, Report, Sampling, Sighting, Timestamp, Trend, Watched},
    symbols::Symbolizer,
    target::{self, TargetError},
    trend::Series,
    watch::{Ranked, Seen, Watch, rank},
};

/// How many looks there are, at most and at least; but pauses are not shorter, or longer, than that.
const MOST_LOOKS: u32 = 60;
const LEAST_LOOKS: u32 = 20;
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A pause for each unit of processor time that a look takes, if that leaves enough looks.
const PAUSE_FOR_COST: u32 = 50;

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
    rights::reduce(rights::Observed::Processes);
    let Some(window) = sweep.watch else {
        let everybody = everybody(sweep.parent)?;
        log::info!("attaching to {}", processes(everybody.len()));
        return observe(&everybody, None, options, signals).await;
    };
    let mut growers = Growers::watch(sweep, options);
    let mut watching = Watching::new(sweep, window);
    let ending = watching.watch(&mut growers, &mut signals).await?;
    let mut ranking = watching.ranking();
    let suspects: Vec<_> = ranking.suspects.iter().map(|suspect| suspect.pid).collect();
    ranking.growth = growers.growth_of(&suspects, options.selection.top)?;
    // Attaching wants the room.
    drop(growers);
    log::info!("{}", summary(&ranking));
    if ending == Ending::Interrupted || ranking.suspects.is_empty() {
        let mut report = without_observation(ranking, options);
        let mut checks = Checks::new(&options.checking, options.selection);
        checks.take(&mut report, false);
        let mut outputs = Outputs::open(&options.outputs)?;
        outputs.write(&report)?;
        outputs.finish()?;
        return Ok(status_of_judgement(checks.conclude()));
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
    Ok(status_of_judgement(session.checks.conclude()))
}

/// Every process, the largest first.
fn everybody(parent: Option<u32>) -> anyhow::Result<Vec<Candidate>> {
    let mut sightings = sightings(parent)?;
    sightings.sort_by_key(|sighting| std::cmp::Reverse(sighting.memory.all_anonymous()));
    Ok(sightings.into_iter().map(|sighting| Candidate::new(sighting, command(sighting.pid))).collect())
}

/// Every process, or one and those below it.
fn sightings(parent: Option<u32>) -> anyhow::Result<Vec<Sighting>> {
    let mut watch = Watch::<()>::new(std::process::id(), parent);
    watch.take(&target::census().context("/proc")?, |(), _| {});
    Ok(watch.seen().into_iter().map(|seen| seen.sighting).collect())
}

/// Where memory grows while it is watched, of all processes that there were at the beginning: by page faults, and so at next to no cost.
struct Growers(Option<Recorder>);

impl Growers {
    /// Begins to count. That this cannot be done is no error.
    fn watch(sweep: &Sweep, options: &Options) -> Self {
        let recorder = Self::try_to_watch(sweep.parent, options);
        let recorder =
            recorder.inspect_err(|error| log::info!("it is not seen where memory grows meanwhile: {error:#}"));
        Self(recorder.ok())
    }

    fn try_to_watch(parent: Option<u32>, options: &Options) -> anyhow::Result<Recorder> {
        // Nothing is allocated, and nobody is in the allocator.
        let sizes = Sizes { nursery_entries: 1, threads: 1, ..options.sizes };
        let (reach, following) = (Reach::Targets, Following::Nobody);
        let (sampling, max_overhead) = (Sampling::default(), None);
        let mut recorder =
            Recorder::new(&Options { sizes, reach, following, sampling, max_overhead, ..options.clone() })?;
        let pids: Vec<_> = sightings(parent)?.into_iter().map(|sighting| sighting.pid).collect();
        follow_those_possible(&mut recorder, &pids)?;
        // A family is few.
        recorder.watch_growth(if parent.is_some() { 1 } else { PERIOD_OF_ALL })?;
        Ok(recorder)
    }

    /// Waits until there is something to take in, and does.
    async fn take(&mut self) -> anyhow::Result<()> {
        let Some(recorder) = &mut self.0 else { return pending().await };
        recorder.ready().await.context("epoll")?;
        recorder.drain()
    }

    /// What these have touched.
    fn growth_of(&mut self, pids: &[u32], top: Option<usize>) -> anyhow::Result<Option<Growth<Frame>>> {
        let Some(recorder) = &mut self.0 else { return Ok(None) };
        recorder.drain()?;
        let mut growth = recorder.growth(top)?;
        growth.processes.retain(|process| pids.contains(&process.pid));
        let (mut symbolizer, objects) = (Symbolizer::apart(), recorder.objects());
        Ok(Some(growth.map_frames(|frames| symbolizer.name(frames, |id| objects.get(id).cloned()))))
    }
}

/// The first stage.
struct Watching {
    watch: Watch<Series>,
    window: Duration,
    most_suspects: usize,
    start: Instant,
    /// Processor time that the last look took.
    cost: Duration,
}

impl Watching {
    fn new(sweep: &Sweep, window: Duration) -> Self {
        Self {
            watch: Watch::new(std::process::id(), sweep.parent),
            window,
            most_suspects: sweep.suspects,
            start: Instant::now(),
            cost: Duration::ZERO,
        }
    }

    /// Looks at all processes again and again until the time is over. The last look is at its end.
    async fn watch(&mut self, growers: &mut Growers, signals: &mut Signals) -> anyhow::Result<Ending> {
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
                taken = growers.take() => {
                    taken?;
                    continue;
                }
                asked = signals.next() => match asked {
                    Asked::Report => log::info!("{}", summary(&self.ranking())),
                    Asked::End(_) => return Ok(Ending::Interrupted),
                },
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let before = processor_time();
        let now = Timestamp(self.start.elapsed().as_nanos() as u64);
        let sightings = target::census().context("/proc")?;
        self.watch.take(&sightings, |series, memory| series.push(now, memory.all_anonymous()));
        self.cost = processor_time().saturating_sub(before);
        Ok(())
    }

    /// Until the next look. Looks come at irregular times, so that nothing regular in a process hides from them.
    fn pause(&self) -> Duration {
        let random = RandomState::new().hash_one(0) as u32;
        let by_cost = (self.cost * PAUSE_FOR_COST).clamp(self.window / MOST_LOOKS, self.window / LEAST_LOOKS);
        by_cost.clamp(PAUSES.0, PAUSES.1).mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
    }

    /// Who grows, as far as one can see.
    fn ranking(&self) -> Ranking {
        let seen: Vec<_> = self.watch.seen().into_iter().map(|seen| (seen, seen.history.trend())).collect();
        let processes = seen.len();
        let Ranked { growing, suspects, others } = rank(seen, |(_, trend)| *trend, self.most_suspects);
        let all = |list: Vec<(&Seen<Series>, Trend)>| list.into_iter().map(watched).collect();
        let (suspects, others) = (all(suspects), all(others));
        Ranking { elapsed: self.start.elapsed(), processes, growing, suspects, others, growth: None }
    }

    fn candidates(&self, ranking: &Ranking) -> Vec<Candidate> {
        let seen = self.watch.seen();
        let sighting = |pid: u32| seen.iter().find(|seen| seen.sighting.pid == pid).map(|seen| seen.sighting);
        let suspects = ranking.suspects.iter();
        suspects.filter_map(|suspect| Some(Candidate::new(sighting(suspect.pid)?, suspect.command.clone()))).collect()
    }
}

/// What this thread has used of it.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
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
        elapsed,
        since_previous: elapsed,
        sample_bytes: options.sampling.bytes(),
        max_overhead: options.max_overhead,
        ranking: Some(ranking),
        ..Report::empty(jiff::Timestamp::now())
    }
}
