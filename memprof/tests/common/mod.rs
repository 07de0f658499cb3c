//! Programs compiled and run for the tests of target, plan and symbols.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use memprof::{
    model::{Object, ObjectId, RawFrame, Timestamp},
    target::{AddressSpace, ObjectTable},
};

/// Runs a tool in a directory, and fails the test if the tool fails. Its output.
pub(crate) fn run(directory: &Path, command: &str) -> String {
    let words: Vec<_> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a source file.
pub(crate) fn write(directory: &Path, name: &str, content: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A program that prints return addresses, one hexadecimal number a line, then an empty line, and waits until its
/// standard input is closed.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) printed: Vec<u64>,
    input: Option<ChildStdin>,
}

impl Running {
    pub(crate) fn start(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = output.lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        let printed = lines.map(|line| u64::from_str_radix(line.trim_start_matches("0x"), 16).unwrap()).collect();
        let input = child.stdin.take();
        Self { child, printed, input }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn end(&mut self) {
        self.input = None;
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a running program has mapped, and the objects.
pub(crate) struct Seen {
    pub(crate) table: ObjectTable,
    pub(crate) space: AddressSpace,
}

impl Seen {
    pub(crate) fn of(pid: u32) -> Self {
        let mut table = ObjectTable::new();
        let space = AddressSpace::read(pid, Timestamp(1), &mut table).unwrap();
        Self { table, space }
    }

    pub(crate) fn frame(&self, address: u64) -> RawFrame {
        RawFrame { address, place: self.space.find_return_address(address, Timestamp(2)) }
    }

    pub(crate) fn object(&self, id: ObjectId) -> Option<Arc<Object>> {
        self.table.get(id).cloned()
    }

    pub(crate) fn object_named(&self, path: &Path) -> Arc<Object> {
        Arc::clone(self.table.iter().find(|object| object.path == path).unwrap())
    }
}

/// The path of a file as the kernel prints it.
pub(crate) fn real(path: impl Into<PathBuf>) -> PathBuf {
    path.into().canonicalize().unwrap()
}
