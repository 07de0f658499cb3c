//! Makes the messages of a profile, each string, function and location once.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use super::places::Places;
use crate::{
    model::{Frame, Source, address_for_lookup},
    pprof::{
        SAMPLE_TYPES, SourceParts,
        wire::{Function, Label, Line, Location, Profile, Sample, ValueType},
    },
};

/// What a label says.
#[derive(Clone, Debug)]
pub(super) enum LabelValue {
    /// In words.
    Text(String),
    /// A number and its unit.
    Number(u64, &'static str),
}

/// A profile in the making.
pub(super) struct Builder {
    profile: Profile,
    strings: Strings,
    /// By name and file.
    functions: HashMap<(i64, i64), u64>,
    /// By mapping, address, and what lies there.
    locations: HashMap<(u64, u64, Vec<Line>), u64>,
    places: Places,
    /// By path; nothing for those without a directory.
    sources: BTreeMap<String, Option<SourceParts>>,
}

impl Builder {
    pub(super) fn new(sample_bytes: Option<u64>) -> Self {
        let mut strings = Strings::default();
        // The first one is empty, by definition.
        strings.index("");
        let mut type_of = |(name, unit)| ValueType { r#type: strings.index(name), unit: strings.index(unit) };
        let profile = Profile {
            sample_type: SAMPLE_TYPES.map(&mut type_of).into(),
            period_type: Some(type_of(("space", "bytes"))),
            period: sample_bytes.unwrap_or(1).cast_signed(),
            default_sample_type: type_of(SAMPLE_TYPES[3]).r#type,
            ..Profile::default()
        };
        Self {
            profile,
            strings,
            functions: HashMap::new(),
            locations: HashMap::new(),
            places: Places::default(),
            sources: BTreeMap::new(),
        }
    }

    /// When, and for how long before that.
    pub(super) fn observed(&mut self, time: jiff::Timestamp, elapsed: Duration) {
        self.profile.time_nanos = i64::try_from(time.as_nanosecond()).unwrap_or_default();
        self.profile.duration_nanos = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
    }

    pub(super) fn comment(&mut self, text: &str) {
        // Others are hidden.
        let text = text.trim_start_matches('#');
        self.profile.comment.push(self.strings.index(text));
    }

    pub(super) fn sample(&mut self, frames: &[Frame], values: [i64; 4], labels: &[(&'static str, LabelValue)]) {
        let location_id = stretches(frames).map(|frames| self.location(frames)).collect();
        let label = labels.iter().map(|(key, value)| self.label(key, value)).collect();
        self.profile.sample.push(Sample { location_id, value: values.into(), label });
    }

    /// The profile, and what its source files are made of.
    pub(super) fn finish(mut self) -> (Profile, BTreeMap<String, SourceParts>) {
        self.profile.mapping = self.places.mappings(&mut self.strings);
        self.profile.string_table = self.strings.table;
        let sources = self.sources.into_iter().filter_map(|(path, parts)| Some((path, parts?)));
        (self.profile, sources.collect())
    }

    fn label(&mut self, key: &str, value: &LabelValue) -> Label {
        let key = self.strings.index(key);
        match value {
            LabelValue::Text(text) => Label { key, str: self.strings.index(text), ..Label::default() },
            LabelValue::Number(number, unit) => {
                let num = i64::try_from(*number).unwrap_or(i64::MAX);
                Label { key, num, num_unit: self.strings.index(unit), ..Label::default() }
            }
        }
    }

    /// Of frames at one place, all but the last inlined.
    fn location(&mut self, frames: &[Frame]) -> u64 {
        let Some(frame) = frames.last() else { return 0 };
        let mapping_id = self.places.id_of(frame, frames);
        let is_unnamed = frames.len() == 1 && frame.function.is_none() && frame.source.is_none();
        let line = if is_unnamed { Vec::new() } else { frames.iter().map(|frame| self.line(frame)).collect() };
        let address = address_for_lookup(frame.address);
        let key = (mapping_id, address, line);
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        let location = Location { id, mapping_id, address, line: key.2.clone(), is_folded: false };
        self.profile.location.push(location);
        self.locations.insert(key, id);
        id
    }

    fn line(&mut self, frame: &Frame) -> Line {
        let line = frame.source.as_ref().and_then(|source| source.line).map_or(0, i64::from);
        let name = self.strings.index(frame.function.as_deref().unwrap_or_default());
        let filename = frame.source.as_ref().map_or(0, |source| self.source(source));
        let functions = &mut self.profile.function;
        let id = *self.functions.entry((name, filename)).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function { id, name, system_name: name, filename, start_line: 0 });
            id
        });
        Line { function_id: id, line }
    }

    /// A source file as one path. Two files that would have one are spelled differently.
    fn source(&mut self, source: &Source) -> i64 {
        let file = source.file.to_string_lossy().into_owned();
        let directory = source.directory.as_ref().map(|directory| directory.to_string_lossy().into_owned());
        let mut path = Path::new(directory.as_deref().unwrap_or_default()).join(&file).to_string_lossy().into_owned();
        let parts = directory.map(|directory| SourceParts { directory, file });
        while self.sources.get(&path).is_some_and(|known| *known != parts) {
            path = spelled_otherwise(&path);
        }
        let index = self.strings.index(&path);
        self.sources.insert(path, parts);
        index
    }
}

/// The same path in other letters: `/a/b.c` is `/a/./b.c`.
fn spelled_otherwise(path: &str) -> String {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    format!("{}./{}", &path[..name], &path[name..])
}

/// Runs of frames at one place: what was inlined, and what it was inlined into.
fn stretches(frames: &[Frame]) -> impl Iterator<Item = &[Frame]> {
    let is_one_place = |inner: &Frame, outer: &Frame| {
        inner.inlined
            && (inner.address, inner.offset_in_file, &inner.module, &inner.build_id)
                == (outer.address, outer.offset_in_file, &outer.module, &outer.build_id)
    };
    frames.chunk_by(is_one_place)
}

/// All strings, each once.
#[derive(Default)]
pub(super) struct Strings {
    table: Vec<Vec<u8>>,
    indices: HashMap<String, i64>,
}

impl Strings {
    pub(super) fn index(&mut self, text: &str) -> i64 {
        if let Some(index) = self.indices.get(text) {
            return *index;
        }
        let index = self.table.len() as i64;
        self.table.push(text.as_bytes().to_vec());
        self.indices.insert(text.to_owned(), index);
        index
    }
}
