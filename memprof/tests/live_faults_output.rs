//! Outputs that fail: a disk that is full, a pipe that nobody reads, a terminal that is gone. memprof says what it could not write, leaves
//! whole what it has written, and lets go of the target.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use support::{Program, Target, kernel_objects::patched_bytes, memprof, signal, wait_until};

/// Leaks at so many places that a report is larger than a page, once for each line.
fn server() -> Program {
    let sites: String = (0..60).map(|size| format!("        if (!malloc({})) return 1;\n", 1000 + size)).collect();
    let source = format!(
        r#"
#include <stdlib.h>
#include <unistd.h>
static char await_byte(void) {{ char c; return read(0, &c, 1) == 1 ? c : 0; }}
int main(void) {{
    if (write(1, "ready\n", 6) != 6) return 1;
    while (await_byte()) {{
{sites}        if (write(1, "done\n", 5) != 5) return 1;
    }}
    return 7;
}}
"#
    );
    Program::c_with_own_libc(&source, &["-O1", "-fno-builtin"])
}

const LIBC: &str = "libc.so.6";

fn start(program: &Program) -> Target {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    target
}

fn leak(target: &mut Target) {
    target.0.stdin.as_mut().unwrap().write_all(b"!").unwrap();
    assert_eq!(target.hear(), "done");
}

/// A small disk, in the mount namespace of a process of its own.
struct Disk {
    holder: Target,
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = "mount -t tmpfs -o size=1m none \"$0\" && echo ready && read line";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", mount]).arg(folder.path());
        let mut holder = Target::start(unshare.stdin(Stdio::piped()).stdout(Stdio::piped()));
        assert_eq!(holder.hear(), "ready");
        Self { holder, folder }
    }

    /// A file there, for those within.
    fn within(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same, for others.
    fn seen_from_outside(&self, name: &str) -> PathBuf {
        let path = self.within(name);
        Path::new(&format!("/proc/{}/root", self.holder.pid())).join(path.strip_prefix("/").unwrap())
    }

    /// The files there.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.seen_from_outside("")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut filler = fs::File::create(self.seen_from_outside("filler")).unwrap();
        while filler.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// memprof, within.
    fn memprof(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid())).arg(memprof().get_program());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn finish(memprof: Child) -> (Option<i32>, String) {
    let Output { status, stderr, stdout } = memprof.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), "");
    (status.code(), String::from_utf8(stderr).unwrap())
}

const NO_SPACE: &str = "No space left on device (os error 28)\n";

/// In every format: what has been reported before stays, whole, and nothing beside it. What goes elsewhere is not hindered.
#[test]
fn a_disk_that_fills_up_between_two_reports() {
    let program = server();
    let mut target = start(&program);
    for name in ["report.txt", "report.json", "report.folded", "report.svg", "report.html", "report.pb.gz"] {
        let disk = Disk::new();
        let (file, elsewhere) = (disk.seen_from_outside(name), program.folder().join(format!("{name}.elsewhere.json")));
        let mut command = disk.memprof();
        command.args(["--quiet", "--top", "0", "--interval", "1h", "--pid", &target.pid().to_string()]);
        command.arg("--output").arg(disk.within(name)).arg("--output").arg(&elsewhere);
        let memprof = command.spawn().unwrap();
        // It has its files when its probes are in.
        wait_until("it has begun", || elsewhere.exists());
        leak(&mut target);
        signal(memprof.id(), "USR1");
        // That comes second.
        let has_reports = |count| fs::read_to_string(&elsewhere).unwrap().matches('\n').count() == count;
        wait_until("a report is there", || has_reports(1));
        disk.fill();
        let before = fs::read(&file).unwrap();
        assert!(!before.is_empty(), "{name}");
        signal(memprof.id(), "USR1");
        let (status, said) = finish(memprof);
        assert!(said.starts_with("memprof: cannot write ") && said.ends_with(NO_SPACE), "{name}: {said}");
        assert_eq!((status, said.lines().count()), (Some(1), 1), "{name}: {said}");
        assert!(before == fs::read(&file).unwrap(), "{name}");
        assert_eq!(disk.names(), ["filler", name]);
        assert!(has_reports(2), "{name}");
        assert_eq!(patched_bytes(target.pid(), LIBC), 0);
    }
}

/// A launched command goes on without it, to its end.
#[test]
fn a_disk_that_is_full_while_a_command_runs() {
    let program = server();
    for name in ["trace.mtrace", "report.txt"] {
        let disk = Disk::new();
        let mut command = disk.memprof();
        command.args(["--top", "0", "--output"]).arg(disk.within(name)).arg("--").arg(program.path());
        let mut memprof = command.stdin(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (memprof.stdin.take().unwrap(), memprof.stdout.take().unwrap());
        let mut expect = |text: &[u8]| {
            let mut said = vec![0; text.len()];
            output.read_exact(&mut said).unwrap();
            assert_eq!(said, text);
        };
        expect(b"ready\n");
        disk.fill();
        for _ in 0..200 {
            input.write_all(b"!").unwrap();
            expect(b"done\n");
        }
        drop(input);
        let (status, said) = finish(memprof);
        assert!(said.starts_with("memprof: cannot write the ") && said.ends_with(NO_SPACE), "{name}: {said}");
        assert_eq!(status, Some(1), "{name}");
        // Of a log, there is what was written before; of reports there is nothing.
        let written = fs::read_to_string(disk.seen_from_outside(name)).unwrap();
        assert!(if name == "report.txt" { written.is_empty() } else { written.starts_with("= Start\n") }, "{name}");
    }
}

/// Whatever is written: when the reader goes, memprof ends, says nothing, and lets go of the target.
#[test]
fn a_pipe_that_nobody_reads_any_more() {
    let program = server();
    let mut target = start(&program);
    let pid = target.pid().to_string();
    leak(&mut target);
    let attached: [&[&str]; 5] = [
        &["--interval", "100ms"],
        &["--interval", "100ms", "--format", "json"],
        &["--duration", "2s", "--format", "folded"],
        &["--duration", "2s", "--format", "pprof"],
        &["--trace", "--format", "text"],
    ];
    for options in attached {
        let mut command = memprof();
        command.args(["--quiet", "--pid", &pid]).args(options);
        let mut memprof = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("probes are in", || patched_bytes(target.pid(), LIBC) > 0);
        drop(memprof.stdout.take());
        wait_until("it has ended", || {
            leak(&mut target);
            memprof.try_wait().unwrap().is_some()
        });
        assert_eq!(finish(memprof), (Some(0), String::new()), "{options:?}");
        assert_eq!(patched_bytes(target.pid(), LIBC), 0, "{options:?}");
    }
    for arguments in [["growth", "--pid"].as_slice(), &["sweep", "--all", "--parent"]] {
        let mut command = memprof();
        command.args(arguments).args([&pid, "--quiet", "--interval", "100ms"]);
        let mut memprof = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(memprof.stdout.take());
        wait_until("it has ended", || {
            leak(&mut target);
            memprof.try_wait().unwrap().is_some()
        });
        assert_eq!(finish(memprof), (Some(0), String::new()), "{arguments:?}");
        wait_until("probes are gone", || patched_bytes(target.pid(), LIBC) == 0);
    }
}

/// A live view whose terminal is closed ends, by the signal that comes with it, and lets go of the target.
#[test]
fn a_terminal_that_is_gone() {
    let program = server();
    let target = start(&program);
    let socket = format!("memprof-test-gone-{}", std::process::id());
    let tmux = |arguments: &[&str]| {
        assert!(
            Command::new("tmux").args(["-L", &socket, "-f", "/dev/null"]).args(arguments).status().unwrap().success()
        );
    };
    let line = format!("exec {} top --pid {}", memprof().get_program().to_str().unwrap(), target.pid());
    tmux(&["new-session", "-d", "-x", "80", "-y", "24", &line]);
    wait_until("probes are in", || patched_bytes(target.pid(), LIBC) > 0);
    tmux(&["kill-server"]);
    wait_until("probes are gone", || patched_bytes(target.pid(), LIBC) == 0);
}
