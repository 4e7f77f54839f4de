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
        if wanted.is_diverse() {
            for candidate in &answer.candidates {
                let vector = candidate.vector.as_ref();
                vector.map_or(Ok(()), |vector| {
                    keys.check_dim(VideoId(candidate.video_id), vector.values.len())
                })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use crate::service::proto::{Candidate, Completeness, Coverage, SearchRequest};

    /// Ids of the first shard of two, in ascending order.
    fn ids() -> Vec<u64> {
        let shard = Shard::new(0, 2).unwrap();
        (0..).filter(|id| shard.contains(VideoId(*id))).take(4).collect()
    }

    fn answer(scores: &[f32]) -> SearchResponse {
        let candidate =
            |(id, score): (u64, &f32)| Candidate { video_id: id, score: *score, ..Candidate::default() };
        let returned = scores.len() as u32;
        SearchResponse {
            candidates: ids().into_iter().zip(scores).map(candidate).collect(),
            completeness: Some(Completeness {
                requested: 3,
                returned,
                reason: Reason::IndexExhausted.into(),
            }),
            coverage: Some(Coverage { videos_searched: 9, ..Coverage::default() }),
            ..SearchResponse::default()
        }
    }

    fn read(answer: SearchResponse) -> Result<Part, String> {
        let (request, checked) = (SearchRequest::default(), engine::SearchRequest::default());
        let wanted = Wanted::of(request, &checked, 2, Vec::new(), usize::MAX).unwrap();
        let shard = Shard::new(0, 2).unwrap();
        Part::read(answer, 3, shard, &wanted, &mut Keys::default())
            .map_err(|status| status.message().to_owned())
    }

    #[test]
    fn nonsense_of_a_replica_is_named() {
        let part = read(answer(&[2.0, 1.0])).unwrap();
        assert_eq!((part.found.len(), part.short, part.facts.videos), (2, Some(Reason::IndexExhausted), 9));
        let refused = |answer: SearchResponse| read(answer).unwrap_err();
        let prefix = "a replica sent an impossible answer: ";
        let expect = |answer, problem: &str| assert_eq!(refused(answer), format!("{prefix}{problem}"));
        let [first, second, ..] = ids()[..] else { panic!() };
        expect(answer(&[4.0, 3.0, 2.0, 1.0]), "4 candidates where 3 were asked for");
        expect(answer(&[1.0, f32::NAN]), &format!("the score of video {second} is no number"));
        expect(answer(&[1.0, 2.0]), &format!("videos {first} and {second} are out of order or the same"));
        let mut twice = answer(&[1.0, 1.0]);
        twice.candidates[1].video_id = first;
        expect(twice, &format!("videos {first} and {first} are out of order or the same"));
        let mut other = answer(&[1.0]);
        other.candidates[0].video_id = (0..).find(|id| !ids().contains(id)).unwrap();
        let id = other.candidates[0].video_id;
        expect(other, &format!("video {id} does not belong to shard 0/2"));
        let mut interest = answer(&[1.0]);
        interest.candidates[0].interest = Some(3);
        expect(interest, "interest Some(3) of 0");
        let mut complete = answer(&[1.0]);
        complete.completeness.as_mut().unwrap().set_reason(Reason::Complete);
        expect(complete, "1 of 3 candidates are called complete");
        expect(SearchResponse { completeness: None, ..answer(&[1.0]) }, "no reason of its completeness");
        expect(SearchResponse { coverage: None, ..answer(&[1.0]) }, "no coverage");
    }
}
