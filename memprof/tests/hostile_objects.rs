//! ELF files that are made to cost whoever reads them: what they claim is of no use, and costs little.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{fs::File, io::Write as _, os::unix::fs::FileExt as _, sync::Arc};

use memprof::{
    elf::{self, ElfError},
    model::{Object, ObjectId, ObjectKind},
    plan::{Functions, plan},
};

const HEADER_BYTES: u64 = 64;

/// An ELF file for this processor: segments, then sections. Sections may share their bytes.
#[derive(Default)]
struct Elf {
    /// Type, flags, offset, address, size.
    segments: Vec<[u64; 5]>,
    /// Type, offset, size, link, size of an entry.
    sections: Vec<[u64; 5]>,
    /// What lies where.
    bytes: Vec<(u64, Vec<u8>)>,
}

const CODE: u64 = 5;

impl Elf {
    fn file(&self) -> File {
        let segments_at = HEADER_BYTES;
        let names = self.sections.len().min(1);
        let sections_at = (segments_at + 56 * self.segments.len() as u64) * names as u64;
        let mut start = b"\x7fELF\x02\x01\x01".to_vec();
        start.resize(16, 0);
        start.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        [0, segments_at, sections_at].iter().for_each(|word| start.extend(word.to_le_bytes()));
        start.extend([0; 4]);
        [64, 56, self.segments.len() as u16, 64, self.sections.len() as u16, names as u16]
            .iter()
            .for_each(|half| start.extend(half.to_le_bytes()));
        for &[kind, flags, offset, address, size] in &self.segments {
            start.extend((kind | flags << 32).to_le_bytes());
            [offset, address, address, size, size, 4096].iter().for_each(|word| start.extend(word.to_le_bytes()));
        }
        for &[kind, offset, size, link, entry] in &self.sections {
            start.extend((kind << 32).to_le_bytes());
            [0, 0, offset, size, link | 1 << 32, 8, entry].iter().for_each(|word| start.extend(word.to_le_bytes()));
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&start).unwrap();
        self.bytes.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
        file
    }

    /// With so many functions called `malloc`, one behind the other.
    fn with_mallocs(count: u64) -> Self {
        let (names_at, symbols_at, code_at) = (0x1_0000, 0x2_0000, 1 << 25);
        let symbol = |index: u64| {
            let head = 1_u64 | 0x12 << 32 | 1 << 48;
            [head, 0x40_0000 + 16 * index, 16].into_iter().flat_map(u64::to_le_bytes)
        };
        let symbols: Vec<u8> = [0; 24].into_iter().chain((0..count).flat_map(symbol)).collect();
        Self {
            segments: vec![[1, CODE, code_at, 0x40_0000, 16 * count]],
            sections: vec![[0; 5], [3, names_at, 8, 0, 0], [2, symbols_at, symbols.len() as u64, 1, 24]],
            bytes: vec![
                (names_at, b"\0malloc\0".to_vec()),
                (symbols_at, symbols),
                (code_at + 16 * count - 1, vec![0xc3]),
            ],
        }
    }
}

/// What is said of an object that is searched for allocators.
fn searched(file: File) -> Result<usize, String> {
    let (kind, identity, build_id, file) = (ObjectKind::File, None, None, Some(Arc::new(file)));
    let object = Object { id: ObjectId(1), path: "/object".into(), kind, identity, build_id, file };
    plan([&Arc::new(object)], &Functions::default()).searched.remove(0).outcome
}

/// What this process had in memory when it had most.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn what_is_read_has_an_end() {
    // Were each looked for among those before it, this would take minutes.
    assert_eq!(searched(Elf::with_mallocs(3).file()), Ok(3));
    let many = 1 << 17;
    let refusal = format!("it has {many} allocator functions, which no allocator has");
    assert_eq!(searched(Elf::with_mallocs(many).file()), Err(refusal));

    // Segments of the same bytes, again and again.
    let segments = |count| Elf { segments: vec![[1, CODE, 0, 0x40_0000, 1 << 30]; count], ..Elf::default() };
    let overlapping = elf::segments(&segments(64).file()).unwrap();
    assert_eq!(overlapping.len(), 64);
    assert!(matches!(elf::segments(&segments(65).file()), Err(ElfError::TooMany("segments"))));

    // Claims of gigabytes, which the file, being mostly holes, has.
    let before = most_memory();
    let (names, symbols) = ([3, 0x1000, 3 << 30, 0, 0], [2, 0x1000, 3 << 30, 1, 24]);
    let huge = Elf { sections: vec![[0; 5], names, symbols], ..segments(64) }.file();
    huge.set_len(4 << 30).unwrap();
    assert!(elf::defined_functions(&huge, &["malloc"]).is_err());
    assert!(elf::symbol_addresses(&huge, |_| {}).is_err());
    let (mut pieces, mut bytes) = (0, 0);
    elf::pieces(&huge, &overlapping, 0, |_, _, piece| {
        pieces += 1;
        bytes += piece.len();
    })
    .unwrap();
    assert_eq!((pieces, bytes), (1024, 1 << 30));
    assert!(most_memory() - before < 64 << 20, "{} MiB", (most_memory() - before) >> 20);
}
