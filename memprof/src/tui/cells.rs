//! Figures as they stand in a column.

use crate::wording::figures::{bytes, change_of_bytes, separated};

/// Bytes; with a sign if they are a difference.
pub(super) fn size(value: i64, is_difference: bool) -> String {
    match value {
        0 => "0".to_owned(),
        value if is_difference || value < 0 => change_of_bytes(value),
        value => bytes(value.unsigned_abs()),
    }
}

/// A number; with a sign if it is a difference. Six characters at most, or seven with the sign.
pub(super) fn number(value: i64, is_difference: bool) -> String {
    let sign = match value {
        ..0 => "-",
        0 => "",
        _ if is_difference => "+",
        _ => "",
    };
    format!("{sign}{}", short(value.unsigned_abs()))
}

/// A change in a second.
pub(super) fn rate(bytes_per_second: f64) -> String {
    size(bytes_per_second.round() as i64, true)
}

/// With three digits at least: `99,999`, `1.23M`, `456G`.
pub(super) fn short(value: u64) -> String {
    const UNITS: [(u64, char); 5] = [
        (1_000_000_000_000_000_000, 'E'),
        (1_000_000_000_000_000, 'P'),
        (1_000_000_000_000, 'T'),
        (1_000_000_000, 'G'),
        (1_000_000, 'M'),
    ];
    if value < 100_000 {
        return separated(value);
    }
    // Cut and not rounded, so that the unit is always right.
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| value >= *unit).unwrap_or((1000, 'k'));
    let hundredths = value / (unit / 100);
    match hundredths {
        ..1000 => format!("{}.{:02}{name}", hundredths / 100, hundredths % 100),
        1000..10_000 => format!("{}.{}{name}", hundredths / 100, hundredths % 100 / 10),
        _ => format!("{}{name}", hundredths / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_differences_have_a_sign() {
        let numbers = [0, 7, 99_999, 100_000, 999_999, 1_234_567, 12_345_678, 123_456_789_012, u64::MAX].map(short);
        assert_eq!(numbers, ["0", "7", "99,999", "100k", "999k", "1.23M", "12.3M", "123G", "18.4E"]);
        assert_eq!([-5, 0, 5].map(|value| number(value, true)), ["-5", "0", "+5"]);
        assert_eq!([-5, 0, 5].map(|value| number(value, false)), ["-5", "0", "5"]);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([-2048, 0, 2048].map(|value| size(value, true)), ["-2.0 KiB", "0", "+2.0 KiB"]);
        assert_eq!([0, 2048, i64::MIN].map(|value| size(value, false)), ["0", "2.0 KiB", "-8.0 EiB"]);
        assert_eq!([0.4, 1535.6, f64::NAN].map(rate), ["0", "+1.5 KiB", "0"]);
    }
}
