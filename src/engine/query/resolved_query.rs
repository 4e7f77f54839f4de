//! What a request searches for, in terms of one generation.

use std::borrow::Cow;

use crate::base::id::{NodeId, VideoId};
use crate::base::metric::Metric;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::options::Limits;
use crate::engine::query::context::RequestContext;
use crate::engine::query::request::{Interest, Query, SearchRequest, Seed};
use crate::index::Index;
use crate::kernel::{MAX_NORM, is_bounded, norm};
use crate::live::delta::segments::Segments;
use crate::rules::decimal;
use crate::search;

/// Seeds cancel out if their weighted sum is at most this share of the sum of their lengths: the rest is rounding of
/// embeddings and weights in single precision.
const CANCELLED: f64 = 1e-6;

/// The query of a request.
pub(crate) struct ResolvedQuery<'q> {
    /// One or more.
    pub(crate) interests: Vec<search::Interest<'q>>,
    /// Whether the request names interests, to which candidates are attributed.
    pub(crate) has_interests: bool,
    /// The nodes that the query was made of.
    pub(crate) seeds: Vec<NodeId>,
    /// Seeds that are not in the index.
    pub(crate) unknown_seeds: Vec<VideoId>,
}

impl<'q> ResolvedQuery<'q> {
    /// Resolves the query of a request against `segments`.
    ///
    /// # Errors
    /// Names the field that is invalid.
    pub(crate) fn of(
        context: &RequestContext<'_>,
        segments: &Segments,
        request: &'q SearchRequest,
    ) -> Result<Self, EngineError> {
        let index = &*segments.base().index;
        match &request.query {
            Query::Vector(values) => {
                check_vector(index, values, &Field::QueryVector)?;
                Ok(Self::single(Cow::Borrowed(values.as_slice())))
            }
            Query::Interests(interests) => of_interests(index, interests, request.k),
            Query::Seeds(seeds) => of_seeds(context, segments, seeds),
        }
    }

    fn single(vector: Cow<'q, [f32]>) -> Self {
        let interests = vec![search::Interest::single(vector)];
        Self { interests, has_interests: false, seeds: Vec::new(), unknown_seeds: Vec::new() }
    }

    /// Whether it is a single query and not a request with interests.
    pub(crate) fn is_single(&self) -> bool {
        self.interests.len() == 1 && !self.has_interests
    }
}

fn check_vector(index: &Index, values: &[f32], field: &Field) -> Result<(), EngineError> {
    let (expected, found) = (index.dim(), values.len());
    if found != expected {
        return Err(EngineError::invalid(
            field.clone(),
            format!("expected {expected} dimensions, found {found}"),
        ));
    }
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        let problem = format!("component {position}: expected a finite number, found {}", values[position]);
        return Err(EngineError::invalid(field.clone(), problem));
    }
    if !is_bounded(values) {
        let problem = format!("expected a norm of {MAX_NORM:e} at most, found {:.3e}", norm(values));
        return Err(EngineError::invalid(field.clone(), problem));
    }
    let metric = index.metadata().metric;
    if !metric.ranks_by_zeros() && values.iter().all(|value| *value == 0.0) {
        let problem = format!("expected other values than zeros, which rank nothing under {metric}");
        return Err(EngineError::invalid(field.clone(), problem));
    }
    Ok(())
}

fn of_interests<'q>(
    index: &Index,
    interests: &'q [Interest],
    k: usize,
) -> Result<ResolvedQuery<'q>, EngineError> {
    if interests.is_empty() || interests.len() > Limits::MAX_INTERESTS {
        let problem = format!("expected 1 to {} interests, found {}", Limits::MAX_INTERESTS, interests.len());
        return Err(EngineError::invalid(Field::Interests, problem));
    }
    let mut resolved = Vec::with_capacity(interests.len());
    for (position, interest) in interests.iter().enumerate() {
        let Interest { vector, weight, min_share } = interest;
        check_vector(index, vector, &Field::InterestVector(position))?;
        if !Limits::INTEREST_WEIGHTS.contains(weight) {
            let (least, most) = (Limits::INTEREST_WEIGHTS.start(), Limits::INTEREST_WEIGHTS.end());
            let problem = format!("expected {least} to {most}, found {weight}");
            return Err(EngineError::invalid(Field::InterestWeight(position), problem));
        }
        if !(0.0..=1.0).contains(min_share) {
            return Err(EngineError::invalid(
                Field::InterestMinShare(position),
                format!("expected 0 to 1, found {min_share}"),
            ));
        }
        resolved.push(search::Interest {
            vector: Cow::Borrowed(vector.as_slice()),
            weight: *weight,
            at_least: interest.at_least(k),
        });
    }
    let shares: f64 = interests.iter().map(|interest| decimal(interest.min_share)).sum();
    if shares > 1.0 + 1e-5 {
        let problem = format!("expected at most 1 for min_share over all interests, found {shares}");
        return Err(EngineError::invalid(Field::Interests, problem));
    }
    let (seeds, unknown_seeds) = (Vec::new(), Vec::new());
    Ok(ResolvedQuery { interests: resolved, has_interests: true, seeds, unknown_seeds })
}

fn of_seeds(
    context: &RequestContext<'_>,
    segments: &Segments,
    seeds: &[Seed],
) -> Result<ResolvedQuery<'static>, EngineError> {
    if seeds.is_empty() || seeds.len() > context.limits.max_seeds {
        let problem = format!("expected 1 to {} seeds, found {}", context.limits.max_seeds, seeds.len());
        return Err(EngineError::invalid(Field::Seeds, problem));
    }
    let index = &*segments.base().index;
    let (mut nodes, mut unknown) = (Vec::new(), Vec::new());
    let mut rows = Vec::with_capacity(seeds.len());
    for seed in seeds {
        let Some(node) = segments.node_of(seed.video_id) else {
            unknown.push(seed.video_id);
            rows.push(None);
            continue;
        };
        let (segment, local) = segments.locate(node);
        let mut row = Vec::new();
        segment.index.vectors().copy_row(local.index(), &mut row);
        rows.push(Some(row));
        nodes.push(node);
    }
    let weighted = seeds.iter().zip(&rows).map(|(seed, row)| (seed.weight, row.as_deref()));
    let query = match sum_of_seeds(weighted, index.dim(), Some(index.metadata().metric)) {
        Ok(query) => query,
        Err((Some(position), problem)) => {
            return Err(EngineError::invalid(Field::SeedWeight(position), problem));
        }
        Err((None, _)) if nodes.is_empty() => {
            return Err(EngineError::UnknownVideo { index: context.name.to_owned(), video: unknown[0] });
        }
        Err((None, problem)) => return Err(EngineError::invalid(Field::Seeds, problem)),
    };
    Ok(ResolvedQuery { seeds: nodes, unknown_seeds: unknown, ..ResolvedQuery::single(Cow::Owned(query)) })
}

/// The sum of the embeddings of seeds, `[dim]`, each times its weight; those without a row are unknown. `metric`: that of the index,
/// if it is known; without it, a sum of zeros that does not cancel out passes.
///
/// # Errors
/// What is wrong: with the weight at a position, or with the sum.
pub(crate) fn sum_of_seeds<'r>(
    seeds: impl Iterator<Item = (f32, Option<&'r [f32]>)>,
    dim: usize,
    metric: Option<Metric>,
) -> Result<Vec<f32>, (Option<usize>, String)> {
    // Products of two single-precision numbers are exact in double precision, and no sum of them overflows.
    let mut sum = vec![0f64; dim];
    let (mut weights, mut lengths) = (0f64, 0f64);
    for (position, (weight, row)) in seeds.enumerate() {
        if !weight.is_finite() {
            return Err((Some(position), format!("expected a finite number, found {weight}")));
        }
        let Some(row) = row else { continue };
        let weight = f64::from(weight);
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        weights += weight.abs();
        lengths += weight.abs() * norm(row);
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    let query: Vec<f32> = sum.iter().map(|value| *value as f32).collect();
    let is_zero = query.iter().all(|value| *value == 0.0);
    // A seed of zeros is a point under L2, but a sum that cancels out is near no seed.
    let cancels = length <= CANCELLED * lengths && (lengths > 0.0 || weights == 0.0);
    if cancels || is_zero && metric.is_some_and(|metric| !metric.ranks_by_zeros()) {
        let problem =
            format!("expected a weighted sum other than zero, found norm {length:.3e}: the seeds cancel out");
        return Err((None, problem));
    }
    if !is_bounded(&query) {
        let problem = format!("expected a weighted sum of norm {MAX_NORM:e} at most, found {length:.3e}");
        return Err((None, problem));
    }
    Ok(query)
}
