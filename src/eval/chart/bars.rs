//! Stacked bars, each below its name and total, and above the names of its parts.

use std::io;

use plotters::prelude::{DrawingAreaErrorKind, IntoDrawingArea, Rectangle, SVGBackend};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::drawing::{Chart, text};
use super::ink::Ink;
use super::text::{FONT, UNIT, fit, text_width};

/// In units.
const ROW: i32 = 62;
const BAR: i32 = 15;
/// The least distance between the names of two parts.
const GAP: i32 = 6;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Name of the bar.
    pub name: String,
    /// Formatted length.
    pub total: String,
    /// The parts from left to right.
    pub parts: Vec<Part>,
}

/// A part of a bar.
#[derive(Clone, Debug)]
pub struct Part {
    /// The number of its color; `None` is a bar without parts.
    pub color: Option<usize>,
    /// Its name, which is written below it if it is wide enough.
    pub name: String,
    /// Its length.
    pub length: f64,
}

/// Draws the bars in rows; the longest spans the whole `width`, in units.
pub fn bars(title: &str, width: i32, bars: &[Bar]) -> Chart {
    let size = (width, ROW * bars.len() as i32);
    let mut drawing = String::new();
    draw(&mut drawing, size, bars).expect("a drawing in memory does not fail");
    Chart::from_drawing(title, size, &drawing)
}

fn draw(drawing: &mut String, size: (i32, i32), bars: &[Bar]) -> Result<(), DrawingAreaErrorKind<io::Error>> {
    let all = size.0;
    let size = ((size.0 * UNIT) as u32, (size.1 * UNIT) as u32);
    let root = SVGBackend::with_string(drawing, size).into_drawing_area();
    let length = |bar: &Bar| bar.parts.iter().map(|part| part.length).sum::<f64>();
    let longest = bars.iter().map(length).fold(0.0, f64::max);
    let scale = if longest > 0.0 { f64::from(all * UNIT) / longest } else { 0.0 };
    for (row, bar) in bars.iter().enumerate() {
        let top = row as i32 * ROW * UNIT;
        let width = all - text_width(&bar.total) - FONT;
        let left = text(Ink::Text).pos(Pos::new(HPos::Left, VPos::Top));
        root.draw_text(&fit(&bar.name, width), &left, (0, top + 2 * UNIT))?;
        let right = text(Ink::Muted).pos(Pos::new(HPos::Right, VPos::Top));
        root.draw_text(&bar.total, &right, (all * UNIT, top + 2 * UNIT))?;
        let (upper, lower) = (top + 20 * UNIT, top + (20 + BAR) * UNIT);
        let mut start = 0.0;
        for Part { color, name, length } in &bar.parts {
            let end = start + length * scale;
            // A gap of half a unit separates parts of similar lightness.
            let (from, to) = (start.round() as i32, end.round() as i32 - UNIT / 2);
            let ink = Ink::of_part(*color);
            if to > from {
                root.draw(&Rectangle::new([(from, upper), (to, lower)], ink.code().filled()))?;
            }
            if color.is_some() && text_width(name) + GAP <= (to - from) / UNIT {
                let below = text(Ink::Muted).pos(Pos::new(HPos::Left, VPos::Top));
                root.draw_text(name, &below, (from, lower + 3 * UNIT))?;
            }
            start = end;
        }
    }
    root.present()
}
