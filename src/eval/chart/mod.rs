//! Charts as SVG text, to stand in a page or as a picture of their own.
//!
//! What flows in: points, bars and their names. What flows out: SVG whose colors are classes of
//! [`stylesheet`], so that it follows the reader's light or dark mode. Nothing here knows what was measured.
//!
//! | file | duty |
//! |---|---|
//! | `ink.rs`    | colors for light and dark, as classes; markers |
//! | `axis.rs`   | from values to places, and which ticks have room |
//! | `curves.rs` | lines with markers over two axes |
//! | `bars.rs`   | stacked bars under their names |
//! | `panels.rs` | several charts and a legend in one file |

mod axis;
mod bars;
mod curves;
mod ink;
mod panels;

use plotters::style::{IntoTextStyle, TextStyle};

use ink::Ink;

pub use axis::Axis;
pub use bars::{Bar, bars};
pub use curves::{Curve, curves};
pub use ink::{Stroke, part_key, stroke_key, stylesheet};
pub use panels::panels;

/// plotters draws at whole pixels; so many of them make one unit of the size asked for.
const UNIT: i32 = 4;
/// In units: legible where a chart has the width of a phone.
const FONT: i32 = 14;

/// A drawing without its outermost tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    /// In units.
    width: i32,
    height: i32,
    body: String,
}

impl Chart {
    /// Wraps what plotters drew on `width × height` units.
    fn from_drawing(title: &str, (width, height): (i32, i32), drawing: &str) -> Self {
        let start = drawing.find('>').map_or(0, |end| end + 1);
        let end = drawing.rfind("</svg>").unwrap_or(drawing.len());
        let body = ink::to_classes(drawing[start..end].trim());
        Self { title: title.to_owned(), width, height, body }
    }

    /// For a page: as wide as there is room.
    pub fn inline(&self) -> String {
        self.tag("class=\"chart\"")
    }

    fn tag(&self, attributes: &str) -> String {
        let title = escape(&self.title);
        let (width, height) = (self.width * UNIT, self.height * UNIT);
        format!(
            "<svg {attributes} viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n{}\n</svg>\n",
            self.body
        )
    }
}

/// Text as HTML and SVG hold it, in attributes too.
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

/// plotters divides the size by 1.24 when it writes it.
fn text(ink: Ink) -> TextStyle<'static> {
    let size = f64::from(FONT * UNIT) * 1.24;
    ("sans-serif", size).with_color(ink.code()).into_text_style(&(0, 0))
}

/// In units. No font is at hand: an average character is taken to be 0.56 of the font's size wide.
fn text_width(text: &str) -> i32 {
    (text.chars().count() as f64 * f64::from(FONT) * 0.56).ceil() as i32
}

/// As much of a text as has room in `width` units.
fn fit(text: &str, width: i32) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let room = (f64::from(width) / (f64::from(FONT) * 0.56)) as usize;
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}
