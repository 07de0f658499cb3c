//! Raw stacks become named ones. The only user of blazesym.
//!
//! Names come from the objects' files, which are open, by offset in the file; the process is not asked, and need not
//! be alive.

mod debug_file;
mod debug_info;
mod demangle;
mod helper;
mod late;
mod logged;
mod naming;
mod origin;

use std::{collections::HashMap, path::PathBuf, rc::Rc, sync::Arc};

pub use demangle::demangle;
pub use helper::{SUBCOMMAND as READ_NAMES, serve as read_names};
pub use late::LateSymbolizer;
pub use logged::LoggedCallers;
use naming::{Named, Names};
use origin::Origin;

use crate::{
    elf,
    model::{Caller, Frame, Object, ObjectId, ObjectKind, ProfileFrame, RawFrame, address_for_lookup},
};

/// Where distributions put separate debug information.
const DEBUG_DIRECTORIES: [&str; 1] = ["/usr/lib/debug"];

/// What stands for the module of a function that was compiled at run time.
const JIT_MODULE: &str = "[JIT]";

/// In which process files' symbols and debug information are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In this one: for files that nobody has made to break it, and for tests, which are not memprof.
    Here,
    /// In another one, which memprof starts as itself, with the subcommand [`READ_NAMES`].
    Apart,
}

/// Names frames, each place (object and offset) once.
#[derive(Debug)]
pub struct Symbolizer {
    names: Names,
    debug_directories: Vec<PathBuf>,
    origins: HashMap<ObjectId, Origin>,
    places: HashMap<(ObjectId, u64), Rc<[Named]>>,
}

/// How much is known of the code in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Functions, source lines, and what was inlined.
    Lines,
    /// Functions.
    Functions,
    /// Functions that others may call; the rest has offsets.
    ExportedFunctions,
    /// Nothing but offsets.
    Offsets,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new(DEBUG_DIRECTORIES.map(PathBuf::from).into(), Isolation::Here)
    }
}

impl Symbolizer {
    /// A symbolizer that looks for separate debug information beside the objects and in these directories, which are
    /// laid out as `/usr/lib/debug` is. [`Symbolizer::default`] has that one.
    pub fn new(debug_directories: Vec<PathBuf>, isolation: Isolation) -> Self {
        Self {
            names: Names::new(&debug_directories, isolation),
            debug_directories,
            origins: HashMap::new(),
            places: HashMap::new(),
        }
    }

    /// [`Symbolizer::default`], but what it reads is read in another process.
    pub fn apart() -> Self {
        Self::new(DEBUG_DIRECTORIES.map(PathBuf::from).into(), Isolation::Apart)
    }

    /// The stack with names. A frame into which others were inlined becomes several, innermost first; one that cannot
    /// be named keeps its module and offset.
    ///
    /// `object` tells the object of a number, and `None` if it knows of none.
    pub fn name(
        &mut self,
        frames: impl IntoIterator<Item = impl Into<ProfileFrame>>,
        object: impl Fn(ObjectId) -> Option<Arc<Object>>,
    ) -> Vec<Frame> {
        let frames = frames.into_iter().map(Into::into);
        frames
            .flat_map(|ProfileFrame { raw, jit_function }| match jit_function {
                Some(name) => vec![jit_frame(raw.address, &name)],
                None => self.name_raw(raw, &object),
            })
            .collect()
    }

    /// The caller that a return address lies in, with what its object says of that itself: its own address, and its symbol.
    pub fn caller(&mut self, frame: &ProfileFrame, object: impl Fn(ObjectId) -> Option<Arc<Object>>) -> Caller {
        let place = frame.raw.place.and_then(|(id, offset)| Some((object(id)?, offset)));
        let frames = self.name([frame.clone()], object);
        let caller = Caller { address: frame.raw.address, frames, ..Caller::default() };
        let Some((object, offset)) = place.filter(|(object, _)| object.kind == ObjectKind::File) else { return caller };
        let origin = self.origin(&object);
        let last_of_call = address_for_lookup(offset);
        let address_in_module =
            origin.address_of(last_of_call).map(|address| address.wrapping_add(offset - last_of_call));
        let origin = &self.origins[&object.id];
        let symbol = self.names.symbol_before(origin, offset);
        Caller { module: Some(object.path.clone()), address_in_module, symbol, ..caller }
    }

    /// What it can say of code in the object.
    pub fn detail(&self, object: &Object) -> Detail {
        let Some(file) = object.file.as_deref() else { return Detail::Offsets };
        let origin = Origin::find(object, &self.debug_directories);
        if origin.own_debug_information.is_some() || origin.debug_file.is_some() {
            Detail::Lines
        } else if elf::has_symbol_table(file).unwrap_or(false) {
            Detail::Functions
        } else {
            Detail::ExportedFunctions
        }
    }

    fn name_raw(&mut self, frame: RawFrame, object: impl Fn(ObjectId) -> Option<Arc<Object>>) -> Vec<Frame> {
        match frame.place.and_then(|(id, offset)| Some((object(id)?, offset))) {
            Some((object, offset)) => self.name_place(frame.address, &object, offset),
            None => vec![Frame { address: frame.address, ..Frame::default() }],
        }
    }

    fn name_place(&mut self, address: u64, object: &Object, offset_in_file: u64) -> Vec<Frame> {
        let named = self.look_up(object, offset_in_file);
        let frame = |named: &Named| Frame {
            function: named.function.clone(),
            source: named.source.clone(),
            module: Some(object.path.clone()),
            build_id: object.build_id.clone(),
            offset_in_file: (object.kind != ObjectKind::Other).then_some(offset_in_file),
            address,
            inlined: named.inlined,
        };
        named.iter().map(frame).collect()
    }

    fn look_up(&mut self, object: &Object, offset_in_file: u64) -> Rc<[Named]> {
        // An object that could not be opened yet may be, later.
        if object.file.is_none() {
            return Rc::new([Named::default()]);
        }
        if let Some(known) = self.places.get(&(object.id, offset_in_file)) {
            return Rc::clone(known);
        }
        self.origin(object);
        let named = self.names.of_return_address(&self.origins[&object.id], offset_in_file);
        self.places.insert((object.id, offset_in_file), Rc::clone(&named));
        named
    }

    fn origin(&mut self, object: &Object) -> &Origin {
        self.origins.entry(object.id).or_insert_with(|| Origin::find(object, &self.debug_directories))
    }
}

fn jit_frame(address: u64, name: &str) -> Frame {
    Frame { function: Some(name.to_owned()), module: Some(JIT_MODULE.into()), address, ..Frame::default() }
}
