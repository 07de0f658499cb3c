//! Sites in random code.

use std::io::Write as _;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{bytes, objdump};
use crate::{
    model::{Choice, Emulation},
    plan::choose::{Chosen, choose},
};

/// Bytes from one function's beginning to the next one's.
const SLOT: usize = 128;

/// Random functions: instructions of all kinds, and random bytes.
fn functions() -> Vec<Vec<u8>> {
    let instructions = [
        "48 85 ff",
        "48 89 f8",
        "48 89 fa",
        "48 89 d8",
        "31 c0",
        "31 f6",
        "8d 47 07",
        "80 3d 01 02 14 00 00",
        "55",
        "41 54",
        "48 83 ec 10",
        "48 f7 e2",
        "48 99",
        "0f b6 c7",
        "48 0f 44 c7",
        "48 0f 44 c8",
        "0f 94 c0",
        "0f 94 c1",
        "f3 0f 1e fa",
        "66 90",
        "90",
        "0f 1f 40 00",
        "48 89 07",
        "48 87 c3",
        "48 87 f8",
        "c3",
        "ff d0",
        "ff e0",
        "48 8b 07",
        "48 39 37",
        "48 01 37",
        "66 0f ef c0",
        "48 c1 e8 1a",
        "40 88 f7",
        "86 e5",
        "48 0f a3 c7",
        "48 0f ba e8 01",
    ];
    let fixed = prop::sample::select(instructions.map(bytes).to_vec());
    let jump = (prop::sample::select(vec![0x74_u8, 0x77, 0x75, 0xeb, 0xe2, 0xe3]), -40_i8..40);
    let jump = jump.prop_map(|(opcode, offset)| vec![opcode, offset as u8]);
    let far = (prop::sample::select(vec![0xe8_u8, 0xe9]), -40_i32..40);
    let far = far.prop_map(|(opcode, offset)| [vec![opcode], offset.to_le_bytes().to_vec()].concat());
    let noise = prop::collection::vec(any::<u8>(), 1..4);
    let instruction = prop_oneof![20 => fixed, 3 => jump, 1 => far, 1 => noise];
    let function = prop::collection::vec(instruction, 1..12).prop_map(|parts| parts.concat());
    let mut runner = TestRunner::deterministic();
    let functions: Vec<_> = (0..5_000).map(|_| function.new_tree(&mut runner).unwrap().current()).collect();
    assert!(functions.iter().all(|function| function.len() < SLOT - 16));
    functions
}

/// What objdump says of the functions, which are put into slots of one file.
fn listed(functions: &[Vec<u8>]) -> Vec<objdump::Line> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for function in functions {
        let mut slot = function.clone();
        slot.resize(SLOT, 0x90);
        file.write_all(&slot).unwrap();
    }
    objdump::lines(file.path(), &["-D", "-b", "binary", "-m", "i386:x86-64"])
}

#[test]
fn sites_in_random_code_keep_the_rules_as_another_decoder_sees_them() {
    let functions = functions();
    let listed = listed(&functions);
    let mut moved = 0;
    for (slot, function) in functions.iter().enumerate() {
        let arguments = slot % 7;
        let Chosen { skipped, choice } = choose(function, arguments);
        let Choice::Later { instruction, emulation, .. } = choice else {
            assert_eq!(skipped, 0);
            continue;
        };
        moved += 1;
        let start = (slot * SLOT) as u64;
        let first = listed.partition_point(|line| line.address < start);
        let end = listed.partition_point(|line| line.address < start + function.len() as u64);
        objdump::check(&listed[first..end].iter().collect::<Vec<_>>(), start + skipped, arguments);
        let is_newer = instruction == "nop" && function[skipped as usize] != 0x90;
        assert_eq!(emulation == Emulation::NewerKernels, is_newer, "{function:02x?}");
    }
    assert!(moved > 300, "{moved}");
}
