//! Thrift's compact protocol, as far as the metadata of a Parquet file needs it: reads structs of the specification,
//! field by field, and checks the type of each.
//!
//! What flows in: bytes of a file, and a [`Structure`]. What flows out: the integers of some fields. Nothing is
//! allocated, so that a file can be refused before the decoder allocates what it claims.
//!
//! The parquet crate reads the fields that it knows by their id, and ignores the type that the file gives to them. A
//! field of another type would be read in one way here and in another there. What passes here is read in the same way
//! by both, in a time linear in its bytes: every element of a list takes a byte at least.

use std::fmt::Display;

use super::format::{Structure, Type};

/// The types of values on the wire. A boolean is its own value.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I8: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Structs and lists within each other in a field that is passed over, far more than Parquet nests.
const MAX_NESTING: u8 = 16;

/// Bytes that are not what the specification says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected} at byte {at}, found {found}")]
pub(super) struct Malformed {
    /// The struct and its field.
    place: String,
    expected: String,
    /// Of the file.
    at: usize,
    found: String,
}

impl Malformed {
    pub(super) fn new(place: String, at: usize, expected: impl Display, found: impl Display) -> Self {
        Self { place, expected: expected.to_string(), at, found: found.to_string() }
    }
}

/// A position in bytes of the compact protocol.
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The struct that is read, and the id of its field, or 0 at the head of a field.
    place: (&'static Structure, i16),
}

impl<'a> Compact<'a> {
    /// Reads a struct that begins at byte `at` of `bytes`: calls `each` with the id and the type of every field of the
    /// specification, to read its value. Returns the byte behind it.
    pub(super) fn read(
        bytes: &'a [u8],
        at: usize,
        of: &'static Structure,
        each: impl FnMut(&mut Self, i16, &'static Type) -> Result<(), Malformed>,
    ) -> Result<usize, Malformed> {
        let mut compact = Self { bytes, at, place: (of, 0) };
        compact.fields(of, each)?;
        Ok(compact.at)
    }

    /// Reads a struct: calls `each` with the id and the type of every field of the specification, to read its value.
    pub(super) fn fields(
        &mut self,
        of: &'static Structure,
        mut each: impl FnMut(&mut Self, i16, &'static Type) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut last = 0;
        loop {
            self.place = (of, 0);
            let head = self.at;
            let Some((id, kind)) = self.field(last)? else { return Ok(()) };
            self.place = (of, id);
            last = id;
            match of.field(id) {
                Some((_, of, _)) if of.is(kind) => each(self, id, of)?,
                Some((_, of, _)) => return Err(self.malformed(head, of, name(kind))),
                None if kind == TRUE || kind == FALSE => {}
                None => self.pass_kind(kind, MAX_NESTING)?,
            }
        }
    }

    /// Reads the head of a list: the number of its elements.
    pub(super) fn list(&mut self, element: &Type) -> Result<usize, Malformed> {
        let head = self.at;
        let (count, kind) = self.elements()?;
        if count > 0 && !element.is(kind) {
            let expected = format!("list of {element}");
            return Err(self.malformed(head, expected, format!("list of {}", name(kind))));
        }
        Ok(count)
    }

    /// Reads an integer from 0 to `most`.
    pub(super) fn size(&mut self, most: usize) -> Result<usize, Malformed> {
        let at = self.at;
        let value = self.int()?;
        let size = usize::try_from(value).ok().filter(|size| *size <= most);
        size.ok_or_else(|| self.malformed(at, format!("an integer from 0 to {most}"), value))
    }

    /// Passes over a text, and returns its length.
    pub(super) fn text(&mut self) -> Result<usize, Malformed> {
        let at = self.at;
        let length = self.varint()?;
        self.pass_bytes(at, length)?;
        Ok(length as usize)
    }

    /// Passes over a value, and checks the types in it.
    pub(super) fn pass(&mut self, of: &'static Type) -> Result<(), Malformed> {
        match of {
            Type::Bool => Ok(()),
            Type::List(element) => {
                let count = self.list(element)?;
                (0..count).try_for_each(|_| self.pass(element))
            }
            Type::Struct(of) => self.fields(of, |this, _, of| this.pass(of)),
            _ => self.pass_kind(of.kind(), MAX_NESTING),
        }
    }

    /// The error for bytes at `at` in the current field.
    fn malformed(&self, at: usize, expected: impl Display, found: impl Display) -> Malformed {
        let (of, id) = self.place;
        let place = match (id, of.field(id)) {
            (0, _) => of.name.to_owned(),
            (_, Some((_, _, name))) => format!("{}.{name}", of.name),
            (_, None) => format!("{}, field {id}", of.name),
        };
        Malformed::new(place, at, expected, found)
    }

    /// Reads the head of a field, with an id above `last`: its id and the type of its value. `None` at the end of the
    /// struct.
    fn field(&mut self, last: i16) -> Result<Option<(i16, u8)>, Malformed> {
        let at = self.at;
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let id = match i64::from(head >> 4) {
            0 => self.int()?,
            more => i64::from(last) + more,
        };
        match i16::try_from(id) {
            Ok(id) if id > last => Ok(Some((id, head & 15))),
            _ => Err(self.malformed(at, format!("a field with an id from {} to {}", last + 1, i16::MAX), id)),
        }
    }

    /// Reads the head of a list or set: the number and the type of its elements. Each takes a byte at least.
    fn elements(&mut self) -> Result<(usize, u8), Malformed> {
        let at = self.at;
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Ok((self.check_count(at, count)?, head & 15))
    }

    fn check_count(&self, at: usize, count: u64) -> Result<usize, Malformed> {
        let left = self.bytes.len() - self.at;
        let count_in_bytes = usize::try_from(count).ok().filter(|count| *count <= left);
        count_in_bytes.ok_or_else(|| {
            self.malformed(at, format!("at most {left} elements, which is the number of bytes left"), count)
        })
    }

    /// Passes over a value that is not a boolean.
    fn pass_kind(&mut self, kind: u8, nesting: u8) -> Result<(), Malformed> {
        let at = self.at;
        let Some(inner) = nesting.checked_sub(1) else {
            return Err(self.malformed(
                at,
                format!("at most {MAX_NESTING} levels of structs and lists"),
                "more",
            ));
        };
        match kind {
            I8 => self.pass_bytes(at, 1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.pass_bytes(at, 8),
            BINARY => self.text().map(drop),
            LIST | SET => {
                let (count, kind) = self.elements()?;
                (0..count).try_for_each(|_| self.pass_kind(kind, inner))
            }
            MAP => {
                let count = self.varint()?;
                let count = self.check_count(at, count)?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.pass_kind(kinds >> 4, inner)?;
                    self.pass_kind(kinds & 15, inner)
                })
            }
            STRUCT => {
                let mut last = 0;
                while let Some((id, kind)) = self.field(last)? {
                    last = id;
                    if kind != TRUE && kind != FALSE {
                        self.pass_kind(kind, inner)?;
                    }
                }
                Ok(())
            }
            // Booleans in a collection, too: the parquet crate takes no byte for them, so a file of a few bytes could have
            // two billion.
            _ => Err(self.malformed(at, "a value that takes bytes", name(kind))),
        }
    }

    fn pass_bytes(&mut self, at: usize, bytes: u64) -> Result<(), Malformed> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= left => {
                self.at += bytes;
                Ok(())
            }
            _ => Err(self.malformed(at, format!("at most {left} bytes, which is what is left"), bytes)),
        }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.bytes.get(self.at).copied();
        let byte = byte.ok_or_else(|| self.malformed(self.at, "a byte", "the end"))?;
        self.at += 1;
        Ok(byte)
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed(at, "an integer of at most 10 bytes", "a longer one"))
    }
}

impl Type {
    /// The type of its values on the wire. A boolean has another if it is false.
    fn kind(self) -> u8 {
        match self {
            Type::Bool => TRUE,
            Type::I8 => I8,
            Type::I16 => I16,
            Type::I32 => I32,
            Type::I64 => I64,
            Type::Double => DOUBLE,
            Type::Binary => BINARY,
            Type::List(_) => LIST,
            Type::Struct(_) => STRUCT,
        }
    }

    fn is(self, kind: u8) -> bool {
        self.kind() == kind || self.kind() == TRUE && kind == FALSE
    }
}

fn name(kind: u8) -> &'static str {
    const NAMES: [&str; 13] = [
        "nothing", "boolean", "boolean", "i8", "i16", "i32", "i64", "double", "binary", "list", "set", "map",
        "struct",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("an unknown type")
}

#[cfg(test)]
mod tests;
