//! Ids of videos on the command line: numbers or text.

use shortlist_client::Id;

use crate::base::text::visible_text;

/// Parses an id: a number below 2^64, or text. `is_text`: also of numbers.
pub fn id(argument: &str, is_text: bool) -> Id {
    match argument.parse() {
        Ok(number) if !is_text && argument.bytes().all(|byte| byte.is_ascii_digit()) => Id::Number(number),
        _ => Id::Text(argument.to_owned()),
    }
}

/// Parses ids. The server refuses both kinds in one request.
pub fn split(arguments: &[String], is_text: bool) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    for argument in arguments {
        match id(argument, is_text) {
            Id::Number(number) => numbers.push(number),
            Id::Text(text) => texts.push(text),
        }
    }
    (numbers, texts)
}

/// The id of a video as it is shown: its text, if it has one.
pub fn shown(video_id: u64, text_id: &str) -> String {
    if text_id.is_empty() { video_id.to_string() } else { visible_text(text_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_below_2_to_the_64_is_text() {
        for (argument, number) in [("0", 0), ("18446744073709551615", u64::MAX), ("007", 7)] {
            assert_eq!(id(argument, false), Id::Number(number));
            assert_eq!(id(argument, true), Id::Text(argument.to_owned()));
        }
        for text in ["18446744073709551616", "+7", "-7", "dQw4w9WgXcQ", "7 ", ""] {
            assert_eq!(id(text, false), Id::Text(text.to_owned()));
        }
    }
}
