//! The licences of what is compiled into memprof: those who wrote it want their texts to go with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::binary::TARGET;
use crate::process::{cargo, output};

/// How files that hold a licence begin, in capitals.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Where Debian says whose the libc is that is linked in.
const LIBC: &str = "/usr/share/doc/libc6-dev/copyright";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
}

impl Package {
    /// As `cargo tree` tells it.
    fn title(&self) -> String {
        format!("{} v{}", self.name, self.version)
    }
}

/// Which crates are in memprof, under which licences, and the text of each of these, once.
pub(super) fn notices() -> Result<String> {
    let linked = linked()?;
    let metadata = output(cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cannot read what cargo says of crates")?;
    let linked: Vec<_> = metadata.packages.iter().filter(|package| linked.contains(&package.title())).collect();
    let mut notices = String::from("memprof has these crates in it, and the GNU C library:\n\n");
    for package in &linked {
        let licence = package.license.as_deref().unwrap_or("see below");
        let _ = writeln!(notices, "{}: {licence}", package.title());
    }
    for (text, titles) in &texts(&linked)? {
        let _ = write!(notices, "\n{:=<80}\n{}\n{:-<80}\n\n{text}\n", "", titles.join(", "), "");
    }
    Ok(notices)
}

/// Crates that are linked into memprof, as `name v1.2.3`: not those that are only run when it is built.
fn linked() -> Result<BTreeSet<String>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--package", "memprof", "--target", TARGET]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    let tree = output(&mut tree)?;
    Ok(tree.lines().map(|line| line.split(" (").next().unwrap_or(line).to_owned()).collect())
}

/// Each text, with the crates that have it.
fn texts(packages: &[&Package]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut texts = BTreeMap::<String, Vec<String>>::new();
    for package in packages {
        for text in texts_of(package.manifest_path.parent().unwrap_or(Path::new("/")))? {
            texts.entry(text).or_default().push(package.title());
        }
    }
    if let Ok(text) = fs::read_to_string(LIBC) {
        texts.entry(text).or_default().push("the GNU C library".to_owned());
    }
    Ok(texts)
}

/// The texts in a crate's folder, without what differs but in its spaces.
fn texts_of(folder: &Path) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for file in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let file = file?;
        let name = file.file_name().to_string_lossy().to_uppercase();
        if file.path().is_file() && NAMES.iter().any(|beginning| name.starts_with(beginning)) {
            let bytes = fs::read(file.path()).with_context(|| format!("cannot read {}", file.path().display()))?;
            texts.insert(String::from_utf8_lossy(&bytes).lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(texts)
}
