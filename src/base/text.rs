//! Untrusted text: shortened for messages, and without characters that control a terminal.
//!
//! What flows in: names and values from requests, files and servers. What flows out: the same text, cut to a maximum
//! length or with control characters replaced by spaces.

use std::fmt::{self, Display, Write};

/// Replaces the cut rest of a text.
const ELLIPSIS: char = '…';

/// Returns `text`, cut at a character boundary to at most `max_bytes` bytes including an ellipsis. Formatting stops at
/// that length, so an endless `text` is allowed.
pub fn shortened(text: impl Display, max_bytes: usize) -> String {
    let mut written = Bounded { text: String::new(), max_bytes };
    if write!(written, "{text}").is_ok() {
        return written.text;
    }
    let mut text = written.text;
    text.truncate(last_boundary(&text, max_bytes.saturating_sub(ELLIPSIS.len_utf8())));
    text.push(ELLIPSIS);
    text
}

/// The last character boundary within the first `bytes` bytes of `text`.
fn last_boundary(text: &str, bytes: usize) -> usize {
    (0..=bytes.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// A writer that keeps at most `max_bytes` bytes, and fails once a text does not fit.
struct Bounded {
    text: String,
    max_bytes: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.max_bytes - self.text.len();
        self.text.push_str(&text[..last_boundary(text, room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Returns the character, or a space for one that a terminal interprets: control characters, line and paragraph
/// separators, and bidirectional overrides.
pub fn visible(character: char) -> char {
    let ends_line = matches!(character, '\u{2028}' | '\u{2029}');
    let overrides_direction = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if character.is_control() || ends_line || overrides_direction { ' ' } else { character }
}

/// Replaces every character of `text` by its [`visible`] one.
pub fn visible_text(text: &str) -> String {
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_stays_as_it_is() {
        assert_eq!(shortened("", 10), "");
        assert_eq!(shortened("0123456789", 10), "0123456789");
        assert_eq!(shortened(format_args!("{}-{}", "a", 7), 10), "a-7");
    }

    #[test]
    fn a_longer_text_is_cut_between_characters_and_no_longer_than_allowed() {
        assert_eq!(shortened("0123456789a", 10), "0123456…");
        assert_eq!(shortened(format_args!("{}{}", "01234567", "89a"), 10), "0123456…");
        assert_eq!(shortened("ééééé", 9), "ééé…");
        assert_eq!(shortened("a𝄞𝄞𝄞", 8), "a𝄞…");
        for max_bytes in 3..40 {
            let cut = shortened("é".repeat(30), max_bytes);
            assert!(cut.len() <= max_bytes && cut.ends_with('…'), "{cut} for {max_bytes}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("word ")?;
                }
            }
        }
        assert_eq!(shortened(Endless, 12), "word word…");
    }

    #[test]
    fn what_a_terminal_obeys_is_a_space() {
        assert_eq!(visible_text("a\u{1b}[31mb\r\n\tc\u{7}d\u{9b}e"), "a [31mb   c d e");
        assert_eq!(visible_text("\u{202e}gnp.exe\u{2066}\u{2069}\u{2028}\u{2029}"), " gnp.exe    ");
    }

    #[test]
    fn every_script_is_shown_as_it_is() {
        let text = "cats | קטים \u{200f}القطط 猫 e\u{301} 👩\u{200d}💻";
        assert_eq!(visible_text(text), text);
    }
}
