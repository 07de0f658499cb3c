//! Debian's kernel packages: which is the newest, and its files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::archive::Archive;
use crate::process::{run, target_directory};

/// An unpacked kernel package.
pub(super) struct Kernel {
    pub(super) package: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// Where its modules are, somewhere below.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The newest kernel of a version, such as `6.1` or `6.12-rt`, downloaded if need be.
    pub(super) fn unpacked(version: &str, archive: &Archive) -> Result<Self> {
        let packages = archive.packages("linux-image-")?;
        let newest = newest_of(packages.lines(), version);
        let package = newest.with_context(|| format!("Debian has no kernel {version}"))?.to_owned();
        let folder = target_directory().join("vm").join(&package);
        if !folder.exists() {
            unpack(&package, archive, &folder)?;
        }
        let image = entry(&folder.join("boot"), "vmlinuz-")?;
        Ok(Self { package, image, modules: folder.join("lib/modules") })
    }
}

/// Of packages of one version, the signed one (it is the same kernel) goes first.
fn newest_of<'a>(packages: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    let (version, flavour) = wanted.split_once('-').unwrap_or((wanted, "cloud"));
    let prefix = format!("linux-image-{version}.");
    let suffix = format!("-{flavour}-amd64");
    packages
        .filter(|package| package.starts_with(&prefix))
        .filter(|package| package.strip_suffix("-unsigned").unwrap_or(package).ends_with(&suffix))
        .max_by_key(|package| (numbers(package), !package.ends_with("-unsigned")))
}

/// The numbers in a name, which order its versions.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Downloads and unpacks a package, beside `folder` first, so that what bears its name is whole.
fn unpack(package: &str, archive: &Archive, folder: &Path) -> Result<()> {
    let partial = folder.with_file_name("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    archive.download(package, &partial)?;
    let package = entry(&partial, package)?;
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&partial))?;
    fs::remove_file(&package).context("cannot remove the package")?;
    fs::rename(&partial, folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// What in a folder begins like this.
fn entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no {prefix}*", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: [&str; 8] = [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-47-cloud-amd64-unsigned",
        "linux-image-6.1.0-47-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64-dbg",
        "linux-image-6.1.0-48-amd64",
        "linux-image-6.12-cloud-amd64",
        "linux-image-6.12.100+deb12-cloud-amd64",
        "linux-image-6.12.99+deb12-rt-amd64-unsigned",
    ];

    #[test]
    fn the_newest_is_told_by_its_numbers() {
        let newest = |wanted| newest_of(PACKAGES.into_iter(), wanted);
        assert_eq!(newest("6.1"), Some("linux-image-6.1.0-47-cloud-amd64"));
        assert_eq!(newest("6.12"), Some("linux-image-6.12.100+deb12-cloud-amd64"));
        assert_eq!(newest("6.12-rt"), Some("linux-image-6.12.99+deb12-rt-amd64-unsigned"));
        assert_eq!(newest("6.6"), None);
    }
}
