//! Objects that define allocator functions become an attach plan: printable data, made before anything is attached.

mod access;
mod choose;
mod code;
mod display;
mod entered;
mod functions;
mod instructions;
mod kinds;
mod operators;
mod sites;
mod unnamed;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use access::only_reads;
pub use choose::{Chosen, choose};
pub use functions::{FUNCTIONS, Functions};
pub use kinds::parse_function;

use crate::model::{AttachPlan, Object, ObjectKind, SearchedObject};

/// Plans the probes of everything that the objects define of these functions, one site for each that is not another's alias.
///
/// An object that cannot be searched, or is left out on purpose, is listed with the reason; memory that is no file is
/// not looked at.
pub fn plan<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>>, functions: &Functions) -> AttachPlan {
    let mut plan = AttachPlan::default();
    for object in objects.into_iter().filter(|object| object.kind == ObjectKind::File) {
        let mut left_out = Vec::new();
        let outcome = sites::find(object, functions).map(|found| {
            let count = found.sites.len();
            plan.sites.extend(found.sites);
            left_out = found.left_out;
            count
        });
        let unnamed = unnamed::find(object, &outcome);
        plan.searched.push(SearchedObject { object: object.id, path: object.path.clone(), outcome, left_out, unnamed });
    }
    plan
}
