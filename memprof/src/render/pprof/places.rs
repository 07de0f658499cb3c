//! Mappings. A report does not know what was mapped, but where its frames were, in memory and in their files; so a mapping is as long as
//! the frames in it reach, in whole pages.
//!
//! An object that several processes have mapped, or several times, has a mapping for each distance between memory and file.

use std::collections::HashMap;

use super::builder::Strings;
use crate::{
    model::{BuildId, Frame, address_for_lookup},
    pprof::wire::Mapping,
};

const PAGE_BYTES: u64 = 4096;

type Object = (String, Option<BuildId>);

/// The mappings so far.
#[derive(Default)]
pub(super) struct Places {
    /// By object and bias; nothing for what is not in a file.
    ids: HashMap<(Object, Option<u64>), usize>,
    mapped: Vec<Mapped>,
    /// The part of an object that has frames.
    extents: HashMap<Object, Extent>,
}

struct Mapped {
    object: Object,
    /// Address less offset in the file.
    bias: Option<u64>,
    /// Of all its places: tools look for names where one is missing.
    has_functions: bool,
    /// Of some of its places: tools that look for lines leave no name as it is.
    has_filenames: bool,
    has_line_numbers: bool,
    /// Whether the program begins in it.
    is_program: bool,
}

#[derive(Clone, Copy)]
struct Extent {
    first: u64,
    last: u64,
}

impl Places {
    /// The id of the mapping that a frame is in, and zero if it is in none. `frames` are those at the same place.
    pub(super) fn id_of(&mut self, frame: &Frame, frames: &[Frame]) -> u64 {
        let Some(module) = &frame.module else { return 0 };
        let object = (module.to_string_lossy().into_owned(), frame.build_id.clone());
        let bias = frame.offset_in_file.map(|offset| frame.address.wrapping_sub(offset));
        let place = address_for_lookup(frame.offset_in_file.unwrap_or(frame.address));
        let extent = self.extents.entry(object.clone()).or_insert(Extent { first: place, last: place });
        *extent = Extent { first: extent.first.min(place), last: extent.last.max(place) };
        let mapped = &mut self.mapped;
        let index = *self.ids.entry((object, bias)).or_insert_with_key(|(object, bias)| {
            mapped.push(Mapped::new(object.clone(), *bias));
            mapped.len() - 1
        });
        mapped[index].learn(frames);
        index as u64 + 1
    }

    /// All mappings. Tools take the first one for the program.
    pub(super) fn mappings(&self, strings: &mut Strings) -> Vec<Mapping> {
        let (program, others): (Vec<_>, Vec<_>) =
            self.mapped.iter().enumerate().partition(|(_, mapped)| mapped.is_program);
        program
            .into_iter()
            .chain(others)
            .map(|(index, mapped)| self.mapping(index as u64 + 1, mapped, strings))
            .collect()
    }

    fn mapping(&self, id: u64, mapped: &Mapped, strings: &mut Strings) -> Mapping {
        let extent = self.extents.get(&mapped.object).copied().unwrap_or(Extent { first: 0, last: 0 });
        let (first, last) = (extent.first & !(PAGE_BYTES - 1), extent.last | (PAGE_BYTES - 1));
        let bias = mapped.bias.unwrap_or_default();
        let (path, build_id) = &mapped.object;
        Mapping {
            id,
            memory_start: bias.wrapping_add(first),
            memory_limit: bias.wrapping_add(last).saturating_add(1),
            // What is in no file has its addresses for offsets, which no file could have.
            file_offset: first,
            filename: strings.index(path),
            build_id: build_id.as_ref().map_or(0, |id| strings.index(&id.to_string())),
            has_functions: mapped.has_functions,
            has_filenames: mapped.has_filenames,
            has_line_numbers: mapped.has_line_numbers,
            // Lines and inlined functions come from the same place.
            has_inline_frames: mapped.has_line_numbers,
        }
    }
}

impl Mapped {
    fn new(object: Object, bias: Option<u64>) -> Self {
        Self { object, bias, has_functions: true, has_filenames: false, has_line_numbers: false, is_program: false }
    }

    fn learn(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.has_functions &= frame.function.is_some();
            self.has_filenames |= frame.source.is_some();
            self.has_line_numbers |= frame.source.as_ref().is_some_and(|source| source.line.is_some());
            self.is_program |= matches!(frame.function.as_deref(), Some("main" | "_start"));
        }
    }
}
