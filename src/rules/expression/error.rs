//! Where a filter expression is wrong.

use unicode_width::UnicodeWidthStr;

use crate::base::text::visible;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// More text than is read.
    #[error("expected a filter of at most {most} bytes, found {found}")]
    TooLong {
        /// Bytes that are read.
        most: usize,
        /// Bytes of the text.
        found: usize,
    },
    /// Something else belongs here.
    #[error("line {line}, column {column}: expected {expected}, found {found}\n{excerpt}")]
    Unexpected {
        /// Counts from 1.
        line: usize,
        /// In characters; counts from 1.
        column: usize,
        /// What could stand here.
        expected: String,
        /// What stands here.
        found: String,
        /// The line, as much of it as fits, and a caret under the place.
        excerpt: String,
    },
}

impl ExpressionError {
    /// About the bytes `at..end` of `text`, which lie between characters.
    pub(super) fn unexpected(text: &str, at: usize, end: usize, expected: impl Into<String>) -> Self {
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..at].chars().count();
        Self::Unexpected {
            line: text[..line_start].matches('\n').count() + 1,
            column: column + 1,
            expected: expected.into(),
            found: shown(&text[at..end]),
            excerpt: excerpt(line, column),
        }
    }
}

/// At most so many characters of what was found.
const SHOWN: usize = 40;

fn shown(found: &str) -> String {
    if found.is_empty() {
        return "the end".to_owned();
    }
    let more = if found.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("`{}{more}`", found.chars().take(SHOWN).map(visible).collect::<String>())
}

/// What surrounds a column, which counts from 0, in less than the width of a terminal.
fn excerpt(line: &str, column: usize) -> String {
    const BEFORE: usize = 40;
    const AFTER: usize = 30;

    let skipped = column.saturating_sub(BEFORE);
    let cut_before = if skipped > 0 { "…" } else { "" };
    let mut rest = line.chars().skip(skipped);
    let part: String = rest.by_ref().take(column - skipped + AFTER).map(visible).collect();
    let cut_after = if rest.next().is_some() { "…" } else { "" };
    let before: String = part.chars().take(column - skipped).collect();
    // In columns of the terminal, of which a character may take two or none.
    let indent = " ".repeat(cut_before.width() + before.width());
    format!("  {cut_before}{part}{cut_after}\n  {indent}^")
}
