//! Where the axes of a chart have their labels: at round figures, and not too many.

use std::time::Duration;

/// Most labels on an axis, beside that of its beginning.
const MOST: f64 = 5.0;

/// Seconds between labels, as clocks have them; beyond, whole days.
const SECONDS: [f64; 21] = [
    0.001, 0.005, 0.02, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    7200.0, 21_600.0, 43_200.0,
];

const DAY: f64 = 86_400.0;

/// Multiples of a power of 1024.
const MULTIPLES: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/// Round numbers of bytes up to `greatest`, from 0.
pub(super) fn of_bytes(greatest: u64) -> Vec<u64> {
    let units = (0..=50).step_by(10).map(|shift| 1_u64 << shift);
    let mut steps = units.flat_map(|unit| MULTIPLES.map(|multiple| multiple * unit));
    let step = steps.find(|step| greatest as f64 / *step as f64 <= MOST).unwrap_or(1 << 62);
    (0..).map_while(|number: u64| number.checked_mul(step).filter(|tick| *tick <= greatest)).collect()
}

/// Round times up to `greatest`, from 0.
pub(super) fn of_time(greatest: Duration) -> Vec<Duration> {
    let greatest = greatest.as_secs_f64();
    let days = (greatest / DAY / MOST).ceil().max(1.0) * DAY;
    let step = SECONDS.into_iter().find(|step| greatest / step <= MOST).unwrap_or(days);
    let number = (greatest / step).floor() as u32;
    (0..=number).map(|number| Duration::from_secs_f64(step * f64::from(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_labelled_at_round_figures() {
        let mib = 1 << 20;
        assert_eq!(of_bytes(48 * mib), [0, 10, 20, 30, 40].map(|number| number * mib));
        assert_eq!(of_bytes(1), [0, 1]);
        assert_eq!(of_bytes(0), [0]);
        assert_eq!(of_bytes(456), [0, 100, 200, 300, 400]);
        assert!(of_bytes(u64::MAX).len() <= 6);
    }

    #[test]
    fn time_is_labelled_as_clocks_are() {
        let seconds = |seconds: f64| -> Vec<f64> {
            of_time(Duration::from_secs_f64(seconds)).iter().map(Duration::as_secs_f64).collect()
        };
        assert_eq!(seconds(312.5), [0.0, 120.0, 240.0]);
        assert_eq!(seconds(5.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(seconds(0.0), [0.0]);
        assert_eq!(seconds(20.0 * DAY), [0.0, 4.0, 8.0, 12.0, 16.0, 20.0].map(|days| days * DAY));
        assert!(seconds(1e15).len() <= 6);
    }
}
