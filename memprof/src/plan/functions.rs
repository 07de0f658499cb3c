//! The allocator functions, as data.

use std::sync::LazyLock;

use super::kinds::{
    self, ALIGNED_ALLOC, CALLOC, FREE, Kind, MALLOC, NEW, POSIX_MEMALIGN, REALLOC, REALLOCARRAY, REALLOCF,
};
use crate::model::AllocatorFunction;

/// What nearly all allocations and frees go through, whatever comes before the name: in C, in C++, and in Rust with jemalloc and with mimalloc.
const COMMON: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "free",
    "_Znwm",
    "_Znam",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvm",
    "_ZdaPvm",
    "rallocx",
    "sdallocx",
    "malloc_aligned",
    "zalloc_aligned",
    "realloc_aligned",
];

/// What a family of functions has before its names, and which functions it has.
struct Family {
    prefixes: &'static [&'static str],
    /// See [`AllocatorFunction::owns_calls`].
    owns_calls: bool,
    functions: &'static [(&'static str, Kind)],
}

/// malloc(3), posix_memalign(3), and C23's `free_sized`; as glibc, musl and all that take their place define them.
const LIBC: &[(&str, Kind)] = &[
    ("malloc", MALLOC),
    ("calloc", CALLOC),
    ("realloc", REALLOC),
    ("reallocarray", REALLOCARRAY),
    ("posix_memalign", POSIX_MEMALIGN),
    ("aligned_alloc", ALIGNED_ALLOC),
    ("memalign", ALIGNED_ALLOC),
    ("valloc", MALLOC),
    ("pvalloc", MALLOC),
    ("free", FREE),
    ("cfree", FREE),
    ("free_sized", FREE),
    ("free_aligned_sized", FREE),
];

/// jemalloc(3): the functions that are not standard.
const JEMALLOC: &[(&str, Kind)] =
    &[("mallocx", MALLOC), ("rallocx", REALLOC), ("xallocx", kinds::XALLOCX), ("dallocx", FREE), ("sdallocx", FREE)];

/// gperftools/tcmalloc.h.
const TCMALLOC: &[(&str, Kind)] = &[
    ("malloc_skip_new_handler", MALLOC),
    ("new", NEW),
    ("new_nothrow", MALLOC),
    ("newarray", NEW),
    ("newarray_nothrow", MALLOC),
    ("new_aligned", NEW),
    ("new_aligned_nothrow", MALLOC),
    ("newarray_aligned", NEW),
    ("newarray_aligned_nothrow", MALLOC),
    ("delete", FREE),
    ("delete_nothrow", FREE),
    ("delete_sized", FREE),
    ("delete_aligned", FREE),
    ("delete_aligned_nothrow", FREE),
    ("delete_sized_aligned", FREE),
    ("deletearray", FREE),
    ("deletearray_nothrow", FREE),
    ("deletearray_sized", FREE),
    ("deletearray_aligned", FREE),
    ("deletearray_aligned_nothrow", FREE),
    ("deletearray_sized_aligned", FREE),
];

/// mimalloc.h. A heap comes first in those of one heap.
const MIMALLOC: &[(&str, Kind)] = &[
    ("zalloc", MALLOC),
    ("malloc_small", MALLOC),
    ("zalloc_small", MALLOC),
    ("mallocn", CALLOC),
    ("expand", REALLOC),
    ("_expand", REALLOC),
    ("reallocn", REALLOCARRAY),
    ("reallocf", REALLOCF),
    ("rezalloc", REALLOC),
    ("recalloc", REALLOCARRAY),
    ("malloc_aligned", MALLOC),
    ("malloc_aligned_at", MALLOC),
    ("zalloc_aligned", MALLOC),
    ("zalloc_aligned_at", MALLOC),
    ("calloc_aligned", CALLOC),
    ("calloc_aligned_at", CALLOC),
    ("realloc_aligned", REALLOC),
    ("realloc_aligned_at", REALLOC),
    ("rezalloc_aligned", REALLOC),
    ("rezalloc_aligned_at", REALLOC),
    ("recalloc_aligned", REALLOCARRAY),
    ("recalloc_aligned_at", REALLOCARRAY),
    ("aligned_recalloc", REALLOCARRAY),
    ("aligned_offset_recalloc", REALLOCARRAY),
    ("new", NEW),
    ("new_n", kinds::NEW_N),
    ("new_nothrow", MALLOC),
    ("new_aligned", NEW),
    ("new_aligned_nothrow", MALLOC),
    ("new_realloc", kinds::NEW_REALLOC),
    ("new_reallocn", kinds::NEW_REALLOCN),
    ("free_size", FREE),
    ("free_size_aligned", FREE),
    ("free_aligned", FREE),
    ("heap_malloc", MALLOC.after(1)),
    ("heap_zalloc", MALLOC.after(1)),
    ("heap_malloc_small", MALLOC.after(1)),
    ("heap_calloc", CALLOC.after(1)),
    ("heap_mallocn", CALLOC.after(1)),
    ("heap_malloc_aligned", MALLOC.after(1)),
    ("heap_malloc_aligned_at", MALLOC.after(1)),
    ("heap_zalloc_aligned", MALLOC.after(1)),
    ("heap_zalloc_aligned_at", MALLOC.after(1)),
    ("heap_calloc_aligned", CALLOC.after(1)),
    ("heap_calloc_aligned_at", CALLOC.after(1)),
    ("heap_realloc", REALLOC.after(1)),
    ("heap_reallocn", REALLOCARRAY.after(1)),
    ("heap_reallocf", REALLOCF.after(1)),
    ("heap_rezalloc", REALLOC.after(1)),
    ("heap_recalloc", REALLOCARRAY.after(1)),
    ("heap_realloc_aligned", REALLOC.after(1)),
    ("heap_realloc_aligned_at", REALLOC.after(1)),
    ("heap_rezalloc_aligned", REALLOC.after(1)),
    ("heap_rezalloc_aligned_at", REALLOC.after(1)),
    ("heap_recalloc_aligned", REALLOCARRAY.after(1)),
    ("heap_recalloc_aligned_at", REALLOCARRAY.after(1)),
    ("heap_alloc_new", NEW.after(1)),
    ("heap_alloc_new_n", kinds::NEW_N.after(1)),
];

/// What mimalloc defines besides, in the place of other systems' functions; its `_aligned_malloc` has its arguments as `aligned_alloc`.
const OTHER_SYSTEMS: &[(&str, Kind)] = &[("_aligned_malloc", ALIGNED_ALLOC), ("reallocf", REALLOCF), ("vfree", FREE)];

/// `operator new` and `delete`, by their mangled names: section 5.1.5 of the Itanium C++ ABI; 17.6.3 of C++20.
const OPERATORS: &[(&str, Kind)] = &[
    ("_Znwm", NEW),
    ("_Znam", NEW),
    ("_ZnwmSt11align_val_t", NEW),
    ("_ZnamSt11align_val_t", NEW),
    ("_ZnwmRKSt9nothrow_t", MALLOC),
    ("_ZnamRKSt9nothrow_t", MALLOC),
    ("_ZnwmSt11align_val_tRKSt9nothrow_t", MALLOC),
    ("_ZnamSt11align_val_tRKSt9nothrow_t", MALLOC),
    ("_ZdlPv", FREE),
    ("_ZdaPv", FREE),
    ("_ZdlPvm", FREE),
    ("_ZdaPvm", FREE),
    ("_ZdlPvRKSt9nothrow_t", FREE),
    ("_ZdaPvRKSt9nothrow_t", FREE),
    ("_ZdlPvSt11align_val_t", FREE),
    ("_ZdaPvSt11align_val_t", FREE),
    ("_ZdlPvmSt11align_val_t", FREE),
    ("_ZdaPvmSt11align_val_t", FREE),
    ("_ZdlPvSt11align_val_tRKSt9nothrow_t", FREE),
    ("_ZdaPvSt11align_val_tRKSt9nothrow_t", FREE),
];

/// jemalloc's, where it does not take libc's place: as it is mostly built, in Rust's crates, and in Arrow.
const JEMALLOC_PREFIXES: &[&str] = &["je_", "_rjem_", "je_arrow_"];

const FAMILIES: &[Family] = &[
    Family { prefixes: &[""], owns_calls: false, functions: LIBC },
    Family { prefixes: &[""], owns_calls: false, functions: JEMALLOC },
    Family { prefixes: &[""], owns_calls: true, functions: OPERATORS },
    Family { prefixes: &["tc_"], owns_calls: false, functions: LIBC },
    Family { prefixes: &["tc_"], owns_calls: false, functions: TCMALLOC },
    Family { prefixes: &["mi_"], owns_calls: false, functions: LIBC },
    Family { prefixes: &["mi_"], owns_calls: false, functions: MIMALLOC },
    Family { prefixes: &[""], owns_calls: false, functions: OTHER_SYSTEMS },
    Family { prefixes: JEMALLOC_PREFIXES, owns_calls: false, functions: LIBC },
    Family { prefixes: JEMALLOC_PREFIXES, owns_calls: false, functions: JEMALLOC },
];

/// What is looked for. Of several at one file offset the first gives the site its name.
pub static FUNCTIONS: LazyLock<Vec<AllocatorFunction>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(Family::functions).collect());

impl Family {
    fn functions(&self) -> impl Iterator<Item = AllocatorFunction> {
        let of = |prefix: &str| {
            let prefix = prefix.to_owned();
            let name = move |name: &'static str| match prefix.as_str() {
                "" => name,
                // Once, for as long as the process runs.
                prefix => format!("{prefix}{name}").leak(),
            };
            let owns_calls = self.owns_calls;
            self.functions.iter().map(move |(base, kind)| {
                let is_rare = !COMMON.contains(base);
                AllocatorFunction { owns_calls, is_rare, ..kind.named(name(base)) }
            })
        };
        self.prefixes.iter().flat_map(move |prefix| of(prefix))
    }
}

/// Whether the name alone does not tell whose function it is: `static void free(…)` is somebody's own.
pub(super) fn is_ambiguous(name: &str) -> bool {
    [LIBC, OTHER_SYSTEMS].iter().any(|functions| functions.iter().any(|(known, _)| *known == name))
}

/// What is looked for in objects: the [known functions](FUNCTIONS), and a user's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    own: Vec<&'static AllocatorFunction>,
}

impl Functions {
    /// With a user's own, which are kept for as long as the process runs.
    pub fn with(own: impl IntoIterator<Item = AllocatorFunction>) -> Self {
        Self { own: own.into_iter().map(|function| &*Box::leak(Box::new(function))).collect() }
    }

    /// The user's own.
    pub fn own(&self) -> impl Iterator<Item = &'static AllocatorFunction> {
        self.own.iter().copied()
    }

    /// All, the user's own first: of two with the same name they count.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static AllocatorFunction> {
        let is_free = |function: &&AllocatorFunction| !self.is_own(function.name);
        self.own().chain(FUNCTIONS.iter().filter(is_free))
    }

    /// Whether the name is one of the user's own.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own.name == name)
    }
}

/// Whether it is `operator new` or `delete`, which most libraries define by what `malloc` and `free` do.
pub(super) fn is_operator(name: &str) -> bool {
    OPERATORS.iter().any(|(known, _)| *known == name)
}

/// Whether two functions do the same, whatever they are called.
pub(super) fn behave_alike(one: &AllocatorFunction, other: &AllocatorFunction) -> bool {
    (one.size, one.pointer, one.release) == (other.size, other.pointer, other.release)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pointer, Size};

    #[test]
    fn each_function_is_listed_once() {
        let mut names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(names.contains(&"_rjem_sdallocx") && names.contains(&"mi_heap_realloc"));
    }

    #[test]
    fn few_functions_are_common() {
        let common = FUNCTIONS.iter().filter(|function| !function.is_rare).map(|function| function.name);
        let of_jemalloc: Vec<_> = common.filter(|name| name.starts_with("je_")).collect();
        assert!(of_jemalloc.starts_with(&["je_malloc", "je_calloc", "je_realloc", "je_free"]));
    }

    #[test]
    fn what_has_a_size_has_a_pointer() {
        assert!(FUNCTIONS.iter().all(|one| (one.size == Size::None) == (one.pointer == Pointer::None)));
    }
}
