//! Verdicts in words, the same in every format.

use super::figures::{bytes, change_of_bytes, duration, percent};
use crate::model::{Cause, Course, MemoryGrowth, ProcessVerdict, Trend};

/// Of a stack: `growing 512 B/s`.
pub(crate) fn of_stack(trend: &Trend) -> String {
    match trend.course {
        Course::Grows => format!("growing {}", rate(trend.bytes_per_second)),
        Course::Plateaued => format!("plateaued, level for {}", duration(trend.quiet)),
        Course::OneOff => "one-off".to_owned(),
        Course::Churn => "churn".to_owned(),
        Course::Level => "level".to_owned(),
        Course::Shrinks => format!("shrinking {}", rate(trend.bytes_per_second)),
        Course::TooShort => "too early to tell".to_owned(),
    }
}

/// Of a process: what becomes of its heap, and whether that is why its memory grows.
pub(crate) fn of_process(verdict: &ProcessVerdict) -> String {
    let heap = of_heap(&verdict.trend);
    match &verdict.memory {
        Some(_) if verdict.cause == Cause::Unknown && verdict.trend.course == Course::TooShort => heap,
        Some(growth) => format!("{heap}; {}", of_memory(growth, verdict.cause)),
        None => format!("{heap}; its memory could not be read"),
    }
}

fn of_heap(trend: &Trend) -> String {
    let rate = rate(trend.bytes_per_second);
    match trend.course {
        Course::Grows => format!("outstanding grows by {rate}"),
        Course::Plateaued => format!("outstanding grew, and has been level for {}", duration(trend.quiet)),
        Course::OneOff => format!("outstanding rose once, {} ago, and is level", duration(trend.quiet)),
        Course::Churn => "outstanding goes up and down".to_owned(),
        Course::Level => "outstanding is level".to_owned(),
        Course::Shrinks => format!("outstanding shrinks by {rate}"),
        Course::TooShort => format!("too early to tell, after {}, whether outstanding grows", duration(trend.span)),
    }
}

/// What grew, in figures, and what follows.
fn of_memory(growth: &MemoryGrowth, cause: Cause) -> String {
    let MemoryGrowth { anonymous, file, shared, tracked, .. } = *growth;
    let since = duration(growth.since);
    let grown = if anonymous.max(file).max(shared) > 0 { "hardly grown" } else { "not grown" };
    let share = percent(tracked.max(0) as f64 / anonymous.max(1) as f64);
    let [anonymous, file, shared, tracked] = [anonymous, file, shared, tracked].map(change_of_bytes);
    match cause {
        Cause::Unknown => format!("too few looks at its memory, in {since}, to say what grows"),
        Cause::NoGrowth => {
            format!("its memory has {grown} in {since} (anonymous {anonymous}, files {file}, shared {shared})")
        }
        Cause::Heap => {
            format!("in {since} anonymous memory {anonymous}, outstanding {tracked}: it is the heap that grows")
        }
        Cause::PartlyHeap => format!(
            "in {since} anonymous memory {anonymous}, outstanding {tracked}, {share} of it: \
             the rest is not malloc's new blocks, but {NOT_BLOCKS}"
        ),
        Cause::NotHeap => format!(
            "in {since} anonymous memory {anonymous}, outstanding {tracked}: \
             what grows is not malloc's new blocks, but {NOT_BLOCKS}"
        ),
        Cause::Files => format!(
            "in {since} mapped files {file}, anonymous memory {anonymous}, outstanding {tracked}: \
             what grows most is mapped files, not malloc"
        ),
        Cause::Shared => format!(
            "in {since} shared memory {shared}, anonymous memory {anonymous}, outstanding {tracked}: \
             what grows most is shared memory, not malloc"
        ),
        Cause::Reuse => format!(
            "in {since} outstanding {tracked}, anonymous memory {anonymous}: \
             these blocks are where memory was before, or are not written to yet"
        ),
    }
}

/// What anonymous memory can be, besides.
const NOT_BLOCKS: &str =
    "memory mapped directly, stacks, what the allocator keeps for itself, or old blocks first written to now";

/// In the unit of time that fits: `512 B/s`.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    let bytes_per_second = bytes_per_second.abs();
    let per = |seconds: f64, unit: &str| format!("{}/{unit}", bytes((bytes_per_second * seconds).round() as u64));
    match bytes_per_second {
        ..0.01 => per(86_400.0, "day"),
        ..1.0 => per(3600.0, "h"),
        _ => per(1.0, "s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Memory;

    const MIB: i64 = 1 << 20;

    fn trend(course: Course, bytes_per_second: f64) -> Trend {
        let (span, quiet) = (Duration::from_secs(60), Duration::from_secs(40));
        Trend { course, bytes_per_second, points: 60, span, quiet, ..Trend::NONE }
    }

    fn sentence(course: Course, cause: Cause, [anonymous, file, shared, tracked]: [i64; 4]) -> String {
        let (now, since) = (Memory::default(), Duration::from_secs(60));
        let memory = Some(MemoryGrowth { now, since, anonymous, file, shared, tracked });
        of_process(&ProcessVerdict { trend: trend(course, 1536.0), memory, cause })
    }

    #[test]
    fn each_course_has_its_words() {
        let courses = [
            Course::Grows,
            Course::Plateaued,
            Course::OneOff,
            Course::Churn,
            Course::Level,
            Course::Shrinks,
            Course::TooShort,
        ];
        let words = courses.map(|course| of_stack(&trend(course, 1536.0)));
        insta::assert_snapshot!(words.join("\n"));
    }

    #[test]
    fn each_cause_has_its_sentence() {
        let sentences = [
            sentence(Course::Grows, Cause::Heap, [40 * MIB, 0, 0, 39 * MIB]),
            sentence(Course::Grows, Cause::PartlyHeap, [40 * MIB, 0, 0, 20 * MIB]),
            sentence(Course::Churn, Cause::NotHeap, [40 * MIB, 0, 0, -MIB]),
            sentence(Course::Level, Cause::Files, [MIB, 30 * MIB, 0, 0]),
            sentence(Course::OneOff, Cause::Shared, [MIB, 0, 30 * MIB, 100]),
            sentence(Course::Plateaued, Cause::NoGrowth, [-MIB, 0, 0, 100]),
            sentence(Course::Grows, Cause::NoGrowth, [MIB / 2, 4096, 0, MIB / 2]),
            sentence(Course::Grows, Cause::Reuse, [MIB / 2, 0, 0, 50 * MIB]),
            sentence(Course::TooShort, Cause::Unknown, [MIB / 2, 0, 0, 50 * MIB]),
            sentence(Course::Shrinks, Cause::NoGrowth, [-MIB, 0, 0, -MIB]),
            of_process(&ProcessVerdict { trend: trend(Course::Level, 0.0), memory: None, cause: Cause::Unknown }),
        ];
        insta::assert_snapshot!(sentences.join("\n"));
    }

    #[test]
    fn slow_growth_is_told_by_the_hour_or_the_day() {
        assert_eq!([1536.0, 1.0, 0.5, 0.005].map(rate), ["1.5 KiB/s", "1 B/s", "1.8 KiB/h", "432 B/day"]);
    }
}
