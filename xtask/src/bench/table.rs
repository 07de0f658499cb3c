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
        _ => format!("{value:.2}"),
    }
}
