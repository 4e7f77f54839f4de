//! Answers become arrays.

use numpy::ndarray::{Array2, Array3};
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use shortlist::{AttributeKind, Completeness, SearchResponse, SearchStats, Shortfall};

use crate::columns::Columns;

/// The answers of one call, `[rows × k]` each, row-major. A row that has fewer than k candidates ends with id 0 and score
/// minus infinity.
pub(crate) struct Answers {
    k: usize,
    ids: Vec<u64>,
    /// Empty after the last candidate; `None` if the ids are numbers.
    texts: Option<Vec<String>>,
    scores: Vec<f32>,
    counts: Vec<i64>,
    reasons: Vec<Option<&'static str>>,
    /// `[rows × k × dim]`.
    vectors: Option<(usize, Vec<f32>)>,
    /// -1 after the last candidate.
    interests: Option<Vec<i64>>,
    /// `[rows × k × terms]`: what each score term adds.
    terms: Option<(usize, Vec<f32>)>,
    /// `[rows × k × reserves]`: whether the candidate holds a place of each reserve.
    reserved: Option<(usize, Vec<bool>)>,
    columns: Option<Columns>,
    stats: Option<Vec<SearchStats>>,
    unknown_seeds: Vec<u64>,
}

/// What to keep of answers in addition to ids and scores.
pub(crate) struct Kept {
    /// The components of an embedding, if they are returned.
    pub(crate) vectors: Option<usize>,
    pub(crate) interests: bool,
    /// The number of score terms.
    pub(crate) terms: usize,
    /// The number of reserves.
    pub(crate) reserves: usize,
    /// Names and types of the returned attributes.
    pub(crate) attributes: Vec<(String, AttributeKind)>,
    pub(crate) stats: bool,
}

impl Answers {
    /// Answers to `rows` requests for `k` candidates.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn new(rows: usize, k: usize, kept: Kept) -> PyResult<Self> {
        let len = rows.checked_mul(k).ok_or_else(|| PyMemoryError::new_err("too many candidates"))?;
        let vectors = match kept.vectors {
            Some(dim) => {
                let components =
                    len.checked_mul(dim).ok_or_else(|| PyMemoryError::new_err("too many vectors"))?;
                Some((dim, filled(components, 0.0)?))
            }
            None => None,
        };
        let attributes = kept.attributes;
        Ok(Self {
            k,
            ids: filled(len, 0)?,
            texts: None,
            scores: filled(len, f32::NEG_INFINITY)?,
            counts: Vec::with_capacity(rows),
            reasons: Vec::with_capacity(rows),
            vectors,
            interests: if kept.interests { Some(filled(len, -1)?) } else { None },
            terms: match kept.terms {
                0 => None,
                terms => Some((terms, filled(len.saturating_mul(terms), 0.0)?)),
            },
            reserved: match kept.reserves {
                0 => None,
                reserves => Some((reserves, filled(len.saturating_mul(reserves), false)?)),
            },
            columns: (!attributes.is_empty()).then(|| Columns::of(attributes.into_iter(), len)),
            stats: kept.stats.then(|| Vec::with_capacity(rows)),
            unknown_seeds: Vec::new(),
        })
    }

    /// Adds the answer of the next row.
    pub(crate) fn push(&mut self, response: SearchResponse) {
        let start = self.counts.len() * self.k;
        self.counts.push(response.candidates.len() as i64);
        self.reasons.push(reason(response.completeness));
        for (position, candidate) in (start..).zip(response.candidates) {
            self.ids[position] = candidate.video_id.0;
            if let Some(text) = candidate.text_id {
                let len = self.ids.len();
                self.texts.get_or_insert_with(|| vec![String::new(); len])[position] = text;
            }
            self.scores[position] = candidate.score;
            if let (Some((dim, vectors)), Some(vector)) = (&mut self.vectors, candidate.vector) {
                vectors[position * *dim..(position + 1) * *dim].copy_from_slice(&vector);
            }
            if let Some((count, terms)) = &mut self.terms {
                let of_candidate = terms[position * *count..(position + 1) * *count].iter_mut();
                of_candidate.zip(&candidate.terms).for_each(|(to, term)| *to = *term);
            }
            if let Some((count, reserved)) = &mut self.reserved {
                let of_candidate = &mut reserved[position * *count..(position + 1) * *count];
                for reserve in candidate.reserved {
                    if let Some(holds) = of_candidate.get_mut(reserve) {
                        *holds = true;
                    }
                }
            }
            if let (Some(interests), Some(interest)) = (&mut self.interests, candidate.interest) {
                interests[position] = interest as i64;
            }
            if let Some(columns) = &mut self.columns {
                columns.set(position, candidate.attributes);
            }
        }
        if let Some(stats) = &mut self.stats {
            stats.push(response.stats);
        }
        self.unknown_seeds.extend(response.unknown_seeds.iter().map(|id| id.0));
    }

    /// The answers as Python objects.
    pub(crate) fn finish<'py>(self, py: Python<'py>) -> PyResult<Found<'py>> {
        let shape = (self.counts.len(), self.k);
        Ok(Found(
            table(py, shape, self.ids),
            table(py, shape, self.scores),
            PyArray1::from_vec(py, self.counts),
            self.reasons,
            self.vectors.map(|(dim, values)| tables(py, shape, dim, values)),
            self.interests.map(|interests| table(py, shape, interests)),
            self.columns.map(|columns| Py::new(py, columns)).transpose()?,
            self.stats.map(|stats| stats.iter().map(Stats::from).collect()),
            self.unknown_seeds,
            self.texts,
            self.terms.map(|(count, values)| tables(py, shape, count, values)),
            self.reserved.map(|(count, values)| tables(py, shape, count, values)),
        ))
    }
}

/// The answers of one call: ids, scores, counts, reasons, vectors, interests, attributes, costs, unknown seeds, ids as text,
/// score terms, held places of reserves.
#[derive(IntoPyObject)]
pub(crate) struct Found<'py>(
    Bound<'py, PyArray2<u64>>,
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray1<i64>>,
    Vec<Option<&'static str>>,
    Option<Bound<'py, PyArray3<f32>>>,
    Option<Bound<'py, PyArray2<i64>>>,
    Option<Py<Columns>>,
    Option<Vec<Stats>>,
    Vec<u64>,
    Option<Vec<String>>,
    Option<Bound<'py, PyArray3<f32>>>,
    Option<Bound<'py, PyArray3<bool>>>,
);

/// The cost of a search, in the order of `shortlist.SearchStats`: plan, ef_search, measured recall, expanded, distances,
/// seconds, matches.
#[derive(IntoPyObject)]
pub(crate) struct Stats(&'static str, usize, Option<f64>, u64, u64, f64, Option<usize>);

impl From<&SearchStats> for Stats {
    fn from(stats: &SearchStats) -> Self {
        Self(
            stats.plan.name(),
            stats.ef_search,
            stats.measured_recall,
            stats.expanded,
            stats.distances,
            stats.elapsed.as_secs_f64(),
            stats.matches,
        )
    }
}

fn table<'py, T: numpy::Element>(
    py: Python<'py>,
    shape: (usize, usize),
    values: Vec<T>,
) -> Bound<'py, PyArray2<T>> {
    let array = Array2::from_shape_vec(shape, values).expect("one value per candidate");
    PyArray2::from_owned_array(py, array)
}

/// `per_candidate` values of each candidate.
fn tables<'py, T: numpy::Element>(
    py: Python<'py>,
    (rows, k): (usize, usize),
    per_candidate: usize,
    values: Vec<T>,
) -> Bound<'py, PyArray3<T>> {
    let array = Array3::from_shape_vec((rows, k, per_candidate), values);
    PyArray3::from_owned_array(py, array.expect("as many values per candidate"))
}

fn filled<T: Copy>(len: usize, value: T) -> PyResult<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|error| PyMemoryError::new_err(error.to_string()))?;
    values.resize(len, value);
    Ok(values)
}

/// Why an answer is short, in a word.
fn reason(completeness: Completeness) -> Option<&'static str> {
    match completeness {
        Completeness::Complete => None,
        Completeness::Deadline => Some("deadline"),
        Completeness::Short(shortfall) => Some(match shortfall {
            Shortfall::IndexExhausted => "index_exhausted",
            Shortfall::TooFewMatches => "too_few_matches",
            Shortfall::Excluded => "excluded",
            Shortfall::CapsExhausted => "caps_exhausted",
            Shortfall::ScoreThreshold => "score_threshold",
            Shortfall::TooSimilar => "too_similar",
        }),
    }
}
