//! Stacked bars, each under its name and its total.

use std::io;

use plotters::prelude::{DrawingAreaErrorKind, IntoDrawingArea, Rectangle, SVGBackend};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ink::Ink;
use super::{Chart, FONT, UNIT, fit, text, text_width};

/// In units.
const WIDTH: i32 = 420;
const ROW: i32 = 42;
const BAR: i32 = 15;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length, in words.
    pub total: String,
    /// The parts from the left on, each with the number of its color; `None` is a whole without parts.
    pub parts: Vec<(Option<usize>, f64)>,
}

/// Draws the bars one under the other, the longest over the whole width.
///
/// # Panics
/// Never: text takes everything that is drawn.
pub fn bars(title: &str, bars: &[Bar]) -> Chart {
    let size = (WIDTH, ROW * bars.len() as i32);
    let mut drawing = String::new();
    draw(&mut drawing, size, bars).expect("a drawing in memory does not fail");
    Chart::from_drawing(title, size, &drawing)
}

fn draw(drawing: &mut String, size: (i32, i32), bars: &[Bar]) -> Result<(), DrawingAreaErrorKind<io::Error>> {
    let size = ((size.0 * UNIT) as u32, (size.1 * UNIT) as u32);
    let root = SVGBackend::with_string(drawing, size).into_drawing_area();
    let length = |bar: &Bar| bar.parts.iter().map(|(_, length)| length).sum::<f64>();
    let longest = bars.iter().map(length).fold(0.0, f64::max);
    let scale = if longest > 0.0 { f64::from(WIDTH * UNIT) / longest } else { 0.0 };
    for (row, bar) in bars.iter().enumerate() {
        let top = row as i32 * ROW * UNIT;
        let room = WIDTH - text_width(&bar.total) - FONT;
        let left = text(Ink::Text).pos(Pos::new(HPos::Left, VPos::Top));
        root.draw_text(&fit(&bar.name, room), &left, (0, top + 2 * UNIT))?;
        let right = text(Ink::Muted).pos(Pos::new(HPos::Right, VPos::Top));
        root.draw_text(&bar.total, &right, (WIDTH * UNIT, top + 2 * UNIT))?;
        let (upper, lower) = (top + 20 * UNIT, top + (20 + BAR) * UNIT);
        let mut start = 0.0;
        for (part, length) in &bar.parts {
            let end = start + length * scale;
            // A pixel of the background keeps parts of like lightness apart.
            let (from, to) = (start.round() as i32, end.round() as i32 - UNIT / 2);
            let ink = Ink::of_part(*part);
            if to > from {
                root.draw(&Rectangle::new([(from, upper), (to, lower)], ink.code().filled()))?;
            }
            start = end;
        }
    }
    root.present()
}
