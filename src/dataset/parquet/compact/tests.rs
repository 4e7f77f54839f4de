//! Every field of the specification with right and wrong types, and changed footers against a model of the parquet crate.

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
            let error = read(&wrap(&field(id, LIST, &[&[0x10 | other][..], &[0; 64]].concat()))).unwrap_err();
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
    let read = |fields: &[u8]| Compact::read(fields, 0, &FILE_META_DATA, |compact, _, of| compact.pass(of));
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
        Compact::read(&bytes, 4, &FILE_META_DATA, |compact, _, of| compact.pass(of)).unwrap_err().to_string()
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
