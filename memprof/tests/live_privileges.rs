//! What memprof may do: with three capabilities and no more it is as exact as for root, it names what it lacks, and what it does not
//! need it gives up.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::ExitStatusExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use support::{
    Attached, ProcessReport, Program, Target, child_of, memprof,
    privileges::{PublicCopy, THREE, as_nobody, as_user, publish},
    refusal_of, wait_until,
};

const NOBODY: u32 = 65534;

/// Answers each line by what its first letter asks for; with an argument it works once, and ends.
const SERVER: &str = r#"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *(*pool_malloc)(size_t);
static char letter;

static void say(const char *line) {
    if (write(1, line, strlen(line)) < 0) _exit(1);
}

static __attribute__((noinline)) void leak(size_t size) {
    void *block = malloc(size); // leaks
    __asm__ volatile ("" : : "r"(block) : "memory");
}

static void work(void) {
    for (int i = 0; i < 10; i++) {
        leak(100);
        free(malloc(50));
    }
}

static void open_library(void) {
    void *library = dlopen("./pool.so", RTLD_NOW);
    if (!library) _exit(3);
    pool_malloc = dlsym(library, "je_malloc");
}

static void *serve(void *unused) {
    char byte;
    while (read(0, &byte, 1) == 1) {
        if (byte != '\n') {
            letter = byte;
            continue;
        }
        if (letter == 'g') work();
        if (letter == 'o') open_library();
        if (letter == 'p') for (int i = 0; i < 7; i++) pool_malloc(1000); // pool
        if (letter == 'f') {
            if (!fork()) {
                for (int i = 0; i < 5; i++) leak(300);
                _exit(0);
            }
            wait(0);
        }
        say("done\n");
    }
    exit(0);
}

int main(int count, char **arguments) {
    if (count > 1) {
        work();
        return 0;
    }
    say("ready\n");
    if (read(0, &letter, 1) != 1 || letter != 't') return *(char *)serve(0);
    // The first thread ends, and another serves.
    pthread_t thread;
    if (pthread_create(&thread, 0, serve, 0)) return 4;
    pthread_exit(0);
}
"#;

const POOL: &str = "
    #include <stddef.h>
    static char memory[1 << 20], *next = memory;
    void *je_malloc(size_t size) { void *block = next; next += size; return block; }
    void je_free(void *block) {}
";

fn server() -> Program {
    let program = Program::c(SERVER, &["-O1", "-fno-builtin", "-pthread"]);
    publish(program.folder());
    program
}

/// It runs, as root or by what that command sets.
fn start(command: &mut Command) -> Target {
    let mut target = Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "ready");
    target
}

fn start_as_root(program: &Program) -> Target {
    start(Command::new(program.path()).current_dir(program.folder()))
}

fn start_as_nobody(program: &Program) -> Target {
    start(as_nobody(&[]).arg(program.path()).current_dir(program.folder()))
}

fn ask(target: &mut Target, letters: &str) {
    for letter in letters.chars() {
        target.tell(&letter.to_string());
        assert_eq!(target.hear(), "done");
    }
}

const REPORTS: [&str; 7] = ["--format", "json", "--top", "0", "--interval", "1h", "--verbose"];

/// `memprof --pid`, when its probes are in.
fn attach(mut memprof: Command, target: &Target, options: &[&str]) -> Attached {
    memprof.args(REPORTS).args(options).args(["--pid", &target.pid().to_string()]);
    let mut attached = Attached::start(&mut memprof);
    attached.ready();
    attached
}

/// Whether some of its probes are perf events, and not links of many.
fn uses_perf_events(attached: &Attached) -> bool {
    let infos = fs::read_dir(format!("/proc/{}/fdinfo", attached.pid())).unwrap();
    // A descriptor may be closed meanwhile.
    let mut texts = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    texts.any(|text| text.contains("link_type:\tperf\n"))
}

/// What has worked once, to the unit and to the line.
fn assert_worked(program: &Program, process: ProcessReport<'_>) {
    assert_eq!(process.totals(), [20, 1500, 10, 500]);
    assert_eq!(process.outstanding(), (1000, 10));
    assert_eq!(process.outstanding_at(&line_of(program, "// leaks")), (1000, 10));
}

fn line_of(program: &Program, mark: &str) -> String {
    format!("program.c:{}", program.line(mark))
}

fn assert_exact_at(memprof: Command, program: &Program, mut target: Target) {
    let attached = attach(memprof, &target, &[]);
    ask(&mut target, "g");
    let run = attached.interrupt();
    assert_worked(program, run.exact());
}

#[test]
fn three_capabilities_are_enough_to_attach() {
    let (copy, program) = (PublicCopy::new(), server());
    assert_exact_at(copy.with(&THREE), &program, start_as_root(&program));
    assert_exact_at(copy.with(&THREE), &program, start_as_nobody(&program));
    // CAP_SYS_ADMIN stands for those that were split off it.
    assert_exact_at(copy.with(&["sys_admin", "sys_ptrace"]), &program, start_as_root(&program));
}

#[test]
fn three_capabilities_are_enough_to_launch() {
    let (copy, program) = (PublicCopy::new(), server());
    let mut memprof = copy.with(&THREE);
    memprof.args(REPORTS).arg("--").arg(program.path()).arg("once");
    assert_worked(&program, Attached::start(&mut memprof).wait().exact());
}

/// Children too, from their first instruction; the probes are links then in any case.
#[test]
fn three_capabilities_are_enough_for_children() {
    let (copy, program) = (PublicCopy::new(), server());
    let mut target = start_as_root(&program);
    let attached = attach(copy.with(&THREE), &target, &["--follow-children=exact"]);
    ask(&mut target, "gf");
    let run = attached.interrupt();
    assert_eq!(run.last().lost(), (0, 0, 0), "{:?}", run.last().warnings());
    assert_worked(&program, run.last().process_of(target.pid()));
    let processes = run.last().0["processes"].as_array().unwrap().clone();
    let child = processes.iter().find(|process| process["pid"] != target.pid()).map(ProcessReport).unwrap();
    assert_eq!((child.totals(), child.outstanding()), ([5, 1500, 0, 0], (1500, 5)));
}

/// What a process forks while links are in place goes on as it would, though it has their breakpoints in its copy of the memory; and is
/// not observed.
#[test]
fn a_child_with_breakpoints_that_nobody_wants_goes_on() {
    let (copy, program) = (PublicCopy::new(), server());
    let mut target = start_as_root(&program);
    let attached = attach(copy.with(&THREE), &target, &[]);
    assert!(!uses_perf_events(&attached));
    ask(&mut target, "fgf");
    assert_worked(&program, attached.interrupt().exact());
    ask(&mut target, "f");
}

#[test]
fn three_capabilities_are_enough_for_a_sweep() {
    let (copy, program) = (PublicCopy::new(), server());
    let mut target = start_as_root(&program);
    let mut memprof = copy.with(&THREE);
    memprof.args(["sweep", "--all", "--duration", "1h", "--format", "json", "--top", "0", "--verbose", "--parent"]);
    let mut sweeping = Attached::start(memprof.arg(target.pid().to_string()));
    sweeping.ready();
    ask(&mut target, "g");
    assert_worked(&program, sweeping.interrupt().last().process_of(target.pid()));
}

#[test]
fn three_capabilities_are_enough_for_growth() {
    let copy = PublicCopy::new();
    let source = r#"
        #include <sys/mman.h>
        #include <unistd.h>
        #define BYTES (100 * 4096)
        int main(void) {
            char byte, *memory = mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            madvise(memory, BYTES, MADV_NOHUGEPAGE);
            if (write(1, "ready\n", 6) != 6) return 1;
            if (read(0, &byte, 1) != 1) return 1;
            for (int i = 0; i < BYTES; i += 4096) memory[i] = 1; // touches
            if (write(1, "done\n", 5) != 5) return 1;
            return read(0, &byte, 1) == 1;
        }
    "#;
    let program = Program::c(source, &["-O1"]);
    publish(program.folder());
    let mut target = start_as_root(&program);
    let mut memprof = copy.with(&THREE);
    memprof.args(["growth", "--format", "json", "--top", "0", "--interval", "1h", "--pid", &target.pid().to_string()]);
    let mut watching = Attached::start(&mut memprof);
    watching.ready_when("watching where memory grows");
    target.tell("");
    assert_eq!(target.hear(), "done");
    watching.signal("USR1");
    let report = watching.next_report();
    let stacks = report.0["processes"][0]["stacks"].as_array().unwrap().clone();
    let source = line_of(&program, "// touches");
    let stack = stacks.iter().find(|stack| stack["frames"][0]["source"] == source.as_str()).unwrap();
    // The kernel says how many page faults it has left out.
    let (pages, missed) = (stack["touched"]["pages"].as_u64().unwrap(), report.0["lost"]["missed"].as_u64().unwrap());
    assert!(pages <= 100 && pages + missed >= 100, "{}", report.0);
    watching.interrupt();
}

/// Links stay when the first thread ends: nothing is missed, as long as nobody takes probes out of the same functions, which nobody can know.
#[test]
fn three_capabilities_outlive_the_main_thread() {
    let copy = PublicCopy::new();
    let program = Program::c_with_own_libc(SERVER, &["-O1", "-fno-builtin", "-pthread"]);
    publish(program.folder());
    let mut target = start_as_root(&program);
    let attached = attach(copy.with(&THREE), &target, &[]);
    target.tell("t");
    assert_eq!(target.hear(), "done");
    let state = format!("/proc/{}/stat", target.pid());
    wait_until("its first thread has ended", || fs::read_to_string(&state).unwrap().contains(") Z "));
    ask(&mut target, "g");
    let run = attached.interrupt();
    assert_eq!(run.last().lost(), (0, 0, 0));
    let warnings = run.last().warnings();
    let doubt = format!("the first thread of process {} has ended: what it does since may be missed", target.pid());
    assert!(warnings.len() == 1 && warnings[0].starts_with(&doubt), "{warnings:?}");
    assert_eq!(run.last().process().outstanding_at(&line_of(&program, "// leaks")), (1000, 10));
    // Who comes now is too late for links.
    let mut memprof = copy.with(&THREE);
    let said = refusal_of(memprof.args(["--quiet", "--pid", &target.pid().to_string()]));
    assert!(said.ends_with("which has ended: that needs CAP_SYS_ADMIN"), "{said}");
}

/// Nobody can say what observing costs without CAP_SYS_ADMIN, and so nobody says it.
#[test]
fn what_is_not_known_without_more_is_not_told() {
    let (copy, program) = (PublicCopy::new(), server());
    if fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|value| value.trim() != "0") {
        eprintln!("here the kernel counts run times for everybody");
        return;
    }
    let mut target = start_as_root(&program);
    let attached = attach(copy.with(&THREE), &target, &[]);
    ask(&mut target, "g");
    let run = attached.interrupt();
    assert_eq!(run.last().process().0["overhead"]["percent"], serde_json::Value::Null, "{}", run.last().process().0);
    let mut memprof = copy.with(&THREE);
    let said = refusal_of(memprof.args(["--quiet", "--max-overhead", "5%", "--pid", &target.pid().to_string()]));
    let expected =
        "how long memprof's programs run may not be measured without CAP_SYS_ADMIN, so there is no --max-overhead";
    assert_eq!(said, expected);
}

#[test]
fn each_missing_capability_is_named() {
    let (copy, program) = (PublicCopy::new(), server());
    let target = start_as_root(&program);
    let said = |capabilities: &[&str]| {
        refusal_of(copy.with(capabilities).args(["--quiet", "--pid", &target.pid().to_string()]))
    };
    let bpf = "CAP_BPF (to load programs)";
    let perfmon = "CAP_PERFMON (to let them read memory, and to hear of new mappings)";
    let ptrace = "CAP_SYS_PTRACE (to look into the processes of others)";
    let expected = |lacks: &[&str]| {
        let lacks = lacks.join(", ");
        format!("privileges: not root, and without {lacks}; run with sudo, or grant these capabilities")
    };
    assert_eq!(said(&["perfmon", "sys_ptrace"]), expected(&[bpf]));
    assert_eq!(said(&["bpf", "sys_ptrace"]), expected(&[perfmon]));
    assert_eq!(said(&["bpf", "perfmon"]), expected(&[ptrace]));
    assert_eq!(said(&["sys_admin"]), expected(&[ptrace]));
    assert_eq!(said(&[]), expected(&[bpf, perfmon, ptrace]));
    let mut root = Command::new("setpriv");
    root.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]).arg(memprof().get_program());
    let said = refusal_of(root.args(["--quiet", "--pid", &target.pid().to_string()]));
    assert_eq!(said, expected(&[ptrace]).replace("not root, and", "root, but"));
}

/// The rings of one memprof are all that a user may have besides; of another they count against the limit.
#[test]
fn what_rings_take_is_named() {
    const SOMEBODY: u32 = 65533;
    let (copy, program) = (PublicCopy::new(), server());
    let target = start_as_root(&program);
    let mut memprof = as_user(SOMEBODY, &THREE);
    memprof.arg(copy.path());
    let first = attach(memprof, &target, &[]);
    let line = format!("ulimit -l 64; exec \"$0\" --quiet --pid {}", target.pid());
    let mut shell = as_user(SOMEBODY, &THREE);
    let said = refusal_of(shell.args(["sh", "-c", &line]).arg(copy.path()));
    let expected = "perf's rings are more locked memory than this user may have (ulimit -l, or CAP_IPC_LOCK): Operation not \
                    permitted (os error 1)";
    assert_eq!(said, expected);
    first.interrupt();
}

fn doctor(mut memprof: Command) -> (bool, Vec<String>) {
    let output = memprof.arg("doctor").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let privileges = said.lines().filter(|line| line.split_whitespace().nth(1) == Some("privileges"));
    (output.status.success(), privileges.map(|line| line.split(':').next().unwrap().to_owned()).collect())
}

#[test]
fn doctor_says_what_is_missing_and_what_could_be_better() {
    let copy = PublicCopy::new();
    let (is_well, said) = doctor(copy.with(&[]));
    assert!(!is_well);
    assert!(said[0].starts_with("FAIL  privileges     not root, and without CAP_BPF (to load programs), CAP_PERFMON"));
    let (is_well, said) = doctor(copy.with(&THREE));
    assert!(is_well);
    let expected = [
        "ok    privileges     all capabilities needed",
        "note  privileges     without CAP_SYS_ADMIN",
        "note  privileges     without CAP_DAC_READ_SEARCH",
        "note  privileges     without CAP_CHECKPOINT_RESTORE",
        // Of the other probes, which take its place.
        "note  privileges     without CAP_SYS_ADMIN",
    ];
    assert_eq!(said, expected);
    assert_eq!(doctor(memprof()), (true, vec!["ok    privileges     root".to_owned()]));
}

/// The sets of a thread: inheritable, permitted, effective, bounding, ambient.
fn sets_of(status: &str) -> [u64; 5] {
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|name| {
        let digits = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        u64::from_str_radix(digits, 16).unwrap()
    })
}

/// A set of capabilities by their numbers (include/uapi/linux/capability.h).
fn set(numbers: &[u32]) -> u64 {
    numbers.iter().map(|number| 1 << number).sum()
}

const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;
const FOWNER: u32 = 3;
const KILL: u32 = 5;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
const CHECKPOINT_RESTORE: u32 = 40;

/// What docs/security.md says of every mode.
const KEPT: [u32; 5] = [BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH, CHECKPOINT_RESTORE];

/// Asserts that each thread has so much in effect and no more, and so much in reserve.
fn assert_kept(memprof: &mut Attached, more: &[u32], reserve: &[u32]) {
    // When there is a report everything is open.
    memprof.signal("USR1");
    memprof.next_report();
    let effective = set(&KEPT) | set(more);
    // For the process that reads names.
    let passed_on = set(&[DAC_READ_SEARCH]);
    let expected = [passed_on, effective | set(reserve), effective, passed_on, passed_on];
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", memprof.pid())).unwrap() {
        // One that ended just now.
        let Ok(status) = fs::read_to_string(thread.unwrap().path().join("status")) else { continue };
        assert_eq!(sets_of(&status), expected, "{status}");
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        threads += 1;
    }
    assert!(threads > 0);
}

#[test]
fn root_gives_up_what_is_not_needed() {
    let program = server();
    let mut target = start_as_root(&program);
    let mut attached = attach(memprof(), &target, &[]);
    assert_kept(&mut attached, &[], &[SYS_ADMIN]);
    // Where both can be had, nobody but the target is to pay for probes that are called all the time.
    assert!(uses_perf_events(&attached));
    ask(&mut target, "g");
    assert_worked(&program, attached.interrupt().exact());

    // A file that each report replaces is written later.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let page = folder.path().join("page.html");
    let log = folder.path().join("log.json");
    let outputs = ["-o", page.to_str().unwrap(), "-o", log.to_str().unwrap()];
    let mut command = memprof();
    command.args(["--interval", "1h", "--verbose"]).args(outputs).args(["--pid", &target.pid().to_string()]);
    let mut attached = Attached::start(&mut command);
    attached.ready();
    let is_reported = || fs::read_to_string(&log).is_ok_and(|log| log.contains('\n'));
    attached.signal("USR1");
    wait_until("there is a report", is_reported);
    let status = fs::read_to_string(format!("/proc/{}/status", attached.pid())).unwrap();
    assert_eq!(sets_of(&status)[1..3], [set(&KEPT) | set(&[SYS_ADMIN, DAC_OVERRIDE, FOWNER]), set(&KEPT)]);
    fs::remove_file(&page).unwrap();
    assert!(attached.interrupt().status.success());
    assert!(fs::read_to_string(&page).unwrap().contains("<html"));
}

#[test]
fn a_command_has_all_that_memprof_was_started_with() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let program = server();
    let mut attached = support::start(&["--interval", "1h"], &[program.path()]);
    assert_eq!(attached.next_line(), "ready\n");
    assert_kept(&mut attached, &[KILL], &[SYS_ADMIN]);
    let pid = child_of(attached.pid()).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(sets_of(&status), sets_of(&own));
    assert!(status.contains("NoNewPrivs:\t0\n"), "{status}");
    attached.tell("g");
    assert_eq!(attached.next_line(), "done\n");
    attached.signal("USR1");
    assert_worked(&program, attached.next_report().process());
    attached.signal("TERM");
    attached.wait_for_end();
}

/// Whoever it has become.
#[test]
fn a_command_that_becomes_another_user_gets_signals() {
    let mut memprof = memprof();
    let line = "echo ready; exec sleep 1000";
    memprof.args(["--quiet", "--output", "/dev/null", "--format", "text", "--"]);
    memprof.args(["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", line]);
    let mut target = Target::start(memprof.stdin(Stdio::null()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "ready");
    support::signal(target.pid(), "TERM");
    let status = target.0.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(128 + 15), None));
}

/// When everything has been given up, a library that is opened is probed all the same, and code has names.
#[test]
fn a_library_that_is_opened_later_is_probed() {
    let (copy, program) = (PublicCopy::new(), server());
    let pool = program.folder().join("pool.c");
    fs::write(&pool, POOL).unwrap();
    let options = ["-g", "-shared", "-fPIC", "pool.c", "-o", "pool.so"];
    assert!(succeeds_in(program.folder(), Command::new("gcc").args(options)));
    for memprof in [memprof(), copy.with(&THREE)] {
        let mut target = start_as_root(&program);
        let mut command = memprof;
        // As it talks otherwise: each line is heard.
        command.args(&REPORTS[..6]).args(["--pid", &target.pid().to_string()]);
        let mut attached = Attached::start(&mut command);
        attached.hear("attached to process");
        ask(&mut target, "o");
        attached.hear("more allocator functions");
        ask(&mut target, "p");
        let run = attached.interrupt();
        let process = run.exact();
        assert_eq!(process.outstanding_at(&line_of(&program, "// pool")), (7000, 7));
    }
}

fn succeeds_in(folder: &Path, command: &mut Command) -> bool {
    command.current_dir(folder).status().unwrap().success()
}

/// Of somebody else's process, whose files nobody else may read. Its debug information is in a file of its own there.
#[test]
fn files_that_their_user_keeps_from_others_have_names() {
    let program = server();
    let strip = "objcopy --only-keep-debug program program.debug && \
                 objcopy --strip-debug --add-gnu-debuglink=program.debug program && chmod 700 program program.debug";
    assert!(succeeds_in(program.folder(), Command::new("sh").args(["-c", strip])));
    for name in ["program", "program.debug"] {
        chown(program.folder().join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(program.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(program.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_exact_at(memprof(), &program, start_as_nobody(&program));
}

/// Its executable was replaced, as by an upgrade: without `map_files`, it is read as what the process executes.
#[test]
fn an_executable_without_a_name_has_names_for_nobody_too() {
    let (copy, program) = (PublicCopy::new(), server());
    let target = start_as_root(&program);
    let stripped = program.folder().join("another");
    fs::copy("/bin/true", &stripped).unwrap();
    fs::rename(&stripped, program.path()).unwrap();
    assert_exact_at(copy.with(&THREE), &program, target);
}

/// On an overlay `fstat` may tell another device than `/proc/PID/maps`, and nobody may look at `map_files`.
#[test]
fn files_on_an_overlay_have_names_for_nobody_too() {
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("\toverlay\n") {
        eprintln!("this kernel has no overlayfs");
        return;
    }
    let (copy, program) = (PublicCopy::new(), server());
    let line = "mkdir lower mount upper; cp program lower; mount -t tmpfs none upper; mkdir upper/data upper/work; \
        mount -t overlay none -o lowerdir=lower,upperdir=upper/data,workdir=upper/work mount; exec mount/program";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", line]).current_dir(program.folder());
    assert_exact_at(copy.with(&THREE), &program, start(&mut command));
}

/// A file that has capabilities: it is executed as any other, and the kernel keeps much of `/proc/self` from it.
#[test]
fn capabilities_of_the_file_do_as_well() {
    let (copy, program) = (PublicCopy::new(), server());
    let mut setcap = Command::new("setcap");
    setcap.args(["cap_bpf,cap_perfmon,cap_sys_ptrace+ep"]).arg(copy.path());
    if !setcap.status().unwrap().success() {
        eprintln!("files have no capabilities here");
        return;
    }
    let plain = || {
        let mut command = Command::new("setpriv");
        command.args(support::privileges::NOBODY).arg(copy.path());
        command
    };
    assert_exact_at(plain(), &program, start_as_nobody(&program));
    assert_exact_at(plain(), &program, start_as_root(&program));
    let mut launch = plain();
    launch.args(REPORTS).arg("--").arg(program.path()).arg("once");
    assert_worked(&program, Attached::start(&mut launch).wait().exact());
    let (is_well, said) = doctor(plain());
    assert!(is_well, "{said:?}");
    assert_eq!(said[0], "ok    privileges     all capabilities needed");
}
