//! What was outstanding at a moment that the user has marked, so that the difference since then can be shown.

use std::{collections::HashMap, time::Duration};

use crate::model::{Outstanding, ProcessSnapshot, ScaledFigures, Snapshot, StackId, StackSnapshot};

/// What every process and every stack held, and since when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mark {
    /// Since observation began.
    elapsed: Duration,
    processes: HashMap<u32, MarkedProcess>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct MarkedProcess {
    outstanding: Outstanding,
    stacks: HashMap<StackId, MarkedStack>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct MarkedStack {
    outstanding: Outstanding,
    total_allocations: u64,
}

/// Figures that are differences if there is a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) bytes: i64,
    pub(super) allocations: i64,
    pub(super) bytes_per_second: f64,
    /// Allocations made there. Nothing if it is not known how many there were before.
    pub(super) total: Option<u64>,
}

/// What is outstanding: of the whole time, as far as only some of it was observed.
pub(super) fn outstanding(observed: Outstanding, scaled: Option<&ScaledFigures>) -> Outstanding {
    scaled.map_or(observed, |scaled| scaled.outstanding)
}

/// What a process holds, likewise.
pub(super) fn of_process<F>(process: &ProcessSnapshot<F>) -> Outstanding {
    outstanding(process.outstanding, process.scaled.as_ref().map(|scaled| &scaled.figures))
}

/// What a stack holds, likewise.
pub(super) fn of_stack<F>(stack: &StackSnapshot<F>) -> Outstanding {
    outstanding(stack.outstanding, stack.scaled.as_ref())
}

impl Mark {
    /// Marks the moment of a snapshot, which must have all stacks.
    pub(super) fn of<F>(snapshot: &Snapshot<F>) -> Self {
        let marked = |stack: &StackSnapshot<F>| {
            let total_allocations = stack.totals.allocations;
            (stack.id, MarkedStack { outstanding: of_stack(stack), total_allocations })
        };
        let process = |process: &ProcessSnapshot<F>| {
            let stacks = process.stacks.iter().map(marked).collect();
            (process.pid, MarkedProcess { outstanding: of_process(process), stacks })
        };
        Self { elapsed: snapshot.elapsed, processes: snapshot.processes.iter().map(process).collect() }
    }

    /// How long before the moment of a report it was.
    pub(super) fn ago<F>(&self, report: &Snapshot<F>) -> Duration {
        report.elapsed.saturating_sub(self.elapsed)
    }

    fn stack(&self, pid: u32, id: StackId) -> Option<MarkedStack> {
        self.processes.get(&pid)?.stacks.get(&id).copied()
    }
}

/// Of a process in a report.
pub(super) fn figures_of_process<F>(
    mark: Option<&Mark>,
    report: &Snapshot<F>,
    process: &ProcessSnapshot<F>,
) -> Figures {
    let now = of_process(process);
    match mark {
        None => {
            let growth = per_second(process.growth_bytes, report.since_previous);
            figures(now, Outstanding::default(), growth, Some(process.totals.allocations))
        }
        Some(mark) => {
            let before = mark.processes.get(&process.pid).map(|marked| marked.outstanding).unwrap_or_default();
            let growth = per_second(difference(now.bytes, before.bytes), mark.ago(report));
            figures(now, before, growth, None)
        }
    }
}

/// Of a stack of the process with this pid in a report.
pub(super) fn figures_of_stack<F>(
    mark: Option<&Mark>,
    report: &Snapshot<F>,
    pid: u32,
    stack: &StackSnapshot<F>,
) -> Figures {
    let now = of_stack(stack);
    let total = stack.totals.allocations;
    let Some(mark) = mark else {
        let growth = per_second(stack.growth_bytes, report.since_previous);
        return figures(now, Outstanding::default(), growth, Some(total));
    };
    let before = mark.stack(pid, stack.id);
    let held = before.map(|marked| marked.outstanding).unwrap_or_default();
    let growth = per_second(difference(now.bytes, held.bytes), mark.ago(report));
    // A stack that held nothing may have allocated all the same.
    figures(now, held, growth, before.and_then(|marked| total.checked_sub(marked.total_allocations)))
}

fn figures(now: Outstanding, before: Outstanding, bytes_per_second: f64, total: Option<u64>) -> Figures {
    Figures {
        bytes: difference(now.bytes, before.bytes),
        allocations: difference(now.allocations, before.allocations),
        bytes_per_second,
        total,
    }
}

fn difference(now: u64, before: u64) -> i64 {
    now.cast_signed().wrapping_sub(before.cast_signed())
}

fn per_second(bytes: i64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { bytes as f64 / time.as_secs_f64() }
}
