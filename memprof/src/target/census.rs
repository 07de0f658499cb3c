//! All processes of the machine at one look, as `/proc` lists them.

use std::{fs, io};

use super::{began, status::Status};
use crate::model::Sighting;

/// Looks at every process that has memory, which kernel threads have not. What goes meanwhile is left out.
///
/// # Errors
/// Those of listing `/proc`.
pub fn census() -> io::Result<Vec<Sighting>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(sight).collect())
}

fn sight(pid: u32) -> Option<Sighting> {
    let status = Status::read(pid).ok()?;
    let (parent, memory) = (status.parent()?, status.memory()?);
    // Read last: whoever began then, and has the pid now, had it before.
    Some(Sighting { pid, began: began(pid)?, parent, memory })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_and_its_child_are_seen_and_kernel_threads_are_not() {
        let own = std::process::id();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let sightings = census().unwrap();
        let of = |pid| sightings.iter().find(|sighting| sighting.pid == pid).copied();
        let (parent, youngest) = (of(own).unwrap(), of(child.id()).unwrap());
        assert_eq!(youngest.parent, own);
        assert!(youngest.began >= parent.began);
        assert!(parent.memory.anonymous > 0);
        assert!(sightings.iter().all(|sighting| sighting.parent != 2 || sighting.pid == own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(sight(child.id()), None);
    }
}
