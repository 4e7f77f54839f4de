//! Lines with markers over two axes.

use std::io;

use plotters::prelude::{
    ChartBuilder, DrawingAreaErrorKind, EmptyElement, IntoDrawingArea, LabelAreaPosition, LineSeries,
    PathElement, Polygon, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::axis::Axis;
use super::drawing::{Chart, text};
use super::ink::{Ink, Stroke};
use super::text::{FONT, UNIT, text_width};

/// In units.
const SIZE: (i32, i32) = (420, 320);
/// Space left of the plot for the labels of the y axis, and above, below and right of it.
const LEFT: i32 = 56;
const TOP: i32 = 28;
const BOTTOM: i32 = 46;
const RIGHT: i32 = 12;
const MARKER: f64 = 3.6;

/// The points of one engine.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The line style.
    pub stroke: Stroke,
    /// Points `(x, y)`, connected in this order.
    pub points: Vec<(f64, f64)>,
}

/// Draws the curves, the first on top.
pub fn curves(title: &str, x: &Axis, y: &Axis, curves: &[Curve]) -> Chart {
    let mut drawing = String::new();
    draw(&mut drawing, x, y, curves).expect("a drawing in memory does not fail");
    Chart::from_drawing(title, SIZE, &drawing)
}

fn draw(
    drawing: &mut String,
    x: &Axis,
    y: &Axis,
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<io::Error>> {
    let size = ((SIZE.0 * UNIT) as u32, (SIZE.1 * UNIT) as u32);
    let root = SVGBackend::with_string(drawing, size).into_drawing_area();
    let plot = (SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BOTTOM);
    let side_by_side = |one: &str, other: &str| (text_width(one) + text_width(other) + FONT) / 2;
    let (x, y) = (x.fitted(plot.0, side_by_side), y.fitted(plot.1, |_, _| FONT * 3 / 2));
    let labels = (x.label().to_owned(), y.label().to_owned());
    let mut chart = ChartBuilder::on(&root)
        .margin_top(TOP * UNIT)
        .margin_right(RIGHT * UNIT)
        .set_label_area_size(LabelAreaPosition::Left, LEFT * UNIT)
        .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM * UNIT)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .bold_line_style(line(Ink::Grid, UNIT as u32))
        .axis_style(line(Ink::Grid, UNIT as u32))
        .label_style(text(Ink::Muted))
        .set_all_tick_mark_size(4 * UNIT)
        .draw()?;
    for curve in curves.iter().rev() {
        let ink = curve.stroke.ink();
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), line(ink, curve.stroke.width())))?;
        let radius = MARKER * f64::from(UNIT);
        let corners: Vec<(i32, i32)> = curve
            .stroke
            .marker()
            .iter()
            .map(|(left, down)| ((left * radius).round() as i32, (down * radius).round() as i32))
            .collect();
        let outline: Vec<(i32, i32)> = corners.iter().chain(&corners[..1]).copied().collect();
        let inside = if curve.stroke.is_peer { Ink::Surface } else { ink };
        chart.draw_series(curve.points.iter().map(|point| {
            EmptyElement::at(*point)
                + Polygon::new(corners.clone(), inside.code().filled())
                + PathElement::new(outline.clone(), line(ink, 5))
        }))?;
    }
    let middle = LEFT + plot.0 / 2;
    let below = Pos::new(HPos::Center, VPos::Bottom);
    root.draw_text(&labels.0, &text(Ink::Text).pos(below), (middle * UNIT, (SIZE.1 - 3) * UNIT))?;
    let above = Pos::new(HPos::Left, VPos::Top);
    root.draw_text(&labels.1, &text(Ink::Text).pos(above), (4 * UNIT, 3 * UNIT))?;
    root.present()
}

fn line(ink: Ink, width: u32) -> ShapeStyle {
    ink.code().stroke_width(width)
}
