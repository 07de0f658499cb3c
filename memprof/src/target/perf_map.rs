//! What a process tells of the code that it compiles while it runs: its *perf map*, one line a function, `START SIZE NAME`,
//! numbers in hexadecimal (Linux, `tools/perf/Documentation/jit-interface.txt`).
//!
//! The target writes it, so that anything may stand in it. Lines that are no such lines are passed over.

use std::{ops::Range, str, sync::Arc};

use rangemap::RangeMap;

use crate::model::{Timestamp, address_for_lookup};

/// Most bytes of a line; longer ones are passed over.
const LONGEST_LINE: usize = 4096;

/// Most functions that are kept of one process.
const MOST_FUNCTIONS: usize = 1 << 20;

/// Most bytes that their names may have. A file that is written anew again and again can tell of more than it ever has.
const MOST_NAME_BYTES: usize = 128 << 20;

/// How many readings are told apart.
const MOST_READINGS: usize = 64;

/// The functions of one process, as it has told of them.
///
/// Memory is used again for other functions. A line holds from where it stands on, and later ones override it; but when a line was
/// written is not known, only when it was read. So the lines of each *reading* stay together, and a stack is named by what
/// stood in the file at the first reading after it was seen.
#[derive(Debug)]
pub struct PerfMap {
    /// Oldest first.
    readings: Vec<Reading>,
    functions: usize,
    name_bytes: usize,
    most_functions: usize,
}

#[derive(Debug)]
struct Reading {
    /// When it was read, or last found to be all that is told.
    at: Timestamp,
    functions: RangeMap<u64, Arc<str>>,
}

impl Default for PerfMap {
    fn default() -> Self {
        Self::with_room_for(MOST_FUNCTIONS)
    }
}

impl PerfMap {
    /// An empty one, which will keep so many functions.
    pub fn with_room_for(most_functions: usize) -> Self {
        Self { readings: Vec::new(), functions: 0, name_bytes: 0, most_functions }
    }

    /// Adds what was read at a time, which is not before that of the last reading. Returns whether there was room for
    /// all of it.
    pub fn add(&mut self, at: Timestamp, bytes: &[u8]) -> bool {
        let mut reading = Reading { at, functions: RangeMap::new() };
        for (addresses, name) in functions(bytes) {
            if !self.has_room() {
                break;
            }
            if !self.says_already(&reading, &addresses, &name) {
                self.functions += 1;
                self.name_bytes += name.len();
                reading.functions.insert(addresses, name.into());
            }
        }
        match self.readings.last_mut() {
            // As of this time still, nothing else was told.
            Some(last) if reading.functions.is_empty() => last.at = at,
            _ => self.readings.push(reading),
        }
        self.merge_oldest();
        self.has_room()
    }

    fn has_room(&self) -> bool {
        self.functions < self.most_functions && self.name_bytes < MOST_NAME_BYTES
    }

    /// The name of the function that a return address lies in, if a stack that was first seen `at` that time has it.
    pub fn find_return_address(&self, return_address: u64, at: Timestamp) -> Option<&Arc<str>> {
        let address = address_for_lookup(return_address);
        let seen = self.readings.partition_point(|reading| reading.at < at);
        let (until, later) = self.readings.split_at(self.readings.len().min(seen + 1));
        until.iter().rev().chain(later).find_map(|reading| reading.functions.get(&address))
    }

    /// Some runtimes write all that they know, again and again.
    fn says_already(&self, reading: &Reading, addresses: &Range<u64>, name: &str) -> bool {
        let newest_first = [reading].into_iter().chain(self.readings.iter().rev());
        let known = newest_first.filter_map(|reading| reading.functions.overlapping(addresses).next()).next();
        known.is_some_and(|(range, known)| range == addresses && **known == *name)
    }

    fn merge_oldest(&mut self) {
        if self.readings.len() > MOST_READINGS {
            let second = self.readings.remove(1);
            let first = &mut self.readings[0];
            first.at = second.at;
            second.functions.into_iter().for_each(|(addresses, name)| first.functions.insert(addresses, name));
        }
    }
}

fn functions(bytes: &[u8]) -> impl Iterator<Item = (Range<u64>, String)> {
    bytes.split(|byte| *byte == b'\n').filter(|line| line.len() <= LONGEST_LINE).filter_map(function)
}

fn function(line: &[u8]) -> Option<(Range<u64>, String)> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let start = hexadecimal(fields.next()?)?;
    let end = start.checked_add(hexadecimal(fields.next()?)?)?;
    let name = String::from_utf8_lossy(fields.next()?.trim_ascii());
    (start < end && !name.is_empty()).then(|| (start..end, name.into_owned()))
}

/// HotSpot writes `0x`, as perf permits.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    if digits.starts_with(b"+") {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn name(map: &PerfMap, return_address: u64, at: u64) -> Option<&str> {
        map.find_return_address(return_address, Timestamp(at)).map(|name| &**name)
    }

    fn read(lines: &str) -> PerfMap {
        let mut map = PerfMap::default();
        map.add(Timestamp(1), lines.as_bytes());
        map
    }

    #[test]
    fn a_line_names_its_addresses() {
        let map = read("7f00aa000000 20 LazyCompile:~leak /srv/a b.js:3:1\n0x7f00aa000020 0x10 Interpreter\n");
        assert_eq!(name(&map, 0x7f00_aa00_0001, 5), Some("LazyCompile:~leak /srv/a b.js:3:1"));
        // Return addresses, of which the last may be the next function's first.
        assert_eq!(name(&map, 0x7f00_aa00_0020, 5), Some("LazyCompile:~leak /srv/a b.js:3:1"));
        assert_eq!(name(&map, 0x7f00_aa00_0021, 5), Some("Interpreter"));
        assert_eq!([0x7f00_aa00_0000, 0x7f00_aa00_0031].map(|address| name(&map, address, 5)), [None; 2]);
    }

    #[test]
    fn a_later_line_overrides_what_it_overlaps() {
        let map = read("1000 100 outer\n1040 20 inner\n1050 8 inmost\n");
        let names = [0x1001, 0x1041, 0x1051, 0x1059, 0x1061].map(|address| name(&map, address, 5));
        assert_eq!(names, [Some("outer"), Some("inner"), Some("inmost"), Some("inner"), Some("outer")]);
        assert_eq!(name(&read("1040 20 inner\n1000 100 all\n"), 0x1041, 5), Some("all"));
    }

    #[test]
    fn a_stack_is_named_by_the_first_reading_after_it() {
        let mut map = PerfMap::default();
        assert!(map.add(Timestamp(10), b"1000 10 first\n1000 10 second\n"));
        assert!(map.add(Timestamp(20), b"2000 10 elsewhere\n"));
        assert!(map.add(Timestamp(30), b"1000 10 third\n"));
        let at = |time| name(&map, 0x1001, time);
        assert_eq!(
            [0, 10, 11, 20, 21, 30, 99].map(at).map(Option::unwrap_or_default),
            ["second", "second", "second", "second", "third", "third", "third"]
        );
        // What is told of late is better than nothing.
        assert_eq!(name(&map, 0x2001, 5), Some("elsewhere"));
    }

    #[test]
    fn a_reading_without_news_is_one() {
        let mut map = read("1000 10 first\n");
        assert!(map.add(Timestamp(10), b""));
        assert!(map.add(Timestamp(20), b"1000 10 second\n"));
        assert_eq!(
            [0, 5, 10, 11, 99].map(|at| name(&map, 0x1001, at).unwrap_or_default()),
            ["first", "first", "first", "second", "second"]
        );
    }

    #[test]
    fn what_is_told_again_takes_no_room() {
        let mut map = PerfMap::default();
        for time in 0..1000 {
            map.add(Timestamp(time), b"1000 10 one\n1010 10 two\n");
        }
        assert_eq!((map.readings.len(), map.functions), (1, 2));
        for time in 1000..2000 {
            map.add(Timestamp(time), format!("1000 10 function{time}\n").as_bytes());
        }
        assert_eq!(map.readings.len(), MOST_READINGS);
        assert_eq!(name(&map, 0x1001, 1990), Some("function1990"));
        assert_eq!(name(&map, 0x1011, 1990), Some("two"));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        const MOST: usize = 1000;
        let mut lines = String::new();
        for function in 0..=MOST {
            // Nested, the worst there is.
            let _ = writeln!(lines, "{function:x} {:x} f{function}", 4 * MOST - 2 * function);
        }
        let mut map = PerfMap::with_room_for(MOST);
        assert!(!map.add(Timestamp(1), lines.as_bytes()));
        assert_eq!(map.functions, MOST);
        assert!(!map.add(Timestamp(2), b"1000 10 more\n"));
    }

    #[test]
    fn malformed_lines_are_passed_over() {
        let long = format!("1000 10 {}", "x".repeat(LONGEST_LINE));
        let lines = [
            "",
            "nonsense",
            "1000",
            "1000 10",
            "1000 10 ",
            "1000  10 a",
            "1000 0 a",
            "x 10 a",
            "1000 y a",
            "-1000 10 a",
            "+1000 10 a",
            "1000 +10 a",
            "0x0x10 10 a",
            "ffffffffffffffff 2 a",
            "11112222333344445 1 a",
            &long,
        ];
        let mut map = PerfMap::default();
        assert!(map.add(Timestamp(1), lines.join("\n").as_bytes()));
        assert_eq!(map.functions, 0);
        map.add(Timestamp(1), b"\xff\n1000 10 \xff\x1b[2J\r\n");
        assert_eq!(name(&map, 0x1001, 1), Some("\u{fffd}\u{1b}[2J"));
    }

    proptest! {
        #[test]
        fn no_input_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), lines in "[0-9a-fx +\n]{0,200}") {
            let mut map = PerfMap::default();
            map.add(Timestamp(1), &bytes);
            map.add(Timestamp(2), lines.as_bytes());
        }

        #[test]
        fn lookups_follow_the_rule(
            lines in prop::collection::vec((0_u64..60, 0_u64..20, 0_u64..2), 1..40),
            return_address in 1_u64..90,
            at in 0_u64..45,
        ) {
            // Each line has its own name, and is read with the one before it or by itself.
            let mut readings: Vec<(u64, String)> = Vec::new();
            let mut told = Vec::new();
            for (number, (start, size, joins)) in lines.into_iter().enumerate() {
                if joins == 0 || readings.is_empty() {
                    readings.push((number as u64, String::new()));
                }
                if let Some((time, text)) = readings.last_mut() {
                    let _ = writeln!(text, "{start:x} {size:x} f{number}");
                    told.push((*time, start..start + size, format!("f{number}")));
                }
            }
            let mut map = PerfMap::default();
            for (time, text) in &readings {
                map.add(Timestamp(*time), text.as_bytes());
            }
            let read_at = readings.iter().map(|(time, _)| *time).filter(|time| *time >= at).min().unwrap_or(u64::MAX);
            let covering = || told.iter().filter(|(_, range, _)| range.contains(&(return_address - 1)));
            let before = covering().rfind(|(time, _, _)| *time <= read_at);
            // Of those that were read later, the last of the first reading.
            let later = covering().map(|(time, _, _)| *time).min();
            let expected = before.or_else(|| covering().rfind(|(time, _, _)| Some(*time) == later));
            prop_assert_eq!(name(&map, return_address, at), expected.map(|(_, _, name)| name.as_str()));
        }
    }
}
