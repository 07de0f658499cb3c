//! How much memory a file may take: it is a stranger's, and a few of its bytes can stand for many.

use bytesize::ByteSize;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::PprofError;

/// The most that reading one file may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes when it is decompressed.
    pub decompressed: u64,
    /// Bytes of its messages in memory.
    pub messages: u64,
    /// Bytes of the stacks that are made of them.
    pub frames: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { decompressed: 512 << 20, messages: 2 << 30, frames: 4 << 30 }
    }
}

/// What a message takes in memory at most, without what it refers to; and a label or a line.
const MESSAGE_BYTES: u64 = 96;
const PART_BYTES: u64 = 32;

/// Number of the field of [`super::wire::Profile`] that is a sample.
const SAMPLE: u32 = 2;

impl Limits {
    /// That the messages would not take too much memory, before any of it is taken.
    pub(super) fn check_messages(&self, bytes: &[u8]) -> Result<(), PprofError> {
        let mut cost = 0u64;
        for field in Fields(bytes) {
            let (number, content) = field?;
            cost = cost.saturating_add(message_cost(number, content)?);
            if cost > self.messages {
                return Err(PprofError::TooLarge(ByteSize(self.messages)));
            }
        }
        Ok(())
    }
}

fn message_cost(number: u32, content: &[u8]) -> Result<u64, PprofError> {
    // Strings, and numbers that are packed.
    if number > 5 {
        return Ok(MESSAGE_BYTES + 8 * content.len() as u64);
    }
    let mut cost = MESSAGE_BYTES;
    for part in Fields(content) {
        let (part, content) = part?;
        cost += match (number, part) {
            // Packed numbers of as few as one byte.
            (SAMPLE, 1 | 2) => 8 * content.len().max(1) as u64,
            _ => PART_BYTES,
        };
    }
    Ok(cost)
}

/// The fields of a message: their numbers, and what those that have a length contain.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, &'a [u8]), PprofError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let field = self.read();
            if field.is_err() {
                self.0 = &[];
            }
            field
        })
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, &'a [u8]), PprofError> {
        let wrong = |error: prost::DecodeError| PprofError::Message(error.to_string());
        let (number, wire_type) = decode_key(&mut self.0).map_err(wrong)?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut self.0).map_err(wrong)?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut self.0).map_err(wrong)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(PprofError::Message("it has a group, which is of no profile".to_owned()));
            }
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        let (content, rest) =
            self.0.split_at(length.ok_or_else(|| PprofError::Message("it ends too early".to_owned()))?);
        self.0 = rest;
        Ok((number, if wire_type == WireType::LengthDelimited { content } else { &[] }))
    }
}
