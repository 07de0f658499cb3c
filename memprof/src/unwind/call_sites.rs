//! The low-memory form of a table: only the rows that a return address can meet.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use memprof_common::unwind::{Row, kind};

/// Code of an object.
#[derive(Clone, Copy, Debug)]
pub struct Code<'data> {
    /// Offset in the file of the first byte.
    pub offset_in_file: u32,
    /// The bytes.
    pub bytes: &'data [u8],
}

impl<'data> Code<'data> {
    /// The bytes from one offset in the file to another, and all that follow, if all of the former are here.
    fn get(&self, start: u32, end: u32) -> Option<(&'data [u8], usize)> {
        let start = start.checked_sub(self.offset_in_file)? as usize;
        let end = end.checked_sub(self.offset_in_file)? as usize;
        (start <= end && end <= self.bytes.len()).then(|| (&self.bytes[start..], end - start))
    }
}

/// Leaves out the rows that hold for no last byte of a call, since only that is what a return address is looked up by.
/// What is left is some 7 to 14 % of a table.
///
/// What it costs: a function that a signal interrupts where it calls nobody, in its prologue for example, is unwound by
/// the rule of a place before, which may be wrong. Rows that code says nothing of are kept, and so are `SIGNAL`, which is
/// looked up as it is, `STOP`, and the last one.
///
/// A table's rows begin where instructions do, so the code of each is decoded from its beginning; where that does not
/// end at the next row's beginning, it was not only code, and the row is kept.
pub fn call_sites_only(rows: &[Row], code: &[Code<'_>]) -> Vec<Row> {
    let mut kept: Vec<Row> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let is_met = match rows.get(index + 1) {
            None => true,
            Some(_) if matches!(row.rule().kind(), kind::SIGNAL | kind::STOP) => true,
            Some(next) => may_call(code, row.offset(), next.offset()),
        };
        if is_met && kept.last().is_none_or(|last| last.rule() != row.rule()) {
            kept.push(*row);
        }
    }
    kept
}

fn may_call(code: &[Code<'_>], start: u32, end: u32) -> bool {
    let Some((bytes, length)) = code.iter().find_map(|code| code.get(start, end)) else { return true };
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    while decoder.position() < length {
        let instruction = decoder.decode();
        let is_call = instruction.mnemonic() == Mnemonic::Call;
        if is_call || instruction.is_invalid() || decoder.position() > length {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use memprof_common::unwind::{Cfa, Rbp, Rule, Step};

    use super::*;

    const PUSH: u8 = 0x55;
    const RET: u8 = 0xc3;

    fn rows(rows: &[(u32, Rule)]) -> Vec<Row> {
        rows.iter().map(|&(offset, rule)| Row::new(offset, rule)).collect()
    }

    fn rsp(offset: i32) -> Rule {
        Rule::encode(Step::Caller { cfa: Cfa::Rsp(offset), rbp: Rbp::Unchanged }).unwrap_or_default()
    }

    #[test]
    fn only_rows_with_calls_stay() {
        let bytes = [PUSH, 0xe8, 0, 0, 0, 0, RET, 0xff, 0xd0, 0x90];
        let table = rows(&[
            (0x1000, rsp(8)),
            (0x1001, rsp(16)),
            (0x1006, rsp(8)),
            (0x1007, rsp(24)),
            (0x1009, rsp(32)),
            (0x100a, Rule::NONE),
        ]);
        let kept = call_sites_only(&table, &[Code { offset_in_file: 0x1000, bytes: &bytes }]);
        assert_eq!(kept, rows(&[(0x1001, rsp(16)), (0x1007, rsp(24)), (0x100a, Rule::NONE)]));
    }

    #[test]
    fn what_becomes_neighbours_and_is_equal_becomes_one() {
        let bytes = [0xff, 0xd0, PUSH, 0xff, 0xd0];
        let table = rows(&[(0, rsp(8)), (2, rsp(16)), (3, rsp(8)), (5, Rule::NONE)]);
        let kept = call_sites_only(&table, &[Code { offset_in_file: 0, bytes: &bytes }]);
        assert_eq!(kept, rows(&[(0, rsp(8)), (5, Rule::NONE)]));
    }

    #[test]
    fn what_may_not_be_code_stays() {
        // An invalid opcode; an instruction that the next row begins within; no bytes at all; signals and ends.
        let bytes = [0x06, 0xb8, 0, 0, 0, 0, PUSH];
        let table = rows(&[(0, rsp(8)), (1, rsp(16)), (3, Rule::STOP), (6, rsp(8)), (7, rsp(40)), (9, Rule::NONE)]);
        let kept = call_sites_only(&table, &[Code { offset_in_file: 0, bytes: &bytes }]);
        let expected = rows(&[(0, rsp(8)), (1, rsp(16)), (3, Rule::STOP), (7, rsp(40)), (9, Rule::NONE)]);
        assert_eq!(kept, expected);
    }
}
