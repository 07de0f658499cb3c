//! From a pprof profile to a report. One of memprof's has [`Notes`] with everything but frames and groups of blocks; these are put back from
//! the samples. Any other is `foreign.rs`'s.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;

use super::{SavedError, foreign};
use crate::{
    model::{BlockGroup, BuildId, Frame, Outstanding, Report, Source, StackSnapshot, Warning},
    pprof::{
        Limits, Notes, PprofError, SourceParts, Tables, decode, label, pseudo,
        wire::{Line, Location, Mapping, Profile, Sample},
    },
};

/// Reads a profile.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Report, SavedError> {
    let profile = decode(bytes, limits)?;
    let tables = Tables::new(&profile);
    let Some(notes) = Notes::of(&profile)? else { return foreign::read(&tables, limits) };
    match restore(&tables, notes, limits)? {
        Some(report) => Ok(report),
        None => {
            let mut report = foreign::read(&tables, limits)?;
            report.warnings.push(Warning::Rewritten);
            Ok(report)
        }
    }
}

/// The report that was saved; nothing if the samples are not those that were saved with it.
fn restore(tables: &Tables<'_>, notes: Notes<'static>, limits: &Limits) -> Result<Option<Report>, PprofError> {
    if Notes::sums_of(tables.profile) != notes.sums || tables.place_of("inuse_space") != Some(3) {
        return Ok(None);
    }
    let mut report = notes.report.into_owned();
    let mut frames = Frames::new(tables, &notes.sources, limits);
    let mut stacks = StackIndex::of(&report);
    for sample in &tables.profile.sample {
        let Some(name) = tables.text(sample, label::STACK) else { continue };
        let Some(place) = stacks.find(tables, sample, &name) else { return Ok(None) };
        let stack = &mut report.processes[place.0].stacks[place.1];
        if stacks.is_new(place) {
            stack.frames = frames.of(sample)?;
        }
        stack.groups.extend(group(tables, sample));
    }
    Ok(stacks.are_all_found().then_some(report))
}

fn group(tables: &Tables<'_>, sample: &Sample) -> Option<BlockGroup> {
    let number = |key| tables.number(sample, key).and_then(|number| u64::try_from(number).ok());
    let figure = |place: usize| u64::try_from(sample.value[place]).unwrap_or_default();
    Some(BlockGroup {
        size: number(label::BYTES)?,
        age: Duration::from_nanos(number(label::AGE)?),
        outstanding: Outstanding { bytes: figure(3), allocations: figure(2) },
    })
}

/// Where in a report a stack is: process and stack.
type Place = (usize, usize);

struct StackIndex {
    /// The first process with a pid.
    processes: HashMap<i64, usize>,
    stacks: HashMap<(usize, String), Place>,
    found: Vec<Vec<bool>>,
}

impl StackIndex {
    fn of(report: &Report) -> Self {
        let mut index = Self { processes: HashMap::new(), stacks: HashMap::new(), found: Vec::new() };
        for (place, process) in report.processes.iter().enumerate() {
            index.processes.entry(process.pid.into()).or_insert(place);
            let names = process.stacks.iter().map(|stack: &StackSnapshot<Frame>| format!("{:#018x}", stack.id.0));
            index.stacks.extend(names.enumerate().map(|(stack, name)| ((place, name), (place, stack))));
            index.found.push(vec![false; process.stacks.len()]);
        }
        index
    }

    fn find(&self, tables: &Tables<'_>, sample: &Sample, name: &str) -> Option<Place> {
        let process = match tables.number(sample, label::PROCESS) {
            Some(place) => usize::try_from(place).ok()?,
            None => *self.processes.get(&tables.number(sample, label::PID)?)?,
        };
        self.stacks.get(&(process, name.to_owned())).copied()
    }

    fn is_new(&mut self, (process, stack): Place) -> bool {
        !std::mem::replace(&mut self.found[process][stack], true)
    }

    fn are_all_found(&self) -> bool {
        self.found.iter().flatten().all(|found| *found)
    }
}

/// Frames, made of locations.
pub(super) struct Frames<'a> {
    tables: &'a Tables<'a>,
    sources: &'a BTreeMap<String, SourceParts>,
    locations: HashMap<u64, &'a Location>,
    build_ids: HashMap<u64, Option<BuildId>>,
    /// Bytes of memory that frames may still take.
    left: u64,
    limit: u64,
}

impl<'a> Frames<'a> {
    pub(super) fn new(tables: &'a Tables<'a>, sources: &'a BTreeMap<String, SourceParts>, limits: &Limits) -> Self {
        let Profile { location, mapping, .. } = tables.profile;
        Self {
            tables,
            sources,
            locations: location.iter().map(|location| (location.id, location)).collect(),
            build_ids: mapping.iter().map(|mapping| (mapping.id, build_id(&tables.string(mapping.build_id)))).collect(),
            left: limits.frames,
            limit: limits.frames,
        }
    }

    /// The stack of a sample; none if it says that it was lost.
    pub(super) fn of(&mut self, sample: &Sample) -> Result<Vec<Frame>, PprofError> {
        let mut frames = Vec::new();
        for id in &sample.location_id {
            self.append(*id, &mut frames)?;
        }
        let is_lost = matches!(&frames[..], [frame] if frame.function.as_deref() == Some(pseudo::LOST));
        Ok(if is_lost { Vec::new() } else { frames })
    }

    fn append(&mut self, id: u64, frames: &mut Vec<Frame>) -> Result<(), PprofError> {
        let Some(location) = self.locations.get(&id).copied() else { return Ok(()) };
        let place = self.place(location);
        self.take(&place)?;
        if location.line.is_empty() {
            frames.push(place);
            return Ok(());
        }
        for (index, line) in location.line.iter().enumerate() {
            let inlined = index + 1 < location.line.len();
            let frame = self.named(&place, line, inlined);
            self.take(&frame)?;
            frames.push(frame);
        }
        Ok(())
    }

    /// Accounts for the memory of a frame.
    fn take(&mut self, frame: &Frame) -> Result<(), PprofError> {
        let path = |path: &Option<PathBuf>| path.as_ref().map_or(0, |path| path.as_os_str().len());
        let source = frame.source.as_ref().map_or(0, |source| source.file.as_os_str().len() + path(&source.directory));
        let strings = frame.function.as_ref().map_or(0, String::len) + path(&frame.module) + source;
        let bytes = (size_of::<Frame>() + strings) as u64;
        self.left = self.left.checked_sub(bytes).ok_or(PprofError::TooLarge(ByteSize(self.limit)))?;
        Ok(())
    }

    /// A frame of which no more is known than where it is.
    fn place(&self, location: &Location) -> Frame {
        // The address of a profile is within the call, a frame's is behind it.
        let address = if location.address == 0 { 0 } else { location.address.wrapping_add(1) };
        let Some(mapping) = self.tables.mapping(location) else { return Frame { address, ..Frame::default() } };
        let path = self.tables.string(mapping.filename);
        Frame {
            address,
            module: (!path.is_empty()).then(|| PathBuf::from(path.into_owned())),
            build_id: self.build_ids.get(&mapping.id).cloned().flatten(),
            offset_in_file: offset_in_file(address, mapping),
            ..Frame::default()
        }
    }

    fn named(&self, place: &Frame, line: &Line, inlined: bool) -> Frame {
        let function = self.tables.function(line.function_id);
        let name = function.map(|function| self.tables.string(function.name)).unwrap_or_default();
        let path = function.map(|function| self.tables.string(function.filename)).unwrap_or_default();
        let source = (!path.is_empty()).then(|| self.source(&path, line.line));
        Frame { function: (!name.is_empty()).then(|| name.into_owned()), source, inlined, ..place.clone() }
    }

    fn source(&self, path: &str, line: i64) -> Source {
        let line = u32::try_from(line).ok().filter(|line| *line > 0);
        match self.sources.get(path) {
            Some(SourceParts { directory, file }) => {
                Source { directory: Some(directory.into()), file: file.into(), line }
            }
            None => Source { directory: None, file: path.into(), line },
        }
    }
}

/// Nothing where the mapping is of no file: then it has addresses for offsets.
fn offset_in_file(address: u64, mapping: &Mapping) -> Option<u64> {
    let is_file = mapping.memory_start != mapping.file_offset;
    is_file.then(|| address.wrapping_sub(mapping.memory_start).wrapping_add(mapping.file_offset))
}

/// Of an ELF file; others' are no hexadecimal numbers.
fn build_id(text: &str) -> Option<BuildId> {
    let digits = |place: usize| text.get(place..place + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
    bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| BuildId(bytes.into()))
}
