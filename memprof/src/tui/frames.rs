//! One stack in full: its figures, and a line for each frame.

use ratatui::text::{Line, Span};

use super::{mark::of_stack, paint, wrap::wrapped};
use crate::{
    model::{Ages, Frame, StackSnapshot},
    wording::{
        escape::visible_path,
        figures::{bytes, count, duration, exact_bytes},
        frames::{function, location},
        verdict,
    },
};

/// Longest function name that the column of source locations makes room for.
const WIDEST_FUNCTION: usize = 60;

/// A line for each frame, from the allocator's caller outwards, and one if callers may be missing.
pub(super) fn lines(stack: &StackSnapshot<Frame>, width: usize) -> Vec<Line<'static>> {
    if stack.frames.is_empty() {
        return vec![Line::styled("[stack lost]", paint::BAD)];
    }
    let functions: Vec<_> = stack.frames.iter().map(|frame| Span::raw(function(frame).into_owned())).collect();
    let most = WIDEST_FUNCTION.min(width * 2 / 3);
    let column = functions.iter().map(Span::width).filter(|width| *width <= most).max().unwrap_or(0);
    let line = |(function, frame): (Span<'static>, &Frame)| {
        let gap = " ".repeat(column.saturating_sub(function.width()) + 2);
        Line::from(vec![function, gap.into(), Span::styled(location(frame), paint::FIGURE)])
    };
    let mut lines: Vec<_> = functions.into_iter().zip(&stack.frames).map(line).collect();
    if let Some(reason) = stack.truncated {
        lines.push(Line::styled(format!("[callers may be missing: {reason}]"), paint::BAD));
    }
    lines
}

/// The same with all figures, and the module of each frame.
pub(super) fn in_full(stack: &StackSnapshot<Frame>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<_> = figures(stack).iter().flat_map(|text| wrapped(text, width)).map(Line::raw).collect();
    lines.push(Line::default());
    lines.extend(self::lines(stack, width));
    let mut modules: Vec<_> = stack.frames.iter().filter_map(|frame| frame.module.as_deref()).collect();
    modules.sort_unstable();
    modules.dedup();
    lines.push(Line::default());
    let modules = modules.into_iter().flat_map(|module| wrapped(&visible_path(module), width));
    lines.extend(modules.map(|line| Line::styled(line, paint::FAINT)));
    lines
}

fn figures(stack: &StackSnapshot<Frame>) -> Vec<String> {
    let held = of_stack(stack);
    let Ages { youngest, median, oldest } = stack.ages;
    let mut lines = vec![
        format!(
            "{} ({}) in {}, {}",
            bytes(held.bytes),
            exact_bytes(held.bytes),
            count(held.allocations, "allocation"),
            verdict::of_stack(&stack.trend)
        ),
        format!("oldest {}, median {}, youngest {}", duration(oldest), duration(median), duration(youngest)),
    ];
    let totals = stack.totals;
    let mut in_all = format!("{} made here in all", count(totals.allocations, "allocation"));
    if totals.allocated_bytes > 0 {
        in_all += &format!(", {}", bytes(totals.allocated_bytes));
    }
    if let Some(temporary) = totals.temporary {
        in_all += &format!("; {} temporary", count(temporary, "allocation"));
    }
    lines.push(in_all);
    lines
}
