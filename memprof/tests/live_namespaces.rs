//! Processes with a libc of their own: in another root, another mount namespace, on an overlay, or without a name any more.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use support::{Program, Report, Run, Target, attach, copy_program, memprof};

/// Answers each line by ten blocks of 100 bytes, and ten that it frees.
const SERVER: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static __attribute__((noinline)) void *leak(void) {
    void *block = malloc(100); // leaks
    __asm__ volatile ("" : "+r"(block) : : "memory");
    return block;
}
int main(void) {
    char c;
    if (write(1, "ready\n", 6) < 0) return 1;
    while (read(0, &c, 1) == 1) {
        if (c != '\n') continue;
        for (int i = 0; i < 10; i++) { leak(); free(malloc(50)); }
        if (write(1, "done\n", 5) < 0) return 1;
    }
}
"#;

/// The program, in the folder `root` beside it: all that it needs, as another root has it.
struct Guest {
    program: Program,
    root: PathBuf,
}

impl Guest {
    fn new() -> Self {
        let program = Program::c(SERVER, &["-O1", "-fno-builtin"]);
        let root = program.folder().join("root");
        let listing = Command::new("ldd").arg(program.path()).output().unwrap();
        let listing = String::from_utf8(listing.stdout).unwrap();
        let libraries = listing.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
        for library in libraries {
            copy(library, &root.join(library.strip_prefix("/").unwrap()));
        }
        copy(program.path(), &root.join("program"));
        Self { program, root }
    }

    /// Runs a line of a shell that ends with `exec` of the program, as root of a mount namespace of its own.
    fn start(&self, line: &str) -> Target {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", line]);
        command.current_dir(self.program.folder()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut target = Target::start(&mut command);
        assert_eq!(target.hear(), "ready");
        target
    }

    fn libc(&self) -> PathBuf {
        let folders = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"];
        folders.map(|folder| self.root.join(folder).join("libc.so.6")).into_iter().find(|path| path.exists()).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    copy_program(from, to);
}

/// Asks it once, and asserts that all that it did is there, with its line.
fn observe(target: &mut Target) -> Run {
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "done");
    memprof.interrupt()
}

fn assert_exact(guest: &Guest, run: &Run) {
    let process = run.exact();
    assert_eq!(process.totals(), [20, 1500, 10, 500]);
    assert_eq!(process.outstanding(), (1000, 10));
    assert_eq!(process.outstanding_at(&format!("program.c:{}", guest.program.line("// leaks"))), (1000, 10));
    assert!(process.stacks()[0].0["frames"][0]["module"].as_str().unwrap().ends_with("/program"));
}

#[test]
fn another_root_with_its_own_libc() {
    let guest = Guest::new();
    let mut target = guest.start("exec chroot root /program");
    assert_exact(&guest, &observe(&mut target));
}

#[test]
fn files_that_only_another_mount_namespace_has() {
    let guest = Guest::new();
    let line = "mkdir mount; mount -t tmpfs none mount; cp -r root/. mount/; exec chroot mount /program";
    let mut target = guest.start(line);
    assert!(!guest.program.folder().join("mount/program").exists(), "it is here too");
    assert_exact(&guest, &observe(&mut target));
}

#[test]
fn an_overlay_as_containers_have_it() {
    let guest = Guest::new();
    // The folders for it are on a file system that can be an upper layer, whatever the test's are on.
    let line = "mkdir mount upper; mount -t tmpfs none upper; mkdir upper/data upper/work; \
        mount -t overlay none -o lowerdir=root,upperdir=upper/data,workdir=upper/work mount; exec chroot mount /program";
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("\toverlay\n") {
        return; // This kernel cannot.
    }
    let mut target = guest.start(line);
    assert_exact(&guest, &observe(&mut target));
}

#[test]
fn two_containers_of_one_image_are_told_apart() {
    let guest = Guest::new();
    let mut targets = [(); 2].map(|()| guest.start("exec chroot root /program"));
    let [first, second] = targets.each_ref().map(Target::pid);
    let mut memprof = attach(first, &["--pid", &second.to_string(), "--interval", "1h"]);
    memprof.ready();
    targets.iter_mut().for_each(|target| target.tell("go"));
    targets.iter_mut().for_each(|target| assert_eq!(target.hear(), "done"));
    targets[1].tell("go");
    assert_eq!(targets[1].hear(), "done");
    let run = memprof.interrupt();
    let report = run.last();
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), vec![]));
    assert_eq!(report.process_of(first).totals(), [20, 1500, 10, 500]);
    assert_eq!(report.process_of(second).totals(), [40, 3000, 20, 1000]);
}

#[test]
fn a_libc_that_was_deleted_and_is_still_mapped() {
    let guest = Guest::new();
    let mut target = guest.start("exec chroot root /program");
    fs::remove_file(guest.libc()).unwrap();
    fs::remove_file(guest.root.join("program")).unwrap();
    assert_exact(&guest, &observe(&mut target));
}

#[test]
fn a_libc_that_another_has_taken_the_place_of() {
    let guest = Guest::new();
    let mut target = guest.start("exec chroot root /program");
    // As a package manager does it: a new file under the old name.
    let (libc, new) = (guest.libc(), guest.root.join("new"));
    fs::write(&new, b"something else altogether").unwrap();
    fs::rename(&new, &libc).unwrap();
    assert_exact(&guest, &observe(&mut target));
}

/// Not even `/dev/null` can be opened.
#[test]
fn memprof_where_dev_is_empty() {
    let program = Program::c(SERVER, &["-O1", "-fno-builtin"]);
    let reports = program.folder().join("reports");
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /dev; exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", script, "sh"]).arg(memprof().get_program());
    command.args(["--format", "json", "--output"]).arg(&reports).arg("--").arg(program.path());
    let mut launched = Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(launched.hear(), "ready");
    launched.tell("go");
    assert_eq!(launched.hear(), "done");
    drop(launched.0.stdin.take());
    assert!(launched.0.wait().unwrap().success());
    let report = Report::parse(fs::read_to_string(reports).unwrap().trim_end());
    assert_eq!(report.warnings(), Vec::<String>::new());
    let line = format!("program.c:{}", program.line("// leaks"));
    assert_eq!(report.process().outstanding_at(&line), (1000, 10));
}
