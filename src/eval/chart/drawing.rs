//! A finished chart, and the text style of all charts.

use plotters::style::{IntoTextStyle, TextStyle};

use super::ink::{Ink, to_classes};
use super::text::{FONT, UNIT, escape};

/// An SVG drawing without its outermost tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    /// Size in units.
    pub(super) width: i32,
    pub(super) height: i32,
    body: String,
}

impl Chart {
    /// Wraps an SVG drawing of plotters of `width × height` units.
    pub(super) fn from_drawing(title: &str, (width, height): (i32, i32), drawing: &str) -> Self {
        let start = drawing.find('>').map_or(0, |end| end + 1);
        let end = drawing.rfind("</svg>").unwrap_or(drawing.len());
        let body = to_classes(drawing[start..end].trim());
        Self { title: title.to_owned(), width, height, body }
    }

    /// The SVG element for a page, as wide as its container. `class` says in which container it is shown.
    pub fn inline(&self, class: &str) -> String {
        self.tag(&format!("class=\"chart {class}\""))
    }

    /// Appends SVG elements, in the pixels of plotters.
    pub(super) fn append(&mut self, elements: &str) {
        self.body += elements;
    }

    pub(super) fn tag(&self, attributes: &str) -> String {
        let title = escape(&self.title);
        let (width, height) = (self.width * UNIT, self.height * UNIT);
        format!(
            "<svg {attributes} viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n{}\n</svg>\n",
            self.body
        )
    }
}

/// The style of text. plotters divides the font size by 1.24 on output, which this undoes.
pub(super) fn text(ink: Ink) -> TextStyle<'static> {
    let size = f64::from(FONT * UNIT) * 1.24;
    ("sans-serif", size).with_color(ink.code()).into_text_style(&(0, 0))
}
