//! Maps values to positions on an axis and selects the ticks that fit.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// The finest difference of recall that is drawn.
const FINEST: f64 = 1e-4;
/// Ticks of a recall axis, in order of priority.
const RECALLS: [f64; 17] =
    [0.9, 0.99, 0.999, 0.9999, 0.95, 0.8, 0.5, 0.995, 0.98, 0.7, 0.6, 0.9995, 0.998, 0.85, 0.4, 0.2, 0.0];
/// Leading digits of ticks on a logarithmic axis, in order of priority.
const DIGITS: [f64; 9] = [1.0, 5.0, 2.0, 3.0, 7.0, 4.0, 6.0, 8.0, 9.0];
/// Number of [`DIGITS`] used on a long axis.
const FEW_DIGITS: usize = 3;
/// Length in orders of magnitude from which an axis is long.
const LONG: f64 = 0.9;
/// Margin on either side of the data, as a share of its extent.
const MARGIN: f64 = 0.04;
/// Minimum extent of an axis in orders of magnitude, for a single point.
const LEAST_EXTENT: f64 = 0.3;

/// A logarithmic axis.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    projection: Projection,
    /// Range after projection.
    range: Range<f64>,
    /// Values of ticks and their labels, in order of priority.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis of recall, logarithmic in 1 − recall: 0.9 to 0.99 is as long as 0.99 to 0.999. `resolution` is the smallest
    /// difference that the points of this axis can have: there are no ticks closer to 1. `finest` is that of all axes on
    /// the same scale: 1 is drawn at half of it.
    pub fn recall(
        label: String,
        values: impl IntoIterator<Item = f64>,
        resolution: f64,
        finest: f64,
    ) -> Self {
        let [resolution, finest] = [resolution, finest].map(|of| of.clamp(FINEST, 0.5));
        let projection = Projection::Recall { least_missed: finest / 2.0 };
        // A tick at the resolution itself is one, whatever the last bit says.
        let is_resolved = |recall: &f64| 1.0 - recall > resolution * 0.999;
        let mut ticks: Vec<(f64, String)> = vec![(1.0, "1".to_owned())];
        ticks.extend(RECALLS.into_iter().filter(is_resolved).map(|recall| (recall, recall.to_string())));
        let range = range(values.into_iter().map(|recall| projection.of(recall)));
        Self { label, projection, range, ticks }
    }

    /// An axis of positive values; `text` formats the label of a tick.
    pub fn logarithmic(
        label: String,
        values: impl IntoIterator<Item = f64>,
        text: impl Fn(f64) -> String,
    ) -> Self {
        let range = range(values.into_iter().map(f64::log10));
        let decades = range.start.floor() as i32..=range.end.ceil() as i32;
        let digits = if range.end - range.start > LONG { &DIGITS[..FEW_DIGITS] } else { &DIGITS[..] };
        let values =
            digits.iter().flat_map(|digit| decades.clone().map(move |decade| digit * 10f64.powi(decade)));
        let ticks = values.map(|value| (value, text(value))).collect();
        Self { label, projection: Projection::Logarithm, range, ticks }
    }

    /// The name of the quantity.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The same axis with only the ticks that fit in `length`. `gap` is the minimum distance between the centers of two
    /// tick labels.
    pub(super) fn fitted(&self, length: i32, gap: impl Fn(&str, &str) -> i32) -> Self {
        let per_unit = f64::from(length) / (self.range.end - self.range.start);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for (value, text) in &self.ticks {
            let position = self.projection.of(*value);
            let is_clear = |(other, other_text): &(f64, String)| {
                let distance = (self.projection.of(*other) - position).abs() * per_unit;
                distance >= f64::from(gap(text, other_text))
            };
            if self.range.contains(&position) && ticks.iter().all(is_clear) {
                ticks.push((*value, text.clone()));
            }
        }
        Self { ticks, ..self.clone() }
    }
}

/// How a value becomes a position.
#[derive(Clone, Copy, Debug)]
enum Projection {
    Logarithm,
    /// The negated logarithm of the share that is missed, which counts as at least `least_missed`.
    Recall {
        least_missed: f64,
    },
}

impl Projection {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Logarithm => value.log10(),
            Self::Recall { least_missed } => -(1.0 - value).clamp(least_missed, 1.0).log10(),
        }
    }
}

/// The extent of `positions`, with a margin.
fn range(positions: impl Iterator<Item = f64>) -> Range<f64> {
    let extent = |(low, high): (f64, f64), position: f64| (low.min(position), high.max(position));
    let (low, high) = positions.fold((f64::INFINITY, f64::NEG_INFINITY), extent);
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let margin = ((high - low) * MARGIN).max((LEAST_EXTENT - (high - low)) / 2.0);
    low - margin..high + margin
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (self.projection.of(*value) - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    /// Projected range; two-dimensional charts do not call this.
    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map(|(_, text)| text.clone()).unwrap_or_default()
    }
}
