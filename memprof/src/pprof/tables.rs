//! The messages of a profile, found by their ids.

use std::{borrow::Cow, collections::HashMap};

use super::wire::{Function, Label, Location, Mapping, Profile, Sample};

/// A profile that [`super::decode`] has read, and what its ids mean.
#[derive(Debug)]
pub struct Tables<'a> {
    /// All of it.
    pub profile: &'a Profile,
    mappings: HashMap<u64, &'a Mapping>,
    functions: HashMap<u64, &'a Function>,
}

impl<'a> Tables<'a> {
    /// Of a sound profile. In one that is not, what is missing has no name.
    pub fn new(profile: &'a Profile) -> Self {
        Self {
            profile,
            mappings: profile.mapping.iter().map(|mapping| (mapping.id, mapping)).collect(),
            functions: profile.function.iter().map(|function| (function.id, function)).collect(),
        }
    }

    /// A string; what is not UTF-8 in it is replaced.
    pub fn string(&self, index: i64) -> Cow<'a, str> {
        let string = usize::try_from(index).ok().and_then(|index| self.profile.string_table.get(index));
        String::from_utf8_lossy(string.map_or(&[], Vec::as_slice))
    }

    /// Where a location is mapped.
    pub fn mapping(&self, location: &Location) -> Option<&'a Mapping> {
        self.mappings.get(&location.mapping_id).copied()
    }

    /// A function.
    pub fn function(&self, id: u64) -> Option<&'a Function> {
        self.functions.get(&id).copied()
    }

    /// The place among the figures of a sample of that type.
    pub fn place_of(&self, sample_type: &str) -> Option<usize> {
        self.profile.sample_type.iter().position(|candidate| self.string(candidate.r#type) == sample_type)
    }

    /// The label of a sample with that key.
    pub fn label(&self, sample: &'a Sample, key: &str) -> Option<&'a Label> {
        sample.label.iter().find(|label| self.string(label.key) == key)
    }

    /// The number of that label.
    pub fn number(&self, sample: &'a Sample, key: &str) -> Option<i64> {
        self.label(sample, key).filter(|label| label.str == 0).map(|label| label.num)
    }

    /// The text of that label.
    pub fn text(&self, sample: &'a Sample, key: &str) -> Option<Cow<'a, str>> {
        self.label(sample, key).filter(|label| label.str != 0).map(|label| self.string(label.str))
    }
}
