//! `memprof growth`: where memory grows, without a probe.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};

use super::{Options, Session, Signals, open_files::OpenFiles, output::Reader, recorder::Recorder, rights};
use crate::{kernel, model::Frame, target};

/// Of the page faults of all processes, one in so many is counted. A prime, lest something regular in a program keep step with it.
pub const PERIOD_OF_ALL: u64 = 17;

/// Whose growth to watch, and how closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growing {
    /// Which processes; all that there are, if none.
    pub pids: Option<Vec<u32>>,
    /// One in so many page faults is counted.
    pub period: u64,
}

/// Watches, reports, and returns the status to exit with.
///
/// # Errors
/// One line each, with the remedy where there is one.
pub fn run_growth(growing: &Growing, options: &Options) -> anyhow::Result<ExitCode> {
    kernel::require().map_err(|reason| anyhow!(reason))?;
    OpenFiles::raise();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
    runtime.block_on(async {
        let signals = Signals::catch().context("cannot catch signals")?;
        rights::reduce(rights::Observed::Processes);
        let mut recorder = Recorder::new(options)?;
        match &growing.pids {
            Some(pids) => pids.iter().try_for_each(|pid| recorder.follow(*pid))?,
            None => {
                let all: Vec<_> = target::census().context("/proc")?.into_iter().map(|seen| seen.pid).collect();
                follow_those_possible(&mut recorder, &all)?;
            }
        }
        recorder.watch_growth(growing.period)?;
        rights::reduce_to_what_is_open();
        let mut session = Session::open(options, recorder, signals)?;
        log::info!("watching where memory grows");
        session.run(None).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Follows those of them that can be.
pub(super) fn follow_those_possible(recorder: &mut Recorder, pids: &[u32]) -> anyhow::Result<()> {
    let start = std::time::Instant::now();
    let own = std::process::id();
    let (mut followed, mut left_out) = (0, 0);
    for pid in pids.iter().copied().filter(|pid| *pid != own) {
        match recorder.follow(pid) {
            Ok(()) => followed += 1,
            Err(error) => {
                left_out += usize::from(target::anonymous_memory(pid).is_some());
                log::debug!("{error:#}");
            }
        }
    }
    if followed == 0 {
        bail!("there is no process that can be followed (-v says why)");
    }
    log::debug!("following {followed} processes, after {} ms; {left_out} cannot be", start.elapsed().as_millis());
    Ok(())
}

impl Session<'_> {
    pub(super) async fn report_growth(&mut self) -> anyhow::Result<Reader> {
        let growth = self.recorder.growth(self.options.selection.top)?;
        let mut stacks = Vec::new();
        let growth = growth.map_frames(|frames| {
            stacks.push(frames);
            Vec::<Frame>::new()
        });
        let mut named = self.name_stacks(stacks).await?.into_iter();
        let report = growth.map_frames(|_| named.next().unwrap_or_default());
        self.reports += 1;
        self.sink.take_growth(&report)
    }
}
