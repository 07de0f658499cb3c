//! Which files the names of an object come from.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::debug_file;
use crate::{
    elf::{self, Segment},
    model::Object,
    regular_file::descriptor_path,
};

/// The files that know the names of an object's functions; open, so that their paths stay valid.
#[derive(Debug)]
pub(super) struct Origin {
    /// The object itself.
    pub(super) object: Option<Arc<File>>,
    /// Whether it has its own debug information.
    pub(super) has_debug_information: bool,
    /// The separate file with its debug information.
    pub(super) debug_file: Option<File>,
    /// The object's segments: offsets in a debug file are not those in the object, addresses are.
    segments: Vec<Segment>,
}

impl Origin {
    pub(super) fn find(object: &Object, debug_directories: &[PathBuf]) -> Self {
        let Some(file) = object.file.clone() else {
            return Self { object: None, has_debug_information: false, debug_file: None, segments: Vec::new() };
        };
        let own = elf::has_debug_information(&file).unwrap_or(false);
        let linked = elf::debug_link(&file).ok().flatten();
        let separate = if own && linked.is_none() { None } else { debug_file::find(&file, debug_directories) };
        // blazesym follows a link by itself, and believes that nothing but the right file is ever there.
        let misleading = linked.is_some_and(|link| beside(&file).is_some_and(|path| path.join(link.name).exists()));
        Self {
            has_debug_information: own && !misleading,
            debug_file: separate,
            segments: elf::segments(&file).unwrap_or_default(),
            object: Some(file),
        }
    }

    /// The object's own address for an offset in its file, as its debug information has it.
    pub(super) fn address_of(&self, offset_in_file: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| segment.address_of(offset_in_file))
    }
}

/// The directory that an open file is, or was, in, in our own mount namespace. What is found there is to be checked:
/// the name may be another namespace's.
pub(super) fn beside(file: &File) -> Option<PathBuf> {
    std::fs::read_link(descriptor_path(file)).ok()?.parent().map(Path::to_owned)
}
