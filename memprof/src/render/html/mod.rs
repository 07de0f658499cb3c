//! A report as one page that needs nothing else: no server, no other file, and for what matters no script.
//!
//! Names come from the target. They are made visible ([`super::escape`]) and then escaped, by maud where they are HTML and by
//! [`flame`] where they are data for the script; and should one get through nevertheless, the page's own policy lets no
//! script run but ours, and nothing be fetched.

mod flame;
mod head;
mod table;
mod ticks;
mod timeline;

use std::io;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Style, escape::visible};
use crate::model::{Frame, ProcessSnapshot, Report};

const STYLE_SHEET: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What a browser lets the page do: hold this style sheet and run this script, by their hashes.
const POLICY: &str = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'; \
    style-src 'sha256-p8W9MIPs0nQNlt71yqrnVtUsb0uSd2EMNaRoujgRQpQ='; \
    script-src 'sha256-2n8bLQ/43PK8FBnz92dXE7X9QuNiOSV/z4qbF3bDmAI='";

/// Writes the page.
pub(super) fn write(report: &Report, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    writeln!(output, "{}", page(report, style).into_string())
}

fn page(report: &Report, style: &Style) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "memprof: " (whose(report)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE_SHEET)) }
                script { (PreEscaped(SCRIPT)) }
            }
            body {
                (head::head(report, style))
                main {
                    @for process in &report.processes { (head::process(report, process)) }
                    @if report.processes.iter().any(|process| !process.stacks.is_empty()) {
                        (tools(report))
                        (flame::graph(report))
                        (table::table(report))
                    }
                }
            }
        }
    }
}

/// What the flame graph and the table have in common: what is looked for.
fn tools(report: &Report) -> Markup {
    html! {
        div.tools role="search" {
            label { span { "Find" } input #find type="search" placeholder="function, file or module" autocomplete="off"; }
            label { span { "Width" } select #metric { @for name in flame::metrics(report) { option { (name) } } } }
            label { span { "From" } select #direction { option { "program start" } option { "allocation" } } }
            output #found aria-live="polite" {}
        }
    }
}

/// The process, or how many there are.
fn whose(report: &Report) -> String {
    match report.processes.as_slice() {
        [] => "nothing is observed".to_owned(),
        [process] => name_of(process),
        processes => format!("{} processes", processes.len()),
    }
}

/// `redis-server (1234)`
fn name_of(process: &ProcessSnapshot<Frame>) -> String {
    format!("{} ({})", visible(&process.command), process.pid)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_policy_admits_our_style_sheet_and_our_script() {
        for text in [STYLE_SHEET, SCRIPT] {
            let hash = format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
            assert!(POLICY.contains(&hash), "this is not in the policy: {hash}");
            assert!(!text.contains("</"), "a browser would see its end there");
        }
    }
}
