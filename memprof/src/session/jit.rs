//! Names of functions that a process compiles while it runs, from what it tells of them.

use std::sync::Arc;

use crate::{
    model::{Object, ObjectId, RawFrame, Timestamp},
    target::{PerfMap, PerfMapFile},
};

/// What one image has told of its functions.
#[derive(Debug, Default)]
pub(super) struct JitNames {
    file: PerfMapFile,
    map: PerfMap,
    /// Whether code was mapped that may have been compiled at run time.
    has_new_code: bool,
    /// Whether stacks were seen that run through such code.
    has_new_stacks: bool,
    /// Whether nothing more is to come.
    is_over: bool,
    has_told_of_limit: bool,
}

impl JitNames {
    /// Those of a living process, which need not have told of any yet.
    pub(super) fn of(pid: u32) -> Self {
        let mut names = Self { has_new_code: true, ..Self::default() };
        names.file.locate(pid);
        names
    }

    /// Those of the image that the process has become. It may be gone by now, so where its file is stays known.
    pub(super) fn renew(&mut self, pid: u32) {
        let mut file = std::mem::take(&mut self.file);
        file.close();
        file.locate(pid);
        *self = Self { file, has_new_code: true, ..Self::default() };
    }

    /// Takes note of a mapping.
    pub(super) fn note_mapped(&mut self, object: Option<&Arc<Object>>) {
        self.has_new_code |= object.is_some_and(|object| object.may_be_jit_code());
    }

    /// Takes note of a stack.
    pub(super) fn note_stack<'a>(&mut self, frames: &[RawFrame], object: impl Fn(ObjectId) -> Option<&'a Arc<Object>>) {
        self.has_new_stacks |= frames.iter().any(|frame| may_be_jit(frame, &object));
    }

    /// Reads what there is to read of stacks that are new. Of a process that `is_alive` the file is opened as soon as it has
    /// such code: it may be gone before there are such stacks.
    pub(super) fn update(&mut self, pid: u32, is_alive: bool, now: Timestamp) {
        if is_alive && (self.has_new_code || self.has_new_stacks) {
            self.file.locate(pid);
        }
        if std::mem::take(&mut self.has_new_code) && !self.is_over {
            self.file.open();
        }
        if std::mem::take(&mut self.has_new_stacks) {
            self.read(now);
        }
    }

    /// Reads what was told since.
    pub(super) fn read(&mut self, now: Timestamp) {
        if self.is_over {
            return;
        }
        let has_room = match self.file.read_new_lines() {
            Ok(lines) => self.map.add(now, &lines),
            Err(error) => return log::warn!("a perf map cannot be read: {error}"),
        };
        if !has_room && !std::mem::replace(&mut self.has_told_of_limit, true) {
            log::warn!("a perf map has more functions than are kept");
        }
    }

    /// Reads for the last time: the process is gone, and its pid is anybody's.
    pub(super) fn finish(&mut self, now: Timestamp) {
        self.read(now);
        self.is_over = true;
        self.file = PerfMapFile::default();
    }

    /// The name of the function that a frame of a stack lies in which was first seen `at` that time.
    pub(super) fn name<'a>(
        &self,
        frame: &RawFrame,
        at: Timestamp,
        object: impl Fn(ObjectId) -> Option<&'a Arc<Object>>,
    ) -> Option<Arc<str>> {
        may_be_jit(frame, object).then(|| self.map.find_return_address(frame.address, at).cloned()).flatten()
    }
}

fn may_be_jit<'a>(frame: &RawFrame, object: impl Fn(ObjectId) -> Option<&'a Arc<Object>>) -> bool {
    frame.place.and_then(|(id, _)| object(id)).is_none_or(|object| object.may_be_jit_code())
}
