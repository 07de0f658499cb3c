//! Which tests run in the guest, and the script that runs them there.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{
    executables::{self, TestExecutable},
    process::{build_memprof, root},
};

/// Attach, launch, unwinding, sweep, lifecycle: what depends on the kernel.
const USUAL: [&str; 13] = [
    "live_leak",
    "live_stacks",
    "live_functions",
    "live_launch",
    "live_images",
    "live_children",
    "live_threads",
    "live_servers",
    "live_losses",
    "live_refusals",
    "live_growth",
    "live_sweep",
    ON_GUESTS_ALONE,
];

/// For `cargo xtask check`, and `--short`: of each kind some tests, as emulation is slow.
const SHORT: [(&str, &[&str]); 8] = [
    ("live_leak", &["the_456_bytes_are_found_at_their_two_lines"]),
    (
        "live_stacks",
        &["an_attached_program_has_the_same_stack_as_a_launched_one", "return_probes_of_others_are_looked_behind"],
    ),
    ("live_launch", &["a_command_that_a_signal_ends_is_reported"]),
    (
        "live_images",
        &[
            "a_child_of_fork_is_not_its_parent",
            "a_launched_command_that_replaces_itself_shows_its_last_image_alone",
            "libraries_at_one_address_after_another_are_told_apart",
        ],
    ),
    ("live_children", &["children_are_observed_from_their_first_instruction_to_their_last"]),
    ("live_refusals", &["killed_memprof_leaves_an_unprobed_target"]),
    (
        "live_sweep",
        &["all_are_attached_to_at_once_and_ordered_by_growth", "an_interrupt_while_watching_ends_with_what_was_seen"],
    ),
    (
        ON_GUESTS_ALONE,
        &[
            "ages_rates_and_verdicts_are_of_what_has_gone_by_and_a_report_has_the_time_of_its_moment",
            "a_sweep_knows_how_fast_a_process_grows",
        ],
    ),
];

/// Sets the machine's clock. Its tests are ignored where others go by that.
const ON_GUESTS_ALONE: &str = "live_clock";

/// Of the host's environment, what the guest's programs need to find others.
const KEPT: [&str; 5] = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// What is run in the guest: test executables, by the name of their file in `tests/`, each with the names of its tests,
/// or none for all of them.
pub(super) type Selection<'a> = Vec<(&'a str, &'a [&'a str])>;

/// The selection of `--short`.
pub(super) fn of_the_gate() -> Selection<'static> {
    SHORT.to_vec()
}

/// The tests to run if these executables were asked for.
pub(super) fn selection(named: &[String], short: bool) -> Selection<'_> {
    let whole = |name| (name, &[][..]);
    match (named, short) {
        ([], false) => USUAL.map(whole).to_vec(),
        ([], true) => of_the_gate(),
        (named, _) => named.iter().map(|name| whole(name.as_str())).collect(),
    }
}

/// What a guest does.
pub(super) struct Suite {
    /// For the guest's shell. It fails if an executable does.
    pub(super) script: String,
    /// How many tests must pass.
    pub(super) tests: Tests,
}

/// How many tests there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tests {
    /// Each was named.
    Exactly(u32),
    #[default]
    AtLeastOne,
}

impl Suite {
    /// Compiles what is selected. `arguments` are for all executables.
    pub(super) fn build(selection: &Selection<'_>, arguments: &[String]) -> Result<Self> {
        let memprof = build_memprof()?;
        let of_cargo: Vec<_> = selection.iter().flat_map(|(name, _)| ["--test", name]).collect();
        let executables = executables::build(&[&["--workspace"][..], &of_cargo].concat())?;
        let named: u32 = selection.iter().map(|(_, tests)| tests.len() as u32).sum();
        let tests = if named > 0 { Tests::Exactly(named) } else { Tests::AtLeastOne };
        Ok(Self { script: script(&memprof, &executables, selection, arguments)?, tests })
    }
}

fn script(
    memprof: &Path,
    executables: &[TestExecutable],
    selection: &Selection<'_>,
    arguments: &[String],
) -> Result<String> {
    let mut script = environment(memprof)?;
    script += &format!("cd {}\nstatus=0\n", quoted(&text(&root().join("memprof"))?));
    // It says how long the programs take to load here.
    script += "\"$MEMPROF_RELEASE\" doctor || status=1\n";
    for executable in executables {
        script += &quoted(&text(&executable.path)?);
        let words = words_for(&executable.name, selection).into_iter().chain(arguments.iter().map(String::as_str));
        script.extend(words.map(|word| format!(" {}", quoted(word))));
        script += " || status=1\n";
    }
    Ok(script + "exit $status\n")
}

/// What an executable is told: which tests to run.
fn words_for<'a>(executable: &str, selection: &Selection<'a>) -> Vec<&'a str> {
    let ignored: &[&str] = if executable == ON_GUESTS_ALONE { &["--ignored"] } else { &[] };
    match selection.iter().find(|(name, _)| *name == executable) {
        Some((_, tests)) if !tests.is_empty() => [&["--exact"], ignored, tests].concat(),
        _ => ignored.to_vec(),
    }
}

fn environment(memprof: &Path) -> Result<String> {
    let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let own = [("MEMPROF_RELEASE", text(memprof)?), ("MEMPROF_GUEST", "1".into()), ("LANG", "C.UTF-8".into())];
    Ok(kept.chain(own).map(|(name, value)| format!("export {name}={}\n", quoted(&value))).collect())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is no text", path.display()))?.to_owned())
}

/// As one word of the shell's.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }

    #[test]
    fn executables_are_told_which_tests_to_run() {
        let selection = vec![("live_a", &["one", "two"][..]), ("live_b*", &[]), (ON_GUESTS_ALONE, &["three"])];
        assert_eq!(words_for("live_a", &selection), ["--exact", "one", "two"]);
        assert_eq!(words_for("live_b1", &selection), Vec::<&str>::new());
        assert_eq!(words_for(ON_GUESTS_ALONE, &selection), ["--exact", "--ignored", "three"]);
        assert_eq!(words_for(ON_GUESTS_ALONE, &vec![("live*", &[][..])]), ["--ignored"]);
    }
}
