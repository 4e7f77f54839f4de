//! A message of gRPC → JSON.
//!
//! What flows in: the encoded answer to a call. What flows out: its text, which is charged to the call while it is
//! written. Messages within a message are written one after another, and only the fields between them become dynamic
//! messages. So an answer takes little more memory than its text.

use prost::DecodeError;
use prost::bytes::Buf as _;
use prost::encoding::{WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize as _;

use super::buffer::{Buffer, Full};

/// Why an answer cannot be written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// There is no room for it.
    Full,
    /// It has a value that JSON does not have, such as a time before the year 1.
    Value(serde_json::Error),
    /// It is not a message of this server.
    Malformed,
}

impl From<Full> for Unwritten {
    fn from(_: Full) -> Self {
        Unwritten::Full
    }
}

impl From<DecodeError> for Unwritten {
    fn from(_: DecodeError) -> Self {
        Unwritten::Malformed
    }
}

/// Appends the text of a message.
pub(super) fn encode(of: &MessageDescriptor, message: &[u8], text: &mut Buffer) -> Result<(), Unwritten> {
    let mut writer = Writer { of, text, is_first: true, written: 0 };
    let (mut plain, mut rest) = (message, message);
    while !rest.is_empty() {
        let (number, value) = next(&mut rest)?;
        let Some((field, inner)) = of.get_field(number).and_then(nested) else { continue };
        let before = &plain[..plain.len() - value.from];
        writer.plain(before)?;
        writer.begin(&field)?;
        if field.is_list() {
            writer.text.push(b"[")?;
            encode(&inner, value.bytes, writer.text)?;
            while let Some(bytes) = next_of(number, &mut rest)? {
                writer.text.push(b",")?;
                encode(&inner, bytes, writer.text)?;
            }
            writer.text.push(b"]")?;
        } else {
            encode(&inner, value.bytes, writer.text)?;
        }
        plain = rest;
    }
    writer.plain(plain)?;
    writer.text.push(if writer.is_first { b"{}" } else { b"}" })?;
    Ok(())
}

/// A field of a message on the wire.
struct Field<'a> {
    /// Bytes from the start of the field to the end of the message.
    from: usize,
    /// The bytes of a message or text.
    bytes: &'a [u8],
}

/// Takes the next field.
fn next<'a>(rest: &mut &'a [u8]) -> Result<(u32, Field<'a>), Unwritten> {
    let from = rest.len();
    let (number, wire_type) = decode_key(rest)?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, number, rest, prost::encoding::DecodeContext::default())?;
        return Ok((number, Field { from, bytes: &[] }));
    }
    let length = usize::try_from(decode_varint(rest)?).map_err(|_| Unwritten::Malformed)?;
    let bytes = rest.get(..length).ok_or(Unwritten::Malformed)?;
    rest.advance(length);
    Ok((number, Field { from, bytes }))
}

/// Takes the next field if it has this number.
fn next_of<'a>(number: u32, rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Unwritten> {
    let mut after = *rest;
    if after.is_empty() {
        return Ok(None);
    }
    let (found, field) = next(&mut after)?;
    if found != number {
        return Ok(None);
    }
    *rest = after;
    Ok(Some(field.bytes))
}

/// Returns the message of a field that is an object in JSON, and no map.
fn nested(field: FieldDescriptor) -> Option<(FieldDescriptor, MessageDescriptor)> {
    match field.kind() {
        Kind::Message(inner) if !field.is_map() && !inner.full_name().starts_with("google.protobuf.") => {
            Some((field, inner))
        }
        _ => None,
    }
}

/// The text of one message.
struct Writer<'a> {
    of: &'a MessageDescriptor,
    text: &'a mut Buffer,
    is_first: bool,
    /// The fields that were written, by number.
    written: u128,
}

impl Writer<'_> {
    /// Notes that a field is written, which is once.
    fn note(&mut self, number: u32) -> Result<(), Unwritten> {
        let bit = 1u128.checked_shl(number).ok_or(Unwritten::Malformed)?;
        let is_new = self.written & bit == 0;
        self.written |= bit;
        if is_new { Ok(()) } else { Err(Unwritten::Malformed) }
    }

    /// Begins a field.
    fn begin(&mut self, field: &FieldDescriptor) -> Result<(), Unwritten> {
        self.note(field.number())?;
        self.text.push(if self.is_first { b"{\"" } else { b",\"" })?;
        self.is_first = false;
        self.text.push(field.json_name().as_bytes())?;
        self.text.push(b"\":")?;
        Ok(())
    }

    /// Writes fields without messages in them.
    fn plain(&mut self, fields: &[u8]) -> Result<(), Unwritten> {
        if fields.is_empty() {
            return Ok(());
        }
        let message = DynamicMessage::decode(self.of.clone(), fields)?;
        for (field, _) in message.fields() {
            self.note(field.number())?;
        }
        let start = self.text.bytes().len();
        message
            .serialize(&mut serde_json::Serializer::new(&mut *self.text))
            .map_err(|error| if error.is_io() { Unwritten::Full } else { Unwritten::Value(error) })?;
        // An object, whose braces are those of the message around the fields.
        let bytes = self.text.bytes();
        bytes.pop();
        if bytes.len() == start + 1 {
            bytes.truncate(start);
        } else if !self.is_first {
            bytes[start] = b',';
        } else {
            self.is_first = false;
        }
        Ok(())
    }
}
