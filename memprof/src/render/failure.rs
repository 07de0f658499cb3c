//! What a report fails for, in words: for standard error, whatever the format of the report.

use std::io;

use super::{
    escape::visible,
    figures::{bytes, count, exact_bytes, separated},
    text::{Palette, frames},
    verdict::rate,
};
use crate::model::{Course, Failure, FailureCause, Frame, Moment, Outstanding, StackSnapshot, Warning};

/// One line that says why, and then the stacks that are to blame, if any.
pub fn explain(failure: &Failure) -> String {
    let is_estimate = matches!(failure.cause, FailureCause::Above { is_estimate: true, .. });
    let mut text = format!("failed: {}{}", reason(failure), and_others(failure.others));
    if let FailureCause::Loss(warnings) = &failure.cause {
        text.push_str(&listed(warnings));
    }
    for (place, shown) in failure.stacks.iter().enumerate() {
        text.push_str(&stack(place + 1, shown, is_estimate));
    }
    text
}

/// One line that says that the answer is not certain, and then why.
pub fn explain_doubts(doubts: &[Warning]) -> String {
    format!("what --fail-above and --fail-on decide is not certain:{}", listed(doubts))
}

fn reason(failure: &Failure) -> String {
    let whom = failure.process.as_ref().map(|(pid, command)| format!("{} ({pid})", visible(command)));
    let whom = whom.unwrap_or_default();
    match &failure.cause {
        FailureCause::Above { limit, held, moment, is_estimate } => {
            let (size, limit) = distinct(held.bytes, *limit);
            let held = of_estimate(&size, held.allocations, *is_estimate);
            let held = match moment {
                Moment::Now => format!("holds {held}"),
                Moment::Peak => format!("has held {held}"),
            };
            format!("{whom} {held}, more than --fail-above {limit}")
        }
        FailureCause::Grows { bytes_per_second } => {
            format!("{whom}: outstanding grows by {} (--fail-on growing)", rate(*bytes_per_second))
        }
        FailureCause::StacksGrow { stacks: 1, bytes_per_second } => {
            format!("{whom}: a stack grows by {} (--fail-on growing)", rate(*bytes_per_second))
        }
        FailureCause::StacksGrow { stacks, bytes_per_second } => {
            let (stacks, fastest) = (separated(*stacks as u64), rate(*bytes_per_second));
            format!("{whom}: {stacks} stacks grow, the fastest by {fastest} (--fail-on growing)")
        }
        FailureCause::MemoryGrows { bytes_per_second } => {
            format!("{whom}: anonymous memory grows by {} (--fail-on growing)", rate(*bytes_per_second))
        }
        FailureCause::Loss(_) => "the figures are not certain (--fail-on loss):".to_owned(),
    }
}

/// Rounded, unless that makes them look equal.
fn distinct(held: u64, limit: u64) -> (String, String) {
    match (bytes(held), bytes(limit)) {
        (held_short, limit_short) if held_short == limit_short => (exact_bytes(held), exact_bytes(limit)),
        short => short,
    }
}

fn of_estimate(size: &str, allocations: u64, is_estimate: bool) -> String {
    let about = if is_estimate { "~" } else { "" };
    format!("{about}{size} in {about}{}", count(allocations, "allocation"))
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => "; so does 1 more process".to_owned(),
        others => format!("; so do {} more processes", separated(others as u64)),
    }
}

fn listed(warnings: &[Warning]) -> String {
    warnings.iter().map(|warning| format!("\n  {}", visible(&warning.to_string()))).collect()
}

fn stack(place: usize, stack: &StackSnapshot<Frame>, is_estimate: bool) -> String {
    let Outstanding { bytes: size, allocations } =
        stack.scaled.as_ref().map_or(stack.outstanding, |scaled| scaled.outstanding);
    let held = of_estimate(&bytes(size), allocations, is_estimate);
    let growing = match stack.trend.course {
        Course::Grows => format!(", growing {}", rate(stack.trend.bytes_per_second)),
        _ => String::new(),
    };
    let mut lines = Vec::new();
    // Nothing is written but memory.
    let _: io::Result<()> = frames(&stack.frames, &Palette::default(), &mut lines);
    let lines = String::from_utf8_lossy(&lines);
    format!("\n  #{place}  {held}{growing}\n{}", lines.trim_end())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{frame, stack as stack_of},
        *,
    };
    use crate::model::{ScaledFigures, StackId, Trend};

    fn failure(cause: FailureCause, others: usize, stacks: Vec<StackSnapshot<Frame>>) -> Failure {
        Failure { cause, process: Some((1234, "red\u{1b}is".to_owned())), others, stacks }
    }

    fn above(bytes: u64, limit: u64, moment: Moment, is_estimate: bool) -> FailureCause {
        FailureCause::Above { limit, held: Outstanding { bytes, allocations: 1001 }, moment, is_estimate }
    }

    #[test]
    fn each_cause_has_its_words_and_its_stacks() {
        let frames = vec![frame("leak", "leak.c", 7), frame("main", "main.c", 12), Frame::default()];
        let growing = stack_of(1, 50_541_363, frames.clone());
        let level = StackSnapshot { trend: Trend::NONE, ..stack_of(2, 100, frames) };
        let lost = stack_of(StackId::UNKNOWN.0, 10, Vec::new());
        let scaled = ScaledFigures { outstanding: Outstanding { bytes: 9000, allocations: 90 }, standard_error: None };
        let scaled = StackSnapshot { scaled: Some(scaled), ..level.clone() };
        let rate = 1536.0;
        let failures = [
            failure(above(50_541_473, 0, Moment::Now, false), 0, vec![growing.clone(), level, lost]),
            failure(above(1_048_577, 1 << 20, Moment::Peak, false), 1, Vec::new()),
            failure(above(9000, 512, Moment::Now, true), 1200, vec![scaled]),
            failure(FailureCause::Grows { bytes_per_second: rate }, 0, vec![growing]),
            failure(FailureCause::StacksGrow { stacks: 1, bytes_per_second: rate }, 0, Vec::new()),
            failure(FailureCause::StacksGrow { stacks: 7, bytes_per_second: rate }, 2, Vec::new()),
            failure(FailureCause::MemoryGrows { bytes_per_second: rate }, 0, Vec::new()),
            Failure {
                process: None,
                ..failure(FailureCause::Loss(vec![Warning::NurseryFull(12), Warning::SeenLate(3)]), 0, Vec::new())
            },
        ];
        insta::assert_snapshot!(failures.map(|failure| explain(&failure)).join("\n"));
    }

    #[test]
    fn doubts_are_listed() {
        let doubts = [Warning::FreesRingFull(2), Warning::EndedUnjudged { processes: 17, bytes: 1024 }];
        insta::assert_snapshot!(explain_doubts(&doubts));
    }
}
