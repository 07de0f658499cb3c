//! The messages of the format, with the field numbers of perftools.profiles
//! (<https://github.com/google/pprof/blob/main/proto/profile.proto>).
//!
//! Every name is an index into [`Profile::string_table`], whose first string is empty and means that there is no name. The others refer to
//! each other by ids, which are not zero; zero means that there is none.

/// A whole profile.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What each value of a sample is.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The figures.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// What was mapped.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All names. Some tools write strings that are not UTF-8.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_table: Vec<Vec<u8>>,
    /// A regular expression of frames to drop.
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// A regular expression of frames to keep nevertheless.
    #[prost(int64, tag = "8")]
    pub keep_frames: i64,
    /// When it was made: nanoseconds since the Unix epoch.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// For how long had been observed.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What lies between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// How much of that.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Text for people. What begins with `#` is not shown by `go tool pprof`.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The type of sample that is shown first.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
    /// An address of documentation.
    #[prost(int64, tag = "15")]
    pub doc_url: i64,
}

/// What a value is, and its unit.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ValueType {
    /// What it is.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Its unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// Figures of one stack.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// The stack, innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One figure for each type of sample.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What else is known.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A text or a number by which samples can be told apart.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Label {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// A text; or else
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// a number,
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// in this unit.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// An object in memory. Address less start plus file offset is the offset in the file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Mapping {
    /// Not zero.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its first address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// The address behind it.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Offset in the file of the first address.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// Its path.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Its build id, in hexadecimal if it is that of an ELF note.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether its locations have functions,
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// source files,
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// lines,
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// and what was inlined.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A place in code.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Not zero.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The object.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// An address within the instruction. Of a caller that is within the call, before the return address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// The functions there: that which was inlined first, that into which all were inlined last. None if it has no name.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
    /// Whether identical code of several functions lies there.
    #[prost(bool, tag = "5")]
    pub is_folded: bool,
}

/// A function and a line in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// From 1; zero if it is not known.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Function {
    /// Not zero.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// As people read it.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// As the linker knows it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Its source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// Where it begins.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
