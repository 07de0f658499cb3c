//! From bytes to messages that are sound, and back.

use std::{
    collections::HashSet,
    io::{self, Read as _},
};

use bytesize::ByteSize;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use prost::Message as _;

use super::{
    Limits, PprofError,
    wire::{Label, Location, Profile, Sample, ValueType},
};

/// The first bytes of what gzip compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a profile, compressed or not. Whatever it refers to is there.
///
/// # Errors
/// For anything else, and what would take more memory than the limits allow.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Profile, PprofError> {
    let decompressed;
    let bytes = if bytes.starts_with(&GZIP) {
        decompressed = decompress(bytes, limits.decompressed)?;
        &decompressed
    } else {
        bytes
    };
    limits.check_messages(bytes)?;
    let profile = Profile::decode(bytes).map_err(|error| PprofError::Message(error.to_string()))?;
    check(&profile)?;
    Ok(profile)
}

fn decompress(bytes: &[u8], limit: u64) -> Result<Vec<u8>, PprofError> {
    let mut decompressed = Vec::new();
    let length = MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut decompressed);
    if length.map_err(PprofError::Compression)? as u64 > limit {
        return Err(PprofError::TooLarge(ByteSize(limit)));
    }
    Ok(decompressed)
}

/// Writes a profile, compressed.
///
/// # Errors
/// Those of `output`.
pub fn encode(profile: &Profile, output: &mut dyn io::Write) -> io::Result<()> {
    let mut encoder = GzEncoder::new(output, Compression::default());
    io::Write::write_all(&mut encoder, &profile.encode_to_vec())?;
    encoder.finish().map(drop)
}

fn check(profile: &Profile) -> Result<(), PprofError> {
    let unsound = |is_sound: bool, complaint| if is_sound { Ok(()) } else { Err(PprofError::Unsound(complaint)) };
    unsound(!profile.sample_type.is_empty(), "it does not say what its samples are")?;
    unsound(profile.string_table.first().is_some_and(Vec::is_empty), "its first string is not empty")?;
    let strings = profile.string_table.len() as u64;
    let are_there = all_strings(profile).all(|index| u64::try_from(index).is_ok_and(|index| index < strings));
    unsound(are_there, "it names a string that is not there")?;
    let mappings = ids(profile.mapping.iter().map(|mapping| mapping.id))?;
    let functions = ids(profile.function.iter().map(|function| function.id))?;
    let locations = ids(profile.location.iter().map(|location| location.id))?;
    let has_place = |location: &Location| {
        let mut functions_of = location.line.iter().map(|line| line.function_id);
        (location.mapping_id == 0 || mappings.contains(&location.mapping_id))
            && functions_of.all(|id| id == 0 || functions.contains(&id))
    };
    unsound(profile.location.iter().all(has_place), "it names a mapping or a function that is not there")?;
    let has_stack = |sample: &Sample| sample.location_id.iter().all(|id| locations.contains(id));
    unsound(profile.sample.iter().all(has_stack), "it names a location that is not there")?;
    let figures = profile.sample_type.len();
    unsound(
        profile.sample.iter().all(|sample| sample.value.len() == figures),
        "a sample has too few or too many figures",
    )
}

fn ids(ids: impl ExactSizeIterator<Item = u64>) -> Result<HashSet<u64>, PprofError> {
    let count = ids.len();
    let ids: HashSet<u64> = ids.collect();
    if ids.len() == count && !ids.contains(&0) {
        Ok(ids)
    } else {
        Err(PprofError::Unsound("an id is there twice, or is zero"))
    }
}

/// Every index of a string.
fn all_strings(profile: &Profile) -> impl Iterator<Item = i64> {
    let types = profile.sample_type.iter().chain(&profile.period_type);
    let of_types = types.flat_map(|ValueType { r#type, unit }| [*r#type, *unit]);
    let labels = profile.sample.iter().flat_map(|sample| &sample.label);
    let of_labels = labels.flat_map(|Label { key, str, num_unit, .. }| [*key, *str, *num_unit]);
    let of_mappings = profile.mapping.iter().flat_map(|mapping| [mapping.filename, mapping.build_id]);
    let of_functions =
        profile.function.iter().flat_map(|function| [function.name, function.system_name, function.filename]);
    let others = [profile.drop_frames, profile.keep_frames, profile.default_sample_type, profile.doc_url];
    let of_profile = profile.comment.iter().copied().chain(others);
    of_types.chain(of_labels).chain(of_mappings).chain(of_functions).chain(of_profile)
}
