//! What observing costs: read from time to time, and kept below the limit where there is one.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use super::{Recorder, now};
use crate::{
    model::{ImageId, ObjectId, Percent, Timestamp, Warning},
    overhead::Probes,
    session::{
        meter::{Meter, Reading},
        observed::{Life, Observed},
    },
    target,
};

/// The kernel measures the programs for so long, every so often; at first more often.
const MOMENT: Duration = Duration::from_millis(5);
const BETWEEN_MOMENTS: Duration = Duration::from_secs(1);
const BETWEEN_FIRST_MOMENTS: Duration = Duration::from_millis(40);

/// When the programs are measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    is_on: bool,
    /// When that changes.
    changes: Timestamp,
}

impl Recorder {
    /// When [`Self::govern`] is to be called next.
    pub(in crate::session) fn wakes_in(&self) -> Duration {
        if self.growth.is_some() {
            return BETWEEN_MOMENTS;
        }
        let now = now();
        let living = self.processes.iter().filter(|process| process.life == Life::Running);
        let meters = living.filter_map(|process| process.meter.as_ref()).map(|meter| meter.wakes_in(now));
        meters.chain([self.moments.changes.since(now)]).min().unwrap_or(BETWEEN_MOMENTS)
    }

    /// Reads what observing has cost, and opens and closes windows.
    pub(in crate::session) fn govern(&mut self) -> anyhow::Result<()> {
        if self.growth.is_some() {
            return Ok(());
        }
        self.change_moment();
        for index in 0..self.processes.len() {
            if self.processes[index].life == Life::Running {
                self.read_meter(index)?;
                self.govern_process(index)?;
            }
        }
        Ok(())
    }

    /// Begins to measure what it costs to observe a process that was attached.
    pub(super) fn begin_metering(&mut self, index: usize) -> anyhow::Result<()> {
        if self.limit.is_some() && self.kernel.trap_costs() == [None; 2] && self.processes[index].is_probed {
            anyhow::bail!("what a probe costs cannot be measured here (-v says why), so there is no --max-overhead");
        }
        self.prices.set_traps(self.kernel.trap_costs());
        if !self.moments.is_on {
            self.begin_moment();
        }
        if self.limit.is_some() && !self.prices.has_moments() {
            anyhow::bail!(
                "how long memprof's programs run may not be measured without CAP_SYS_ADMIN, so there is no --max-overhead"
            );
        }
        if let Some(first) = self.reading(index)? {
            let seed = RandomState::new().hash_one(index);
            self.processes[index].meter = Some(Meter::new(first, self.limit, seed));
        }
        Ok(())
    }

    /// Reads all meters.
    pub(super) fn read_meters(&mut self) -> anyhow::Result<()> {
        self.end_moment();
        for index in 0..self.processes.len() {
            if self.processes[index].life != Life::Settled {
                self.read_meter(index)?;
            }
        }
        Ok(())
    }

    /// Takes in what happened since the last reading. Nothing of a process that is gone, and nobody's any more.
    pub(super) fn read_meter(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(reading) = self.reading(index)? else { return Ok(()) };
        let (totals, _) = self.kernel.totals(self.processes[index].image)?;
        let Self { prices, processes, .. } = self;
        if let Some(meter) = &mut processes[index].meter {
            meter.read(&reading, prices);
            meter.turn(&totals);
        }
        Ok(())
    }

    fn reading(&self, index: usize) -> anyhow::Result<Option<Reading>> {
        let process = &self.processes[index];
        let calls = self.kernel.calls(process.target)?;
        let reading = |processor_time| Reading { time: now(), processor_time, calls };
        Ok(target::processor_time(process.pid).map(reading))
    }

    fn govern_process(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(meter) = &self.processes[index].meter else { return Ok(()) };
        if let Some(share) = meter.too_costly() {
            return self.give_up(index, share);
        }
        let Some(wanted) = meter.wanted(now()) else { return Ok(()) };
        match wanted.probes {
            Probes::Attached if !self.begin_window(index) => return Ok(()),
            Probes::Attached | Probes::Either | Probes::Detached => {}
        }
        self.set_open(index, wanted.is_open)?;
        if wanted.probes == Probes::Detached {
            self.kernel.end_window(self.processes[index].target);
        }
        Ok(())
    }

    /// Says whether it could be begun. If not, it will be tried again.
    fn begin_window(&mut self, index: usize) -> bool {
        let process = &self.processes[index];
        let mut planned: Vec<ObjectId> = process.planned.iter().copied().collect();
        planned.sort_unstable_by_key(|object| object.0);
        let plans: Vec<_> = planned.iter().filter_map(|object| self.plans.get(object)).collect();
        let open = |id| self.objects.get(id).map(|object| &**object);
        let begun = self.kernel.begin_window(process.target, &plans, open);
        self.prices.set_traps(self.kernel.trap_costs());
        if let Err(error) = &begun {
            // It may have lost the thread that its probes are bound to: then it will be probed again.
            log::debug!("process {}: {error}", process.pid);
            self.kernel.end_window(process.target);
        }
        begun.is_ok()
    }

    /// Opens or closes the window, and reads the meter just then.
    fn set_open(&mut self, index: usize, is_open: bool) -> anyhow::Result<()> {
        let process = &self.processes[index];
        if process.meter.as_ref().is_none_or(|meter| meter.is_open == is_open) {
            return Ok(());
        }
        self.kernel.set_open(process.target, is_open)?;
        self.read_meter(index)?;
        if let Some(meter) = &mut self.processes[index].meter {
            meter.is_open = is_open;
        }
        if is_open && !self.moments.is_on {
            self.begin_moment();
        }
        Ok(())
    }

    /// Leaves a process alone. What is known of it is told in all reports to come.
    fn give_up(&mut self, index: usize, share: f64) -> anyhow::Result<()> {
        self.drain()?;
        let process = &mut self.processes[index];
        if process.life == Life::Settled {
            return Ok(());
        }
        let (pid, target, image) = (process.pid, process.target, process.image);
        process.life = Life::Settled;
        process.meter.iter_mut().for_each(|meter| meter.has_given_up = true);
        process.jit.finish(now());
        self.kernel.untrack(target, pid);
        self.has_unmapped_code = true;
        self.remove_samples(image);
        let limit = self.limit.map_or(0.0, |limit| limit.share());
        self.warn(Warning::TooCostly { pid, share: Percent::of_share(share), limit: Percent::of_share(limit) });
        Ok(())
    }

    /// What a process's meter says of another image.
    pub(super) fn begin_image(process: &mut Observed, image: ImageId, time: Timestamp) {
        process.image = image;
        if let Some(meter) = &mut process.meter {
            meter.begin_image(time);
        }
    }

    fn change_moment(&mut self) {
        if now() < self.moments.changes {
            return;
        }
        if self.moments.is_on {
            self.end_moment();
        } else {
            self.begin_moment();
        }
    }

    fn begin_moment(&mut self) {
        if self.prices.has_moments() && self.kernel.begin_timing() {
            self.moments = Moments { is_on: true, changes: now().after(MOMENT) };
        } else {
            self.prices.set_without_moments();
            self.moments = Moments { is_on: false, changes: now().after(BETWEEN_MOMENTS) };
        }
    }

    /// Moments come at irregular times, so that nothing regular in a target hides from them.
    pub(super) fn end_moment(&mut self) {
        if !self.moments.is_on {
            return;
        }
        if let Some(moment) = self.kernel.end_timing() {
            self.prices.add_moment(&moment);
        }
        let random = RandomState::new().hash_one(0) as u32;
        let pause = if self.prices.has_settled() { BETWEEN_MOMENTS } else { BETWEEN_FIRST_MOMENTS };
        let pause = pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX));
        self.moments = Moments { is_on: false, changes: now().after(pause) };
    }
}
