//! Tokens of pages: where the next page begins, and the generations that it must come from.
//!
//! What flows in: text that any client may have sent. What flows out: offset, generations and, if the request named an alias, a hash
//! of the name of the index. A token is no secret and grants nothing
//! that an offset does not: the checksum finds text that was cut or mistyped.

use super::error::InvalidField;

/// The field of a request.
const FIELD: &str = "page_token";
/// The longest text that is read.
const MAX_TEXT: usize = 2048;
/// The first byte of a token for any index.
const VERSION: u8 = 1;
/// The first byte of a token for one index.
const VERSION_OF_INDEX: u8 = 2;
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    /// Candidates before the page.
    pub(crate) offset: u32,
    /// The generation of each shard; 0 where any will do.
    pub(crate) generations: Vec<u64>,
    /// A hash of the name of the index; `None` for the one that the request names.
    index: Option<u32>,
}

impl PageToken {
    /// The token of a page of whichever index the request names.
    pub(crate) fn new(offset: u32, generations: Vec<u64>) -> Self {
        Self { offset, generations, index: None }
    }

    /// The token of a page of the same generations that begins elsewhere.
    #[cfg(feature = "cluster")]
    pub(crate) fn at(self, offset: u32) -> Self {
        Self { offset, ..self }
    }

    /// The same token for this index only, since its alias may stand for another one later.
    pub(crate) fn of_index(self, index: &str) -> Self {
        Self { index: Some(crc32c::crc32c(index.as_bytes())), ..self }
    }

    /// Checks that a token, if the request has one, is not of another index.
    ///
    /// # Errors
    /// If it is. Not if it is no token.
    pub(crate) fn check_index(text: &str, index: &str) -> Result<(), InvalidField> {
        let of_index =
            if text.is_empty() { None } else { Self::read(text).ok().and_then(|token| token.index) };
        if of_index.is_none_or(|hash| hash == crc32c::crc32c(index.as_bytes())) {
            return Ok(());
        }
        let problem = format!("the pages before are not of index {index:?}: begin with the first page");
        Err(InvalidField::new(FIELD, problem))
    }

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
        let (offset, rest) = rest.split_first_chunk::<4>()?;
        let (index, generations) = match *version {
            VERSION => (None, rest),
            VERSION_OF_INDEX => {
                let (index, rest) = rest.split_first_chunk::<4>()?;
                (Some(u32::from_le_bytes(*index)), rest)
            }
            _ => return None,
        };
        let (generations, rest) = generations.as_chunks::<8>();
        let is_whole = sum == checksum(content) && rest.is_empty();
        let generations = generations.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        is_whole.then(|| Self { offset: u32::from_le_bytes(*offset), generations, index })
    }

    /// The token as text.
    pub(crate) fn text(&self) -> String {
        let mut bytes = vec![if self.index.is_some() { VERSION_OF_INDEX } else { VERSION }];
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.index.into_iter().flat_map(u32::to_le_bytes));
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
            has_index: bool,
        ) {
            let token = PageToken::new(offset, generations);
            let token = if has_index { token.of_index("v41") } else { token };
            let text = token.text();
            prop_assert!(text.len() <= MAX_TEXT);
            let shards = token.generations.len();
            prop_assert_eq!(PageToken::read(&text), Ok(token.clone()));
            prop_assert_eq!(token.clone().of_shards(shards), Ok(token.clone()));
            prop_assert!(token.of_shards(shards + 1).is_err());
            prop_assert!(PageToken::check_index(&text, "v41").is_ok());
            prop_assert_eq!(PageToken::check_index(&text, "v42").is_err(), has_index);
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
