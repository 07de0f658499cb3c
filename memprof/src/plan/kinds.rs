//! What allocator functions do: kinds of behaviour, named after the C functions that have them.

use crate::model::{
    AllocatorFunction,
    Pointer::{self, InPlace, Returned, WrittenTo},
    Release::{self, Always, OnSuccess},
    Size::{self, Argument, Product},
};

/// The behaviour of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    size: Size,
    pointer: Pointer,
    release: Release,
    throws: bool,
}

/// So many arguments may come before those that a kind means; the last of the registers is the sixth.
const MOST_BEFORE: u8 = 3;

const fn kind(size: Size, pointer: Pointer, release: Release) -> Kind {
    Kind { size, pointer, release, throws: false }
}

/// `malloc(size)`
pub(super) const MALLOC: Kind = kind(Argument(0), Returned, Release::None);
/// `calloc(count, size)`
pub(super) const CALLOC: Kind = kind(Product(0), Returned, Release::None);
/// `realloc(block, size)`
pub(super) const REALLOC: Kind = kind(Argument(1), Returned, OnSuccess(0));
/// `reallocarray(block, count, size)`
pub(super) const REALLOCARRAY: Kind = kind(Product(1), Returned, OnSuccess(0));
/// `reallocf(block, size)`, which frees the block if it cannot be resized
pub(super) const REALLOCF: Kind = kind(Argument(1), Returned, Always(0));
/// `posix_memalign(&block, alignment, size)`
pub(super) const POSIX_MEMALIGN: Kind = kind(Argument(2), WrittenTo(0), Release::None);
/// `aligned_alloc(alignment, size)`
pub(super) const ALIGNED_ALLOC: Kind = kind(Argument(1), Returned, Release::None);
/// `free(block)`
pub(super) const FREE: Kind = kind(Size::None, Pointer::None, Always(0));
/// jemalloc's `xallocx(block, size, extra, flags)`
pub(super) const XALLOCX: Kind = kind(Argument(1), InPlace, OnSuccess(0));
/// `operator new(size)`: as `malloc`, but throws.
pub(super) const NEW: Kind = Kind { throws: true, ..MALLOC };
/// As `calloc`, but throws.
pub(super) const NEW_N: Kind = Kind { throws: true, ..CALLOC };
/// As `realloc`, but throws.
pub(super) const NEW_REALLOC: Kind = Kind { throws: true, ..REALLOC };
/// As `reallocarray`, but throws.
pub(super) const NEW_REALLOCN: Kind = Kind { throws: true, ..REALLOCARRAY };

/// Those that a user can name.
const NAMED: [(&str, Kind); 10] = [
    ("malloc", MALLOC),
    ("calloc", CALLOC),
    ("realloc", REALLOC),
    ("reallocarray", REALLOCARRAY),
    ("reallocf", REALLOCF),
    ("posix_memalign", POSIX_MEMALIGN),
    ("aligned_alloc", ALIGNED_ALLOC),
    ("free", FREE),
    ("new", NEW),
    ("delete", FREE),
];

impl Kind {
    /// The same, with so many other arguments before its own.
    pub(super) const fn after(self, others: u8) -> Self {
        let size = match self.size {
            Size::None => Size::None,
            Argument(index) => Argument(index + others),
            Product(index) => Product(index + others),
        };
        let pointer = match self.pointer {
            WrittenTo(index) => WrittenTo(index + others),
            other => other,
        };
        let release = match self.release {
            Release::None => Release::None,
            Always(index) => Always(index + others),
            OnSuccess(index) => OnSuccess(index + others),
        };
        Self { size, pointer, release, throws: self.throws }
    }

    /// A function that does this.
    pub(super) const fn named(self, name: &'static str) -> AllocatorFunction {
        let Self { size, pointer, release, throws } = self;
        AllocatorFunction { name, size, pointer, release, throws, owns_calls: false, is_rare: false }
    }
}

/// A function of the user's own, from `NAME:KIND`, where a kind is one of C's functions, and `+N` behind it that so many other
/// arguments come first (`pool_alloc:malloc+1`). The name is kept for as long as the process runs.
///
/// # Errors
/// What is wrong, for the user.
pub fn parse_function(text: &str) -> Result<AllocatorFunction, String> {
    let names = || NAMED.map(|(name, _)| name).join(", ");
    let (name, kind) = text.rsplit_once(':').ok_or("it must be NAME:KIND, such as pool_alloc:malloc")?;
    if name.is_empty() {
        return Err("the name is missing before the colon".into());
    }
    let (kind, others) = match kind.split_once('+') {
        None => (kind, 0),
        Some((kind, others)) => {
            let others = others.parse().ok().filter(|others| (1..=MOST_BEFORE).contains(others));
            (kind, others.ok_or_else(|| format!("behind + must be a number from 1 to {MOST_BEFORE}"))?)
        }
    };
    let known = NAMED.iter().find(|(name, _)| *name == kind);
    let (_, kind) = known.ok_or_else(|| format!("there is no kind {kind:?}; kinds are {}", names()))?;
    Ok(AllocatorFunction { owns_calls: true, ..kind.after(others).named(name.to_owned().leak()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn a_function_is_told_by_its_name_and_what_it_is_like() {
        let pool = parse_function("pool_resize:realloc+1").unwrap();
        assert_eq!((pool.name, pool.size, pool.release), ("pool_resize", Argument(2), OnSuccess(1)));
        let aligned = parse_function("p:posix_memalign+2").unwrap();
        assert_eq!((aligned.size, aligned.pointer), (Argument(4), WrittenTo(2)));
        assert_eq!(parse_function("Pool::make:new").unwrap().name, "Pool::make");
        assert!(parse_function("p:new").unwrap().throws);
    }

    #[test]
    fn what_is_no_function_is_refused_with_the_reason() {
        let refused = |text: &str| parse_function(text).unwrap_err();
        assert_eq!(refused("pool_alloc"), "it must be NAME:KIND, such as pool_alloc:malloc");
        assert_eq!(refused(":malloc"), "the name is missing before the colon");
        assert_eq!(refused("p:malloc+4"), "behind + must be a number from 1 to 3");
        assert_eq!(
            refused("p:mallox"),
            "there is no kind \"mallox\"; kinds are malloc, calloc, realloc, reallocarray, reallocf, posix_memalign, \
             aligned_alloc, free, new, delete"
        );
    }
}
