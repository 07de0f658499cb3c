//! Whether an object's own code, or somebody who goes by its symbols, enters functions elsewhere than at their beginning.

use std::{fs::File, ops::RangeInclusive};

use crate::elf::{self, ElfError, Segment};

/// The longest jump to a 32-bit offset: two bytes of opcode, and the offset.
const LONGEST_JUMP: usize = 6;

/// Where functions are entered.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// Where a symbol begins: an address of each range that one begins in.
    pub(super) by_symbol: Vec<u64>,
    /// The places that a jump or call leads to.
    pub(super) by_jump: Vec<u64>,
}

/// Looks for symbols in ranges of addresses, and for jumps to places in them where instructions begin.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn find(
    file: &File,
    segments: &[Segment],
    ranges: &[RangeInclusive<u64>],
    places: &[u64],
) -> Result<Entered, ElfError> {
    if ranges.is_empty() {
        return Ok(Entered::default());
    }
    let mut by_symbol = Closed::new(ranges);
    elf::symbol_addresses(file, |address| by_symbol.note(address))?;
    let places: Vec<_> = places.iter().map(|&place| place..=place).collect();
    let mut by_jump = Closed::new(&places);
    let executable = segments.iter().filter(|segment| segment.executable);
    elf::pieces(file, executable, LONGEST_JUMP - 1, |segment, offset, bytes| {
        let address = segment.address.wrapping_add(offset - segment.offsets.start);
        note_jumps(address, bytes, &mut by_jump);
    })?;
    Ok(Entered { by_symbol: by_symbol.into_entered(), by_jump: by_jump.into_entered() })
}

/// Ranges of addresses, and of each the first address in it that was noted. A file can name any number of them.
#[derive(Debug)]
struct Closed {
    /// By their beginnings.
    ranges: Vec<(RangeInclusive<u64>, Option<u64>)>,
    longest: u64,
    lowest: u64,
    highest: u64,
}

impl Closed {
    fn new(ranges: &[RangeInclusive<u64>]) -> Self {
        let mut sorted: Vec<_> = ranges.iter().map(|range| (range.clone(), None)).collect();
        sorted.sort_by_key(|(range, _)| *range.start());
        Self {
            longest: ranges.iter().map(|range| range.end() - range.start()).max().unwrap_or_default(),
            lowest: ranges.iter().map(RangeInclusive::start).min().copied().unwrap_or_default(),
            highest: ranges.iter().map(RangeInclusive::end).max().copied().unwrap_or_default(),
            ranges: sorted,
        }
    }

    fn note(&mut self, address: u64) {
        let begun = self.ranges.partition_point(|(range, _)| *range.start() <= address);
        let near = self.ranges[..begun].iter_mut().rev();
        near.take_while(|(range, _)| address - range.start() <= self.longest)
            .filter(|(range, _)| range.contains(&address))
            .for_each(|(_, entered)| _ = entered.get_or_insert(address));
    }

    fn into_entered(self) -> Vec<u64> {
        self.ranges.into_iter().filter_map(|(_, entered)| entered).collect()
    }
}

/// Notes what the bytes, which begin at `address`, jump to: each byte is taken for the beginning of a jump, since where instructions
/// begin is not known. It can be something else by chance: so it is, in 0.7 MB of Debian 13's jemalloc, with one byte of the 52 that are
/// skipped in `free`.
fn note_jumps(address: u64, bytes: &[u8], closed: &mut Closed) {
    // The lower halves of the numbers do for nearly all bytes.
    let start = address.wrapping_sub(closed.lowest) as u32;
    let span = u32::try_from(closed.highest - closed.lowest).unwrap_or(u32::MAX);
    for (index, offset) in bytes.windows(size_of::<i32>()).enumerate() {
        let offset = i32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]);
        let after = index + size_of::<i32>();
        let from_lowest = start.wrapping_add(after as u32).wrapping_add(offset as u32);
        if from_lowest <= span && is_jump(&bytes[..index]) {
            closed.note(address.wrapping_add(after as u64).wrapping_add_signed(offset.into()));
        }
    }
}

/// Whether bytes end with the opcode of a `call`, `jmp` or `jcc` with 32 bits of offset.
fn is_jump(bytes: &[u8]) -> bool {
    matches!(bytes, [.., 0xe8 | 0xe9] | [.., 0x0f, 0x80..=0x8f])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::io::Write as _;

    use super::*;

    fn jumps(bytes: &[u8], range: RangeInclusive<u64>) -> Vec<u64> {
        let mut closed = Closed::new(&[range]);
        note_jumps(0x1000, bytes, &mut closed);
        closed.into_entered()
    }

    #[test]
    fn each_kind_of_far_jump_is_found_wherever_it_begins() {
        // After one byte of padding: 0x1006 - 0x106 = 0xf00.
        assert_eq!(jumps(&[0x90, 0xe9, 0xfa, 0xfe, 0xff, 0xff], 0xf00..=0xf00), [0xf00]);
        assert_eq!(jumps(&[0x90, 0xe8, 0xfa, 0xfe, 0xff, 0xff], 0xf00..=0xf00), [0xf00]);
        assert_eq!(jumps(&[0x0f, 0x84, 0xfa, 0xfe, 0xff, 0xff], 0xf00..=0xf00), [0xf00]);
        assert!(jumps(&[0x90, 0x84, 0xfa, 0xfe, 0xff, 0xff], 0xf00..=0xf00).is_empty());
        assert!(jumps(&[0x90, 0xe9, 0xfa, 0xfe, 0xff, 0xff], 0xf01..=0xf10).is_empty());
        assert!(jumps(&[0xe9, 0xfa, 0xfe], 0..=u64::MAX).is_empty());
    }

    #[test]
    fn a_jump_across_the_edge_of_a_piece_is_found() {
        let piece = 1 << 20;
        for start in piece - 8..piece + 8 {
            let mut bytes = vec![0xcc; piece + 100];
            bytes[start..start + 2].copy_from_slice(&[0x0f, 0x85]);
            let offset = 0x40_0010_i32 - (0x40_0000 + start as i32 + 6);
            bytes[start + 2..start + 6].copy_from_slice(&offset.to_le_bytes());
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let segment = Segment { offsets: 0..bytes.len() as u64, address: 0x40_0000, executable: true };
            let mut closed = Closed::new(&[0x40_0010..=0x40_0010]);
            elf::pieces(&file, [&segment], LONGEST_JUMP - 1, |_, offset, bytes| {
                note_jumps(0x40_0000 + offset, bytes, &mut closed);
            })
            .unwrap();
            assert_eq!(closed.into_entered(), [0x40_0010], "{start}");
        }
    }

    #[test]
    fn of_ranges_that_overlap_each_knows_its_first_entry() {
        let mut closed = Closed::new(&[0x20..=0x2f, 0x10..=0x28, 0x40..=0x40, 0x50..=0x60]);
        [0x0f, 0x30, 0x29, 0x11, 0x25, 0x40, 0x41].into_iter().for_each(|address| closed.note(address));
        assert_eq!(closed.into_entered(), [0x11, 0x29, 0x40]);
    }
}
