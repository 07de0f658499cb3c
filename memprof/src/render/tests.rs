//! Each format on reports made by hand, against snapshots.

use std::{error::Error, path::PathBuf, time::Duration};

use insta::assert_snapshot;
use jiff::tz::{TimeZone, offset};

use super::{Format, Style, growth_tests};
use crate::model::{
    Ages, BuildId, Cause, Course, EndedProcesses, Frame, Identity, LeftOut, LiveAllocation, Losses, Memory,
    MemoryGrowth, Moment, Outstanding, Overhead, OverheadLimit, Peak, ProcessSnapshot, ProcessVerdict, Ranking, Report,
    ScaledFigures, ScaledProcess, Source, StackId, StackSnapshot, StackTotals, StandardError, Suppressed, SuppressedBy,
    Totals, Trend, Warning, Watched,
};

mod pages;
mod profiles;

type Outcome = Result<(), Box<dyn Error>>;

fn render(format: Format, report: &Report, colour: bool) -> Result<String, Box<dyn Error>> {
    let style = Style { colour, time_zone: TimeZone::fixed(offset(2)) };
    let mut output = Vec::new();
    format.write(report, &style, &mut output)?;
    Ok(String::from_utf8(output)?)
}

fn plain(report: &Report) -> Result<String, Box<dyn Error>> {
    render(Format::Text, report, false)
}

/// The one-line object with each nested object on a line of its own, so that a difference can be read.
fn json(report: &Report) -> Result<String, Box<dyn Error>> {
    let line = render(Format::Json, report, false)?;
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
    Ok(line.replace("[{", "[\n{").replace("},{", "},\n{"))
}

fn report(processes: Vec<ProcessSnapshot<Frame>>) -> Report {
    Report {
        elapsed: Duration::from_millis(312_500),
        since_previous: Duration::from_millis(5003),
        processes,
        ..Report::empty(jiff::Timestamp::constant(1_767_261_787, 250_000_000))
    }
}

fn trend(course: Course, bytes_per_second: f64) -> Trend {
    Trend {
        course,
        bytes_per_second,
        points: 40,
        span: Duration::from_secs(300),
        change_bytes: 3_145_728,
        lowest: 0,
        highest: 32_505_856,
        quiet: Duration::from_secs(18),
    }
}

/// Of what grows for five minutes, and is the heap.
fn verdict() -> ProcessVerdict {
    let now = Memory { anonymous: 60_000_000, file: 8_000_000, shared: 4096, swapped: 0 };
    let growth = MemoryGrowth {
        now,
        since: Duration::from_secs(300),
        anonymous: 50_331_648,
        file: 4096,
        shared: 0,
        tracked: 49_283_072,
    };
    ProcessVerdict { trend: trend(Course::Grows, 164_000.0), memory: Some(growth), cause: Cause::Heap }
}

fn process(stacks: Vec<StackSnapshot<Frame>>) -> ProcessSnapshot<Frame> {
    ProcessSnapshot {
        identity: Identity { user: Some("redis".to_owned()), ..Identity::default() },
        outstanding: Outstanding { bytes: 50_541_363, allocations: 91_204 },
        verdict: verdict(),
        growth_bytes: 3_250_586,
        peak: Peak {
            outstanding: Outstanding { bytes: 51_000_000, allocations: 95_000 },
            elapsed: Duration::from_secs(200),
        },
        totals: Totals {
            allocations: 3_204_113,
            allocated_bytes: 1_288_490_189,
            frees: 3_112_909,
            freed_bytes: 1_237_948_826,
        },
        selected_stacks: stacks.len(),
        stacks,
        ..ProcessSnapshot::empty(1234, "redis-server".to_owned())
    }
}

pub(super) fn stack(id: u64, bytes: u64, frames: Vec<Frame>) -> StackSnapshot<Frame> {
    StackSnapshot {
        outstanding: Outstanding { bytes, allocations: 1984 },
        growth_bytes: 3_145_728,
        totals: StackTotals { allocations: 12_000, allocated_bytes: 3_000_000, temporary: Some(10_000) },
        at_peak: Outstanding { bytes: 32_000_000, allocations: 2_000 },
        ages: Ages {
            youngest: Duration::from_millis(3),
            median: Duration::from_secs(126),
            oldest: Duration::from_secs(252),
        },
        trend: trend(Course::Grows, 10_484.0),
        ..StackSnapshot::empty(StackId(id), frames)
    }
}

pub(super) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        source: Some(Source { directory: Some("/build/redis/src".into()), file: file.into(), line: Some(line) }),
        ..frame_without_source(None)
    }
}

fn frame_without_source(function: Option<&str>) -> Frame {
    Frame {
        function: function.map(str::to_owned),
        source: None,
        module: Some(PathBuf::from("/usr/bin/redis-server")),
        build_id: Some(BuildId(Box::new([0xab, 0x01, 0xff]))),
        offset_in_file: Some(0x1189),
        address: 0x5555_5555_5189,
        inlined: false,
    }
}

/// Frames of every kind, a stack that was lost, and one that shrinks.
fn full_report() -> Report {
    let inlined = Frame { inlined: true, ..frame("_sdsnewlen", "sds.c", 112) };
    let mut without_line = frame("createObject", "object.c", 1);
    without_line.source.iter_mut().for_each(|source| source.line = None);
    let long = frame(&format!("std::vector<{}>::push_back", "std::string, ".repeat(6)), "vector.h", 9);
    let nowhere = Frame { address: 0x7fff_1234, ..Frame::default() };
    let frames = vec![
        inlined,
        frame("sdsnewlen", "sds.c", 180),
        without_line,
        long,
        frame_without_source(Some("main")),
        frame_without_source(None),
        nowhere,
    ];
    let shrinking = StackSnapshot {
        growth_bytes: -72,
        trend: trend(Course::Shrinks, -14.4),
        ..stack(3, 456, vec![frame("main", "a.c", 12)])
    };
    let lost = StackSnapshot {
        growth_bytes: 0,
        trend: trend(Course::OneOff, 0.0),
        ..stack(StackId::UNKNOWN.0, 1024, Vec::new())
    };
    let stacks = vec![stack(0xfeed_beef_0000_0001, 32_505_856, frames), lost, shrinking];
    report(vec![ProcessSnapshot { selected_stacks: 1017, ..process(stacks) }])
}

fn report_with_losses() -> Report {
    let losses = Losses { nursery_full: 1012, frees_ring_full: 3, stacks_unreadable: 1, ..Losses::default() };
    let warnings = Warning::of_losses(&losses, false).collect();
    Report { losses, warnings, ..report(vec![process(vec![stack(1, 456, vec![frame("main", "a.c", 12)])])]) }
}

fn sampled_report() -> Report {
    let standard_error = StandardError { bytes: 2_202_009.6, allocations: 40.25 };
    let stack = StackSnapshot { standard_error, ..stack(1, 32_505_856, vec![frame("main", "a.c", 12)]) };
    let process = ProcessSnapshot { standard_error, ..process(vec![stack]) };
    Report { sample_bytes: Some(512 << 10), ..report(vec![process]) }
}

/// Windows of the time were observed, and the process has cost something.
fn windowed_report() -> Report {
    let figures = |bytes, allocations, error| ScaledFigures {
        outstanding: Outstanding { bytes, allocations },
        standard_error: Some(error),
    };
    let error = StandardError { bytes: 12_345.6, allocations: 78.9 };
    let stack_scaled = Some(figures(90_000_000, 5500, error));
    let scaled = ScaledProcess {
        windows: 31,
        observed: Duration::from_millis(101_500),
        elapsed: Duration::from_millis(312_500),
        figures: figures(151_000_000, 270_000, error),
        totals: Totals {
            allocations: 9_600_000,
            allocated_bytes: 3_900_000_000,
            frees: 9_330_000,
            freed_bytes: 3_749_000_000,
        },
        totals_standard_error: None,
    };
    let overhead =
        Overhead { cost: Duration::from_millis(4321), processor_time: Duration::from_secs(100), calls: 4_000_000 };
    let stack = StackSnapshot { scaled: stack_scaled, ..stack(7, 32_505_856, vec![frame("main", "a.c", 12)]) };
    let process = ProcessSnapshot { scaled: Some(scaled), overhead: Some(overhead), ..process(vec![stack]) };
    Report { max_overhead: OverheadLimit::of_share(0.05), ..report(vec![process]) }
}

fn watched(pid: u32, command: &str, course: Course, rate: f64, change: i64) -> Watched {
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let trend = Trend {
        course,
        bytes_per_second: rate,
        points: 60,
        span: Duration::from_millis(29_800),
        change_bytes: change,
        lowest: 41_000_000,
        highest: 47_340_000,
        quiet: Duration::ZERO,
    };
    Watched {
        pid,
        command: command.to_owned(),
        identity: Identity {
            user: Some("redis".to_owned()),
            container: (pid > 1000).then(|| id.to_owned()),
            unit: Some(if pid > 1000 { format!("docker-{id}.scope") } else { "cron.service".to_owned() }),
        },
        memory: Memory { anonymous: 47_330_000, swapped: 4096, file: 9_000_000, shared: 0 },
        trend,
    }
}

fn ranking() -> Ranking {
    Ranking {
        elapsed: Duration::from_millis(30_050),
        processes: 1212,
        growing: 2,
        suspects: vec![
            watched(1234, "redis-server", Course::Grows, 1_258_291.2, 37_700_000),
            watched(77, "cron\u{1b}[2J", Course::Grows, 102.4, 3000),
        ],
        others: vec![watched(4_000_000, "java", Course::Plateaued, 0.0, 6_340_000)],
        growth: Some(growth_tests::report(17, vec![growth_tests::process(17)])),
    }
}

fn report_of_a_sweep() -> Report {
    let warnings = vec![Warning::LeftOut { reason: LeftOut::NoAllocator, count: 1, names: "cron (77)".to_owned() }];
    let process = process(vec![stack(1, 32_505_856, vec![frame("main", "a.c", 12)])]);
    Report { ranking: Some(ranking()), warnings, ..report(vec![process]) }
}

#[test]
fn text_of_a_sweep() -> Outcome {
    let nobody = Ranking { growing: 0, suspects: Vec::new(), others: Vec::new(), ..ranking() };
    let nothing = Report { ranking: Some(nobody), ..report(Vec::new()) };
    assert_snapshot!(plain(&report_of_a_sweep())? + &plain(&nothing)?);
    Ok(())
}

#[test]
fn of_many_processes_those_that_hold_nothing_are_listed() -> Outcome {
    let idle = |pid| ProcessSnapshot {
        pid,
        command: "idle".to_owned(),
        outstanding: Outstanding::default(),
        growth_bytes: 0,
        ..process(Vec::new())
    };
    let with_idle = |number| report([process(Vec::new())].into_iter().chain((1..=number).map(idle)).collect());
    assert_eq!(plain(&with_idle(7))?.matches("idle (").count(), 7);
    let many = plain(&with_idle(8))?;
    let names: Vec<_> = (1..=8).map(|pid| format!("idle ({pid})")).collect();
    assert!(
        many.ends_with(&format!("8 processes hold nothing and did not grow  nothing lost: {}\n\n", names.join(", "))),
        "{many}"
    );
    assert_eq!(many.matches(")  outstanding").count(), 1, "{many}");
    Ok(())
}

#[test]
fn json_of_a_sweep() -> Outcome {
    assert_snapshot!(json(&report_of_a_sweep())?);
    Ok(())
}

/// Of the stacks of one process some are suppressed, of the other all, and of the third none.
fn report_with_suppressions() -> Report {
    let by = |pattern: &str, stacks, bytes, allocations| SuppressedBy {
        pattern: pattern.to_owned(),
        stacks,
        outstanding: Outstanding { bytes, allocations },
    };
    let suppressed = Suppressed {
        stacks: 3,
        outstanding: Outstanding { bytes: 12_288, allocations: 1005 },
        grows: false,
        by_pattern: vec![by("^cache_*$", 2, 12_000, 1004), by("libpool.so", 1, 288, 1)],
    };
    let with = |suppressed, stacks| ProcessSnapshot { suppressed: Some(suppressed), ..process(stacks) };
    report(vec![
        with(suppressed.clone(), vec![stack(1, 456, vec![frame("main", "a.c", 12)])]),
        with(suppressed, Vec::new()),
        with(Suppressed::default(), Vec::new()),
    ])
}

#[test]
fn text_with_suppressions() -> Outcome {
    assert_snapshot!(plain(&report_with_suppressions())?);
    Ok(())
}

#[test]
fn json_with_suppressions() -> Outcome {
    assert_snapshot!(json(&report_with_suppressions())?);
    Ok(())
}

#[test]
fn text_of_windows() -> Outcome {
    assert_snapshot!(plain(&windowed_report())?);
    Ok(())
}

#[test]
fn json_of_windows() -> Outcome {
    assert_snapshot!(json(&windowed_report())?);
    Ok(())
}

fn report_with_allocations() -> Report {
    let block =
        |address, size, milliseconds| LiveAllocation { address, size, age: Duration::from_millis(milliseconds) };
    let allocations = vec![block(0x5555_5556_1000, 72, 252_000), block(0x7f12_3456_7890, 1_048_576, 1500)];
    let stack = StackSnapshot { allocations, ..stack(1, 1_048_648, vec![frame("main", "a.c", 12)]) };
    report(vec![process(vec![stack])])
}

#[test]
fn text_shows_every_kind_of_frame_and_stack() -> Outcome {
    assert_snapshot!(plain(&full_report())?);
    Ok(())
}

#[test]
fn text_of_a_sample() -> Outcome {
    assert_snapshot!(plain(&sampled_report())?);
    Ok(())
}

#[test]
fn json_of_a_sample() -> Outcome {
    assert_snapshot!(json(&sampled_report())?);
    Ok(())
}

#[test]
fn text_in_colour() -> Outcome {
    let shown = render(Format::Text, &full_report(), true)?;
    assert_snapshot!(shown.replace('\u{1b}', "␛"));
    Ok(())
}

#[test]
fn colour_changes_nothing_else() -> Outcome {
    let mut report = full_report();
    report.losses = report_with_losses().losses;
    report.warnings = report_with_losses().warnings;
    let coloured = render(Format::Text, &report, true)?;
    let codes = coloured.split('\u{1b}').skip(1).map(|rest| &rest[..=rest.find('m').unwrap_or(0)]);
    let stripped = codes.fold(coloured.clone(), |text, code| text.replacen(&format!("\u{1b}{code}"), "", 1));
    assert_eq!(stripped, plain(&report)?);
    Ok(())
}

#[test]
fn text_with_losses() -> Outcome {
    assert_snapshot!(plain(&report_with_losses())?);
    Ok(())
}

#[test]
fn text_of_several_processes() -> Outcome {
    let quiet = ProcessSnapshot {
        pid: 1,
        command: "init".to_owned(),
        outstanding: Outstanding { bytes: 456, allocations: 1 },
        growth_bytes: 0,
        ..process(Vec::new())
    };
    let exited = ProcessSnapshot { exited: true, growth_bytes: -12, ..full_report().processes.remove(0) };
    assert_snapshot!(plain(&Report { processes: vec![exited, quiet], ..report_with_losses() })?);
    Ok(())
}

#[test]
fn text_with_listed_allocations() -> Outcome {
    assert_snapshot!(plain(&report_with_allocations())?);
    Ok(())
}

#[test]
fn text_of_an_empty_report_and_an_empty_heap() -> Outcome {
    let ProcessSnapshot { pid, command, identity, .. } = process(Vec::new());
    let idle = ProcessSnapshot { identity, ..ProcessSnapshot::empty(pid, command) };
    assert_snapshot!(plain(&report(Vec::new()))? + &plain(&report(vec![idle]))?);
    Ok(())
}

/// Nothing is known of ages nor of growth; where all is freed, a log says so.
#[test]
fn text_of_a_log() -> Outcome {
    let held = |bytes, allocations| Outstanding { bytes, allocations };
    let stack = |id, outstanding, line, allocations| StackSnapshot {
        outstanding,
        totals: StackTotals { allocations: 3, allocated_bytes: 100, temporary: None },
        allocations,
        ..StackSnapshot::empty(StackId(id), vec![frame("grow", "a.c", line)])
    };
    let block = LiveAllocation { address: 0x5555_5555_92a0, size: 100, age: Duration::ZERO };
    let stacks = vec![stack(1, held(100, 3), 3, Vec::new()), stack(2, held(100, 1), 9, vec![block])];
    let leaky = ProcessSnapshot {
        outstanding: held(200, 4),
        totals: Totals { allocations: 6, allocated_bytes: 200, frees: 2, freed_bytes: 0 },
        peak: Peak { outstanding: held(300, 5), elapsed: Duration::ZERO },
        selected_stacks: 4,
        stacks,
        ..ProcessSnapshot::empty(0, "a.out".to_owned())
    };
    let clean = ProcessSnapshot::empty(0, "b.out".to_owned());
    let doubt = Warning::LogFreesUnknown { count: 1, lines: "line 2 (0x10)".to_owned() };
    let warnings = vec![Warning::Log, doubt];
    assert_snapshot!(plain(&Report { warnings, ..report(vec![leaky, clean]) })?);
    Ok(())
}

#[test]
fn text_gives_the_terminal_no_orders() -> Outcome {
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}";
    let in_module = Frame { module: Some(hostile.into()), ..frame_without_source(Some(hostile)) };
    let frames = vec![in_module, frame("f", hostile, 1)];
    let process = ProcessSnapshot { command: hostile.to_owned(), ..process(vec![stack(1, 1, frames)]) };
    let warnings = vec![Warning::NoAllocator { pid: 1, command: hostile.to_owned() }];
    let text = plain(&Report { warnings, ..report(vec![process]) })?;
    assert_eq!(text.chars().find(|character| character.is_control() && *character != '\n'), None);
    assert_eq!(text.lines().count(), 10);
    assert_snapshot!(text);
    Ok(())
}

#[test]
fn json_has_every_field() -> Outcome {
    assert_snapshot!(json(&full_report())?);
    Ok(())
}

#[test]
fn json_with_losses() -> Outcome {
    assert_snapshot!(json(&report_with_losses())?);
    Ok(())
}

#[test]
fn json_with_listed_allocations() -> Outcome {
    assert_snapshot!(json(&report_with_allocations())?);
    Ok(())
}

#[test]
fn json_of_an_empty_report() -> Outcome {
    assert_snapshot!(render(Format::Json, &report(Vec::new()), false)?);
    Ok(())
}

#[test]
fn followed_processes_that_have_ended_are_sums() -> Outcome {
    let outstanding = Outstanding { bytes: 9_440, allocations: 118 };
    let totals = Totals { allocations: 80_411, allocated_bytes: 5_300_111, frees: 80_293, freed_bytes: 5_290_671 };
    let ended = EndedProcesses { processes: 1_412, outstanding, totals };
    let report = Report { ended, ..report(vec![process(Vec::new())]) };
    assert_snapshot!(plain(&report)? + &json(&report)?);
    Ok(())
}
