//! Errors in a filter expression, with their position.

use unicode_width::UnicodeWidthStr;

use crate::base::text::visible;

/// Why a text is no filter expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// The text is too long.
    #[error("expected a filter of at most {most} bytes, found {found}")]
    TooLong {
        /// Maximum length in bytes.
        most: usize,
        /// Length of the text in bytes.
        found: usize,
    },
    /// Unexpected text.
    #[error("line {line}, column {column}: expected {expected}, found {found}\n{excerpt}")]
    Unexpected {
        /// Counts from 1.
        line: usize,
        /// In characters; counts from 1.
        column: usize,
        /// What the grammar allows here.
        expected: String,
        /// The text found.
        found: String,
        /// The line, shortened to fit a terminal, and a caret under the column.
        excerpt: String,
    },
}

impl ExpressionError {
    /// Returns an error at the bytes `at..end` of `text`, both on character boundaries.
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

/// Maximum number of characters of the text found that an error shows.
const MAX_SHOWN_CHARS: usize = 40;

fn shown(found: &str) -> String {
    if found.is_empty() {
        return "the end".to_owned();
    }
    let more = if found.chars().nth(MAX_SHOWN_CHARS).is_some() { "…" } else { "" };
    format!("`{}{more}`", found.chars().take(MAX_SHOWN_CHARS).map(visible).collect::<String>())
}

/// The surroundings of a column, counted from 0, shorter than a terminal line.
fn excerpt(line: &str, column: usize) -> String {
    const BEFORE: usize = 40;
    const AFTER: usize = 30;

    let skipped = column.saturating_sub(BEFORE);
    let cut_before = if skipped > 0 { "…" } else { "" };
    let mut rest = line.chars().skip(skipped);
    let part: String = rest.by_ref().take(column - skipped + AFTER).map(visible).collect();
    let cut_after = if rest.next().is_some() { "…" } else { "" };
    let before: String = part.chars().take(column - skipped).collect();
    // In terminal columns: a character takes none, one or two.
    let indent = " ".repeat(cut_before.width() + before.width());
    format!("  {cut_before}{part}{cut_after}\n  {indent}^")
}
