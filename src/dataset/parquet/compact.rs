//! Thrift's compact protocol, as far as the sizes in a Parquet file need it: reads integers, passes over the rest.
//!
//! What flows in: bytes of a file. What flows out: the integers of some fields. Nothing is allocated, so that a file can be
//! refused before the decoder allocates what it claims. Every read is `None` where the bytes end or are malformed.

/// The kinds of values that are looked at.
pub(super) const TRUE: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Structs and lists within each other, far more than Parquet nests.
const MAX_NESTING: u8 = 16;

/// A position in bytes of the compact protocol.
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The number of bytes that were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads a struct: calls `each` with the id and the kind of every field, to read its value.
    pub(super) fn fields(&mut self, mut each: impl FnMut(&mut Self, i16, u8) -> Option<()>) -> Option<()> {
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.int()?).ok()?,
                more => id.checked_add(i16::from(more))?,
            };
            each(self, id, head & 15)?;
        }
    }

    /// Reads the head of a list or set: the number and the kind of its elements.
    pub(super) fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((count, head & 15))
    }

    /// Reads an integer.
    pub(super) fn int(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Passes over the value of a field.
    pub(super) fn skip(&mut self, kind: u8) -> Option<()> {
        match kind {
            // A boolean is in the head of its field.
            TRUE | FALSE => Some(()),
            kind => self.skip_element(kind, MAX_NESTING),
        }
    }

    /// Passes over a value that is in a collection, or not a boolean.
    fn skip_element(&mut self, kind: u8, nesting: u8) -> Option<()> {
        let inner = nesting.checked_sub(1)?;
        match kind {
            // The parquet crate takes no byte for a boolean in a collection: two billion of them in a file of 23 bytes keep it
            // busy for 5 seconds. What is passed over in a Parquet file has none.
            TRUE | FALSE => None,
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let bytes = self.varint()?;
                self.pass(bytes)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, inner))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, inner)?;
                    self.skip_element(kinds & 15, inner)
                })
            }
            STRUCT => self.fields(|this, _, kind| match kind {
                TRUE | FALSE => Some(()),
                kind => this.skip_element(kind, inner),
            }),
            _ => None,
        }
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        let at = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        self.at = at;
        (at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_or_passed_over() {
        // 1: i32 -3; 2: true; 4: "ab"; 20: list of two i64; 21: struct of one double.
        let bytes = [
            0x15, 5, 0x11, 0x28, 2, b'a', b'b', 0x09, 40, 0x26, 1, 2, 0x1c, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0,
        ];
        let (mut compact, mut seen) = (Compact::new(&bytes), Vec::new());
        let read = compact.fields(|compact, id, kind| {
            seen.push((id, kind));
            if id == 1 { (compact.int()? == -3).then_some(()) } else { compact.skip(kind) }
        });
        assert_eq!(read, Some(()));
        assert_eq!(seen, [(1, 5), (2, 1), (4, 8), (20, 9), (21, 12)]);
        assert_eq!(compact.position(), bytes.len());
    }

    #[test]
    fn collections_of_booleans_are_refused() {
        // 1: list of two; set of two; map of two to i32; list of a list of two.
        for bytes in [
            &[0x19, 0x21, 1, 1, 0][..],
            &[0x1a, 0x22, 1, 1, 0],
            &[0x1b, 2, 0x15, 1, 1, 1, 1, 0],
            &[0x19, 0x19, 0x21, 1, 1, 0],
        ] {
            assert_eq!(Compact::new(bytes).fields(Compact::skip_any), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_over_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut compact = Compact::new(&bytes);
            let _ = compact.fields(Compact::skip_any);
        }
    }

    impl Compact<'_> {
        fn skip_any(&mut self, _: i16, kind: u8) -> Option<()> {
            self.skip(kind)
        }
    }
}
