//! Lines with markers over two axes, and a tip for each marker.

use std::fmt::Write;
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
use super::text::{FONT, UNIT, escape, text_width};

/// Space left of the plot for the labels of the y axis, and above, below and right of it.
const LEFT: i32 = 56;
const TOP: i32 = 28;
const BOTTOM: i32 = 46;
const RIGHT: i32 = 12;
const MARKER: f64 = 3.6;
/// Around a point: the radius that a pointer hits, and the distance to its tip.
const REACH: i32 = 9;
/// Space inside of a tip, and the distance between its lines.
const TIP_PADDING: i32 = 6;
const TIP_LINE: i32 = 18;

/// The points of one engine.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The line style.
    pub stroke: Stroke,
    /// Points, connected in this order.
    pub points: Vec<Point>,
}

/// A measured point.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its values on both axes.
    pub at: (f64, f64),
    /// What is shown at a point that is hovered or has the focus, line by line; nothing if it is empty.
    pub tip: Vec<String>,
}

/// Draws the curves, the first on top. `size` is in units; text has a fixed number of them.
pub fn curves(title: &str, size: (i32, i32), x: &Axis, y: &Axis, curves: &[Curve]) -> Chart {
    let mut drawing = String::new();
    let mut tips = String::new();
    draw(&mut drawing, &mut tips, size, x, y, curves).expect("a drawing in memory does not fail");
    let mut chart = Chart::from_drawing(title, size, &drawing);
    chart.append(&tips);
    chart
}

fn draw(
    drawing: &mut String,
    tips: &mut String,
    of: (i32, i32),
    x: &Axis,
    y: &Axis,
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<io::Error>> {
    let size = ((of.0 * UNIT) as u32, (of.1 * UNIT) as u32);
    let root = SVGBackend::with_string(drawing, size).into_drawing_area();
    let plot = (of.0 - LEFT - RIGHT, of.1 - TOP - BOTTOM);
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
        chart.draw_series(LineSeries::new(
            curve.points.iter().map(|point| point.at),
            line(ink, curve.stroke.width()),
        ))?;
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
            EmptyElement::at(point.at)
                + Polygon::new(corners.clone(), inside.code().filled())
                + PathElement::new(outline.clone(), line(ink, 5))
        }))?;
    }
    for point in curves.iter().flat_map(|curve| &curve.points).filter(|point| !point.tip.is_empty()) {
        *tips += &tip(chart.backend_coord(&point.at), of, &point.tip);
    }
    let middle = LEFT + plot.0 / 2;
    let below = Pos::new(HPos::Center, VPos::Bottom);
    root.draw_text(&labels.0, &text(Ink::Text).pos(below), (middle * UNIT, (of.1 - 3) * UNIT))?;
    let above = Pos::new(HPos::Left, VPos::Top);
    root.draw_text(&labels.1, &text(Ink::Text).pos(above), (4 * UNIT, 3 * UNIT))?;
    root.present()
}

/// A point that can be hovered and focused, and what is then shown above it, or below it where there is no space. `at` is in
/// pixels, `size` in units.
fn tip(at: (i32, i32), size: (i32, i32), lines: &[String]) -> String {
    let width = lines.iter().map(|line| text_width(line)).max().unwrap_or(0) + 2 * TIP_PADDING;
    let height = TIP_LINE * lines.len() as i32 + TIP_PADDING;
    let (x, y) = (at.0 / UNIT, at.1 / UNIT);
    let left = (x - width / 2).clamp(0, (size.0 - width).max(0));
    let top = if y - REACH >= height { y - REACH - height } else { y + REACH };
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let baseline = top + TIP_LINE * (number as i32 + 1) - TIP_PADDING / 3;
        let _ = write!(
            text,
            "<text class=\"{}\" x=\"{}\" y=\"{}\" font-size=\"{}\">{}</text>",
            Ink::Text.fill_class(),
            (left + TIP_PADDING) * UNIT,
            baseline * UNIT,
            FONT * UNIT,
            escape(line)
        );
    }
    format!(
        "<g class=\"point\" tabindex=\"0\" role=\"img\"><title>{}</title><circle cx=\"{}\" cy=\"{}\" r=\"{}\"/>\
         <g class=\"tip\"><rect class=\"{} {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>{text}</g></g>\n",
        escape(&lines.join(", ")),
        at.0,
        at.1,
        REACH * UNIT,
        Ink::Surface.fill_class(),
        Ink::Muted.stroke_class(),
        left * UNIT,
        top * UNIT,
        width * UNIT,
        height * UNIT,
        4 * UNIT
    )
}

fn line(ink: Ink, width: u32) -> ShapeStyle {
    ink.code().stroke_width(width)
}
