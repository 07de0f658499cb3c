//! The attach plan, as a person reads it.

use std::fmt::{self, Display, Formatter};

use crate::model::{AllocatorFunction, AttachPlan, Pointer, ProbeSite, Release, SearchedObject, Size};

/// Each object that has sites or was left out, and its sites: file offset, function (and its other names), kind.
impl Display for AttachPlan {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for searched in &self.searched {
            match &searched.outcome {
                Ok(0) => {}
                Ok(_) => self.write_object(searched, formatter)?,
                Err(reason) => writeln!(formatter, "{}: left out: {reason}", searched.path.display())?,
            }
        }
        Ok(())
    }
}

/// How many functions an object has, or why it was left out.
impl Display for SearchedObject {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        match &self.outcome {
            Ok(0) => formatter.write_str(" (none)"),
            Ok(count) => write!(formatter, " ({count} functions)"),
            Err(reason) => write!(formatter, " (left out: {reason})"),
        }
    }
}

impl AttachPlan {
    fn write_object(&self, searched: &SearchedObject, formatter: &mut Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", searched.path.display())?;
        let mut sites = self.sites.iter().filter(|site| site.object == searched.object);
        sites.try_for_each(|site| writeln!(formatter, "  {site}"))
    }
}

impl Display for ProbeSite {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#010x}  {}", self.offset_in_file, self.function.name)?;
        for alias in &self.aliases {
            write!(formatter, " = {alias}")?;
        }
        write!(formatter, ": {}", Kind(self.function))
    }
}

/// What a function does, in words.
struct Kind(&'static AllocatorFunction);

impl Display for Kind {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0.release {
            Release::None => {}
            Release::Argument0 => return formatter.write_str("frees arg0"),
            Release::Argument0OnSuccess => formatter.write_str("frees arg0 on success, ")?,
        }
        match self.0.size {
            Size::None => formatter.write_str("allocates nothing")?,
            Size::Argument(argument) => write!(formatter, "allocates arg{argument}")?,
            Size::Product(first) => write!(formatter, "allocates arg{first} * arg{}", first + 1)?,
        }
        match self.0.pointer {
            Pointer::WrittenToArgument0 => formatter.write_str(", pointer to *arg0"),
            Pointer::None | Pointer::Returned => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::ObjectId, plan::FUNCTIONS};

    fn site(name: &str, offset_in_file: u64, aliases: &[&'static str]) -> ProbeSite {
        let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap_or(&FUNCTIONS[0]);
        ProbeSite { object: ObjectId(0), offset_in_file, segment: 0..0, function, aliases: aliases.into() }
    }

    #[test]
    fn a_plan_shows_where_what_is_probed_and_what_not() {
        let searched =
            |object, path: &str, outcome| SearchedObject { object: ObjectId(object), path: path.into(), outcome };
        let plan = AttachPlan {
            sites: vec![
                site("malloc", 0x98870, &[]),
                site("reallocarray", 0x99000, &[]),
                site("posix_memalign", 0x99100, &[]),
                site("aligned_alloc", 0x99200, &["memalign"]),
                site("free", 0x99300, &["cfree"]),
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
            \x20 0x00098870  malloc: allocates arg0\n\
            \x20 0x00099000  reallocarray: frees arg0 on success, allocates arg1 * arg2\n\
            \x20 0x00099100  posix_memalign: allocates arg2, pointer to *arg0\n\
            \x20 0x00099200  aligned_alloc = memalign: allocates arg1\n\
            \x20 0x00099300  free = cfree: frees arg0\n\
            /lib/b.so: left out: a reason\n"
        );
    }
}
