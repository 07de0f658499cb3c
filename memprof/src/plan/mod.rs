//! Objects that define allocator functions become an attach plan: printable data, made before anything is attached.

mod choose;
mod display;
mod entered;
mod functions;
mod instructions;
mod sites;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use functions::FUNCTIONS;

use crate::model::{AttachPlan, Object, ObjectKind, SearchedObject};

/// Plans the probes of everything that the objects define of the [known functions](FUNCTIONS), one site for each that is not
/// another's alias.
///
/// An object that cannot be searched, or is left out on purpose, is listed with the reason; memory that is no file is
/// not looked at.
pub fn plan<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>>) -> AttachPlan {
    let mut plan = AttachPlan::default();
    for object in objects.into_iter().filter(|object| object.kind == ObjectKind::File) {
        let outcome = sites::find(object).map(|sites| {
            let count = sites.len();
            plan.sites.extend(sites);
            count
        });
        plan.searched.push(SearchedObject { object: object.id, path: object.path.clone(), outcome });
    }
    plan
}
