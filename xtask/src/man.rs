//! The man pages, which are not in the tree: `memprof man` writes them, and this dates them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{self, build_memprof, output, root, target_directory};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to write them [default: man, where cargo puts what it builds]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let memprof = build_memprof()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| target_directory().join("man"));
    write(&memprof, &folder)?;
    eprintln!("the pages are in {}", folder.display());
    Ok(())
}

/// Has a memprof write its pages.
pub(crate) fn write(memprof: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    process::run(Command::new(memprof).arg("man").arg(folder).args(["--date", &date()?]))
}

/// The day of this version in the changelog. Before it is released, that of the last commit.
fn date() -> Result<String> {
    let path = root().join("CHANGELOG.md");
    let changelog = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    match day_of(&changelog, env!("CARGO_PKG_VERSION")) {
        Some(day) => Ok(day.to_owned()),
        None => output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%cs"])),
    }
}

/// Headings are `## [1.2.3] - 2026-01-02`.
fn day_of<'a>(changelog: &'a str, version: &str) -> Option<&'a str> {
    let heading = format!("## [{version}] - ");
    changelog.lines().find_map(|line| line.strip_prefix(&heading)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::day_of;

    #[test]
    fn the_day_is_that_of_the_version() {
        let changelog = "# Changelog\n## [Unreleased]\n## [1.2.3] - 2026-01-02\n- x\n## [1.2.30] - 2026-02-03\n";
        assert_eq!(day_of(changelog, "1.2.3"), Some("2026-01-02"));
        assert_eq!(day_of(changelog, "1.2.30"), Some("2026-02-03"));
        assert_eq!(day_of(changelog, "1.2"), None);
    }
}
