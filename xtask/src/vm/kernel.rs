//! Debian's kernel packages: which is the newest, and its files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{output, run, target_directory},
    setup,
};

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
    pub(super) fn unpacked(version: &str) -> Result<Self> {
        let package = newest(version)?;
        let folder = target_directory().join("vm").join(&package);
        if !folder.exists() {
            unpack(&package, &folder)?;
        }
        let image = entry(&folder.join("boot"), "vmlinuz-")?;
        Ok(Self { package, image, modules: folder.join("lib/modules") })
    }
}

fn newest(version: &str) -> Result<String> {
    if let Some(package) = newest_known(version)? {
        return Ok(package);
    }
    setup::update_package_lists()?;
    newest_known(version)?.with_context(|| format!("no Debian kernel {version} is on offer here"))
}

fn newest_known(version: &str) -> Result<Option<String>> {
    let known = output(Command::new("apt-cache").args(["pkgnames", "linux-image-"]))?;
    Ok(newest_of(known.lines(), version).map(str::to_owned))
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

/// Unpacks a package beside `folder` first, so that what bears its name is whole.
fn unpack(package: &str, folder: &Path) -> Result<()> {
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    if download(package, &partial).is_err() {
        // The lists can name versions that the mirror no longer has.
        setup::update_package_lists()?;
        download(package, &partial)?;
    }
    let archive = entry(&partial, package)?;
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&partial))?;
    fs::remove_file(&archive).context("cannot remove the package")?;
    fs::rename(&partial, folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn download(package: &str, folder: &Path) -> Result<()> {
    run(Command::new("apt-get").args(["--quiet", "download", package]).current_dir(folder))
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
