//! The allocator functions, as data.

use crate::model::{
    AllocatorFunction,
    Pointer::{self, Returned, WrittenToArgument0},
    Release::{self, Argument0, Argument0OnSuccess},
    Size::{self, Argument, Product},
};

const fn allocates(name: &'static str, size: Size) -> AllocatorFunction {
    AllocatorFunction { name, size, pointer: Returned, release: Release::None }
}

const fn reallocates(name: &'static str, size: Size) -> AllocatorFunction {
    AllocatorFunction { name, size, pointer: Returned, release: Argument0OnSuccess }
}

const fn frees(name: &'static str) -> AllocatorFunction {
    AllocatorFunction { name, size: Size::None, pointer: Pointer::None, release: Argument0 }
}

/// What is looked for: glibc's functions (malloc(3), posix_memalign(3), and C23's `free_sized`). Of several at one file
/// offset the first gives the site its name.
pub static FUNCTIONS: [AllocatorFunction; 13] = [
    allocates("malloc", Argument(0)),
    allocates("calloc", Product(0)),
    reallocates("realloc", Argument(1)),
    reallocates("reallocarray", Product(1)),
    AllocatorFunction {
        name: "posix_memalign",
        size: Argument(2),
        pointer: WrittenToArgument0,
        release: Release::None,
    },
    allocates("aligned_alloc", Argument(1)),
    allocates("memalign", Argument(1)),
    allocates("valloc", Argument(0)),
    allocates("pvalloc", Argument(0)),
    frees("free"),
    frees("cfree"),
    frees("free_sized"),
    frees("free_aligned_sized"),
];

/// Whether two functions do the same, whatever they are called.
pub(super) fn behave_alike(one: &AllocatorFunction, other: &AllocatorFunction) -> bool {
    (one.size, one.pointer, one.release) == (other.size, other.pointer, other.release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_listed_once() {
        let mut names = FUNCTIONS.map(|function| function.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn what_has_a_size_has_a_pointer() {
        assert!(FUNCTIONS.iter().all(|one| (one.size == Size::None) == (one.pointer == Pointer::None)));
    }
}
