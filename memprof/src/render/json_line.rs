//! JSON on one line. What a terminal would obey is escaped as JSON permits, so that nobody who looks at it raw is misled; read, it is the same.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::escape::is_unsafe;

/// Writes an object and a newline.
pub(super) fn write(value: &impl Serialize, output: &mut dyn io::Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *output, Printable))?;
    output.write_all(b"\n")
}

struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((place, character)) = rest.char_indices().find(|(_, character)| is_unsafe(*character)) {
            writer.write_all(&rest.as_bytes()[..place])?;
            character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            rest = &rest[place + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn it_is_read_as_it_was_and_shows_nothing_that_is_obeyed() {
        let name = "a\u{1b}[2J\n\"\\\u{7f}\u{9b}31m\u{202e}é\u{2069}";
        let mut line = Vec::new();
        write(&[name], &mut line).unwrap();
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            "[\"a\\u001b[2J\\n\\\"\\\\\\u007f\\u009b31m\\u202eé\\u2069\"]\n"
        );
        assert_eq!(serde_json::from_slice::<[String; 1]>(&line).unwrap(), [name]);
    }
}
