//! The stamp beside the object: hashes of what it was made from and of itself, and what made it.

use std::{fmt, fs, path::Path, path::PathBuf, str::FromStr};

use anyhow::{Context as _, Error, Result, bail};
use sha2::{Digest as _, Sha256};

use super::toolchain;

/// What the object depends on.
const SOURCES: [&str; 7] = [
    "memprof-ebpf/.cargo",
    "memprof-ebpf/Cargo.lock",
    "memprof-ebpf/Cargo.toml",
    "memprof-ebpf/build.rs",
    "memprof-ebpf/src",
    "memprof-common/Cargo.toml",
    "memprof-common/src",
];

/// Written beside the object as text, one field a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// [`hash_of_sources`].
    pub(super) sources: String,
    /// [`hash_of_object`].
    pub(super) object: String,
    /// What compiled and linked it. For information: the same sources are not stale under another compiler.
    pub(super) toolchain: String,
}

impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "# Written by `cargo xtask ebpf`, compared by `cargo xtask ebpf --check`.")?;
        writeln!(formatter, "sources: {}", self.sources)?;
        writeln!(formatter, "object: {}", self.object)?;
        writeln!(formatter, "toolchain: {}", self.toolchain)
    }
}

impl FromStr for Stamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
                .with_context(|| format!("the stamp of the BPF object has no line `{name}: …`"))
        };
        Ok(Self { sources: field("sources")?, object: field("object")?, toolchain: field("toolchain")? })
    }
}

/// SHA-256 of the object.
pub(super) fn hash_of_object(object: &[u8]) -> String {
    hex(Sha256::digest(object))
}

/// SHA-256 of all that the object depends on, the compiler excepted: paths (below `root`) and contents of the files,
/// what memprof-common inherits from the workspace, the compiler's flags and its wrapper.
pub(super) fn hash_of_sources(root: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut absorb = |name: &str, content: &[u8]| {
        // With the lengths, no two lists of files give the same bytes.
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    };
    for path in source_files(root)? {
        let content = fs::read(root.join(&path)).with_context(|| format!("cannot read {}", path.display()))?;
        absorb(&path.to_string_lossy(), &content);
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    absorb("workspace.package", workspace_package(&manifest)?.as_bytes());
    absorb("flags", toolchain::FLAGS.join("\n").as_bytes());
    absorb("wrapper", include_bytes!("rustc-wrapper.sh"));
    Ok(hex(hasher.finalize()))
}

/// All files under [`SOURCES`], sorted. Not every crate has all of these, but a crate without sources is a mistake.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)?;
    }
    for folder in ["memprof-ebpf/src", "memprof-common/src"] {
        if !files.iter().any(|file| file.starts_with(folder)) {
            bail!("there is no {folder}");
        }
    }
    files.sort();
    Ok(files)
}

fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let full_path = root.join(path);
    if full_path.is_file() && is_source(path) {
        files.push(path.to_owned());
    }
    if full_path.is_dir() {
        for entry in fs::read_dir(&full_path).with_context(|| format!("cannot read {}", path.display()))? {
            collect(root, &path.join(entry?.file_name()), files)?;
        }
    }
    Ok(())
}

/// Not what an editor leaves behind.
fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["rs", "toml", "lock"].iter().any(|known| extension == *known))
}

/// The table `[workspace.package]` of the manifest, as text.
fn workspace_package(manifest: &str) -> Result<&str> {
    let (_, table) = manifest.split_once("[workspace.package]\n").context("Cargo.toml has no [workspace.package]")?;
    Ok(table.split_once("\n[").map_or(table, |(table, _)| table))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 6] = [
        ("Cargo.toml", "[workspace.package]\nedition = \"2024\"\n\n[workspace.dependencies]\nserde = \"1\"\n"),
        ("memprof-ebpf/Cargo.toml", "[package]\n"),
        ("memprof-ebpf/Cargo.lock", "version = 4\n"),
        ("memprof-ebpf/src/main.rs", "fn main() {}\n"),
        ("memprof-common/Cargo.toml", "[package]\n"),
        ("memprof-common/src/lib.rs", "pub const A: u32 = 1;\n"),
    ];

    fn checkout() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in FILES {
            put(folder.path(), path, content);
        }
        folder
    }

    fn put(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a file's folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn hash_after(path: &str, content: &str) -> String {
        let folder = checkout();
        put(folder.path(), path, content);
        hash_of_sources(folder.path()).expect("a hash")
    }

    #[test]
    fn every_file_that_the_object_depends_on_counts() {
        let before = hash_of_sources(checkout().path()).expect("a hash");
        for (path, content) in &FILES[1..] {
            assert_ne!(hash_after(path, &format!("{content}# more")), before, "{path}");
        }
        assert_ne!(hash_after("memprof-ebpf/src/new.rs", ""), before);
        assert_ne!(hash_after("Cargo.toml", "[workspace.package]\nedition = \"2027\"\n"), before);
    }

    #[test]
    fn nothing_else_counts() {
        let before = hash_of_sources(checkout().path()).expect("a hash");
        assert_eq!(hash_after("memprof-ebpf/LICENSE-GPL2", "text"), before);
        assert_eq!(hash_after("memprof-ebpf/src/main.rs~", "text"), before);
        assert_eq!(hash_after("memprof-ebpf/target/release/build/out.rs", "text"), before);
        assert_eq!(hash_after("Cargo.toml", &FILES[0].1.replace("serde = \"1\"", "serde = \"2\"")), before);
    }

    #[test]
    fn a_crate_without_sources_is_an_error() {
        let folder = checkout();
        fs::remove_dir_all(folder.path().join("memprof-ebpf")).expect("it was there");
        assert!(hash_of_sources(folder.path()).is_err());
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp =
            Stamp { sources: "12ab".into(), object: "34cd".into(), toolchain: "rustc 1.2.3 (x); linker: y".into() };
        assert_eq!(stamp.to_string().parse::<Stamp>().expect("a stamp"), stamp);
        assert!("sources: 12ab\n".parse::<Stamp>().is_err());
    }
}
