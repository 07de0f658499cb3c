//! Perf maps, read in several pieces.

use memprof::{model::Timestamp, target::PerfMap};

pub(super) fn run(data: &[u8]) {
    let mut map = PerfMap::with_room_for(1 << 10);
    for (time, piece) in (1..).zip(data.split(|byte| *byte == 0)) {
        map.add(Timestamp(time), piece);
    }
    for address in data.as_chunks().0 {
        map.find_return_address(u64::from_le_bytes(*address), Timestamp(u64::from(address[0])));
    }
}
