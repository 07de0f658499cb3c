//! The attach plan, as a person reads it.

use std::fmt::{self, Display, Formatter};

use crate::{
    model::{
        AllocatorFunction, AttachPlan, Choice, Emulation, EntryReason, Pointer, ProbeSite, Release, SearchedObject,
        Size,
    },
    wording::escape::visible_path,
};

/// Each object that has sites or was left out, and its sites: file offset, function, why there, its other names, kind.
impl Display for AttachPlan {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for searched in &self.searched {
            match &searched.outcome {
                Ok(0) => {}
                Ok(_) => self.write_object(searched, formatter)?,
                Err(reason) => writeln!(formatter, "{}: left out: {reason}", visible_path(&searched.path))?,
            }
            for function in &searched.left_out {
                writeln!(formatter, "{}: left out: {function}", visible_path(&searched.path))?;
            }
        }
        Ok(())
    }
}

/// How many functions an object has, or why it was left out.
impl Display for SearchedObject {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", visible_path(&self.path))?;
        match &self.outcome {
            Ok(0) => match self.unnamed {
                None => formatter.write_str(" (none)"),
                Some(reason) => write!(formatter, " (none: {reason})"),
            },
            Ok(count) => write!(formatter, " ({count} functions)"),
            Err(reason) => write!(formatter, " (left out: {reason})"),
        }
    }
}

impl AttachPlan {
    fn write_object(&self, searched: &SearchedObject, formatter: &mut Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", visible_path(&searched.path))?;
        let mut sites = self.sites.iter().filter(|site| site.object == searched.object);
        sites.try_for_each(|site| writeln!(formatter, "  {site}"))
    }
}

impl Display for ProbeSite {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#010x}  {}", self.offset_in_file, self.function.name)?;
        if self.offset_in_file != self.entry_in_file {
            write!(formatter, " + {}", self.offset_in_file - self.entry_in_file)?;
        }
        write!(formatter, " ({})", self.choice)?;
        if let Some(exits) = &self.exits {
            write!(formatter, " to {} returns", exits.len())?;
        }
        for alias in &self.aliases {
            write!(formatter, " = {alias}")?;
        }
        write!(formatter, ": {}", Kind(self.function))
    }
}

impl Display for Choice {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmulatedEntry { instruction, emulation } => write!(formatter, "{instruction}, {emulation}"),
            Self::Later { instruction, emulation, entry } => {
                write!(formatter, "{instruction}, {emulation}; the entry's {entry} would be single-stepped")
            }
            Self::Entry(reason) => write!(formatter, "the entry, single-stepped: {reason}"),
        }
    }
}

impl Display for Emulation {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Always => "emulated",
            Self::NewerKernels => "emulated by newer kernels",
        })
    }
}

impl Display for EntryReason {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherProcessor => formatter.write_str("this processor's instructions are not known"),
            Self::SizeUnknown => formatter.write_str("its symbol has no size"),
            Self::TooLarge => formatter.write_str("too large to be an allocator function"),
            Self::NotDecoded => formatter.write_str("not all of it is instructions"),
            Self::NoneEmulated { entry, before: Some(before) } => {
                write!(formatter, "its {entry}; nothing is emulated before {before}, which cannot be skipped")
            }
            Self::NoneEmulated { entry, before: None } => write!(formatter, "its {entry}; nothing emulated is near"),
            Self::JumpBack { from } => write!(formatter, "it jumps back to its beginning, from + {from}"),
            Self::IndirectJump { from } => write!(formatter, "it jumps to an unknown place, from + {from}"),
            Self::SymbolInside { at } => write!(formatter, "another symbol is at + {at}"),
            Self::JumpFromElsewhere { to } => write!(formatter, "other code jumps to + {to}"),
        }
    }
}

/// What a function does, in words.
struct Kind(&'static AllocatorFunction);

impl Display for Kind {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0.release {
            Release::None => {}
            Release::Always(argument) if self.0.size == Size::None => return write!(formatter, "frees arg{argument}"),
            Release::Always(argument) => write!(formatter, "frees arg{argument}, ")?,
            Release::OnSuccess(argument) => write!(formatter, "frees arg{argument} on success, ")?,
        }
        match self.0.size {
            Size::None => formatter.write_str("allocates nothing")?,
            Size::Argument(argument) => write!(formatter, "allocates arg{argument}")?,
            Size::Product(first) => write!(formatter, "allocates arg{first} * arg{}", first + 1)?,
        }
        match self.0.pointer {
            Pointer::WrittenTo(argument) => write!(formatter, ", pointer to *arg{argument}"),
            Pointer::InPlace => formatter.write_str(" in place"),
            Pointer::None | Pointer::Returned => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::ObjectId, plan::FUNCTIONS};

    fn site(name: &str, entry_in_file: u64, skipped: u64, choice: Choice, aliases: &[&'static str]) -> ProbeSite {
        let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap_or(&FUNCTIONS[0]);
        ProbeSite {
            object: ObjectId(0),
            offset_in_file: entry_in_file + skipped,
            entry_in_file,
            choice,
            segment: 0..0,
            function,
            exits: None,
            aliases: aliases.into(),
        }
    }

    fn emulated(instruction: &str) -> Choice {
        Choice::EmulatedEntry { instruction: instruction.into(), emulation: Emulation::Always }
    }

    fn later(instruction: &str, emulation: Emulation, entry: &str) -> Choice {
        Choice::Later { instruction: instruction.into(), emulation, entry: entry.into() }
    }

    fn none_emulated(entry: &str, before: Option<&str>) -> EntryReason {
        EntryReason::NoneEmulated { entry: entry.into(), before: before.map(Into::into) }
    }

    #[test]
    fn a_plan_shows_where_what_is_probed_and_what_not() {
        let searched = |object, path: &str, outcome| SearchedObject {
            object: ObjectId(object),
            path: path.into(),
            outcome,
            left_out: Vec::new(),
            unnamed: None,
        };
        let plan = AttachPlan {
            sites: vec![
                site("malloc", 0x98870, 0, emulated("push"), &[]),
                site("reallocarray", 0x99000, 0, Choice::Entry(none_emulated("mov", Some("mul"))), &[]),
                site("posix_memalign", 0x99100, 4, later("nop", Emulation::NewerKernels, "endbr64"), &[]),
                site("aligned_alloc", 0x99200, 0, Choice::Entry(EntryReason::SymbolInside { at: 7 }), &["memalign"]),
                site("free", 0x99300, 3, later("je", Emulation::Always, "test"), &["cfree"]),
            ],
            searched: vec![
                searched(0, "/lib/libc.so.6", Ok(5)),
                searched(1, "/bin/a", Ok(0)),
                searched(2, "/lib/b.so", Err("a reason".into())),
            ],
        };
        assert_eq!(
            plan.to_string(),
            "/lib/libc.so.6\n\
            \x20 0x00098870  malloc (push, emulated): allocates arg0\n\
            \x20 0x00099000  reallocarray (the entry, single-stepped: its mov; nothing is emulated before mul, which cannot be \
            skipped): frees arg0 on success, allocates arg1 * arg2\n\
            \x20 0x00099104  posix_memalign + 4 (nop, emulated by newer kernels; the entry's endbr64 would be \
            single-stepped): allocates arg2, pointer to *arg0\n\
            \x20 0x00099200  aligned_alloc (the entry, single-stepped: another symbol is at + 7) = memalign: allocates \
            arg1\n\
            \x20 0x00099303  free + 3 (je, emulated; the entry's test would be single-stepped) = cfree: frees arg0\n\
            /lib/b.so: left out: a reason\n"
        );
    }

    #[test]
    fn each_reason_for_the_entry_is_told() {
        let told = |reason| Choice::Entry(reason).to_string();
        assert_eq!(
            [
                EntryReason::OtherProcessor,
                EntryReason::SizeUnknown,
                EntryReason::TooLarge,
                EntryReason::NotDecoded,
                none_emulated("mov", None),
                EntryReason::JumpBack { from: 40 },
                EntryReason::IndirectJump { from: 41 },
                EntryReason::JumpFromElsewhere { to: 3 },
            ]
            .map(told),
            [
                "the entry, single-stepped: this processor's instructions are not known",
                "the entry, single-stepped: its symbol has no size",
                "the entry, single-stepped: too large to be an allocator function",
                "the entry, single-stepped: not all of it is instructions",
                "the entry, single-stepped: its mov; nothing emulated is near",
                "the entry, single-stepped: it jumps back to its beginning, from + 40",
                "the entry, single-stepped: it jumps to an unknown place, from + 41",
                "the entry, single-stepped: other code jumps to + 3",
            ]
        );
    }
}
