//! Which functions are probed, and where: an attach plan is printable data, made before anything is attached.

use std::ops::Range;

use super::ObjectId;

/// Where a function's requested size comes from; arguments count from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// It allocates nothing.
    None,
    /// One argument, in bytes.
    Argument(u8),
    /// The product of two adjacent arguments, the first of which is named.
    Product(u8),
}

/// Where a function's new pointer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// It allocates nothing.
    None,
    /// The return value; null is a failure.
    Returned,
    /// Written to where the first argument points; a return value other than zero is a failure.
    WrittenToArgument0,
}

/// What a function gives back to the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing.
    None,
    /// The block that its first argument points to, always.
    Argument0,
    /// The block that its first argument points to, unless the function fails.
    Argument0OnSuccess,
}

/// An allocator function, described as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorFunction {
    /// Its symbol.
    pub name: &'static str,
    /// Where its size comes from.
    pub size: Size,
    /// Where its pointer comes from.
    pub pointer: Pointer,
    /// What it frees.
    pub release: Release,
}

/// A place to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    /// The object.
    pub object: ObjectId,
    /// Offset in its file of the probed instruction.
    pub offset_in_file: u64,
    /// Offsets in the file of the executable segment around it.
    pub segment: Range<u64>,
    /// What the function does.
    pub function: &'static AllocatorFunction,
    /// Other symbols at the same offset: they need no probe of their own.
    pub aliases: Vec<&'static str>,
}

/// An object that was searched for allocator functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchedObject {
    /// The object.
    pub object: ObjectId,
    /// Its path as the target sees it.
    pub path: std::path::PathBuf,
    /// How many sites it has, or why it was left out.
    pub outcome: Result<usize, String>,
}

/// All places to probe in one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachPlan {
    /// In the order of the objects, then of the table of functions.
    pub sites: Vec<ProbeSite>,
    /// Every object that was looked at.
    pub searched: Vec<SearchedObject>,
}
