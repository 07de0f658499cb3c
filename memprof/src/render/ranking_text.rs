//! What a sweep has seen from outside, for people: a table of who grows.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::{
    escape::visible,
    figures::{bytes, change_of_bytes, duration, separated},
    whose::{container, unit, user},
};
use crate::model::{Course, Ranking, Watched};

const COLUMNS: [&str; 9] = ["", "growth", "course", "anonymous", "pid", "command", "user", "container", "unit"];

/// The columns with figures.
const FIGURES: [&str; 4] = ["", "growth", "anonymous", "pid"];

/// A sentence, the table below it if there is anything to show, and an empty line.
pub(super) fn shown(ranking: &Ranking) -> String {
    let mut text = format!("{}\n", sentence(ranking));
    let suspects = ranking.suspects.iter().enumerate().map(|(place, watched)| row(&format!("#{}", place + 1), watched));
    let rows: Vec<_> = suspects.chain(ranking.others.iter().map(|watched| row("", watched))).collect();
    if !rows.is_empty() {
        for line in table(&rows).lines() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {line}");
        }
    }
    text.push('\n');
    text
}

fn sentence(ranking: &Ranking) -> String {
    let processes = match ranking.processes {
        1 => "1 process".to_owned(),
        many => format!("{} processes", separated(many as u64)),
    };
    let watched = format!("watched {processes} for {}", duration(ranking.elapsed));
    match ranking.growing {
        0 => format!("{watched}: none grows steadily"),
        1 => format!("{watched}: 1 grows steadily"),
        growing => format!("{watched}: {growing} grow steadily"),
    }
}

fn row(place: &str, watched: &Watched) -> [String; COLUMNS.len()] {
    let Watched { pid, command, identity, memory, trend } = watched;
    let growth = match trend.course {
        Course::Grows => format!("{}/s", change_of_bytes(trend.bytes_per_second.round() as i64)),
        _ => change_of_bytes(trend.change_bytes),
    };
    [
        place.to_owned(),
        growth,
        in_words(trend.course).to_owned(),
        bytes(memory.all_anonymous()),
        pid.to_string(),
        visible(command).into_owned(),
        user(identity).unwrap_or_default(),
        container(identity).unwrap_or_default(),
        unit(identity).unwrap_or_default(),
    ]
}

/// Columns in which nothing stands are left out.
fn table(rows: &[[String; COLUMNS.len()]]) -> String {
    let is_used = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let used: Vec<usize> = (0..COLUMNS.len()).filter(is_used).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(used.iter().map(|column| COLUMNS[*column]));
    table.add_rows(rows.iter().map(|row| used.iter().map(|column| &row[*column])));
    for (column, name) in table.column_iter_mut().zip(used.iter().map(|column| COLUMNS[*column])) {
        column.set_padding((0, 2));
        if FIGURES.contains(&name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn in_words(course: Course) -> &'static str {
    match course {
        Course::Grows => "grows",
        Course::Plateaued => "plateaued",
        Course::OneOff => "one-off",
        Course::Churn => "up and down",
        Course::Level => "level",
        Course::Shrinks => "shrinks",
        Course::TooShort => "too short to tell",
    }
}
