//! Requests to the engine, and its answers.

use std::time::{Duration, Instant};

use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::engine::field::Field;
use crate::rules::{Rules, decimal, share_of};
use crate::search::{Loss, Plan, Shortfall, Stage};

/// One search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The name of the index; empty for the only one.
    pub index: String,
    /// What to search for.
    pub query: Query,
    /// How many candidates are wanted.
    pub k: usize,
    /// How much effort to spend.
    pub effort: Effort,
    /// The k that the effort is chosen for, unless the request sets it; `k` if that is larger.
    pub effort_k: usize,
    /// A forced plan, for measurements; `None` for the fastest.
    pub plan: Option<Plan>,
    /// What the candidates must satisfy in addition to the best scores.
    pub rules: Rules,
    /// Whether candidates name the reserves that they match, instead of those whose places they hold.
    pub marks_matches: bool,
    /// How many candidates to skip: the pages before.
    pub offset: usize,
    /// Which attributes to return with the candidates.
    pub return_attributes: ReturnAttributes,
    /// Whether to return the embeddings of the candidates.
    pub return_vectors: bool,
    /// The model of the query embedding; if set, it must be the model of the index.
    pub embedding_model: Option<String>,
    /// The answer must include every write up to this sequence number; 0 accepts any.
    pub min_sequence: u64,
    /// The generation that must answer: that of the pages before; `None` for any.
    pub generation: Option<u64>,
}

impl SearchRequest {
    /// The same search for ids and scores only.
    pub(crate) fn without_contents(&self) -> Self {
        Self { return_attributes: ReturnAttributes::None, return_vectors: false, ..self.clone() }
    }
}

/// What to search for.
#[derive(Clone, Debug)]
pub enum Query {
    /// A user embedding, `[dim]`.
    Vector(Vec<f32>),
    /// The interests of a user. The score of a video is its best score over all of them.
    Interests(Vec<Interest>),
    /// Videos like these: the weighted sum of their embeddings. The seeds themselves are not returned.
    Seeds(Vec<Seed>),
}

/// One interest of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Interest {
    /// `[dim]`.
    pub vector: Vec<f32>,
    /// Its scores are multiplied by it.
    pub weight: f32,
    /// The least share of k, rounded down, that is attributed to it, if there are that many.
    pub min_share: f32,
}

impl Interest {
    /// How many of `k` candidates are kept for it.
    pub(crate) fn at_least(&self, k: usize) -> usize {
        share_of(self.min_share, k)
    }
}

/// One video of a query by example.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// The video.
    pub video_id: VideoId,
    /// Its weight in the sum; negative to move away from it.
    pub weight: f32,
}

/// The effort of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Effort {
    /// The default for k.
    #[default]
    Default,
    /// The length of the candidate list on layer 0.
    EfSearch(usize),
    /// The least effort that finds this share of the true top k by the calibration; above 0 and at most 1.
    TargetRecall(f32),
    /// Score every video: the ground truth.
    Exact,
}

impl Effort {
    /// Its name in traces and logs.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Default => "default",
            Effort::EfSearch(_) => "ef_search",
            Effort::TargetRecall(_) => "target_recall",
            Effort::Exact => "exact",
        }
    }

    /// The recall to reach, as the caller wrote it; `None` for another kind of effort.
    pub fn target(self) -> Option<f64> {
        match self {
            Effort::TargetRecall(recall) => Some(decimal(recall)),
            _ => None,
        }
    }
}

/// Which attributes to return with the candidates.
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
    /// How many were requested.
    pub requested: usize,
    /// Whether there are that many, and if not, why.
    pub completeness: Completeness,
    /// Seeds that are not in the index.
    pub unknown_seeds: Vec<VideoId>,
    /// The generation that answered.
    pub generation: u64,
    /// The sequence number of the last write that the answer includes.
    pub sequence: u64,
    /// Videos that it was chosen from, before any rule.
    pub videos: u64,
    /// The cost of the search.
    pub stats: SearchStats,
}

/// Whether an answer is complete, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// As many candidates as requested.
    Complete,
    /// Fewer, since there are no more.
    Short(Shortfall),
    /// The deadline was near: the best candidates so far.
    Deadline,
}

/// One retrieved video.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The video.
    pub video_id: VideoId,
    /// Its id as text, if the index has text ids.
    pub text_id: Option<String>,
    /// Larger is better, for every metric.
    pub score: f32,
    /// The position of the interest that it is attributed to; `None` for a query without interests.
    pub interest: Option<usize>,
    /// The requested attributes that are not null, by name.
    pub attributes: Vec<(String, Value)>,
    /// The embedding, `[dim]`, of norm 1 under cosine; only if requested.
    pub vector: Option<Vec<f32>>,
    /// What each score term adds to the score, in the order of the request.
    pub terms: Vec<f32>,
    /// The positions of the reserves whose places it holds. With [`SearchRequest::marks_matches`], those that it matches.
    pub reserved: Vec<usize>,
}

/// The cost of a search.
#[derive(Clone, Copy, Debug)]
pub struct SearchStats {
    /// The plan.
    pub plan: Plan,
    /// Length of the candidate list; 0 for an exact scan.
    pub ef_search: usize,
    /// Average recall@k over users that the calibration measured for this effort; `None` for an exact scan, a search with
    /// rules, or a generation that is not calibrated.
    pub measured_recall: Option<f64>,
    /// Nodes whose neighbor lists were read.
    pub expanded: u64,
    /// Embeddings scored.
    pub distances: u64,
    /// Time spent searching.
    pub elapsed: Duration,
    /// How many videos match the filter; `None` without one.
    pub matches: Option<usize>,
    /// How long its stages took; `None` unless the budget asks for it.
    pub stages: Option<SearchStages>,
}

/// When the stages of one search began and ended.
#[derive(Clone, Copy, Debug)]
pub struct SearchStages {
    /// When planning began: checking the request, resolving its query, its effort and its rules.
    pub began: Instant,
    /// When planning ended, and the search among the nodes began.
    pub planned: Instant,
    /// When that ended.
    pub searched: Instant,
    /// The part of the search that scored candidates again.
    pub rescoring: Option<Stage>,
    /// The part of the search that chose hits under rules.
    pub choosing: Option<Stage>,
}

/// Why a video is, or is not, in the answer to a request.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its score.
    pub score: f32,
    /// What each score term adds to it, in the order of the request.
    pub terms: Vec<f32>,
    /// The interest that it is attributed to; `None` for a query without interests.
    pub interest: Option<usize>,
    /// Its rank among all videos that pass the rules, from 1, without kept places; `None` if a rule keeps it out of every
    /// answer.
    pub exact_rank: Option<usize>,
    /// Whether it is in the exact answer to the request.
    pub in_exact_answer: bool,
    /// Its rank in the answer that the request gets, from 1; `None` if it is not there.
    pub rank: Option<usize>,
    /// The rule that keeps it out.
    pub removal: Option<Removal>,
    /// Where the search lost it, if only the exact answer contains it; or that it is on an earlier page.
    pub loss: Option<Loss>,
    /// The generation that answered.
    pub generation: u64,
    /// The cost of the search for the request.
    pub stats: SearchStats,
}

/// What keeps a video out of the exact answer to a request: a kept place only for this k, any other rule for every k.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// Which rule.
    pub rule: Rule,
    /// The field of the request that has the rule.
    pub field: Field,
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
    /// Better videos fill a cap.
    Cap,
    /// Its place is kept for other videos, which do not score higher.
    KeptPlace,
    /// It is too similar to better videos.
    Diversity,
}
