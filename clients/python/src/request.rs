//! Arguments become search requests.

use std::str::FromStr;
use std::time::Duration;

use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use shortlist::{
    Cap, Diversity, Effort, Exclude, Filter, Fresh, Interest, Limits, Query, Reserve, ReturnAttributes,
    Rules, ScoreTerm, SearchRequest, Seed, VideoId,
};

use crate::error::Fault;
use crate::ids::Ids;

/// What to search for.
#[derive(FromPyObject)]
pub(crate) enum Queries<'py> {
    /// One user per row, `[n × dim]`.
    Rows(PyReadonlyArray2<'py, f32>),
    /// The interests of one user, `[interests × dim]`, with weights and least shares.
    Interests(PyReadonlyArray2<'py, f32>, Vec<f32>, Vec<f32>),
    /// Videos like these, with weights.
    Seeds(Ids<'py>, Vec<f32>),
}

impl Queries<'_> {
    /// The argument that has ids as text.
    pub(crate) fn text_argument(&self) -> Option<&'static str> {
        matches!(self, Self::Seeds(ids, _) if ids.is_text()).then_some("q.video_ids")
    }

    /// Vectors of users by row, or the one query of all other kinds.
    ///
    /// # Errors
    /// If an array is not contiguous.
    pub(crate) fn read(&self) -> PyResult<Searched<'_>> {
        Ok(match self {
            Self::Rows(rows) => {
                let shape = rows.shape();
                Searched::Users { rows: shape[0], dim: shape[1], values: rows.as_slice()? }
            }
            Self::Interests(vectors, weights, min_shares) => {
                let vectors = vectors.as_array();
                let interests = vectors.rows().into_iter().zip(weights).zip(min_shares);
                Searched::One(Query::Interests(
                    interests
                        .map(|((vector, weight), min_share)| Interest {
                            vector: vector.to_vec(),
                            weight: *weight,
                            min_share: *min_share,
                        })
                        .collect(),
                ))
            }
            Self::Seeds(ids, weights) => {
                let seed = |(video_id, weight): (VideoId, &f32)| Seed { video_id, weight: *weight };
                Searched::One(Query::Seeds(ids.numbers()?.into_iter().zip(weights).map(seed).collect()))
            }
        })
    }
}

/// The queries of one call.
pub(crate) enum Searched<'a> {
    /// `values`: `[rows × dim]`.
    Users {
        rows: usize,
        dim: usize,
        values: &'a [f32],
    },
    One(Query),
}

impl Searched<'_> {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Users { rows, .. } => *rows,
            Self::One(_) => 1,
        }
    }

    fn set(&self, row: usize, query: &mut Query) {
        match (self, query) {
            (Self::Users { dim, values, .. }, Query::Vector(vector)) => {
                vector.clear();
                vector.extend_from_slice(&values[row * dim..(row + 1) * dim]);
            }
            (Self::Users { dim, values, .. }, query) => {
                *query = Query::Vector(values[row * dim..(row + 1) * dim].to_vec());
            }
            (Self::One(one), query) => *query = one.clone(),
        }
    }
}

/// Everything else that a search may have, in the order in which the package sends it: at most 12 values are read at once.
#[derive(FromPyObject)]
pub(crate) struct Options<'py>(
    /// k.
    pub(crate) u64,
    /// Target recall, ef_search and whether to score every video.
    pub(crate) (Option<f32>, Option<u64>, bool),
    /// Filters: one for all rows, or one per row.
    pub(crate) Vec<Option<String>>,
    pub(crate) Option<Excluded<'py>>,
    /// Caps.
    pub(crate) Vec<(String, u64)>,
    /// Kept places. Fresh: attribute, age in microseconds, number. Reserves, as text.
    pub(crate) (Option<(String, i64, u64)>, Vec<String>),
    /// The score threshold.
    pub(crate) Option<f32>,
    /// The offset.
    pub(crate) u64,
    /// Attributes to return, `None` for all; and whether to return vectors.
    pub(crate) (Option<Vec<String>>, bool),
    /// The embedding model.
    pub(crate) Option<String>,
    /// Score terms, as text.
    pub(crate) Vec<String>,
    /// Diversity: the largest similarity, and lambda.
    pub(crate) (Option<f32>, Option<f32>),
);

/// Excluded ids: all for every row, or those of row `r` before `ends[r]` and after the row before.
#[derive(FromPyObject)]
pub(crate) struct Excluded<'py>(pub(crate) Ids<'py>, pub(crate) Option<Vec<usize>>);

impl Options<'_> {
    /// The argument that has ids as text.
    pub(crate) fn text_argument(&self) -> Option<&'static str> {
        self.3.as_ref().is_some_and(|Excluded(ids, _)| ids.is_text()).then_some("exclude")
    }

    /// The request without its query, and what differs from row to row.
    ///
    /// # Errors
    /// For a value that no request can have.
    pub(crate) fn read(&self) -> PyResult<Requests<'_>> {
        let Self(
            k,
            (target_recall, ef_search, exact),
            texts,
            excluded_ids,
            caps,
            (fresh, reserve),
            score_threshold,
            offset,
            (attributes, return_vectors),
            embedding_model,
            score_terms,
            diversity,
        ) = self;
        let found = *k;
        let k = count(found);
        let most = Limits::default().max_k;
        if !(1..=most).contains(&k) {
            return Err(Fault::invalid("k", format!("expected 1 to {most}, found {found}")).into());
        }
        let effort = match (*exact, *ef_search, *target_recall) {
            (false, None, None) => Effort::Default,
            (true, None, None) => Effort::Exact,
            (false, Some(ef_search), None) => Effort::EfSearch(count(ef_search)),
            (false, None, Some(recall)) => Effort::TargetRecall(recall),
            _ => return Err(several_efforts(ef_search.is_some()).into()),
        };
        let filters = texts.iter().enumerate().map(|(row, text)| {
            let parsed = text.as_ref().map(|text| text.parse::<Filter>()).transpose();
            parsed.map_err(|error| {
                let fault = Fault::invalid("filter", error.to_string());
                if texts.len() == 1 { fault } else { fault.in_row(row) }
            })
        });
        let mut filters: Vec<Option<Filter>> = filters.collect::<Result<_, _>>()?;
        let filter = if filters.len() == 1 { filters.pop().flatten() } else { None };
        let mut exclude = Exclude::default();
        let mut excluded = None;
        if let Some(Excluded(ids, ends)) = excluded_ids {
            let ids = ids.numbers()?;
            match ends {
                None => exclude.video_ids = ids,
                Some(ends) => excluded = Some((ids, ends.as_slice())),
            }
        }
        let fresh = match fresh {
            Some((_, micros, _)) if *micros < 0 => {
                return Err(Fault::invalid("fresh.within", "expected a positive duration").into());
            }
            Some((attribute, micros, at_least)) => {
                let within = Duration::from_micros(micros.unsigned_abs());
                Some(Fresh::new(attribute, within, count(*at_least)))
            }
            None => None,
        };
        let cap = |(attribute, most): &(String, u64)| Cap {
            attribute: attribute.clone(),
            max_per_value: count(*most),
        };
        let request = SearchRequest {
            k,
            effort,
            rules: Rules {
                filter,
                exclude,
                caps: caps.iter().map(cap).collect(),
                fresh,
                reserves: reserves_of(reserve)?,
                diversity: diversity_of(*diversity),
                score_threshold: *score_threshold,
                score_terms: terms_of(score_terms)?,
            },
            offset: count(*offset),
            return_attributes: match attributes {
                None => ReturnAttributes::All,
                Some(names) if names.is_empty() => ReturnAttributes::None,
                Some(names) => ReturnAttributes::Named(names.clone()),
            },
            return_vectors: *return_vectors,
            embedding_model: embedding_model.clone(),
            ..SearchRequest::default()
        };
        Ok(Requests { request, filters, excluded })
    }
}

/// The score terms of these texts.
///
/// # Errors
/// Names the text that is none.
pub(crate) fn terms_of(texts: &[String]) -> PyResult<Vec<ScoreTerm>> {
    parsed(texts, "score_terms")
}

/// The reserves of these texts.
///
/// # Errors
/// Names the text that is none.
pub(crate) fn reserves_of(texts: &[String]) -> PyResult<Vec<Reserve>> {
    parsed(texts, "reserve")
}

fn parsed<T: FromStr<Err = String>>(texts: &[String], argument: &str) -> PyResult<Vec<T>> {
    let parse = |(at, text): (usize, &String)| {
        let wrong = |problem: String| Fault::invalid(&format!("{argument}[{at}]"), problem);
        Ok(text.parse().map_err(wrong)?)
    };
    texts.iter().enumerate().map(parse).collect()
}

/// The diversity of a largest similarity and a lambda; `None` without both.
pub(crate) fn diversity_of((max_similarity, lambda): (Option<f32>, Option<f32>)) -> Option<Diversity> {
    (max_similarity.is_some() || lambda.is_some()).then_some(Diversity { max_similarity, lambda })
}

/// The error of a search with more than one effort.
pub(crate) fn several_efforts(has_ef_search: bool) -> Fault {
    let field = if has_ef_search { "ef_search" } else { "target_recall" };
    Fault::invalid(field, "expected at most one of target_recall, ef_search and exact, found more")
}

/// The requests of one call.
pub(crate) struct Requests<'a> {
    /// What they share.
    pub(crate) request: SearchRequest,
    /// One per row, or none.
    filters: Vec<Option<Filter>>,
    excluded: Option<(Vec<VideoId>, &'a [usize])>,
}

impl Requests<'_> {
    /// Makes `request`, a copy of the shared request, that of `row`.
    pub(crate) fn set(&self, searched: &Searched<'_>, row: usize, request: &mut SearchRequest) {
        searched.set(row, &mut request.query);
        if let Some(filter) = self.filters.get(row) {
            request.rules.filter.clone_from(filter);
        }
        if let Some((ids, ends)) = &self.excluded {
            let start = row.checked_sub(1).map_or(0, |before| ends[before]);
            request.rules.exclude.video_ids.clear();
            request.rules.exclude.video_ids.extend(&ids[start..ends[row]]);
        }
    }
}

/// A number of things. More than fit are as many as any limit refuses.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
