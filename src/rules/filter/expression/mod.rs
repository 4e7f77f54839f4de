//! Filters as text, for command lines, request files and tests.
//!
//! What flows in: untrusted text. What flows out: a [`Filter`], or the position of the error and what was expected there;
//! in the other direction, any filter as text. Nothing here knows the schema of an index: the form of a value implies the
//! type of the attribute, and whether the index has such an attribute is checked later.
//!
//! ```text
//! filter    = both { "or" both }                                     "not" binds tightest, then "and", then "or"
//! both      = one { "and" one }
//! one       = "not" one | "(" filter ")" | "at least" N "of" "(" filter { "," filter } ")" | condition
//!           | "true"                                                 every video
//! condition = attribute ( "=" | "!=" ) value
//!           | attribute [ "not" ] "in" "(" value { "," value } ")"
//!           | attribute ( "<" | "<=" | ">" | ">=" ) bound
//!           | bound ( "<" | "<=" ) attribute [ ( "<" | "<=" ) bound ]      or > and >=, descending
//!           | attribute [ "not" ] "between" bound "and" bound              both included
//!           | attribute [ "not" ] "contains" string
//!           | attribute [ "not" ] "contains any" strings [ "and all" strings ]
//!           | attribute [ "not" ] "contains all" strings
//!           | attribute "is" [ "not" ] "null"
//!           | "video_id" ( "=" | "!=" ) id | "video_id" [ "not" ] "in" "(" id { "," id } ")"
//! id        = N | string                                             a string if the index has text ids
//! strings   = "(" string { "," string } ")"
//! value     = string | number | time | "true" | "false"
//! bound     = number | time | a string that parses as a time
//! string    = "double" or 'single' quotes; \\ \" \' \` \n \r \t \u{1f600} and a doubled quote are escapes
//! number    = 12 | -12 | 1.5e-3                                      i64 or u64, else a finite double
//! time      = 2026-11-01 | 2026-11-01T12:00:00Z                      a date is its start, in UTC
//!           | -7d | +90s | -1.5s                                     before (-) or after (+) now; units s m h d w
//!           | "now"
//! attribute = views | stats.likes_7d                                 or any name in `backquotes`
//! ```
//!
//! Keywords are case-insensitive; an attribute with the name of a keyword must be in backquotes.
//!
//! `a != v`, like everything with `not`, is the complement of `a = v`, so it also matches videos without a value. For
//! videos with a different value write `a != v and a is not null`.
//!
//! Limits: 64 KiB of text, 32 nested parentheses, 16 nested filters, 1,000 conditions, names of 1,000 bytes.
//!
//! | file | duty |
//! |---|---|
//! | `token.rs`     | splits text into words, values and symbols |
//! | `literal.rs`   | parses and prints numbers, times and quoted text |
//! | `cursor.rs`    | the position of the parser in the tokens |
//! | `condition.rs` | parses one condition |
//! | `parser.rs`    | parses how conditions are combined |
//! | `tree.rs`      | the normal form, from and to [`Filter`] |
//! | `print.rs`     | prints the normal form as text |
//! | `error.rs`     | errors with their position |

mod condition;
mod cursor;
mod error;
mod literal;
mod parser;
mod print;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod token;
mod tree;

use std::fmt;
use std::str::FromStr;

use super::conditions::Filter;

pub use error::ExpressionError;
pub(crate) use literal::duration;

/// Maximum length of a text, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Parses an expression such as `region = "US" and views >= 1000`. The grammar is at the top of
/// `rules/filter/expression/mod.rs`.
impl FromStr for Filter {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_BYTES {
            return Err(ExpressionError::TooLong { most: MAX_BYTES, found: text.len() });
        }
        parser::parse(text)
    }
}

/// Prints an expression that parses to an equivalent filter, and to an identical one if the filter came from an
/// expression.
///
/// Invalid conditions, such as a keyword without values, have no expression: they are printed, but do not parse.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::print(f, &tree::Expression::of(self))
    }
}
