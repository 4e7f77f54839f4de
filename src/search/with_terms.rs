//! Scores of nodes with the score terms of the request.

use std::ops::Range;

use crate::base::id::VideoId;
use crate::graph::{Scan, Score, Scratch};
use crate::rules::{BoundTerms, Sample};

/// Rows whose scores are compared with a bound at once.
const BLOCK: usize = 64;

/// A scorer whose scores include the score terms of the request, if it has any.
#[derive(Clone, Debug)]
pub(super) struct WithTerms<'a, S> {
    scorer: S,
    terms: Option<Terms<'a>>,
}

/// What is added to the scores.
#[derive(Clone, Copy, Debug)]
struct Terms<'a> {
    terms: Option<&'a BoundTerms<'a>>,
    noise: Option<Noise<'a>>,
    /// Units of the scorer per unit of score; `None` to add them exactly, in units of scores.
    units: Option<f32>,
    /// What is added at most, in units of the scorer.
    most: f32,
}

/// What decides which nodes of a segment are drawn, in addition to their scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise<'a> {
    pub(super) sample: Sample,
    /// `[n]`: the video of each node.
    pub(super) video_ids: &'a [VideoId],
}

/// No noise is larger, so that sums stay finite.
const MOST_NOISE: f32 = 1e30;

impl Noise<'_> {
    /// The noise of a node, in units of scores.
    #[inline]
    fn of(&self, row: u32) -> f32 {
        let noise = self.sample.noise(self.video_ids[row as usize]) as f32;
        (self.sample.temperature * noise).clamp(-MOST_NOISE, MOST_NOISE)
    }

    /// No node has more.
    fn most(&self) -> f32 {
        (self.sample.temperature * Sample::MOST_NOISE as f32).min(MOST_NOISE)
    }
}

impl<'a, S> WithTerms<'a, S> {
    /// As results are scored. `scorer`: in units of scores.
    pub(super) fn exact(scorer: S, terms: Option<&'a BoundTerms<'a>>) -> Self {
        let terms =
            terms.map(|terms| Terms { terms: Some(terms), noise: None, units: None, most: f32::INFINITY });
        Self { scorer, terms }
    }

    /// To choose candidates by. `units`: of the scorer, per unit of score.
    pub(super) fn nearly(scorer: S, terms: Option<&'a BoundTerms<'a>>, units: f32) -> Self {
        let of = |terms: &'a BoundTerms<'a>| Terms {
            terms: Some(terms),
            noise: None,
            units: Some(units),
            most: units * terms.most(),
        };
        Self { scorer, terms: terms.map(of) }
    }

    /// Also adds the noise by which nodes are drawn, if there is any. `units`: of the scorer, per unit of score; `None` if the
    /// scores are exact.
    pub(super) fn with_noise(self, noise: Option<Noise<'a>>, units: Option<f32>) -> Self {
        let Some(noise) = noise else { return self };
        let of_noise = units.map_or(f32::INFINITY, |units| units * noise.most());
        let terms = match self.terms {
            Some(terms) => Terms { noise: Some(noise), most: terms.most + of_noise, ..terms },
            None => Terms { terms: None, noise: Some(noise), units, most: of_noise },
        };
        Self { terms: Some(terms), ..self }
    }
}

impl<S> WithTerms<'_, S> {
    /// The scorer without terms.
    pub(super) fn bare(&self) -> &S {
        &self.scorer
    }

    /// Whether there are terms.
    pub(super) fn has_terms(&self) -> bool {
        self.terms.is_some()
    }

    /// Leaves the best `count` nodes that a traversal by [`Self::bare`] visited.
    pub(super) fn collect(&self, count: usize, scratch: &mut Scratch) {
        match &self.terms {
            None => scratch.collect(count),
            Some(terms) => scratch.collect_with(count, terms.most, |node| terms.added(node)),
        }
    }

    /// What is added to the score of a node.
    pub(super) fn added(&self, node: u32) -> f32 {
        self.terms.as_ref().map_or(0.0, |terms| terms.added(node))
    }
}

impl Terms<'_> {
    #[inline]
    fn added(&self, row: u32) -> f32 {
        let of_terms = self.terms.map_or(0.0, |terms| match self.units {
            None => terms.added(row),
            Some(units) => units * terms.added_nearly(row),
        });
        let of_noise = self.noise.map_or(0.0, |noise| self.units.unwrap_or(1.0) * noise.of(row));
        of_terms + of_noise
    }

    #[inline]
    fn add(&self, rows: impl Iterator<Item = u32>, out: &mut [f32]) {
        rows.zip(out).for_each(|(row, out)| *out += self.added(row));
    }

    /// Adds the terms to the scores that may reach `least` with them.
    #[inline]
    fn add_from(&self, rows: &[u32], least: f32, out: &mut [f32]) {
        let least = least - self.most;
        for (rows, out) in rows.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let mut reached =
                out.iter().rev().fold(0u64, |bits, score| bits << 1 | u64::from(*score >= least));
            while reached != 0 {
                let at = reached.trailing_zeros() as usize;
                out[at] += self.added(rows[at]);
                reached &= reached - 1;
            }
        }
    }
}

impl<S: Score> Score for WithTerms<'_, S> {
    fn rows(&self) -> usize {
        self.scorer.rows()
    }

    fn extremes(&self) -> Range<u32> {
        self.scorer.extremes()
    }

    #[inline]
    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        self.scorer.score_rows(rows, out);
        if let Some(terms) = &self.terms {
            terms.add(rows.iter().copied(), out);
        }
    }

    #[inline]
    fn score_rows_from(&self, rows: &[u32], least: f32, out: &mut [f32]) {
        self.scorer.score_rows(rows, out);
        if let Some(terms) = &self.terms {
            terms.add_from(rows, least, out);
        }
    }

    fn add_terms(&self, first: u32, out: &mut [f32]) -> bool {
        let rows = self.rows() as u32;
        self.terms.iter().for_each(|terms| terms.add(first..rows.min(first + out.len() as u32), out));
        self.terms.is_some()
    }
}

impl<S: Scan> Scan for WithTerms<'_, S> {
    fn score_scan(&self, first: usize, out: &mut [f32]) {
        self.scorer.score_scan(first, out);
        if let Some(terms) = &self.terms {
            terms.add(first as u32..(first + out.len()) as u32, out);
        }
    }
}
