//! Tokens of pages: where the next page begins, and the generations that it must come from.
//!
//! What flows in: text that any client may have sent. What flows out: offset and generations. A token is no secret and grants nothing
//! that an offset does not: the checksum finds text that was cut or mistyped.

use super::error::InvalidField;

/// The field of a request.
const FIELD: &str = "page_token";
/// The longest text that is read.
const MAX_TEXT: usize = 2048;
/// The first byte.
const VERSION: u8 = 1;
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    /// Candidates before the page.
    pub(crate) offset: u32,
    /// The generation of each shard; 0 where any will do.
    pub(crate) generations: Vec<u64>,
}

impl PageToken {
    /// Reads a token.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn read(text: &str) -> Result<Self, InvalidField> {
        let bytes = if text.len() > MAX_TEXT { None } else { hex::decode(text).ok() };
        let token = bytes.and_then(|bytes| Self::parse(&bytes));
        token.ok_or_else(|| InvalidField::new(FIELD, "expected a next_page_token of an answer"))
    }

    /// The same token, if it is one of this many shards.
    ///
    /// # Errors
    /// If it is one of another number of shards.
    pub(crate) fn of_shards(self, shards: usize) -> Result<Self, InvalidField> {
        let found = self.generations.len();
        if found == shards {
            return Ok(self);
        }
        let problem = format!("expected the token of an index of {shards} shards, found one of {found}");
        Err(InvalidField::new(FIELD, problem))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        let (version, rest) = content.split_first()?;
        let (offset, generations) = rest.split_first_chunk::<4>()?;
        let (generations, rest) = generations.as_chunks::<8>();
        let is_whole = *version == VERSION && sum == checksum(content) && rest.is_empty();
        let generations = generations.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        is_whole.then(|| Self { offset: u32::from_le_bytes(*offset), generations })
    }

    /// The token as text.
    pub(crate) fn text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.generations.iter().flat_map(|generation| generation.to_le_bytes()));
        let sum = checksum(&bytes);
        bytes.extend(sum);
        hex::encode(&bytes)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    crc32c::crc32c(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written_and_a_changed_one_is_refused(
            offset: u32,
            generations in proptest::collection::vec(any::<u64>(), 1..=64),
            at: proptest::sample::Index,
        ) {
            let token = PageToken { offset, generations };
            let text = token.text();
            prop_assert!(text.len() <= MAX_TEXT);
            let shards = token.generations.len();
            prop_assert_eq!(PageToken::read(&text), Ok(token.clone()));
            prop_assert_eq!(token.clone().of_shards(shards), Ok(token.clone()));
            prop_assert!(token.of_shards(shards + 1).is_err());
            let at = at.index(text.len());
            prop_assert!(PageToken::read(&text[..at]).is_err());
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            prop_assert!(PageToken::read(&changed).is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = PageToken::read(&text);
        }
    }
}
