//! Asks shards together, and keeps what is known of each.
//!
//! What flows in: requests to shards. What flows out: checked parts of those that answer. A shard that does not answer is lost for
//! the search, and another round does not ask it again.

use prost::Message as _;
use tonic::Status;

use super::all::{Boxed, all};
use super::failure::{is_final, lacks_generation, lacks_writes};
use super::part::{Facts, Part};
use super::row::Keys;
use super::wanted::Wanted;
use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::service::proto::completeness::Reason;
use crate::service::proto::{SearchRequest, SearchResponse};

/// Most bytes of requests to shards at once, except for a single one. With a Bloom filter or a long filter, all requests of a round could
/// take more memory than a call may have.
const MOST_BYTES: usize = 4 << 20;

/// Videos whose embeddings are looked up in one call,
const LOOKED_UP_AT_ONCE: usize = 500;
/// and how many such calls run at a time.
const CALLS_AT_ONCE: usize = 16;

/// Asks one shard.
pub(super) trait Ask: Sync {
    /// The shards, by position.
    fn shards(&self) -> &[Shard];

    /// Searches one shard.
    fn ask(&self, shard: usize, request: SearchRequest) -> Boxed<'_, Result<SearchResponse, Status>>;

    /// Looks up the embeddings of videos of one shard, in their order; `None` for those that it does not have any more.
    fn embeddings(&self, shard: usize, videos: Vec<u64>) -> Boxed<'_, Result<Vec<Option<Vec<f32>>>, Status>>;

    /// Told of each round of calls after the first.
    fn asks_again(&self) {}
}

/// What is known of all shards during one search.
pub(super) struct Gather<'a> {
    ask: &'a dyn Ask,
    pub(super) wanted: &'a Wanted,
    pub(super) keys: Keys,
    /// By shard: what its last answer says; `None` if it has not answered.
    pub(super) facts: Vec<Option<Facts>>,
    /// By shard: why it is not asked any more.
    pub(super) lost: Vec<Option<Status>>,
    /// Whether a shard was cut short by the deadline, or lost after its first answer.
    pub(super) is_late: bool,
    rounds: usize,
}

impl<'a> Gather<'a> {
    pub(super) fn new(ask: &'a dyn Ask, wanted: &'a Wanted) -> Self {
        let shards = ask.shards().len();
        Self {
            ask,
            wanted,
            keys: Keys::default(),
            facts: vec![None; shards],
            lost: vec![None; shards],
            is_late: false,
            rounds: 0,
        }
    }

    /// The number of shards.
    pub(super) fn count(&self) -> usize {
        self.facts.len()
    }

    /// The shards that are not lost.
    pub(super) fn live(&self) -> impl Iterator<Item = usize> + use<> {
        let live: Vec<usize> = (0..self.count()).filter(|at| self.lost[*at].is_none()).collect();
        live.into_iter()
    }

    /// Sends a request to each of `shards`, long ones a few at a time. `request`: the one at a position. Returns the parts of those that
    /// answer, with the position of the request.
    ///
    /// # Errors
    /// If a shard says that the request is to blame, or that it lacks writes or a generation that the caller has seen.
    pub(super) async fn fetch(
        &mut self,
        shards: &[usize],
        request: &(dyn Fn(usize) -> SearchRequest + Sync),
    ) -> Result<Vec<(usize, usize, Part)>, Status> {
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        if self.rounds > 0 {
            self.ask.asks_again();
        }
        self.rounds += 1;
        let mut parts = Vec::with_capacity(shards.len());
        let mut left = shards.iter().copied().enumerate().peekable();
        while left.peek().is_some() {
            let mut bytes = 0;
            let (mut asked, mut calls) = (Vec::new(), Vec::new());
            while bytes < MOST_BYTES
                && let Some((position, shard)) = left.next()
            {
                if self.lost[shard].is_none() {
                    let request = request(position);
                    bytes += request.encoded_len();
                    asked.push((position, shard, request.k as usize));
                    calls.push(self.ask.ask(shard, request));
                }
            }
            let answers = all(calls).await;
            self.read(asked, answers, &mut parts)?;
        }
        Ok(parts)
    }

    /// Looks up the embeddings of videos that are not known. Those of a shard that does not answer stay unknown.
    ///
    /// # Errors
    /// If a shard sends embeddings of another dimension.
    pub(super) async fn fetch_embeddings(&mut self, videos: &[VideoId]) -> Result<(), Status> {
        let of = self.count() as u32;
        let mut by_shard: Vec<Vec<u64>> = vec![Vec::new(); self.count()];
        let unknown = videos.iter().filter(|video| !self.keys.embeddings.contains_key(video));
        unknown.for_each(|video| by_shard[Shard::of_video(*video, of) as usize].push(video.0));
        let mut asked = Vec::new();
        for (shard, videos) in by_shard.iter().enumerate().filter(|(shard, _)| self.lost[*shard].is_none()) {
            asked.extend(videos.chunks(LOOKED_UP_AT_ONCE).map(|videos| (shard, videos.to_vec())));
        }
        for some in asked.chunks(CALLS_AT_ONCE) {
            let calls = some.iter().map(|(shard, videos)| self.ask.embeddings(*shard, videos.clone()));
            let answers = all(calls.collect()).await;
            for ((shard, videos), answer) in some.iter().zip(answers) {
                match answer {
                    Ok(found) => {
                        for (video, row) in videos.iter().zip(found) {
                            let Some(row) = row else { continue };
                            self.keys.check_dim(VideoId(*video), row.len())?;
                            self.keys.embeddings.insert(VideoId(*video), row.into());
                        }
                    }
                    Err(status) => {
                        self.is_late = true;
                        self.lost[*shard] = Some(status);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the answers of shards to requests for `k` candidates.
    fn read(
        &mut self,
        asked: Vec<(usize, usize, usize)>,
        answers: Vec<Result<SearchResponse, Status>>,
        parts: &mut Vec<(usize, usize, Part)>,
    ) -> Result<(), Status> {
        for ((position, shard, k), answer) in asked.into_iter().zip(answers) {
            let of = self.ask.shards()[shard];
            let part = answer.and_then(|answer| Part::read(answer, k, of, self.wanted, &mut self.keys));
            match part {
                Ok(part) => {
                    // One of several requests to this shard may have been lost.
                    self.is_late |= part.short == Some(Reason::Deadline) || self.lost[shard].is_some();
                    self.keep(shard, &part.facts);
                    parts.push((position, shard, part));
                }
                Err(status) if is_final(&status) || lacks_writes(&status) || lacks_generation(&status) => {
                    return Err(status);
                }
                Err(status) => {
                    tracing::debug!(shard = %of, %status, "a shard is lost for a search");
                    self.is_late |= self.facts[shard].is_some();
                    self.lost[shard] = Some(status);
                }
            }
        }
        Ok(())
    }

    /// Keeps what the last answer of a shard says, and the sum of its costs.
    fn keep(&mut self, shard: usize, facts: &Facts) {
        let mut facts = facts.clone();
        if let Some(before) = &self.facts[shard] {
            if let (Some(stats), Some(before)) = (&mut facts.stats, &before.stats) {
                super::stats::add(stats, before);
                // Further rounds have other filters.
                super::stats::keep_matches(stats, before);
            }
            facts.sequence = facts.sequence.min(before.sequence);
        }
        self.facts[shard] = Some(facts);
    }
}
