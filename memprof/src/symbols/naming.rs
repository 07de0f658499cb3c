//! Who is asked for the names at a return address: which file, and in which process.

use std::{fs::File, path::PathBuf, rc::Rc};

pub(super) use super::debug_info::Named;
use super::{
    Isolation,
    debug_info::{Answer, DebugInformation, Place, Question},
    helper::Helper,
    origin::Origin,
};
use crate::model::address_for_lookup;

/// Answers what files say of their code.
#[derive(Debug)]
pub(super) enum Names {
    /// Read in this process.
    Here(Box<DebugInformation>),
    /// Read in another one.
    Apart(Helper),
}

impl Names {
    pub(super) fn new(debug_directories: &[PathBuf], isolation: Isolation) -> Self {
        match isolation {
            Isolation::Here => Self::Here(Box::new(DebugInformation::new(debug_directories))),
            Isolation::Apart => Self::Apart(Helper::new(debug_directories)),
        }
    }

    /// The functions that a return address, given by its offset in the object's file, lies in: innermost first, and a
    /// single nameless one if nothing is known.
    pub(super) fn of_return_address(&mut self, origin: &Origin, offset_in_file: u64) -> Rc<[Named]> {
        let offset = address_for_lookup(offset_in_file);
        let address = origin.address_of(offset);
        let separate = origin.debug_file.as_ref().zip(address.map(Place::Address));
        let own = origin.own_debug_information.as_deref().map(|file| (file, Place::Offset(offset)));
        let symbols = origin.object.as_deref().map(|file| (file, Place::Offset(offset)));
        let has_name = |answer: &Answer| answer.functions.iter().any(|named| named.function.is_some());
        let answer = separate
            .and_then(|(file, place)| self.ask(file, place, true).filter(has_name))
            .or_else(|| own.and_then(|(file, place)| self.ask(file, place, true).filter(has_name)))
            .or_else(|| symbols.and_then(|(file, place)| self.ask(file, place, false)));
        answer.map_or_else(|| Rc::new([Named::default()]) as Rc<[Named]>, |answer| answer.functions.into())
    }

    /// The symbol that a return address lies in, as the object's own table has it, and how far from its beginning.
    pub(super) fn symbol_before(&mut self, origin: &Origin, offset_in_file: u64) -> Option<(String, u64)> {
        let offset = address_for_lookup(offset_in_file);
        let (name, distance) = self.ask(origin.object.as_deref()?, Place::Offset(offset), false)?.symbol;
        Some((name, distance.checked_add(offset_in_file - offset)?))
    }

    /// `None` if the file does not know, or cannot be understood.
    fn ask(&mut self, file: &File, place: Place, debug_information: bool) -> Option<Answer> {
        let question = Question { place, debug_information };
        match self {
            Self::Here(information) => information.answer(file, question),
            Self::Apart(helper) => helper.answer(file, question),
        }
    }
}
