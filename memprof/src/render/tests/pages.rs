//! The formats that are pictures or pages: as reviewed, well-formed, and whatever names there are.

use super::*;
use crate::{
    model::{Difference, DifferenceWarning, Held, HistoryPoint, ProcessDifference, Side, StackDifference},
    render::folded::folded,
};

const HOSTILE: &str = "</script><script>alert(1)</script>\" onclick='x' &amp;<!-- \u{1b}[2J\r\n\u{202e}; 12";

fn folded_text(report: &Report) -> Result<String, Box<dyn Error>> {
    render(Format::Folded, report, false)
}

/// Two processes, a stack that is there twice, one that was lost, code of every kind.
fn report_of_two() -> Report {
    let jit = Frame { module: Some("[JIT]".into()), ..frame_without_source(Some("LazyCompile:~f a.js:1")) };
    let inlined = Frame { inlined: true, ..frame("helper", "a.c", 3) };
    let frames = vec![inlined, jit, frame_without_source(None), frame("main", "a.c", 12)];
    let stacks = vec![stack(1, 1000, frames.clone()), stack(2, 24, frames), stack(3, 0, vec![frame("main", "a.c", 1)])];
    let other = ProcessSnapshot { pid: 7, command: "sh; # 1".to_owned(), ..process(vec![stack(4, 5, Vec::new())]) };
    report(vec![process(stacks), other])
}

fn report_of_hostile_names() -> Report {
    let named = Frame { module: Some(HOSTILE.into()), ..frame_without_source(Some(HOSTILE)) };
    let frames = vec![named, frame("f", HOSTILE, 1), frame_without_source(None)];
    let identity = Identity { user: Some(HOSTILE.to_owned()), ..Identity::default() };
    let process = ProcessSnapshot { command: HOSTILE.to_owned(), identity, ..process(vec![stack(1, 4096, frames)]) };
    let warnings = vec![Warning::NoAllocator { pid: 1, command: HOSTILE.to_owned() }];
    Report { warnings, ..report(vec![process]) }
}

fn with_history(report: Report) -> Report {
    let point = |second: u64| HistoryPoint {
        elapsed: Duration::from_millis(second * 3125),
        bytes: 500_000 * second + if second.is_multiple_of(9) { 1_500_000 } else { 0 },
    };
    let mut report = report;
    report.processes.iter_mut().for_each(|process| process.history = (0..=100).map(point).collect());
    report
}

/// Each `<title>` in an SVG of inferno's that has a figure: its frame, and its bytes.
fn titles(svg: &str) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(svg, options)?;
    let titles = document.descendants().filter(|node| node.has_tag_name((SVG, "title")));
    titles.filter_map(|node| node.text()).map(title).collect()
}

const SVG: &str = "http://www.w3.org/2000/svg";

/// `serve (1,234 bytes, 12.34%)`
fn title(text: &str) -> Result<(String, u64), Box<dyn Error>> {
    let (rest, _) = text.rsplit_once(" bytes, ").ok_or(text)?;
    let (name, figure) = rest.rsplit_once(" (").ok_or(text)?;
    Ok((name.to_owned(), figure.replace(',', "").parse()?))
}

#[test]
fn folded_stacks_are_as_reviewed() -> Outcome {
    assert_snapshot!(folded_text(&report_of_two())? + "\n" + &folded_text(&full_report())?);
    Ok(())
}

#[test]
fn folded_lines_sum_up_to_what_the_stacks_hold() -> Outcome {
    for report in [full_report(), report_of_two(), sampled_report(), report_of_hostile_names()] {
        let held = report.processes.iter().flat_map(|process| &process.stacks).map(|stack| stack.outstanding.bytes);
        let text = folded_text(&report)?;
        let lines = text.lines().map(|line| line.rsplit_once(' ').ok_or(line)).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(lines.iter().map(|(_, bytes)| bytes.parse::<u64>().unwrap_or(0)).sum::<u64>(), held.sum::<u64>());
        let mut stacks: Vec<_> = lines.iter().map(|(stack, _)| *stack).collect();
        assert!(stacks.is_sorted());
        stacks.dedup();
        assert_eq!(stacks.len(), lines.len());
    }
    Ok(())
}

#[test]
fn a_flame_graph_has_each_frame_with_its_bytes() -> Outcome {
    let report = report_of_two();
    let svg = render(Format::Flamegraph, &report, false)?;
    let mut titles = titles(&svg)?;
    titles.sort();
    let expected = [
        ("LazyCompile:~f a.js:1", 1024),
        ("[redis-server]", 1024),
        ("[stack lost]", 5),
        ("all", 1029),
        ("helper", 1024),
        ("main", 1024),
        ("redis-server (1234)", 1024),
        ("sh: # 1 (7)", 5),
    ];
    assert_eq!(titles, expected.map(|(name, bytes)| (name.to_owned(), bytes)));
    assert_eq!(svg, render(Format::Flamegraph, &report, false)?, "it is the same each time");
    Ok(())
}

#[test]
fn a_flame_graph_is_as_reviewed() -> Outcome {
    assert_snapshot!(without_script(&render(Format::Flamegraph, &report_of_two(), false)?)?);
    Ok(())
}

/// Each element on a line of its own, and without inferno's script, which is there.
fn without_script(svg: &str) -> Result<String, Box<dyn Error>> {
    let (start, end) = (svg.find("<script").ok_or("no script")?, svg.find("</script>").ok_or("no end")?);
    assert!(svg[start..end].contains("function search("));
    Ok(format!("{}{}", &svg[..start], &svg[end..]).replace("><", ">\n<"))
}

#[test]
fn a_flame_graph_of_nothing_says_so() -> Outcome {
    for report in [report(Vec::new()), report(vec![process(Vec::new())])] {
        let svg = render(Format::Flamegraph, &report, false)?;
        assert!(svg.contains("Nothing is outstanding."), "{svg}");
        roxmltree::Document::parse(&svg)?;
    }
    Ok(())
}

#[test]
fn what_no_graph_can_show_is_refused() {
    let report = report(vec![process(vec![stack(1, u64::MAX, Vec::new()), stack(2, u64::MAX, Vec::new())])]);
    let style = Style { colour: false, time_zone: TimeZone::UTC };
    let error = Format::Flamegraph.write(&report, &style, &mut Vec::new()).err();
    assert_eq!(error.map(|error| error.kind()), Some(std::io::ErrorKind::InvalidData));
    assert_eq!(folded(&report).into_values().collect::<Vec<_>>(), [u64::MAX]);
}

#[test]
fn a_page_is_as_reviewed() -> Outcome {
    let report =
        Report { warnings: report_with_losses().warnings, losses: report_with_losses().losses, ..full_report() };
    let page = render(Format::Html, &with_history(report), false)?;
    let (start, end) = (page.find("<style>").ok_or("no style")?, page.find("</head>").ok_or("no head")?);
    assert_snapshot!(format!("{}{}", &page[..start], &page[end..]).replace("><", ">\n<"));
    Ok(())
}

#[test]
fn names_are_only_ever_text() -> Outcome {
    let page = render(Format::Html, &report_of_hostile_names(), false)?;
    assert_eq!(page.matches("<script").count(), 2, "ours, and the data");
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<!--").count(), 0);
    let in_strings_of_data = page.matches("\\\" onclick=").count();
    assert_eq!(page.matches("\" onclick=").count(), in_strings_of_data, "no attribute ends there");
    let own = page.replace("\n", "");
    assert_eq!(own.chars().find(|character| character.is_control() || *character == '\u{202e}'), None);
    let svg = render(Format::Flamegraph, &report_of_hostile_names(), false)?;
    assert!(titles(&svg)?.iter().any(|(name, bytes)| name.contains("alert(1)") && *bytes == 4096));
    Ok(())
}

/// Of every kind of report there is a page.
#[test]
fn pages_say_what_is_doubtful_about_figures() -> Outcome {
    let page = |report: &Report| render(Format::Html, report, false);
    assert!(page(&sampled_report())?.contains("~31.0 MiB ± 2.1 MiB"));
    assert!(page(&windowed_report())?.contains("allocations within 31 windows at random"));
    assert!(page(&report_of_a_sweep())?.contains("watched 1,212 processes for 30s"));
    assert!(page(&report(Vec::new()))?.contains("nothing is observed"));
    assert!(page(&report_with_allocations())?.contains("0x7f1234567890: 1,048,576 B, age 1.5s"));
    Ok(())
}

fn held(bytes: u64) -> Held {
    Held { outstanding: Outstanding { bytes, allocations: bytes.min(1) }, ..Held::default() }
}

pub(super) fn difference() -> Difference {
    let side = |name: &str, minutes: i64| Side {
        name: name.to_owned(),
        time: jiff::Timestamp::constant(1_767_261_787 + 60 * minutes, 0),
        elapsed: Duration::from_secs(60),
        sample_bytes: None,
        losses: Losses::default(),
    };
    let stack = |before, after, function| StackDifference {
        before: held(before),
        after: held(after),
        frames: vec![frame(function, "a.c", 3), frame("main", "a.c", 12)],
    };
    let stacks = vec![stack(100, 400, "grown"), stack(300, 50, "shrunk"), stack(70, 0, "gone"), stack(0, 9, "new")];
    let process = ProcessDifference {
        command: "redis-server".to_owned(),
        pids_before: vec![1],
        pids_after: vec![2],
        before: held(470),
        after: held(459),
        changed_stacks: 4,
        stacks,
    };
    let warnings = vec![DifferenceWarning::Sampled];
    Difference { before: side("monday.pb.gz", 0), after: side("tuesday.pb.gz", 5), warnings, processes: vec![process] }
}

fn render_difference(format: Format, difference: &Difference) -> Result<String, Box<dyn Error>> {
    let style = Style { colour: false, time_zone: TimeZone::fixed(offset(2)) };
    let mut output = Vec::new();
    format.write_difference(difference, &style, &mut output)?;
    Ok(String::from_utf8(output)?)
}

#[test]
fn a_difference_is_folded_into_two_columns() -> Outcome {
    assert_snapshot!(render_difference(Format::Folded, &difference())?);
    Ok(())
}

/// As wide as what is held after, and red or blue.
#[test]
fn a_difference_is_drawn_in_red_and_blue() -> Outcome {
    let svg = render_difference(Format::Flamegraph, &difference())?;
    let mut titles = titles(&svg)?;
    titles.sort();
    assert_eq!(
        titles,
        [("all", 459), ("grown", 400), ("main", 459), ("new", 9), ("shrunk", 50)]
            .map(|(name, bytes)| (name.to_owned(), bytes))
    );
    assert!(svg.contains("70 B at stacks that hold nothing any more"));
    assert!(svg.contains("monday.pb.gz → tuesday.pb.gz: -11 B outstanding, from 470 B to 459 B"));
    let colour = |name: &str| -> Result<Vec<u32>, Box<dyn Error>> {
        let rest = svg.split(&format!("<title>{name} (")).nth(1).ok_or("no frame")?;
        let fill = rest.split("rgb(").nth(1).and_then(|rest| rest.split(')').next()).ok_or("no fill")?;
        Ok(fill.split(',').map(str::parse).collect::<Result<_, _>>()?)
    };
    let (grown, shrunk) = (colour("grown")?, colour("shrunk")?);
    assert!(grown[0] > grown[2] && shrunk[2] > shrunk[0], "{grown:?} {shrunk:?}");
    assert_snapshot!(without_script(&svg)?);
    Ok(())
}
