//! What a terminal can show: columns, and characters beyond ASCII.

use std::sync::OnceLock;

use comfy_table::Table;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Stands for the end of a text that was cut.
const CUT: char = '…';
/// Narrower texts are not readable, whatever `COLUMNS` says.
const LEAST_COLUMNS: usize = 40;

/// Returns the columns of a line on standard output: those of `COLUMNS`, or of the terminal. `None` for files and pipes, whose
/// lines may have any length.
pub(super) fn columns() -> Option<usize> {
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let columns = named.or_else(|| Table::new().width().map(usize::from))?;
    Some(columns.max(LEAST_COLUMNS))
}

/// Returns whether the locale has characters beyond ASCII. A process without a locale is assumed to have them.
pub(super) fn has_unicode() -> bool {
    static HAS_UNICODE: OnceLock<bool> = OnceLock::new();
    *HAS_UNICODE.get_or_init(|| {
        let variables =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
        is_unicode(variables)
    })
}

/// The first of the variables that is not empty names the locale.
fn is_unicode(mut variables: impl Iterator<Item = String>) -> bool {
    let locale = variables.find(|value| !value.is_empty()).map(|value| value.to_lowercase());
    locale.is_none_or(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}

/// Replaces the symbols of this program by ASCII of the same width. Names and values of users stay as they are.
pub(super) fn ascii(text: &str) -> String {
    let replaced = |character| match character {
        '·' => '-',
        '×' => 'x',
        'µ' => 'u',
        CUT => '~',
        other => other,
    };
    text.chars().map(replaced).collect()
}

/// Cuts a text to at most `columns`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |character: &char| {
        used += character.width().unwrap_or_default();
        used < columns
    };
    text.chars().take_while(fits).chain([CUT]).collect()
}

/// Breaks a text between words into lines of at most `columns`, as far as its words are no longer.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split(' ') {
        let width = word.width();
        match lines.last_mut() {
            Some(line) if used + 1 + width <= columns => {
                line.push(' ');
                line.push_str(word);
                used += 1 + width;
            }
            _ => {
                lines.push(word.to_owned());
                used = width;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_whether_there_is_more_than_ascii() {
        let is_unicode = |values: &[&str]| is_unicode(values.iter().map(ToString::to_string));
        for values in [&[][..], &["", ""], &["C.UTF-8"], &["", "en_US.utf8"], &["de_DE.UTF-8", "C"]] {
            assert!(is_unicode(values), "{values:?}");
        }
        for values in [&["C"][..], &["POSIX", "C.UTF-8"], &["", "", "de_DE.ISO-8859-1"]] {
            assert!(!is_unicode(values), "{values:?}");
        }
        assert_eq!(ascii("2 × 3 · 4.1µs · Pokémon…"), "2 x 3 - 4.1us - Pokémon~");
    }

    #[test]
    fn a_text_is_cut_to_columns() {
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "abc…");
        assert_eq!(cut("日本日", 6), "日本日");
        assert_eq!(cut("日本日", 5), "日本…");
        assert_eq!(cut("日本日", 4), "日…");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("", 10), [""]);
        assert_eq!(wrapped("one two three", 13), ["one two three"]);
        assert_eq!(wrapped("one two three", 12), ["one two", "three"]);
        assert_eq!(wrapped("a incomprehensible b", 5), ["a", "incomprehensible", "b"]);
        assert_eq!(wrapped("日本 日本", 5), ["日本", "日本"]);
        assert_eq!(wrapped("  indented", 12), ["  indented"]);
    }
}
