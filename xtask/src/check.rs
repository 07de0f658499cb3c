//! The gate: what a person runs before a change goes in, and what CI runs. The cheap checks come first.

use anyhow::{Context as _, Result};

use crate::{
    ebpf, fuzz, layering,
    process::{self, cargo, root},
    test, vm,
};

type Step = fn() -> Result<()>;

const STEPS: [(&str, Step); 9] = [
    ("format", format),
    ("layering", layering::check),
    ("clippy", clippy),
    ("clippy of the BPF crate", ebpf::clippy),
    ("documentation", documentation),
    ("the BPF object matches its source", ebpf::check),
    ("tests", tests),
    ("tests on other kernels", vm::check),
    ("fuzzing", fuzz::check),
];

pub(crate) fn run() -> Result<()> {
    STEPS.iter().try_for_each(|(name, step)| {
        eprintln!("\n== {name}");
        step().with_context(|| format!("check failed: {name}"))
    })
}

fn format() -> Result<()> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    process::run(cargo().args(["fmt", "--check"]).current_dir(root().join("memprof-ebpf")))
}

fn clippy() -> Result<()> {
    process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn tests() -> Result<()> {
    test::run(&test::Arguments::default())
}
