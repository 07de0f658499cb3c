//! `memprof top` in a real terminal: tmux, which takes keys and shows what is on the screen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use memprof::{
    model::Sort,
    tui::{Looks, Screen, State},
};
use support::{
    Program, Report, Target, memprof,
    privileges::{PublicCopy, THREE, publish},
    signal, wait_until,
};

/// For each line that it reads, ten blocks of 1000 bytes that it keeps, one of 50,000 at first, and one that it frees.
/// It says how many lines it has read.
const PROGRAM: &str = r#"
#include <stdlib.h>
#include <unistd.h>

static void *keep;

static void remember_request(void) { keep = malloc(1000); }
static void fill_cache(void) { keep = malloc(50000); }
static void use(void) { free(malloc(64)); }

int main(void) {
    char byte, answer[] = "0\n";
    while (read(0, &byte, 1) == 1) {
        if (byte != '\n') continue;
        if (answer[0] == '0') fill_cache();
        for (int i = 0; i < 10; i++) remember_request();
        use();
        answer[0]++;
        if (write(1, answer, 2) != 2) return 1;
    }
    return 0;
}
"#;

/// A terminal with a shell in it, which ends with the test.
struct Terminal {
    socket: String,
    folder: tempfile::TempDir,
}

impl Terminal {
    /// So large, with this beside the usual in the shell's environment.
    fn new((columns, lines): (u32, u32), environment: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let socket = format!("memprof-test-{}-{number}", std::process::id());
        let terminal = Self { socket, folder: tempfile::tempdir().unwrap() };
        let path = std::env::var("PATH").unwrap();
        let shell = format!("env -i PATH='{path}' PS1='ready> ' {} bash --norc --noprofile", environment.join(" "));
        let size = ["-x", &columns.to_string(), "-y", &lines.to_string()].map(str::to_owned);
        let folder = terminal.folder.path().to_str().unwrap();
        let mut arguments = vec!["-f", "/dev/null", "new-session", "-d", "-c", folder];
        arguments.extend(size.iter().map(String::as_str));
        arguments.push(&shell);
        terminal.tmux(&arguments);
        terminal.wait_for("ready>");
        terminal
    }

    /// One like most: 80 columns, 24 lines, colours and UTF-8.
    fn usual() -> Self {
        Self::new((80, 24), &["TERM=screen-256color LANG=C.UTF-8"])
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a text as it is.
    fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it should be, and gives it.
    fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let start = std::time::Instant::now();
        loop {
            screen.clone_from(&self.screen());
            if is_so(&screen) {
                return screen;
            }
            assert!(start.elapsed() < support::PATIENCE, "waited in vain for {what:?}:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Runs a command in the shell, by a memprof whose pid will be known.
    fn run(&self, arguments: &str) {
        let path = memprof().get_program().to_str().unwrap().to_owned();
        self.text(&format!("sh -c 'echo $$ >pid; exec {path} {arguments}'"));
        self.keys(&["Enter"]);
    }

    /// `memprof top` on a target, until the first report.
    fn top(&self, target: &Target, options: &str) {
        self.run(&format!("top --pid {} --interval 200ms {options}", target.pid()));
        self.wait_for("nothing lost");
    }

    /// Of the memprof that was run last.
    fn pid(&self) -> u32 {
        fs::read_to_string(self.folder.path().join("pid")).unwrap().trim().parse().unwrap()
    }

    /// What `stty` says of the terminal, which is asked in the shell.
    fn settings(&self) -> String {
        let file = self.folder.path().join("settings");
        let _ = fs::remove_file(&file);
        self.text("stty -a >settings.new; mv settings.new settings");
        self.keys(&["Enter"]);
        wait_until("stty has said it", || file.exists());
        fs::read_to_string(file).unwrap()
    }

    /// Whether the shell has the terminal, and the program said what it did before.
    fn wait_for_shell(&self) -> String {
        self.wait("the shell", |screen| screen.trim_end().ends_with("ready>"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).stderr(Stdio::null()).status();
    }
}

/// Has the program read lines until it has read so many.
fn work(target: &mut Target, lines: std::ops::RangeInclusive<u32>) {
    for line in lines {
        target.tell("");
        assert_eq!(target.hear(), line.to_string());
    }
}

/// The line of the screen with this.
fn line<'a>(screen: &'a str, text: &str) -> &'a str {
    screen.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in\n{screen}"))
}

/// What memprof reads in a file.
fn saved(file: &Path) -> Report {
    let output = memprof().args(["report", "--format", "json", "--top", "0"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Report::parse(String::from_utf8(output.stdout).unwrap().trim_end())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn a_leak_is_seen_sorted_filtered_marked_and_saved() {
    let program = Program::c(PROGRAM, &[]);
    let mut target = Target::piped(program.path());
    let terminal = Terminal::usual();
    let before = terminal.settings();
    terminal.top(&target, "");

    // What leaks is there, with its line; what holds most comes first and is selected.
    work(&mut target, 1..=3);
    // A screen can be seen that is drawn in part.
    let all = ["78.1 KiB in 31 allocations", "29.3 KiB", "48.8 KiB", "program.c:"];
    let screen = terminal.wait("all of it", |screen| all.iter().all(|part| screen.contains(part)));
    assert_eq!(words(line(&screen, "29.3 KiB"))[..3], ["29.3", "KiB", "30"], "{screen}");
    let cache = line(&screen, "48.8 KiB");
    assert_eq!(words(cache)[..3], ["48.8", "KiB", "1"], "{screen}");
    assert!(cache.contains("fill_cache ← main"), "{screen}");
    assert!(
        line(&screen, "fill_cache  ").contains(&format!("program.c:{}", program.line("malloc(50000)"))),
        "{screen}"
    );
    assert!(line(&screen, "program (").contains("78.1 KiB in 31 allocations"), "{screen}");
    terminal.keys(&["j"]);
    terminal.wait_for(&format!("program.c:{}", program.line("malloc(1000)")));
    terminal.wait_for("stack 2 of 2");

    // By the number of allocations the other is first.
    terminal.keys(&["Home", "Right"]);
    terminal.wait_for("allocs▼");
    terminal.wait_for(&format!("program.c:{}", program.line("malloc(1000)")));
    terminal.keys(&["r"]);
    terminal.wait_for("allocs▲");
    terminal.wait_for(&format!("program.c:{}", program.line("malloc(50000)")));
    terminal.keys(&["Left"]);
    terminal.wait_for("bytes▼");

    terminal.text("/REMEMBER");
    let screen = terminal.wait_for("filter: REMEMBER");
    assert!(screen.contains("stack 1 of 1") && !screen.contains("fill_cache"), "{screen}");
    terminal.keys(&["Escape"]);
    terminal.wait_for("stack 1 of 2");

    // What is since the mark is exact.
    terminal.keys(&["m"]);
    terminal.wait_for("since mark");
    work(&mut target, 4..=5);
    let screen = terminal.wait_for("+19.5 KiB");
    assert_eq!(words(line(&screen, "+19.5 KiB"))[..3], ["+19.5", "KiB", "+20"], "{screen}");
    assert_eq!(words(line(&screen, "fill_cache ←"))[..2], ["0", "0"], "{screen}");
    terminal.keys(&["M"]);
    terminal.wait_for("48.8 KiB");

    // While the view stands still, observation goes on: a file has it all.
    terminal.keys(&["Space"]);
    let paused = terminal.wait_for("PAUSED");
    work(&mut target, 6..=6);
    terminal.keys(&["w"]);
    terminal.wait_for(&format!("save to: memprof-program-{}-", target.pid()));
    terminal.keys(&["C-u"]);
    terminal.text("saved.pb.gz");
    terminal.keys(&["Enter"]);
    let screen = terminal.wait_for("saved 1 process to saved.pb.gz");
    assert_eq!(screen.lines().take(20).collect::<Vec<_>>(), paused.lines().take(20).collect::<Vec<_>>());
    let file = terminal.folder.path().join("saved.pb.gz");
    let saved = saved(&file);
    assert_eq!(saved.process().outstanding(), (110_000, 61));
    assert_eq!(saved.process().totals(), [67, 110_384, 6, 384]);
    let leak = format!("program.c:{}", program.line("malloc(1000)"));
    assert_eq!(saved.process().outstanding_at(&leak), (60_000, 60));
    terminal.keys(&["Space"]);
    terminal.wait_for("107.4 KiB in 61 allocations");

    // A file that is there is not overwritten.
    terminal.text("w");
    terminal.keys(&["C-u"]);
    terminal.text("saved.pb.gz");
    terminal.keys(&["Enter"]);
    terminal.wait_for("not saved: saved.pb.gz: File exists");
    assert_eq!(self::saved(&file).process().outstanding(), (110_000, 61));

    terminal.text("?");
    terminal.wait_for("memprof top: keys");
    terminal.keys(&["Escape"]);
    terminal.wait_for("growth/s");
    terminal.keys(&["Enter"]);
    for part in ["60 allocations made here in all", "(60,000 B)", program.path().to_str().unwrap()] {
        terminal.wait_for(part);
    }
    terminal.keys(&["Escape", "Tab"]);
    let screen = terminal.wait_for("process 1 of 1");
    assert_eq!(words(line(&screen, "107.4 KiB       61"))[0], target.pid().to_string(), "{screen}");

    terminal.text("q");
    let screen = terminal.wait_for_shell();
    assert!(screen.contains("attached to process"), "what was there before is there again: {screen}");
    assert!(!screen.contains("growth/s"), "{screen}");
    assert_eq!(terminal.settings(), before);
}

#[test]
fn a_target_that_ends_leaves_its_last_figures_until_one_has_seen_enough() {
    let program = Program::c(PROGRAM, &[]);
    let mut target = Target::piped(program.path());
    let terminal = Terminal::usual();
    terminal.top(&target, "");
    work(&mut target, 1..=2);
    // Its input ends, and so does it.
    drop(target.0.stdin.take());
    let screen = terminal.wait_for("EXITED");
    assert!(screen.contains("68.4 KiB in 21 allocations"), "{screen}");
    terminal.text("m/fill");
    let screen = terminal.wait_for("stack 1 of 1");
    assert!(screen.contains("since mark"), "{screen}");
    terminal.keys(&["Escape", "C-c"]);
    terminal.wait_for_shell();
    terminal.text("echo status $?");
    terminal.keys(&["Enter"]);
    terminal.wait_for("status 0");
}

#[test]
fn whatever_ends_it_the_terminal_is_as_it_was() {
    let program = Program::c(PROGRAM, &[]);
    let target = Target::piped(program.path());
    let terminal = Terminal::usual();
    let before = terminal.settings();
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        terminal.text("clear; echo before");
        terminal.keys(&["Enter"]);
        terminal.top(&target, "-v");
        let screen = terminal.wait_for("growth/s");
        assert!(!screen.contains("memprof: "), "messages do not disturb: {screen}");
        signal(terminal.pid(), name);
        let screen = terminal.wait_for_shell();
        assert!(screen.contains("before") && !screen.contains("growth/s"), "{name}: {screen}");
        assert_eq!(terminal.settings(), before, "{name}");
    }
}

/// What [`a_panic_can_be_read_and_leaves_the_terminal_as_it_was`] runs in a terminal.
#[test]
#[ignore = "another test runs it"]
fn panics_on_the_screen() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut screen = Screen::enter().unwrap();
        screen.draw(&mut State::new(Looks::of_terminal(), Sort::Bytes)).unwrap();
        panic!("it is the test that panics");
    });
}

#[test]
fn a_panic_can_be_read_and_leaves_the_terminal_as_it_was() {
    let terminal = Terminal::usual();
    let before = terminal.settings();
    let program = std::env::current_exe().unwrap();
    terminal.text(&format!("clear; {} --ignored --exact --nocapture panics_on_the_screen", program.display()));
    terminal.keys(&["Enter"]);
    terminal.wait_for("it is the test that panics");
    let screen = terminal.wait_for_shell();
    assert!(screen.contains("it is the test that panics") && !screen.contains("no report yet"), "{screen}");
    assert_eq!(terminal.settings(), before);
}

#[test]
fn it_is_suspended_and_goes_on() {
    let program = Program::c(PROGRAM, &[]);
    let mut target = Target::piped(program.path());
    let terminal = Terminal::usual();
    let before = terminal.settings();
    terminal.top(&target, "");
    terminal.keys(&["C-z"]);
    let screen = terminal.wait_for_shell();
    assert!(screen.contains("Stopped") && !screen.contains("growth/s"), "{screen}");
    assert_eq!(terminal.settings(), before);
    work(&mut target, 1..=1);
    terminal.text("fg");
    terminal.keys(&["Enter"]);
    terminal.wait_for("58.6 KiB in 11 allocations");
    terminal.text("q");
    terminal.wait_for_shell();
    assert_eq!(terminal.settings(), before);
}

/// The parameters of all orders that set colours and the like.
fn attributes(text: &str) -> Vec<u32> {
    let orders = text.split("\u{1b}[").skip(1).filter_map(|rest| rest.split_once('m'));
    let orders = orders.filter(|(order, _)| order.chars().all(|c| c.is_ascii_digit() || c == ';'));
    orders
        .flat_map(|(order, _)| order.split(';').map(|number| number.parse().unwrap_or(0)).collect::<Vec<_>>())
        .collect()
}

#[test]
fn any_size_will_do_and_no_colour_if_none_is_wanted() {
    let program = Program::c(PROGRAM, &[]);
    let mut target = Target::piped(program.path());
    let is_colour = |number: &u32| (30..=38).contains(number) || (40..=48).contains(number) || *number >= 90;
    let cases = [("NO_COLOR=1", false, "58.6 KiB in 11 allocations"), ("LC_ALL=C", true, "9.8 KiB in 10 allocations")];
    for (number, (environment, has_colour, held)) in (1..).zip(cases) {
        let terminal = Terminal::new((80, 24), &["TERM=screen-256color LANG=C.UTF-8", environment]);
        terminal.top(&target, "");
        work(&mut target, number..=number);
        let screen = terminal.wait_for(held);
        assert_eq!(screen.is_ascii(), has_colour, "in a locale of ASCII: {screen}");
        let attributes = attributes(&terminal.tmux(&["capture-pane", "-e", "-p"]));
        assert!(attributes.contains(&7), "the selected row is seen in any case: {attributes:?}");
        assert_eq!(attributes.iter().any(is_colour), has_colour, "{attributes:?}");
        if number == 1 {
            terminal.tmux(&["resize-window", "-x", "40", "-y", "10"]);
            let screen =
                terminal.wait("40 columns", |screen| screen.lines().count() <= 10 && screen.contains("fill_cache"));
            assert!(screen.lines().all(|line| line.chars().count() <= 40), "{screen}");
            terminal.tmux(&["resize-window", "-x", "20", "-y", "5"]);
            terminal.wait_for("memprof top needs 40");
            terminal.tmux(&["resize-window", "-x", "200", "-y", "50"]);
            terminal.wait_for("r reverse");
        }
        terminal.text("q");
        terminal.wait_for_shell();
    }
}

#[test]
fn a_family_is_a_table_of_processes() {
    let program = Program::c(PROGRAM, &[]);
    let path = program.path().to_str().unwrap();
    // Each reads lines of its own, which the shell sends it; and goes on when it has.
    let child = |lines| format!("(yes '' | head -n {lines}; sleep infinity) | {path} >/dev/null &");
    let go = program.folder().join("go");
    let script = format!("while ! [ -e {} ]; do sleep 0.01; done; {} {} wait", go.display(), child(2), child(4));
    let parent = Target::start(Command::new("sh").args(["-c", &script]));
    let terminal = Terminal::usual();
    terminal.run(&format!("top --all --parent {} --interval 200ms", parent.pid()));
    terminal.wait_for("growth/s");
    fs::write(&go, "").unwrap();
    terminal.wait_for("68.4 KiB       21");
    terminal.wait_for("87.9 KiB       41");
    terminal.text("/program");
    let screen = terminal.wait_for("of 2 with \"program\"");
    assert!(line(&screen, "bytes▼").contains("command"), "{screen}");
    terminal.keys(&["Enter", "Enter"]);
    terminal.wait_for("stack 1 of 2");
    terminal.keys(&["Escape", "Down", "Enter"]);
    let screen = terminal.wait_for("68.4 KiB in 21 allocations");
    assert!(screen.contains("remember_request"), "{screen}");
    terminal.text("q");
    terminal.wait_for_shell();
    end_family(parent.pid());
}

/// Those below a process have no other end.
fn end_family(parent: u32) {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    for child in children.split_whitespace().map(|pid| pid.parse().unwrap()) {
        end_family(child);
        let _ = Command::new("kill").args(["-KILL", &child.to_string()]).stderr(Stdio::null()).status();
    }
}

/// What memprof says of a `top` that cannot be.
fn refusal(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn where_it_cannot_be_shown_it_says_so_in_one_line() {
    let said = refusal(memprof().args(["top", "--pid", "1"]));
    assert_eq!(
        said,
        "memprof: top needs a terminal to show things on, and standard output is none; `memprof --pid PID` writes reports anywhere\n"
    );
    let terminal = Terminal::new((160, 24), &["TERM=dumb"]);
    terminal.run("top --pid 1");
    terminal.wait_for("TERM=dumb");
    let screen = terminal.wait_for_shell();
    assert!(
        screen.contains(
            "memprof: the terminal can show lines only (TERM=dumb); `memprof --pid PID` writes reports to any terminal"
        ),
        "{screen}"
    );
}

/// Somebody with the privileges that it takes and no others sees the same.
#[test]
fn nobody_sees_what_root_sees() {
    let (copy, program) = (PublicCopy::new(), Program::c(PROGRAM, &[]));
    publish(program.folder());
    let mut target = Target::piped(program.path());
    let terminal = Terminal::usual();
    let memprof = copy.with(&THREE);
    let words: Vec<_> = memprof.get_args().map(|word| word.to_str().unwrap()).collect();
    terminal.text(&format!("setpriv {} top --pid {} --interval 200ms", words.join(" "), target.pid()));
    terminal.keys(&["Enter"]);
    terminal.wait_for("nothing lost");
    work(&mut target, 1..=3);
    let screen = terminal.wait_for("29.3 KiB");
    assert_eq!(self::words(line(&screen, "29.3 KiB"))[..3], ["29.3", "KiB", "30"], "{screen}");
    // Nobody knows what that costs.
    assert!(!screen.contains("cost ~"), "{screen}");
    terminal.keys(&["q"]);
    terminal.wait_for_shell();
}
