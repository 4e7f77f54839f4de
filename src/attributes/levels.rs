//! Levels: the numbers or times of a column in one byte per node, which traversals read.
//!
//! At most 255 levels, each with the mean of its values as its own. They are where a function of the value changes, whichever it is:
//! between quantiles, at even distances, and at distances that grow from the smallest value, or from the largest, on. Level 0 is that of
//! nodes without a value. A column of at most 255 different values loses nothing.

use crate::index::{AttributeSchema, Index, LEVELS_VERSION, SectionKind};

/// Levels of a column, at most, without level 0.
pub(super) const MOST: usize = 255;
/// How many boundaries each of the four ways to place them has.
const BOUNDARIES: usize = 63;
/// Where distances grow, the first is of this many microseconds, an hour, for times, and of 1 for numbers.
const FIRST_MICROS: f64 = 3.6e9;

/// The levels of one column of numbers or times.
#[derive(Clone, Copy, Debug)]
pub struct Levels<'a> {
    /// `[rows × columns]`: the levels of all columns of the index that have levels.
    table: &'a [u8],
    columns: usize,
    /// The position of this one among them.
    position: usize,
    /// `[levels]`: the value of each, ascending from level 1 on; times are in microseconds since 1970. That of level 0 is NaN.
    values: &'a [f64],
}

impl<'a> Levels<'a> {
    /// Returns `None` for a column of another type, and for a generation of an older format.
    pub(super) fn of(index: &'a Index, column: usize) -> Option<Self> {
        let schema = &index.metadata().attributes;
        if !schema.get(column)?.kind.has_levels() || index.format_version() < LEVELS_VERSION {
            return None;
        }
        let have =
            |columns: &[AttributeSchema]| columns.iter().filter(|column| column.kind.has_levels()).count();
        Some(Self {
            table: index.column(SectionKind::Levels, 0),
            columns: have(schema),
            position: have(&schema[..column]),
            values: index.column(SectionKind::AttributeLevelValues, column as u32),
        })
    }

    /// Returns `[rows × columns]`, row-major: the levels of all columns of the index that have levels, which are `columns`. Those of this
    /// one are at `position` of each row. In a damaged file, a level may have no value.
    pub fn table(&self) -> (&'a [u8], usize, usize) {
        (self.table, self.columns, self.position)
    }

    /// Returns the level of a node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn of_node(&self, node: u32) -> u8 {
        self.table[node as usize * self.columns + self.position]
    }

    /// Returns the value of each level, from level 1 on: times in microseconds since 1970.
    pub fn values(&self) -> &'a [f64] {
        self.values.get(1..).unwrap_or_default()
    }
}

/// Returns the table of the levels of several columns, `[rows]` each.
pub fn table_of(columns: &[&[u8]], rows: usize) -> Vec<u8> {
    let mut table = vec![0; rows * columns.len()];
    for (position, column) in columns.iter().enumerate() {
        let of_column = table.iter_mut().skip(position).step_by(columns.len());
        of_column.zip(*column).for_each(|(to, level)| *to = *level);
    }
    table
}

/// The levels of a column, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FrozenLevels {
    /// `[rows]`.
    pub(super) of_nodes: Vec<u8>,
    /// `[levels]`.
    pub(super) values: Vec<f64>,
}

/// Returns the levels of a column. `order`: its nodes with a value, by value. `value`: of a node.
pub(super) fn freeze(
    rows: usize,
    order: &[u32],
    value: impl Fn(u32) -> f64,
    are_times: bool,
) -> FrozenLevels {
    let sorted: Vec<f64> = order.iter().map(|node| value(*node)).collect();
    let ends = ends(&sorted, are_times);
    let mut of_nodes = vec![0u8; rows];
    let mut values = vec![f64::NAN];
    let mut start = 0;
    for end in ends {
        let level = values.len() as u8;
        order[start..end].iter().for_each(|node| of_nodes[*node as usize] = level);
        values.push(mean(&sorted[start..end]));
        start = end;
    }
    FrozenLevels { of_nodes, values }
}

/// The mean of ascending values, which neither overflows nor leaves their range.
fn mean(values: &[f64]) -> f64 {
    let (first, last) = (values[0], values[values.len() - 1]);
    let sum: f64 = values.iter().map(|value| value / values.len() as f64).sum();
    if sum.is_nan() { first } else { sum.clamp(first, last) }
}

/// Where the levels of ascending values end.
fn ends(sorted: &[f64], are_times: bool) -> Vec<usize> {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let changes = (1..sorted.len()).filter(|at| sorted[at - 1] < sorted[*at]);
    let distinct: Vec<usize> = changes.clone().take(MOST).chain([sorted.len()]).collect();
    if distinct.len() <= MOST {
        return distinct;
    }
    let share = |boundary: usize| boundary as f64 / (BOUNDARIES + 1) as f64;
    let unit = if are_times { FIRST_MICROS } else { 1.0 };
    // Half of each, so that the difference does not overflow.
    let span = (last / 2.0 - first / 2.0) * 2.0;
    let growing = |boundary| unit * (share(boundary) * (span / unit).ln_1p()).exp_m1();
    let places = |boundary: usize| {
        let place = |value: f64| sorted.partition_point(|other| *other < value);
        let quantile = boundary * sorted.len() / (BOUNDARIES + 1);
        [
            place(sorted[quantile]),
            place(first + share(boundary) * span),
            place(first + growing(boundary)),
            place(last - growing(boundary)),
        ]
    };
    let mut ends: Vec<usize> = (1..=BOUNDARIES).flat_map(places).chain([sorted.len()]).collect();
    ends.retain(|end| *end > 0);
    ends.sort_unstable();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The level of each value, and the value of each level.
    fn levels(values: &[Option<f64>], are_times: bool) -> (Vec<u8>, Vec<f64>) {
        let mut order: Vec<u32> =
            (0..values.len() as u32).filter(|node| values[*node as usize].is_some()).collect();
        order.sort_by(|a, b| values[*a as usize].unwrap().total_cmp(&values[*b as usize].unwrap()));
        let value = |node: u32| values[node as usize].unwrap();
        let FrozenLevels { of_nodes, values } = freeze(values.len(), &order, value, are_times);
        (of_nodes, values)
    }

    proptest! {
        #[test]
        fn levels_ascend_with_the_values_and_few_values_are_their_own_levels(
            values in prop::collection::vec(prop::option::weighted(0.9, prop_oneof![
                (0u64..300).prop_map(|value| value as f64),
                -1e3..1e12f64,
                any::<i64>().prop_map(|value| value as f64),
                prop::num::f64::NORMAL | prop::num::f64::INFINITE | prop::num::f64::ZERO,
            ]), 0..900),
            few in any::<bool>(),
            are_times in any::<bool>(),
        ) {
            let values = if few { values.into_iter().take(255).collect() } else { values };
            let (of_nodes, of_levels) = levels(&values, are_times);
            prop_assert!(of_levels.len() <= 256 && of_levels[0].is_nan());
            prop_assert!(of_levels[1..].is_sorted());
            let mut pairs: Vec<(f64, u8)> = Vec::new();
            for (value, level) in values.iter().zip(&of_nodes) {
                prop_assert_eq!(value.is_none(), *level == 0);
                pairs.extend(value.map(|value| (value, *level)));
            }
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
            prop_assert!(pairs.windows(2).all(|pair| pair[0].1 <= pair[1].1));
            prop_assert!(pairs.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1));
            for (value, level) in pairs {
                let of_level = of_levels[usize::from(level)];
                prop_assert!(!of_level.is_nan());
                if few {
                    prop_assert_eq!(of_level, value);
                }
            }
        }
    }

    /// A popularity with a heavy tail, and times most of which are recent: what terms make of them is nearly what it is.
    #[test]
    fn functions_of_the_levels_are_near_those_of_the_values() {
        let count = 100_000;
        let at = |number: usize| (number as f64 + 0.5) / count as f64;
        let views: Vec<f64> = (0..count).map(|number| (-at(number).ln()).powi(6).round()).collect();
        let (of_nodes, of_levels) = levels(&views.iter().copied().map(Some).collect::<Vec<_>>(), false);
        let largest = views.iter().copied().fold(0.0, f64::max);
        for (value, level) in views.iter().zip(&of_nodes) {
            let of_level = of_levels[usize::from(*level)];
            assert!((of_level.ln_1p() - value.ln_1p()).abs() < 0.01 * largest.ln_1p(), "{value} {of_level}");
            assert!((of_level - value).abs() < 0.02 * largest, "{value} {of_level}");
        }
        let day = 86_400e6;
        let now = 1.7e15;
        let times: Vec<f64> = (0..count).map(|number| now - at(number).powi(3) * 365.0 * day).collect();
        let (of_nodes, of_levels) = levels(&times.iter().copied().map(Some).collect::<Vec<_>>(), true);
        for (value, level) in times.iter().zip(&of_nodes) {
            let of_level = of_levels[usize::from(*level)];
            for half_life in [0.25, 2.0, 30.0] {
                let decay = |time: f64| (-(now - time) / (half_life * day)).exp2();
                assert!((decay(of_level) - decay(*value)).abs() < 0.06, "{} {}", now - value, now - of_level);
            }
        }
    }
}
