//! Text with a terminal's colours as HTML. It knows the attributes that memprof uses, in the 16 colours that every terminal has.

/// Black, red, green, yellow, blue, magenta, cyan, white; and the bright ones.
const PALETTE: [&str; 16] = [
    "#2b323b", "#f2777a", "#7fc98d", "#e6c07b", "#6ca8f0", "#c792ea", "#5fc9d8", "#d5dbe3", "#6b7683", "#ff8f8f",
    "#98e0a5", "#f5d48f", "#8dbdf5", "#dab0f5", "#83dde9", "#ffffff",
];
pub(super) const PAPER: &str = "#14181d";
pub(super) const INK: &str = "#d5dbe3";

/// How what follows is written.
#[derive(Clone, Copy, Default, PartialEq)]
struct Pen {
    is_bold: bool,
    is_faint: bool,
    is_underlined: bool,
    is_reversed: bool,
    ink: Option<usize>,
    paper: Option<usize>,
}

/// Each stretch of text in a `<span>` of its own.
pub(super) fn to_html(screen: &str) -> String {
    let (mut html, mut pen) = (String::new(), Pen::default());
    let mut pieces = screen.split("\u{1b}[");
    html.push_str(&span(pen, pieces.next().unwrap_or_default()));
    for piece in pieces {
        let (attributes, text) = piece.split_once('m').unwrap_or(("", piece));
        pen.take(attributes);
        html.push_str(&span(pen, text));
    }
    html
}

impl Pen {
    /// Follows the numbers of a "select graphic rendition".
    fn take(&mut self, attributes: &str) {
        let mut numbers = attributes.split(';').map(|number| number.parse::<usize>().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.is_bold = true,
                2 => self.is_faint = true,
                4 => self.is_underlined = true,
                7 => self.is_reversed = true,
                22 => (self.is_bold, self.is_faint) = (false, false),
                24 => self.is_underlined = false,
                27 => self.is_reversed = false,
                30..=37 => self.ink = Some(number - 30),
                90..=97 => self.ink = Some(number - 82),
                39 => self.ink = None,
                40..=47 => self.paper = Some(number - 40),
                49 => self.paper = None,
                // Of the 256 colours: `38;5;N`.
                38 => self.ink = numbers.nth(1),
                48 => self.paper = numbers.nth(1),
                _ => {}
            }
        }
    }

    fn style(&self) -> String {
        let colour = |number: Option<usize>| number.and_then(|number| PALETTE.get(number).copied());
        let (mut ink, mut paper) = (colour(self.ink), colour(self.paper));
        if self.is_reversed {
            (ink, paper) = (Some(paper.unwrap_or(PAPER)), Some(ink.unwrap_or(INK)));
        }
        let said = [
            ink.map(|colour| format!("color:{colour}")),
            paper.map(|colour| format!("background:{colour}")),
            self.is_bold.then(|| "font-weight:bold".to_owned()),
            self.is_faint.then(|| "opacity:.6".to_owned()),
            self.is_underlined.then(|| "text-decoration:underline".to_owned()),
        ];
        said.into_iter().flatten().collect::<Vec<_>>().join(";")
    }
}

fn span(pen: Pen, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    if pen == Pen::default() { text } else { format!("<span style=\"{}\">{text}</span>", pen.style()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_last_until_they_are_taken_back() {
        let html = to_html("a<\u{1b}[1;31mb\u{1b}[22mc\u{1b}[0md\u{1b}[38;5;6;7me\u{1b}[39m f");
        let expected = "a&lt;<span style=\"color:#f2777a;font-weight:bold\">b</span><span style=\"color:#f2777a\">c</span>d\
            <span style=\"color:#14181d;background:#5fc9d8\">e</span>\
            <span style=\"color:#14181d;background:#d5dbe3\"> f</span>";
        assert_eq!(html, expected);
    }
}
