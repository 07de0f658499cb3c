//! Unwind tables as both sides know them: one row for each stretch of an object's code, saying how to get from a frame
//! in it to its caller.
//!
//! # A row
//!
//! ```text
//! 63            32 31  28 27      18 17                    0
//! +---------------+------+----------+-----------------------+
//! | offset        | kind | rbp      | cfa                   |    Row(u64)
//! +---------------+------+----------+-----------------------+
//!                 |<-------------- Rule(u32) -------------->|
//! ```
//!
//! `offset` is the *offset in the object's file* of the first byte of code that the rule holds for; it holds up to the
//! next row's offset. That is the space that frames are recorded in, so the mapping which turns an address into
//! (object, offset) serves the lookup as well, and the object's load bias is in neither. It also means that an object
//! with code beyond the first 4 GiB of its file has no table. A table's rows are sorted by `offset`, each different
//! from the one before, and since `offset` is in the high bits they are sorted as integers.
//!
//! A table covers all of an object: before its first row, rule [`kind::NONE`] holds. Its last row is `NONE`.
//!
//! # A rule
//!
//! What it computes from the registers `rsp`, `rbp` and `rip` of a frame are those of its caller. The *canonical frame
//! address* (CFA; DWARF 5, section 6.4) is the caller's `rsp`, and the return address is always the word below it.
//!
//! | `kind` | CFA | `cfa` holds |
//! |---|---|---|
//! | `NONE` | `rbp + 16`, a guess: the frame pointer's convention, with `rbp` at `*rbp` | 0 |
//! | `RSP` | `rsp + offset` | `offset / 8`, signed |
//! | `RBP` | `rbp + offset` | `offset / 8`, signed |
//! | `PLT` | `rsp + offset + (rip % 16 >= threshold ? 8 : 0)` | two parts: `offset / 8`, `threshold` |
//! | `DEREF_RBP` | `*(rbp + offset) + addend` | two parts: `offset / 8`, `addend / 8` |
//! | `DEREF_RSP` | `*(rsp + offset) + addend` | two parts: `offset / 8`, `addend / 8` |
//! | `SIGNAL` | a `struct sigcontext` at `rsp + offset` has all three registers | `offset / 8`, signed |
//! | `STOP` | there is no caller | 0 |
//!
//! The two parts of `cfa` are its low 12 bits, signed, and its high 6 bits, signed.
//!
//! `rbp` says where the caller's `rbp` is: 0, still in the register; [`RBP_LOST`], nowhere, and a CFA that is computed
//! from it later is void; [`RBP_AT_RBP`], at `*rbp` (functions that realign the stack); else at
//! `CFA + 8 * rbp`, signed. It is 0 for `NONE`, `SIGNAL` and `STOP`, where it has no meaning.
//!
//! # Lookups
//!
//! A return address is looked up minus one, since it may be past the end of the function that called. `SIGNAL` is the
//! exception: what it restores was interrupted, not called, and is looked up as it is.
//!
//! # Sources
//!
//! System V ABI, AMD64 supplement, sections 3.4.1 (`rbp` is zero in the outermost frame) and 3.6.2 (register numbers);
//! DWARF 5, section 6.4; Linux Standard Base, Core, section 10.6 (`.eh_frame`); Linux,
//! `arch/x86/include/uapi/asm/sigcontext.h`.

/// Kinds of rules: how the caller's registers are computed.
pub mod kind {
    /// No information: a gap between functions, or something that rules cannot say. The frame pointer is tried.
    pub const NONE: u32 = 0;
    /// CFA by the stack pointer.
    pub const RSP: u32 = 1;
    /// CFA by the frame pointer.
    pub const RBP: u32 = 2;
    /// In a procedure linkage table, whose stubs push one word on their way.
    pub const PLT: u32 = 3;
    /// CFA in memory, found by the frame pointer.
    pub const DEREF_RBP: u32 = 4;
    /// CFA in memory, found by the stack pointer.
    pub const DEREF_RSP: u32 = 5;
    /// The trampoline that a signal handler returns to.
    pub const SIGNAL: u32 = 6;
    /// The outermost frame of a thread.
    pub const STOP: u32 = 7;
    /// The kernel's trampoline, in the place of a return address that a return probe has replaced. In no table: the programs
    /// know it.
    pub const TRAMPOLINE: u32 = 8;
}

/// Value of [`Rule::rbp`]: the caller's `rbp` is at the address that `rbp` holds.
pub const RBP_AT_RBP: i32 = 511;

/// Value of [`Rule::rbp`]: the caller's `rbp` is gone.
pub const RBP_LOST: i32 = 510;

/// Where `rbp`, `rsp` and `rip` are in a `struct sigcontext`, in bytes.
pub mod sigcontext {
    /// Of `rbp`.
    pub const RBP: u64 = 80;
    /// Of `rsp`.
    pub const RSP: u64 = 120;
    /// Of `rip`.
    pub const RIP: u64 = 128;
}

const CFA_BITS: u32 = 18;
const RBP_BITS: u32 = 10;
const LOW_BITS: u32 = 12;
const HIGH_BITS: u32 = 6;

/// How to get from a frame to its caller, packed. See the [module](self).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule(pub u32);

impl Rule {
    /// No information.
    pub const NONE: Self = Self(kind::NONE << (CFA_BITS + RBP_BITS));
    /// In no known mapping, and perhaps the trampoline; with the lowest bit set, in one without rows.
    pub const TRAMPOLINE: Self = Self(kind::TRAMPOLINE << (CFA_BITS + RBP_BITS));
    /// No caller.
    pub const STOP: Self = Self(kind::STOP << (CFA_BITS + RBP_BITS));

    /// One of [`kind`].
    #[inline(always)]
    pub const fn kind(self) -> u32 {
        self.0 >> (CFA_BITS + RBP_BITS)
    }

    /// The field `rbp`: words from the CFA, or a special value.
    #[inline(always)]
    pub const fn rbp(self) -> i32 {
        sign_extend(self.0 >> CFA_BITS, RBP_BITS)
    }

    /// The field `cfa`, of kinds that have it in one part: words.
    #[inline(always)]
    pub const fn cfa(self) -> i32 {
        sign_extend(self.0, CFA_BITS)
    }

    /// The low part of the field `cfa`: words.
    #[inline(always)]
    pub const fn low(self) -> i32 {
        sign_extend(self.0, LOW_BITS)
    }

    /// The high part of the field `cfa`: words, or a threshold.
    #[inline(always)]
    pub const fn high(self) -> i32 {
        sign_extend(self.0 >> LOW_BITS, HIGH_BITS)
    }

    /// Packs a step. `None` if a number in it is too large for its field, or is not of whole words.
    pub const fn encode(step: Step) -> Option<Self> {
        let (cfa, rbp) = match step {
            Step::FramePointer => return Some(Self::NONE),
            Step::Stop => return Some(Self::STOP),
            Step::Signal { offset } => return Self::one_part(kind::SIGNAL, offset, 0),
            Step::Caller { cfa, rbp } => (cfa, rbp),
        };
        let rbp = match rbp {
            Rbp::Unchanged => 0,
            Rbp::Lost => RBP_LOST,
            Rbp::AtRbp => RBP_AT_RBP,
            Rbp::AtCfa(offset) => match words(offset, RBP_BITS) {
                Some(0 | RBP_LOST | RBP_AT_RBP) | None => return None,
                Some(words) => words,
            },
        };
        match cfa {
            Cfa::Rsp(offset) => Self::one_part(kind::RSP, offset, rbp),
            Cfa::Rbp(offset) => Self::one_part(kind::RBP, offset, rbp),
            Cfa::Plt { offset, threshold } => {
                if threshold < 0 || threshold > 16 {
                    return None;
                }
                Self::two_parts(kind::PLT, offset, threshold, rbp)
            }
            Cfa::DerefRbp { offset, addend } => match words(addend, HIGH_BITS) {
                Some(addend) => Self::two_parts(kind::DEREF_RBP, offset, addend, rbp),
                None => None,
            },
            Cfa::DerefRsp { offset, addend } => match words(addend, HIGH_BITS) {
                Some(addend) => Self::two_parts(kind::DEREF_RSP, offset, addend, rbp),
                None => None,
            },
        }
    }

    /// Unpacks a step. Every value is one: an unknown kind is `NONE`.
    pub const fn decode(self) -> Step {
        let cfa = match self.kind() {
            kind::RSP => Cfa::Rsp(8 * self.cfa()),
            kind::RBP => Cfa::Rbp(8 * self.cfa()),
            kind::PLT => Cfa::Plt { offset: 8 * self.low(), threshold: self.high() },
            kind::DEREF_RBP => Cfa::DerefRbp { offset: 8 * self.low(), addend: 8 * self.high() },
            kind::DEREF_RSP => Cfa::DerefRsp { offset: 8 * self.low(), addend: 8 * self.high() },
            kind::SIGNAL => return Step::Signal { offset: 8 * self.cfa() },
            kind::STOP => return Step::Stop,
            _ => return Step::FramePointer,
        };
        let rbp = match self.rbp() {
            0 => Rbp::Unchanged,
            RBP_LOST => Rbp::Lost,
            RBP_AT_RBP => Rbp::AtRbp,
            words => Rbp::AtCfa(8 * words),
        };
        Step::Caller { cfa, rbp }
    }

    const fn one_part(kind: u32, offset: i32, rbp: i32) -> Option<Self> {
        match words(offset, CFA_BITS) {
            Some(cfa) => {
                Some(Self(kind << (CFA_BITS + RBP_BITS) | field(rbp, RBP_BITS) << CFA_BITS | field(cfa, CFA_BITS)))
            }
            None => None,
        }
    }

    const fn two_parts(kind: u32, offset: i32, high: i32, rbp: i32) -> Option<Self> {
        match words(offset, LOW_BITS) {
            Some(low) => {
                let cfa = field(high, HIGH_BITS) << LOW_BITS | field(low, LOW_BITS);
                Some(Self(kind << (CFA_BITS + RBP_BITS) | field(rbp, RBP_BITS) << CFA_BITS | cfa))
            }
            None => None,
        }
    }
}

/// A rule, unpacked. Numbers are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`kind::NONE`].
    FramePointer,
    /// All kinds that compute a CFA.
    Caller {
        /// How.
        cfa: Cfa,
        /// Where the caller's `rbp` is.
        rbp: Rbp,
    },
    /// [`kind::SIGNAL`].
    Signal {
        /// From `rsp` to the `struct sigcontext`.
        offset: i32,
    },
    /// [`kind::STOP`].
    Stop,
}

/// How a CFA is computed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cfa {
    /// [`kind::RSP`].
    Rsp(i32),
    /// [`kind::RBP`].
    Rbp(i32),
    /// [`kind::PLT`].
    Plt {
        /// From `rsp` before the stub's push.
        offset: i32,
        /// Where in the stub of 16 bytes the push has been done; 0 to 16.
        threshold: i32,
    },
    /// [`kind::DEREF_RBP`].
    DerefRbp {
        /// From `rbp` to the word.
        offset: i32,
        /// Added to the word.
        addend: i32,
    },
    /// [`kind::DEREF_RSP`].
    DerefRsp {
        /// From `rsp` to the word.
        offset: i32,
        /// Added to the word.
        addend: i32,
    },
}

/// Where the caller's `rbp` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rbp {
    /// In `rbp`.
    Unchanged,
    /// Nowhere.
    Lost,
    /// Where `rbp` points to.
    AtRbp,
    /// At so many bytes from the CFA.
    AtCfa(i32),
}

/// A rule and where it begins to hold. See the [module](self).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub u64);

impl Row {
    /// Packs a row.
    #[inline(always)]
    pub const fn new(offset: u32, rule: Rule) -> Self {
        Self((offset as u64) << 32 | rule.0 as u64)
    }

    /// Offset in the file of the first byte that the rule holds for.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The rule.
    #[inline(always)]
    pub const fn rule(self) -> Rule {
        Rule(self.0 as u32)
    }
}

const _: () = {
    assert!(4 + RBP_BITS + CFA_BITS == 32);
    assert!(LOW_BITS + HIGH_BITS == CFA_BITS);
    assert!(size_of::<Rule>() == 4);
    assert!(size_of::<Row>() == 8);
    assert!(Row::new(0x1234_5678, Rule::STOP).0 == 0x1234_5678_7000_0000);
    assert!(Rule::NONE.0 == 0);
};

#[inline(always)]
const fn sign_extend(bits: u32, width: u32) -> i32 {
    (bits << (32 - width)) as i32 >> (32 - width)
}

/// `bytes` in words, if they are whole ones and their number fits into `width` bits.
const fn words(bytes: i32, width: u32) -> Option<i32> {
    let words = bytes / 8;
    if bytes % 8 == 0 && sign_extend(words as u32, width) == words { Some(words) } else { None }
}

const fn field(value: i32, width: u32) -> u32 {
    value as u32 & ((1 << width) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: Step = Step::Caller { cfa: Cfa::Rsp(16), rbp: Rbp::AtCfa(-16) };

    #[test]
    fn the_layout_is_the_documented_one() {
        const PACKED: Option<Rule> = Rule::encode(CALLER);
        assert_eq!(PACKED, Some(Rule(1 << 28 | (0x3fe << 18) | 2)));
        let plt = Step::Caller { cfa: Cfa::Plt { offset: 8, threshold: 11 }, rbp: Rbp::Unchanged };
        assert_eq!(Rule::encode(plt), Some(Rule(3 << 28 | 11 << 12 | 1)));
        let row = Row::new(u32::MAX, Rule(0x1fff_fffe));
        assert_eq!((row.offset(), row.rule()), (u32::MAX, Rule(0x1fff_fffe)));
    }

    #[test]
    fn rows_sort_by_offset_first() {
        assert!(Row::new(1, Rule(u32::MAX)) < Row::new(2, Rule::NONE));
    }

    #[test]
    fn what_a_field_can_hold_comes_back() {
        let offsets = [-(1 << 20), -8, 0, 8, 4096, (1 << 20) - 8];
        let small = [-(1 << 14), -8, 0, 8, (1 << 14) - 8];
        let addends = [-256, -8, 0, 8, 248];
        let rbps = [Rbp::Unchanged, Rbp::Lost, Rbp::AtRbp, Rbp::AtCfa(-4096), Rbp::AtCfa(-16), Rbp::AtCfa(509 * 8)];
        for rbp in rbps {
            let comes_back = |cfa| {
                let step = Step::Caller { cfa, rbp };
                assert_eq!(Rule::encode(step).map(Rule::decode), Some(step));
            };
            offsets.iter().for_each(|offset| comes_back(Cfa::Rsp(*offset)));
            offsets.iter().for_each(|offset| comes_back(Cfa::Rbp(*offset)));
            for offset in small {
                (0..=16).for_each(|threshold| comes_back(Cfa::Plt { offset, threshold }));
                addends.iter().for_each(|addend| comes_back(Cfa::DerefRbp { offset, addend: *addend }));
                addends.iter().for_each(|addend| comes_back(Cfa::DerefRsp { offset, addend: *addend }));
            }
        }
        for step in [Step::FramePointer, Step::Stop, Step::Signal { offset: 40 }] {
            assert_eq!(Rule::encode(step).map(Rule::decode), Some(step));
        }
    }

    #[test]
    fn what_a_field_cannot_hold_is_refused() {
        let refused = |cfa, rbp| assert_eq!(Rule::encode(Step::Caller { cfa, rbp }), None);
        for offset in [1, 12, 1 << 20, -(1 << 20) - 8, i32::MAX, i32::MIN] {
            refused(Cfa::Rsp(offset), Rbp::Unchanged);
            refused(Cfa::DerefRbp { offset, addend: 0 }, Rbp::Unchanged);
            refused(Cfa::DerefRsp { offset: 0, addend: offset }, Rbp::Unchanged);
        }
        for offset in [0, 4, 510 * 8, 511 * 8, 512 * 8, -513 * 8] {
            refused(Cfa::Rsp(8), Rbp::AtCfa(offset));
        }
        for threshold in [-1, 17, 64] {
            refused(Cfa::Plt { offset: 8, threshold }, Rbp::Unchanged);
        }
        assert_eq!(Rule::encode(Step::Signal { offset: 41 }), None);
    }

    #[test]
    fn every_value_is_a_step_and_those_with_meaning_are_encoded_alike() {
        for value in (0..=u32::MAX).step_by(9973) {
            let step = Rule(value).decode();
            if let Some(rule) = Rule::encode(step) {
                assert_eq!(rule.decode(), step);
            }
        }
    }
}
