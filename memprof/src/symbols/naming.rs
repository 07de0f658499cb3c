//! Asks blazesym, and puts its answers into our words.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{self, Elf},
};

use super::{demangle::demangle, origin::Origin};
use crate::{
    model::{Source, address_for_lookup},
    regular_file::descriptor_path,
};

/// A function at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) function: Option<String>,
    pub(super) source: Option<Source>,
    pub(super) inlined: bool,
}

/// blazesym, and the files it has parsed.
#[derive(Debug)]
pub(super) struct Names {
    symbolizer: Symbolizer,
}

impl Names {
    pub(super) fn new(debug_directories: &[PathBuf]) -> Self {
        Self {
            symbolizer: Symbolizer::builder().set_debug_dirs(Some(debug_directories)).enable_demangling(false).build(),
        }
    }

    /// The functions that a return address, given by its offset in the object's file, lies in: innermost first, and a
    /// single nameless one if nothing is known.
    pub(super) fn of_return_address(&self, origin: &Origin, offset_in_file: u64) -> Rc<[Named]> {
        let offset = address_for_lookup(offset_in_file);
        let in_debug_file = || {
            let address = origin.address_of(offset)?;
            self.ask(origin.debug_file.as_ref()?, Input::VirtOffset(address), true)
        };
        let in_object =
            |debug_information| self.ask(origin.object.as_deref()?, Input::FileOffset(offset), debug_information);
        in_debug_file()
            .or_else(|| origin.has_debug_information.then(|| in_object(true)).flatten())
            .or_else(|| in_object(false))
            .unwrap_or_else(|| Rc::new([Named::default()]))
    }

    /// `None` if the file does not know, or cannot be understood.
    fn ask(&self, file: &File, place: Input<u64>, debug_information: bool) -> Option<Rc<[Named]>> {
        let mut elf = Elf::new(descriptor_path(file));
        elf.debug_syms = debug_information;
        let source = source::Source::Elf(elf);
        // The file is a stranger's: should a parser panic over it, that costs the name, not the report.
        let ask = || match self.symbolizer.symbolize_single(&source, place) {
            Ok(Symbolized::Sym(symbol)) => Some(name_all(&symbol)),
            Ok(Symbolized::Unknown(_)) | Err(_) => None,
        };
        catch_unwind(AssertUnwindSafe(ask)).ok().flatten()
    }
}

/// blazesym lists what was inlined from the outside inwards, behind the function that it was inlined into.
fn name_all(symbol: &Sym<'_>) -> Rc<[Named]> {
    let inlined = symbol.inlined.iter().rev().map(|function| Named {
        function: name(&function.name),
        source: function.code_info.as_ref().map(source_of),
        inlined: true,
    });
    let function =
        Named { function: name(&symbol.name), source: symbol.code_info.as_deref().map(source_of), inlined: false };
    inlined.chain([function]).collect()
}

fn name(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| demangle(name))
}

fn source_of(info: &CodeInfo<'_>) -> Source {
    Source {
        directory: info.dir.as_deref().filter(|directory| !directory.as_os_str().is_empty()).map(PathBuf::from),
        file: PathBuf::from(info.file.as_ref() as &std::ffi::OsStr),
        line: info.line.filter(|line| *line > 0),
    }
}
