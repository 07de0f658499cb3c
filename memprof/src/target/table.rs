//! The table of objects: each mapped file once, however many processes map it, opened at first sight.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    maps::without_deletion_mark,
    open::{identity_of, open_mapped},
    vdso::copy_vdso,
};
use crate::{
    elf,
    model::{FileIdentity, Mapping, MappingEvent, Object, ObjectId, ObjectKind, Warning},
};

/// All objects seen so far. Its numbers are never given twice, and the objects stay open as long as it lives.
#[derive(Debug, Default)]
pub struct ObjectTable {
    objects: Vec<Arc<Object>>,
    /// By what a mapping says, and by what `fstat` says: on btrfs and overlayfs they differ.
    by_identity: HashMap<FileIdentity, ObjectId>,
    by_stat: HashMap<FileIdentity, ObjectId>,
    /// What is no file: the vdso, anonymous memory, …
    by_name: HashMap<PathBuf, ObjectId>,
    warned: HashSet<ObjectId>,
}

impl ObjectTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The object of that number; `None` if this table did not give it.
    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(id.0 as usize)
    }

    /// All objects, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter()
    }

    /// The mapping that an event tells of, its object entered and, if it is a file not yet open, opened.
    ///
    /// Memory that is no file has the offset in file of its address, there being no other name for a place in it.
    pub fn map(&mut self, event: &MappingEvent) -> Mapping {
        let object = match event.identity {
            Some(identity) => self.file(event, identity),
            None => self.pseudo_file(event),
        };
        let offset_in_file = match self.get(object).map(|object| object.kind) {
            Some(ObjectKind::Other) => event.addresses.start,
            _ => event.offset_in_file,
        };
        Mapping { addresses: event.addresses.clone(), offset_in_file, object, since: event.time }
    }

    /// Enters a file that we opened ourselves, before any process mapped it.
    pub(super) fn insert_opened(&mut self, path: &Path, file: File) -> ObjectId {
        let stat = identity_of(&file).ok();
        if let Some(known) = stat.and_then(|stat| self.by_stat.get(&stat)) {
            return *known;
        }
        let id = self.push(path.to_owned(), ObjectKind::File, stat, Some(file));
        if let Some(stat) = stat {
            self.by_stat.insert(stat, id);
            self.by_identity.insert(stat, id);
        }
        id
    }

    /// One warning for each file that could not be opened, told once.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        let unreadable = self.objects.iter().filter(|object| object.kind == ObjectKind::File && object.file.is_none());
        let mut warnings = Vec::new();
        for object in unreadable {
            if self.warned.insert(object.id) {
                warnings.push(Warning::ObjectUnreadable { path: object.path.clone() });
            }
        }
        warnings
    }

    fn file(&mut self, event: &MappingEvent, identity: FileIdentity) -> ObjectId {
        match self.by_identity.get(&identity) {
            Some(&known) if self.is_open(known) => known,
            Some(&known) => self.open_late(known, event, identity),
            None => self.insert_file(event, identity),
        }
    }

    fn is_open(&self, id: ObjectId) -> bool {
        self.get(id).is_some_and(|object| object.file.is_some())
    }

    fn insert_file(&mut self, event: &MappingEvent, identity: FileIdentity) -> ObjectId {
        let file = open_mapped(event, identity).ok();
        let stat = file.as_ref().and_then(|file| identity_of(file).ok());
        let known = stat.and_then(|stat| self.by_stat.get(&stat).copied());
        let id = known
            .unwrap_or_else(|| self.push(without_deletion_mark(&event.path), ObjectKind::File, Some(identity), file));
        self.by_identity.insert(identity, id);
        if let Some(stat) = stat {
            self.by_stat.insert(stat, id);
        }
        id
    }

    /// What could not be opened for one process, which may have been gone, may be reached through another.
    fn open_late(&mut self, id: ObjectId, event: &MappingEvent, identity: FileIdentity) -> ObjectId {
        if let Ok(file) = open_mapped(event, identity)
            && let Some(object) = self.objects.get_mut(id.0 as usize)
        {
            if let Ok(stat) = identity_of(&file) {
                self.by_stat.insert(stat, id);
            }
            let build_id = elf::build_id(&file);
            *object = Arc::new(Object { build_id, file: Some(Arc::new(file)), ..Object::clone(object) });
        }
        id
    }

    fn pseudo_file(&mut self, event: &MappingEvent) -> ObjectId {
        let name = match event.path.as_os_str() {
            unnamed if unnamed.is_empty() => Path::new("//anon"),
            _ => event.path.as_path(),
        };
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let id = if name == Path::new("[vdso]") {
            self.push(name.to_owned(), ObjectKind::Vdso, None, copy_vdso())
        } else {
            self.push(name.to_owned(), ObjectKind::Other, None, None)
        };
        self.by_name.insert(name.to_owned(), id);
        id
    }

    fn push(
        &mut self,
        path: PathBuf,
        kind: ObjectKind,
        identity: Option<FileIdentity>,
        file: Option<File>,
    ) -> ObjectId {
        let id = ObjectId(self.objects.len() as u32);
        let build_id = file.as_ref().and_then(elf::build_id);
        self.objects.push(Arc::new(Object { id, path, kind, identity, build_id, file: file.map(Arc::new) }));
        id
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;
    use crate::{model::Timestamp, target::read_mappings};

    fn anonymous(path: &str) -> MappingEvent {
        MappingEvent {
            pid: std::process::id(),
            addresses: 0x1000..0x2000,
            offset_in_file: 0,
            identity: None,
            path: path.into(),
            time: Timestamp(1),
        }
    }

    #[test]
    fn each_file_is_one_object_however_often_it_is_mapped() {
        let mut table = ObjectTable::new();
        let mappings = read_mappings(std::process::id(), Timestamp(0)).unwrap();
        let first: Vec<_> = mappings.iter().map(|event| table.map(event).object).collect();
        let count = table.iter().count();
        let again: Vec<_> = mappings.iter().map(|event| table.map(event).object).collect();
        assert_eq!(first, again);
        assert_eq!(table.iter().count(), count);
        assert!(table.take_warnings().is_empty());
    }

    #[test]
    fn memory_that_is_no_file_is_kept_by_name() {
        let mut table = ObjectTable::new();
        let unnamed = table.map(&anonymous("")).object;
        assert_eq!(table.map(&anonymous("//anon")).object, unnamed);
        assert_ne!(table.map(&anonymous("[uprobes]")).object, unnamed);
        let vdso = table.map(&anonymous("[vdso]")).object;
        assert_eq!(table.get(vdso).unwrap().kind, ObjectKind::Vdso);
        assert!(table.get(vdso).unwrap().file.is_some());
        assert_eq!(table.map(&anonymous("")).offset_in_file, 0x1000);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_of_once() {
        let mut table = ObjectTable::new();
        let identity = FileIdentity::of_mapping(0xfff, 0xfff, 12345);
        let event = MappingEvent { identity, ..anonymous("/no/such/library.so (deleted)") };
        let object = table.map(&event).object;
        assert_eq!(table.map(&event).object, object);
        assert!(table.get(object).unwrap().file.is_none());
        let warning = Warning::ObjectUnreadable { path: "/no/such/library.so".into() };
        assert_eq!(table.take_warnings(), [warning]);
        assert_eq!(table.take_warnings(), []);
    }

    #[test]
    fn another_file_of_the_same_name_is_not_taken_for_it() {
        let identity = FileIdentity::of_mapping(0xfff, 0xfff, 12345);
        let event = MappingEvent { identity, ..anonymous("/bin/true") };
        let mut table = ObjectTable::new();
        let object = table.map(&event).object;
        assert!(table.get(object).unwrap().file.is_none());
    }

    #[test]
    fn a_file_opened_before_it_is_mapped_stays_one_object() {
        let mut table = ObjectTable::new();
        let opened = table.insert_opened(Path::new("/proc/self/exe"), File::open("/proc/self/exe").unwrap());
        let own = std::env::current_exe().unwrap();
        let mappings = read_mappings(std::process::id(), Timestamp(0)).unwrap();
        let event = mappings.iter().find(|event| event.path == own).unwrap();
        assert_eq!(table.map(event).object, opened);
    }
}
