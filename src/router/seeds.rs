//! Queries by example: the weighted sum of the embeddings of videos on several shards.
//!
//! What flows in: a request with seeds. What flows out: the same request with the vector of their sum, the seeds that the index has,
//! and those that it does not have. A seed on a shard that does not answer cannot be called unknown, so the search fails.

use tokio::time::Instant;
use tonic::Status;

use super::all::all;
use super::failure::{nonsense, unavailable};
use super::topology::ShardMap;
use super::transport::{Call, Reply};
use crate::base::id::VideoId;
use crate::engine::{EngineError, Seed, sum_of_seeds};
use crate::service::parts::{InvalidField, status, vector_values};
use crate::service::proto::lookup::State;
use crate::service::proto::search_request::Query;
use crate::service::proto::{GetRequest, SearchRequest, Vector};

/// Seeds of a query by example, found.
#[derive(Debug, Default)]
pub(super) struct FoundSeeds {
    pub(super) known: Vec<u64>,
    pub(super) unknown: Vec<u64>,
}

/// Replaces the seeds of a request by the vector of their sum. Does nothing for other queries.
///
/// # Errors
/// As one server, and `UNAVAILABLE` if a shard with a seed does not answer.
pub(super) async fn resolve(
    request: &mut SearchRequest,
    seeds: Option<&[Seed]>,
    (index, shards): (&str, &ShardMap),
    until: Instant,
    max_seeds: usize,
) -> Result<FoundSeeds, Status> {
    let Some(seeds) = seeds else { return Ok(FoundSeeds::default()) };
    if seeds.is_empty() || seeds.len() > max_seeds {
        let problem = format!("expected 1 to {max_seeds} seeds, found {}", seeds.len());
        return Err(invalid("query.seeds", problem));
    }
    let mut by_shard: Vec<Vec<usize>> = vec![Vec::new(); shards.shards.len()];
    for (position, seed) in seeds.iter().enumerate() {
        by_shard[shards.owner(seed.video_id)].push(position);
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; seeds.len()];
    let asked: Vec<(usize, Vec<usize>)> =
        by_shard.into_iter().enumerate().filter(|(_, positions)| !positions.is_empty()).collect();
    let calls = asked.iter().map(|(shard, positions)| {
        let get = GetRequest {
            index: index.to_owned(),
            video_ids: positions.iter().map(|at| seeds[*at].video_id.0).collect(),
            return_vectors: true,
            ..GetRequest::default()
        };
        let of_shard = &shards.shards[*shard];
        Box::pin(async move { of_shard.call(&Call::Get(get), until).await }) as super::all::Boxed<'_, _>
    });
    for ((shard, positions), reply) in asked.iter().zip(all(calls.collect()).await) {
        let found = match reply {
            Ok(Reply::Get(found)) if found.results.len() == positions.len() => found,
            Ok(_) => return Err(nonsense("another number of videos than were looked up")),
            Err(status) if super::failure::is_final(&status) => return Err(status),
            Err(status) => {
                return Err(unavailable(format!("shard {shard}, which has seeds: {}", status.message())));
            }
        };
        for (at, lookup) in positions.iter().zip(found.results) {
            if lookup.state() == State::Found {
                let vector = lookup.video.and_then(|video| video.vector).unwrap_or_default();
                let vector = vector_values(vector).map_err(nonsense)?;
                vectors[*at] = Some(vector);
            }
        }
    }
    let mut found = FoundSeeds::default();
    for (seed, vector) in seeds.iter().zip(&vectors) {
        let VideoId(id) = seed.video_id;
        if vector.is_some() { found.known.push(id) } else { found.unknown.push(id) }
    }
    if found.known.is_empty() {
        let (index, video) = (index.to_owned(), VideoId(found.unknown[0]));
        return Err(status::of(&EngineError::UnknownVideo { index, video }.into(), ""));
    }
    let dims: Vec<usize> = vectors.iter().flatten().map(Vec::len).collect();
    if dims.iter().any(|dim| *dim != dims[0]) {
        return Err(nonsense(format!("embeddings of {dims:?} dimensions")));
    }
    let rows = seeds.iter().zip(&vectors).map(|(seed, row)| (seed.weight, row.as_deref()));
    let sum = sum_of_seeds(rows, dims[0], None).map_err(|(position, problem)| match position {
        Some(position) => invalid(&format!("query.seeds.seeds[{position}].weight"), problem),
        None => invalid("query.seeds", problem),
    })?;
    request.query = Some(Query::Vector(Vector::packed(&sum)));
    Ok(found)
}

fn invalid(field: &str, problem: String) -> Status {
    status::of(&InvalidField::new(field, problem).into(), "")
}
