//! What a process has outside of itself: BPF programs, maps and links by their numbers in the kernel's lists, breakpoints in
//! others' code, and children. So a test can tell what a memprof that is gone has left behind, whatever other memprofs do.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

/// Numbers of BPF objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelObjects {
    pub programs: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
}

impl KernelObjects {
    /// Those that a process has descriptors of, as `/proc/PID/fdinfo` tells. Nothing of one that is gone.
    pub fn of(pid: u32) -> Self {
        let mut objects = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
            for line in fs::read_to_string(entry.path()).unwrap_or_default().lines() {
                let Some((name, number)) = line.split_once(':') else { continue };
                let Ok(number) = number.trim().parse() else { continue };
                match name {
                    "prog_id" => drop(objects.programs.insert(number)),
                    "map_id" => drop(objects.maps.insert(number)),
                    "link_id" => drop(objects.links.insert(number)),
                    _ => {}
                }
            }
        }
        objects
    }

    /// Those of these that the kernel lists.
    pub fn listed(&self) -> Self {
        // What goes while the list is read is not there any more.
        let programs = loaded_programs().flatten().map(|program| program.id());
        let maps = loaded_maps().flatten().map(|map| map.id());
        let links = loaded_links().flatten().map(|link| link.id());
        Self {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }
}

/// All that descend from a process.
pub fn descendants(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children = children.collect::<Vec<_>>().join(" ");
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// Whether a process is gone, or is but a zombie that nobody has waited for.
pub fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// How many bytes of a file's code are others in a process's memory than in the file: breakpoints. The file's name is `name`, whoever
/// has replaced it.
pub fn patched_bytes(pid: u32, name: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let is_its = |line: &&str| {
        let path = line.split_whitespace().nth(5).unwrap_or_default();
        line.contains(" r-xp ") && Path::new(path).file_name().is_some_and(|file| file == name)
    };
    let line = maps.lines().find(is_its).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    let number = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
    let (start, end) = fields[0].split_once('-').unwrap();
    let length = (number(end) - number(start)) as usize;
    let read = |path: String, place: u64| {
        let mut bytes = vec![0; length];
        // The last page of a file's code may go beyond its end.
        let file = File::open(path).unwrap();
        let mut read = 0;
        while read < length {
            match file.read_at(&mut bytes[read..], place + read as u64).unwrap() {
                0 => break,
                more => read += more,
            }
        }
        bytes
    };
    let in_memory = read(format!("/proc/{pid}/mem"), number(start));
    let in_file = read(format!("/proc/{pid}/map_files/{}", fields[0]), number(fields[2]));
    in_memory.iter().zip(&in_file).filter(|(one, other)| one != other).count()
}
