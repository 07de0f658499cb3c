//! Known leaks are left out: suppressions in LeakSanitizer's format, applied to a report with names.

mod pattern;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

pub use rules::{ParseError, Suppressions};

use crate::model::{Course, Frame, Outstanding, ProcessSnapshot, Report, Suppressed, SuppressedBy};

impl Suppressions {
    /// Leaves out of every process the stacks that a pattern matches, and says so there. All selected stacks must be in the report.
    pub fn apply(&self, report: &mut Report) {
        let mut known = HashMap::new();
        let found: Vec<Vec<_>> = report
            .processes
            .iter()
            .map(|process| process.stacks.iter().map(|stack| self.first_match(&stack.frames, &mut known)).collect())
            .collect();
        for (process, found) in report.processes.iter_mut().zip(found) {
            self.leave_out(process, &found);
        }
    }

    /// Those that have suppressed nothing in a report.
    pub fn unused<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = &'a str> {
        let suppressed = report.processes.iter().filter_map(|process| process.suppressed.as_ref());
        let used: HashSet<_> =
            suppressed.flat_map(|suppressed| &suppressed.by_pattern).map(|used| used.pattern.as_str()).collect();
        self.patterns().iter().map(String::as_str).filter(move |pattern| !used.contains(pattern))
    }

    /// The first pattern that matches a frame, of the innermost frame that has one.
    pub fn of_stack(&self, frames: &[Frame]) -> Option<&str> {
        self.first_match(frames, &mut HashMap::new()).map(|index| self.patterns()[index].as_str())
    }

    fn first_match<'a>(&self, frames: &'a [Frame], known: &mut HashMap<Place<'a>, Option<usize>>) -> Option<usize> {
        frames.iter().map(Place::of).find_map(|place| *known.entry(place).or_insert_with(|| self.match_at(&place)))
    }

    /// LeakSanitizer looks at the module first, then at the function, then at its source.
    fn match_at(&self, place: &Place<'_>) -> Option<usize> {
        let module = place.module.map_or("<unknown module>".into(), |module| module.to_string_lossy());
        let source = place.file.map(|file| place.directory.map_or_else(|| file.to_owned(), |path| path.join(file)));
        self.find(&module)
            .or_else(|| self.find(place.function?))
            .or_else(|| self.find(&source.as_deref()?.to_string_lossy()))
    }

    fn find(&self, text: &str) -> Option<usize> {
        self.patterns().iter().position(|pattern| pattern::matches(pattern, text))
    }

    fn leave_out(&self, process: &mut ProcessSnapshot<Frame>, found: &[Option<usize>]) {
        let mut suppressed = Suppressed::default();
        let mut by_pattern = BTreeMap::new();
        let matched = process.stacks.iter().zip(found).filter_map(|(stack, index)| Some((stack, (*index)?)));
        for (stack, index) in matched.filter(|(stack, _)| stack.outstanding.allocations > 0) {
            suppressed.stacks += 1;
            suppressed.outstanding.add_saturating(stack.outstanding);
            suppressed.grows |= stack.trend.course == Course::Grows;
            let by_pattern = by_pattern.entry(index).or_insert_with(|| self.nothing_by(index));
            by_pattern.stacks += 1;
            by_pattern.outstanding.add_saturating(stack.outstanding);
        }
        suppressed.by_pattern = by_pattern.into_values().collect();
        let (before, mut found) = (process.stacks.len(), found.iter());
        process.stacks.retain(|_| found.next().is_none_or(Option::is_none));
        process.selected_stacks = process.selected_stacks.saturating_sub(before - process.stacks.len());
        process.suppressed = Some(suppressed);
    }

    fn nothing_by(&self, index: usize) -> SuppressedBy {
        SuppressedBy { pattern: self.patterns()[index].clone(), stacks: 0, outstanding: Outstanding::default() }
    }
}

/// What of a frame patterns are compared with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place<'a> {
    module: Option<&'a Path>,
    function: Option<&'a str>,
    directory: Option<&'a Path>,
    file: Option<&'a Path>,
}

impl<'a> Place<'a> {
    fn of(frame: &'a Frame) -> Self {
        let source = frame.source.as_ref();
        Self {
            module: frame.module.as_deref(),
            function: frame.function.as_deref(),
            directory: source.and_then(|source| source.directory.as_deref()),
            file: source.map(|source| source.file.as_path()),
        }
    }
}
