//! The tests. Those that need the real kernel (`memprof/tests/live*.rs`) run as root, and nothing else does.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io::{Read as _, Seek as _},
    num::NonZero,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    executables::{self, TestExecutable},
    process::{self, build_memprof, cargo, is_root, privileged, root, run_quietly},
    setup,
};

/// They take longest, and so begin first.
const LONG: [&str; 2] = ["live_valgrind", "live_refusals"];

/// They compare with the clock or with the processor's time, or change code that others probe, and run alone, when the others are through.
const ALONE: [&str; 6] =
    ["live_overhead", "live_windows", "live_soak", "live_scale", "live_stacks_against_gdb", "live_faults_target"];

#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// For `cargo test`, such as `--test live` or `-- a_test_name`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Executable {
    path: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Installs what the tests need and runs them: those that cargo is to choose one executable after the other, and all of them several at a
/// time. Tests find the release build of memprof, which is the one to measure, in the environment variable `MEMPROF_RELEASE`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.cargo.is_empty() {
        return run_all();
    }
    run_with(&arguments.cargo, &[])
}

/// Runs the tests that cargo is to choose, with some more variables in their environment.
pub(crate) fn run_with(arguments: &[impl AsRef<OsStr>], variables: &[(&str, String)]) -> Result<()> {
    setup::install_for_tests()?;
    let memprof = build_memprof()?;
    let mut command = cargo();
    command.env("MEMPROF_RELEASE", memprof).envs(variables.iter().map(|(name, value)| (name, value)));
    if !is_root()? {
        command.arg("--config").arg(runner()?);
    }
    process::run(command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments))
}

/// Installs what the tests need and runs all.
fn run_all() -> Result<()> {
    setup::install_for_tests()?;
    let memprof = build_memprof()?;
    let (alone, mut together): (Vec<_>, Vec<_>) =
        executables::build(&["--workspace"])?.into_iter().partition(|executable| is_one_of(executable, &ALONE));
    together.sort_by_key(|executable| !is_one_of(executable, &LONG));
    // They wait more than they work.
    let at_once = 2 * thread::available_parallelism().map_or(1, NonZero::get);
    let mut failures = run_at_once(together, at_once, &memprof);
    failures.extend(run_at_once(alone, 1, &memprof));
    give_back_files()?;
    failures.extend(process::run(cargo().args(["test", "--workspace", "--doc"])).err());
    let failures: Vec<_> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

fn is_one_of(executable: &TestExecutable, names: &[&str]) -> bool {
    names.contains(&executable.name.as_str())
}

/// Runs executables, so many at a time, and returns what failed.
fn run_at_once(executables: Vec<TestExecutable>, at_once: usize, memprof: &Path) -> Vec<anyhow::Error> {
    let waiting = Mutex::new(VecDeque::from(executables));
    let next = || waiting.lock().ok()?.pop_front();
    let work = || {
        let results = std::iter::from_fn(next).map(|executable| run_and_show(&executable, memprof));
        results.filter_map(Result::err).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|_| vec![anyhow!("a thread panicked")]))
            .collect()
    })
}

/// Runs an executable where cargo would, and shows what it printed when it is through, as a whole.
fn run_and_show(executable: &TestExecutable, memprof: &Path) -> Result<()> {
    let TestExecutable { name, path, folder } = executable;
    let start = Instant::now();
    let mut command = if is_live(path) { privileged("env")? } else { Command::new("env") };
    // Who started this may ignore signals, as shells have it for what is in the background, and tests send them.
    command.arg("--default-signal").arg(path);
    // No pipe, which whatever a test may leave running would hold open.
    let mut output = tempfile::tempfile().context("cannot make a file")?;
    let copy = || output.try_clone().context("cannot share a file");
    command.current_dir(folder).env("MEMPROF_RELEASE", memprof).stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
    let status = command.status().with_context(|| format!("cannot run {}", path.display()))?;
    let mut said = Vec::new();
    output
        .rewind()
        .and_then(|()| output.read_to_end(&mut said))
        .with_context(|| format!("cannot read what {name} said"))?;
    show(name, start.elapsed(), &String::from_utf8_lossy(&said));
    if status.success() { Ok(()) } else { Err(anyhow!("{name} failed ({status})")) }
}

fn show(name: &str, time: Duration, said: &str) {
    eprintln!("\n== {name}, after {:.0}s\n{}", time.as_secs_f64(), said.trim());
}

/// A setting of cargo's that has this program start every test executable.
fn runner() -> Result<String> {
    let program = std::env::current_exe().context("cannot find the path of xtask")?;
    Ok(format!("target.'cfg(unix)'.runner = [{:?}, \"run-test\"]", program.display().to_string()))
}

/// What [`runner`] names.
pub(crate) fn run_executable(executable: &Executable) -> Result<()> {
    if !is_live(Path::new(&executable.path)) {
        return run_quietly(Command::new(&executable.path).args(&executable.arguments));
    }
    let result = run_quietly(privileged(&executable.path)?.args(&executable.arguments));
    give_back_files()?;
    result
}

/// Whether this is the executable of a `tests/live*.rs`. Its name ends in a dash and a hash.
fn is_live(executable: &Path) -> bool {
    executable.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"live"))
}

/// What the live tests made as root, under cargo's folder for it, belongs to whoever owns the checkout.
fn give_back_files() -> Result<()> {
    let folder = process::target_directory().join("tmp");
    if !folder.exists() {
        return Ok(());
    }
    let owner = root().metadata().context("cannot read the checkout's owner")?;
    run_quietly(privileged("chown")?.arg("-R").arg(format!("{}:{}", owner.uid(), owner.gid())).arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_among_several_at_a_time_is_named() {
        let executable = |name: &str| TestExecutable {
            name: name.into(),
            path: Path::new("/bin").join(name),
            folder: std::env::temp_dir(),
        };
        let executables = ["true", "false", "pwd", "none"].map(executable).into();
        let failures = run_at_once(executables, 2, Path::new("memprof"));
        let mut failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
        failures.sort();
        assert_eq!(failures, ["false failed (exit status: 1)", "none failed (exit status: 127)"]);
    }

    #[test]
    fn only_live_tests_run_as_root() {
        assert!(is_live(Path::new("/checkout/target/debug/deps/live-0123456789abcdef")));
        assert!(is_live(Path::new("/checkout/target/debug/deps/live_valgrind-0123456789abcdef")));
        assert!(!is_live(Path::new("/live/target/debug/deps/memprof-0123456789abcdef")));
    }
}
