//! Page faults, for [`Kernel::watch_page_faults`](super::Kernel::watch_page_faults): perf's software events, one for each CPU and kind of
//! fault, that run a program once in so many; and the kernel's own function for huge pages.
//!
//! The events are those that the kernel counts when the page is there (`mm_account_fault` in mm/memory.c). The one of the same name
//! without a kind comes before, and of faults that fail too.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{
    Btf, Ebpf,
    maps::{MapData, PerCpuArray},
    programs::{FExit, PerfEvent},
};
use perf_event::{Builder, Counter, events::Software};

use super::{
    KernelError,
    load::{failed, refused, take},
    mappings::PERF_EVENTS,
    program,
};
use crate::privileges::raise;

const PAGE_FAULT: &str = "page_fault";
const HUGE_PAGE: &str = "huge_page";

/// Where the kernel brings in a huge page (mm/huge_memory.c).
const HUGE_PAGE_FUNCTION: &str = "do_huge_pmd_anonymous_page";

/// Faults without and with input: a page that was swapped out is of the latter.
const KINDS: [Software; 2] = [Software::PAGE_FAULTS_MIN, Software::PAGE_FAULTS_MAJ];

/// The events; none before they are asked for.
#[derive(Default)]
pub(super) struct PageFaultWatch {
    counters: Vec<Counter>,
    period: u64,
    /// How often the program ran on each CPU.
    seen: Option<PerCpuArray<MapData, u64>>,
}

/// Whether huge pages are told of.
#[derive(Debug)]
pub enum HugePages {
    /// Each of them.
    Counted,
    /// As one page each, since the kernel does not allow more.
    AsOnePage(KernelError),
}

impl PageFaultWatch {
    /// Begins to run the program for one of `period` page faults of each kind on each CPU, and for all huge pages.
    pub(super) fn begin(&mut self, bpf: &mut Ebpf, period: u64) -> Result<HugePages, KernelError> {
        let huge_pages = match load(bpf)? {
            HugePages::Counted => attach_huge_page(bpf).map_or_else(HugePages::AsOnePage, |()| HugePages::Counted),
            as_one_page => as_one_page,
        };
        let page_fault: &mut PerfEvent = program(bpf, PAGE_FAULT)?;
        let descriptor = page_fault.fd().map_err(failed)?.as_fd().as_raw_fd();
        let cpus = aya::util::online_cpus().map_err(|(call, source)| KernelError::Call { call, source })?;
        let _raised = raise(PERF_EVENTS);
        for cpu in cpus {
            for kind in KINDS {
                let mut counter = open(kind, cpu, period).map_err(called("perf_event_open"))?;
                counter.set_bpf(descriptor).map_err(called("PERF_EVENT_IOC_SET_BPF"))?;
                self.counters.push(counter);
            }
        }
        self.period = period;
        self.seen = Some(take(bpf, "FAULTS_SEEN")?.try_into()?);
        self.counters.iter_mut().try_for_each(Counter::enable).map_err(called("PERF_EVENT_IOC_ENABLE"))?;
        Ok(huge_pages)
    }

    /// How often the program should have run by now: as often as the events have come around.
    pub(super) fn due(&mut self) -> Result<u64, KernelError> {
        let period = self.period;
        let runs = self.counters.iter_mut().map(|counter| Ok(counter.read()? / period));
        runs.sum::<std::io::Result<u64>>().map_err(called("read of a perf event"))
    }

    /// How often it did run.
    pub(super) fn seen(&self) -> Result<u64, KernelError> {
        let Some(seen) = &self.seen else { return Ok(0) };
        Ok(seen.get(&0, 0)?.iter().sum())
    }
}

/// Loads the programs, and attaches them to nothing.
pub(super) fn load(bpf: &mut Ebpf) -> Result<HugePages, KernelError> {
    let page_fault: &mut PerfEvent = program(bpf, PAGE_FAULT)?;
    page_fault.load().map_err(|error| refused(PAGE_FAULT, error))?;
    let verified = page_fault.info().ok().and_then(|info| info.verified_instruction_count());
    log::debug!("{PAGE_FAULT}: {} instructions verified", verified.unwrap_or_default());
    Ok(load_huge_page(bpf).map_or_else(HugePages::AsOnePage, |()| HugePages::Counted))
}

fn open(kind: Software, cpu: u32, period: u64) -> std::io::Result<Counter> {
    let mut builder = Builder::new(kind);
    // The kernel writes to memory on behalf of a process too, which then grows.
    builder.any_pid().one_cpu(cpu as usize).include_kernel().sample_period(period).enabled(false);
    builder.build()
}

/// Some kernels allow no programs at their functions, or have no type information of them.
fn load_huge_page(bpf: &mut Ebpf) -> Result<(), KernelError> {
    let types = Btf::from_sys_fs().map_err(failed)?;
    let huge_page: &mut FExit = program(bpf, HUGE_PAGE)?;
    huge_page.load(HUGE_PAGE_FUNCTION, &types).map_err(|error| match refused(HUGE_PAGE, error) {
        KernelError::Refused { source, .. } => KernelError::Call { call: "a program at one of its functions", source },
        other => other,
    })
}

fn attach_huge_page(bpf: &mut Ebpf) -> Result<(), KernelError> {
    let huge_page: &mut FExit = program(bpf, HUGE_PAGE)?;
    huge_page.attach().map_err(failed)?;
    Ok(())
}

fn called(call: &'static str) -> impl Fn(std::io::Error) -> KernelError {
    move |source| KernelError::Call { call, source }
}
