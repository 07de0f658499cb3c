//! Keeps the unwinder's tables in step with what the observed processes have mapped.

use std::collections::HashSet;

use memprof_common::unwind::Row;

use crate::{
    elf,
    kernel::{CodeChanges, Kernel, MappedCode, NoRoom, TargetId},
    model::{Mapping, Object, ObjectId, ObjectKind},
    target::ObjectTable,
    unwind::{Code, Table, call_sites_only},
};

/// Which objects the unwinder has been given, or cannot have.
#[derive(Debug, Default)]
pub(super) struct CodeTables {
    /// Objects without rows: not files, without `.eh_frame`, or too large for what room there is.
    without: HashSet<ObjectId>,
}

impl CodeTables {
    /// Tells the unwinder what a target has mapped, and first the rows of objects that it does not know.
    pub(super) fn update(
        &mut self,
        kernel: &mut Kernel,
        objects: &ObjectTable,
        target: TargetId,
        mappings: Vec<Mapping>,
        stack_end: u64,
        changes: CodeChanges,
    ) {
        for mapping in &mappings {
            self.load(kernel, objects, mapping.object);
        }
        let kind = |mapping: &Mapping| objects.get(mapping.object).map_or(ObjectKind::Other, |object| object.kind);
        let mappings: Vec<_> = mappings.into_iter().map(|mapping| (mapping.clone(), kind(&mapping))).collect();
        if kernel.set_code(target, &MappedCode { mappings: &mappings, stack_end, changes }).is_err() {
            log::warn!("the unwinder has no room for what is mapped: stacks are found by frame pointers there");
        }
    }

    /// Gives the unwinder the rows of an object, once: all of them, or if there is no room, those of its calls.
    pub(super) fn load(&mut self, kernel: &mut Kernel, objects: &ObjectTable, id: ObjectId) {
        if kernel.has_rows(id) || self.without.contains(&id) {
            return;
        }
        let loaded = objects.get(id).is_some_and(|object| load(kernel, object));
        if !loaded {
            self.without.insert(id);
        }
    }

    /// Takes away the rows of objects that no process has mapped any more.
    pub(super) fn retain(&mut self, kernel: &mut Kernel, objects: &ObjectTable, mapped: &HashSet<ObjectId>) {
        for object in objects.iter().filter(|object| !mapped.contains(&object.id)) {
            kernel.remove_rows(object.id);
        }
        self.without.retain(|object| mapped.contains(object));
    }
}

fn load(kernel: &mut Kernel, object: &Object) -> bool {
    let Some(rows) = rows_of(object) else { return false };
    let path = object.path.display();
    if kernel.add_rows(object.id, &rows).is_ok() {
        log::debug!("{path}: {} unwinding rows", rows.len());
        return true;
    }
    let fewer = at_calls(object, &rows);
    let added = kernel.add_rows(object.id, &fewer);
    match added {
        Ok(()) => log::info!("{path}: {} of {} unwinding rows fit (more: --unwind-memory)", fewer.len(), rows.len()),
        Err(NoRoom) => log::warn!("{path}: no room for its unwinding rows (more: --unwind-memory)"),
    }
    added.is_ok()
}

/// The rows of an object; `None` if it has none, with the reason in the log.
fn rows_of(object: &Object) -> Option<Vec<Row>> {
    if object.kind == ObjectKind::Other {
        return None;
    }
    let file = object.file.as_ref()?;
    let table = elf::eh_frame(file).map_err(anyhow::Error::from).and_then(|eh_frame| {
        let Some(eh_frame) = eh_frame else { return Ok(None) };
        Ok(Some(Table::new(&eh_frame, &elf::segments(file)?)?))
    });
    match table {
        Ok(table) => table.map(|table| table.rows),
        Err(error) => {
            log::debug!("{}: no unwinding rows: {error:#}", object.path.display());
            None
        }
    }
}

fn at_calls(object: &Object, rows: &[Row]) -> Vec<Row> {
    let Some(file) = &object.file else { return Vec::new() };
    let segments = elf::segments(file).unwrap_or_default();
    let code = elf::code(file, &segments).unwrap_or_default();
    let code: Vec<_> = code
        .iter()
        .filter_map(|(segment, bytes)| Some(Code { offset_in_file: u32::try_from(segment.offsets.start).ok()?, bytes }))
        .collect();
    call_sites_only(rows, &code)
}
