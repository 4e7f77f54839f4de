//! Units, escaping and the width of text.

/// Pixels per unit of size. plotters draws at whole pixels, so charts are drawn larger and scaled down.
pub(super) const UNIT: i32 = 4;
/// Font size in units: legible on a chart as wide as a phone.
pub(super) const FONT: i32 = 14;

/// Escapes text for HTML and SVG, including attribute values.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Estimated width of a text in units. No font metrics are available: an average character is taken as 0.56 of the font
/// size.
pub(super) fn text_width(text: &str) -> i32 {
    (text.chars().count() as f64 * f64::from(FONT) * 0.56).ceil() as i32
}

/// Truncates a text to `width` units.
pub(super) fn fit(text: &str, width: i32) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let fitting = (f64::from(width) / (f64::from(FONT) * 0.56)) as usize;
    text.chars().take(fitting.saturating_sub(1)).chain(['…']).collect()
}
