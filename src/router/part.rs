//! The answer of one shard, checked: a replica may be of another version, misconfigured or broken.
//!
//! What flows in: an answer and what was asked. What flows out: rows, best first, and what the answer says of itself; or what is
//! impossible about it.

use tonic::Status;

use super::failure::nonsense;
use super::row::{Found, Keys};
use super::wanted::Wanted;
use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::service::proto::completeness::Reason;
use crate::service::proto::{SearchResponse, SearchStats};

/// The checked answer of one shard.
#[derive(Debug)]
pub(super) struct Part {
    /// Best first.
    pub(super) found: Vec<Found>,
    /// Why there are fewer than asked for; `None` if there are as many.
    pub(super) short: Option<Reason>,
    pub(super) facts: Facts,
}

/// What an answer says of its shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) generation: u64,
    pub(super) sequence: u64,
    pub(super) videos: u64,
    pub(super) stats: Option<SearchStats>,
}

impl Part {
    /// Checks an answer to a request for `k` candidates. `is_sorted`: whether they are in one order.
    ///
    /// # Errors
    /// What is impossible about it.
    pub(super) fn read(
        answer: SearchResponse,
        k: usize,
        shard: Shard,
        wanted: &Wanted,
        keys: &mut Keys,
    ) -> Result<Self, Status> {
        let count = answer.candidates.len();
        if count > k {
            return Err(nonsense(format!("{count} candidates where {k} were asked for")));
        }
        let completeness = answer.completeness.unwrap_or_default();
        let short = match completeness.reason() {
            Reason::Unspecified => return Err(nonsense("no reason of its completeness")),
            Reason::Complete if count < k => {
                return Err(nonsense(format!("{count} of {k} candidates are called complete")));
            }
            Reason::Complete => None,
            reason => Some(reason),
        };
        let Some(coverage) = answer.coverage else { return Err(nonsense("no coverage")) };
        let interests = wanted.rules.of_interests.len();
        for candidate in &answer.candidates {
            if candidate.score.is_nan() {
                return Err(nonsense(format!("the score of video {} is no number", candidate.video_id)));
            }
            if !shard.contains(VideoId(candidate.video_id)) {
                let id = candidate.video_id;
                return Err(nonsense(format!("video {id} does not belong to shard {shard}")));
            }
            let has_interest = candidate.interest.map(|interest| interest as usize);
            if wanted.has_interests != has_interest.is_some()
                || has_interest.is_some_and(|at| at >= interests)
            {
                return Err(nonsense(format!("interest {has_interest:?} of {interests}")));
            }
        }
        let found: Vec<Found> =
            answer.candidates.into_iter().map(|candidate| keys.row(wanted, candidate)).collect();
        if let Some(pair) = found.windows(2).find(|pair| !pair[0].row.best_first(&pair[1].row).is_lt()) {
            let (one, other) = (pair[0].row.video, pair[1].row.video);
            return Err(nonsense(format!("videos {one} and {other} are out of order or the same")));
        }
        let facts = Facts {
            generation: answer.generation,
            sequence: answer.sequence,
            videos: coverage.videos_searched,
            stats: answer.stats,
        };
        Ok(Self { found, short, facts })
    }
}
