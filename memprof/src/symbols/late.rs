//! Names for frames of a saved profile, from files with debug information that are elsewhere, such as those that
//! `objcopy --only-keep-debug` made. A file is believed if its build id is that of the frame's object.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    Isolation,
    debug_file::{checksum, path_by_build_id},
    naming::{Named, Names},
    origin::Origin,
};
use crate::{
    elf,
    model::{BuildId, Frame},
    regular_file::open_regular,
};

/// Names frames that have none.
#[derive(Debug)]
pub struct LateSymbolizer {
    names: Names,
    directories: Vec<PathBuf>,
    /// All files below the directories, when they have been looked through.
    files: Option<Files>,
    origins: HashMap<BuildId, Option<Origin>>,
    /// Objects of frames that have no name still, as there is no file of theirs.
    missing: BTreeSet<(PathBuf, BuildId)>,
}

/// Files that may have names.
#[derive(Debug, Default)]
struct Files {
    by_id: HashMap<BuildId, Vec<PathBuf>>,
    all: Vec<PathBuf>,
}

impl LateSymbolizer {
    /// Looks for files below these directories.
    ///
    /// # Errors
    /// If one of them is no directory that can be read.
    pub fn new(directories: Vec<PathBuf>, isolation: Isolation) -> io::Result<Self> {
        for directory in &directories {
            fs::read_dir(directory)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
        }
        Ok(Self {
            names: Names::new(&[], isolation),
            directories,
            files: None,
            origins: HashMap::new(),
            missing: BTreeSet::new(),
        })
    }

    /// The same stack; each frame without a source line named as well as the files can, and what was inlined there shown.
    pub fn name(&mut self, frames: Vec<Frame>) -> Vec<Frame> {
        let mut named = Vec::with_capacity(frames.len());
        for frame in frames {
            let is_within_named = frame.inlined || frame.source.is_some();
            match self.look_up(&frame).filter(|_| !is_within_named) {
                Some(names) => named.extend(names.iter().map(|name| renamed(&frame, name))),
                None => {
                    self.note_if_missing(&frame);
                    named.push(frame);
                }
            }
        }
        named
    }

    /// The objects of frames that have stayed without names because none of the files is theirs: path and build id.
    pub fn missing(&self) -> impl Iterator<Item = (&Path, &BuildId)> {
        self.missing.iter().map(|(path, id)| (path.as_path(), id))
    }

    fn note_if_missing(&mut self, frame: &Frame) {
        if let (None, Some(id), Some(module)) = (&frame.function, &frame.build_id, &frame.module)
            && self.origins.get(id).is_some_and(Option::is_none)
        {
            self.missing.insert((module.clone(), id.clone()));
        }
    }

    fn look_up(&mut self, frame: &Frame) -> Option<Rc<[Named]>> {
        let (id, offset) = (frame.build_id.as_ref()?, frame.offset_in_file?);
        if !self.origins.contains_key(id) {
            let origin = self.find(id);
            self.origins.insert(id.clone(), origin);
        }
        let names = self.names.of_return_address(self.origins.get(id)?.as_ref()?, offset);
        let knows_more = names.iter().any(|name| name.source.is_some())
            || frame.function.is_none() && names.iter().any(|name| name.function.is_some());
        knows_more.then_some(names)
    }

    /// The files of an object: a debug file, or the object itself if it is not stripped.
    fn find(&mut self, id: &BuildId) -> Option<Origin> {
        let candidates = self.candidates(id);
        let knows = |file: &File| {
            elf::has_debug_information(file).unwrap_or(false) || elf::has_symbol_table(file).unwrap_or(false)
        };
        let object = candidates.iter().find(|file| elf::has_code(file).unwrap_or(false));
        let linked = || object.and_then(|object| self.linked(object));
        let best = candidates.iter().find(|file| elf::has_debug_information(file).unwrap_or(false));
        let best = best.or_else(|| candidates.iter().find(|file| knows(file)));
        let best = best.and_then(|file| file.try_clone().ok()).or_else(linked)?;
        let laid_out = object.unwrap_or(&best);
        Some(Origin::elsewhere(elf::original_segments(laid_out).ok()?, best))
    }

    fn candidates(&mut self, id: &BuildId) -> Vec<File> {
        let directories = self.directories.clone();
        let by_name = directories.iter().filter_map(|directory| path_by_build_id(directory, id));
        let of_walk = self.files().by_id.get(id).cloned().unwrap_or_default();
        let files = by_name.chain(of_walk).filter_map(|path| open_regular(&path).ok());
        files.filter(|file| elf::build_id(file).as_ref() == Some(id)).collect()
    }

    /// The debug file that an object names, if its checksum is right.
    fn linked(&self, object: &File) -> Option<File> {
        let link = elf::debug_link(object).ok().flatten()?;
        let files = self.files.iter().flat_map(|files| &files.all);
        let of_name = files.filter(|path| path.file_name() == Some(&link.name));
        let mut opened = of_name.filter_map(|path| open_regular(path).ok());
        opened.find(|file| checksum(file).is_ok_and(|checksum| checksum == link.checksum))
    }

    fn files(&mut self) -> &Files {
        let directories = &self.directories;
        self.files.get_or_insert_with(|| {
            let mut files = Files::default();
            directories.iter().for_each(|directory| files.walk(directory));
            files
        })
    }
}

impl Files {
    /// No link to a directory is followed, so this ends.
    fn walk(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(&path);
            } else if let Ok(file) = open_regular(&path) {
                if let Some(id) = elf::build_id(&file) {
                    self.by_id.entry(id).or_default().push(path.clone());
                }
                self.all.push(path);
            }
        }
    }
}

fn renamed(frame: &Frame, name: &Named) -> Frame {
    Frame {
        function: name.function.clone().or_else(|| frame.function.clone()),
        source: name.source.clone(),
        inlined: name.inlined,
        ..frame.clone()
    }
}
