//! The man pages, one of memprof and one of each subcommand.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::examples;

/// Of the lines in a page's source.
const WIDTH: usize = 80;

/// What memprof exits with, and what that means.
const STATUSES: [(&str, &str); 6] = [
    ("0", "All went well; with --fail-above and --fail-on, nothing that they ask for was found."),
    ("1", "An error, which is told on standard error. With doctor, something is missing."),
    ("2", "The command line makes no sense, or a file of suppressions does not."),
    ("100", "--fail-above or --fail-on found something, and a launched command succeeded."),
    ("126, 127", "The command to launch cannot be executed, or was not found."),
    (
        "other",
        "Where a command was launched, its own status, unless that is 0; 128 and the number of the signal that ended it.",
    ),
];

const FILES: [(&str, &str); 2] = [
    ("/usr/lib/debug", "Debug information that is separate from programs and libraries."),
    ("/tmp/perf-PID.map", "Names of functions that the process PID has compiled, in its own mount namespace."),
];

const ENVIRONMENT: [(&str, &str); 1] =
    [("NO_COLOR", "If it is set and not empty, there are no colours on a terminal either.")];

#[derive(Args, Debug)]
pub(super) struct Pages {
    /// Where to write them
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to date them: the day of the version, such as 2026-01-02
    #[arg(long)]
    date: String,
}

impl Pages {
    /// Writes all of them.
    pub(super) fn write(&self, command: Command) -> io::Result<()> {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
        let pages: Vec<_> = shown.chain([&command]).map(page_name).collect();
        let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
        subcommands.chain([&command]).try_for_each(|subject| write_page(subject, &pages, &self.date, &self.folder))
    }
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn write_page(command: &Command, pages: &[String], date: &str, folder: &Path) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone())
        .title(page_name(command).to_uppercase())
        .date(date)
        .source(format!("memprof {version}"))
        .manual("memprof");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    own_sections(command, pages).to_writer(&mut page)?;
    let page = tidied(&String::from_utf8_lossy(&page));
    fs::write(folder.join(format!("{}.1", page_name(command))), page)
}

/// What readers of manual pages complain of: sections that each define quotes anew, breaks upon breaks, long lines.
fn tidied(page: &str) -> String {
    let page = page.replace(".br\n\n.br\n", ".sp\n").replace("\n\n", "\n.sp\n");
    let is_definition = |line: &str| line.starts_with(".ie ") || line.starts_with(".el ");
    let lines = page.lines().enumerate().filter(|(place, line)| *place < 2 || !is_definition(line));
    lines.map(|(_, line)| folded(line.trim_end())).collect()
}

/// The line in several ones, if it is text: a request has to be in one. What begins a line as a request does is marked as text.
fn folded(line: &str) -> String {
    let mut folded = String::with_capacity(line.len() + 8);
    let mut width = 0;
    for word in line.split(' ') {
        let is_first = folded.is_empty();
        let fits = line.starts_with('.') || word.is_empty() || width + 1 + word.len() <= WIDTH;
        let before = match (is_first, fits, word.starts_with(['.', '\''])) {
            (true, ..) => "",
            (_, true, _) => " ",
            (_, false, false) => "\n",
            (_, false, true) => "\n\\&",
        };
        folded.push_str(before);
        folded.push_str(word);
        width = if fits && !is_first { width + 1 + word.len() } else { word.len() };
    }
    folded + "\n"
}

/// Those that clap knows nothing of.
fn own_sections(command: &Command, pages: &[String]) -> Roff {
    let mut roff = Roff::new();
    if let Some(notes) = command.get_after_help() {
        roff.control("SH", ["NOTES"]);
        paragraphs(&notes.to_string(), &mut roff);
    }
    if command.has_subcommands() {
        list("EXIT STATUS", &STATUSES, &mut roff);
        list("ENVIRONMENT", &ENVIRONMENT, &mut roff);
        list("FILES", &FILES, &mut roff);
    }
    list("EXAMPLES", examples::of(command), &mut roff);
    see_also(&page_name(command), pages, &mut roff);
    roff
}

fn paragraphs(text: &str, roff: &mut Roff) {
    for (place, paragraph) in text.split("\n\n").enumerate() {
        if place > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph)]);
    }
}

/// Terms, and what is said of each.
fn list(heading: &str, entries: &[(&str, &str)], roff: &mut Roff) {
    roff.control("SH", [heading]);
    for (term, text) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
}

fn see_also(own: &str, pages: &[String], roff: &mut Roff) {
    let others = pages.iter().map(String::as_str).filter(|page| *page != own);
    let mut all: Vec<_> = others.map(|page| (page, "(1)")).chain([("valgrind", "(1)"), ("perf", "(1)")]).collect();
    all.sort_unstable();
    roff.control("SH", ["SEE ALSO"]);
    let last = all.len() - 1;
    let references = all.into_iter().enumerate().flat_map(|(place, (page, section))| {
        let end = if place < last { ", " } else { "" };
        [bold(page), roman(format!("{section}{end}"))]
    });
    roff.text(references.collect::<Vec<Inline>>());
}
