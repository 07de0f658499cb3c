//! Code that goes while it is observed: an upgrade that replaces the target's files, a plugin that is closed, and even one whose code
//! is unmapped below a stack that runs through it.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use support::{Attached, Program, StackReport, TALK, Target, attach, kernel_objects::patched_bytes};

const INCLUDES: &str = "
#include <dlfcn.h>
#include <setjmp.h>
";

const FLAGS: [&str; 5] = ["-O1", "-fno-builtin", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-w"];

/// Leaks ten blocks below its own function for each line, which it answers. `LEAK` is the function's name.
const SERVER: &str = r#"
PADDING
__attribute__((noinline)) static void *LEAK(void) { void *volatile block = malloc(100); return block; } // leak
int main(void) {
    for (;;) {
        say("ready");
        await_line();
        for (int i = 0; i < 10; i++) LEAK();
        free(malloc(30));
    }
}
"#;

fn server(name: &str, padding: &str) -> Program {
    let source = SERVER.replace("LEAK", name).replace("PADDING", padding);
    Program::c_with_own_libc(&format!("{TALK}{INCLUDES}{source}"), &FLAGS)
}

const LIBC: &str = "libc.so.6";

/// What an upgrade does to a file that is in use.
#[derive(Clone, Copy, Debug)]
enum Upgrade {
    /// Another takes its name.
    Renames,
    Deletes,
}

/// Upgrades the program and its libc.
fn upgrade(old: &Program, new: &Program, how: Upgrade) {
    for name in ["program", LIBC] {
        let (place, new) = (old.folder().join(name), new.folder().join(name));
        match how {
            Upgrade::Deletes => fs::remove_file(place).unwrap(),
            Upgrade::Renames => {
                let beside = old.folder().join("new");
                fs::copy(new, &beside).unwrap();
                fs::rename(beside, place).unwrap();
            }
        }
    }
}

/// A newer version of the server: nothing is where it was. Nor can its libc, as good as the old one, be taken for that.
fn newer() -> Program {
    let newer = server("leak_of_newer", "void padding(void (*use)(void)) { use(); use(); use(); use(); use(); }\n\n\n");
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--remove-section", ".note.gnu.build-id"]).arg(newer.folder().join(LIBC));
    assert!(objcopy.status().unwrap().success());
    newer
}

fn observe(target: &Target) -> Attached {
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    memprof
}

fn names(stack: &StackReport<'_>) -> Vec<String> {
    stack.functions().into_iter().map(Option::unwrap_or_default).collect()
}

/// The ten blocks of one line, named as the old version was.
fn assert_is_that_of_old(old: &Program, memprof: Attached) {
    let run = memprof.interrupt();
    let process = run.exact();
    assert_eq!((process.totals(), process.outstanding()), ([11, 1030, 1, 30], (1000, 10)));
    let [leak] = process.stacks()[..] else { unreachable!("all are of one place") };
    assert!(leak.0["truncated"].is_null());
    assert_eq!(names(&leak)[..3], ["leak_of_older", "main", "__libc_start_call_main"]);
    assert_eq!(leak.sources()[0], Some(format!("program.c:{}", old.line("// leak"))));
    assert_eq!(leak.0["frames"][0]["module"].as_str(), old.path().to_str());
    assert_eq!(leak.0["frames"][2]["module"].as_str(), old.folder().join(LIBC).to_str());
}

#[test]
fn an_upgrade_while_the_old_version_is_observed_or_before() {
    let newer = newer();
    for (how, is_before) in
        [(Upgrade::Renames, true), (Upgrade::Renames, false), (Upgrade::Deletes, true), (Upgrade::Deletes, false)]
    {
        let older = server("leak_of_older", "");
        let mut target = Target::piped(older.path());
        assert_eq!(target.hear(), "ready");
        if is_before {
            upgrade(&older, &newer, how);
        }
        let memprof = observe(&target);
        if !is_before {
            upgrade(&older, &newer, how);
        }
        assert!(patched_bytes(target.pid(), LIBC) > 0, "{how:?}");
        if matches!(how, Upgrade::Renames) {
            // The new version runs beside it, and has no probes.
            let mut other = Target::piped(older.path());
            assert_eq!(other.hear(), "ready");
            other.tell("go");
            assert_eq!(other.hear(), "ready");
            assert_eq!(patched_bytes(other.pid(), LIBC), 0);
        }
        target.tell("go");
        assert_eq!(target.hear(), "ready");
        assert_is_that_of_old(&older, memprof);
        assert_eq!(patched_bytes(target.pid(), LIBC), 0, "{how:?}");
    }
}

/// Opens a plugin, has it leak, and closes it, for each line.
const HOST: &str = r#"
int main(void) {
    for (;;) {
        say("ready");
        await_line();
        void *plugin = dlopen("./plugin.so", RTLD_NOW);
        CHECK(plugin);
        void *(*leak)(void) = (void *(*)(void))dlsym(plugin, "leak");
        CHECK(leak && leak());
        CHECK(!dlclose(plugin) && !dlopen("./plugin.so", RTLD_NOW | RTLD_NOLOAD));
    }
}
"#;

fn compile_plugin(folder: &Path, source: &str) {
    fs::write(folder.join("plugin.c"), source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS).args(["-g", "-shared", "-fPIC", "plugin.c", "-o", "plugin.new"]).current_dir(folder);
    assert!(gcc.status().unwrap().success());
    fs::rename(folder.join("plugin.new"), folder.join("plugin.so")).unwrap();
}

fn start_in_its_folder(program: &Program) -> Target {
    let mut command = Command::new(program.path());
    command.current_dir(program.folder()).stdin(Stdio::piped()).stdout(Stdio::piped());
    Target::start(&mut command)
}

/// Each version has its names for what it has left behind, though it is closed, and the file is another's, or nobody's.
#[test]
fn a_plugin_that_is_upgraded_and_reloaded() {
    let program = Program::c(&format!("{TALK}{INCLUDES}{HOST}"), &FLAGS);
    let mut target = start_in_its_folder(&program);
    assert_eq!(target.hear(), "ready");
    let mut memprof = observe(&target);
    for (version, size) in [("one", 10_001), ("two", 10_002), ("three", 10_003)] {
        let source = format!(
            "#include <stdlib.h>\n__attribute__((noinline)) static void *leak_of_{version}(void) {{ void *volatile block = \
             malloc({size}); return block; }}\nvoid *leak(void) {{ void *volatile block = leak_of_{version}(); return block; }}\n"
        );
        compile_plugin(program.folder(), &source);
        target.tell("go");
        assert_eq!(target.hear(), "ready");
        // It has opened the file by then.
        memprof.signal("USR1");
        memprof.next_report();
    }
    fs::remove_file(program.folder().join("plugin.so")).unwrap();
    let run = memprof.interrupt();
    let process = run.exact();
    let stacks: Vec<_> = process.stacks().into_iter().filter(|stack| stack.outstanding().0 > 10_000).collect();
    let found: Vec<_> = stacks.iter().map(|stack| (stack.outstanding(), names(stack)[..3].to_vec())).collect();
    let expected = [(10_003, "leak_of_three"), (10_002, "leak_of_two"), (10_001, "leak_of_one")];
    assert_eq!(found, expected.map(|(size, name)| ((size, 1), [name, "leak", "main"].map(str::to_owned).to_vec())));
    assert!(
        stacks.iter().all(|stack| stack.0["truncated"].is_null() && stack.sources()[0] == Some("plugin.c:2".into()))
    );
}

/// The plugin calls back, and is closed meanwhile: what is allocated then has its code on the stack, which is nowhere any more. Nobody
/// returns to it.
const CLOSER: &str = r#"
static void *plugin;
static jmp_buf out;
__attribute__((noinline)) static void close_and_leak(void) {
    CHECK(!dlclose(plugin) && !dlopen("./plugin.so", RTLD_NOW | RTLD_NOLOAD));
    for (int i = 0; i < 10; i++) CHECK(malloc(20000)); // without the plugin
    longjmp(out, 1);
}
int main(void) {
    for (;;) {
        say("ready");
        await_line();
        CHECK(plugin = dlopen("./plugin.so", RTLD_NOW));
        void (*call)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(plugin, "call");
        CHECK(call);
        if (!setjmp(out)) call(close_and_leak);
    }
}
"#;

#[test]
fn code_that_is_unmapped_below_a_running_stack() {
    let program = Program::c(&format!("{TALK}{INCLUDES}{CLOSER}"), &FLAGS);
    compile_plugin(program.folder(), "void call(void (*back)(void)) { back(); __asm__ volatile(\"\"); }\n");
    let mut target = start_in_its_folder(&program);
    assert_eq!(target.hear(), "ready");
    let memprof = observe(&target);
    for _ in 0..3 {
        target.tell("go");
        assert_eq!(target.hear(), "ready");
    }
    let run = memprof.interrupt();
    let process = run.exact();
    let mark = format!("program.c:{}", program.line("// without the plugin"));
    assert_eq!(process.outstanding_at(&mark), (30 * 20_000, 30));
    for stack in process.stacks().iter().filter(|stack| stack.outstanding().0 >= 20_000) {
        let names = names(stack);
        assert_eq!(names[0], "close_and_leak");
        // It goes on to the end through what was there, or says that something may be missing.
        let is_whole = names[1..].starts_with(&["call".into(), "main".into()]);
        assert_eq!(is_whole, stack.0["truncated"].is_null(), "{names:?} {}", stack.0["truncated"]);
    }
}
