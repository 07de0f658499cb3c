//! Debian's kernel packages: which is the newest, and its files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use crate::process::{output, run, target_directory};

/// An unpacked kernel package.
pub(super) struct Kernel {
    /// As it was asked for.
    pub(super) version: String,
    pub(super) package: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    folder: PathBuf,
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
        let image = find(&folder, "vmlinuz*")?.with_context(|| format!("{package} has no kernel in it"))?;
        Ok(Self { version: version.to_owned(), package, image, folder })
    }

    /// The file of a module; none if it is built in, or the kernel has no such module.
    pub(super) fn module(&self, file: &str) -> Result<Option<PathBuf>> {
        find(&self.folder, file)
    }
}

/// A file in a folder or below it, by its name.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let found = output(Command::new("find").arg(folder).args(["-name", name]))?;
    Ok(found.lines().next().map(PathBuf::from))
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
    let downloads = partial.join("downloads");
    fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
    for part in parts(package, &archive.packages("linux-")?) {
        archive.download(&part, &downloads)?;
    }
    for part in fs::read_dir(&downloads).context("cannot read what was downloaded")? {
        let part = part.context("cannot read what was downloaded")?.path();
        run(Command::new("dpkg-deb").arg("-x").arg(part).arg(&partial))?;
    }
    fs::remove_dir_all(&downloads).context("cannot remove the packages")?;
    fs::rename(&partial, folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// A package, and those that since Linux 7 have the files which it had before.
fn parts(package: &str, known: &str) -> Vec<String> {
    let others = ["linux-binary-", "linux-modules-"].map(|part| package.replacen("linux-image-", part, 1));
    let others = others.into_iter().filter(|part| known.lines().any(|name| name == part));
    std::iter::once(package.to_owned()).chain(others).collect()
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

    #[test]
    fn a_package_may_have_parts() {
        let known = "linux-binary-7.3-cloud-amd64\nlinux-modules-7.3-cloud-amd64\nlinux-modules-7.4-cloud-amd64";
        let parts = |package| parts(package, known).join(" ");
        assert_eq!(parts("linux-image-6.1"), "linux-image-6.1");
        assert_eq!(
            parts("linux-image-7.3-cloud-amd64"),
            "linux-image-7.3-cloud-amd64 linux-binary-7.3-cloud-amd64 linux-modules-7.3-cloud-amd64"
        );
    }
}
