//! A program followed from its start to its end, under a tool that launched it, or with one that is attached to it.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::tools::{Attachable, Task};
use crate::bench::{
    builds::Builds,
    launched::{Launched, Usage, Work},
};

/// `work` waits until the work is done.
pub(super) fn launch(command: &mut Command, work: impl Fn(&mut Launched) -> Result<Work>) -> Result<(Work, Usage)> {
    let mut launched = Launched::start(command, Stdio::null())?;
    let work = work(&mut launched)?;
    Ok((work, launched.finish()?.context(UNACCOUNTED)?))
}

/// The tool is there before the program's first instruction, and says what it found while the program still is.
pub(super) fn attach(
    command: &mut Command,
    attachable: &dyn Attachable,
    task: &Task<'_>,
    messages: File,
    work: impl Fn(&mut Launched) -> Result<Work>,
) -> Result<(Work, Usage)> {
    let mut held = Launched::start(command, Stdio::piped())?;
    let mut attaching = accounted(&attachable.attach(task, held.hear(held_process)?)?, task.builds);
    let mut tool = Launched::start(attaching.stderr(messages), Stdio::null())?;
    tool.hear(|line| attachable.is_attached(line).then_some(()))?;
    release(&mut held, task)?;
    let work = work(&mut held)?;
    tool.interrupt()?;
    let found = tool.rest()?;
    fs::write(task.output, &found).context("cannot write down what a tool found")?;
    let of_tool = found.lines().find_map(Usage::parse).context(UNACCOUNTED)?;
    Ok((work, held.finish()?.context(UNACCOUNTED)?.and(of_tool)))
}

const UNACCOUNTED: &str = "`account` said nothing";

/// What `xtask/bench/hold.c` says.
fn held_process(line: &str) -> Option<u32> {
    line.strip_prefix("held ")?.trim_end().parse().ok()
}

/// A program of ours stays when its work is done, and so does what it left behind. Others are done when they end.
fn release(held: &mut Launched, task: &Task<'_>) -> Result<()> {
    held.tell("")?;
    if task.workload.clocked.is_some() {
        held.close_input();
    }
    Ok(())
}

/// The command, started by one that tells what it used.
pub(super) fn accounted(command: &Command, builds: &Builds) -> Command {
    let mut accounted = Command::new(builds.program("account"));
    accounted.arg(command.get_program()).args(command.get_args());
    accounted.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    accounted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_says_its_number() {
        assert_eq!(held_process("held 4711\n"), Some(4711));
        assert_eq!(held_process("held up\n"), None);
        assert_eq!(held_process("worked_ns 1 cpu_ns 2\n"), None);
    }
}
