//! `.eh_frame` to rows, and a walk by those rows over a stack that is as made up.

use memprof::{
    elf::{EhFrame, Segment},
    unwind::{Registers, Start, Table, walk},
};

const ADDRESS: u64 = 0x40_0000;

pub(super) fn run(data: &[u8]) {
    let eh_frame =
        EhFrame { address: ADDRESS, bytes: data.to_vec(), text_address: Some(ADDRESS), got_address: Some(u64::MAX) };
    let segments = [
        Segment { offsets: 0..1 << 24, address: ADDRESS, executable: true },
        Segment { offsets: 1 << 24..1 << 25, address: u64::MAX - (1 << 24), executable: true },
    ];
    let Ok(table) = Table::new(&eh_frame, &segments) else { return };
    assert!(table.rows.is_sorted_by_key(|row| row.offset()));
    let registers = Registers { ip: ADDRESS, sp: 0x7fff_0000, bp: 0x7fff_0100 };
    let rule = |address: u64| Some(table.rule_at(u32::try_from(address.checked_sub(ADDRESS)?).ok()?));
    let word = |address: u64| {
        let place = address as usize % (data.len() + 1);
        Some(u64::from_le_bytes(*data.get(place..)?.first_chunk()?))
    };
    assert!(walk(registers, Start::Interrupted, 127, rule, word).frames.len() <= 127);
}
