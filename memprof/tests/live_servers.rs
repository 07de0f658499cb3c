//! Running servers and interpreters, as Debian has them: attached to, reported on in every way, and left alone.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{ChildStdin, Command, Stdio},
};

use support::{Attached, Report, Run, Target, attach, memprof, schema::assert_contract, signal, wait_until};

/// A python that keeps one more block of a thousand bytes for each line on its standard input, and answers.
const LEAK: &str = "
import os, sys
kept = []
for line in sys.stdin:
    kept.append(bytearray(1000 - 1))
    print('kept', flush=True)
os._exit(0)
";

/// A process that is told over a pipe what to do, and answers with one line each time.
struct Worker {
    target: Target,
    input: ChildStdin,
}

impl Worker {
    fn start(command: &mut Command) -> Self {
        let mut target = Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let input = target.0.stdin.take().unwrap();
        Self { target, input }
    }

    fn python(program: &str) -> Self {
        let mut worker =
            Self::start(Command::new("/usr/bin/python3").args(["-c", program]).env("PYTHONMALLOC", "malloc"));
        worker.ask("");
        worker
    }

    fn sqlite3() -> Self {
        let mut worker = Self::start(Command::new("sqlite3").arg(":memory:"));
        worker.ask("create table t(a, b); select 'ready';");
        worker
    }

    fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// Returns when it has answered.
    fn ask(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        let output = self.target.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while byte != *b"\n" {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "it ended instead of an answer");
        }
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.target.0.wait().unwrap().success());
    }
}

fn attached(pid: u32, options: &[&str]) -> Attached {
    let mut memprof = attach(pid, options);
    memprof.ready();
    memprof
}

fn assert_contracts(run: &Run) {
    assert!(run.status.success(), "{}: {}", run.status, run.stderr);
    run.reports.iter().for_each(|report| assert_contract(&report.0));
}

/// The bytes and allocations of what a line of [`LEAK`] keeps, by their size: no stack tells Python functions apart.
fn blocks_of_1000(report: &Report) -> usize {
    let stacks = report.process().0["stacks"].as_array().unwrap().iter();
    let allocations = stacks.flat_map(|stack| stack["allocations"].as_array().unwrap());
    allocations.filter(|allocation| allocation["size"] == 1000).count()
}

fn blocks_at_next_report(memprof: &mut Attached) -> usize {
    let report = memprof.next_report();
    assert_contract(&report.0);
    assert_eq!(report.lost(), (0, 0, 0));
    assert!(!report.process().exited());
    blocks_of_1000(&report)
}

#[test]
fn a_python_that_leaks_is_reported_block_by_block_at_each_interval() {
    let mut python = Worker::python(LEAK);
    let mut memprof = attached(python.pid(), &["--interval", "300ms", "--show-allocations"]);
    for blocks in [2, 4, 6] {
        python.ask("");
        python.ask("");
        // Where the machine is slow, an interval ends before the lines do.
        while blocks_at_next_report(&mut memprof) < blocks {}
        assert_eq!(blocks_at_next_report(&mut memprof), blocks);
    }
    assert_contracts(&memprof.interrupt());
    python.end();
}

#[test]
fn a_duration_ends_with_a_last_report() {
    let mut python = Worker::python(LEAK);
    let mut memprof = attached(python.pid(), &["--interval", "1h", "--duration", "500ms", "--show-allocations"]);
    python.ask("");
    let report = memprof.next_report();
    assert_contract(&report.0);
    // None where the machine is slow.
    assert!(blocks_of_1000(&report) <= 1);
    let run = memprof.wait();
    assert!(run.status.success());
    assert_eq!(run.reports.len(), 0);
    python.end();
}

#[test]
fn signals_that_end_memprof_bring_a_last_report_and_leave_the_target_alone() {
    let mut python = Worker::python(LEAK);
    for name in ["INT", "TERM", "HUP", "QUIT"] {
        let memprof = attached(python.pid(), &["--interval", "1h", "--show-allocations"]);
        python.ask("");
        memprof.signal(name);
        let run = memprof.wait();
        assert_contracts(&run);
        assert_eq!(run.reports.len(), 1, "SIG{name}");
        assert_eq!(blocks_of_1000(run.last()), 1, "SIG{name}");
        python.ask("");
    }
    python.end();
}

#[test]
fn under_nohup_a_hang_up_ends_nothing() {
    let mut python = Worker::python(LEAK);
    let mut nohup = Command::new("nohup");
    nohup.arg(memprof().get_program()).args(["--format", "json", "--top", "0", "--interval", "1h", "--pid"]);
    nohup.arg(python.pid().to_string()).arg("--show-allocations");
    let mut memprof = Attached::start(&mut nohup);
    memprof.ready();
    memprof.signal("HUP");
    python.ask("");
    memprof.signal("USR1");
    assert_eq!(blocks_of_1000(&memprof.next_report()), 1);
    assert_contracts(&memprof.interrupt());
    python.end();
}

#[test]
fn sigusr1_brings_a_report_at_once() {
    let mut python = Worker::python(LEAK);
    let mut memprof = attached(python.pid(), &["--interval", "1h", "--show-allocations"]);
    for lines in 1..=3 {
        python.ask("");
        memprof.signal("USR1");
        let report = memprof.next_report();
        assert_contract(&report.0);
        assert_eq!(blocks_of_1000(&report), lines);
    }
    assert_eq!(memprof.interrupt().reports.len(), 1);
    python.end();
}

#[test]
fn the_targets_exit_ends_with_a_report_that_still_has_names() {
    let mut python = Worker::python(LEAK);
    let memprof = attached(python.pid(), &["--interval", "1h", "--show-allocations"]);
    (0..20).for_each(|_| python.ask(""));
    python.end();
    let run = memprof.wait();
    assert_contracts(&run);
    let process = run.last().process();
    assert!(process.exited());
    assert!(process.command().starts_with("python3"), "{}", process.command());
    assert_eq!(blocks_of_1000(run.last()), 20);
    assert!(process.stacks().iter().all(|stack| stack.0["frames"][0]["module"].is_string()));
    assert!(process.stacks().iter().any(|stack| stack.functions().iter().any(Option::is_some)));
}

#[test]
fn an_sqlite3_shell_gives_back_what_it_drops() {
    let mut sqlite3 = Worker::sqlite3();
    let mut memprof = attached(sqlite3.pid(), &["--interval", "1h"]);
    sqlite3.ask(
        "with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000)
         insert into t select x, printf('row %d', x) from c; select 'inserted';",
    );
    memprof.signal("USR1");
    let filled = memprof.next_report();
    assert_contract(&filled.0);
    sqlite3.ask("drop table t; vacuum; select 'dropped';");
    memprof.signal("USR1");
    let emptied = memprof.next_report();
    assert_contract(&emptied.0);
    assert!(filled.process().outstanding().0 > 5000 * 8, "{:?}", filled.process().outstanding());
    assert!(emptied.process().outstanding().0 < filled.process().outstanding().0 / 2);
    assert_balanced(&emptied, 0);
    assert_contracts(&memprof.interrupt());
    sqlite3.end();
}

/// What was allocated is freed or outstanding, in a target that does nothing meanwhile.
fn assert_balanced(report: &Report, index: usize) {
    let process = support::ProcessReport(&report.0["processes"][index]);
    let [allocations, allocated_bytes, frees, freed_bytes] = process.totals();
    assert_eq!(process.outstanding(), (allocated_bytes - freed_bytes, allocations - frees));
    assert_eq!(report.lost(), (0, 0, 0));
}

#[test]
fn several_processes_are_kept_apart_and_outlive_each_other() {
    let (mut first, mut second, mut third) = (Worker::python(LEAK), Worker::python(LEAK), Worker::sqlite3());
    let pids = [first.pid(), second.pid(), third.pid()].map(|pid| pid.to_string());
    let mut memprof =
        attach(first.pid(), &["--pid", &pids[1], "--pid", &pids[2], "--interval", "1h", "--show-allocations"]);
    memprof.ready_for(3);
    (0..3).for_each(|_| first.ask(""));
    (0..5).for_each(|_| second.ask(""));
    third.ask("select 1;");
    memprof.signal("USR1");
    let report = memprof.next_report();
    assert_contract(&report.0);
    let blocks_of = |report: &Report, pid: u32| {
        let processes = report.0["processes"].as_array().unwrap();
        let process = processes.iter().find(|process| process["pid"] == pid).unwrap();
        blocks_of_1000(&Report(serde_json::json!({ "processes": [process] })))
    };
    assert_eq!(blocks_of(&report, first.pid()), 3);
    assert_eq!(blocks_of(&report, second.pid()), 5);
    assert!(report.process_of(third.pid()).totals()[0] > 0);

    let gone = first.pid();
    first.end();
    second.ask("");
    wait_until("the end of the first is known", || {
        memprof.signal("USR1");
        memprof.next_report().process_of(gone).exited()
    });
    let remaining = second.pid();
    third.end();
    let run = memprof.interrupt();
    assert_contracts(&run);
    assert_eq!(blocks_of(run.last(), remaining), 6);
    assert!(!run.last().process_of(remaining).exited());
    second.end();
}

#[test]
fn memprof_ends_when_the_last_of_several_has() {
    let (first, second) = (Worker::python(LEAK), Worker::python(LEAK));
    let mut memprof = attach(first.pid(), &["--pid", &second.pid().to_string(), "--interval", "1h"]);
    memprof.ready_for(2);
    first.end();
    second.end();
    let run = memprof.wait();
    assert_contracts(&run);
    assert!(run.last().0["processes"].as_array().unwrap().iter().all(|process| process["exited"] == true));
}

/// Debian's redis brings jemalloc, whose `malloc` has glibc's name and meaning, and is probed like it.
#[test]
fn redis_holds_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).current_dir(folder.path());
    let redis = Target::start(command.stdout(Stdio::null()));
    wait_until("redis listens", || UnixStream::connect(&socket).is_ok());

    let mut memprof = attached(redis.pid(), &["--interval", "1h"]);
    let mut client = UnixStream::connect(&socket).unwrap();
    let mut ask = |request: String, answer: &str| {
        client.write_all(request.as_bytes()).unwrap();
        let mut received = vec![0; answer.len()];
        client.read_exact(&mut received).unwrap();
        assert_eq!(String::from_utf8(received).unwrap(), answer);
    };
    let value = "x".repeat(10_000);
    for key in 0..100 {
        ask(format!("SET key{key} {value}\r\n"), "+OK\r\n");
    }
    memprof.signal("USR1");
    let filled = memprof.next_report();
    assert_contract(&filled.0);
    assert!(filled.process().outstanding().0 >= 100 * 10_000, "{:?}", filled.process().outstanding());
    assert_eq!(filled.process().command(), "redis-server");
    let named = filled.process().stacks();
    assert!(named.iter().any(|stack| stack.functions().iter().flatten().any(|name| name.contains("zmalloc"))));

    ask("FLUSHALL SYNC\r\n".into(), "+OK\r\n");
    memprof.signal("USR1");
    let flushed = memprof.next_report();
    assert_contract(&flushed.0);
    assert!(flushed.process().outstanding().0 < 100 * 10_000 / 2, "{:?}", flushed.process().outstanding());
    assert_eq!(flushed.lost(), (0, 0, 0));
    assert_contracts(&memprof.interrupt());

    client_still_served(&socket);
}

fn client_still_served(socket: &Path) {
    let mut client = UnixStream::connect(socket).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16) -> std::io::Result<String> {
    let mut client = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn nginx_frees_what_a_request_took() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let configuration = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr;
         events {{}}
         http {{
             access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
             uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
             server {{ listen 127.0.0.1:{port}; return 200 served; }}
         }}",
        folder.path().display()
    );
    let path = folder.path().join("nginx.conf");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&path).args(["-e", "stderr"]);
    let nginx = Target::start(command.stderr(Stdio::null()));
    wait_until("nginx listens", || get(port).is_ok());

    let mut memprof = attached(nginx.pid(), &["--interval", "1h"]);
    for _ in 0..50 {
        assert!(get(port).unwrap().ends_with("served"));
    }
    memprof.signal("USR1");
    let report = memprof.next_report();
    assert_contract(&report.0);
    assert_balanced(&report, 0);
    let [allocations, ..] = report.process().totals();
    assert!(allocations >= 50, "{allocations}");
    assert!(report.process().outstanding().1 < 50, "{:?}", report.process().outstanding());
    assert_contracts(&memprof.interrupt());
    assert!(get(port).unwrap().ends_with("served"));
}

#[test]
fn pythons_http_server_is_named() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).env("PYTHONMALLOC", "malloc");
    let python = Target::start(command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("python listens", || get(port).is_ok());
    let mut memprof = attached(python.pid(), &["--interval", "1h"]);
    for _ in 0..5 {
        assert!(get(port).unwrap().starts_with("HTTP/1.0 200"));
    }
    memprof.signal("USR1");
    let report = memprof.next_report();
    assert_contract(&report.0);
    assert!(report.process().totals()[0] > 1000, "{:?}", report.process().totals());
    assert_eq!(report.lost(), (0, 0, 0));
    // What Python keeps between requests. It may free all of it at its end.
    assert!(report.process().stacks().iter().any(|stack| stack.functions().iter().any(Option::is_some)));
    signal(python.pid(), "INT");
    let run = memprof.wait();
    assert_contracts(&run);
    assert!(run.last().process().exited());
}

#[test]
fn text_reports_say_who_and_whether_anything_was_lost() {
    let mut python = Worker::python(LEAK);
    let mut memprof = memprof();
    memprof.args(["--pid", &python.pid().to_string(), "--interval", "200ms", "--count", "2", "--top", "1"]);
    let child = memprof.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    python.ask("");
    let text = String::from_utf8(output.stdout).unwrap();
    let headers: Vec<_> = text.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(headers.len(), 2, "{text}");
    for header in headers {
        assert!(header.contains(&format!("python3 ({}, root", python.pid())), "{header}");
        assert!(header.ends_with("nothing lost"), "{header}");
    }
    assert!(!text.contains('\u{1b}'));
    let diagnostics = String::from_utf8(output.stderr).unwrap();
    let expected = format!("memprof: attached to process {} (python3", python.pid());
    assert!(diagnostics.starts_with(&expected), "{diagnostics}");
    python.end();
}
