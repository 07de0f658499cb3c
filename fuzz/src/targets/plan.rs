//! ELF files with allocators in them: where they are probed.

use std::sync::Arc;

use memprof::{
    elf,
    model::{Object, ObjectId, ObjectKind},
    plan::{Functions, plan},
};

pub(super) fn run(data: &[u8]) {
    let file = super::file::of(data);
    let build_id = elf::build_id(&file);
    let (kind, identity, file) = (ObjectKind::File, None, Some(Arc::new(file)));
    let object = Object { id: ObjectId(1), path: "/input".into(), kind, identity, build_id, file };
    let plan = plan([&Arc::new(object)], &Functions::default());
    for site in &plan.sites {
        assert!(site.segment.contains(&site.offset_in_file));
    }
}
