//! Real programs, against valgrind: for the same run of a launched command memprof counts what valgrind counts, to the
//! unit. `docs/valgrind.md` says what is made alike, and which programs differ and why.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    process::{Command, Stdio},
    sync::LazyLock,
};

use support::{ROOM_FOR_COPIES, Report, memprof};
use tempfile::TempDir;

type Environment = Vec<(String, String)>;

/// The line "total heap usage".
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    allocations: u64,
    frees: u64,
    allocated_bytes: u64,
}

/// A program, its arguments, and a folder with what it reads.
struct Case {
    folder: TempDir,
    environment: Environment,
    command: Vec<String>,
    /// The program keeps the digits of its parent's pid in a block.
    keeps_parent: bool,
}

impl Case {
    fn new(command: &[&str]) -> Self {
        let environment = [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C")];
        Self {
            folder: tempfile::tempdir().unwrap(),
            environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
            command: command.iter().map(|&word| word.into()).collect(),
            keeps_parent: false,
        }
    }

    fn keeping_parent(mut self) -> Self {
        self.keeps_parent = true;
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    /// Runs it by itself. The first access to a file in a day sets the time of access (`relatime`), which the program may look at.
    fn access_files(&self) {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env_clear().envs(self.environment.iter().cloned());
        self.run(command);
    }

    /// What valgrind counts, which must be the same twice.
    fn under_valgrind(&self) -> Usage {
        let first = self.once_under_valgrind();
        assert_eq!(first, self.once_under_valgrind(), "valgrind disagrees with itself on {:?}", self.command);
        first
    }

    fn once_under_valgrind(&self) -> Usage {
        // A log for each process, since children report too; elsewhere, since the program may list its folder.
        let logs = tempfile::tempdir().unwrap();
        let option = format!("--log-file={}/%p", logs.path().display());
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--run-libc-freeres=no", "--run-cxx-freeres=no", &option]);
        valgrind.args(&self.command).env_clear().envs(self.environment.iter().cloned());
        let pid = self.run(valgrind);
        let usage = Usage::parse(&fs::read_to_string(logs.path().join(pid.to_string())).unwrap());
        self.without_parent(usage, std::process::id())
    }

    fn under_memprof(&self) -> Usage {
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut memprof = memprof();
        memprof.args(ROOM_FOR_COPIES);
        memprof.args(["--quiet", "--format", "json", "--output"]).arg(output.path()).arg("--").args(&self.command);
        memprof.env_clear().envs(as_valgrind_has_it(&self.environment));
        let parent = self.run(memprof);
        let reports = fs::read_to_string(output.path()).unwrap();
        let report = Report::parse(reports.trim_end());
        assert_eq!(report.lost(), (0, 0, 0));
        assert_eq!(report.warnings(), Vec::<String>::new());
        let [allocations, allocated_bytes, frees, freed_bytes] = report.process().totals();
        let outstanding = (allocated_bytes - freed_bytes, allocations - frees);
        assert_eq!(report.process().outstanding(), outstanding, "{:?}", self.command);
        self.without_parent(Usage { allocations, frees, allocated_bytes }, parent)
    }

    /// The bytes but for the digits of the parent's pid, of which valgrind's command may have more or fewer than memprof's.
    fn without_parent(&self, usage: Usage, parent: u32) -> Usage {
        let digits = if self.keeps_parent { parent.to_string().len() as u64 } else { 0 };
        Usage { allocated_bytes: usage.allocated_bytes - digits, ..usage }
    }

    /// Both see the same folder and standard streams: what is a terminal and what is not decides about buffers.
    fn run(&self, mut command: Command) -> u32 {
        let errors = tempfile::NamedTempFile::new().unwrap();
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(errors.reopen().unwrap()).spawn().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{:?}: {status}: {}", self.command, fs::read_to_string(errors.path()).unwrap());
        child.id()
    }

    /// memprof's figures are valgrind's.
    fn check(&self) {
        self.access_files();
        let expected = self.under_valgrind();
        assert_eq!(self.under_memprof(), expected, "{:?}", self.command);
        eprintln!("{}: {expected:?}", self.command[0]);
    }
}

impl Usage {
    fn parse(log: &str) -> Self {
        let line = log.lines().find_map(|line| line.split_once("total heap usage: ")).unwrap().1;
        let number = |word: &str| word.replace(',', "").parse().ok();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(number).collect();
        Self { allocations: numbers[0], frees: numbers[1], allocated_bytes: numbers[2] }
    }
}

/// valgrind adds variables, `LD_PRELOAD` among them. Shells and interpreters copy their environment to the heap, so
/// memprof's command gets the same. What is preloaded does nothing without valgrind.
fn as_valgrind_has_it(environment: &Environment) -> Environment {
    static ADDED: LazyLock<Environment> = LazyLock::new(|| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "/usr/bin/env"]).env_clear().env("PATH", "/usr/bin:/bin").env("PWD", "/");
        let printed = String::from_utf8(valgrind.output().unwrap().stdout).unwrap();
        let entries = printed.lines().filter_map(|line| line.split_once('='));
        let added = entries.filter(|(name, _)| !["PATH", "PWD"].contains(name));
        added.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    });
    environment.iter().chain(ADDED.iter()).cloned().collect()
}

/// Debian's `valgrind` is a shell script, and a shell exports its working directory.
fn in_folder(case: Case) -> Case {
    let folder = fs::canonicalize(case.folder.path()).unwrap();
    case.with("PWD", folder.to_str().unwrap())
}

fn check(command: &[&str]) {
    in_folder(Case::new(command)).check();
}

fn numbers() -> String {
    (0..5000).map(|number| format!("{}\n", number * 7919 % 5000)).collect()
}

#[test]
fn sqlite3_fills_indexes_and_sums_a_table() {
    check(&[
        "sqlite3",
        ":memory:",
        "create table t(a, b);
         with recursive c(x) as (select 1 union all select x + 1 from c where x < 2000)
             insert into t select x, printf('row %d', x) from c;
         create index i on t(b);
         update t set b = upper(b) where a % 3 = 0;
         select count(*), sum(length(b)) from t;",
    ]);
}

#[test]
fn xmllint_parses_and_formats_a_document() {
    let items: String =
        (0..2000).map(|n| format!("<item id=\"{n}\"><name>n{n}</name><!-- {n} --><v>{}</v></item>", n * n)).collect();
    let document = format!("<?xml version=\"1.0\"?>\n<root>{items}</root>\n");
    in_folder(Case::new(&["xmllint", "--format", "document.xml"])).file("document.xml", &document).check();
}

#[test]
fn perl_builds_hashes_of_arrays() {
    let script = "my %h; for my $i (1..3000) { $h{\"k$i\"} = [$i, 'v' x ($i % 50)]; } print join(',', sort keys %h);";
    in_folder(Case::new(&["perl", "-MPOSIX", "-e", script])).with("PERL_HASH_SEED", "0").check();
}

const PYTHON: &str = "import json; d = {str(i): [i] * 3 for i in range(1000)}; print(len(json.dumps(d)))";

#[test]
fn python_allocates_its_arenas_and_large_objects() {
    in_folder(Case::new(&["/usr/bin/python3", "-c", PYTHON])).with("PYTHONHASHSEED", "0").check();
}

/// Every object is a block of its own. The identity of a thread is the address of its descriptor, and as a Python
/// integer this takes 32 bytes, but 28 under valgrind, which has low addresses: the bytes must differ, the numbers not.
#[test]
fn python_allocates_every_object() {
    let case = in_folder(Case::new(&["/usr/bin/python3", "-c", PYTHON]));
    let case = case.with("PYTHONHASHSEED", "0").with("PYTHONMALLOC", "malloc");
    case.access_files();
    let (memprof, valgrind) = (case.under_memprof(), case.under_valgrind());
    assert_eq!((memprof.allocations, memprof.frees), (valgrind.allocations, valgrind.frees));
    eprintln!("memprof: {memprof:?}, valgrind: {valgrind:?}");
    let more_bytes = memprof.allocated_bytes - valgrind.allocated_bytes;
    assert!(more_bytes > 0 && more_bytes.is_multiple_of(32 - 28), "{more_bytes} bytes more");
}

#[test]
fn bash_forks_and_fills_an_array() {
    let script = "for i in {1..300}; do a[$i]=x$i; done; b=$(echo ${a[*]}); echo ${#b}; ls | cat";
    in_folder(Case::new(&["bash", "-c", script])).keeping_parent().check();
}

#[test]
fn dash_loops() {
    check(&["dash", "-c", "for i in 1 2 3; do eval x$i=$i; done; echo $x1 $x2"]);
}

#[test]
fn sort_reads_and_orders_lines() {
    in_folder(Case::new(&["sort", "--parallel=1", "-n", "numbers"])).file("numbers", &numbers()).check();
}

#[test]
fn sed_edits_lines() {
    in_folder(Case::new(&["sed", "-E", "s/([0-9])7/\\1seven/g", "numbers"])).file("numbers", &numbers()).check();
}

#[test]
fn diff_compares_files() {
    let case = in_folder(Case::new(&["diff", "--brief", "one", "two"]));
    case.file("one", &numbers()).file("two", &numbers()).check();
}

#[test]
fn find_walks_a_tree() {
    check(&["find", "/usr/include/linux", "-name", "*.h", "-newer", "/usr/include/stdio.h"]);
}

#[test]
fn tar_packs_a_tree() {
    check(&["tar", "--create", "--file", "/dev/null", "/usr/include/linux"]);
}

#[test]
fn ls_lists_a_tree() {
    check(&["ls", "-lR", "/usr/include/linux"]);
}

#[test]
fn objdump_disassembles() {
    check(&["objdump", "--disassemble", "/bin/true"]);
}

#[test]
fn dpkg_reads_its_data_base() {
    check(&["dpkg-query", "--list"]);
}

/// C++: `operator new` is one allocation, though it calls `malloc`.
#[test]
fn apt_config_prints_its_tree() {
    check(&["apt-config", "dump"]);
}
