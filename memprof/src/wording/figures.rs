//! Figures as people read them.

use std::time::Duration;

use bytesize::ByteSize;

/// Bytes in the largest unit that fits: `456 B`, `48.2 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// An estimate and its standard error, which is rounded: `~31.0 MiB ± 2.1 MiB`.
pub(crate) fn estimated_bytes(estimate: u64, error: f64) -> String {
    format!("~{} ± {}", bytes(estimate), bytes(error.round() as u64))
}

/// Likewise a number with its noun: `~1,984 ± 40 allocations`.
pub(crate) fn estimated_count(estimate: u64, error: f64, noun: &str) -> String {
    let plural = if estimate == 1 { "" } else { "s" };
    format!("~{} ± {} {noun}{plural}", separated(estimate), separated(error.round() as u64))
}

/// Bytes to the unit, with thousands separators: `1,048,576 B`.
pub(crate) fn exact_bytes(bytes: u64) -> String {
    format!("{} B", separated(bytes))
}

/// A change of bytes, with its sign: `+3.1 MiB`, `-12 B`.
pub(crate) fn change_of_bytes(change: i64) -> String {
    let sign = if change < 0 { '-' } else { '+' };
    format!("{sign}{}", bytes(change.unsigned_abs()))
}

/// A change of a number, with its sign and its noun: `+1,204 allocations`.
pub(crate) fn change_of_count(change: i64, noun: &str) -> String {
    let sign = if change < 0 { '-' } else { '+' };
    format!("{sign}{}", count(change.unsigned_abs(), noun))
}

/// A number with thousands separators and its noun: `1 allocation`, `91,204 allocations`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", separated(number))
}

/// A share, with two digits that say something: `0.031 %`, `3.1 %`, `31 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        ..0.001 => "0 %".to_owned(),
        ..0.1 => format!("{percent:.3} %"),
        ..1.0 => format!("{percent:.2} %"),
        ..10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// A duration in its two largest units, or in tenths of a second, rounded: `350ms`, `2.5s`, `4m12s`, `3d4h`.
pub(crate) fn duration(duration: Duration) -> String {
    let milliseconds = (duration.as_nanos() + 500_000) / 1_000_000;
    let tenths = (milliseconds + 50) / 100;
    let seconds = (milliseconds + 500) / 1000;
    match milliseconds {
        0 if !duration.is_zero() => "<1ms".to_owned(),
        1..1000 => format!("{milliseconds}ms"),
        0..9950 if tenths.is_multiple_of(10) => format!("{}s", tenths / 10),
        0..9950 => format!("{}.{}s", tenths / 10, tenths % 10),
        _ if seconds < 60 => format!("{seconds}s"),
        _ if seconds < 3600 => two_units(seconds, (60, "m"), (1, "s")),
        _ if seconds < 86400 => two_units(seconds, (3600, "h"), (60, "m")),
        _ => two_units(seconds, (86400, "d"), (3600, "h")),
    }
}

fn two_units(seconds: u128, (large, large_name): (u128, &str), (small, small_name): (u128, &str)) -> String {
    match seconds % large / small {
        0 => format!("{}{large_name}", seconds / large),
        rest => format!("{}{large_name}{rest}{small_name}", seconds / large),
    }
}

/// A number with thousands separators.
pub(crate) fn separated(number: u64) -> String {
    let digits = number.to_string();
    let mut separated = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            separated.push(',');
        }
        separated.push(digit);
    }
    separated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_figures_are_exact_and_large_ones_short() {
        let figures = [0, 456, 1023, 1024, 1536, 50_541_363, u64::MAX].map(bytes);
        assert_eq!(figures, ["0 B", "456 B", "1023 B", "1.0 KiB", "1.5 KiB", "48.2 MiB", "16.0 EiB"]);
        assert_eq!(exact_bytes(1_048_576), "1,048,576 B");
    }

    #[test]
    fn changes_have_a_sign() {
        let figures = [3_250_586, -12, i64::MIN].map(change_of_bytes);
        assert_eq!(figures, ["+3.1 MiB", "-12 B", "-8.0 EiB"]);
    }

    #[test]
    fn counts_have_separators_and_the_right_noun() {
        let figures = [0, 1, 999, 1000, 91_204, 1_234_567].map(|number| count(number, "free"));
        assert_eq!(figures, ["0 frees", "1 free", "999 frees", "1,000 frees", "91,204 frees", "1,234,567 frees"]);
    }

    #[test]
    fn durations_are_rounded_to_what_matters() {
        let in_milliseconds = |milliseconds| duration(Duration::from_millis(milliseconds));
        let short = [0, 1, 999, 1000, 1049, 2500, 4998, 9949, 9950, 59_499].map(in_milliseconds);
        assert_eq!(short, ["0s", "1ms", "999ms", "1s", "1s", "2.5s", "5s", "9.9s", "10s", "59s"]);
        let long = [59_500, 252_000, 3_599_400, 3_600_000, 3_900_000, 86_400_000, 273_600_000].map(in_milliseconds);
        assert_eq!(long, ["1m", "4m12s", "59m59s", "1h", "1h5m", "1d", "3d4h"]);
        assert_eq!(duration(Duration::from_nanos(1)), "<1ms");
        assert_eq!(duration(Duration::from_micros(999_600)), "1s");
    }
}
