//! Bytes as hexadecimal text, two digits for each byte.

/// The lower-case digits of `bytes`.
pub(crate) fn text(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes that `text` has the digits of, of either case; `None` if it is no such text.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_as_it_was_written() {
        let all: Vec<u8> = (0..=255).collect();
        let written = text(&all);
        assert_eq!(bytes(&written).as_ref(), Some(&all));
        assert_eq!(bytes(&written.to_uppercase()), Some(all));
        assert_eq!((text(&[0, 0x1f, 0xff]).as_str(), bytes("")), ("001fff", Some(Vec::new())));
    }

    #[test]
    fn other_text_has_no_bytes() {
        for other in ["0", "0g", "+1", " 1", "é", "0x10", "١٢"] {
            assert_eq!(bytes(other), None, "{other:?}");
        }
    }
}
