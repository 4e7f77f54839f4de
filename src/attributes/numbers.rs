//! The numbers or times of a column, of one node after another.

use crate::index::{AttributeKind, Index, SectionKind};
use crate::kernel::prefetch;

/// The numbers or times of one column. Looks its sections up once, and not for every value.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    values: Values<'a>,
    /// One bit per row.
    validity: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Values<'a> {
    Signed(&'a [i64]),
    Unsigned(&'a [u64]),
    Double(&'a [f64]),
}

impl<'a> Numbers<'a> {
    /// Returns `None` for a column of another type.
    pub(super) fn of(index: &'a Index, kind: AttributeKind, ordinal: u32) -> Option<Self> {
        let values = SectionKind::AttributeValues;
        let values = match kind {
            AttributeKind::Int64 | AttributeKind::Timestamp => Values::Signed(index.column(values, ordinal)),
            AttributeKind::Uint64 => Values::Unsigned(index.column(values, ordinal)),
            AttributeKind::Double => Values::Double(index.column(values, ordinal)),
            AttributeKind::Bool | AttributeKind::Keyword | AttributeKind::KeywordList => return None,
        };
        Some(Self { values, validity: index.column(SectionKind::AttributeValidity, ordinal) })
    }

    /// Returns the number of a node, or its time in microseconds since 1970; `None` if it is null.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn get(&self, node: u32) -> Option<f64> {
        let row = node as usize;
        let value = match self.values {
            Values::Signed(values) => values[row] as f64,
            Values::Unsigned(values) => values[row] as f64,
            Values::Double(values) => values[row],
        };
        if self.validity[row / 8] & (1 << (row % 8)) == 0 { None } else { Some(value) }
    }

    /// Prefetches what [`Self::get`] reads.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn prefetch(&self, node: u32) {
        let row = node as usize;
        match self.values {
            Values::Signed(values) => prefetch(&values[row..=row]),
            Values::Unsigned(values) => prefetch(&values[row..=row]),
            Values::Double(values) => prefetch(&values[row..=row]),
        }
        prefetch(&self.validity[row / 8..=row / 8]);
    }
}
