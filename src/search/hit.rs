//! What a search returns.

use rustc_hash::FxHashMap;

use super::loss::Loss;
use super::plan::Plan;
use super::rules::Shortfall;
use super::stages::Stages;
use crate::base::id::NodeId;
use crate::graph::Cost;

/// One node found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The node, numbered over all segments.
    pub node: NodeId,
    /// The score, by the embeddings or by codes and fine codes. Larger is better, for every metric.
    pub score: f32,
    /// The interest for which the node scores best; 0 for a single query.
    pub interest: usize,
}

/// The result of a search and its cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// At most k, best first; equal scores by video id.
    pub hits: Vec<Hit>,
    /// Why there are fewer than k; `None` if there are k, or the search was interrupted.
    pub shortfall: Option<Shortfall>,
    /// The cost.
    pub cost: Cost,
    /// How most of the hits were found.
    pub plan: Plan,
    /// Whether the plain path alone found the hits: calibrations measure its recall.
    pub is_plain: bool,
    /// Whether the search was interrupted: then the hits are the best so far.
    pub is_interrupted: bool,
    /// The longest candidate list of a search under rules; 0 without a traversal.
    pub ef_search: usize,
    /// How long its stages took, if it was timed.
    pub stages: Stages,
    /// The reserves whose places hits hold, one bit each; without those that hold none.
    pub held: FxHashMap<u32, u32>,
    /// How far the watched node got; `None` if no node was watched or it is among the hits.
    pub loss: Option<Loss>,
}

impl Found {
    /// The result of a search that was interrupted before it found anything by `plan`.
    pub fn interrupted(plan: Plan) -> Self {
        Self {
            hits: Vec::new(),
            shortfall: None,
            cost: Cost::default(),
            plan,
            is_plain: false,
            is_interrupted: true,
            ef_search: 0,
            stages: Stages::default(),
            held: FxHashMap::default(),
            loss: None,
        }
    }
}

/// A search was interrupted before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search was interrupted")]
pub struct Interrupted;
