//! Examples of each subcommand: what `--help` begins with, and a section of each man page.

use std::fmt::Write as _;

use clap::{Command, builder::StyledStr};

/// A command, and what it does.
pub(super) type Example = (&'static str, &'static str);

/// Usage and examples come before the options.
const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

{before-help}{all-args}{after-help}";

const EXAMPLES: [(&str, &[Example]); 8] = [
    (
        "memprof",
        &[
            ("memprof --pid 1234", "report every 5 seconds until Ctrl-C"),
            ("memprof --pid 1234 --older 1m -n 3", "three reports of what is older than a minute"),
            ("memprof -- ./program --its-option", "launch a command, report at its end"),
            ("memprof --trace -- ./program", "each call of the allocator, as it happens"),
            ("memprof --fail-above 0B -- ./test", "status 100 if it leaves anything unfreed"),
            ("memprof --pid 1234 -o leak.pb.gz", "save a profile, for memprof report and go tool pprof"),
            ("memprof report leak.pb.gz", "show it again, whole or in part"),
            ("memprof diff before.pb.gz leak.pb.gz", "what has changed between two"),
            ("memprof top --pid 1234", "live, on the terminal"),
            ("memprof sweep", "the whole machine: who grows, and where"),
            ("memprof growth --all", "where memory grows, of all processes, without a probe"),
            ("memprof doctor --pid 1234", "can it be profiled, and if not, why?"),
        ],
    ),
    (
        "sweep",
        &[
            ("memprof sweep", "watch all for 30 seconds, then attach to those that grow"),
            ("memprof sweep --watch 10m --suspects 3", "a slow leak; the three that grow fastest"),
            ("memprof sweep --all --parent 1234", "attach at once to a process and all below it"),
            ("memprof sweep --fail-on growing", "status 100 if anything grows steadily"),
        ],
    ),
    (
        "top",
        &[
            ("memprof top --pid 1234", "one process, its stacks"),
            ("memprof top --pid 1234 --older 1m", "only what is older than a minute"),
            ("memprof top", "watch all for 30 seconds, then show those that grow"),
            ("memprof top --all --parent 1234", "a process and all below it, at once"),
        ],
    ),
    (
        "growth",
        &[
            ("memprof growth --all", "every 5 seconds, of all processes, from one fault in 17"),
            ("memprof growth --pid 1234 --duration 10m", "one process, every page"),
        ],
    ),
    (
        "report",
        &[
            ("memprof report leak.pb.gz", "as it was shown when it was saved"),
            ("memprof report leak.pb.gz --older 1m --sort age", "only what was older than a minute"),
            ("memprof report leak.pb.gz --format json", "for other programs"),
            ("memprof report mtrace.log", "what an mtrace log has unfreed"),
            ("memprof report leak.pb.gz --debug-dir ./symbols -o named.pb.gz", "with names that were not there"),
            ("memprof report leak.pb.gz --fail-above 1MiB", "status 100 if a process held more"),
        ],
    ),
    (
        "diff",
        &[
            ("memprof diff before.pb.gz after.pb.gz", "what grew comes first"),
            ("memprof diff before.pb.gz after.pb.gz -o diff.svg", "a flame graph of what grew and what shrank"),
        ],
    ),
    (
        "doctor",
        &[
            ("memprof doctor", "this kernel, and these privileges"),
            ("memprof doctor --pid 1234", "and this process: which functions would be probed, and where"),
        ],
    ),
    (
        "completions",
        &[
            ("source <(memprof completions bash)", "in this shell"),
            ("memprof completions bash > /etc/bash_completion.d/memprof", "in all to come"),
            ("memprof completions zsh > /usr/local/share/zsh/site-functions/_memprof", ""),
            ("memprof completions fish > ~/.config/fish/completions/memprof.fish", ""),
        ],
    ),
];

/// Those of memprof, or of a subcommand.
pub(super) fn of(command: &Command) -> &'static [Example] {
    EXAMPLES.iter().find(|(name, _)| *name == command.get_name()).map_or(&[], |(_, examples)| examples)
}

/// Has `--help` begin with examples, for the command and all its subcommands. `-h` has none.
pub(super) fn add_to(command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
    let command = match of(&command) {
        [] => command,
        examples => {
            let shown = listed(examples, &command);
            command.help_template(TEMPLATE).before_long_help(shown)
        }
    };
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, add_to))
}

fn listed(examples: &[Example], command: &Command) -> StyledStr {
    let heading = command.get_styles().get_header();
    let width = examples.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let mut text = format!("{heading}Examples:{heading:#}");
    for (command, meaning) in examples {
        let line = format!("{command:width$}  {meaning}");
        let _: Result<(), std::fmt::Error> = write!(text, "\n  {}", line.trim_end());
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_subcommand_has_examples_that_parse() {
        let command = add_to(Cli::command());
        let visible: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
        for shown in visible.into_iter().chain([&command]) {
            assert!(!of(shown).is_empty(), "{}", shown.get_name());
        }
        for (example, _) in EXAMPLES.iter().flat_map(|(_, examples)| *examples) {
            let words = example.split([' ', '(', ')']).skip_while(|word| *word != "memprof");
            let words = words.take_while(|word| *word != ">");
            let parsed = command.clone().try_get_matches_from(words.filter(|word| !word.is_empty()));
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
    }

    /// Help is at most 100 columns wide.
    #[test]
    fn each_example_is_on_one_line() {
        let command = Cli::command();
        for (name, examples) in EXAMPLES {
            let shown = listed(examples, &command).to_string();
            assert_eq!(shown.lines().find(|line| line.chars().count() > 100), None, "{name}");
        }
    }
}
