//! Debian's archive: packages of releases other than the machine's, by an apt with its lists in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use crate::process::{output, run, run_quietly, target_directory};

/// From the oldest kernel to the newest.
const SOURCES: &str = "\
deb http://deb.debian.org/debian bullseye main
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-backports main
deb http://deb.debian.org/debian-security bookworm-security main
deb http://deb.debian.org/debian trixie-backports main
";

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How old the lists may be.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// With lists that are not old.
    pub(super) fn open() -> Result<Self> {
        let archive = Self { folder: target_directory().join("vm/apt") };
        archive.configure().context("cannot write apt's configuration")?;
        if !archive.is_fresh() {
            archive.update()?;
        }
        Ok(archive)
    }

    /// The names of packages that begin like this, one a line.
    pub(super) fn packages(&self, prefix: &str) -> Result<String> {
        output(self.apt("apt-cache").args(["pkgnames", prefix]))
    }

    /// Puts a package into a folder.
    pub(super) fn download(&self, package: &str, folder: &Path) -> Result<()> {
        let download = || run(self.apt("apt-get").args(["download", package]).current_dir(folder));
        // The lists can name versions that the archive no longer has.
        download().or_else(|_| self.update().and_then(|()| download()))
    }

    fn is_fresh(&self) -> bool {
        let modified = self.updated().metadata().and_then(|metadata| metadata.modified());
        modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < FRESH))
    }

    fn configure(&self) -> std::io::Result<()> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.folder.join(part))?;
        }
        fs::write(self.folder.join("sources.list"), SOURCES)?;
        fs::write(self.folder.join("apt.conf"), self.configuration())
    }

    fn update(&self) -> Result<()> {
        run(self.apt("apt-get").arg("update"))?;
        run_quietly(Command::new("touch").arg(self.updated()))
    }

    /// A file as old as the lists.
    fn updated(&self) -> PathBuf {
        self.folder.join("updated")
    }

    /// What apt finds here, not in its usual folders. It downloads as whoever calls it, since its own user may not be
    /// able to write here; and no more than the lists of packages.
    fn configuration(&self) -> String {
        let folder = self.folder.display();
        format!(
            "Dir::Etc::SourceList \"{folder}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::Etc::Trusted \"{KEYS}\";\n\
             Dir::State::Lists \"{folder}/lists\";\n\
             Dir::Cache \"{folder}/cache\";\n\
             APT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        )
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--quiet").arg("--config-file").arg(self.folder.join("apt.conf"));
        command
    }
}
