//! Arguments become messages.

use numpy::PyUntypedArrayMethods;
use prost_types::Duration;
use pyo3::prelude::*;
use shortlist::{Diversity, Places, Reserve, Sample, ScoreTerm, TermForm};
use shortlist_client::SearchRequest;
use shortlist_client::proto::score_term::decay::Over;
use shortlist_client::proto::score_term::{Clamp, Decay, Form, Linear, Log1p, Match};
use shortlist_client::proto::search_params::Effort;
use shortlist_client::proto::search_request::Query;
use shortlist_client::proto::{
    self, Cap, Exclude, Fresh, Interest, Interests, SearchParams, Seed, Seeds, Vector,
};

use crate::error::Fault;
use crate::request::{Excluded, Options, Queries, diversity_of, reserves_of, several_efforts, terms_of};

/// One request per row.
///
/// # Errors
/// For a value that no message can have; servers check all else.
pub(super) fn requests(
    queries: &Queries<'_>,
    options: &Options<'_>,
    stats: bool,
    index: &str,
    min_sequence: u64,
) -> PyResult<Vec<SearchRequest>> {
    let Options(
        k,
        efforts,
        filters,
        excluded,
        caps,
        (fresh, reserve),
        score_threshold,
        offset,
        (attributes, vectors),
        embedding_model,
        score_terms,
        diversity,
    ) = options;
    let effort = effort(*efforts)?;
    let shared = SearchRequest {
        index: index.to_owned(),
        k: number(*k, "k")?,
        params: effort.map(|effort| SearchParams { effort: Some(effort), ..Default::default() }),
        caps: caps.iter().map(cap).collect::<PyResult<_>>()?,
        fresh: fresh.as_ref().map(self::fresh).transpose()?,
        reserve: reserves_of(reserve)?.into_iter().enumerate().map(self::reserve).collect::<PyResult<_>>()?,
        diversity: diversity_of(*diversity).map(self::diversity),
        score_threshold: *score_threshold,
        score_terms: terms_of(score_terms)?.into_iter().map(score_term).collect(),
        offset: number(*offset, "offset")?,
        return_attributes: attributes.clone().unwrap_or_else(|| vec!["*".to_owned()]),
        return_vectors: *vectors,
        return_stats: stats,
        embedding_model: embedding_model.clone().unwrap_or_default(),
        min_sequence,
        ..Default::default()
    };
    let queries = self::queries(queries)?;
    let excluded = excluded.as_ref();
    let request = |(row, query): (usize, Query)| {
        let filter = if filters.len() == 1 { filters.first() } else { filters.get(row) };
        let (video_ids, text_ids) = match excluded {
            None => Default::default(),
            Some(Excluded(ids, None)) => ids.parts(0..ids.len())?,
            Some(Excluded(ids, Some(ends))) => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                ids.parts(start..ends[row])?
            }
        };
        let is_empty = video_ids.is_empty() && text_ids.is_empty();
        let exclude = (!is_empty).then(|| Exclude { video_ids, text_ids, ..Default::default() });
        let filter_text = filter.cloned().flatten().unwrap_or_default();
        Ok(SearchRequest { query: Some(query), filter_text, exclude, ..shared.clone() })
    };
    queries.into_iter().enumerate().map(request).collect()
}

fn queries(queries: &Queries<'_>) -> PyResult<Vec<Query>> {
    Ok(match queries {
        Queries::Rows(rows) => {
            let (dim, values) = (rows.shape()[1], rows.as_slice()?);
            // A row of no components is sent as it is, to be refused.
            (0..rows.shape()[0])
                .map(|row| Query::Vector(Vector::packed(&values[row * dim..(row + 1) * dim])))
                .collect()
        }
        Queries::Interests(vectors, weights, min_shares) => {
            let vectors = vectors.as_array();
            let interests = vectors.rows().into_iter().zip(weights).zip(min_shares);
            let interest =
                |((vector, weight), min_share): ((numpy::ndarray::ArrayView1<'_, f32>, &f32), &f32)| {
                    Interest {
                        vector: Some(Vector::packed(&vector.to_vec())),
                        weight: Some(*weight),
                        min_share: *min_share,
                    }
                };
            vec![Query::Interests(Interests { interests: interests.map(interest).collect() })]
        }
        Queries::Seeds(ids, weights) => {
            let (numbers, texts) = ids.parts(0..ids.len())?;
            let number = |video_id| Seed { video_id, ..Seed::default() };
            let text = |text_id| Seed { text_id, ..Seed::default() };
            let seeds = numbers.into_iter().map(number).chain(texts.into_iter().map(text));
            let weighted = |(seed, weight): (Seed, &f32)| Seed { weight: Some(*weight), ..seed };
            vec![Query::Seeds(Seeds { seeds: seeds.zip(weights).map(weighted).collect() })]
        }
    })
}

fn effort((target_recall, ef_search, exact): (Option<f32>, Option<u64>, bool)) -> PyResult<Option<Effort>> {
    Ok(match (exact, ef_search, target_recall) {
        (false, None, None) => None,
        (true, None, None) => Some(Effort::Exact(true)),
        (false, Some(ef_search), None) => Some(Effort::EfSearch(number(ef_search, "ef_search")?)),
        (false, None, Some(recall)) => Some(Effort::TargetRecall(recall)),
        _ => return Err(several_efforts(ef_search.is_some()).into()),
    })
}

fn score_term(term: ScoreTerm) -> proto::ScoreTerm {
    let ScoreTerm { attribute, weight, form } = term;
    let form = match form {
        TermForm::Linear => Form::Linear(Linear {}),
        TermForm::Log1p => Form::Log1p(Log1p {}),
        TermForm::Clamp { from, to } => Form::Clamp(Clamp { from, to }),
        TermForm::HalfLife(half_life) => {
            let half_life = Duration { seconds: half_life.as_secs(), nanos: half_life.subsec_nanos() };
            Form::Decay(Decay { over: Some(Over::HalfLife(half_life)) })
        }
        TermForm::Window(window) => {
            let window = Duration { seconds: window.as_secs(), nanos: window.subsec_nanos() };
            Form::Decay(Decay { over: Some(Over::Window(window)) })
        }
        TermForm::Match { any_of } => Form::Match(Match { any_of }),
    };
    proto::ScoreTerm { attribute, weight, form: Some(form) }
}

fn cap((attribute, most): &(String, u64)) -> PyResult<Cap> {
    let max_per_value = number(*most, &format!("caps[{attribute:?}]"))?;
    Ok(Cap { attribute: attribute.clone(), max_per_value })
}

fn fresh((attribute, micros, at_least): &(String, i64, u64)) -> PyResult<Fresh> {
    let nanos = i32::try_from(micros % 1_000_000).unwrap_or_default() * 1000;
    Ok(Fresh {
        attribute: attribute.clone(),
        // The largest duration of a message is 10,000 years.
        within: Some(Duration { seconds: (micros / 1_000_000).min(315_576_000_000), nanos }),
        at_least: number(*at_least, "fresh.at_least")?,
    })
}

fn reserve((at, reserve): (usize, Reserve)) -> PyResult<proto::Reserve> {
    let Reserve { filter, places, sample } = reserve;
    Ok(proto::Reserve {
        filter: None,
        filter_text: filter.to_string(),
        places: Some(match places {
            Places::AtLeast(count) => {
                proto::reserve::Places::AtLeast(number(count as u64, &format!("reserve[{at}].at_least"))?)
            }
            Places::Share(share) => proto::reserve::Places::Share(share),
        }),
        sample: sample.map(|Sample { temperature, seed }| proto::reserve::Sample { temperature, seed }),
    })
}

fn diversity(Diversity { max_similarity, lambda }: Diversity) -> proto::Diversity {
    proto::Diversity { max_similarity, lambda }
}

fn number(number: u64, field: &str) -> PyResult<u32> {
    let wrong = || Fault::invalid(field, format!("expected at most {}, found {number}", u32::MAX));
    Ok(u32::try_from(number).map_err(|_| wrong())?)
}
