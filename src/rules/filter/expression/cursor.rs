//! The position of the parser in the tokens, and errors at that position.

use super::error::ExpressionError;
use super::token::{Placed, Token, tokens};
use crate::rules::filter::conditions::Filter;

/// Maximum nesting of parentheses: twice what a filter of maximum depth needs. Bounds the recursion of the parser.
const MAX_NESTING: usize = 2 * Filter::MAX_DEPTH;

/// All tokens of a text and the position of the next one.
pub(super) struct Cursor<'t> {
    pub(super) text: &'t str,
    /// Ends with [`Token::End`] or [`Token::Bad`].
    tokens: Vec<Placed<'t>>,
    next: usize,
    nesting: usize,
    conditions: usize,
    /// The largest nesting so far, and the offset of its parenthesis.
    deepest: (usize, usize),
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, tokens: tokens(text), next: 0, nesting: 0, conditions: 0, deepest: (0, 0) }
    }

    /// The next token.
    pub(super) fn token(&self) -> &Token<'t> {
        &self.placed(0).token
    }

    /// The token `ahead` positions after the next one. Past the end it is the last token.
    pub(super) fn placed(&self, ahead: usize) -> &Placed<'t> {
        &self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    pub(super) fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.placed(ahead).token, Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Takes the next token if it is this keyword. Returns whether it was.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(0, word);
        self.next += usize::from(is_there);
        is_there
    }

    /// Takes the next token if it is this symbol. Returns whether it was.
    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_there = matches!(self.token(), Token::Symbol(found) if *found == symbol);
        self.next += usize::from(is_there);
        is_there
    }

    pub(super) fn word(&mut self, word: &str) -> Result<(), ExpressionError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(format!("`{word}`"))) }
    }

    /// Parses `inside` between parentheses. `end` describes the tokens allowed after it, for errors.
    pub(super) fn nested<T>(
        &mut self,
        end: &str,
        inside: impl FnOnce(&mut Self) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        let at = self.placed(0).at;
        if *self.token() == Token::Symbol("(") && self.nesting == MAX_NESTING {
            return Err(self.unexpected(format!("at most {MAX_NESTING} nested parentheses")));
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

    /// Parses one or more items, separated by commas, in parentheses.
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

    /// Counts one condition, which begins at this token.
    pub(super) fn count_condition(&mut self, first: &Placed<'t>) -> Result<(), ExpressionError> {
        self.conditions += 1;
        if self.conditions > Filter::MAX_CONDITIONS {
            let expected = format!("at most {} conditions in all", Filter::MAX_CONDITIONS);
            return Err(self.unexpected_at(first, expected));
        }
        Ok(())
    }

    /// Returns an error at the next token.
    pub(super) fn unexpected(&self, expected: impl Into<String>) -> ExpressionError {
        self.unexpected_at(self.placed(0), expected)
    }

    /// Returns an error at this token.
    pub(super) fn unexpected_at(&self, placed: &Placed<'t>, expected: impl Into<String>) -> ExpressionError {
        match placed {
            Placed { token: Token::Bad(error), .. } => error.clone(),
            Placed { at, end, .. } => ExpressionError::unexpected(self.text, *at, *end, expected),
        }
    }

    /// Returns an error at the most deeply nested parenthesis so far.
    pub(super) fn too_deep(&self, expected: impl Into<String>) -> ExpressionError {
        let (_, at) = self.deepest;
        ExpressionError::unexpected(self.text, at, self.text.len(), expected)
    }
}
