//! Which files the names of an object come from.

use std::{fs::File, path::PathBuf, sync::Arc};

use super::debug_file;
use crate::{
    elf::{self, Segment},
    model::Object,
};

/// The files that know the names of an object's functions; open, so that their paths stay valid.
#[derive(Debug)]
pub(super) struct Origin {
    /// The object itself.
    pub(super) object: Option<Arc<File>>,
    /// The same, or a copy of it, if it has its own debug information.
    pub(super) own_debug_information: Option<Arc<File>>,
    /// The separate file with its debug information.
    pub(super) debug_file: Option<File>,
    /// The object's segments: offsets in a debug file are not those in the object, addresses are.
    segments: Vec<Segment>,
}

impl Origin {
    pub(super) fn find(object: &Object, debug_directories: &[PathBuf]) -> Self {
        let Some(file) = object.file.clone() else {
            return Self { object: None, own_debug_information: None, debug_file: None, segments: Vec::new() };
        };
        let has_own = elf::has_debug_information(&file).unwrap_or(false);
        let is_linked = elf::debug_link(&file).ok().flatten().is_some();
        let separate = if has_own && !is_linked { None } else { debug_file::find(&file, debug_directories) };
        Self {
            own_debug_information: if has_own { alone(&file) } else { None },
            debug_file: separate,
            segments: elf::segments(&file).unwrap_or_default(),
            object: Some(file),
        }
    }

    /// Of an object that is not at hand: where its segments are, and a file with its debug information.
    pub(super) fn elsewhere(segments: Vec<Segment>, debug_file: File) -> Self {
        Self { object: None, own_debug_information: None, debug_file: Some(debug_file), segments }
    }

    /// The object's own address for an offset in its file, as its debug information has it.
    pub(super) fn address_of(&self, offset_in_file: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| segment.address_of(offset_in_file))
    }
}

/// The file, if it names no other files; or else a copy that names none, since blazesym opens whatever is named, believing that
/// nothing but the right file is ever there.
fn alone(file: &Arc<File>) -> Option<Arc<File>> {
    if elf::names_files(file) { elf::without_names_of_files(file).ok().map(Arc::new) } else { Some(Arc::clone(file)) }
}
