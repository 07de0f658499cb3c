//! The layering rule: who may name whom inside memprof, and which module is the one door to a dependency.

mod names;

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use self::names::{Name, Root, SourceFile};
use crate::process::root;

/// The stages of the pipeline. None of them names another one.
const STAGES: [&str; 15] = [
    "target", "plan", "unwind", "kernel", "heap", "overhead", "trace", "trend", "watch", "symbols", "suppress", "gate",
    "render", "saved", "tui",
];

/// What the stages share: data that crosses from one to the next. It names nothing of the crate.
const VOCABULARY: &str = "model";

/// The only module that names more than one stage. No stage names it.
const WIRING: &str = "session";

/// What `main.rs` names: it parses, runs and exits.
const NAMED_BY_MAIN: [&str; 2] = ["cli", WIRING];

/// Dependencies that only one place of the crate names.
const DOORS: [(&str, Place); 14] = [
    ("aya", Place::Module("kernel")),
    ("aya_log", Place::Module("kernel")),
    ("aya_obj", Place::Module("kernel")),
    ("perf_event", Place::Module("kernel")),
    ("blazesym", Place::Module("symbols")),
    ("gimli", Place::Module("unwind")),
    ("object", Place::Module("elf")),
    // Two stages look at code, for different purposes.
    ("iced_x86", Place::Files(&["plan/access.rs", "plan/instructions.rs", "unwind/call_sites.rs"])),
    ("prost", Place::Module("pprof")),
    ("flate2", Place::Module("pprof")),
    ("inferno", Place::Files(&["render/flamegraph.rs"])),
    ("maud", Place::Module("render")),
    ("ratatui", Place::Module("tui")),
    ("crossterm", Place::Module("tui")),
];

/// Where a dependency may be named.
#[derive(Clone, Copy)]
enum Place {
    /// In this module of the crate's root and all below it.
    Module(&'static str),
    /// In each of these files.
    Files(&'static [&'static str]),
}

/// Checks all of `memprof/src/`.
pub(crate) fn check() -> Result<()> {
    let folder = root().join("memprof/src");
    let files = rust_files(&folder)?.iter().map(|path| read(&folder, path)).collect::<Result<Vec<_>>>()?;
    let violations = violations(&files);
    for violation in &violations {
        eprintln!("memprof/src/{violation}");
    }
    if !violations.is_empty() {
        bail!("{} breaches of the layering rule, which is written in xtask/src/layering/mod.rs", violations.len());
    }
    eprintln!("{} files keep to the layering rule", files.len());
    Ok(())
}

/// The Rust files in a folder and below it, sorted.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(folder: &Path, path: &Path) -> Result<SourceFile> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    SourceFile::parse(path.strip_prefix(folder).unwrap_or(path), &text)
}

#[derive(PartialEq, Eq)]
struct Violation<'a> {
    file: &'a Path,
    line: usize,
    complaint: String,
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file.display(), self.line, self.complaint)
    }
}

fn violations(files: &[SourceFile]) -> Vec<Violation<'_>> {
    files.iter().flat_map(wrong_modules).chain(files.iter().flat_map(wrong_doors)).collect()
}

/// Where a file names a module of the crate that it may not name.
fn wrong_modules(file: &SourceFile) -> Vec<Violation<'_>> {
    let mut stages_named = BTreeSet::new();
    let mut violations = Vec::new();
    for name in file.names.iter().filter(|name| name.root == Root::Crate && name.first() != file.top_module()) {
        if is_stage(name.first()) {
            stages_named.insert(name.first());
        }
        if let Some(complaint) = complaint(file.top_module(), name.first(), stages_named.len()) {
            violations.push(violation(file, name, complaint));
        }
    }
    violations.dedup();
    violations
}

/// What is wrong when the module `from` names `to`, another module of the crate's root, after which it has named
/// `stages` stages.
fn complaint(from: &str, to: &str, stages: usize) -> Option<String> {
    if from == WIRING || from == "lib" {
        None
    } else if from == VOCABULARY {
        Some(format!("{VOCABULARY} names nothing of the crate, and here it names {to}"))
    } else if from == "main" && !NAMED_BY_MAIN.contains(&to) {
        Some(format!("main names {} only, and here it names {to}", NAMED_BY_MAIN.join(" and ")))
    } else if is_stage(from) && (is_stage(to) || to == WIRING) {
        Some(format!("{from} is a stage and names no other; here it names {to}"))
    } else if is_stage(to) && stages > 1 {
        Some(format!("only {WIRING} names several stages; here {from} names {to} too"))
    } else {
        None
    }
}

fn is_stage(module: &str) -> bool {
    STAGES.contains(&module)
}

/// Where a file first names a dependency whose door is elsewhere.
fn wrong_doors(file: &SourceFile) -> impl Iterator<Item = Violation<'_>> {
    DOORS.iter().filter(|(_, place)| !place.admits(file)).filter_map(|(dependency, place)| {
        let name = file.first_use(dependency)?;
        Some(violation(file, name, format!("{dependency} is named in {place} only")))
    })
}

impl Place {
    fn admits(self, file: &SourceFile) -> bool {
        match self {
            Self::Module(module) => file.top_module() == module,
            Self::Files(paths) => paths.iter().any(|path| file.path == Path::new(path)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(module) => write!(formatter, "{module}/"),
            Self::Files(paths) => formatter.write_str(&paths.join(" and ")),
        }
    }
}

fn violation<'a>(file: &'a SourceFile, name: &Name, complaint: String) -> Violation<'a> {
    Violation { file: &file.path, line: name.line, complaint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| SourceFile::parse(Path::new(path), text).expect("Rust code")).collect();
        violations(&files).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_stage_names_the_vocabulary_itself_and_dependencies() {
        let code = "use crate::model::Event; use super::table::Table; use crate::heap::LiveTable; use std::fmt;";
        assert!(complaints(&[("heap/ages.rs", code)]).is_empty());
    }

    #[test]
    fn a_stage_names_no_other_stage_however_it_is_written() {
        let expected = ["heap/ages.rs:2: heap is a stage and names no other; here it names plan"];
        for code in [
            "\nuse crate::plan::Site;",
            "\nuse super::super::plan::Site;",
            "\nuse crate::{plan::Site};",
            "\nuse {crate::plan as other};",
            "\nfn f(site: &crate::plan::Site) {}",
            "\nmod tests { use super::super::super::plan; }",
            "\nmacro_rules! m { () => { $crate::plan::f() } }",
        ] {
            assert_eq!(complaints(&[("heap/ages.rs", code)]), expected, "{code}");
        }
        let code = "use super::{\n    model::Event,\n    plan::{Site, sites},\n};";
        assert_eq!(
            complaints(&[("heap/mod.rs", code)]),
            ["heap/mod.rs:3: heap is a stage and names no other; here it names plan"]
        );
    }

    #[test]
    fn a_stage_does_not_name_the_wiring() {
        assert_eq!(complaints(&[("render/text.rs", "use crate::session;")]).len(), 1);
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        let code = "//! See [`crate::plan`].\n/* crate::plan */ fn f() -> &'static str { \"crate::plan aya::Ebpf\" }";
        assert!(complaints(&[("heap/mod.rs", code)]).is_empty());
    }

    #[test]
    fn the_vocabulary_names_nothing_of_the_crate() {
        assert!(
            complaints(&[("model/profile.rs", "use super::Event; use crate::model::Event; use jiff::Timestamp;")])
                .is_empty()
        );
        assert_eq!(complaints(&[("model/profile.rs", "use crate::cli::Sort;")]).len(), 1);
    }

    #[test]
    fn only_the_wiring_names_several_stages() {
        let code = "use crate::{cli, heap::LiveTable, kernel::Kernel, model::Event};";
        assert!(complaints(&[("session.rs", code)]).is_empty());
        assert!(complaints(&[("session/run.rs", code)]).is_empty());
        assert_eq!(
            complaints(&[("doctor.rs", code)]),
            ["doctor.rs:1: only session names several stages; here doctor names kernel too"]
        );
        assert!(complaints(&[("cli.rs", "use crate::render::Format; use crate::model::Sort;")]).is_empty());
    }

    #[test]
    fn main_names_the_command_line_and_the_wiring() {
        assert!(
            complaints(&[("main.rs", "use memprof::{cli::Cli, session}; fn main() { session::run(); }")]).is_empty()
        );
        assert_eq!(complaints(&[("main.rs", "use memprof::heap::LiveTable;")]).len(), 1);
    }

    #[test]
    fn a_dependency_has_one_door() {
        for code in
            ["use aya::Ebpf;", "use aya;", "use {::aya::maps::{self, HashMap}};", "fn f() { aya::util::page_size(); }"]
        {
            assert_eq!(complaints(&[("session.rs", code)]), ["session.rs:1: aya is named in kernel/ only"], "{code}");
            assert!(complaints(&[("kernel/loader.rs", code)]).is_empty(), "{code}");
        }
        assert_eq!(complaints(&[("heap/mod.rs", "use perf_event::Builder; use blazesym::Addr;")]).len(), 2);
    }

    #[test]
    fn a_door_may_be_several_files() {
        let code = "use iced_x86::Decoder;";
        assert!(complaints(&[("plan/instructions.rs", code), ("unwind/call_sites.rs", code)]).is_empty());
        assert_eq!(
            complaints(&[("plan/choose.rs", code)]),
            [
                "plan/choose.rs:1: iced_x86 is named in plan/access.rs and plan/instructions.rs and unwind/call_sites.rs only"
            ]
        );
    }

    #[test]
    fn a_variable_a_field_or_a_module_is_not_a_dependency() {
        let code =
            "mod object; pub use object::Object; fn f(object: &Object) { object.path(); g(object); x.object::<u8>(); }";
        assert!(complaints(&[("model/mod.rs", code)]).is_empty());
        assert!(complaints(&[("heap/mod.rs", "use crate::model::object::Object;")]).is_empty());
    }
}
