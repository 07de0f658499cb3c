//! What an ELF file says of a place in its code, by blazesym. The file may be a stranger's: see [`super::helper`].

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{self, Elf},
};
use serde::{Deserialize, Serialize};

use super::demangle::demangle;
use crate::{model::Source, regular_file::descriptor_path};

/// Longer names, of functions and of files, are cut: nobody reads them, and each frame has its own.
const MOST_NAME_BYTES: usize = 4096;

/// So many functions that are inlined into one another are told of at one place.
const MOST_INLINED: usize = 128;

/// A place in an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An offset in the file.
    Offset(u64),
    /// An address by the file's own count.
    Address(u64),
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) place: Place,
    /// Whether its debug information may answer, and not only its symbol tables.
    pub(super) debug_information: bool,
}

/// What lies at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The function's symbol as the file has it, and how far from its beginning the place is.
    pub(super) symbol: (String, u64),
    /// The functions that the place lies in, innermost first: at least one.
    pub(super) functions: Vec<Named>,
}

/// A function at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) function: Option<String>,
    pub(super) source: Option<Source>,
    pub(super) inlined: bool,
}

/// blazesym, and the files it has parsed.
#[derive(Debug)]
pub(super) struct DebugInformation {
    symbolizer: Symbolizer,
}

impl DebugInformation {
    /// Supplementary files are looked for in these directories, too.
    pub(super) fn new(debug_directories: &[PathBuf]) -> Self {
        let builder = Symbolizer::builder().set_debug_dirs(Some(debug_directories));
        Self { symbolizer: builder.enable_demangling(false).build() }
    }

    /// Nothing if the file does not know, or cannot be understood.
    pub(super) fn answer(&self, file: &File, question: Question) -> Option<Answer> {
        let mut elf = Elf::new(descriptor_path(file));
        elf.debug_syms = question.debug_information;
        let source = source::Source::Elf(elf);
        let place = match question.place {
            Place::Offset(offset) => Input::FileOffset(offset),
            Place::Address(address) => Input::VirtOffset(address),
        };
        let ask = || match self.symbolizer.symbolize_single(&source, place) {
            Ok(Symbolized::Sym(symbol)) => Some(answer_of(&symbol)),
            Ok(Symbolized::Unknown(_)) | Err(_) => None,
        };
        // Should a parser panic over the file, that costs the name, not the report.
        catch_unwind(AssertUnwindSafe(ask)).ok().flatten()
    }
}

/// blazesym lists what was inlined from the outside inwards, behind the function that it was inlined into.
fn answer_of(symbol: &Sym<'_>) -> Answer {
    let inlined = symbol.inlined.iter().rev().take(MOST_INLINED).map(|function| Named {
        function: name(&function.name),
        source: function.code_info.as_ref().map(source_of),
        inlined: true,
    });
    let function =
        Named { function: name(&symbol.name), source: symbol.code_info.as_deref().map(source_of), inlined: false };
    let functions = inlined.chain([function]).collect();
    Answer { symbol: (cut(&symbol.name).to_owned(), symbol.offset as u64), functions }
}

fn name(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| {
        let mut demangled = demangle(cut(name));
        demangled.truncate(cut(&demangled).len());
        demangled
    })
}

fn source_of(info: &CodeInfo<'_>) -> Source {
    let directory = info.dir.as_deref().filter(|directory| !directory.as_os_str().is_empty());
    Source {
        directory: directory.map(cut_path),
        file: cut_path(Path::new(&info.file)),
        line: info.line.filter(|line| *line > 0),
    }
}

fn cut(name: &str) -> &str {
    let boundary = (0..=name.len().min(MOST_NAME_BYTES)).rev().find(|end| name.is_char_boundary(*end));
    &name[..boundary.unwrap_or_default()]
}

fn cut_path(path: &Path) -> PathBuf {
    match path.as_os_str().len() {
        0..=MOST_NAME_BYTES => path.to_owned(),
        _ => cut(&path.to_string_lossy()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_between_characters() {
        let long = "é".repeat(MOST_NAME_BYTES);
        assert_eq!(name(&long), Some("é".repeat(MOST_NAME_BYTES / 2)));
        assert_eq!(name(&format!("a{long}")).map(|name| name.len()), Some(MOST_NAME_BYTES - 1));
        assert_eq!(cut_path(Path::new(&long)).as_os_str().len(), MOST_NAME_BYTES);
        assert_eq!((name(""), name("f")), (None, Some("f".to_owned())));
    }
}
