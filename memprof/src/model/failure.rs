//! When a report fails, and what for: what `--fail-above` and `--fail-on` ask.

use super::{Frame, Moment, Outstanding, StackSnapshot, Warning};

/// When a report fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailWhen {
    /// A process holds more bytes than this, of what is selected and not suppressed.
    pub above: Option<u64>,
    /// A process, or a stack that is not suppressed, grows.
    pub growing: bool,
    /// Something was lost, so that the figures are not certain.
    pub loss: bool,
}

/// What becomes of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// What it fails for. It passes if there is nothing.
    pub failures: Vec<Failure>,
    /// Why the answer, whichever it is, is not certain.
    pub doubts: Vec<Warning>,
}

/// Something that a report fails for.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What it is.
    pub cause: FailureCause,
    /// Pid and command of the process with which it is worst; nothing where it is about all of them.
    pub process: Option<(u32, String)>,
    /// With how many more processes it is so.
    pub others: usize,
    /// The worst stacks of that process, a few at most.
    pub stacks: Vec<StackSnapshot<Frame>>,
}

/// What a report can fail for.
#[derive(Clone, Debug, PartialEq)]
pub enum FailureCause {
    /// The process holds more than it may.
    Above {
        /// Bytes that it may hold.
        limit: u64,
        /// What it holds, of what is selected and not suppressed.
        held: Outstanding,
        /// When.
        moment: Moment,
        /// Whether that is an estimate.
        is_estimate: bool,
    },
    /// What is outstanding in the process grows.
    Grows {
        /// So fast.
        bytes_per_second: f64,
    },
    /// Some of its stacks grow.
    StacksGrow {
        /// How many.
        stacks: usize,
        /// How fast the fastest does.
        bytes_per_second: f64,
    },
    /// Its anonymous memory grows, seen from outside.
    MemoryGrows {
        /// So fast.
        bytes_per_second: f64,
    },
    /// Something was lost.
    Loss(Vec<Warning>),
}
