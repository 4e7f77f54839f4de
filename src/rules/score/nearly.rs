//! What terms add to the scores of nodes, approximately, from one byte per node and term.
//!
//! Traversals read it for every node that they meet. What each level of a column adds is computed once per request.

use super::term::ScoreTerm;
use crate::attributes::{Columns, Levels};

/// Levels of a column, level 0 included.
const LEVELS: usize = 256;

/// What the terms of a request add, approximately.
#[derive(Debug)]
pub(super) struct Nearly<'a> {
    /// `[rows × stride]`: the levels of each node.
    levels: &'a [u8],
    stride: usize,
    terms: Vec<OfLevels>,
    /// What they add together at most.
    most: f32,
}

/// One term by the levels of its column.
#[derive(Debug)]
struct OfLevels {
    /// The position of the column in each row of levels.
    position: usize,
    /// `[LEVELS]`: what each level adds; 0 for level 0.
    added: Box<[f32; LEVELS]>,
}

impl<'a> Nearly<'a> {
    /// `terms`: those of numbers and times, with their columns. Returns `None` if a column has no levels, since the generation is of an
    /// older format.
    pub(super) fn of<'t>(
        terms: impl Iterator<Item = (&'t ScoreTerm, usize)>,
        columns: &Columns<'a>,
        now: f64,
    ) -> Option<Self> {
        let mut nearly = Self { levels: &[], stride: 0, terms: Vec::new(), most: 0.0 };
        for (term, column) in terms {
            let levels: Levels<'a> = columns.levels(column)?;
            let (table, stride, position) = levels.table();
            let values = levels.values();
            let mut added = Box::new([0.0; LEVELS]);
            for (added, value) in added[1..].iter_mut().zip(values) {
                *added = term.of_value(*value, now) as f32;
            }
            nearly.most += added.iter().copied().fold(0.0, f32::max);
            (nearly.levels, nearly.stride) = (table, stride);
            nearly.terms.push(OfLevels { position, added });
        }
        Some(nearly)
    }

    /// What the terms add at most.
    pub(super) fn most(&self) -> f32 {
        self.most
    }

    /// What the terms add to the score of a node.
    #[inline]
    pub(super) fn added(&self, node: u32) -> f32 {
        if self.terms.is_empty() {
            return 0.0;
        }
        let start = node as usize * self.stride;
        let levels = &self.levels[start..start + self.stride];
        self.terms.iter().map(|OfLevels { position, added }| added[usize::from(levels[*position])]).sum()
    }
}
