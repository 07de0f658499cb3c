//! Profiles written, read again, and damaged. Needs neither root nor BPF.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::{collections::BTreeSet, io::Write as _, path::PathBuf, time::Duration};

use jiff::tz::TimeZone;
use memprof::{
    model::{
        Ages, BlockGroup, BuildId, Cause, Course, EndedProcesses, Frame, Growth, GrowthOfProcess, GrowthOfStack,
        GrowthWarning, HistoryPoint, Identity, LiveAllocation, Losses, Memory, MemoryGrowth, Moment, Outstanding,
        Overhead, OverheadLimit, Peak, ProcessSnapshot, ProcessVerdict, Ranking, Report, ScaledFigures, ScaledProcess,
        Source, StackId, StackSnapshot, StackTotals, StandardError, Totals, Touched, Trend, Truncation, Warning,
        Watched,
    },
    pprof::{Limits, decode},
    render::{Format, Style},
    saved::{Saved, SavedError, read_bytes},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select as one_of,
    strategy::ValueTree as _,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

fn written(report: &Report, format: Format) -> Vec<u8> {
    let style = Style { colour: false, time_zone: TimeZone::UTC };
    let mut bytes = Vec::new();
    format.write(report, &style, &mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Report {
    match read_bytes(bytes, &Limits::default()).unwrap() {
        Saved::Report(report) => report,
        Saved::Log(_) => panic!("this is no log"),
    }
}

fn read_again(report: &Report) -> Report {
    read(&written(report, Format::Pprof))
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0..u64::MAX >> 2).prop_map(Duration::from_nanos)]
}

fn figure() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000_u64, 0..1_u64 << 40]
}

fn outstanding() -> impl Strategy<Value = Outstanding> {
    (figure(), figure()).prop_map(|(bytes, allocations)| Outstanding { bytes, allocations })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,3}", "operator\"\"_µ", "[a-z]::\\PC{1,9}", Just("main".to_owned())]
}

fn source() -> impl Strategy<Value = Source> {
    let directory = option::of(one_of(vec!["/a", "/a/b", "/c", "rel", "/a/b/"]));
    let file = one_of(vec!["x.c", "b/x.c", "../x.c", "/usr/include/x.h", "größe.c"]);
    (directory, file, option::of(1..u32::MAX)).prop_map(|(directory, file, line)| Source {
        directory: directory.map(PathBuf::from),
        file: file.into(),
        line,
    })
}

fn build_id() -> impl Strategy<Value = BuildId> {
    vec(any::<u8>(), 1..4).prop_map(|bytes| BuildId(bytes.into()))
}

/// The frames at one place: what was inlined there, and the function.
fn place() -> impl Strategy<Value = Vec<Frame>> {
    // Where address and offset are the same, there is no file.
    let position = option::of((1..1_u64 << 40).prop_map(|offset| offset + 1));
    let module =
        option::of((one_of(vec!["/bin/a", "/lib/b.so", "[vdso]", "/tmp/ö"]), option::of(build_id()), position));
    let names = vec((option::of(name()), option::of(source())), 1..4);
    (module, (1_u64 << 41)..1 << 47, names).prop_map(|(module, address, names)| {
        let last = names.len() - 1;
        let frame = |(index, (function, source)): (usize, (Option<String>, Option<Source>))| Frame {
            function,
            source,
            module: module.as_ref().map(|(path, ..)| PathBuf::from(path)),
            build_id: module.as_ref().and_then(|(_, id, _)| id.clone()),
            offset_in_file: module.as_ref().and_then(|(.., offset)| *offset),
            address,
            inlined: index < last,
        };
        names.into_iter().enumerate().map(frame).collect()
    })
}

fn block_group() -> impl Strategy<Value = BlockGroup> {
    (figure(), duration(), outstanding()).prop_map(|(size, age, outstanding)| BlockGroup { size, age, outstanding })
}

fn trend() -> impl Strategy<Value = Trend> {
    let course = one_of(vec![Course::Grows, Course::Plateaued, Course::OneOff, Course::Churn, Course::TooShort]);
    (course, any::<f64>(), duration(), any::<i64>(), figure()).prop_map(|(course, rate, span, change_bytes, lowest)| {
        let bytes_per_second = if rate.is_finite() { rate } else { 0.1 };
        Trend { course, bytes_per_second, points: 3, span, change_bytes, lowest, highest: lowest + 7, quiet: span / 3 }
    })
}

fn stack() -> impl Strategy<Value = StackSnapshot<Frame>> {
    let held = (outstanding(), outstanding(), figure(), figure(), any::<i64>());
    let frames = vec(place(), 0..5).prop_map(|places| places.concat());
    let truncated = option::of(one_of(vec![Truncation::TooDeep, Truncation::NoTable, Truncation::Unreadable]));
    let blocks = (vec((any::<u64>(), figure(), duration()), 0..3), vec(block_group(), 0..4));
    (any::<u64>(), held, trend(), frames, truncated, blocks, 0.0..1e9_f64).prop_map(
        |(id, (outstanding, at_peak, made, bytes, growth_bytes), trend, frames, truncated, (blocks, groups), error)| {
            let block = |(address, size, age)| LiveAllocation { address, size, age };
            StackSnapshot {
                id: StackId(id),
                outstanding,
                standard_error: StandardError { bytes: error, allocations: error / 3.0 },
                scaled: None,
                growth_bytes,
                totals: StackTotals { allocations: made, allocated_bytes: bytes, temporary: Some(made / 2) },
                at_peak,
                ages: Ages { youngest: trend.quiet, median: trend.quiet, oldest: trend.span },
                trend,
                frames,
                truncated,
                allocations: blocks.into_iter().map(block).collect(),
                groups,
            }
        },
    )
}

fn process() -> impl Strategy<Value = ProcessSnapshot<Frame>> {
    let figures = (outstanding(), outstanding(), figure(), any::<i64>(), duration());
    (0..4_u32, name(), option::of(name()), any::<bool>(), figures, trend(), vec(stack(), 0..6)).prop_map(
        |(pid, command, user, exited, (outstanding, peak, allocations, growth_bytes, elapsed), trend, mut stacks)| {
            let mut names = BTreeSet::new();
            stacks.retain(|stack| names.insert(stack.id));
            ProcessSnapshot {
                pid,
                command,
                identity: Identity { user, ..Identity::default() },
                exited,
                outstanding,
                standard_error: StandardError::default(),
                scaled: None,
                overhead: None,
                verdict: ProcessVerdict { trend, memory: None, cause: Cause::Heap },
                growth_bytes,
                peak: Peak { outstanding: peak, elapsed },
                history: vec![HistoryPoint { elapsed, bytes: outstanding.bytes }],
                totals: Totals { allocations, allocated_bytes: allocations * 3, ..Totals::default() },
                selected_stacks: stacks.len() + 1,
                suppressed: None,
                truncated_stacks: 0,
                stacks,
            }
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let losses = (0..3_u64).prop_map(|frees_ring_full| Losses { frees_ring_full, ..Losses::default() });
    let warnings = vec("\\PC{0,20}".prop_map(Warning::Recorded), 0..3);
    let sampled = option::of(2..1_u64 << 20);
    (vec(process(), 0..4), losses, warnings, sampled, duration(), 0..4_i64).prop_map(
        |(processes, losses, warnings, sample_bytes, elapsed, seconds)| Report {
            time: jiff::Timestamp::constant(1_767_261_787 + seconds, 250_000_001),
            elapsed,
            since_previous: elapsed / 2,
            sample_bytes,
            max_overhead: None,
            losses,
            warnings,
            moment: Moment::Now,
            ranking: None,
            processes,
            ended: EndedProcesses { processes: seconds.unsigned_abs(), ..EndedProcesses::default() },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_is_written_is_what_is_read(report in report()) {
        prop_assert_eq!(&read_again(&report), &report);
    }

    /// Sums are those of the processes, whatever is shown of them.
    #[test]
    fn sums_are_right(report in report()) {
        let profile = decode(&written(&report, Format::Pprof), &Limits::default()).unwrap();
        let sum = |place: usize| profile.sample.iter().map(|sample| sample.value[place]).sum::<i64>();
        let stacks = || report.processes.iter().flat_map(|process| &process.stacks);
        let held = |stack: &StackSnapshot<Frame>| if stack.groups.is_empty() {
            stack.outstanding.bytes
        } else {
            stack.groups.iter().map(|group| group.outstanding.bytes).sum()
        };
        prop_assert_eq!(sum(3), stacks().map(held).sum::<u64>().cast_signed());
        let made = report.processes.iter().map(|process| {
            let known = process.stacks.iter().map(|stack| stack.totals.allocations).sum::<u64>();
            process.totals.allocations.max(known)
        });
        prop_assert_eq!(sum(0), made.sum::<u64>().cast_signed());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(&bytes, &Limits::default());
        let _ = read_bytes(&compressed(&bytes), &Limits::default());
    }
}

/// What reports by chance do not have.
#[test]
fn what_watching_and_windows_have_shown_is_read_again() {
    let mut report = samples(9).into_iter().find(|report| !report.processes.is_empty()).unwrap();
    let memory = Memory { anonymous: 1, swapped: 2, file: 3, shared: 4 };
    let touched = Touched { samples: 5, period: 17, huge_pages: 1 };
    let place = vec![Frame { function: Some("grow".to_owned()), module: Some("/bin/é".into()), ..Frame::default() }];
    let grown = GrowthOfStack { id: StackId(9), touched, frames: place, truncated: Some(Truncation::NoTable) };
    let growth = Growth {
        time: report.time,
        elapsed: Duration::from_millis(5),
        period: 17,
        losses: Losses::default(),
        missed: 1,
        warnings: vec![GrowthWarning::Recorded("a doubt".to_owned())],
        processes: vec![GrowthOfProcess {
            pid: 3,
            command: "grower".to_owned(),
            exited: false,
            touched,
            only_read: touched,
            without_stack: touched,
            anonymous: None,
            stacks: vec![grown],
            all_stacks: 1,
            truncated_stacks: 1,
        }],
        watched: 1,
    };
    let trend = report.processes[0].verdict.trend;
    let watched = Watched { pid: 3, command: "grower".to_owned(), identity: Identity::default(), memory, trend };
    report.ranking = Some(Ranking {
        elapsed: Duration::from_secs(30),
        processes: 5,
        growing: 1,
        suspects: vec![watched.clone()],
        others: vec![watched],
        growth: Some(growth),
    });
    report.max_overhead = OverheadLimit::of_share(0.05);
    let figures = ScaledFigures { outstanding: Outstanding { bytes: 7, allocations: 1 }, standard_error: None };
    let process = &mut report.processes[0];
    process.scaled = Some(ScaledProcess { windows: 3, figures, ..ScaledProcess::default() });
    process.overhead = Some(Overhead { calls: 7, ..Overhead::default() });
    process.verdict.memory =
        Some(MemoryGrowth { now: memory, since: Duration::ZERO, anonymous: -1, file: 2, shared: -3, tracked: 4 });
    process.stacks.iter_mut().for_each(|stack| stack.scaled = Some(figures));
    assert_eq!(read_again(&report), report);
}

/// A warning that was recorded says the same, and no more is known of it.
#[test]
fn warnings_are_read_as_what_they_say() {
    let mut report = samples(1).remove(0);
    report.warnings = vec![Warning::NurseryFull(5), Warning::MappingsLost(1)];
    let said = |report: &Report| report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(said(&read_again(&report)), said(&report));
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn decompressed(bytes: &[u8]) -> Vec<u8> {
    let mut decompressed = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut decompressed).unwrap();
    decompressed
}

/// Reports by chance, the same in each run.
fn samples(count: usize) -> Vec<Report> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let strategy = report();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Files that were hard to read once, and profiles of other tools, beside this file.
fn corpus() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/profiles");
    std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// In place of a fuzzer, which needs a nightly compiler.
#[test]
fn damaged_files_are_read_or_refused() {
    let written_ones = samples(8).iter().map(|report| written(report, Format::Pprof)).collect::<Vec<_>>();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below.max(1) as u64) as usize
    };
    let limits = Limits { decompressed: 1 << 20, messages: 8 << 20, frames: 8 << 20 };
    for whole in written_ones.iter().chain(&corpus()) {
        let plain = if whole.starts_with(&[0x1f, 0x8b]) { decompressed(whole) } else { whole.clone() };
        for _ in 0..400 {
            let mut bytes = plain.clone();
            for _ in 0..=next(4) {
                match next(3) {
                    0 => bytes.truncate(next(bytes.len())),
                    1 if !bytes.is_empty() => {
                        let place = next(bytes.len());
                        bytes[place] ^= 1 << next(8);
                    }
                    _ if !bytes.is_empty() => {
                        let (from, to) = (next(bytes.len()), next(bytes.len()));
                        let piece = bytes[from..bytes.len().min(from + 1 + next(40))].to_vec();
                        bytes.splice(to..to, piece);
                    }
                    _ => {}
                }
            }
            let _ = read_bytes(&bytes, &limits);
        }
        for length in 0..whole.len().min(400) {
            let _ = read_bytes(&whole[..length], &limits);
        }
    }
}

#[test]
fn what_would_take_too_much_memory_is_refused() {
    let limits = Limits { decompressed: 1 << 20, messages: 1 << 20, frames: 1 << 20 };
    let bomb = compressed(&vec![0; 100 << 20]);
    assert!(bomb.len() < 1 << 20);
    let refusal = |bytes: &[u8]| read_bytes(bytes, &limits).unwrap_err().to_string();
    assert_eq!(refusal(&bomb), "it would take more than 1.0 MiB of memory");
    // Two bytes each, and a location in memory takes many times that.
    let messages = [0x22, 0x00].repeat(400_000);
    assert_eq!(refusal(&messages), "it would take more than 1.0 MiB of memory");
    assert_eq!(refusal(&compressed(&messages)), "it would take more than 1.0 MiB of memory");
}

/// One location with many lines, and many samples of very many such locations: small on disk, and endless as stacks.
#[test]
fn stacks_that_are_too_much_together_are_refused() {
    let mut report = samples(1).remove(0);
    let frame = |inlined| Frame { function: Some("x".repeat(1000)), address: 5, inlined, ..Frame::default() };
    let mut process =
        samples(40).into_iter().flat_map(|report| report.processes).find(|process| !process.stacks.is_empty());
    let process = process.as_mut().unwrap();
    process.stacks.truncate(1);
    process.stacks[0].frames = vec![[vec![frame(true); 99], vec![frame(false)]].concat(); 50].concat();
    report.processes = vec![process.clone()];
    let bytes = written(&report, Format::Pprof);
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    let limits = Limits { frames: 1 << 20, ..Limits::default() };
    assert_eq!(read_bytes(&bytes, &limits).unwrap_err().to_string(), "it would take more than 1.0 MiB of memory");
    assert_eq!(read(&bytes), report);
}

#[test]
fn what_is_no_profile_is_called_so() {
    let refusal = |bytes: &[u8]| read_bytes(bytes, &Limits::default()).unwrap_err();
    assert!(matches!(refusal(b"#include <stdio.h>\n"), SavedError::Unknown));
    assert!(matches!(refusal(b""), SavedError::Unknown));
    assert!(refusal(&[0xff; 20]).to_string().starts_with("it is no profile: "));
    assert!(refusal(&[0x1f, 0x8b, 1, 2, 3]).to_string().starts_with("it is damaged, or not compressed by gzip: "));
}

fn with_comment(report: &Report, change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut profile = decode(&written(report, Format::Pprof), &Limits::default()).unwrap();
    for index in &profile.comment {
        let text = &mut profile.string_table[*index as usize];
        *text = change(std::str::from_utf8(text).unwrap()).into_bytes();
    }
    let mut bytes = Vec::new();
    memprof::pprof::encode(&profile, &mut bytes).unwrap();
    bytes
}

#[test]
fn notes_of_a_newer_memprof_are_refused_and_damaged_ones_too() {
    let report = samples(1).remove(0);
    let limits = Limits::default();
    let newer = with_comment(&report, |comment| comment.replace("# memprof.profile/1", "# memprof.profile/2"));
    assert_eq!(
        read_bytes(&newer, &limits).unwrap_err().to_string(),
        "a newer memprof has written it (its notes are memprof.profile/2, and this memprof knows memprof.profile/1)"
    );
    let damaged = with_comment(&report, |comment| comment.replace("\"report\"", "\"rapport\""));
    assert!(read_bytes(&damaged, &limits).unwrap_err().to_string().starts_with("memprof's notes in it are damaged: "));
}

/// Profiles outlive the memprof that has written them: this one is of `xtask/demo/server.c`, with the first version of the notes.
#[test]
fn a_profile_that_was_saved_long_ago_is_read() {
    let report = read(include_bytes!("profiles/memprof-profile-1.pb.gz"));
    assert_eq!(report.warnings, []);
    let process = &report.processes[0];
    assert_eq!((process.command.as_str(), process.outstanding.bytes), ("server", 2_198_452));
    assert_eq!(
        process.totals,
        Totals { allocations: 732, allocated_bytes: 2_717_075, frees: 436, freed_bytes: 518_623 }
    );
    let held =
        process.stacks.iter().map(|stack| (stack.frames[0].function.as_deref().unwrap(), stack.outstanding.bytes));
    let expected = [
        ("render_template", 1_474_560),
        ("load_configuration", 491_520),
        ("copy_text", 196_608),
        ("copy_text", 24_576),
        ("copy_text", 6348),
        ("copy_text", 3688),
        ("open_session", 1152),
        ("parse_headers", 0),
    ];
    assert_eq!(held.collect::<Vec<_>>(), expected);
    for stack in &process.stacks {
        assert_eq!(stack.groups.iter().map(|group| group.outstanding.bytes).sum::<u64>(), stack.outstanding.bytes);
    }
}

/// As `pprof -proto -focus` leaves it.
#[test]
fn a_profile_that_another_tool_has_cut_down_is_read_without_its_notes() {
    let report =
        samples(20).into_iter().find(|report| report.processes.len() == 1 && !report.processes[0].stacks.is_empty());
    let report = report.unwrap();
    let mut profile = decode(&written(&report, Format::Pprof), &Limits::default()).unwrap();
    profile.sample.retain(|sample| sample.value[3] > 0);
    profile.sample[0].value[3] += 1;
    let mut bytes = Vec::new();
    memprof::pprof::encode(&profile, &mut bytes).unwrap();
    let read = read(&bytes);
    assert_eq!(read.warnings, [Warning::Foreign, Warning::Rewritten]);
    let bytes = profile.sample.iter().map(|sample| sample.value[3]).sum::<i64>();
    assert_eq!(read.processes[0].outstanding.bytes, bytes.unsigned_abs());
}
