//! What observing a process costs it, and when its allocations are observed.

use std::time::Duration;

use crate::{
    model::{
        CallCounts, Outstanding, Overhead, OverheadLimit, ScaledFigures, ScaledProcess, StandardError, Timestamp,
        Totals,
    },
    overhead::{Cost, Governor, Prices, Scale, Scaled, Wanted},
};

/// The meter of one process.
#[derive(Debug)]
pub(super) struct Meter {
    started: Timestamp,
    last: Reading,
    cost: Cost,
    processor_time: Duration,
    first_calls: CallCounts,
    /// Whether some calls had no price.
    is_unknown: bool,
    observed: Duration,
    governor: Option<Governor>,
    scale: Scale,
    /// Whether allocations are observed.
    pub(super) is_open: bool,
    /// Whether the process was left alone, since it could not be observed within the limit.
    pub(super) has_given_up: bool,
}

/// What can be read at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) time: Timestamp,
    pub(super) processor_time: Duration,
    pub(super) calls: CallCounts,
}

impl Meter {
    /// Begins at a reading, with all allocations observed.
    pub(super) fn new(first: Reading, limit: Option<OverheadLimit>, seed: u64) -> Self {
        // What is a share of all is so much of the rest.
        let governor = limit.map(|limit| Governor::new(limit.share() / (1.0 - limit.share()), seed));
        let mut meter = Self {
            started: first.time,
            last: first,
            cost: Cost::default(),
            processor_time: Duration::ZERO,
            first_calls: first.calls,
            is_unknown: false,
            observed: Duration::ZERO,
            governor,
            scale: Scale::default(),
            is_open: true,
            has_given_up: false,
        };
        meter.begin_image(first.time);
        meter
    }

    /// Forgets what was observed of an image that is over.
    pub(super) fn begin_image(&mut self, time: Timestamp) {
        self.scale = Scale::default();
        if let Some(governor) = &self.governor {
            let (length, window) = governor.cycle();
            self.scale.begin(time, length, window);
        }
    }

    /// Takes in a reading. All since the previous one was observed, or nothing of it.
    pub(super) fn read(&mut self, reading: &Reading, prices: &Prices) {
        let elapsed = reading.time.since(self.last.time);
        let processor_time = reading.processor_time.saturating_sub(self.last.processor_time);
        let calls = reading.calls.since(&self.last.calls);
        self.last = *reading;
        let cost = prices.cost(&calls);
        self.is_unknown |= cost.is_none();
        let cost = cost.unwrap_or_default();
        self.processor_time += processor_time;
        if prices.has_settled() {
            self.cost += cost;
        } else {
            // Better known by now than when the first calls were made.
            self.cost = prices.cost(&self.calls()).unwrap_or_default();
        }
        let (seconds, nanoseconds) = (elapsed.as_secs_f64(), processor_time.as_nanos() as f64);
        let threads = (nanoseconds / 1e9 / seconds.max(1e-9)).max(1.0);
        let undisturbed = (seconds - cost.total() / 1e9 / threads).max(0.0);
        self.scale.pass(seconds, undisturbed, self.is_open);
        if self.is_open {
            self.observed += elapsed;
        }
        let now = reading.time.since(self.started).as_secs_f64();
        if let Some(governor) = &mut self.governor {
            governor.account(now, cost, (nanoseconds - cost.total()).max(0.0), self.is_open);
        }
    }

    /// If the current cycle is over, begins the next. `totals` are what has been allocated in windows until now.
    pub(super) fn turn(&mut self, totals: &Totals) {
        self.scale.set_totals(totals);
        let Some(governor) = &mut self.governor else { return };
        if !governor.is_over() || !self.scale.has_window() {
            return;
        }
        self.scale.end();
        let (length, window) = governor.begin_cycle();
        self.scale.begin(self.last.time, length, window);
        log::debug!("allocations are observed for {window:.2} of the next {length:.2} seconds");
    }

    /// What is to be at `now`. Nothing if there is no limit.
    pub(super) fn wanted(&self, now: Timestamp) -> Option<Wanted> {
        Some(self.governor.as_ref()?.wanted(now.since(self.started).as_secs_f64()))
    }

    /// When that may change.
    pub(super) fn wakes_in(&self, now: Timestamp) -> Duration {
        const WITHOUT_LIMIT: Duration = Duration::from_secs(1);
        let now = now.since(self.started).as_secs_f64();
        let wakes = self.governor.as_ref().map(|governor| Duration::from_secs_f64(governor.wakes(now) - now));
        wakes.unwrap_or(WITHOUT_LIMIT)
    }

    /// The share of its time that frees and resizes take, if that is above the limit.
    pub(super) fn too_costly(&self) -> Option<f64> {
        let governor = self.governor.as_ref().filter(|governor| governor.is_hopeless())?;
        let of_the_rest = governor.permanent_ratio();
        Some(of_the_rest / (1.0 + of_the_rest))
    }

    /// What it has cost so far.
    pub(super) fn overhead(&self) -> Option<Overhead> {
        let known =
            Overhead { cost: self.cost.duration(), processor_time: self.processor_time, calls: self.calls().total() };
        (!self.is_unknown).then_some(known)
    }

    fn calls(&self) -> CallCounts {
        self.last.calls.since(&self.first_calls)
    }

    /// Blocks that are outstanding, scaled to the whole time; nothing if all of it was observed. `error` is that of the
    /// blocks themselves.
    pub(super) fn scale(
        &self,
        blocks: impl Iterator<Item = (f64, f64, Timestamp)>,
        error: StandardError,
    ) -> Option<ScaledFigures> {
        (self.governor.is_some() && !self.scale.is_whole()).then(|| figures(&self.scale.sum(blocks), error))
    }

    /// The whole process, when its blocks are scaled.
    pub(super) fn scaled(&self, figures: ScaledFigures) -> ScaledProcess {
        let allocated = self.scale.totals();
        let Outstanding { bytes, allocations } = allocated.outstanding();
        ScaledProcess {
            windows: self.scale.windows(),
            observed: self.observed,
            elapsed: self.last.time.since(self.started),
            figures,
            totals: Totals {
                allocations,
                allocated_bytes: bytes,
                frees: allocations.saturating_sub(figures.outstanding.allocations),
                freed_bytes: bytes.saturating_sub(figures.outstanding.bytes),
            },
            totals_standard_error: allocated.standard_error,
        }
    }
}

fn figures(scaled: &Scaled, error: StandardError) -> ScaledFigures {
    let both = |windows: StandardError| StandardError {
        bytes: windows.bytes.hypot(error.bytes),
        allocations: windows.allocations.hypot(error.allocations),
    };
    ScaledFigures { outstanding: scaled.outstanding(), standard_error: scaled.standard_error.map(both) }
}
