//! The same release again, from another folder.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::folder;
use crate::process::{self, cargo, output, root};

/// An error if there is something that is not committed: the clone would lack it.
pub(super) fn demand_commit() -> Result<()> {
    let changes = output(Command::new("git").current_dir(root()).args(["status", "--porcelain"]))?;
    if changes.is_empty() {
        Ok(())
    } else {
        bail!("what is made again is the last commit: commit these first\n{changes}")
    }
}

/// Makes the release once more, from a clone, compilers' work and all, and compares the bytes.
pub(super) fn run() -> Result<()> {
    let place = tempfile::tempdir().context("cannot create a folder")?;
    let clone = place.path().join("another-name");
    process::run(Command::new("git").args(["clone", "--quiet"]).arg(root()).arg(&clone))?;
    process::run(cargo().current_dir(&clone).env_remove("CARGO_TARGET_DIR").args(["xtask", "dist"]))?;
    let (first, second) = (sums(&folder())?, sums(&clone.join("target/dist"))?);
    if first != second {
        bail!("made again, the release has other bytes:\n{first}\n{second}");
    }
    eprintln!("made again in another folder, the release has the same bytes:\n{first}");
    Ok(())
}

fn sums(folder: &Path) -> Result<String> {
    let path = folder.join("SHA256SUMS");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
