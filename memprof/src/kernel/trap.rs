//! What a probe costs by itself, measured on this machine: a child of memprof's own calls a function of three instructions, with
//! probes and without. The programs are memprof's, with a cookie that means nothing, so that they return at once.

use std::{
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use memprof_common::{Cookie, MAX_TARGETS};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use super::programs::{Link, Programs, Whom};
use crate::model::{Choice, Emulation, TrapCost, TrapCosts};

/// Functions to measure, with the instruction that is probed first.
const PUSH: [u8; 8] = *b"\x53\x5b\xc3\xcc\xcc\xcc\xcc\xcc";
const TEST: [u8; 8] = *b"\x48\x85\xff\xc3\xcc\xcc\xcc\xcc";
const LONG_NOP: [u8; 8] = *b"\x0f\x1f\x40\x00\xc3\xcc\xcc\xcc";

/// Copies of the function: without probes, with one at its entry, with one at its return too.
const COPIES: usize = 3;
const DISTANCE: usize = 64;
const PAGE: usize = 4096;

const BATCHES: usize = 15;
const CALLS: u32 = 64;

/// What was measured. Each kind of instruction is when it is first met.
#[derive(Debug, Default)]
pub(super) struct Traps {
    push: Option<Option<TrapCost>>,
    test: Option<Option<TrapCost>>,
    is_long_nop_stepped: Option<bool>,
    /// Kept to the end, though nobody is left whom they could cost anything: to detach one takes the kernel 0.1 s, in which it
    /// attaches no other.
    links: Vec<Link>,
}

impl Traps {
    /// Whether the kernel single-steps the instruction that was chosen.
    pub(super) fn is_stepped(&mut self, programs: &mut Programs, choice: &Choice) -> bool {
        let is_stepped = match choice {
            Choice::EmulatedEntry { emulation, .. } | Choice::Later { emulation, .. } => match emulation {
                Emulation::Always => false,
                Emulation::NewerKernels => self.steps_long_nop(programs),
            },
            Choice::Entry(_) => true,
        };
        if is_stepped {
            self.test(programs)
        } else {
            self.push(programs)
        };
        is_stepped
    }

    /// What an instruction is that the kernel single-steps: that.
    pub(super) fn steps(&mut self, programs: &mut Programs) -> bool {
        self.test(programs);
        true
    }

    /// Of emulated and of single-stepped instructions.
    pub(super) fn costs(&self) -> TrapCosts {
        [self.push.flatten(), self.test.flatten()]
    }

    /// What is attached, to nobody any more.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }

    fn push(&mut self, programs: &mut Programs) -> Option<TrapCost> {
        if self.push.is_none() {
            self.push = Some(self.measure(programs, &PUSH));
        }
        self.push.flatten()
    }

    fn test(&mut self, programs: &mut Programs) -> Option<TrapCost> {
        if self.test.is_none() {
            self.test = Some(self.measure(programs, &TEST));
        }
        self.test.flatten()
    }

    /// It costs what one that is known to be single-stepped costs, or what one costs that is known to be emulated.
    fn steps_long_nop(&mut self, programs: &mut Programs) -> bool {
        if let Some(known) = self.is_long_nop_stepped {
            return known;
        }
        let (push, test, nop) = (self.push(programs), self.test(programs), self.measure(programs, &LONG_NOP));
        let is_nearer = |emulated: TrapCost, stepped: TrapCost, nop: TrapCost| {
            stepped.entry - nop.entry < nop.entry - emulated.entry
        };
        let is_stepped = push.zip(test).zip(nop).is_some_and(|((push, test), nop)| is_nearer(push, test, nop));
        *self.is_long_nop_stepped.insert(is_stepped)
    }

    fn measure(&mut self, programs: &mut Programs, function: &[u8]) -> Option<TrapCost> {
        let measured = self.try_to_measure(programs, function);
        match &measured {
            Ok(cost) => {
                log::debug!("a probe on {function:02x?}: {:.0} ns, with its return {:.0} ns", cost.entry, cost.call)
            }
            Err(error) => log::info!("what a probe costs cannot be measured: {error:#}"),
        }
        measured.ok()
    }

    fn try_to_measure(&mut self, programs: &mut Programs, function: &[u8]) -> anyhow::Result<TrapCost> {
        let code = code_file(function)?;
        let mut child = Child::start(&code)?;
        let path = format!("/proc/self/fd/{}", code.as_raw_fd());
        // What is stepped takes so long that it does not show by what links are cheaper; and they go sooner.
        let is_rare = *function != PUSH;
        let [entry, exit] = if is_rare { ["free_described", "return_described"] } else { ["free", "return_pointer"] };
        for (name, copy) in [(entry, 1), (exit, 2)] {
            // Of no target's probes: their generation is never reached first.
            let cookie = Cookie::new(MAX_TARGETS - 1, u16::MAX, 0);
            let site = ((copy * DISTANCE) as u64, cookie);
            let whom = Whom::Thread { thread: child.pid, is_leader: true };
            let links = programs.attach(name, path.as_ref(), &[site], whom, is_rare);
            self.links.extend(links.map_err(anyhow::Error::from_boxed)?);
        }
        let [without, entry, call] = child.measure()?;
        Ok(TrapCost { entry: (entry - without).max(0.0), call: (call - without).max(0.0) })
    }
}

/// A file of code that nobody else maps.
fn code_file(function: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut code = vec![0xcc; PAGE];
    for copy in 0..COPIES {
        code[copy * DISTANCE..][..function.len()].copy_from_slice(function);
    }
    let file = memfd_create("memprof-measured", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let written = rustix::io::write(&file, &code).context("write")?;
    anyhow::ensure!(written == PAGE, "write");
    Ok(file)
}

/// A process that lives to be measured.
struct Child {
    pid: u32,
    start: PipeWriter,
    results: PipeReader,
}

impl Child {
    fn start(code: &OwnedFd) -> anyhow::Result<Self> {
        let (start_reader, start) = std::io::pipe().context("pipe")?;
        let (results, results_writer) = std::io::pipe().context("pipe")?;
        let place = std::ptr::null_mut();
        // SAFETY: a new mapping at a place of the kernel's choosing.
        let mapping = unsafe { mmap(place, PAGE, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE, code, 0) };
        let mapping = mapping.context("mmap")?;
        let (go, to) = (start_reader.as_raw_fd(), results_writer.as_raw_fd());
        let unused = start.as_raw_fd();
        // SAFETY: the child makes system calls, and calls the code in the mapping, until it exits; it allocates nothing, takes
        // no lock and runs no destructor.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above; the descriptors are open, and the mapping holds three functions.
            unsafe { be_measured(mapping.cast(), go, to, unused) };
        }
        let pid_or_error = if pid < 0 { Err(std::io::Error::last_os_error()) } else { Ok(pid.unsigned_abs()) };
        // SAFETY: nobody uses it in this process.
        let _ = unsafe { munmap(mapping, PAGE) };
        Ok(Self { pid: pid_or_error.context("fork")?, start, results })
    }

    /// Nanoseconds of a call of each copy.
    fn measure(&mut self) -> anyhow::Result<[f64; COPIES]> {
        self.start.write_all(&[1]).context("the child is gone")?;
        let mut results = [0; COPIES * 8];
        self.results.read_exact(&mut results).context("the child is gone")?;
        let mut nanoseconds = [0.0; COPIES];
        for (result, bytes) in nanoseconds.iter_mut().zip(results.as_chunks().0) {
            *result = f64::from_ne_bytes(*bytes);
        }
        Ok(nanoseconds)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child is this process's own and was not waited for; it is ended if it has not.
        unsafe {
            libc::kill(self.pid.cast_signed(), libc::SIGKILL);
            libc::waitpid(self.pid.cast_signed(), std::ptr::null_mut(), 0);
        }
    }
}

/// # Safety
/// For a child after `fork`, with [`COPIES`] functions without arguments in `code`, and with these descriptors.
unsafe fn be_measured(code: *const u8, go: i32, to: i32, unused: i32) -> ! {
    let mut results = [[0; 8]; COPIES];
    // SAFETY: as the caller promises. Without the other end of the pipe open here, the child ends with its parent.
    unsafe {
        libc::close(unused);
        let mut byte = 0u8;
        if libc::read(go, (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(1);
        }
        for (copy, result) in results.iter_mut().enumerate() {
            let function = std::mem::transmute::<*const u8, extern "C" fn()>(code.add(copy * DISTANCE));
            *result = nanoseconds_of_a_call(function).to_ne_bytes();
        }
        libc::write(to, results.as_ptr().cast(), COPIES * 8);
        libc::_exit(0);
    }
}

/// Of processor time: the median of some batches.
fn nanoseconds_of_a_call(function: extern "C" fn()) -> f64 {
    let mut batches = [0.0; BATCHES];
    (0..CALLS / 4).for_each(|_| function());
    for batch in &mut batches {
        let start = thread_time();
        (0..CALLS).for_each(|_| function());
        *batch = thread_time() - start;
    }
    batches.sort_unstable_by(f64::total_cmp);
    batches[BATCHES / 2] / f64::from(CALLS)
}

fn thread_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to it and nowhere else.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
