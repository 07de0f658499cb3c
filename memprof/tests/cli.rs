//! The command line: what it says of itself, and what it refuses. Needs neither root nor BPF.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

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
    insta::assert_snapshot!("help_of_growth", help(&["growth", "--help"]));
    insta::assert_snapshot!("help_of_sweep", help(&["sweep", "--help"]));
}

/// Each option in a command of the README is one that exists.
#[test]
fn the_readme_uses_options_that_exist() {
    let readme = include_str!("../../README.md");
    let help_of = ["sweep", "growth"].map(|mode| (format!("sudo memprof {mode}"), help(&[mode, "--help"])));
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
    let cases: [(&[&str], &str); 11] = [
        (&[], nobody),
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
fn what_goes_before_the_dashes_is_no_command() {
    assert_eq!(refusal(&["true"]), "unexpected argument 'true' found");
    assert_eq!(refusal(&["--nonsense"]), "unexpected argument '--nonsense' found");
}
