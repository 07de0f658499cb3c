//! The rules of sites as another decoder sees them: objdump, whose text is read.

use std::{ops::RangeInclusive, path::Path, process::Command};

/// An instruction: address, mnemonic, operands, destination first.
pub(super) struct Line {
    pub(super) address: u64,
    pub(super) mnemonic: String,
    pub(super) operands: String,
}

/// What `objdump OPTIONS FILE` lists.
pub(super) fn lines(file: &Path, options: &[&str]) -> Vec<Line> {
    let mut objdump = Command::new("objdump");
    let output = objdump.args(["-M", "intel", "--no-show-raw-insn", "-z"]).args(options).arg(file).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Line> {
    let (address, text) = line.split_once(":\t")?;
    let address = u64::from_str_radix(address.trim(), 16).ok()?;
    let text = text.split(['#', '<']).next()?.trim();
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((text, ""));
    Some(Line { address, mnemonic: mnemonic.to_owned(), operands: operands.trim().to_owned() })
}

impl Line {
    /// Whether it leaves alone what the programs read, of so many arguments, and goes on to the next one.
    pub(super) fn is_harmless(&self, arguments: usize) -> bool {
        let is_kept = |operand: &str| is_kept(operand.trim(), arguments);
        let (destination, source) = self.operands.split_once(',').unwrap_or((&self.operands, ""));
        match self.mnemonic.as_str() {
            "test" | "cmp" | "bt" | "nop" | "endbr64" => true,
            // These write %rdx.
            "cqo" | "cdq" | "cwd" | "mul" => arguments <= RDX,
            "imul" if source.is_empty() => arguments <= RDX,
            "xchg" => !self.operands.contains('[') && !is_kept(destination) && !is_kept(source),
            "call" | "ret" | "push" | "pop" => false,
            other if is_jump(other) => false,
            _ => !destination.contains('[') && !is_kept(destination),
        }
    }

    /// Whether the kernel emulates it, as far as its name says.
    pub(super) fn is_emulated(&self) -> bool {
        ["push", "nop", "call"].contains(&self.mnemonic.as_str()) || self.mnemonic.starts_with('j')
    }

    pub(super) fn is_jump(&self) -> bool {
        is_jump(&self.mnemonic)
    }

    /// Where a jump or call leads, if it says so.
    pub(super) fn target(&self) -> Option<u64> {
        let is_branch = self.is_jump() || self.mnemonic == "call";
        u64::from_str_radix(self.operands.trim_start_matches("0x"), 16).ok().filter(|_| is_branch)
    }
}

fn is_jump(mnemonic: &str) -> bool {
    mnemonic.starts_with('j') || mnemonic.starts_with("loop") || mnemonic == "xbegin" || mnemonic == "notrack"
}

/// The arguments' registers, each by all of its names.
const ARGUMENTS: [&str; 6] =
    ["rdi edi di dil", "rsi esi si sil", "rdx edx dx dl dh", "rcx ecx cx cl ch", "r8 r8d r8w r8b", "r9 r9d r9w r9b"];

/// Which of them is `rdx`.
const RDX: usize = 2;

/// Whether a register, by any of its names, is the stack pointer's or one of so many arguments'.
fn is_kept(operand: &str, arguments: usize) -> bool {
    let kept = ARGUMENTS[..arguments].iter().chain(&["rsp esp sp spl"]);
    kept.flat_map(|names| names.split(' ')).any(|name| name == operand)
}

/// Checks the site of a function, whose instructions are given, all of them and nothing else, and of which so many arguments are read.
pub(super) fn check(function: &[&Line], site: u64, arguments: usize) {
    let entry = function[0].address;
    let index = function.iter().position(|line| line.address == site).unwrap();
    assert!(index <= 12 && site - entry <= 64);
    for line in &function[..index] {
        assert!(line.is_harmless(arguments), "{} {} is skipped at {:#x}", line.mnemonic, line.operands, line.address);
    }
    assert!(function[index].is_emulated(), "{} at {site:#x}", function[index].mnemonic);
    for line in function {
        check_target(line, entry..=site);
        // Nowhere else than is said.
        assert!(!line.is_jump() || line.target().is_some(), "{} {}", line.mnemonic, line.operands);
    }
    assert!(function.iter().filter(|line| line.is_jump()).all(|line| line.target() != Some(entry)));
}

/// Checks that an instruction leads to no place that is closed: those after the entry.
pub(super) fn check_target(line: &Line, closed: RangeInclusive<u64>) {
    let is_closed = |target: u64| target > *closed.start() && target <= *closed.end();
    assert!(!line.target().is_some_and(is_closed), "{} {} at {:#x}", line.mnemonic, line.operands, line.address);
}
