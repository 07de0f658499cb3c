//! The command line: what it says of itself, and what it refuses. Needs neither root nor BPF.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::process::{Command, Output, Stdio};

fn memprof(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memprof"));
    command.args(arguments).env("COLUMNS", "100").stdin(Stdio::null()).output().unwrap()
}

/// The first line of what is said of impossible arguments.
fn refusal(arguments: &[&str]) -> String {
    let output = memprof(arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    message.lines().next().unwrap().strip_prefix("error: ").unwrap().to_owned()
}

fn help(arguments: &[&str]) -> String {
    let output = memprof(arguments);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn help_is_as_reviewed() {
    insta::assert_snapshot!("help", help(&["--help"]));
    insta::assert_snapshot!("help_of_doctor", help(&["doctor", "--help"]));
    insta::assert_snapshot!("help_of_diff", help(&["diff", "--help"]));
    insta::assert_snapshot!("help_of_growth", help(&["growth", "--help"]));
    insta::assert_snapshot!("help_of_report", help(&["report", "--help"]));
    insta::assert_snapshot!("help_of_sweep", help(&["sweep", "--help"]));
    insta::assert_snapshot!("help_of_top", help(&["top", "--help"]));
    insta::assert_snapshot!("help_of_completions", help(&["completions", "--help"]));
}

/// What comes before the options; and `-h` has no examples.
#[test]
fn help_begins_with_usage_and_examples() {
    for command in ["", "sweep", "top", "report", "diff", "doctor", "growth", "completions"] {
        let words: Vec<_> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let text = help(&words);
        let place = |heading: &str| text.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("{heading} {command}"));
        assert!(place("Usage:") < place("Examples:") && place("Examples:") < place("Options:"), "{command}");
        let short = help(&words.iter().map(|word| if *word == "--help" { "-h" } else { word }).collect::<Vec<_>>());
        assert!(!short.contains("Examples:") && short.len() < text.len(), "{command}");
    }
}

#[test]
fn what_goes_for_all_may_stand_before_a_subcommand() {
    for arguments in [["-q", "completions", "bash"], ["-v", "completions", "zsh"], ["completions", "-q", "fish"]] {
        let output = memprof(&arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    // It goes as far as to find out what makes no sense in a sweep.
    assert_eq!(refusal(&["-v", "sweep", "--count", "2"]), "--count needs --interval with sweep");
    assert_eq!(
        refusal(&["-q", "doctor", "--pid", "one"]),
        "invalid value 'one' for '--pid <PID>': invalid digit found in string"
    );
}

#[test]
fn what_does_not_may_not() {
    let of_another = |option, subcommand| {
        format!("{option} cannot stand before {subcommand}: a subcommand's options go after its name")
    };
    assert_eq!(refusal(&["--pid", "1", "doctor"]), of_another("--pid <PID>", "doctor"));
    assert_eq!(refusal(&["-q", "--top", "3", "sweep"]), of_another("--top <N>", "sweep"));
}

/// A file of suppressions that says this, and what is said of it.
fn refusal_of_suppressions(content: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap();
    let message = refusal(&["--suppressions", path, "--", "true"]);
    message.replace(path, "FILE")
}

#[test]
fn suppressions_of_something_else_are_refused_with_their_line() {
    assert_eq!(
        refusal_of_suppressions("# known\nleak:one\nrace:two\n"),
        "invalid value 'FILE' for '--suppressions <FILE>': line 3: \"race:two\" is no suppression: it must be leak:PATTERN, a comment \
         that begins with #, or empty"
    );
    assert_eq!(
        refusal(&["--suppressions", "/no/such/file", "--", "true"]),
        "invalid value '/no/such/file' for '--suppressions <FILE>': cannot read it: No such file or directory (os error 2)"
    );
    assert_eq!(refusal(&["--fail-on", "leaks", "--", "true"]), "invalid value 'leaks' for '--fail-on <WHAT>'");
    assert_eq!(
        refusal(&["sweep", "--fail-above", "nothing"]),
        "invalid value 'nothing' for '--fail-above <SIZE>': it must be a number and a unit, such as 512B, 4KiB or 1.5MiB"
    );
}

/// Each option in a command of the README is one that exists.
#[test]
fn the_readme_uses_options_that_exist() {
    let readme = include_str!("../../README.md");
    let help_of = ["sweep", "growth", "top"].map(|mode| (format!("sudo memprof {mode}"), help(&[mode, "--help"])));
    let help_of_all = help(&["--help"]);
    let blocks = readme.split("```").skip(1).step_by(2);
    let commands = blocks.flat_map(str::lines).filter(|line| line.starts_with("sudo memprof"));
    let mut options = 0;
    for command in commands {
        let of_mode = help_of.iter().find(|(start, _)| command.starts_with(start)).map(|(_, help)| help);
        let help = of_mode.unwrap_or(&help_of_all);
        let own = command.split(" -- ").next().unwrap().split('#').next().unwrap();
        for option in own.split_whitespace().filter(|word| word.starts_with("--")) {
            let option = option.split('=').next().unwrap();
            assert!([" ", "\n", "[="].iter().any(|end| help.contains(&format!("{option}{end}"))), "{command}");
            options += 1;
        }
    }
    assert!(options > 5, "{options}");
}

#[test]
fn impossible_values_are_refused_with_the_option_and_the_reason() {
    let cases: [(&[&str], &str); 21] = [
        (&["--pid", "0"], "invalid value '0' for '--pid <PID>': 0 is not in 1..=4294967295"),
        (&["--pid", "redis"], "invalid value 'redis' for '--pid <PID>': invalid digit found in string"),
        (
            &["--pid", "1", "--interval", "0s"],
            "invalid value '0s' for '--interval <TIME>': it must be longer than nothing",
        ),
        (
            &["--pid", "1", "-i", "5"],
            "invalid value '5' for '--interval <TIME>': time unit needed, for example 5sec or 5ms",
        ),
        (
            &["--pid", "1", "--duration", "0ms"],
            "invalid value '0ms' for '--duration <TIME>': it must be longer than nothing",
        ),
        (&["--pid", "1", "--older", "old"], "invalid value 'old' for '--older <TIME>': expected number at 0"),
        (&["--pid", "1", "--count", "0"], "invalid value '0' for '--count <N>': 0 is not in 1..18446744073709551615"),
        (&["--pid", "1", "--top", "x"], "invalid value 'x' for '--top <N>': invalid digit found in string"),
        (
            &["--pid", "1", "--min-size", "much"],
            "invalid value 'much' for '--min-size <SIZE>': it must be a number and a unit, such as 512B, 4KiB or 1.5MiB",
        ),
        (&["--pid", "1", "--max-size", "-1"], "unexpected argument '-1' found"),
        (
            &["--pid", "1", "--max-size=-1"],
            "invalid value '-1' for '--max-size <SIZE>': it must be a number and a unit, such as 512B, 4KiB or 1.5MiB",
        ),
        (&["--pid", "1", "--min-size", "2KiB", "--max-size", "1KiB"], "--min-size is larger than --max-size"),
        (&["--pid", "1", "--format", "xml"], "invalid value 'xml' for '--format <FORMAT>'"),
        (&["--pid", "1", "--sort", "name"], "invalid value 'name' for '--sort <SORT>'"),
        (
            &["--pid", "1", "--nursery-entries", "0"],
            "invalid value '0' for '--nursery-entries <N>': 0 is not in 1..=268435456",
        ),
        (
            &["--pid", "1", "--sample", "0"],
            "invalid value '0' for '--sample [<BYTES>]': it must be from 1 B to 1.0 GiB",
        ),
        (
            &["--pid", "1", "--sample", "1.5GiB"],
            "invalid value '1.5GiB' for '--sample [<BYTES>]': it must be from 1 B to 1.0 GiB",
        ),
        (
            &["--sample", "much", "--pid", "1"],
            "invalid value 'much' for '--sample [<BYTES>]': it must be a number and a unit, such as 512B, 4KiB or 1.5MiB",
        ),
        (
            &["--pid", "1", "--max-overhead", "0%"],
            "invalid value '0%' for '--max-overhead <PERCENT>': it must be a percentage above 0 and up to 99, such as 5%",
        ),
        (
            &["--pid", "1", "--max-overhead", "some"],
            "invalid value 'some' for '--max-overhead <PERCENT>': it must be a percentage above 0 and up to 99, such as 5%",
        ),
        (
            &["--pid", "1", "--ring-size", "1KiB"],
            "invalid value '1KiB' for '--ring-size <SIZE>': it must be from 4.0 KiB to 1.0 GiB",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(refusal(arguments), expected);
    }
}

#[test]
fn contradictions_are_refused() {
    let nobody = "whom to profile? give --pid PID, or a command after --";
    let cases: [(&[&str], &str); 14] = [
        (&[], nobody),
        (
            &["report", "a", "b", "-o", "c"],
            "several profiles can be shown as text and as JSON only: another format holds one",
        ),
        (&["--pid", "1", "-o", "a", "-o", "a"], "the same --output is given twice"),
        (&["report"], "the following required arguments were not provided:"),
        (&["--"], nobody),
        (&["--interval", "1s"], nobody),
        (&["--pid", "1", "--pid", "1"], "the same --pid is given twice"),
        (&["--pid", "1", "--", "true"], "the argument '--pid <PID>' cannot be used with '[COMMAND]...'"),
        (&["--count", "2", "--", "true"], "--count needs --interval when a command is launched"),
        (&["sweep", "--count", "2"], "--count needs --interval with sweep"),
        (&["sweep", "--all", "--watch", "1m"], "the argument '--all' cannot be used with '--watch <TIME>'"),
        (&["sweep", "--all", "--suspects", "3"], "the argument '--all' cannot be used with '--suspects <N>'"),
        (&["sweep", "--min-size", "2KiB", "--max-size", "1KiB"], "--min-size is larger than --max-size"),
        (&["--quiet", "--verbose", "--pid", "1"], "the argument '--quiet' cannot be used with '--verbose...'"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(refusal(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn growth_is_watched_of_some_or_of_all() {
    let cases: [(&[&str], &str); 4] = [
        (&["growth"], "the following required arguments were not provided:"),
        (&["growth", "--all", "--pid", "1"], "the argument '--all' cannot be used with '--pid <PID>'"),
        (&["growth", "--all", "--period", "0"], "invalid value '0' for '--period <N>': 0 is not in 1..=1048576"),
        (&["growth", "--pid", "1", "--pid", "1"], "the same --pid is given twice"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(refusal(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_trace_is_of_every_call_and_a_log_of_one_process() {
    let partial = "a trace is of every call: neither --trace nor --format mtrace go with --sample or --max-overhead";
    let one = "--format mtrace is the log of one process: give one --pid, and no --follow-children";
    let running = "--format mtrace is the log of a process as it runs: only with one --pid, or a command";
    let cases: [(&[&str], &str); 13] = [
        (&["--trace", "--sample", "--pid", "1"], partial),
        (&["--format", "mtrace", "--max-overhead", "5%", "--pid", "1"], partial),
        (
            &["--trace", "--sort", "temporary", "--pid", "1"],
            "--sort temporary is not known while calls are traced: not with --trace or --format mtrace",
        ),
        (&["--trace", "-o", "a.mtrace", "--pid", "1"], "--format mtrace is a trace already: not with --trace"),
        (&["-o", "a.mtrace", "-o", "b.mtrace", "--pid", "1"], "one log of --format mtrace is enough"),
        (&["--format", "mtrace", "--pid", "1", "--pid", "2"], one),
        (&["--format", "mtrace", "--follow-children", "--", "true"], one),
        (
            &["--format", "mtrace", "--interval", "1s", "--pid", "1"],
            "--format mtrace is a log, without reports: --interval and --count mean nothing there",
        ),
        (
            &["--trace", "-o", "a.pb.gz", "--pid", "1"],
            "--trace writes text and JSON: give it a file for that, such as -o trace.txt",
        ),
        (&["sweep", "--format", "mtrace"], running),
        (&["report", "a.pb.gz", "--format", "mtrace"], running),
        (&["diff", "a.pb.gz", "b.pb.gz", "-o", "c.mtrace"], running),
        (&["growth", "--all", "--format", "mtrace"], "invalid value 'mtrace' for '--format <FORMAT>'"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(refusal(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn what_goes_before_the_dashes_is_no_command() {
    assert_eq!(refusal(&["true"]), "unexpected argument 'true' found");
    assert_eq!(refusal(&["--nonsense"]), "unexpected argument '--nonsense' found");
}
