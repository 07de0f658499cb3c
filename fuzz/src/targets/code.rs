//! Machine code: where a function is probed, what an instruction does to memory, and which rows calls can meet.

use memprof::{
    plan::{choose, only_reads},
    unwind::{Code, call_sites_only},
};
use memprof_common::unwind::{Row, Rule};

pub(super) fn run(data: &[u8]) {
    let Some((&arguments, code)) = data.split_first() else { return };
    let chosen = choose(code, usize::from(arguments % 7));
    assert!(chosen.skipped < code.len().max(1) as u64);
    only_reads(code);
    let offsets = code.iter().scan(0_u32, |offset, byte| {
        *offset += 1 + u32::from(byte % 16);
        Some(*offset)
    });
    let rows: Vec<_> = offsets.map(|offset| Row::new(offset, Rule::NONE)).collect();
    call_sites_only(&rows, &[Code { offset_in_file: u32::from(arguments), bytes: code }]);
}
