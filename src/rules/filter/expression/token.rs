//! Splits text into words, values and symbols.

use super::error::ExpressionError;
use super::literal::{Quoted, unquote};

/// A token of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    /// A keyword or the bare name of an attribute.
    Word(&'t str),
    /// An attribute name that was in backquotes.
    Name(String),
    /// The content of a quoted string.
    Text(String),
    /// A number or a time, unparsed.
    Literal(&'t str),
    /// One of `( ) , = != < <= > >=`.
    Symbol(&'static str),
    /// Text that is no token.
    Bad(ExpressionError),
    /// The end of the text.
    End,
}

/// A token and its position in the text.
#[derive(Clone, Debug)]
pub(super) struct Placed<'t> {
    pub(super) token: Token<'t>,
    /// Offset of the first byte.
    pub(super) at: usize,
    /// Offset after the last byte.
    pub(super) end: usize,
}

/// Words that cannot be bare attribute names, since the grammar uses them in the same places.
const RESERVED: [&str; 13] =
    ["and", "at", "between", "contains", "false", "in", "is", "not", "now", "null", "or", "true", "video_id"];
/// Longer symbols first.
const SYMBOLS: [&str; 9] = ["!=", "<=", ">=", "(", ")", ",", "=", "<", ">"];

/// Returns every token of `text`. The last one is [`Token::End`] or [`Token::Bad`].
pub(super) fn tokens(text: &str) -> Vec<Placed<'_>> {
    let mut tokens = Vec::new();
    loop {
        let at = tokens.last().map_or(0, |last: &Placed<'_>| last.end);
        let at = text.len() - text[at..].trim_start().len();
        let placed = token(text, at);
        let is_last = matches!(placed.token, Token::End | Token::Bad(_));
        tokens.push(placed);
        if is_last {
            return tokens;
        }
    }
}

/// Whether a name is a reserved word, in any case.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// Whether a name has only characters of bare names. It may still be reserved.
pub(super) fn is_bare(name: &str) -> bool {
    name.starts_with(starts_word) && name.chars().all(continues_word)
}

fn token(text: &str, at: usize) -> Placed<'_> {
    let rest = &text[at..];
    let until = |belongs: fn(char) -> bool| rest.find(|next| !belongs(next)).unwrap_or(rest.len());
    let (token, length) = match rest.chars().next() {
        None => (Token::End, 0),
        Some(quote @ ('"' | '\'' | '`')) => match unquote(rest) {
            Ok(Quoted { text, length }) if quote == '`' => (Token::Name(text), length),
            Ok(Quoted { text, length }) => (Token::Text(text), length),
            Err(wrong) => {
                let (from, to) = (at + wrong.at, at + wrong.end);
                (Token::Bad(ExpressionError::unexpected(text, from, to, wrong.expected)), 0)
            }
        },
        Some(first) if starts_word(first) => {
            let length = until(continues_word);
            (Token::Word(&rest[..length]), length)
        }
        Some('0'..='9' | '-' | '+') => {
            let length = until(continues_literal);
            (Token::Literal(&rest[..length]), length)
        }
        // Of other languages.
        Some('=') if rest.starts_with("==") => {
            (Token::Bad(ExpressionError::unexpected(text, at, at + 2, "`=`, which compares two values")), 0)
        }
        Some(first) => match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            Some(symbol) => (Token::Symbol(symbol), symbol.len()),
            None => {
                let end = at + first.len_utf8();
                let expected = if first.is_alphanumeric() {
                    "names of A-Z a-z 0-9 _ and . alone, and others in `backquotes`"
                } else {
                    "a word, a value, a parenthesis, a comma or a comparison"
                };
                (Token::Bad(ExpressionError::unexpected(text, at, end, expected)), 0)
            }
        },
    };
    Placed { token, at, end: at + length }
}

fn starts_word(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

fn continues_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.')
}

/// Wide enough that `7days` is one token, which an error then shows whole.
fn continues_literal(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | ':' | '+' | '-')
}
