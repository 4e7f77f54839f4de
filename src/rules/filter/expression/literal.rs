//! Parses and prints numbers, times and quoted text.

use std::fmt::{self, Write as _};

use jiff::SignedDuration;

use crate::base::instant::Instant;
use crate::rules::filter::conditions::{Number, Time};

const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// Units in seconds, longest first.
const UNITS: [(&str, i128); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Parses a number: an integer if it has only digits and a sign.
pub(super) fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let signed = text.parse().ok().map(Number::Int64);
        return signed.or_else(|| text.parse().ok().map(Number::Uint64));
    }
    // Rust would also parse `inf` and `nan`.
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Double)
}

/// Parses a time: a duration before or after now, an instant with its UTC offset, or a date.
pub(super) fn time(text: &str) -> Option<Time> {
    if text.eq_ignore_ascii_case("now") {
        return Some(Time::Ago(SignedDuration::ZERO));
    }
    if let Some(ago) = text.strip_prefix('-').and_then(nanoseconds) {
        return signed_duration(ago).map(Time::Ago);
    }
    if let Some(ahead) = text.strip_prefix('+').and_then(nanoseconds) {
        return signed_duration(-ahead).map(Time::Ago);
    }
    text.parse::<Instant>().ok().map(Time::At)
}

/// Parses a duration: `7d`, `12h`, `30m`, `1.5s` or `2w`.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    signed_duration(nanoseconds(text)?)
}

/// Parses a duration to nanoseconds. Only seconds may have a fraction.
fn nanoseconds(text: &str) -> Option<i128> {
    let (number, seconds) =
        UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if seconds == 1 && (1..=9).contains(&fraction.len()) => (whole, fraction),
        Some(_) => return None,
        None => (number, "0"),
    };
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(i128::from(whole.parse::<u64>().ok()?) * seconds * NANOS_PER_SECOND + fraction)
}

fn signed_duration(nanos: i128) -> Option<SignedDuration> {
    let seconds = i64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    Some(SignedDuration::new(seconds, (nanos % NANOS_PER_SECOND) as i32))
}

/// Prints a number that [`number`] parses to the same value.
pub(super) fn write_number(f: &mut fmt::Formatter<'_>, number: &Number) -> fmt::Result {
    match number {
        Number::Int64(value) => write!(f, "{value}"),
        Number::Uint64(value) => write!(f, "{value}"),
        // `Debug` always prints a point or an exponent.
        Number::Double(value) => write!(f, "{value:?}"),
    }
}

/// Prints a time that [`time`] parses to the same value.
pub(super) fn write_time(f: &mut fmt::Formatter<'_>, time: &Time) -> fmt::Result {
    let ago = match time {
        Time::At(instant) => return write!(f, "{instant}"),
        Time::Ago(ago) => ago.as_nanos(),
    };
    if ago == 0 {
        return f.write_str("now");
    }
    f.write_char(if ago > 0 { '-' } else { '+' })?;
    let (seconds, nanos) = (ago.abs() / NANOS_PER_SECOND, ago.abs() % NANOS_PER_SECOND);
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        return write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'));
    }
    // Weeks are printed as days: 28d is more familiar than 4w.
    let fits = |(_, unit): &&(&str, i128)| seconds % unit == 0;
    match UNITS[1..].iter().find(fits) {
        Some((name, unit)) => write!(f, "{}{name}", seconds / unit),
        None => write!(f, "{seconds}s"),
    }
}

/// The content of quoted text, and its length in bytes with quotes.
pub(super) struct Quoted {
    pub(super) text: String,
    pub(super) length: usize,
}

/// An error in quoted text, at the bytes `at..end`.
pub(super) struct BadQuotes {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) expected: String,
}

/// Parses the quoted text at the start of `text`, whose first character is the quote.
pub(super) fn unquote(text: &str) -> Result<Quoted, BadQuotes> {
    let mut characters = text.char_indices().peekable();
    let quote = characters.next().map_or('"', |(_, quote)| quote);
    let mut unquoted = String::new();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            // A doubled quote is an escaped quote.
            if characters.next_if(|(_, next)| *next == quote).is_none() {
                return Ok(Quoted { text: unquoted, length: at + quote.len_utf8() });
            }
            unquoted.push(quote);
        } else if character == '\\' {
            let (escaped, length) = unescape(&text[at..]).ok_or_else(|| BadQuotes {
                at,
                end: text[at..].char_indices().nth(2).map_or(text.len(), |(next, _)| at + next),
                expected: r#"an escape: \\ \" \' \` \n \r \t or \u{…}"#.to_owned(),
            })?;
            unquoted.push(escaped);
            while characters.next_if(|(next, _)| *next < at + length).is_some() {}
        } else {
            unquoted.push(character);
        }
    }
    Err(BadQuotes { at: text.len(), end: text.len(), expected: format!("the closing {quote}") })
}

/// Parses the escape at the start of `text`. Returns its character and its length in bytes.
fn unescape(text: &str) -> Option<(char, usize)> {
    let escaped = match text.as_bytes().get(1)? {
        b'\\' => '\\',
        b'"' => '"',
        b'\'' => '\'',
        b'`' => '`',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let (digits, _) = text.strip_prefix("\\u{")?.split_once('}')?;
            let is_hex = (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let code = is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
            return Some((char::from_u32(code)?, "\\u{}".len() + digits.len()));
        }
        _ => return None,
    };
    Some((escaped, 2))
}

/// Prints text that [`unquote`] parses to the same value. Control characters are escaped, so that a terminal does not
/// interpret them.
pub(super) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            _ if character == quote || character == '\\' => write!(f, "\\{character}")?,
            _ if character.is_control() => write!(f, "\\u{{{:x}}}", u32::from(character))?,
            _ => f.write_char(character)?,
        }
    }
    f.write_char(quote)
}
