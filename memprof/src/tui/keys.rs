//! Keys, and how they are read from the bytes that a terminal sends.

/// A key, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// With the control key.
    Ctrl(char),
    /// Return.
    Enter,
    /// The tabulator.
    Tab,
    /// Escape.
    Esc,
    /// What erases the character before.
    Backspace,
    /// Up.
    Up,
    /// Down.
    Down,
    /// Left.
    Left,
    /// Right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

/// No sequence that a terminal sends is longer.
const LONGEST: usize = 32;

const ESCAPE: u8 = 0x1b;

/// Makes keys of bytes. A sequence may come in parts.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pending: Vec<u8>,
}

/// What begins with some bytes.
enum Parsed {
    /// So many bytes are a key, or one that means nothing.
    Key(Option<Key>, usize),
    /// It is not all there yet.
    Part,
}

impl Decoder {
    /// The keys that are complete with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while !self.pending.is_empty() {
            match parse(&self.pending) {
                Parsed::Key(key, length) => {
                    keys.extend(key);
                    self.pending.drain(..length.min(self.pending.len()));
                }
                Parsed::Part if self.pending.len() < LONGEST => break,
                Parsed::Part => self.pending.clear(),
            }
        }
        keys
    }

    /// Whether what came last may be a part of something.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing more came: what is there was all. So an escape character alone is the key of that name.
    pub(super) fn finish(&mut self) -> Vec<Key> {
        let pending = std::mem::take(&mut self.pending);
        match pending.split_first() {
            Some((&ESCAPE, rest)) => {
                let mut keys = vec![Key::Esc];
                keys.extend(self.push(rest));
                self.pending.clear();
                keys
            }
            _ => Vec::new(),
        }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    match bytes {
        [ESCAPE] => Parsed::Part,
        [ESCAPE, b'[', rest @ ..] => control_sequence(rest),
        [ESCAPE, b'O'] => Parsed::Part,
        [ESCAPE, b'O', last, ..] => Parsed::Key(cursor(*last), 3),
        // The key alone; or it came with another one, which is the next.
        [ESCAPE, ..] => Parsed::Key(Some(Key::Esc), 1),
        [b'\r' | b'\n', ..] => Parsed::Key(Some(Key::Enter), 1),
        [b'\t', ..] => Parsed::Key(Some(Key::Tab), 1),
        [0x08 | 0x7f, ..] => Parsed::Key(Some(Key::Backspace), 1),
        [control @ 0x01..=0x1a, ..] => Parsed::Key(Some(Key::Ctrl((control + 0x60).into())), 1),
        [0x00..=0x1f, ..] => Parsed::Key(None, 1),
        [] => Parsed::Part,
        _ => character(bytes),
    }
}

/// `ESC [`, parameters, a letter. The letter says which key it is, or a tilde after a number.
fn control_sequence(rest: &[u8]) -> Parsed {
    let Some(end) = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) else { return Parsed::Part };
    let (parameters, length) = (&rest[..end], 2 + end + 1);
    let number = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    match rest[end] {
        // A function key of Linux's own console: another letter follows.
        b'[' if rest.len() == end + 1 => Parsed::Part,
        b'[' => Parsed::Key(None, length + 1),
        b'~' => Parsed::Key(numbered(number), length),
        b'Z' => Parsed::Key(Some(Key::Tab), length),
        letter => Parsed::Key(cursor(letter), length),
    }
}

fn cursor(letter: u8) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

fn numbered(number: &[u8]) -> Option<Key> {
    Some(match number {
        b"1" | b"7" => Key::Home,
        b"4" | b"8" => Key::End,
        b"5" => Key::PageUp,
        b"6" => Key::PageDown,
        _ => return None,
    })
}

/// One character of UTF-8. What is none is skipped.
fn character(bytes: &[u8]) -> Parsed {
    let bytes = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        Err(error) if error.error_len().is_none() => return Parsed::Part,
        Err(_) => return Parsed::Key(None, 1),
    };
    match valid.chars().next() {
        Some(character) => Parsed::Key(Some(Key::Char(character)), character.len_utf8()),
        None => Parsed::Key(None, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys = decoder.push(bytes);
        keys.extend(decoder.finish());
        keys
    }

    #[test]
    fn characters_and_control_characters() {
        assert_eq!(keys("aä日\r".as_bytes()), [Key::Char('a'), Key::Char('ä'), Key::Char('日'), Key::Enter]);
        assert_eq!(
            keys(b"\x03\x1a\t\x7f\x08\0"),
            [Key::Ctrl('c'), Key::Ctrl('z'), Key::Tab, Key::Backspace, Key::Backspace]
        );
        assert_eq!(keys(b"\xffq\xc3"), [Key::Char('q')]);
    }

    #[test]
    fn cursor_keys_of_all_kinds_of_terminals() {
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[1;5C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[H\x1b[1~\x1b[7~\x1bOH"), [Key::Home; 4]);
        assert_eq!(keys(b"\x1b[F\x1b[4~\x1b[8~\x1bOF"), [Key::End; 4]);
        assert_eq!(keys(b"\x1b[5~\x1b[6~\x1b[Z"), [Key::PageUp, Key::PageDown, Key::Tab]);
    }

    #[test]
    fn what_means_nothing_leaves_no_trace() {
        assert_eq!(keys(b"\x1b[[Aj\x1b[200~k\x1b[?1;2cl"), [Key::Char('j'), Key::Char('k'), Key::Char('l')]);
    }

    #[test]
    fn an_escape_is_a_key_if_nothing_follows_or_something_else() {
        assert_eq!(keys(b"\x1b"), [Key::Esc]);
        assert_eq!(keys(b"\x1b/"), [Key::Esc, Key::Char('/')]);
        assert_eq!(keys(b"\x1b\x1b"), [Key::Esc, Key::Esc]);
    }

    #[test]
    fn a_sequence_may_come_in_parts() {
        let mut decoder = Decoder::default();
        for part in [&b"\x1b"[..], b"[", b"5"] {
            assert_eq!(decoder.push(part), []);
            assert!(decoder.is_waiting());
        }
        assert_eq!(decoder.push(b"~\xc3"), [Key::PageUp]);
        assert_eq!(decoder.push(b"\xa4"), [Key::Char('ä')]);
        assert!(!decoder.is_waiting());
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_the_keys_are_the_same(bytes: Vec<u8>, cut: prop::sample::Index) {
            let mut decoder = Decoder::default();
            let (before, after) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut in_parts = decoder.push(before);
            in_parts.extend(decoder.push(after));
            in_parts.extend(decoder.finish());
            // An unfinished sequence that is too long is given up, sooner or later.
            if bytes.len() < LONGEST {
                prop_assert_eq!(in_parts, keys(&bytes));
            }
        }
    }
}
