//! The `:authority` of a header block (HPACK, RFC 7541), where it is a list of addresses.
//!
//! What flows in: the bytes of one header block. What flows out: the same, with a valid authority of the same length in
//! place of a list. Lengths do not change, so the dynamic table of the decoder has the sizes that the client expects.
//!
//! Only literals that are not Huffman-coded are looked at: the C library of gRPC uses no Huffman code, and other clients
//! send no lists.

use std::net::SocketAddr;
use std::ops::Range;

/// The index of `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
const AUTHORITY: &[u8] = b":authority";
/// Integers have at most this many bytes after the first, so a length has at most 28 bits.
const MAX_INTEGER_BYTES: u32 = 4;

/// Replaces every list of addresses in the literal values of `:authority`. Returns whether there was one. From an error
/// in the block on, nothing is replaced; the decoder will find the error.
pub(super) fn replace_lists(block: &mut [u8]) -> bool {
    let mut reader = Reader { block, at: 0 };
    let mut has_list = false;
    while let Some(field) = reader.field() {
        if let Field::Authority(value) = field
            && is_list(&reader.block[value.clone()])
        {
            // A name without dots is local in `browser.rs`.
            reader.block[value]
                .iter_mut()
                .filter(|byte| !byte.is_ascii_alphanumeric())
                .for_each(|byte| *byte = b'-');
            has_list = true;
        }
    }
    has_list
}

/// Returns whether this is a list of at least two addresses with ports. Web pages cannot make a browser send one, even
/// with DNS rebinding: a URL has one host and at most one port.
fn is_list(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    text.contains(',') && text.split(',').all(|address| address.parse::<SocketAddr>().is_ok())
}

/// What a header block consists of.
enum Field {
    /// The value of a literal `:authority`.
    Authority(Range<usize>),
    Other,
}

struct Reader<'a> {
    block: &'a mut [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads the next field. `None` at the end or at an error.
    fn field(&mut self) -> Option<Field> {
        let (prefix_bits, is_literal) = match *self.block.get(self.at)? {
            0x80.. => (7, false),
            // With incremental indexing.
            0x40.. => (6, true),
            // A new size of the dynamic table.
            0x20.. => (5, false),
            // Without indexing, or never indexed.
            _ => (4, true),
        };
        let index = self.integer(prefix_bits)?;
        if !is_literal {
            return Some(Field::Other);
        }
        let is_authority = match index {
            0 => self.string()?.is_some_and(|name| &self.block[name] == AUTHORITY),
            _ => index == AUTHORITY_INDEX,
        };
        let value = self.string()?;
        Some(value.filter(|_| is_authority).map_or(Field::Other, Field::Authority))
    }

    /// Reads a string. Returns where it is, or `Some(None)` if it is Huffman-coded.
    fn string(&mut self) -> Option<Option<Range<usize>>> {
        let is_huffman = self.block.get(self.at)? & 0x80 != 0;
        let len = self.integer(7)?;
        let string = self.at..self.at + len;
        self.block.get(string.clone())?;
        self.at = string.end;
        Some((!is_huffman).then_some(string))
    }

    /// Reads an integer that begins in the low bits of the next byte.
    fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let mask = (1 << prefix_bits) - 1;
        let mut value = usize::from(self.byte()? & mask);
        if value < usize::from(mask) {
            return Some(value);
        }
        for position in 0..MAX_INTEGER_BYTES {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::uri::Authority;

    use super::*;

    /// A literal with a name of this index, or with this name.
    fn literal(first: u8, name: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
        let mut block = vec![first];
        for string in name.into_iter().chain([value]) {
            block.push(string.len() as u8);
            block.extend_from_slice(string);
        }
        block
    }

    #[test]
    fn a_list_in_any_literal_is_replaced_by_a_valid_authority_of_the_same_length() {
        for (list, expected) in [
            ("10.0.0.1:50051,10.0.0.2:50051", "10-0-0-1-50051-10-0-0-2-50051"),
            ("[::1]:1,[2001:db8::a]:2", "---1--1--2001-db8--a--2"),
            ("127.0.0.1:1,[::1]:2,127.0.0.2:3", "127-0-0-1-1----1--2-127-0-0-2-3"),
        ] {
            assert!(Authority::try_from(list).is_err(), "{list}");
            assert_eq!(Authority::try_from(expected).unwrap().host(), expected);
            for (first, name) in [
                (0x40, Some(AUTHORITY)),
                (0x00, Some(AUTHORITY)),
                (0x10, Some(AUTHORITY)),
                (0x41, None),
                (0x01, None),
                (0x11, None),
            ] {
                // After a new table size, an indexed field and another literal.
                let before = [&[0x3f, 0xe1, 0x1f, 0x83][..], &literal(0x40, Some(b":path"), b"/a")].concat();
                let mut block = [&before[..], &literal(first, name, list.as_bytes()), &[0x86]].concat();
                assert!(replace_lists(&mut block), "{list} {first:#x}");
                let replaced = literal(first, name, expected.as_bytes());
                assert_eq!(block, [&before[..], &replaced, &[0x86]].concat(), "{list} {first:#x}");
            }
        }
    }

    #[test]
    fn a_list_longer_than_a_short_length_is_replaced() {
        let list = vec!["10.0.0.1:50051"; 20].join(",");
        let mut block = vec![0x41, 127, 0x80 | (list.len() - 127) as u8, ((list.len() - 127) >> 7) as u8];
        block.extend_from_slice(list.as_bytes());
        assert!(replace_lists(&mut block));
        assert_eq!(block[4..], *list.replace(['.', ':', ','], "-").as_bytes());
    }

    #[test]
    fn anything_else_stays() {
        let list = b"10.0.0.1:1,10.0.0.2:2";
        let long_length = [&[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f][..], list].concat();
        let too_long = [&[0x41, 0x7f, 0xff, 0xff, 0xff, 0x7f][..], list].concat();
        let cut = literal(0x41, None, list)[..20].to_vec();
        let huffman = [&[0x41, 0x80 | list.len() as u8][..], list].concat();
        for mut block in [
            literal(0x40, Some(b":path"), list),
            literal(0x44, None, list),
            literal(0x41, None, b"localhost:50051"),
            literal(0x41, None, b"[::1]:1"),
            literal(0x41, None, b"10.0.0.1:1"),
            literal(0x41, None, b"10.0.0.1,10.0.0.2"),
            literal(0x41, None, b"10.0.0.1:1,"),
            literal(0x41, None, b"10.0.0.1:1,evil.example:1"),
            literal(0x41, None, b"evil,x.example:1"),
            literal(0x41, None, b"10.0.0.1:1,\xff"),
            literal(0x41, None, b""),
            vec![0x41],
            vec![0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![],
            long_length,
            too_long,
            cut,
            huffman,
        ] {
            let before = block.clone();
            assert!(!replace_lists(&mut block), "{before:x?}");
            assert_eq!(block, before);
        }
    }
}
