//! Exact answers to requests, under the same rules.

use rayon::prelude::*;

use super::file::{Request, Requests};
use super::target::{RequestSweepError, Target};
use crate::base::id::VideoId;
use crate::engine::{Budget, Candidate, Effort, Query};

/// The exact answer to every request, for every k.
#[derive(Debug)]
pub struct ExactAnswers {
    ks: Vec<usize>,
    /// `[request][k]`.
    answers: Vec<Vec<ExactAnswer>>,
}

/// The exact answer to one request for some k.
#[derive(Debug)]
pub(super) struct ExactAnswer {
    /// Best first.
    pub(super) ids: Vec<VideoId>,
    /// The score of each.
    pub(super) scores: Vec<f32>,
    /// Number of candidates attributed to each interest.
    pub(super) by_interest: Vec<usize>,
}

impl ExactAnswers {
    /// Answers every request for every k of `ks`, on the current rayon pool. Calls `done` after each request.
    ///
    /// # Errors
    /// [`RequestSweepError`] for a line that the engine refuses.
    pub fn of(
        target: &Target<'_>,
        requests: &Requests,
        ks: &[usize],
        done: impl Fn() + Sync,
    ) -> Result<Self, RequestSweepError> {
        let largest = ks.iter().copied().max().ok_or(RequestSweepError::Nothing("k"))?;
        let answers = |request: &Request| {
            let candidates = |k: usize| {
                let search = request.search(target.name, k, Effort::Exact, None);
                let answer = target.engine.search(&search, &Budget::default());
                let refused = |error| RequestSweepError::refused(request, &error);
                answer.map(|answer| answer.candidates).map_err(refused)
            };
            let interests = match &request.query {
                Query::Interests(interests) => interests.len(),
                Query::Vector(_) | Query::Seeds(_) => 0,
            };
            let of_largest = if request.keeps_places() { None } else { Some(candidates(largest)?) };
            let of_k = |k: &usize| match &of_largest {
                Some(all) => Ok(ExactAnswer::of(&all[..all.len().min(*k)], interests)),
                None => Ok(ExactAnswer::of(&candidates(*k)?, interests)),
            };
            let answers = ks.iter().map(of_k).collect();
            done();
            answers
        };
        let answers = requests.all().par_iter().map(answers).collect::<Result<_, _>>()?;
        Ok(Self { ks: ks.to_vec(), answers })
    }

    /// The answer to the request at position `request`.
    ///
    /// # Panics
    /// If `k` was not among `ks`.
    pub(super) fn get(&self, request: usize, k: usize) -> &ExactAnswer {
        let at =
            self.ks.iter().position(|other| *other == k).expect("k is among the ks of the exact answers");
        &self.answers[request][at]
    }
}

impl ExactAnswer {
    fn of(candidates: &[Candidate], interests: usize) -> Self {
        let ids = candidates.iter().map(|candidate| candidate.video_id).collect();
        let scores = candidates.iter().map(|candidate| candidate.score).collect();
        let mut by_interest = vec![0; interests];
        candidates.iter().filter_map(|candidate| candidate.interest).for_each(|at| by_interest[at] += 1);
        Self { ids, scores, by_interest }
    }
}
