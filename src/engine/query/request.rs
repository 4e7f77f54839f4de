//! What is asked of the engine and what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::rules::Rules;
use crate::search::{Loss, Plan, Shortfall};

/// One search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The index by name; empty for the only one.
    pub index: String,
    /// What to search for.
    pub query: Query,
    /// How many candidates are wanted.
    pub k: usize,
    /// How hard to search.
    pub effort: Effort,
    /// How to search, for measurement; what seems fastest unless told.
    pub plan: Option<Plan>,
    /// What is asked of the candidates besides the best scores.
    pub rules: Rules,
    /// How many candidates to pass over: those of the pages before.
    pub offset: usize,
    /// Which attributes come with the candidates.
    pub return_attributes: ReturnAttributes,
    /// Whether the embeddings come with the candidates.
    pub return_vectors: bool,
    /// The model that made the query; must match the index's when given.
    pub embedding_model: Option<String>,
    /// The answer must know of every write up to this one; 0 for no matter which.
    pub min_sequence: u64,
}

/// What to search for.
#[derive(Clone, Debug)]
pub enum Query {
    /// A user embedding, `[dim]`.
    Vector(Vec<f32>),
    /// What a user is interested in. A video scores what it scores for the one it fits best.
    Interests(Vec<Interest>),
    /// Videos like these: the weighted sum of their embeddings. The seeds themselves are not returned.
    Seeds(Vec<Seed>),
}

/// One interest of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Interest {
    /// `[dim]`.
    pub vector: Vec<f32>,
    /// What its scores are multiplied with.
    pub weight: f32,
    /// The share of k, rounded down, that at least is attributed to it, where there are so many.
    pub min_share: f32,
}

/// One video of a query by example.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// The video.
    pub video_id: VideoId,
    /// Its share; negative to move away from it.
    pub weight: f32,
}

/// How hard to search.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Effort {
    /// What the server thinks sensible for k.
    #[default]
    Default,
    /// How many candidates, the best, are expanded on layer 0.
    EfSearch(usize),
    /// The least effort that is known to find this share of the true top k, above 0 and at most 1.
    TargetRecall(f32),
    /// Every video is scored: the ground truth.
    Exact,
}

/// Which attributes come with the candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReturnAttributes {
    /// None.
    #[default]
    None,
    /// All of them.
    All,
    /// These, by name.
    Named(Vec<String>),
}

/// The answer to one search, from one generation.
#[derive(Clone, Debug)]
pub struct SearchResponse {
    /// Best first; equal scores by video id.
    pub candidates: Vec<Candidate>,
    /// How many were asked for.
    pub requested: usize,
    /// Whether there are as many, and if not, why.
    pub completeness: Completeness,
    /// Seeds that are not in the index.
    pub unknown_seeds: Vec<VideoId>,
    /// The generation that answered.
    pub generation: u64,
    /// The last write that the answer knows of.
    pub sequence: u64,
    /// What the search cost.
    pub stats: SearchStats,
}

/// Whether an answer is what was asked for, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// As many candidates as were asked for.
    Complete,
    /// Fewer: there are no more.
    Short(Shortfall),
    /// The deadline came near: the best that was found until then.
    Deadline,
}

/// One retrieved video.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The video.
    pub video_id: VideoId,
    /// Larger is better, for every metric.
    pub score: f32,
    /// The position of the interest that it is attributed to; `None` where the query has none.
    pub interest: Option<usize>,
    /// The attributes asked for that have a value, by name.
    pub attributes: Vec<(String, Value)>,
    /// The embedding, `[dim]`, of norm 1 under cosine; only if it was asked for.
    pub vector: Option<Vec<f32>>,
}

/// What a search cost.
#[derive(Clone, Copy, Debug)]
pub struct SearchStats {
    /// How it was done.
    pub plan: Plan,
    /// Candidate list size used; 0 for an exact scan.
    pub ef_search: usize,
    /// Share of the true top k that this effort found of users when the generation was calibrated; `None`
    /// for an exact scan, and where that was not measured.
    pub measured_recall: Option<f64>,
    /// Nodes whose neighbor lists were read.
    pub expanded: u64,
    /// Embeddings scored.
    pub distances: u64,
    /// Time in the searcher.
    pub elapsed: Duration,
    /// How many videos match the filter; `None` without one.
    pub matches: Option<usize>,
}

/// Why a video is, or is not, in the answer to a request.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its exact score.
    pub score: f32,
    /// The interest that it is attributed to; `None` where the query has none.
    pub interest: Option<usize>,
    /// Its place among all videos that pass the rules, from 1, no places being kept; `None` if a rule keeps it out of
    /// every answer.
    pub exact_rank: Option<usize>,
    /// Whether the exact answer to the request has it.
    pub in_exact_answer: bool,
    /// Its place in the answer that the request gets, from 1; `None` if it is not there.
    pub rank: Option<usize>,
    /// The rule that keeps it out.
    pub removal: Option<Removal>,
    /// Where it was lost, if the exact answer has it and the other one has not; or that it is on an earlier page.
    pub loss: Option<Loss>,
    /// The generation that answered.
    pub generation: u64,
    /// What the search for the request cost.
    pub stats: SearchStats,
}

/// What keeps a video out of the exact answer to a request, however large its k; a kept place, out of this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// Which rule.
    pub rule: Rule,
    /// The path of it in the request, as in the proto.
    pub field: String,
    /// Why, in words.
    pub reason: String,
}

/// A rule that can keep a video out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is a seed of the query.
    Seed,
    /// It does not match the filter.
    Filter,
    /// It is excluded.
    Exclude,
    /// It scores less than the threshold.
    ScoreThreshold,
    /// Better ones take all the room of a cap.
    Cap,
    /// Its place is kept for others, which score no more.
    KeptPlace,
}

/// When to stop although the search is not done: the deadline passed or the caller is gone.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// When the answer is no longer wanted.
    pub deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

impl Budget {
    /// A budget that ends at `deadline`, if there is one.
    pub fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// Ends the budget now; every clone of it sees that.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Budget::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// When to answer with what there is, so that the answer is there before the deadline: an eighth of the time
    /// that is left is kept for the rest, but not less than half a millisecond nor more than five.
    pub fn stop_at(&self) -> Option<Instant> {
        let deadline = self.deadline?;
        let left = deadline.saturating_duration_since(Instant::now());
        deadline.checked_sub((left / 8).clamp(Duration::from_micros(500), Duration::from_millis(5)))
    }

    /// Whether the deadline passed.
    pub fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
