//! Whether an object's own code, or somebody who goes by its symbols, enters functions elsewhere than at their beginning.

use std::{fs::File, ops::RangeInclusive};

use crate::elf::{self, ElfError, Segment};

/// The longest jump to a 32-bit offset: two bytes of opcode, and the offset.
const LONGEST_JUMP: usize = 6;

/// The addresses, of those that are asked for, at which a function is entered.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// Where symbols begin.
    pub(super) by_symbol: Vec<u64>,
    /// Where jumps and calls lead to.
    pub(super) by_jump: Vec<u64>,
}

/// Looks for entries in ranges of addresses.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn find(file: &File, segments: &[Segment], ranges: &[RangeInclusive<u64>]) -> Result<Entered, ElfError> {
    let mut entered = Entered::default();
    if ranges.is_empty() {
        return Ok(entered);
    }
    entered.by_symbol = elf::symbols_within(file, ranges)?;
    for segment in segments.iter().filter(|segment| segment.executable) {
        elf::pieces(file, segment, LONGEST_JUMP - 1, |offset, bytes| {
            let address = segment.address.wrapping_add(offset - segment.offsets.start);
            add_jumps(address, bytes, ranges, &mut entered.by_jump);
        })?;
    }
    Ok(entered)
}

/// Adds what within `ranges` the bytes, which begin at `address`, jump to: each byte is taken for the beginning of a jump, since
/// where instructions begin is not known. That it is something else by chance happens once in some hundred million bytes.
fn add_jumps(address: u64, bytes: &[u8], ranges: &[RangeInclusive<u64>], found: &mut Vec<u64>) {
    let lowest = ranges.iter().map(RangeInclusive::start).min().copied().unwrap_or_default();
    let highest = ranges.iter().map(RangeInclusive::end).max().copied().unwrap_or_default();
    // The lower halves of the numbers do for nearly all bytes.
    let (start, span) = (address.wrapping_sub(lowest) as u32, u32::try_from(highest - lowest).unwrap_or(u32::MAX));
    for (index, offset) in bytes.windows(size_of::<i32>()).enumerate() {
        let offset = i32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]);
        let after = index + size_of::<i32>();
        let from_lowest = start.wrapping_add(after as u32).wrapping_add(offset as u32);
        if from_lowest <= span && is_jump(&bytes[..index]) {
            let target = address.wrapping_add(after as u64).wrapping_add_signed(offset.into());
            found.extend(ranges.iter().any(|range| range.contains(&target)).then_some(target));
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
        let mut found = Vec::new();
        add_jumps(0x1000, bytes, &[range], &mut found);
        found
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
    fn a_jump_across_the_edge_of_a_piece_is_found_once_or_twice() {
        let piece = 1 << 20;
        for start in piece - 8..piece + 8 {
            let mut bytes = vec![0xcc; piece + 100];
            bytes[start..start + 2].copy_from_slice(&[0x0f, 0x85]);
            let offset = 0x40_0010_i32 - (0x40_0000 + start as i32 + 6);
            bytes[start + 2..start + 6].copy_from_slice(&offset.to_le_bytes());
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let segment = Segment { offsets: 0..bytes.len() as u64, address: 0x40_0000, executable: true };
            let mut found = Vec::new();
            elf::pieces(&file, &segment, LONGEST_JUMP - 1, |offset, bytes| {
                add_jumps(0x40_0000 + offset, bytes, &[0x40_0010..=0x40_0010], &mut found);
            })
            .unwrap();
            found.dedup();
            assert_eq!(found, [0x40_0010], "{start}");
        }
    }
}
