//! Loading: map sizes, constants, the log.

use std::{borrow::Cow, fmt, rc::Rc, time::Instant};

use aya::{
    BtfError, Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, RingBuf},
    programs::{Program, ProgramError, RawTracePoint},
};
use aya_log::EbpfLogger;
use memprof_common::{
    MAX_TARGETS,
    buckets::{Directory, table},
    follows,
    kernel_structs::{AreaOffsets, KernelOffsets},
    tables::unwind_mode,
    unwind::Row,
};
use tokio::io::unix::AsyncFd;

use super::{
    Kernel, KernelError,
    attach::{Probes, Reach},
    btf::{area_offsets, kernel_offsets},
    buckets::{BucketTable, KeyTable},
    mapped_array::MappedArray,
    mappings::MappingWatch,
    memory,
    multi::MultiPrograms,
    page_faults::{self, HugePages, PageFaultWatch},
    probe::FOR_RARE,
    programs::{Linked, Programs},
    stack_tables::{self, StackTables},
    tables::Tables,
    uprobe_events,
};
use crate::{model::Sampling, readiness};

/// What the programs log goes to the process's logger.
pub(super) struct Logger(EbpfLogger<&'static dyn log::Log>);

impl Logger {
    /// Passes on what has been logged since.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Logger")
    }
}

/// Current images of all targets, and as many that are over and not forgotten yet.
const IMAGES: u32 = MAX_TARGETS * 3 / 2;

/// Sizes of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Live blocks that can wait to be drained.
    pub nursery_entries: u32,
    /// Stacks that can be new between two drains, twice.
    pub stack_entries: u32,
    /// Bytes of the ring that frees and new stacks go through; rounded up to a power of two of pages.
    pub ring_bytes: u32,
    /// Threads that can be followed into the allocator.
    pub threads: u32,
    /// Bytes of unwinding rows, of all objects.
    pub unwind_bytes: u32,
}

/// How stacks are unwound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Unwind {
    /// By the tables that compilers write for exceptions, and by frame pointers where there are none.
    #[default]
    Auto,
    /// By the tables only.
    Dwarf,
    /// By frame pointers only.
    Fp,
}

/// Which processes are followed that are forked while others are observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Following {
    /// None.
    #[default]
    Nobody,
    /// Those of the processes that are observed.
    Children,
    /// All, but memprof's own.
    Everyone,
}

impl Following {
    fn word(self) -> u32 {
        match self {
            Self::Nobody => follows::NOBODY,
            Self::Children => follows::CHILDREN,
            Self::Everyone => follows::EVERYONE,
        }
    }
}

/// What the programs are made to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of the tables.
    pub sizes: Sizes,
    /// How stacks are unwound.
    pub unwind: Unwind,
    /// Which allocations are taken.
    pub sampling: Sampling,
    /// Whether allocations are observed within [windows](Kernel::begin_window); the first is open when a target is attached.
    pub has_windows: bool,
    /// Whether each call is told of as it happens: then no block rests in the nursery.
    pub traces: bool,
    /// Whom the probes reach.
    pub reach: Reach,
    /// Who becomes a target by being forked.
    pub following: Following,
    /// Whether the programs' rare conditions go to the process's logger.
    pub log: bool,
}

impl Settings {
    /// Links of many probes leave what they probe in the children that a process forks, until they execute a program; a perf event does
    /// not. So they are for what is rarely called, for where children are observed too, and for those who may open no such perf events.
    fn linked(&self) -> Linked {
        let observes_children = self.reach == Reach::Everyone || self.following != Following::Nobody;
        match () {
            () if !MultiPrograms::is_supported() => Linked::None,
            () if observes_children || !uprobe_events::are_allowed() => Linked::All,
            () => Linked::Rare,
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            nursery_entries: 3 << 16,
            stack_entries: 3 << 15,
            ring_bytes: 1 << 24,
            threads: 3 << 12,
            unwind_bytes: 1 << 25,
        }
    }
}

impl Sizes {
    /// Where each table is, see [`memprof_common::buckets`].
    fn directory(&self) -> Directory {
        Directory::with_room_for(self.nursery_entries, self.stack_entries, self.threads, IMAGES)
    }

    fn rows(&self) -> u32 {
        (self.unwind_bytes / size_of::<Row>() as u32).max(1)
    }
}

/// What it took the kernel to accept the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadCost {
    programs: usize,
    milliseconds: u128,
    /// Instructions that the verifier looked at, in all programs and in the largest; 0 before Linux 5.16.
    verified: u64,
    verified_in_largest: u64,
}

impl LoadCost {
    fn of(programs: &Programs, start: Instant) -> Self {
        let milliseconds = start.elapsed().as_millis();
        let counts = || programs.figures().map(|(_, figures)| figures.verified);
        Self {
            programs: counts().count(),
            milliseconds,
            verified: counts().sum(),
            verified_in_largest: counts().max().unwrap_or_default(),
        }
    }
}

impl fmt::Display for LoadCost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { programs, milliseconds, verified, verified_in_largest } = self;
        write!(formatter, "{programs} programs loaded in {milliseconds} ms")?;
        if *verified == 0 {
            return Ok(());
        }
        write!(formatter, ", {verified} instructions verified, {verified_in_largest} of them in the largest")
    }
}

/// Loads the programs and drops them: whether this kernel accepts them, and what that takes.
pub(super) fn try_loading() -> Result<LoadCost, KernelError> {
    let start = Instant::now();
    let settings = Settings::default();
    Ok(LoadCost::of(&load_programs(any_object(&AreaOffsets::default())?, &settings)?, start))
}

/// The same of the programs that watch page faults.
pub(super) fn try_watching_page_faults() -> Result<HugePages, KernelError> {
    let areas = area_offsets();
    if areas.are_known == 0 {
        return Err(KernelError::Lacks(AREAS));
    }
    page_faults::load(&mut any_object(&areas)?)
}

fn any_object(areas: &AreaOffsets) -> Result<Ebpf, KernelError> {
    load_object(&Settings::default(), &kernel_offsets(), areas)
}

/// What a kernel may lack that page faults are watched by.
pub(super) const AREAS: &str = "what is mapped where: that needs its type information (BTF), and Linux 6.1 or newer";

impl Kernel {
    /// Loads the programs and makes the maps.
    pub fn load(settings: &Settings) -> Result<Self, KernelError> {
        let start = Instant::now();
        let offsets = kernel_offsets();
        let areas = area_offsets();
        let bpf = load_object(settings, &offsets, &areas)?;
        let memory_bytes = bpf.maps().filter_map(|(_, map)| memory::of_map(map)).sum();
        let mut programs = load_programs(bpf, settings)?;
        let load_cost = LoadCost::of(&programs, start);
        let bpf = programs.bpf_mut();
        let logger = settings.log.then(|| EbpfLogger::init(bpf)).transpose().map_err(failed)?.map(Logger);
        let directory = settings.sizes.directory();
        let keys = Rc::new(MappedArray::new(array(bpf, "KEYS")?, directory.lines() as usize)?);
        attach_tracepoints(bpf, settings, &offsets)?;
        Ok(Self {
            probes: Probes::new(bpf, settings.reach, settings.has_windows)?,
            events: ring(bpf, "EVENTS")?,
            control: ring(bpf, "CONTROL")?,
            nursery: BucketTable::new(bpf, "NURSERY", &keys, directory.table(table::NURSERY))?,
            stacks: StackTables::new(bpf, &keys, &directory, settings.sizes.stack_entries)?,
            threads: KeyTable::new(&keys, directory.table(table::THREADS)),
            images: KeyTable::new(&keys, directory.table(table::IMAGES)),
            totals: take(bpf, "TOTALS")?.try_into()?,
            targets: take(bpf, "TARGETS")?.try_into()?,
            calls: take(bpf, "CALLS")?.try_into()?,
            timing: None,
            tracked: take(bpf, "TRACKED")?.try_into()?,
            spares: take(bpf, "SPARES")?.try_into()?,
            unfollowed: take(bpf, "UNFOLLOWED")?.try_into()?,
            execs: take(bpf, "EXECS")?.try_into()?,
            mappings: MappingWatch::open()?,
            page_faults: PageFaultWatch::default(),
            finds_areas: areas.are_known != 0,
            tells_of_code: offsets.has_stores != 0,
            tables: Tables::new(bpf, settings.sizes.rows())?,
            logger,
            images_numbered: 0,
            memory_bytes,
            ring_bytes: settings.sizes.ring_bytes,
            load_cost,
            programs,
        })
    }
}

fn attach_tracepoints(bpf: &mut Ebpf, settings: &Settings, offsets: &KernelOffsets) -> Result<(), KernelError> {
    for (program, tracepoint) in [("process_exec", "sched_process_exec"), ("thread_exit", "sched_process_exit")] {
        attach_raw_tracepoint(bpf, program, tracepoint)?;
    }
    if offsets.has_stores != 0 {
        attach_raw_tracepoint(bpf, "mappings_change", "ma_write")?;
    } else {
        log::info!("this kernel does not tell of unmapped code: what takes its place may be misnamed for a moment");
    }
    match settings.following {
        Following::Nobody => Ok(()),
        _ if offsets.has_tasks == 0 => {
            Err(failed("the kernel has no type information (BTF), without which no child can be followed"))
        }
        _ => attach_raw_tracepoint(bpf, "process_fork", "sched_process_fork"),
    }
}

fn load_object(settings: &Settings, offsets: &KernelOffsets, areas: &AreaOffsets) -> Result<Ebpf, KernelError> {
    let Settings { sizes, unwind, sampling, has_windows, traces, following, log, .. } = *settings;
    let cpus = aya::util::nr_cpus().map_err(|(call, source)| KernelError::Call { call, source })? as u64;
    // Half of the nursery may fill before a drain, on all CPUs together; the other half is for while it runs.
    // A sampled one is not drained, however full it is.
    let nursery_mark = match sampling.bytes() {
        None => (u64::from(sizes.nursery_entries) / 2 / cpus).max(1),
        Some(_) => i64::MAX as u64,
    };
    let sample_bytes = sampling.bytes().unwrap_or(0);
    let ring_mark = u64::from(sizes.ring_bytes) / 4;
    // The verifier removes the logging itself where the level rules it out.
    let log_level = if log { log::LevelFilter::Debug as u8 } else { log::LevelFilter::Off as u8 };
    let unwind_mode = match unwind {
        Unwind::Auto => unwind_mode::AUTO,
        Unwind::Dwarf => unwind_mode::TABLES,
        Unwind::Fp => unwind_mode::FRAME_POINTERS,
    };
    let directory = sizes.directory();
    let slots = |number| directory.table(number).slots();
    let object = object()?;
    EbpfLoader::new()
        .map_max_entries("KEYS", directory.lines())
        .map_max_entries("NURSERY", slots(table::NURSERY))
        .map_max_entries("STACKS", slots(table::STACKS))
        .map_max_entries("MORE_STACKS", slots(table::MORE_STACKS))
        .map_max_entries("IN_FLIGHT", slots(table::THREADS))
        .map_max_entries("TOTALS", slots(table::IMAGES))
        .map_max_entries("EVENTS", sizes.ring_bytes)
        .map_max_entries("ROWS", sizes.rows())
        .override_global("DIRECTORY", &directory, true)
        .override_global("NURSERY_MARK", &nursery_mark, true)
        .override_global("STACKS_MARK", &stack_tables::mark(sizes.stack_entries), true)
        .override_global("SAMPLE_BYTES", &sample_bytes, true)
        .override_global("FOLLOWS", &following.word(), true)
        .override_global("OWN_PID", &std::process::id(), true)
        .override_global("HAS_WINDOWS", &u64::from(has_windows), true)
        .override_global("TRACES", &u64::from(traces), true)
        .override_global("RING_MARK", &ring_mark, true)
        .override_global("UNWIND_MODE", &unwind_mode, true)
        .override_global("KERNEL_OFFSETS", offsets, true)
        .override_global("AREA_OFFSETS", areas, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .load(&object)
        .map_err(types_refused)
}

/// As [`refused`], of the types that the programs come with.
fn types_refused(error: EbpfError) -> KernelError {
    match error {
        EbpfError::BtfError(BtfError::LoadError { io_error, verifier_log }) => {
            log::debug!("the kernel on the programs' types: {verifier_log}");
            KernelError::Call {
                call: "the kernel refuses the types of the BPF programs (BPF_BTF_LOAD)",
                source: io_error,
            }
        }
        other => failed(other),
    }
}

/// The compiled programs. Builds that measure take variants of them from a file.
fn object() -> Result<Cow<'static, [u8]>, KernelError> {
    if cfg!(feature = "measure")
        && let Some(path) = std::env::var_os("MEMPROF_BPF_OBJECT")
    {
        return std::fs::read(path).map(Cow::Owned).map_err(failed);
    }
    Ok(Cow::Borrowed(aya::include_bytes_aligned!("../../bpf/memprof.bpf.o")))
}

/// Gives the programs to the kernel. Those that belong at probes are loaded for links of many or for perf events; should they be needed
/// for both, that is done when they are.
fn load_programs(mut bpf: Ebpf, settings: &Settings) -> Result<Programs, KernelError> {
    let linked = settings.linked();
    let is_linked = |name: &str| match linked {
        Linked::None => false,
        Linked::Rare => FOR_RARE.contains(&name),
        Linked::All => true,
    };
    for (name, program) in bpf.programs_mut() {
        let result = match program {
            Program::UProbe(_) if is_linked(name) => Ok(()),
            Program::UProbe(probe) => probe.load(),
            Program::RawTracePoint(tracepoint) => tracepoint.load(),
            // For those who ask where memory grows: see `page_faults`.
            Program::PerfEvent(_) | Program::FExit(_) => Ok(()),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        result.map_err(|error| refused(name, error))?;
    }
    let multi = match linked {
        Linked::None => None,
        Linked::Rare | Linked::All => Some(MultiPrograms::load(&object()?, &bpf, is_linked)?),
    };
    Ok(Programs::new(bpf, linked, multi))
}

/// The verifier's log is long and says nothing to a user: it is told to those who ask for more (`-v`).
pub(super) fn refused(program: &str, error: ProgramError) -> KernelError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            log::debug!("the kernel on {program}: {verifier_log}");
            KernelError::Refused { program: program.to_owned(), source: io_error }
        }
        other => failed(other),
    }
}

fn attach_raw_tracepoint(bpf: &mut Ebpf, program: &str, tracepoint: &str) -> Result<(), KernelError> {
    let program: &mut RawTracePoint = super::program(bpf, program)?;
    program.attach(tracepoint).map_err(failed)?;
    Ok(())
}

fn ring(bpf: &mut Ebpf, name: &str) -> Result<AsyncFd<RingBuf<MapData>>, KernelError> {
    let ring = take(bpf, name)?.try_into()?;
    readiness::watch(ring).map_err(|source| KernelError::Call { call: "epoll_ctl", source })
}

pub(super) fn array(bpf: &mut Ebpf, name: &str) -> Result<MapData, KernelError> {
    match take(bpf, name)? {
        Map::Array(map) => Ok(map),
        _ => Err(failed(format!("map {name} is no array"))),
    }
}

pub(super) fn take(bpf: &mut Ebpf, name: &str) -> Result<Map, KernelError> {
    bpf.take_map(name).ok_or_else(|| failed(format!("the object has no map {name}")))
}

pub(super) fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KernelError {
    KernelError::Load(error.into())
}
