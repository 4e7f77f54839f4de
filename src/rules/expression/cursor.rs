//! A place among the tokens of a text, and what is wrong there.

use super::ExpressionError;
use super::token::{Placed, Token, tokens};
use crate::rules::filter::Filter;

/// Most parentheses in one another: as many as a filter of the largest depth needs, twice. The stack bears it.
const MAX_NESTING: usize = 2 * Filter::MAX_DEPTH;

/// The next of all the tokens.
pub(super) struct Cursor<'t> {
    pub(super) text: &'t str,
    /// Ends with [`Token::End`] or [`Token::Bad`].
    tokens: Vec<Placed<'t>>,
    next: usize,
    nesting: usize,
    /// The largest nesting so far, and the offset of its parenthesis.
    deepest: (usize, usize),
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, tokens: tokens(text), next: 0, nesting: 0, deepest: (0, 0) }
    }

    /// The next token.
    pub(super) fn token(&self) -> &Token<'t> {
        &self.placed(0).token
    }

    /// The token so many after the next one. The last one comes again and again.
    pub(super) fn placed(&self, ahead: usize) -> &Placed<'t> {
        &self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    pub(super) fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.placed(ahead).token, Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Whether the next token was this keyword.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(0, word);
        self.next += usize::from(is_there);
        is_there
    }

    /// Whether the next token was this symbol.
    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_there = matches!(self.token(), Token::Symbol(found) if *found == symbol);
        self.next += usize::from(is_there);
        is_there
    }

    pub(super) fn word(&mut self, word: &str) -> Result<(), ExpressionError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(format!("`{word}`"))) }
    }

    /// What is between parentheses. `end`: what can stand after it.
    pub(super) fn nested<T>(
        &mut self,
        end: &str,
        inside: impl FnOnce(&mut Self) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        let at = self.placed(0).at;
        if *self.token() == Token::Symbol("(") && self.nesting == MAX_NESTING {
            return Err(self.unexpected(format!("at most {MAX_NESTING} parentheses in one another")));
        }
        if !self.take_symbol("(") {
            return Err(self.unexpected("`(`"));
        }
        self.nesting += 1;
        self.deepest = self.deepest.max((self.nesting, at));
        let inside = inside(self)?;
        self.nesting -= 1;
        if self.take_symbol(")") { Ok(inside) } else { Err(self.unexpected(end)) }
    }

    /// One or more of these with commas between them, in parentheses.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ExpressionError>,
    ) -> Result<Vec<T>, ExpressionError> {
        self.nested("`,` or `)`", |cursor| {
            let mut items = vec![item(cursor)?];
            while cursor.take_symbol(",") {
                items.push(item(cursor)?);
            }
            Ok(items)
        })
    }

    /// An error about the next token.
    pub(super) fn unexpected(&self, expected: impl Into<String>) -> ExpressionError {
        self.unexpected_at(self.placed(0), expected)
    }

    /// An error about this token.
    pub(super) fn unexpected_at(&self, placed: &Placed<'t>, expected: impl Into<String>) -> ExpressionError {
        match placed {
            Placed { token: Token::Bad(error), .. } => error.clone(),
            Placed { at, end, .. } => ExpressionError::unexpected(self.text, *at, *end, expected),
        }
    }

    /// An error about the innermost parenthesis so far.
    pub(super) fn too_deep(&self, expected: impl Into<String>) -> ExpressionError {
        let (_, at) = self.deepest;
        ExpressionError::unexpected(self.text, at, self.text.len(), expected)
    }
}
