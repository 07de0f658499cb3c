//! What was lost, in a few words.

use super::figures::count;
use crate::model::{Losses, Report};

/// `nothing lost`, or `LOST 12 allocations, 3 frees in all processes`: losses are those of the whole report.
pub(crate) fn said(report: &Report) -> String {
    if report.losses.is_none() {
        return "nothing lost".to_owned();
    }
    let whose = if report.processes.len() > 1 { " in all processes" } else { "" };
    format!("LOST {}{whose}", by_kind(&report.losses))
}

/// The kinds of loss that occurred: `12 allocations, 3 frees`.
pub(crate) fn by_kind(losses: &Losses) -> String {
    let kinds = [(losses.allocations(), "allocation"), (losses.frees(), "free"), (losses.stacks(), "stack")];
    let occurred = kinds.into_iter().filter(|(number, _)| *number > 0);
    occurred.map(|(number, noun)| count(number, noun)).collect::<Vec<_>>().join(", ")
}
