//! The lines of a log. They are told from each other by their ends, since a module's path may hold anything.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

use crate::model::Caller;

/// Without their ends.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end)
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    pub(super) place: &'a [u8],
    pub(super) kind: Kind,
    pub(super) address: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Allocated {
        size: u64,
    },
    Freed,
    /// A call that has done nothing.
    Failed,
}

/// What a line tells of a call; nothing if it tells of none.
pub(super) fn event(line: &[u8]) -> Option<Event<'_>> {
    let mut words = line.rsplitn(4, |byte| *byte == b' ');
    let last = words.next()?;
    let middle = words.next()?;
    if let b"-" | b"<" = middle {
        let place = place_before(line, last.len() + 2)?;
        return Some(Event { place, kind: Kind::Freed, address: hexadecimal(last)? });
    }
    let size = hexadecimal(last)?;
    let [kind @ (b'+' | b'>' | b'!')] = words.next()? else { return None };
    let place = place_before(line, last.len() + middle.len() + 3)?;
    let is_nil = middle == b"(nil)";
    let address = if is_nil { 0 } else { hexadecimal(middle)? };
    let kind = if *kind == b'!' || is_nil { Kind::Failed } else { Kind::Allocated { size } };
    Some(Event { place, kind, address })
}

/// What is between `@ ` and the last so many bytes.
fn place_before(line: &[u8], length: usize) -> Option<&[u8]> {
    let before = &line[..line.len().checked_sub(length)?];
    if before.is_empty() { Some(before) } else { before.strip_prefix(b"@ ").map(<[u8]>::trim_ascii_end) }
}

fn hexadecimal(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"0x").unwrap_or(word);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    is_number.then(|| u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

/// `module:(symbol+0xoffset)[0xaddress]`, of which only the address is always there. Nothing where that is not.
pub(super) fn caller(place: &[u8]) -> Caller {
    let unknown = Caller::default();
    let Some((before, address)) = place.strip_suffix(b"]").and_then(|place| split_last(place, b'[')) else {
        return unknown;
    };
    let Some(address) = hexadecimal(address) else { return unknown };
    let (module, symbol) = match before.strip_suffix(b")").and_then(|before| split_last(before, b'(')) {
        Some((module, symbol)) => (module, symbol_and_offset(symbol)),
        None => (before, None),
    };
    let module = module.strip_suffix(b":").unwrap_or(module);
    Caller { address, module: (!module.is_empty()).then(|| path(module)), symbol, ..unknown }
}

/// `symbol+0xoffset`, or glibc's `symbol+offset`; without a symbol, the offset is from the beginning of the module.
fn symbol_and_offset(text: &[u8]) -> Option<(String, u64)> {
    let (symbol, offset) = split_last(text, b'+')?;
    Some((String::from_utf8_lossy(symbol).into_owned(), hexadecimal(offset)?))
}

fn split_last(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().rposition(|byte| *byte == at)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

/// A path in which some characters may stand as `\ooo`.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                path.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(path).into()
}
