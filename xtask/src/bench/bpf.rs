//! What the kernel tells of a process's BPF programs and maps: how often each has run, and for how long.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};
use aya::{
    maps::{Map, MapData, PerCpuArray, loaded_maps},
    programs::loaded_programs,
};

/// While this lives, the kernel measures all programs; should we die, it stops by itself.
pub(super) struct Measuring {
    _descriptor: std::os::fd::OwnedFd,
}

impl Measuring {
    pub(super) fn start() -> Result<Self> {
        let descriptor =
            aya::sys::enable_stats(aya::sys::Stats::RunTime).context("cannot have BPF programs measured")?;
        Ok(Self { _descriptor: descriptor })
    }
}

/// Runs of one program.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
}

impl Runs {
    pub(super) fn mean(self) -> f64 {
        self.nanoseconds as f64 / self.count as f64
    }
}

/// The programs that a process holds, by name.
pub(super) fn programs_of(pid: u32) -> Result<BTreeMap<String, Runs>> {
    let ids = ids(pid, "prog_id:")?;
    let mut programs = BTreeMap::new();
    for program in loaded_programs() {
        // One that goes while we look is not our process's.
        let Ok(program) = program else { continue };
        if ids.contains(&program.id()) {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            programs
                .insert(name, Runs { count: program.run_count(), nanoseconds: program.run_time().as_nanos() as u64 });
        }
    }
    Ok(programs)
}

/// Sums over all processors of the counters in a map that a process holds.
pub(super) fn counters_of(pid: u32, name: &str) -> Result<Vec<u64>> {
    let ids = ids(pid, "map_id:")?;
    let id = loaded_maps()
        .filter_map(Result::ok)
        .find(|map| ids.contains(&map.id()) && map.name_as_str() == Some(name))
        .with_context(|| format!("process {pid} has no BPF map {name}"))?
        .id();
    let counters: PerCpuArray<_, u64> = Map::PerCpuArray(MapData::from_id(id)?).try_into()?;
    let sum = |index| Ok(counters.get(&index, 0)?.iter().sum());
    (0..counters.len()).map(sum).collect()
}

/// What the descriptors of a process say under a key.
fn ids(pid: u32, key: &str) -> Result<BTreeSet<u32>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // A descriptor may have been closed since.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        ids.extend(text.lines().filter_map(|line| line.strip_prefix(key)?.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}
