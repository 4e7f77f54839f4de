//! Several charts side by side under one legend, in one file.

use std::fmt::Write;

use super::drawing::Chart;
use super::ink::{Ink, Stroke, stroke_sample, stylesheet};
use super::text::{FONT, escape, text_width};

const PADDING: i32 = 12;
const LINE: i32 = 22;
/// Distance from the left of a sample to its name, and from the end of a name to the next sample.
const SAMPLE: i32 = 33;
const GAP: i32 = 22;

/// Returns a complete SVG file. It has its own background, to stay readable on a page in the other color mode.
pub fn panels(title: &str, charts: &[Chart], legend: &[(Stroke, &str)]) -> String {
    let inner = charts.iter().map(|chart| chart.width).sum::<i32>();
    let width = inner + PADDING * (charts.len() as i32 + 1);
    let (entries, lines) = lay_out(legend, width - 2 * PADDING);
    let top = PADDING + lines * LINE + PADDING / 2;
    let height = top + charts.iter().map(|chart| chart.height).max().unwrap_or(0) + PADDING;
    let title = escape(title);
    let mut file = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n\
         <style>\n{}</style>\n<rect class=\"{}\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n",
        stylesheet(),
        Ink::Surface.fill_class()
    );
    for ((stroke, name), (x, line)) in legend.iter().zip(entries) {
        let y = PADDING + line * LINE;
        let sample = stroke_sample(*stroke, &format!("x=\"{x}\" y=\"{y}\""));
        let (x, y, class) = (x + SAMPLE, y + 10, Ink::Text.fill_class());
        let _ = writeln!(
            file,
            "{sample}<text class=\"{class}\" x=\"{x}\" y=\"{y}\" font-size=\"{FONT}\">{}</text>",
            escape(name)
        );
    }
    let mut left = PADDING;
    for chart in charts {
        let (width, height) = (chart.width, chart.height);
        file += &chart.tag(&format!("x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\""));
        left += width + PADDING;
    }
    file + "</svg>\n"
}

/// Arranges legend entries in lines of at most `width`. Returns `(x, line)` of each entry and the number of lines.
fn lay_out(legend: &[(Stroke, &str)], width: i32) -> (Vec<(i32, i32)>, i32) {
    let (mut x, mut line) = (0, 0);
    let mut entries = Vec::new();
    for (_, name) in legend {
        let length = SAMPLE + text_width(name);
        if x > 0 && x + length > width {
            (x, line) = (0, line + 1);
        }
        entries.push((PADDING + x, line));
        x += length + GAP;
    }
    (entries, line + 1)
}
