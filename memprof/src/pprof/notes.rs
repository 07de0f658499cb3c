//! What memprof keeps beside the samples: everything else that a report says, in one comment of the profile.
//!
//! The comment is `# memprof.profile/1 ` and a JSON object. What begins with `#` is not shown by `go tool pprof`. Fields may be added to
//! the object; whatever changes the meaning of one makes another number.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{PprofError, wire::Profile};
use crate::model::Report;

const FAMILY: &str = "# memprof.profile/";
const VERSION: &str = "1";

/// A source file, taken apart: a profile knows it as one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceParts {
    /// Directory of the compilation.
    pub directory: String,
    /// File, as the compiler was given it.
    pub file: String,
}

/// What memprof keeps beside the samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notes<'a> {
    /// Sums of the samples, by type: if they are others, some other tool has been at it.
    pub sums: [i64; 4],
    /// The files that are known with a directory, by the path in the profile.
    pub sources: BTreeMap<String, SourceParts>,
    /// The report, its stacks without frames and groups of blocks.
    pub report: Cow<'a, Report>,
}

impl Notes<'_> {
    /// As a comment.
    ///
    /// # Errors
    /// None that a report could cause.
    pub fn to_comment(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| format!("{FAMILY}{VERSION} {json}"))
    }

    /// Of a profile; none if memprof did not write it.
    ///
    /// # Errors
    /// If they are a newer memprof's, or damaged.
    pub fn of(profile: &Profile) -> Result<Option<Notes<'static>>, PprofError> {
        let comments =
            profile.comment.iter().filter_map(|index| profile.string_table.get(usize::try_from(*index).ok()?));
        let comments = comments.filter_map(|comment| std::str::from_utf8(comment).ok());
        let Some(notes) = comments.filter_map(|comment| comment.strip_prefix(FAMILY)).next() else { return Ok(None) };
        match notes.split_once(' ') {
            Some((VERSION, json)) => serde_json::from_str(json).map(Some).map_err(PprofError::Notes),
            _ => Err(PprofError::Newer(format!("memprof.profile/{}", version_of(notes)))),
        }
    }

    /// The sums of samples, by type.
    pub fn sums_of(profile: &Profile) -> [i64; 4] {
        let mut sums = [0i64; 4];
        for sample in &profile.sample {
            sums.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        sums
    }
}

fn version_of(notes: &str) -> String {
    notes.chars().take_while(|character| *character != ' ').take(8).collect()
}
