//! Filters as text, for command lines, request files and tests.
//!
//! What flows in: text that anybody may have typed. What flows out: a [`Filter`], or where the text is wrong and
//! what was expected there; and back, any filter as text. No schema is known here: the form of a value says which
//! type of attribute is meant, and whether there is such an attribute is found out later.
//!
//! ```text
//! filter    = both { "or" both }                                     "not" binds tightest, then "and", then "or"
//! both      = one { "and" one }
//! one       = "not" one | "(" filter ")" | "at least" N "of" "(" filter { "," filter } ")" | condition
//!           | "true"                                                 every video
//! condition = attribute ( "=" | "!=" ) value
//!           | attribute [ "not" ] "in" "(" value { "," value } ")"
//!           | attribute ( "<" | "<=" | ">" | ">=" ) bound
//!           | bound ( "<" | "<=" ) attribute [ ( "<" | "<=" ) bound ]      or > and >=, downwards
//!           | attribute [ "not" ] "between" bound "and" bound              both of them included
//!           | attribute [ "not" ] "contains" string
//!           | attribute [ "not" ] "contains any" strings [ "and all" strings ]
//!           | attribute [ "not" ] "contains all" strings
//!           | attribute "is" [ "not" ] "null"
//!           | "video_id" ( "=" | "!=" ) N | "video_id" [ "not" ] "in" "(" N { "," N } ")"
//! strings   = "(" string { "," string } ")"
//! value     = string | number | time | "true" | "false"
//! bound     = number | time | a string that reads as a time
//! string    = "double" or 'single' quotes; \\ \" \' \` \n \r \t \u{1f600} and doubled quotes stand for themselves
//! number    = 12 | -12 | 1.5e-3                                      i64 or u64, or else a finite double
//! time      = 2026-11-01 | 2026-11-01T12:00:00Z                      a date is its first instant, in UTC
//!           | -7d | +90s | -1.5s                                     so long before now, or after it: s m h d w
//!           | "now"
//! attribute = views | stats.likes_7d                                 or anything in `backquotes`
//! ```
//!
//! Keywords are written in upper or lower case; an attribute that is called like one is written in backquotes.
//!
//! `a != v`, like everything with `not`, is the complement of `a = v`: it holds for videos without a value, too.
//! Who wants only those that have another one says `a != v and a is not null`.
//!
//! Read are 64 KiB, 32 parentheses in one another, and what makes 16 filters in one another.
//!
//! | file | duty |
//! |---|---|
//! | `token.rs`   | text to words, values and symbols |
//! | `literal.rs` | numbers, times and quoted text, both ways |
//! | `cursor.rs`  | a place among the tokens |
//! | `parser.rs` `condition.rs` | tokens to a tree |
//! | `tree.rs`    | the normal form, from and to [`Filter`] |
//! | `print.rs`   | a tree as text |
//! | `error.rs`   | where the text is wrong |

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

use super::filter::Filter;

pub use error::ExpressionError;
#[cfg(feature = "cli")]
pub(crate) use literal::duration;

/// Longest text that is read, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Reads an expression: `region = "US" and views >= 1000`. The grammar is at the top of `rules/expression/mod.rs`.
impl FromStr for Filter {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_BYTES {
            return Err(ExpressionError::TooLong { most: MAX_BYTES, found: text.len() });
        }
        parser::parse(text)
    }
}

/// An expression that reads as a filter that means the same, and as the same one if it came from an expression.
///
/// What says nothing, such as a keyword that is one of none, has no expression: it is shown, but does not read.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::print(f, &tree::Expression::of(self))
    }
}
