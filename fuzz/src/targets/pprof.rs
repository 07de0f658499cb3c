//! Profiles: memprof's and others', compressed or not; shown, selected from and compared.

use memprof::{
    model::{DifferenceSelection, Selection, Sort},
    pprof::Limits,
    saved::{self, Saved},
};

/// Small, so that what they do not hold shows soon.
pub(super) const LIMITS: Limits = Limits { decompressed: 1 << 20, messages: 16 << 20, frames: 16 << 20 };

pub(super) fn run(data: &[u8]) {
    let Ok(Saved::Report(report)) = saved::read_bytes(data, &LIMITS) else { return };
    let selection = Selection { top: Some(5), sort: Sort::Age, min_size: Some(16), ..Selection::default() };
    let selected = saved::select(&report, &selection);
    super::reports::write_everywhere(&report);
    super::reports::write_everywhere(&selected);
    let difference = saved::difference(("a", &report), ("b", &selected), &DifferenceSelection::default());
    super::reports::write_difference_everywhere(&difference);
}
