//! Names for callers in logs of calls: by the modules' files, as they are now.
//!
//! What stands in the brackets of `module:(symbol+offset)[address]` is a return address, or its distance from something; and modules
//! are loaded anywhere. Where there is a symbol, the module's own file says what its address is, and so what the distance is: for
//! that line, and for those of the same module that have no symbol.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Symbolizer;
use crate::{
    elf::{self, Segment},
    model::{Caller, FileIdentity, Frame, Object, ObjectId, ObjectKind, RawFrame},
    regular_file::open_regular,
};

const PAGE: u64 = 4096;

/// Names the callers of a log.
#[derive(Debug)]
pub struct LoggedCallers {
    symbolizer: Symbolizer,
    /// Where relative paths begin that are not found from here.
    directory: PathBuf,
    /// By path; nothing if it is not there.
    modules: HashMap<PathBuf, Option<Module>>,
}

/// A module as it is now.
#[derive(Debug)]
struct Module {
    object: Arc<Object>,
    segments: Vec<Segment>,
    symbols: HashMap<String, Vec<u64>>,
    /// What to take from an address in the log for the module's own count; modulo 2^64.
    bias: Option<u64>,
}

impl LoggedCallers {
    /// Learns what it can from all callers of a log that is in that directory.
    pub fn new<'a>(directory: &Path, callers: impl IntoIterator<Item = &'a Caller>) -> Self {
        let (symbolizer, directory) = (Symbolizer::apart(), directory.to_owned());
        let mut logged = Self { symbolizer, directory, modules: HashMap::new() };
        let mut symbols: HashMap<&Path, Vec<&Caller>> = HashMap::new();
        for caller in callers {
            if let Some(path) = &caller.module {
                symbols.entry(path).or_default().push(caller);
            }
        }
        for (number, (path, callers)) in (0..).zip(symbols) {
            let module = logged.open(path).and_then(|file| Module::new(ObjectId(number), path, file, &callers));
            logged.modules.insert(path.to_owned(), module);
        }
        logged
    }

    /// The functions that a caller lies in, innermost first. What cannot be named is what the log says.
    pub fn name(&mut self, caller: &Caller) -> Vec<Frame> {
        let path = caller.module.as_ref();
        let module = path.and_then(|path| self.modules.get(path)).and_then(Option::as_ref);
        let place = module.and_then(|module| Some((module, module.offset_in_file(caller)?)));
        let Some((module, offset)) = place else { return vec![as_logged(caller)] };
        let object = Arc::clone(&module.object);
        let raw = RawFrame { address: caller.address, place: Some((object.id, offset)) };
        self.symbolizer.name([raw], |_| Some(Arc::clone(&object)))
    }

    fn open(&self, path: &Path) -> Option<File> {
        open_regular(path).or_else(|_| open_regular(&self.directory.join(path))).ok()
    }
}

fn as_logged(caller: &Caller) -> Frame {
    let function = caller.symbol.as_ref().map(|(symbol, _)| symbol).filter(|symbol| !symbol.is_empty());
    let function = function.map(|symbol| super::demangle::demangle(symbol));
    Frame { function, module: caller.module.clone(), address: caller.address, ..Frame::default() }
}

impl Module {
    fn new(id: ObjectId, path: &Path, file: File, callers: &[&Caller]) -> Option<Self> {
        let segments = elf::segments(&file).ok()?;
        let named = callers.iter().filter_map(|caller| caller.symbol.as_ref()).map(|(symbol, _)| symbol.as_str());
        let mut names: Vec<_> = named.filter(|symbol| !symbol.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        let mut symbols: HashMap<String, Vec<u64>> = HashMap::new();
        for function in elf::defined_functions(&file, &names).unwrap_or_default() {
            symbols.entry(function.name).or_default().push(function.address);
        }
        let build_id = elf::build_id(&file);
        let (kind, identity, file) = (ObjectKind::File, None::<FileIdentity>, Some(Arc::new(file)));
        let object = Arc::new(Object { id, path: path.to_owned(), kind, identity, build_id, file });
        let mut module = Self { object, segments, symbols, bias: None };
        module.bias = callers.iter().find_map(|caller| Some(module.by_symbol(caller)?.1));
        Some(module)
    }

    /// The return address by the module's own count, and what was to be taken from the logged one for that. memprof logs the last byte of the call.
    fn by_symbol(&self, caller: &Caller) -> Option<(u64, u64)> {
        let (symbol, offset) = caller.symbol.as_ref()?;
        let base = [self.base()];
        let starts = if symbol.is_empty() { &base[..] } else { self.symbols.get(symbol)?.as_slice() };
        starts.iter().find_map(|start| {
            let address = start.wrapping_add(*offset);
            let biases = [caller.address, caller.address.wrapping_add(1)].map(|logged| logged.wrapping_sub(address));
            biases.into_iter().find(|bias| bias % PAGE == 0).map(|bias| (address, bias))
        })
    }

    fn offset_in_file(&self, caller: &Caller) -> Option<u64> {
        if let Some((address, _)) = self.by_symbol(caller) {
            return self.executable_offset(address);
        }
        let candidates = match self.bias {
            Some(bias) => [Some(caller.address.wrapping_sub(bias)), None],
            // By the module's own count, as memprof has it; or from where it is loaded, as glibc does.
            None => [Some(caller.address), caller.address.checked_add(self.base())],
        };
        candidates.into_iter().flatten().find_map(|address| self.executable_offset(address))
    }

    /// The offset of a return address, if what is before it is code.
    fn executable_offset(&self, address: u64) -> Option<u64> {
        let last_of_call = address.checked_sub(1)?;
        let offset = |segment: &Segment| segment.executable.then(|| segment.offset_of(last_of_call)).flatten();
        self.segments.iter().find_map(offset).and_then(|offset| offset.checked_add(1))
    }

    /// Where the first segment is loaded, if the module is loaded where it wants to be.
    fn base(&self) -> u64 {
        self.segments.iter().map(|segment| segment.address).min().unwrap_or_default() & !(PAGE - 1)
    }
}
