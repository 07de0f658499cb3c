//! The process that answers: [`super`] says why there is one.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
};

use rustix::{
    process::{Resource, Rlimit, Signal, setrlimit},
    thread::{CapabilitySet, CapabilitySets},
    time::{ClockId, clock_gettime},
};

use super::wire;
use crate::symbols::debug_info::DebugInformation;

/// What it may have in memory of its own. A browser's debug information, uncompressed, takes less; files that are mapped do not count.
const MOST_MEMORY_BYTES: u64 = 2 << 30;

/// Parsers follow what is nested by recursion.
const MOST_STACK_BYTES: u64 = 64 << 20;

/// Processor time for one answer. The first about a browser takes some ten seconds.
const MOST_SECONDS: u64 = 30;

/// Answers questions that come through a socket, which is standard input, until that is closed.
///
/// # Errors
/// Where it is no such socket, or the process cannot be limited.
pub fn serve(debug_directories: &[PathBuf]) -> io::Result<()> {
    let mut socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin())?);
    socket.peer_addr()?;
    confine()?;
    // A panic is no news: the file is a stranger's, and there is no answer.
    std::panic::set_hook(Box::new(|_| {}));
    let reader = DebugInformation::new(debug_directories);
    let mut files: HashMap<u32, File> = HashMap::new();
    while let Some((number, question, file)) = wire::receive_question(&socket)? {
        if let Some(file) = file {
            files.insert(number, file);
        }
        limit_time()?;
        let answer = files.get(&number).and_then(|file| reader.answer(file, question));
        wire::send_answer(&mut socket, answer.as_ref())?;
    }
    Ok(())
}

fn confine() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let most = |resource, most| {
        let maximum = rustix::process::getrlimit(resource).maximum.map_or(most, |known| known.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    most(Resource::Data, MOST_MEMORY_BYTES)?;
    most(Resource::Stack, MOST_STACK_BYTES)?;
    most(Resource::Core, 0)?;
    // Should memory be short, it goes first.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    rustix::thread::set_no_new_privs(true)?;
    drop_capabilities()
}

/// To open once more what its descriptors stand for, it must be able to read what memprof can.
fn drop_capabilities() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    let kept = held.permitted & (CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    let kept = if kept.contains(CapabilitySet::DAC_READ_SEARCH) { CapabilitySet::DAC_READ_SEARCH } else { kept };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Grants the next answer its time. When it is used up, the kernel ends the process.
fn limit_time() -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let maximum = rustix::process::getrlimit(Resource::Cpu).maximum;
    Ok(setrlimit(Resource::Cpu, Rlimit { current: Some(used + MOST_SECONDS + 1), maximum })?)
}
