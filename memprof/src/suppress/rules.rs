//! The files: a pattern a line, `leak:PATTERN`.

/// Patterns of stacks that are not to be reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions(Vec<String>);

/// A line that is no suppression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} is no suppression: it must be leak:PATTERN, a comment that begins with #, or empty")]
pub struct ParseError {
    /// Its number, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

impl Suppressions {
    /// What a file says.
    ///
    /// # Errors
    /// For the first line that is neither a suppression of leaks nor a comment nor empty.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = text.lines().map(|line| line.trim_matches([' ', '\t', '\r'])).zip(1..);
        let patterns = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')).map(|(text, line)| {
            let pattern = text.strip_prefix("leak:").map(str::to_owned);
            pattern.ok_or_else(|| ParseError { line, text: text.to_owned() })
        });
        patterns.collect::<Result<_, _>>().map(Self)
    }

    /// Those of several files, in their order.
    pub fn of_all(files: impl IntoIterator<Item = Self>) -> Self {
        Self(files.into_iter().flat_map(|file| file.0).collect())
    }

    /// Without `leak:`.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}
