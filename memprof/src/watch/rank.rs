//! The order in which processes are suspected.

use std::cmp::Reverse;

use crate::model::{Course, Trend};

/// What has risen by less, in bytes, is not worth a line if it does not grow steadily.
const LEAST_RISE: u64 = 256 << 10;

/// Processes in the order in which they are suspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked<T> {
    /// How many grow steadily.
    pub growing: usize,
    /// The first of those, the fastest first.
    pub suspects: Vec<T>,
    /// As many others at most: those that grow too, then those that rose in another way, most first.
    pub others: Vec<T>,
}

/// Ranks processes by steady growth. At most `most` are suspects.
pub fn rank<T>(processes: Vec<T>, trend: impl Fn(&T) -> Trend, most: usize) -> Ranked<T> {
    let grows = |process: &T| trend(process).course == Course::Grows;
    let (mut suspects, mut others): (Vec<_>, Vec<_>) = processes.into_iter().partition(grows);
    let growing = suspects.len();
    suspects.sort_by(|one, other| trend(other).bytes_per_second.total_cmp(&trend(one).bytes_per_second));
    others.retain(|process| has_risen(&trend(process)));
    others.sort_by_key(|process| Reverse(rise(&trend(process))));
    let beyond = suspects.split_off(growing.min(most));
    let others = beyond.into_iter().chain(others).take(most).collect();
    Ranked { growing, suspects, others }
}

fn has_risen(trend: &Trend) -> bool {
    let is_of_interest = match trend.course {
        Course::Plateaued | Course::OneOff | Course::Churn | Course::TooShort => true,
        Course::Grows | Course::Level | Course::Shrinks => false,
    };
    is_of_interest && rise(trend) >= LEAST_RISE
}

fn rise(trend: &Trend) -> u64 {
    trend.highest.saturating_sub(trend.lowest)
}
