//! Heap profiles of other tools, and those of memprof that another tool has rewritten: what samples and labels alone tell.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{SavedError, pprof::Frames};
use crate::{
    model::{
        BlockGroup, Frame, Outstanding, Peak, ProcessSnapshot, Report, Sampling, StackId, StackSnapshot, StandardError,
        Totals, Warning,
    },
    pprof::{Limits, Tables, label, pseudo, wire::Sample},
};

/// Sample types of what is outstanding and of what was allocated in all: objects, then bytes.
const OUTSTANDING: [[&str; 2]; 2] = [["inuse_objects", "inuse_space"], ["objects", "space"]];
const ALLOCATED: [&str; 2] = ["alloc_objects", "alloc_space"];

/// Makes a report of a profile without notes.
pub(super) fn read(tables: &Tables<'_>, limits: &Limits) -> Result<Report, SavedError> {
    let columns = Columns::of(tables).ok_or_else(|| SavedError::NoHeap(sample_types(tables)))?;
    let sources = BTreeMap::new();
    let mut foreign = Foreign {
        tables,
        columns,
        sampling: sampling(tables),
        frames: Frames::new(tables, &sources, limits),
        processes: BTreeMap::new(),
        is_negative: false,
    };
    for sample in &tables.profile.sample {
        foreign.add(sample)?;
    }
    Ok(foreign.into_report())
}

fn sample_types(tables: &Tables<'_>) -> String {
    let names: Vec<_> = tables.profile.sample_type.iter().map(|of| tables.string(of.r#type).into_owned()).collect();
    names.join(", ").chars().take(100).collect()
}

/// Bytes for each sampling point, where it says so.
fn sampling(tables: &Tables<'_>) -> Option<u64> {
    let profile = tables.profile;
    let is_bytes = profile.period_type.is_some_and(|of| tables.string(of.unit) == "bytes");
    let rate = u64::try_from(profile.period).ok()?;
    (is_bytes && rate > 1).then_some(rate.min(Sampling::MAX_BYTES))
}

/// Which figures of a sample are which: objects and bytes.
struct Columns {
    outstanding: [usize; 2],
    allocated: Option<[usize; 2]>,
}

impl Columns {
    fn of(tables: &Tables<'_>) -> Option<Self> {
        let places = |[objects, bytes]: [&str; 2]| Some([tables.place_of(objects)?, tables.place_of(bytes)?]);
        Some(Self { outstanding: OUTSTANDING.into_iter().find_map(places)?, allocated: places(ALLOCATED) })
    }
}

struct Foreign<'a> {
    tables: &'a Tables<'a>,
    columns: Columns,
    sampling: Option<u64>,
    frames: Frames<'a>,
    /// By pid.
    processes: BTreeMap<u32, ForeignProcess<'a>>,
    is_negative: bool,
}

#[derive(Default)]
struct ForeignProcess<'a> {
    command: Option<String>,
    stacks: Vec<StackSnapshot<Frame>>,
    places: HashMap<&'a [u64], usize>,
    totals: Outstanding,
    variance: StandardError,
}

impl<'a> Foreign<'a> {
    fn add(&mut self, sample: &'a Sample) -> Result<(), SavedError> {
        self.is_negative |= sample.value.iter().any(|value| *value < 0);
        let outstanding = figures(sample, self.columns.outstanding);
        let allocated = self.columns.allocated.map(|columns| figures(sample, columns)).unwrap_or_default();
        let pid = self.tables.number(sample, label::PID).and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        let process = self.processes.entry(pid).or_default();
        let command = || self.tables.text(sample, label::COMMAND).map(std::borrow::Cow::into_owned);
        process.command = process.command.take().or_else(command);
        let stack = match process.places.get(&sample.location_id[..]) {
            Some(place) => &mut process.stacks[*place],
            None => {
                process.places.insert(&sample.location_id, process.stacks.len());
                let name = process.stacks.len() as u64 + 1;
                process.stacks.push(StackSnapshot::empty(StackId(name), self.frames.of(sample)?));
                let last = process.stacks.len() - 1;
                &mut process.stacks[last]
            }
        };
        let group =
            BlockGroup { size: size(self.tables, sample, outstanding), age: age(self.tables, sample), outstanding };
        let error =
            self.sampling.map(|rate| standard_error(group.size, outstanding.allocations, rate)).unwrap_or_default();
        add_variance(&mut stack.standard_error, error);
        add_variance(&mut process.variance, error);
        stack.outstanding.add_saturating(outstanding);
        stack.totals.allocations = stack.totals.allocations.saturating_add(allocated.allocations);
        stack.totals.allocated_bytes = stack.totals.allocated_bytes.saturating_add(allocated.bytes);
        process.totals.add_saturating(allocated);
        if outstanding.allocations > 0 {
            stack.groups.push(group);
        }
        Ok(())
    }

    fn into_report(self) -> Report {
        let profile = self.tables.profile;
        let name = program(self.tables);
        let sampling = self.sampling;
        let processes = self.processes.into_iter().map(|(pid, process)| process.into_snapshot(pid, &name)).collect();
        let elapsed = Duration::from_nanos(u64::try_from(profile.duration_nanos).unwrap_or_default());
        let warnings = [Some(Warning::Foreign), self.is_negative.then_some(Warning::NegativeFigures)];
        Report {
            elapsed,
            since_previous: elapsed,
            sample_bytes: sampling,
            warnings: warnings.into_iter().flatten().collect(),
            processes,
            ..Report::empty(jiff::Timestamp::from_nanosecond(profile.time_nanos.into()).unwrap_or_default())
        }
    }
}

impl ForeignProcess<'_> {
    fn into_snapshot(mut self, pid: u32, program: &str) -> ProcessSnapshot<Frame> {
        let mut outstanding = Outstanding::default();
        self.stacks.iter_mut().for_each(|stack| {
            outstanding.add_saturating(stack.outstanding);
            stack.standard_error = root(stack.standard_error);
        });
        self.stacks.retain(|stack| !is_pseudo(stack));
        let allocated = self.totals;
        ProcessSnapshot {
            outstanding,
            standard_error: root(self.variance),
            peak: Peak { outstanding, elapsed: Duration::ZERO },
            totals: Totals {
                allocations: allocated.allocations,
                allocated_bytes: allocated.bytes,
                frees: allocated.allocations.saturating_sub(outstanding.allocations),
                freed_bytes: allocated.bytes.saturating_sub(outstanding.bytes),
            },
            selected_stacks: self.stacks.len(),
            stacks: self.stacks,
            ..ProcessSnapshot::empty(pid, self.command.unwrap_or_else(|| program.to_owned()))
        }
    }
}

/// Whether it only stands for others.
fn is_pseudo(stack: &StackSnapshot<Frame>) -> bool {
    let name = match &stack.frames[..] {
        [frame] => frame.function.as_deref(),
        _ => None,
    };
    name == Some(pseudo::NOT_KEPT)
}

/// A difference has negative figures, which no heap has.
fn figures(sample: &Sample, [objects, bytes]: [usize; 2]) -> Outstanding {
    let figure = |place: usize| u64::try_from(sample.value[place]).unwrap_or_default();
    Outstanding { bytes: figure(bytes), allocations: figure(objects) }
}

fn size(tables: &Tables<'_>, sample: &Sample, outstanding: Outstanding) -> u64 {
    let label = tables.number(sample, label::BYTES).and_then(|size| u64::try_from(size).ok());
    label.unwrap_or_else(|| outstanding.bytes / outstanding.allocations.max(1))
}

fn age(tables: &Tables<'_>, sample: &Sample) -> Duration {
    let age = tables.number(sample, label::AGE).and_then(|age| u64::try_from(age).ok());
    Duration::from_nanos(age.unwrap_or_default())
}

/// The name of the program: tools put it first.
fn program(tables: &Tables<'_>) -> String {
    let path = tables.profile.mapping.first().map(|mapping| tables.string(mapping.filename)).unwrap_or_default();
    match path.rsplit('/').next().unwrap_or_default() {
        "" => "[unknown]".to_owned(),
        name => name.to_owned(),
    }
}

/// Of an estimate of so many blocks of a size, where every block is taken by chance, as Go and tcmalloc do it.
fn standard_error(size: u64, blocks: u64, rate: u64) -> StandardError {
    let chance = -(-(size.max(1) as f64) / rate as f64).exp_m1();
    let allocations = (blocks as f64 * (1.0 / chance - 1.0)).sqrt();
    StandardError { bytes: allocations * size as f64, allocations }
}

fn add_variance(to: &mut StandardError, error: StandardError) {
    to.bytes += error.bytes * error.bytes;
    to.allocations += error.allocations * error.allocations;
}

fn root(variance: StandardError) -> StandardError {
    StandardError { bytes: variance.bytes.sqrt(), allocations: variance.allocations.sqrt() }
}
