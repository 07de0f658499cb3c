//! What has changed between two reports, stack by stack.
//!
//! Two stacks are one if their frames are. In an object of which both reports have the same build, a frame is an offset; in any other,
//! and in what was compiled at run time, it is a function and the name of the object's file: lines move when a program is changed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    time::Duration,
};

use crate::model::{
    BuildId, Change, Difference, DifferenceSelection, DifferenceSort, DifferenceWarning, Frame, Held, Losses,
    Outstanding, ProcessDifference, ProcessSnapshot, Report, Side, StackDifference, StackSnapshot, Warning,
};

/// Observations that began within so much of each other count as begun together.
const ONE_MOMENT: Duration = Duration::from_secs(1);

/// Compares two reports, which have a name each.
pub fn difference(before: (&str, &Report), after: (&str, &Report), selection: &DifferenceSelection) -> Difference {
    let builds = Builds::of(before.1, after.1);
    let is_one_each = before.1.processes.len() == 1 && after.1.processes.len() == 1;
    let mut pairs: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
    for process in &before.1.processes {
        pairs.entry(if is_one_each { "" } else { &process.command }).or_default().before.push(process);
    }
    for process in &after.1.processes {
        pairs.entry(if is_one_each { "" } else { &process.command }).or_default().after.push(process);
    }
    let mut processes: Vec<_> = pairs.values().map(|pair| pair.compare(&builds, selection)).collect();
    processes.sort_by_key(|process| Reverse(rank(&process.before, &process.after, selection.sort)));
    let sides = [before, after].map(|(name, report)| side(name, report));
    let warnings = warnings(&sides, before.1, after.1);
    let [before, after] = sides;
    Difference { before, after, warnings, processes }
}

fn side(name: &str, report: &Report) -> Side {
    Side {
        name: name.to_owned(),
        time: report.time,
        elapsed: report.elapsed,
        sample_bytes: report.sample_bytes,
        losses: report.losses,
    }
}

/// The builds of objects that both reports have.
struct Builds<'a>(HashSet<&'a BuildId>);

/// What makes a frame the same frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place<'a> {
    /// In a build that both sides have.
    Offset(&'a BuildId, u64),
    /// By names: of the object's file, and of the function.
    Function(Option<&'a Path>, &'a str),
    /// In an object that has no name for it.
    Unnamed(Option<&'a Path>, Option<u64>),
}

impl<'a> Builds<'a> {
    fn of(before: &'a Report, after: &'a Report) -> Self {
        let [before, after] = [before, after].map(|report| frames(report).filter_map(|frame| frame.build_id.as_ref()));
        let before: HashSet<_> = before.collect();
        Self(after.filter(|id| before.contains(id)).collect())
    }

    /// Frames that are inlined in one build are at the place of the frame that they are inlined into.
    fn places(&self, frames: &'a [Frame]) -> Vec<Place<'a>> {
        frames.iter().filter_map(|frame| self.place(frame)).collect()
    }

    fn place(&self, frame: &'a Frame) -> Option<Place<'a>> {
        let file = frame.module.as_deref().map(|module| module.file_name().map_or(module, Path::new));
        match (&frame.build_id, frame.offset_in_file, &frame.function) {
            (Some(id), Some(offset), _) if self.0.contains(id) => (!frame.inlined).then_some(Place::Offset(id, offset)),
            (_, _, Some(function)) => Some(Place::Function(file, function)),
            (_, offset, None) => Some(Place::Unnamed(file, offset)),
        }
    }
}

fn frames(report: &Report) -> impl Iterator<Item = &Frame> {
    report.processes.iter().flat_map(|process| &process.stacks).flat_map(|stack| &stack.frames)
}

/// Processes of one command.
#[derive(Default)]
struct Pair<'a> {
    before: Vec<&'a ProcessSnapshot<Frame>>,
    after: Vec<&'a ProcessSnapshot<Frame>>,
}

impl Pair<'_> {
    fn compare(&self, builds: &Builds<'_>, selection: &DifferenceSelection) -> ProcessDifference {
        let mut stacks = self.stacks(builds);
        let is_changed = |stack: &StackDifference| match selection.sort {
            DifferenceSort::Churn => stack.change() != Change::default(),
            _ => stack.before.outstanding != stack.after.outstanding,
        };
        let changed_stacks = stacks.iter().filter(|stack| is_changed(stack)).count();
        stacks.retain(|stack| selection.unchanged || is_changed(stack));
        stacks.sort_by_key(|stack| {
            (Reverse(rank(&stack.before, &stack.after, selection.sort)), Reverse(stack.after.outstanding.bytes))
        });
        stacks.truncate(selection.top.unwrap_or(usize::MAX));
        let named = self.after.first().or(self.before.first());
        ProcessDifference {
            command: named.map(|process| process.command.clone()).unwrap_or_default(),
            pids_before: self.before.iter().map(|process| process.pid).collect(),
            pids_after: self.after.iter().map(|process| process.pid).collect(),
            before: held_by(&self.before),
            after: held_by(&self.after),
            stacks,
            changed_stacks,
        }
    }

    /// All of both sides, those of the second in its order.
    fn stacks(&self, builds: &Builds<'_>) -> Vec<StackDifference> {
        let mut indices = HashMap::new();
        let mut stacks: Vec<StackDifference> = Vec::new();
        let after = self.after.iter().flat_map(|process| &process.stacks).map(|stack| (stack, true));
        let before = self.before.iter().flat_map(|process| &process.stacks).map(|stack| (stack, false));
        for (stack, is_after) in after.chain(before) {
            let index = *indices.entry(builds.places(&stack.frames)).or_insert_with(|| {
                let (before, after) = (Held::default(), Held::default());
                stacks.push(StackDifference { before, after, frames: stack.frames.clone() });
                stacks.len() - 1
            });
            let known = &mut stacks[index];
            if is_after {
                known.after.add(held(stack))
            } else {
                known.before.add(held(stack))
            }
            generalize(&mut known.frames, &stack.frames);
        }
        stacks
    }
}

/// Leaves out of the frames what is not the same in others that count as the same.
fn generalize(frames: &mut [Frame], others: &[Frame]) {
    if frames.len() != others.len() {
        return;
    }
    for (frame, other) in frames.iter_mut().zip(others) {
        if let (Some(source), Some(of_other)) = (&mut frame.source, &other.source)
            && source.line != of_other.line
            && frame.function == other.function
        {
            source.line = None;
        }
    }
}

fn held(stack: &StackSnapshot<Frame>) -> Held {
    let totals = &stack.totals;
    let allocated = Outstanding { bytes: totals.allocated_bytes, allocations: totals.allocations };
    Held { outstanding: stack.outstanding, allocated }
}

fn held_by(processes: &[&ProcessSnapshot<Frame>]) -> Held {
    let mut sum = Held::default();
    for process in processes {
        let totals = &process.totals;
        let allocated = Outstanding { bytes: totals.allocated_bytes, allocations: totals.allocations };
        sum.add(Held { outstanding: process.outstanding, allocated });
    }
    sum
}

fn rank(before: &Held, after: &Held, sort: DifferenceSort) -> i64 {
    let change = Change::between(before, after);
    match sort {
        DifferenceSort::Bytes => change.bytes,
        DifferenceSort::Allocations => change.allocations,
        DifferenceSort::Churn => change.allocations_made,
    }
}

fn warnings([before, after]: &[Side; 2], first: &Report, second: &Report) -> Vec<DifferenceWarning> {
    let names = || (before.name.clone(), after.name.clone());
    let mut warnings = Vec::new();
    if before.time > after.time {
        let (before, after) = names();
        warnings.push(DifferenceWarning::Backwards { before, after });
    }
    warnings.extend(other_program(names(), first, second));
    if before.sample_bytes != after.sample_bytes {
        let (before, after) = names();
        warnings.push(DifferenceWarning::SampledOtherwise { before, after });
    } else if before.sample_bytes.is_some() {
        warnings.push(DifferenceWarning::Sampled);
    }
    warnings.extend(other_start(names(), first, second));
    warnings.extend(other_builds(first, second));
    warnings.extend(of_side(before, first));
    warnings.extend(of_side(after, second));
    warnings
}

fn commands(report: &Report) -> BTreeSet<&str> {
    report.processes.iter().map(|process| process.command.as_str()).collect()
}

fn other_program((before, after): (String, String), first: &Report, second: &Report) -> Option<DifferenceWarning> {
    let (first, second) = (commands(first), commands(second));
    let listed = |commands: &BTreeSet<&str>| commands.iter().copied().take(4).collect::<Vec<_>>().join(", ");
    let are_strangers = !first.is_empty() && !second.is_empty() && first.is_disjoint(&second);
    are_strangers.then(|| DifferenceWarning::OtherProgram {
        before,
        program_before: listed(&first),
        after,
        program_after: listed(&second),
    })
}

/// One process that was attached to twice.
fn other_start((before, after): (String, String), first: &Report, second: &Report) -> Option<DifferenceWarning> {
    let start = |report: &Report| jiff::Timestamp::as_duration(report.time).as_nanos() - elapsed(report);
    let pid = first
        .processes
        .iter()
        .map(|process| process.pid)
        .find(|pid| *pid != 0 && second.processes.iter().any(|process| process.pid == *pid))?;
    let is_other = start(first).abs_diff(start(second)) > ONE_MOMENT.as_nanos();
    is_other.then_some(DifferenceWarning::OtherStart { pid, before, after })
}

fn elapsed(report: &Report) -> i128 {
    i128::try_from(report.elapsed.as_nanos()).unwrap_or(i128::MAX / 2)
}

/// Objects of one name that have other build ids.
fn other_builds(first: &Report, second: &Report) -> Vec<DifferenceWarning> {
    let (first, second) = (builds_by_file(first), builds_by_file(second));
    let is_other = |(file, builds): &(&&Path, &HashSet<&BuildId>)| {
        second.get(**file).is_some_and(|others| builds.is_disjoint(others))
    };
    let modules = first.iter().filter(is_other).map(|(file, _)| file.display().to_string());
    modules.map(|module| DifferenceWarning::OtherBuild { module }).collect()
}

fn builds_by_file(report: &Report) -> BTreeMap<&Path, HashSet<&BuildId>> {
    let mut builds: BTreeMap<_, HashSet<_>> = BTreeMap::new();
    for frame in frames(report) {
        if let (Some(module), Some(id)) = (&frame.module, &frame.build_id) {
            builds.entry(module.file_name().map_or(module.as_path(), Path::new)).or_default().insert(id);
        }
    }
    builds
}

fn of_side(side: &Side, report: &Report) -> Vec<DifferenceWarning> {
    let name = || side.name.clone();
    let losses: &Losses = &side.losses;
    let lost = (!losses.is_none()).then(|| DifferenceWarning::Lost {
        name: name(),
        allocations: losses.allocations(),
        frees: losses.frees(),
        stacks: losses.stacks(),
    });
    let is_cut = report.processes.iter().any(|process| process.selected_stacks > process.stacks.len());
    let said = report
        .warnings
        .iter()
        .filter(|warning| matches!(warning, Warning::Foreign | Warning::Rewritten | Warning::NegativeFigures));
    let said = said.map(|warning| DifferenceWarning::OfSide { name: name(), warning: warning.to_string() });
    lost.into_iter().chain(is_cut.then(|| DifferenceWarning::Cut { name: name() })).chain(said).collect()
}
