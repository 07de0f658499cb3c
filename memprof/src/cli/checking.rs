//! Options by which the exit status says something of the memory: for scripts and CI.

use bytesize::ByteSize;
use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser as _},
};

use super::values::size;
use crate::{
    model::FailWhen,
    session::{Checking, Suppressions, read_suppressions},
};

/// What a report can fail for, beside its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A process, or one of its stacks, grows steadily: its verdict says so
    Growing,
    /// Something was not recorded, so that the figures are not certain
    Loss,
}

#[derive(Args, Debug)]
pub(super) struct CheckingOptions {
    /// Exit with status 100 if a process holds more than this when the last report is made, such as 0B or 1MiB
    ///
    /// What counts is what is selected (--older, --min-size, --max-size) and not suppressed. The stacks that hold most are named on
    /// standard error. A launched command that fails keeps its own status.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Checks")]
    fail_above: Option<ByteSize>,
    /// Exit with status 100 if this holds of the last report; can be given several times, or with commas
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',', help_heading = "Checks")]
    fail_on: Vec<FailOn>,
    /// Leave out the stacks that this file lists, in LeakSanitizer's format; can be given several times
    ///
    /// A line is leak:PATTERN, a comment that begins with #, or empty. A stack is left out if a frame's function, source file or module
    /// has the pattern in it. `*` stands for anything, `^` for the beginning and `$` for the end.
    #[arg(
        long,
        value_name = "FILE",
        value_parser = OsStringValueParser::new().try_map(read_suppressions),
        help_heading = "Checks"
    )]
    suppressions: Vec<Suppressions>,
}

impl CheckingOptions {
    /// What a session is told.
    pub(super) fn into_checking(self) -> Checking {
        let fail_when = FailWhen {
            above: self.fail_above.map(|size| size.as_u64()),
            growing: self.fail_on.contains(&FailOn::Growing),
            loss: self.fail_on.contains(&FailOn::Loss),
        };
        let suppressions = (!self.suppressions.is_empty()).then(|| Suppressions::of_all(self.suppressions));
        Checking { suppressions, fail_when }
    }
}
