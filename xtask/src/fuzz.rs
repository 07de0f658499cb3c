//! The parsers, on whatever libFuzzer thinks of: `fuzz/` has the targets and their corpora.
//!
//! It is built with the stable compiler, whose LLVM counts the branches taken, and without sanitizers, which only the nightly one has: the parsers
//! are safe Rust. What fails is a panic, a sum that overflows, an abort, memory beyond [`MOST_MEGABYTES`] and an input that takes longer
//! than [`MOST_SECONDS`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, cargo, root, target_directory};

/// Memory of the process.
const MOST_MEGABYTES: u32 = 1024;

/// For one input, on however slow a machine.
const MOST_SECONDS: u32 = 30;

/// Longest input.
const MOST_BYTES: u32 = 16 << 10;

/// What `cargo xtask check` grants each target.
const SECONDS_IN_GATE: u32 = 5;

/// What has LLVM count branches and compare operands, as `cargo fuzz --sanitizer none` has it.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets to run, by the names of their files in fuzz/src/targets/; all if none is given
    targets: Vec<String>,
    /// Seconds for each of them
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards, copy to fuzz/corpus/ what covers code that nothing there covers
    #[arg(long)]
    merge: bool,
}

/// Builds the targets and runs them, one after the other. The first that fails ends it, and says where the input is.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let known = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    let program = build()?;
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    for target in chosen {
        fuzz(&program, target, arguments.seconds)?;
        if arguments.merge {
            merge(&program, target)?;
        }
    }
    Ok(())
}

/// What the gate does.
pub(crate) fn check() -> Result<()> {
    run(&Arguments { targets: Vec::new(), seconds: SECONDS_IN_GATE, merge: false })
}

/// The targets: those that have a corpus.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(corpora()).context("cannot read fuzz/corpus")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn corpora() -> PathBuf {
    root().join("fuzz/corpus")
}

fn build() -> Result<PathBuf> {
    let machine = host()?;
    let folder = target_directory().join("fuzz");
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a target, build scripts and macros are left alone.
    command.args(["--target", &machine]).arg("--target-dir").arg(&folder);
    process::run(command.env("RUSTFLAGS", COVERAGE))?;
    Ok(folder.join(machine).join("release/memprof-fuzz"))
}

fn host() -> Result<String> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it runs on")?.to_owned())
}

fn fuzz(program: &Path, target: &str, seconds: u32) -> Result<()> {
    let (found, failed) = (folder("corpus", target)?, folder("failed", target)?);
    let mut command = libfuzzer(program, target);
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MOST_BYTES}"),
        format!("-rss_limit_mb={MOST_MEGABYTES}"),
        format!("-timeout={MOST_SECONDS}"),
        format!("-artifact_prefix={}/", failed.display()),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
    ]);
    process::run(command.arg(found).arg(corpora().join(target))).with_context(|| {
        format!(
            "{target} fails on an input that is in {}; FUZZ_TARGET={target} {} FILE runs it again",
            failed.display(),
            program.display()
        )
    })
}

fn merge(program: &Path, target: &str) -> Result<()> {
    let found = folder("corpus", target)?;
    process::run(libfuzzer(program, target).arg("-merge=1").arg(corpora().join(target)).arg(found))
}

fn libfuzzer(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command.env("FUZZ_TARGET", target);
    command
}

/// A folder for what was found, which is kept from run to run.
fn folder(of: &str, target: &str) -> Result<PathBuf> {
    let folder = target_directory().join("fuzz").join(of).join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
