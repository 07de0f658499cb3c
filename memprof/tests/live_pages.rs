//! Stacks as pictures and pages: of a real program that leaks known amounts, read as their readers read them; the page in a real
//! browser.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod browser;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use browser::{Page, url};
use serde_json::json;
use support::{Program, copy_program, memprof};
use tempfile::TempDir;

/// Leaks 90,000 bytes in 300 blocks at one place, 5,000 in 5 at another, and 7 in 7 at a third.
const PROGRAM: &str = r"
#include <stdlib.h>
#include <string.h>

void *volatile kept;

__attribute__((noinline)) void small(void) { kept = malloc(1); }
__attribute__((noinline)) void medium(void) { kept = malloc(1000); }
__attribute__((noinline)) void large(void) { kept = malloc(300); }
__attribute__((noinline)) void freed(void) { free(malloc(4096)); }

__attribute__((noinline)) void serve(int number) {
    large();
    freed();
    if (number < 5) medium();
    if (number < 7) small();
}

int main(void) {
    for (int number = 0; number < 300; number++) serve(number);
    return 0;
}
";

const LEAKED: [(&str, u64, u64); 3] = [("large", 90_000, 300), ("medium", 5_000, 5), ("small", 7, 7)];
const ALL: u64 = 95_007;

/// What one run of the program is, in one format.
struct Written {
    _folder: TempDir,
    path: PathBuf,
}

fn written(format: &str, options: &[&str]) -> Written {
    written_of(Program::c(PROGRAM, &[]).path(), format, options)
}

fn written_of(program: &Path, format: &str, options: &[&str]) -> Written {
    let folder = tempfile::tempdir().unwrap();
    // A browser goes by the name.
    let ending = if format == "flamegraph" { "svg" } else { format };
    let path = folder.path().join(format!("report.{ending}"));
    let mut command = memprof();
    command.args(["--format", format, "--output"]).arg(&path).args(options).arg("--").arg(program);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Written { _folder: folder, path }
}

impl Written {
    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

/// The bytes of the functions that allocate.
fn by_allocating_function(folded: &str) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for line in folded.lines() {
        let (stack, bytes) = line.rsplit_once(' ').unwrap();
        let function = stack.rsplit(';').next().unwrap();
        *sums.entry(function).or_default() += bytes.parse::<u64>().unwrap();
    }
    sums
}

#[test]
fn folded_stacks_have_every_byte() {
    let folded = written("folded", &[]).text();
    let expected: BTreeMap<_, _> = LEAKED.iter().map(|(function, bytes, _)| (*function, *bytes)).collect();
    assert_eq!(by_allocating_function(&folded), expected);
    assert!(folded.lines().all(|line| line.contains(";main;serve;")), "{folded}");
}

/// Ten stacks are what people are shown; a graph wants all.
#[test]
fn all_stacks_are_there_unless_fewer_are_asked_for() {
    let top = written("folded", &["--top", "1"]).text();
    assert_eq!(by_allocating_function(&top), BTreeMap::from([("large", 90_000)]));
    let large = written("folded", &["--min-size", "1000"]).text();
    assert_eq!(by_allocating_function(&large), BTreeMap::from([("medium", 5_000)]));
}

#[test]
fn folded_stacks_are_what_inferno_reads() {
    let folded = written("folded", &[]).text();
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(&mut Default::default(), folded.lines(), &mut svg).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    assert!(svg.contains("large (90,000 samples, 94.73%)"), "{svg}");
}

#[test]
fn a_flame_graph_is_an_image_of_the_right_bytes() {
    let svg = written("flamegraph", &[]).text();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&svg, options).unwrap();
    let titles: Vec<_> =
        document.descendants().filter(|node| node.has_tag_name("title")).filter_map(|node| node.text()).collect();
    let root = ["all (95,007 bytes, 100%)", "main (95,007 bytes, 100.00%)", "serve (95,007 bytes, 100.00%)"];
    let leaves = ["large (90,000 bytes, 94.73%)", "medium (5,000 bytes, 5.26%)"];
    for title in root.iter().chain(&leaves) {
        assert!(titles.contains(title), "{title} is not in {titles:?}");
    }
    assert!(svg.contains("92.8 KiB in 312 allocations outstanding"), "the title");
}

/// inferno's own script runs in it, and nothing else is fetched.
#[test]
fn a_flame_graph_can_be_searched_in_a_browser() {
    let svg = written("flamegraph", &[]);
    let mut page = Page::open(&svg.path);
    // Its script draws it once more after it is loaded, as wide as the window.
    page.wait_until("svg.getAttribute('viewBox') === null && total_samples === 95007");
    page.value("search('medium')");
    page.wait_until("document.getElementById('matched').textContent === 'Matched: 5.3%'");
    assert_eq!(page.requests(), [url(&svg.path)]);
    assert_eq!(page.complaints(), Vec::<String>::new());
    assert!(page.colours() > 10);
}

fn functions(page: &mut Page) -> Vec<String> {
    page.texts("tbody:not([hidden]) .stack th code")
}

#[test]
fn a_page_works_in_a_browser() {
    let html = written("html", &[]);
    let mut page = Page::open(&html.path);
    assert_eq!(functions(&mut page), ["large", "medium", "small", "freed"]);
    sorts(&mut page);
    finds(&mut page);
    opens(&mut page);
    zooms(&mut page);
    for (width, height, colours) in [(1280, 900, "light"), (1280, 900, "dark"), (400, 800, "light")] {
        page.show_on(width, height, colours);
        page.wait_until(&format!("matchMedia('(prefers-color-scheme: {colours})').matches && innerWidth === {width}"));
        assert_eq!(page.value("document.documentElement.scrollWidth <= innerWidth"), json!(true), "{width}: too wide");
        assert!(page.colours() > 20, "{width} {colours}");
    }
    assert_eq!(page.requests(), [url(&html.path)]);
    assert_eq!(page.complaints(), Vec::<String>::new());
}

/// A program's name is its owner's, and the page's reader may be somebody else.
#[test]
fn names_are_text_and_nothing_else_in_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = folder.path().join("<").join("script><img src=x onerror=alert(1)>");
    fs::create_dir(hostile.parent().unwrap()).unwrap();
    copy_program(Program::c(PROGRAM, &[]).path(), &hostile);
    let html = written_of(&hostile, "html", &[]);
    let mut page = Page::open(&html.path);
    assert!(page.texts("h1")[0].starts_with("script><img src ("));
    page.click("tbody .stack td");
    let module = page.texts(".open .module").swap_remove(0);
    assert!(module.contains("/</script><img src=x onerror=alert(1)>+0x"), "{module}");
    page.click("#flame div:last-child");
    assert!(page.texts("#pointed")[0].ends_with("onerror=alert(1)>)"));
    assert_eq!(page.value("[document.images.length, document.scripts.length]"), json!([0, 2]));
    assert_eq!(page.requests(), [url(&html.path)]);
    assert_eq!(page.complaints(), Vec::<String>::new());
}

/// By the heads of columns, first the largest first.
fn sorts(page: &mut Page) {
    let head = |column: usize| format!("thead th:nth-child({column}) button");
    let order = |page: &mut Page, column: usize| {
        let sorted =
            page.value(&format!("document.querySelector('thead th:nth-child({column})').getAttribute('aria-sort')"));
        (sorted.as_str().unwrap().to_owned(), functions(page).join(" "))
    };
    page.click(&head(3));
    assert_eq!(order(page, 3), ("descending".to_owned(), "large small medium freed".to_owned()));
    page.click(&head(3));
    assert_eq!(order(page, 3), ("ascending".to_owned(), "freed medium small large".to_owned()));
    page.click(&head(1));
    assert_eq!(order(page, 1), ("ascending".to_owned(), "freed large medium small".to_owned()));
    page.click(&head(1));
    assert_eq!(order(page, 1), ("descending".to_owned(), "small medium large freed".to_owned()));
    page.click(&head(2));
    assert_eq!(order(page, 2), ("descending".to_owned(), "large medium small freed".to_owned()));
    assert_eq!(page.texts("[aria-sort]").len(), 1);
}

/// What is typed, in table and graph.
fn finds(page: &mut Page) {
    page.click("#find");
    page.type_text("MEDI");
    assert_eq!(functions(page), ["medium"]);
    assert_eq!(page.texts("#flame .match"), ["medium"]);
    assert_eq!(page.texts("#found"), ["1 stack, 4.9 KiB; in the graph 4.9 KiB, 5.3 %"]);
    page.press("Escape");
    assert_eq!(functions(page).len(), 4);
    assert_eq!(page.texts("#flame .match"), Vec::<String>::new());
}

/// A row, on its frames with their lines.
fn opens(page: &mut Page) {
    let shown = |page: &mut Page| page.texts(".frames li:nth-child(2) code");
    assert_eq!(shown(page), Vec::<String>::new());
    page.click("tbody:nth-of-type(2) .stack td");
    assert_eq!(shown(page), ["serve"]);
    let source = page.texts(".frames li:first-child .source").join("");
    assert!(source.starts_with("program.c:"), "{source}");
    assert_eq!(page.value("document.querySelector('.open button').ariaExpanded"), json!("true"));
    page.click("tbody:nth-of-type(2) .stack td");
    assert_eq!(shown(page), Vec::<String>::new());
}

/// Into a frame by the mouse, out again by the keyboard; and by another figure, and from the other end.
fn zooms(page: &mut Page) {
    let frame = |name: &str| {
        format!("[...document.querySelectorAll('#flame div')].find(frame => frame.textContent === '{name}')")
    };
    let width = |page: &mut Page, name: &str| {
        let width = page.value(&format!("{}.style.width", frame(name)));
        width.as_str().unwrap().trim_end_matches('%').parse::<f64>().unwrap()
    };
    assert!((width(page, "medium") - 100.0 * 5_000.0 / ALL as f64).abs() < 0.01);
    page.value(&format!("{}.id = 'wanted'", frame("medium")));
    page.click("#wanted");
    assert_eq!(width(page, "medium"), 100.0);
    assert_eq!(page.texts("#flame div").last().unwrap(), "medium");
    assert!(page.texts("#pointed")[0].starts_with("medium: 4.9 KiB, 5.3 % ("));
    page.value("document.getElementById('flame').focus()");
    page.press("Escape");
    assert!(page.texts("#flame div").contains(&"large".to_owned()));
    let choose = |page: &mut Page, id: &str, place: usize| {
        page.value(&format!(
            "(() => {{ const list = document.getElementById('{id}'); list.selectedIndex = {place}; \
             list.dispatchEvent(new Event('change')); }})()"
        ))
    };
    choose(page, "metric", 1);
    assert!((width(page, "large") - 100.0 * 300.0 / 312.0).abs() < 0.01);
    choose(page, "direction", 1);
    assert_eq!(page.texts("#flame div")[..2], ["all", "large"].map(str::to_owned));
    choose(page, "direction", 0);
    choose(page, "metric", 0);
}
