//! The time of day of what has the programs' time: they go by a clock that nobody sets.

use std::time::Duration;

use crate::model::Timestamp;

/// By how much the two clocks may part, as when one is slewed, before that is taken for setting it.
const SLACK: Duration = Duration::from_millis(100);

/// The two clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeOfDay {
    at: Timestamp,
    time: jiff::Timestamp,
}

impl TimeOfDay {
    /// As it is, `now` on the programs' clock.
    pub(super) fn read(now: Timestamp) -> Self {
        Self { at: now, time: jiff::Timestamp::now() }
    }

    /// Goes by the time of day as it is, if it was set since it was read.
    pub(super) fn follow(&mut self, now: Timestamp) {
        self.follow_to(Self::read(now));
    }

    fn follow_to(&mut self, present: Self) {
        if self.of(present.at).duration_since(present.time).unsigned_abs() > SLACK {
            *self = present;
        }
    }

    /// When something happened.
    pub(super) fn of(&self, time: Timestamp) -> jiff::Timestamp {
        let moved = match time.0.checked_sub(self.at.0) {
            Some(later) => self.time.saturating_add(Duration::from_nanos(later)),
            None => self.time.saturating_sub(Duration::from_nanos(self.at.0 - time.0)),
        };
        moved.unwrap_or(self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(at: u64, nanosecond: i128) -> TimeOfDay {
        TimeOfDay { at: Timestamp(at), time: jiff::Timestamp::from_nanosecond(nanosecond).unwrap_or_default() }
    }

    fn of(clock: TimeOfDay, at: u64) -> i128 {
        clock.of(Timestamp(at)).as_nanosecond()
    }

    #[test]
    fn what_was_before_and_after_has_its_time() {
        let clock = read(5_000, 1_000_000);
        assert_eq!([4_000, 5_000, 7_000].map(|at| of(clock, at)), [999_000, 1_000_000, 1_002_000]);
    }

    #[test]
    fn a_clock_that_is_set_is_followed_and_one_that_is_slewed_is_not() {
        const SECOND: u64 = 1_000_000_000;
        const HOUR: i128 = 3600 * SECOND as i128;
        for (step, told) in [(HOUR, HOUR), (-HOUR, -HOUR), (50_000_000, 0), (-50_000_000, 0)] {
            let mut clock = read(0, 2 * HOUR);
            clock.follow_to(read(SECOND, 2 * HOUR + i128::from(SECOND) + step));
            assert_eq!(of(clock, 2 * SECOND), 2 * HOUR + 2 * i128::from(SECOND) + told);
        }
    }
}
