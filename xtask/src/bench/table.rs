//! Tables, for the terminal and for the documentation alike.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

/// A table in Markdown: the first column names its row, the others hold figures.
pub(super) fn markdown<Row: IntoIterator<Item = String>>(head: &[&str], rows: impl IntoIterator<Item = Row>) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head);
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A figure with as many digits as mean something.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A time with its unit.
pub(super) fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        _ if nanoseconds.is_nan() => return figure(nanoseconds),
        short if short < 1e4 => (short, "ns"),
        short if short < 1e6 => (short / 1e3, "µs"),
        short if short < 1e9 => (short / 1e6, "ms"),
        long => (long / 1e9, "s"),
    };
    format!("{} {unit}", figure(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_so() {
        assert_eq!([0.0, 0.0237, 1.302, 16.23, 1067.4].map(figure), ["0.00", "0.024", "1.30", "16.2", "1067"]);
        assert_eq!([9.65, 16200.0, 2.7e9].map(time), ["9.65 ns", "16.2 µs", "2.70 s"]);
        assert_eq!(time(f64::NAN), "–");
    }
}
