//! Unwind tables of this machine's own programs and libraries, against gimli's evaluation of the same call frame
//! information, place by place.
//!
//! `MEMPROF_ALL_OBJECTS=1` checks all of them; else a sample that is the same in each run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]
#![allow(clippy::print_stdout, reason = "figures are printed")]

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
};

use gimli::{
    BaseAddresses, CfaRule, Evaluation, EvaluationResult, FrameDescriptionEntry, LittleEndian, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection as _, UnwindTableRow, Value, X86_64,
};
use memprof::{
    elf::{self, EhFrame, Segment},
    unwind::{Code, Registers, Start, Table, call_sites_only, walk},
};
use memprof_common::unwind::{Row, Rule, Step, kind};
use proptest::prelude::*;

type Bytes<'data> = gimli::EndianSlice<'data, LittleEndian>;
type Section<'data> = gimli::EhFrame<Bytes<'data>>;

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const PROGRAMS: &str = "/usr/bin";

/// Always in the sample, where they are installed.
const WORTHWHILE: [&str; 8] = [
    "libc.so.6",
    "libcrypto.so.3",
    "libm.so.6",
    "libpthread.so.0",
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "ld-linux-x86-64.so.2",
    "libffi.so.8",
];

struct Object {
    eh_frame: EhFrame,
    segments: Vec<Segment>,
}

impl Object {
    fn read(path: &Path) -> Option<Self> {
        let file = File::open(path).unwrap();
        let segments = elf::segments(&file).ok()?;
        Some(Self { eh_frame: elf::eh_frame(&file).unwrap()?, segments })
    }

    fn table(&self) -> Table {
        Table::new(&self.eh_frame, &self.segments).unwrap()
    }
}

/// All ELF files with code, links followed, each once.
fn objects() -> Vec<PathBuf> {
    let mut paths: Vec<_> = [LIBRARIES, PROGRAMS]
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap())
        .filter_map(|entry| fs::canonicalize(entry.unwrap().path()).ok())
        .filter(|path| path.is_file() && fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The objects to look at, and in how many places of each.
fn sample() -> (Vec<PathBuf>, usize) {
    let all = objects();
    if env::var_os("MEMPROF_ALL_OBJECTS").is_some() {
        return (all, 20_000);
    }
    let small: Vec<_> = all.into_iter().filter(|path| path.metadata().unwrap().len() < 8 << 20).collect();
    let step = (small.len() / 40).max(1);
    let mut paths: Vec<_> = small.into_iter().step_by(step).collect();
    paths.extend(WORTHWHILE.iter().filter_map(|name| fs::canonicalize(Path::new(LIBRARIES).join(name)).ok()));
    (paths, 1_000)
}

/// A generator of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        mix(self.0)
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 29
}

/// The functions of a section as gimli reads them, sorted; of those that start together, the first.
struct Oracle<'data> {
    section: Section<'data>,
    bases: BaseAddresses,
    functions: Vec<FrameDescriptionEntry<Bytes<'data>>>,
}

impl<'data> Oracle<'data> {
    fn new(object: &'data Object) -> Self {
        let mut section = Section::new(&object.eh_frame.bytes, LittleEndian);
        section.set_address_size(8);
        let mut bases = BaseAddresses::default().set_eh_frame(object.eh_frame.address);
        bases.eh_frame.text = object.eh_frame.text_address;
        bases.eh_frame.data = object.eh_frame.got_address;
        let mut functions = Vec::new();
        let mut cies = BTreeMap::new();
        let mut entries = section.entries(&bases);
        while let Some(entry) = entries.next().unwrap() {
            match entry {
                gimli::CieOrFde::Cie(cie) => {
                    cies.insert(cie.offset(), cie);
                }
                gimli::CieOrFde::Fde(partial) => {
                    functions.push(partial.parse(|_, _, offset| Ok(cies[&offset.0].clone())).unwrap());
                }
            }
        }
        let is_code = |address| {
            let mut code = object.segments.iter().filter(|segment| segment.executable);
            code.any(|segment| segment.offset_of(address).is_some())
        };
        functions.retain(|function| !function.is_empty() && is_code(function.initial_address()));
        functions.sort_by_key(FrameDescriptionEntry::initial_address);
        functions.dedup_by_key(|function| function.initial_address());
        Self { section, bases, functions }
    }

    fn function(&self, address: u64) -> Option<&FrameDescriptionEntry<Bytes<'data>>> {
        let after = self.functions.partition_point(|function| function.initial_address() <= address);
        self.functions[..after].last().filter(|function| function.contains(address))
    }

    /// Whether `address` is in a small gap after a function.
    fn is_padding(&self, address: u64) -> bool {
        let after = self.functions.partition_point(|function| function.initial_address() <= address);
        let (before, after) = self.functions.split_at(after);
        match (before.last(), after.first()) {
            (Some(before), Some(after)) => after.initial_address() - before.end_address() < 16,
            _ => false,
        }
    }
}

trait IsEmpty {
    fn is_empty(&self) -> bool;
}

impl IsEmpty for FrameDescriptionEntry<Bytes<'_>> {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory in which each word is different.
fn word_at(address: u64) -> u64 {
    mix(address ^ 0x6d65_6d70_726f_6600) & 0x7fff_ffff_fff8
}

/// Evaluates an expression in a frame with these registers, on top of `initial`.
fn evaluate(
    section: &Section<'_>,
    expression: UnwindExpression<usize>,
    initial: Option<u64>,
    at: Registers,
) -> Option<u64> {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 5 };
    let mut evaluation: Evaluation<_> = expression.get(section).unwrap().evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                evaluation.resume_with_memory(Value::Generic(word_at(address))).ok()?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                evaluation.resume_with_register(Value::Generic(value(register, at)?)).ok()?
            }
            _ => return None,
        };
    }
    evaluation.value_result()?.to_u64(u64::MAX).ok()
}

fn value(register: Register, at: Registers) -> Option<u64> {
    match register {
        X86_64::RSP => Some(at.sp),
        X86_64::RBP => Some(at.bp),
        X86_64::RA => Some(at.ip),
        _ => None,
    }
}

/// What gimli says of the caller: CFA, address of the return address, and `rbp` (`None` if it is lost). Nothing, if one
/// of them takes other registers, or the return address is somewhere else than in memory.
fn expected(section: &Section<'_>, row: &UnwindTableRow<usize>, at: Registers) -> Option<(u64, u64, Option<u64>)> {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => value(*register, at)?.wrapping_add_signed(*offset),
        CfaRule::Expression(expression) => evaluate(section, *expression, None, at)?,
    };
    let place = |rule| match rule {
        Some(RegisterRule::Offset(offset)) => Some(cfa.wrapping_add_signed(offset)),
        Some(RegisterRule::Expression(expression)) => evaluate(section, expression, Some(cfa), at),
        _ => None,
    };
    let sp = match row.register(X86_64::RSP) {
        None => cfa,
        Some(RegisterRule::ValOffset(offset)) => cfa.wrapping_add_signed(offset),
        other => word_at(place(other)?),
    };
    let bp = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => Some(at.bp),
        Some(RegisterRule::Undefined) => None,
        other => Some(word_at(place(other)?)),
    };
    Some((sp, place(row.register(X86_64::RA))?, bp))
}

/// What a rule says of the caller, likewise.
fn said(rule: Rule, at: Registers) -> (u64, u64, Option<u64>) {
    use memprof_common::unwind::{Cfa, Rbp, sigcontext};
    let plus = |address: u64, offset: i32| address.wrapping_add_signed(i64::from(offset));
    match rule.decode() {
        Step::Caller { cfa, rbp } => {
            let cfa = match cfa {
                Cfa::Rsp(offset) => plus(at.sp, offset),
                Cfa::Rbp(offset) => plus(at.bp, offset),
                Cfa::Plt { offset, threshold } => {
                    plus(at.sp, offset) + if at.ip % 16 >= threshold as u64 { 8 } else { 0 }
                }
                Cfa::DerefRbp { offset, addend } => plus(word_at(plus(at.bp, offset)), addend),
                Cfa::DerefRsp { offset, addend } => plus(word_at(plus(at.sp, offset)), addend),
            };
            let bp = match rbp {
                Rbp::Unchanged => Some(at.bp),
                Rbp::Lost => None,
                Rbp::AtRbp => Some(word_at(at.bp)),
                Rbp::AtCfa(offset) => Some(word_at(plus(cfa, offset))),
            };
            (cfa, cfa.wrapping_sub(8), bp)
        }
        Step::Signal { offset } => {
            let context = plus(at.sp, offset);
            let word = |field| word_at(context.wrapping_add(field));
            (word(sigcontext::RSP), context + sigcontext::RIP, Some(word(sigcontext::RBP)))
        }
        other => panic!("{other:?} says nothing of a caller"),
    }
}

/// What rules are meant to say. It is written from the format's description and not from the code that makes them.
fn is_representable(section: &Section<'_>, row: &UnwindTableRow<usize>, is_signal: bool) -> bool {
    let is_words = |offset: i64, most: i64| offset % 8 == 0 && (-most..most).contains(&(offset / 8));
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            !is_signal && [X86_64::RSP, X86_64::RBP].contains(register) && is_words(*offset, 1 << 17)
        }
        CfaRule::Expression(expression) => {
            let bytes = expression.get(section).unwrap().0;
            let (first, last) = (bytes.first().copied(), bytes.last().copied());
            let is_base = [gimli::DW_OP_breg6.0, gimli::DW_OP_breg7.0].map(Some).contains(&first);
            // A word in memory, or what the linker writes for its stubs.
            is_base && (last == Some(gimli::DW_OP_deref.0) && bytes.len() <= 4 || last == Some(gimli::DW_OP_plus.0))
        }
    };
    let rbp = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => true,
        Some(RegisterRule::Offset(offset)) => is_words(offset, 1 << 9) && ![0, 510 * 8, 511 * 8].contains(&offset),
        Some(RegisterRule::Expression(expression)) => {
            let bytes = expression.get(section).unwrap().0;
            is_signal || bytes.slice() == [gimli::DW_OP_breg6.0, 0]
        }
        _ => false,
    };
    let rsp = is_signal || matches!(row.register(X86_64::RSP), None | Some(RegisterRule::ValOffset(0)));
    let return_address = is_signal || row.register(X86_64::RA) == Some(RegisterRule::Offset(-8));
    cfa && rbp && rsp && return_address
}

/// Whether the rule for an address is what gimli says. Gives the rule's kind.
fn check(oracle: &Oracle<'_>, address: u64, rule: Rule, numbers: &mut Numbers) -> Result<u32, String> {
    let Some(function) = oracle.function(address) else {
        return if rule == Rule::NONE || oracle.is_padding(address) { Ok(kind::NONE) } else { Err("a gap".into()) };
    };
    let mut context = UnwindContext::new();
    let row = function.unwind_info_for_address(&oracle.section, &oracle.bases, &mut context, address);
    let row = row.map_err(|error| format!("gimli: {error}"))?;
    let is_signal = function.is_signal_trampoline();
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return if rule == Rule::STOP { Ok(kind::STOP) } else { Err("it is outermost".into()) };
    }
    if rule == Rule::NONE {
        let representable = is_representable(&oracle.section, row, is_signal);
        return if representable { Err(format!("NONE for {row:?}")) } else { Ok(kind::NONE) };
    }
    if (rule.kind() == kind::SIGNAL) != is_signal {
        return Err(format!("signal: {is_signal}"));
    }
    for _ in 0..4 {
        // The code's own address counts, not where it is loaded: pages keep their low bits.
        let ip = address.wrapping_add(numbers.next() << 12 & 0xff_ffff_f000);
        let mut word = || numbers.next() & 0x7fff_ffff_fff8;
        let at = Registers { ip, sp: word(), bp: word() };
        let expected = expected(&oracle.section, row, at);
        if expected != Some(said(rule, at)) {
            return Err(format!("{:?} for {row:?}", rule.decode()));
        }
    }
    Ok(rule.kind())
}

fn check_object(object: &Object, places: usize, seed: u64) -> Result<[usize; 8], String> {
    let table = object.table();
    let oracle = Oracle::new(object);
    let mut numbers = Numbers(seed);
    let mut kinds = [0; 8];
    let code: Vec<_> = object.segments.iter().filter(|segment| segment.executable).collect();
    let random = |numbers: &mut Numbers| {
        let segment = code[numbers.next() as usize % code.len()];
        segment.address + numbers.next() % (segment.offsets.end - segment.offsets.start).max(1)
    };
    let boundary = |numbers: &mut Numbers| {
        let row = table.rows.get(numbers.next() as usize % table.rows.len().max(1))?;
        let segment = code.iter().find(|segment| segment.offsets.contains(&u64::from(row.offset())))?;
        (segment.address_of(u64::from(row.offset()))? + numbers.next() % 3).checked_sub(1)
    };
    for place in 0..places {
        let any = if place % 2 == 0 { Some(random(&mut numbers)) } else { boundary(&mut numbers) };
        let place =
            any.and_then(|address| Some((address, code.iter().find_map(|segment| segment.offset_of(address))?)));
        let Some((address, offset)) = place else { continue };
        let rule = table.rule_at(offset as u32);
        let kind = check(&oracle, address, rule, &mut numbers).map_err(|error| format!("at {address:#x}: {error}"))?;
        kinds[kind as usize] += 1;
    }
    Ok(kinds)
}

#[test]
fn rules_are_gimlis() {
    let (paths, places) = sample();
    let mut total = [0; 8];
    let mut objects = 0;
    let mut wrong = Vec::new();
    for (seed, path) in paths.iter().enumerate() {
        let Some(object) = Object::read(path) else { continue };
        match check_object(&object, places, seed as u64) {
            Ok(kinds) => total.iter_mut().zip(kinds).for_each(|(total, kind)| *total += kind),
            Err(error) => wrong.push(format!("{} {error}", path.display())),
        }
        objects += 1;
    }
    println!("{objects} objects; places by kind of rule: {total:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(objects > 10 && total[kind::RSP as usize] > 1000 && total[kind::RBP as usize] > 100);
}

#[test]
fn tables_are_sorted_and_without_repetition() {
    for path in sample().0 {
        let Some(object) = Object::read(&path) else { continue };
        let rows = object.table().rows;
        assert!(rows.is_sorted_by(|row, next| row.offset() < next.offset() && row.rule() != next.rule()));
        assert!(rows.last().is_none_or(|last| last.rule() == Rule::NONE));
    }
}

fn own_libc() -> (PathBuf, Object) {
    let path = fs::canonicalize(Path::new(LIBRARIES).join("libc.so.6")).unwrap();
    let object = Object::read(&path).unwrap();
    (path, object)
}

#[test]
fn libc_has_a_signal_trampoline_and_ends_of_threads() {
    let (_, object) = own_libc();
    let table = object.table();
    let of_kind = |wanted| table.rows.iter().filter(|row| row.rule().kind() == wanted).collect::<Vec<_>>();
    let [signal] = of_kind(kind::SIGNAL)[..] else { panic!("there is one trampoline") };
    assert_eq!(signal.rule().decode(), Step::Signal { offset: 40 });
    assert!(of_kind(kind::STOP).len() >= 2);
    assert_eq!(table.counts.malformed, 0);
}

#[test]
fn the_plt_has_rules_with_the_linkers_threshold() {
    let object = Object::read(Path::new("/proc/self/exe")).unwrap();
    let plts = objects().into_iter().filter_map(|path| Object::read(&path)).take(50).map(|object| object.table());
    let rules = plts.flat_map(|table| table.rows).map(Row::rule).filter(|rule| rule.kind() == kind::PLT);
    let mut rules: Vec<_> = rules.map(Rule::decode).collect();
    rules.dedup();
    assert!(!rules.is_empty());
    for rule in rules {
        let Step::Caller { cfa: memprof_common::unwind::Cfa::Plt { offset: 8, threshold: 10 | 11 }, .. } = rule else {
            panic!("{rule:?}");
        };
    }
    assert!(object.table().counts.functions > 1000);
}

#[test]
fn without_section_headers_the_table_is_the_same() {
    let (path, object) = own_libc();
    let mut bytes = fs::read(path).unwrap();
    // `e_shoff`, `e_shnum`, `e_shstrndx`.
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    let stripped = Object { eh_frame: elf::eh_frame(&file).unwrap().unwrap(), segments: elf::segments(&file).unwrap() };
    assert_eq!(stripped.eh_frame.text_address, None);
    assert_eq!(stripped.eh_frame.address, object.eh_frame.address);
    assert_eq!(stripped.table(), object.table());
}

#[test]
fn the_vdso_has_a_table() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let (start, rest) = line.split_once('-').unwrap();
    let start = u64::from_str_radix(start, 16).unwrap();
    let end = u64::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
    let mut image = vec![0; (end - start) as usize];
    std::os::unix::fs::FileExt::read_exact_at(&File::open("/proc/self/mem").unwrap(), &mut image, start).unwrap();
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &image, 0).unwrap();
    let object = Object { eh_frame: elf::eh_frame(&file).unwrap().unwrap(), segments: elf::segments(&file).unwrap() };
    let kinds = check_object(&object, 2_000, 1).unwrap();
    assert!(kinds[kind::RSP as usize] + kinds[kind::RBP as usize] > 100, "{kinds:?}");
}

/// The places that a return address is looked up by keep their rules.
#[test]
fn call_sites_keep_their_rules() {
    let (path, object) = own_libc();
    let file = File::open(path).unwrap();
    let table = object.table();
    let (segment, bytes) = elf::code(&file, &object.segments).unwrap().remove(0);
    let code = [Code { offset_in_file: segment.offsets.start as u32, bytes: &bytes }];
    let few = Table { rows: call_sites_only(&table.rows, &code), ..table.clone() };
    assert!(few.rows.len() * 5 < table.rows.len(), "{} of {}", few.rows.len(), table.rows.len());
    let mut calls = 0;
    for function in Oracle::new(&object).functions {
        let Some(start) = segment.offset_of(function.initial_address()) else { continue };
        let range = (start - segment.offsets.start) as usize..;
        let code = &bytes[range][..function.len() as usize];
        for end in call_ends(code) {
            let last_byte = start as u32 + end as u32 - 1;
            assert_eq!(few.rule_at(last_byte), table.rule_at(last_byte), "{last_byte:#x}");
            calls += 1;
        }
    }
    assert!(calls > 10_000);
}

/// Where the calls of a function end, decoded from its start.
fn call_ends(code: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.mnemonic() == iced_x86::Mnemonic::Call {
            ends.push(decoder.position());
        }
    }
    ends
}

/// This very thread's stack, walked by the tables of the objects that are mapped, up to the thread's start.
#[test]
fn this_thread_is_unwound_to_its_start() {
    #[inline(never)]
    fn here(depth: usize, walks: &mut Vec<memprof::unwind::Walk>, mapped: &[(Range<u64>, u64, Table)]) -> usize {
        if depth > 0 {
            return std::hint::black_box(here(depth - 1, walks, mapped)) + 1;
        }
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: it reads registers, and writes those that it says.
        unsafe {
            std::arch::asm!(
                "lea {ip}, [rip]", "mov {sp}, rsp", "mov {bp}, rbp",
                ip = out(reg) ip, sp = out(reg) sp, bp = out(reg) bp,
            );
        }
        let rule = |address: u64| {
            let (addresses, offset, table) = mapped.iter().find(|(addresses, ..)| addresses.contains(&address))?;
            Some(table.rule_at((address - addresses.start + offset) as u32))
        };
        let memory = File::open("/proc/self/mem").unwrap();
        let read = |address| {
            let mut word = [0; 8];
            std::os::unix::fs::FileExt::read_exact_at(&memory, &mut word, address).ok()?;
            Some(u64::from_le_bytes(word))
        };
        walks.push(walk(Registers { ip, sp, bp }, Start::Interrupted, 200, rule, read));
        0
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped: Vec<_> = maps
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-')?;
            let hex = |word| u64::from_str_radix(word, 16).ok();
            let object = Object::read(Path::new(words.get(5).filter(|path| path.starts_with('/'))?))?;
            words[1].contains('x').then_some((hex(start)?..hex(end)?, hex(words[2])?, object.table()))
        })
        .collect();
    let mut walks = Vec::new();
    assert_eq!(here(50, &mut walks, &mapped), 50);
    assert!(walks[0].is_whole(), "{:?}", walks[0]);
    assert!(walks[0].frames.len() > 50);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a section, there is a table or an error, and it is in order.
    #[test]
    fn mutated_sections_are_no_trouble(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        length in any::<prop::sample::Index>(),
        keeps_length in any::<bool>(),
    ) {
        let path = fs::canonicalize(Path::new(LIBRARIES).join("libgcc_s.so.1")).unwrap();
        let mut object = Object::read(&path).unwrap();
        let bytes = &mut object.eh_frame.bytes;
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if !keeps_length {
            bytes.truncate(length.index(bytes.len()));
        }
        let rows = Table::new(&object.eh_frame, &object.segments).unwrap().rows;
        prop_assert!(rows.is_sorted_by(|row, next| row.offset() < next.offset() && row.rule() != next.rule()));
    }

    #[test]
    fn noise_is_no_trouble(bytes in prop::collection::vec(any::<u8>(), 0..4096), address in any::<u64>()) {
        let segments = [Segment { offsets: 0..1 << 32, address: 0, executable: true }];
        let eh_frame = EhFrame { address, bytes, text_address: Some(1), got_address: None };
        prop_assert!(Table::new(&eh_frame, &segments).is_err());
        let segments = [Segment { offsets: 0..u64::from(u32::MAX), address, executable: true }];
        let rows = Table::new(&eh_frame, &segments).unwrap().rows;
        prop_assert!(rows.is_sorted());
    }
}
