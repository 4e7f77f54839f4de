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
            // Booleans in a collection, too: the parquet crate takes no byte for them, so that two billion of them in a
            // file of 23 bytes keep it busy for 5 seconds.
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
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::format::{FILE_META_DATA, PAGE_HEADER};
    use super::*;

    /// A value of `of` without elements or fields, and nothing for a boolean.
    fn value(of: Type) -> Vec<u8> {
        match of {
            Type::Bool => vec![],
            Type::Double => vec![0; 8],
            Type::List(element) => vec![0x10 | element.kind()].into_iter().chain(value(*element)).collect(),
            _ => vec![0],
        }
    }

    /// A field on the wire: its head, and its value.
    fn field(id: i16, kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind, 2 * id as u8], value].concat()
    }

    /// Calls `each` with every field of `of` and of the structs in it, and with a function that returns the bytes of a
    /// struct `of` that has nothing but that field, from the bytes of the field.
    fn each_field(
        of: &'static Structure,
        wrap: &dyn Fn(&[u8]) -> Vec<u8>,
        each: &mut impl FnMut(&'static Structure, i16, Type, &dyn Fn(&[u8]) -> Vec<u8>),
    ) {
        for (id, kind, _) in of.fields {
            each(of, *id, *kind, wrap);
            let inner = |list: &'static [u8]| {
                move |fields: &[u8]| wrap(&field(*id, kind.kind(), &[list, fields, &[0]].concat()))
            };
            match kind {
                Type::Struct(of) => each_field(of, &inner(&[]), each),
                Type::List(Type::Struct(of)) => each_field(of, &inner(&[0x1c]), each),
                _ => {}
            }
        }
    }

    /// Calls `each` with every field of a footer and of a page header, a function that puts the bytes of that field
    /// into a footer or header, and one that reads it.
    fn each_known_field(
        mut each: impl FnMut(
            &'static Structure,
            i16,
            Type,
            &dyn Fn(&[u8]) -> Vec<u8>,
            &dyn Fn(&[u8]) -> Result<usize, Malformed>,
        ),
    ) {
        for root in [&FILE_META_DATA, &PAGE_HEADER] {
            let read = |bytes: &[u8]| Compact::read(bytes, 0, root, |compact, _, of| compact.pass(of));
            let wrap = |fields: &[u8]| [fields, &[0]].concat();
            each_field(root, &wrap, &mut |of, id, kind, wrap| each(of, id, kind, wrap, &read));
        }
    }

    #[test]
    fn fields_of_the_types_of_the_specification_are_read_to_their_end() {
        let mut fields = 0;
        each_known_field(|of, id, kind, wrap, read| {
            let bytes = wrap(&field(id, kind.kind(), &value(kind)));
            assert_eq!(read(&[&bytes[..], &[0xff; 9]].concat()), Ok(bytes.len()), "{}, field {id}", of.name);
            fields += 1;
        });
        // As many as `parquet.thrift` has, each as often as its struct.
        assert_eq!(fields, 135 + 42);
    }

    #[test]
    fn known_fields_of_other_types_are_refused() {
        each_known_field(|of, id, kind, wrap, read| {
            for other in (1..16).filter(|other| !kind.is(*other)) {
                // Whatever the value is read as, there are bytes enough for it.
                let error = read(&wrap(&field(id, other, &[0; 64]))).unwrap_err();
                let (_, _, field) = of.field(id).unwrap();
                assert_eq!(error.place, format!("{}.{field}", of.name));
                assert_eq!((error.expected, error.found), (kind.to_string(), name(other).to_owned()));
            }
        });
    }

    #[test]
    fn lists_of_other_elements_are_refused() {
        let mut lists = 0;
        each_known_field(|of, id, kind, wrap, read| {
            let Type::List(element) = kind else { return };
            // A boolean in a list would take no byte.
            assert!(!matches!(element, Type::Bool));
            lists += 1;
            for other in (0..16).filter(|other| !element.is(*other)) {
                let error =
                    read(&wrap(&field(id, LIST, &[&[0x10 | other][..], &[0; 64]].concat()))).unwrap_err();
                assert_eq!(error.expected, kind.to_string());
                assert_eq!(error.found, format!("list of {}", name(other)));
                // There is nothing to read in an empty list.
                assert!(read(&wrap(&field(id, LIST, &[other]))).is_ok(), "{}, field {id}", of.name);
            }
        });
        assert_eq!(lists, 4 + 2 + 4 + 2 + 1 + 1);
    }

    #[test]
    fn lists_with_more_elements_than_bytes_are_refused() {
        each_known_field(|of, id, kind, wrap, read| {
            let Type::List(element) = kind else { return };
            for count in [
                &[0x7f][..],
                &[0xff, 0xff, 0xff, 0xff, 7],
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ] {
                let list = [&[0xf0 | element.kind()], count, &[0; 90]].concat();
                let error = read(&wrap(&field(id, LIST, &list))).unwrap_err();
                assert!(
                    error.expected.ends_with("elements, which is the number of bytes left"),
                    "{error} {}",
                    of.name
                );
            }
        });
    }

    #[test]
    fn fields_that_are_repeated_or_out_of_order_are_refused() {
        let read =
            |fields: &[u8]| Compact::read(fields, 0, &FILE_META_DATA, |compact, _, of| compact.pass(of));
        // Field 1, twice; field 3 before field 1; field -1; field 1 behind a field that is passed over; field 70,000;
        // the same in a struct that is passed over.
        for (bytes, found) in [
            (&[0x15, 2, 0x05, 2, 2, 0][..], "1"),
            (&[0x36, 2, 0x05, 2, 2, 0], "1"),
            (&[0x05, 1, 2, 0], "-1"),
            (&[0x05, 80, 2, 0x05, 2, 2, 0], "1"),
            (&[0x05, 0xe0, 0xc5, 8, 2, 0], "70000"),
            (&[0x0c, 80, 0x15, 2, 0x05, 2, 2, 0, 0], "1"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.expected.starts_with("a field with an id from "), "{error}");
            assert_eq!(error.found, found);
        }
    }

    #[test]
    fn errors_name_the_field_and_the_byte() {
        let read = |fields: &[u8]| {
            let bytes = [b"PAR1", fields].concat();
            Compact::read(&bytes, 4, &FILE_META_DATA, |compact, _, of| compact.pass(of))
                .unwrap_err()
                .to_string()
        };
        let texts = [
            // Field 2, a list of one struct with field 4, an i32.
            (&[0x29, 0x1c, 0x45, 2][..], "SchemaElement.name: expected binary at byte 6, found i32"),
            (&[0x1c, 0], "FileMetaData.version: expected i32 at byte 4, found struct"),
            (&[0x29, 0x15, 2], "FileMetaData.schema: expected list of struct at byte 5, found list of i32"),
            (
                &[0x68, 9, b'a'],
                "FileMetaData.created_by: expected at most 1 bytes, which is what is left at byte 5, found 9",
            ),
            (&[0x15, 0x80], "FileMetaData.version: expected a byte at byte 6, found the end"),
            (&[0x15, 2], "FileMetaData: expected a byte at byte 6, found the end"),
            (
                &[0x09, 40, 0x21, 1, 1],
                "FileMetaData, field 20: expected a value that takes bytes at byte 7, found boolean",
            ),
        ];
        for (bytes, text) in texts {
            assert_eq!(read(bytes), text);
        }
    }

    /// What the parquet crate does with these bytes, in steps: it takes the type of a known field from the
    /// specification, and that of another one from the file. `None` if it refuses the bytes, or takes more than `left`
    /// steps.
    struct Decoder<'a> {
        bytes: Compact<'a>,
        left: usize,
    }

    impl<'a> Decoder<'a> {
        /// A decoder of `bytes`, which takes at most 4 steps for each.
        fn new(bytes: &'a [u8]) -> Self {
            Self { bytes: Compact { bytes, at: 0, place: (&FILE_META_DATA, 0) }, left: 4 * bytes.len() }
        }

        fn fields(&mut self, of: Option<&'static Structure>) -> Option<()> {
            let mut id = 0i16;
            loop {
                let head = self.bytes.byte().ok()?;
                id = match (head & 15, head >> 4) {
                    (0, _) => return Some(()),
                    (_, 0) => self.bytes.int().ok()? as i16,
                    (_, more) => id.checked_add(i16::from(more))?,
                };
                match of.and_then(|of| of.field(id)) {
                    Some((_, of, _)) => self.value(*of)?,
                    None => self.skip(head & 15)?,
                }
            }
        }

        fn value(&mut self, of: Type) -> Option<()> {
            match of {
                Type::List(element) => {
                    let (count, _) = self.list()?;
                    (0..count).try_for_each(|_| self.value(*element))
                }
                Type::Struct(of) => {
                    self.left = self.left.checked_sub(1)?;
                    self.fields(Some(of))
                }
                of => self.skip(of.kind()),
            }
        }

        fn skip(&mut self, kind: u8) -> Option<()> {
            self.left = self.left.checked_sub(1)?;
            match kind {
                // No byte, in a list, too.
                TRUE | FALSE => Some(()),
                LIST | SET => {
                    let (count, kind) = self.list()?;
                    (0..count).try_for_each(|_| self.skip(kind))
                }
                MAP => {
                    let count = self.bytes.varint().ok()?;
                    let kinds = if count > 0 { self.bytes.byte().ok()? } else { 0 };
                    (0..count).try_for_each(|_| self.skip(kinds >> 4).and_then(|()| self.skip(kinds & 15)))
                }
                STRUCT => self.fields(None),
                kind => self.bytes.pass_kind(kind, 1).ok(),
            }
        }

        fn list(&mut self) -> Option<(u64, u8)> {
            let head = self.bytes.byte().ok()?;
            let count = if head >> 4 == 15 { self.bytes.varint().ok()? } else { u64::from(head >> 4) };
            Some((count, head & 15))
        }
    }

    /// Field 1, an integer, as a text that hides field 15, a list of 2^31 - 1 booleans.
    const HIDDEN_LIST: [u8; 11] = [0x18, 8, 0xe9, 0xf1, 0xff, 0xff, 0xff, 0xff, 7, 0, 0];

    #[test]
    fn lists_in_fields_of_other_types_are_refused() {
        assert_eq!(Decoder::new(&HIDDEN_LIST).fields(Some(&FILE_META_DATA)), None);
        let read = Compact::read(&HIDDEN_LIST, 0, &FILE_META_DATA, |compact, _, of| compact.pass(of));
        let text = "FileMetaData.version: expected i32 at byte 0, found binary";
        assert_eq!(read.unwrap_err().to_string(), text);
    }

    /// The footers of files that pyarrow wrote.
    fn footers() -> Vec<Vec<u8>> {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
        let footer = |name| {
            let file = std::fs::read(fixtures.join(name)).unwrap();
            let (bytes, length) = file[..file.len() - 4].split_last_chunk().unwrap();
            bytes[bytes.len() - u32::from_le_bytes(*length) as usize..].to_vec()
        };
        ["catalog.parquet", "halves.parquet", "one_row.parquet"].map(footer).to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, rng_seed: RngSeed::Fixed(18), ..ProptestConfig::default() })]

        /// What passes is decoded in as many steps as it has bytes, and to the same end.
        #[test]
        fn changed_footers_are_refused_or_decoded_in_the_same_way(
            file in 0_usize..3,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<u8>()), 0..4),
        ) {
            static FOOTERS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(footers);
            let mut bytes = FOOTERS[file].clone();
            for (at, change, byte) in changes {
                let at = at.index(bytes.len());
                match change {
                    0 => bytes[at] = byte,
                    // Another type.
                    1 => bytes[at] = bytes[at] & 0xf0 | byte & 15,
                    _ => bytes.insert(at, byte),
                }
            }
            let read = Compact::read(&bytes, 0, &FILE_META_DATA, |compact, _, of| compact.pass(of));
            if let Ok(end) = read {
                let mut decoder = Decoder::new(&bytes);
                prop_assert_eq!(decoder.fields(Some(&FILE_META_DATA)), Some(()));
                prop_assert_eq!(decoder.bytes.at, end);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_decoded_in_the_same_way(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for root in [&FILE_META_DATA, &PAGE_HEADER] {
                if let Ok(end) = Compact::read(&bytes, 0, root, |compact, _, of| compact.pass(of)) {
                    let mut decoder = Decoder::new(&bytes);
                    prop_assert_eq!(decoder.fields(Some(root)), Some(()));
                    prop_assert_eq!(decoder.bytes.at, end);
                }
            }
        }
    }
}
