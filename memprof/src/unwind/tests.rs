//! Sections written by hand.

use memprof_common::unwind::{Cfa, Rbp, Row, Rule, Step};

use super::{Counts, Table, TableError};
use crate::elf::{EhFrame, Segment};

/// Where the section is, far from the code.
const ADDRESS: u64 = 0x9000;
/// Where the code is.
const CODE: Segment = Segment { offsets: 0x1000..0x3000, address: 0x40_1000, executable: true };

const DEF_CFA: u8 = 0x0c;
const DEF_CFA_REGISTER: u8 = 0x0d;
const DEF_CFA_OFFSET: u8 = 0x0e;
const DEF_CFA_EXPRESSION: u8 = 0x0f;
const EXPRESSION: u8 = 0x10;
const UNDEFINED: u8 = 0x07;
const REMEMBER: u8 = 0x0a;
const RESTORE: u8 = 0x0b;
const RBP: u8 = 6;
const RSP: u8 = 7;
const RA: u8 = 16;

const fn advance(bytes: u8) -> u8 {
    0x40 | bytes
}

const fn at_cfa_minus(register: u8) -> u8 {
    0x80 | register
}

/// Pointers relative to themselves, in four signed bytes: what everybody writes.
const PC_RELATIVE: u8 = 0x1b;

/// A section that grows.
#[derive(Default)]
struct Section {
    bytes: Vec<u8>,
    cie: usize,
}

impl Section {
    /// With the usual CIE: at the entry, the CFA is `rsp + 8`.
    fn new() -> Self {
        Self::default().cie(b"zR\0", PC_RELATIVE)
    }

    fn cie(mut self, augmentation: &[u8], encoding: u8) -> Self {
        self.cie = self.bytes.len();
        let body = [&[0, 0, 0, 0, 1], augmentation, &[1, 0x78, RA, 1, encoding, DEF_CFA, RSP, 8, at_cfa_minus(RA), 1]];
        self.entry(&body.concat())
    }

    fn function(mut self, address: u64, length: u32, instructions: &[u8]) -> Self {
        let at = self.bytes.len() + 4;
        let mut body = ((at - self.cie) as u32).to_le_bytes().to_vec();
        body.extend((address as i64 - (ADDRESS as i64 + at as i64 + 4)).to_le_bytes()[..4].iter());
        body.extend(length.to_le_bytes());
        body.push(0);
        body.extend(instructions);
        self = self.entry(&body);
        self
    }

    fn entry(mut self, body: &[u8]) -> Self {
        self.bytes.extend((body.len() as u32).to_le_bytes());
        self.bytes.extend(body);
        self
    }

    fn eh_frame(&self) -> EhFrame {
        EhFrame {
            address: ADDRESS,
            bytes: self.bytes.clone(),
            text_address: Some(0x40_1000),
            got_address: Some(0x8000),
        }
    }

    fn table(&self) -> Table {
        Table::new(&self.eh_frame(), &[CODE]).unwrap_or_default()
    }

    /// Offsets and steps.
    fn steps(&self) -> Vec<(u32, Step)> {
        self.table().rows.iter().map(|row| (row.offset(), row.rule().decode())).collect()
    }
}

fn caller(cfa: Cfa) -> Step {
    Step::Caller { cfa, rbp: Rbp::Unchanged }
}

const ENTRY: Step = Step::Caller { cfa: Cfa::Rsp(8), rbp: Rbp::Unchanged };

#[test]
fn a_function_with_a_frame_pointer() {
    let section = Section::new().function(
        0x40_1100,
        0x20,
        &[
            &[advance(1), DEF_CFA_OFFSET, 16, at_cfa_minus(RBP), 2][..],
            &[advance(3), DEF_CFA_REGISTER, RBP, REMEMBER],
            &[advance(9), DEF_CFA, RSP, 8, 0xc0 | RBP],
            &[advance(1), RESTORE],
        ]
        .concat(),
    );
    let saved = |cfa| Step::Caller { cfa, rbp: Rbp::AtCfa(-16) };
    let expected = [
        (0x1100, ENTRY),
        (0x1101, saved(Cfa::Rsp(16))),
        (0x1104, saved(Cfa::Rbp(16))),
        (0x110d, ENTRY),
        (0x110e, saved(Cfa::Rbp(16))),
        (0x1120, Step::FramePointer),
    ];
    assert_eq!(section.steps(), expected);
    assert_eq!(section.table().counts, Counts { functions: 1, malformed: 0, unsupported: 0 });
}

#[test]
fn offsets_are_those_of_the_file_whatever_the_address() {
    let table = Section::new().function(0x40_1100, 0x20, &[]).table();
    let at = |offset| table.rule_at(offset).decode();
    assert_eq!((at(0), at(0x10ff), at(0x1100), at(0x111f)), (Step::FramePointer, Step::FramePointer, ENTRY, ENTRY));
    assert_eq!((at(0x1120), at(u32::MAX)), (Step::FramePointer, Step::FramePointer));
}

#[test]
fn gaps_are_marked_and_padding_is_not() {
    let section = Section::new()
        .function(0x40_1100, 0x11, &[])
        .function(0x40_1120, 0x10, &[DEF_CFA_OFFSET, 16])
        .function(0x40_1140, 0x10, &[DEF_CFA_OFFSET, 16]);
    let bigger = caller(Cfa::Rsp(16));
    let expected = [
        (0x1100, ENTRY),
        (0x1120, bigger),
        (0x1130, Step::FramePointer),
        (0x1140, bigger),
        (0x1150, Step::FramePointer),
    ];
    assert_eq!(section.steps(), expected);
}

#[test]
fn neighbours_that_are_equal_are_one() {
    let section = Section::new().function(0x40_1120, 0x10, &[advance(4)]).function(0x40_1110, 0x10, &[]);
    assert_eq!(section.steps(), [(0x1110, ENTRY), (0x1130, Step::FramePointer)]);
}

#[test]
fn where_functions_overlap_the_one_that_starts_last_counts() {
    let with = |offset: u8| [DEF_CFA_OFFSET, offset];
    let outer =
        |section: Section| section.function(0x40_1100, 0x100, &[DEF_CFA_OFFSET, 16, advance(0x30), DEF_CFA_OFFSET, 24]);
    let inner = |section: Section| section.function(0x40_1120, 0x20, &with(32)).function(0x40_1120, 0x30, &with(40));
    let expected = [
        (0x1100, caller(Cfa::Rsp(16))),
        (0x1120, caller(Cfa::Rsp(32))),
        // Nothing resumes after it.
        (0x1140, Step::FramePointer),
    ];
    assert_eq!(inner(outer(Section::new())).steps(), expected);
    assert_eq!(outer(inner(Section::new())).steps(), expected);
}

#[test]
fn what_lies_in_no_code_is_left_out() {
    let section = Section::new().function(0, 0x20, &[]).function(0x40_1100, 0, &[]).function(0x50_0000, 0x20, &[]);
    assert_eq!(section.table(), Table::default());
    let section = Section::new().function(0x40_2ff0, 0x100, &[]);
    assert_eq!(section.steps(), [(0x2ff0, ENTRY), (0x3000, Step::FramePointer)]);
}

#[test]
fn code_out_of_reach_is_refused() {
    let far = Segment { offsets: 0x1_0000_0000 - 0x1000..0x1_0000_0000, ..CODE };
    let eh_frame = Section::new().eh_frame();
    assert_eq!(Table::new(&eh_frame, std::slice::from_ref(&far)), Err(TableError::OutOfReach));
    let data = Segment { executable: false, ..far };
    assert!(Table::new(&eh_frame, &[CODE, data]).is_ok());
}

#[test]
fn the_plts_expression_is_recognised_by_its_operations() {
    let plt = |threshold: u8, shift: u8| {
        let expression = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x30 + threshold, 0x2a, 0x30 + shift, 0x24, 0x22];
        let instructions = [
            &[DEF_CFA_OFFSET, 16, advance(6), DEF_CFA_OFFSET, 24, advance(10), DEF_CFA_EXPRESSION, 11],
            &expression[..],
        ];
        Section::new().function(0x40_1100, 0x40, &instructions.concat()).steps()[2]
    };
    assert_eq!(plt(11, 3), (0x1110, caller(Cfa::Plt { offset: 8, threshold: 11 })));
    assert_eq!(plt(10, 3), (0x1110, caller(Cfa::Plt { offset: 8, threshold: 10 })));
    assert_eq!(plt(11, 2), (0x1110, Step::FramePointer));
}

#[test]
fn a_signal_frame_is_recognised_by_its_registers() {
    // As in glibc's sysdeps/unix/sysv/linux/x86_64/sigaction.c: offsets are 160, 168 and 120 above `rsp`.
    let cfa = [DEF_CFA_EXPRESSION, 4, 0x77, 0xa0, 1, 0x06];
    let place = |register, offset: u8| [EXPRESSION, register, 3, 0x77, offset | 0x80, (offset >> 7)];
    let signal = |rip| [&cfa[..], &place(RA, rip), &place(RBP, 120), &place(RSP, 160)].concat();
    let steps = |augmentation: &[u8], instructions: &[u8]| {
        Section::default().cie(augmentation, PC_RELATIVE).function(0x40_1100, 0x20, instructions).steps()[0].1
    };
    assert_eq!(steps(b"zRS\0", &signal(168)), Step::Signal { offset: 40 });
    assert_eq!(steps(b"zRS\0", &signal(176)), Step::FramePointer);
    assert_eq!(steps(b"zR\0", &signal(168)), Step::FramePointer);
    assert_eq!(steps(b"zRS\0", &[]), Step::FramePointer);
}

#[test]
fn realigned_stacks_have_their_rules() {
    let instructions = [
        // The CFA is in r10; then `rbp` has been pushed; then r10, at `rbp - 8`.
        &[DEF_CFA, 10, 0, advance(8), EXPRESSION, RBP, 2, 0x76, 0][..],
        &[advance(4), DEF_CFA_EXPRESSION, 3, 0x76, 0x78, 0x06],
        // As in OpenSSL: in memory, and a word beyond.
        &[advance(4), DEF_CFA_EXPRESSION, 6, 0x77, 0x98, 1, 0x06, 0x23, 8],
    ];
    let section = Section::new().function(0x40_1100, 0x20, &instructions.concat());
    let caller = |cfa| Step::Caller { cfa, rbp: Rbp::AtRbp };
    let expected = [
        (0x1100, Step::FramePointer),
        (0x110c, caller(Cfa::DerefRbp { offset: -8, addend: 0 })),
        (0x1110, caller(Cfa::DerefRsp { offset: 152, addend: 8 })),
        (0x1120, Step::FramePointer),
    ];
    assert_eq!(section.steps(), expected);
    assert_eq!(section.table().counts.unsupported, 2);
}

#[test]
fn an_undefined_return_address_is_the_outermost_frame() {
    let section = Section::new().function(0x40_1100, 0x20, &[UNDEFINED, RA]);
    assert_eq!(section.steps(), [(0x1100, Step::Stop), (0x1120, Step::FramePointer)]);
    let section = Section::new().function(0x40_1100, 0x20, &[UNDEFINED, RBP]);
    assert_eq!(section.steps()[0].1, Step::Caller { cfa: Cfa::Rsp(8), rbp: Rbp::Lost });
}

#[test]
fn pointers_are_relative_to_what_their_encoding_says() {
    let function = |encoding: u8, pointer: &[u8], length: &[u8]| {
        let mut section = Section::default().cie(b"zR\0", encoding);
        let distance = (section.bytes.len() as u32 + 4).to_le_bytes();
        section = section.entry(&[&distance, pointer, length, &[0]].concat());
        section.steps().first().map(|step| step.0)
    };
    let four = 0x20_u32.to_le_bytes();
    let eight = 0x20_u64.to_le_bytes();
    assert_eq!(function(0x00, &0x40_1100_u64.to_le_bytes(), &eight), Some(0x1100));
    assert_eq!(function(0x03, &0x40_1100_u32.to_le_bytes(), &four), Some(0x1100));
    assert_eq!(function(0x02, &[0; 2], &[0x20, 0]), None);
    assert_eq!(function(0x23, &0x100_u32.to_le_bytes(), &four), Some(0x1100));
    assert_eq!(function(0x33, &0x3f_9100_u32.to_le_bytes(), &four), Some(0x1100));
    assert_eq!(function(0x50, &0x40_1100_u64.to_le_bytes(), &eight), None);
    let relative = (0x40_1100 - (ADDRESS as i64 + 30)) as u64;
    assert_eq!(function(0x1c, &relative.to_le_bytes(), &eight), Some(0x1100));
}

#[test]
fn one_that_makes_no_sense_does_not_hide_the_others() {
    let section = Section::new()
        .function(0x40_1100, 0x20, &[RESTORE])
        .function(0x40_1120, 0x20, &[0x3f])
        .entry(&[0xff, 0xff, 0, 0, 1, 2, 3])
        .function(0x40_1140, 0x20, &[]);
    assert_eq!(section.steps(), [(0x1100, Step::FramePointer), (0x1140, ENTRY), (0x1160, Step::FramePointer)]);
    assert_eq!(section.table().counts, Counts { functions: 1, malformed: 3, unsupported: 0 });
}

#[test]
fn the_terminator_ends_the_section() {
    let section = Section::new().function(0x40_1100, 0x20, &[]).entry(&[]).function(0x40_1140, 0x20, &[]);
    assert_eq!(section.steps().len(), 2);
}

#[test]
fn too_many_instructions_or_remembered_states_are_refused_and_not_followed() {
    let malformed = |instructions: &[u8]| {
        let section = Section::new().function(0x40_1100, 0x20, instructions);
        section.table()
            == Table { rows: vec![Row::new(0x1100, Rule::NONE)], counts: Counts { malformed: 1, ..Counts::default() } }
    };
    assert!(malformed(&[REMEMBER; 17]));
    assert!(!malformed(&[REMEMBER; 16]));
    assert!(malformed(&vec![0; (1 << 16) + 1]));
    assert!(!malformed(&vec![0; 1 << 16]));
}
