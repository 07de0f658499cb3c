//! What has become of each process's figures since it is observed: the histories from which verdicts are read.
//!
//! A look takes the outstanding bytes of a process and of each of its stacks, and its memory, at one moment. What is
//! kept of them is bounded: at most 64 points of a process, and 32 of a stack that holds something, which is half a
//! kilobyte.

use std::collections::HashMap;

use crate::{
    model::{HistoryPoint, ImageId, Memory, MemoryGrowth, ProcessVerdict, StackId, Timestamp, Trend},
    trend::{Series, cause},
};

/// Points of a stack.
const POINTS_OF_STACK: usize = 32;

/// Of all images that are observed.
#[derive(Debug, Default)]
pub(super) struct Histories {
    images: HashMap<ImageId, History>,
}

/// Of one image.
#[derive(Debug)]
struct History {
    /// The last look, or the beginning.
    looked: Timestamp,
    tracked: Series,
    stacks: HashMap<StackId, OfStack>,
    first: Option<Moment>,
    last: Option<Moment>,
    looks: usize,
}

/// The memory of a process, and what was outstanding at that time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    time: Timestamp,
    memory: Memory,
    tracked: u64,
}

#[derive(Debug)]
struct OfStack {
    series: Series,
    /// Since the last look.
    bytes: u64,
}

impl Histories {
    /// Begins with an image that began just now, under observation: it had no memory before.
    pub(super) fn begin(&mut self, image: ImageId, time: Timestamp) {
        let nothing = Moment { time, memory: Memory::default(), tracked: 0 };
        self.images.insert(image, History { first: Some(nothing), ..History::new(time) });
    }

    /// Drops those of images that are not `current` any more.
    pub(super) fn retain(&mut self, current: impl Fn(ImageId) -> bool) {
        self.images.retain(|image, _| current(*image));
    }

    /// Takes in a look at an image that has been observed since `began`, or since it began: what is outstanding, its
    /// memory if it can be read, and what each stack holds. A stack may be told several times: then it holds the sum.
    pub(super) fn look(
        &mut self,
        image: ImageId,
        began: Timestamp,
        now: Timestamp,
        (tracked, memory): (u64, Option<Memory>),
        stacks: impl Iterator<Item = (StackId, u64)>,
    ) {
        let history = self.images.entry(image).or_insert_with(|| History::new(began));
        history.look(now, tracked, memory);
        history.look_at_stacks(now, stacks);
        history.looked = now;
    }

    /// How what a stack holds has developed.
    pub(super) fn trend_of_stack(&self, image: ImageId, stack: StackId) -> Trend {
        let stack = self.images.get(&image).and_then(|history| history.stacks.get(&stack));
        stack.map_or(Trend::NONE, |stack| stack.series.trend())
    }

    /// The outstanding bytes of a process at some looks, since observation began.
    pub(super) fn points(&self, image: ImageId, began: Timestamp) -> Vec<HistoryPoint> {
        let points = self.images.get(&image).map_or(&[][..], |history| history.tracked.points());
        points.iter().map(|point| HistoryPoint { elapsed: point.time.since(began), bytes: point.bytes }).collect()
    }

    /// What a process comes to. Each byte that is outstanding stands for so many.
    pub(super) fn verdict(&self, image: ImageId, stands_for: f64) -> ProcessVerdict {
        let history = self.images.get(&image);
        let trend = history.map_or(Trend::NONE, |history| scaled(history.tracked.trend(), stands_for));
        let memory = history.and_then(|history| history.growth(stands_for));
        ProcessVerdict { trend, memory, cause: cause(memory.as_ref(), history.map_or(0, |history| history.looks)) }
    }
}

impl History {
    fn new(began: Timestamp) -> Self {
        let mut tracked = Series::new();
        tracked.push(began, 0);
        Self { looked: began, tracked, stacks: HashMap::new(), first: None, last: None, looks: 0 }
    }

    fn look(&mut self, time: Timestamp, tracked: u64, memory: Option<Memory>) {
        self.tracked.push(time, tracked);
        let Some(memory) = memory else { return };
        let moment = Moment { time, memory, tracked };
        self.first.get_or_insert(moment);
        self.last = Some(moment);
        self.looks += 1;
    }

    /// A stack that is new held nothing at the previous look.
    fn look_at_stacks(&mut self, now: Timestamp, stacks: impl Iterator<Item = (StackId, u64)>) {
        for (stack, bytes) in stacks {
            let earlier = self.looked;
            self.stacks.entry(stack).or_insert_with(|| OfStack::new(earlier)).bytes += bytes;
        }
        self.stacks.retain(|_, stack| {
            stack.series.push(now, std::mem::take(&mut stack.bytes));
            !stack.series.is_over()
        });
    }

    fn growth(&self, stands_for: f64) -> Option<MemoryGrowth> {
        let (first, last) = self.first.zip(self.last)?;
        let change = |of: fn(&Memory) -> u64| of(&last.memory).wrapping_sub(of(&first.memory)).cast_signed();
        let tracked = last.tracked.wrapping_sub(first.tracked).cast_signed();
        Some(MemoryGrowth {
            now: last.memory,
            since: last.time.since(first.time),
            anonymous: change(Memory::all_anonymous),
            file: change(|memory| memory.file),
            shared: change(|memory| memory.shared),
            tracked: (tracked as f64 * stands_for).round() as i64,
        })
    }
}

impl OfStack {
    fn new(began: Timestamp) -> Self {
        let mut series = Series::of_at_most(POINTS_OF_STACK);
        series.push(began, 0);
        Self { series, bytes: 0 }
    }
}

/// A trend of what was observed, where each byte stands for so many.
pub(super) fn scaled(trend: Trend, stands_for: f64) -> Trend {
    Trend { bytes_per_second: trend.bytes_per_second * stands_for, ..trend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, Course};

    const IMAGE: ImageId = ImageId(1);
    const SECOND: u64 = 1_000_000_000;
    const LEAK: StackId = StackId(10);
    const CHURN: StackId = StackId(11);

    fn memory(anonymous: u64) -> Memory {
        Memory { anonymous, ..Memory::default() }
    }

    /// A leak of a mebibyte a second, and what comes and goes.
    fn looks(histories: &mut Histories, seconds: impl Iterator<Item = u64>) {
        for second in seconds {
            let leak = second << 20;
            let churn = (second % 2) * 1000;
            let stacks = [(LEAK, leak / 4), (CHURN, churn), (LEAK, leak - leak / 4)].into_iter();
            let stacks = stacks.filter(|(_, bytes)| *bytes > 0);
            let look = (leak + churn, Some(memory((100 << 20) + leak)));
            histories.look(IMAGE, Timestamp(SECOND), Timestamp((1 + second) * SECOND), look, stacks);
        }
    }

    #[test]
    fn each_stack_has_its_course_and_the_process_a_cause() {
        let mut histories = Histories::default();
        looks(&mut histories, 1..=30);
        let (leak, churn) = (histories.trend_of_stack(IMAGE, LEAK), histories.trend_of_stack(IMAGE, CHURN));
        assert_eq!((leak.course, leak.bytes_per_second), (Course::Grows, 1_048_576.0));
        assert_eq!(churn.course, Course::Churn);
        let verdict = histories.verdict(IMAGE, 1.0);
        assert_eq!((verdict.trend.course, verdict.cause), (Course::Grows, Cause::Heap));
        let growth =
            verdict.memory.map(|memory| (memory.anonymous >> 20, memory.tracked >> 20, memory.since.as_secs()));
        // Since the first look.
        assert_eq!(growth, Some((29, 28, 29)));
    }

    #[test]
    fn an_image_that_begins_under_observation_had_nothing() {
        let mut histories = Histories::default();
        histories.begin(IMAGE, Timestamp(SECOND));
        looks(&mut histories, 1..=30);
        let growth = histories.verdict(IMAGE, 2.0).memory.map(|memory| (memory.anonymous >> 20, memory.tracked >> 20));
        assert_eq!(growth, Some((130, 60)));
    }

    #[test]
    fn stacks_that_hold_nothing_any_more_are_forgotten() {
        let mut histories = Histories::default();
        looks(&mut histories, 1..=30);
        for second in 40..100 {
            histories.look(IMAGE, Timestamp(0), Timestamp(second * SECOND), (0, None), std::iter::empty());
        }
        assert!(histories.images[&IMAGE].stacks.is_empty());
        histories.retain(|image| image != IMAGE);
        assert_eq!(histories.verdict(IMAGE, 1.0).trend, Trend::NONE);
    }
}
