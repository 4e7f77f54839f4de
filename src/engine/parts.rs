//! What a request is searched in: the generation, and the parts of what was written since.

use std::sync::Arc;

use crate::attributes::{Columns, ValueKeys};
use crate::graph::NodeSet;
use crate::id::{NodeId, VideoId};
use crate::index::Index;

/// Indexes that are searched together, their nodes numbered one after another: the generation, and small ones of
/// videos that were written since, newest last. Never changes; a write makes others.
#[derive(Clone, Debug)]
pub(super) struct Parts(Vec<IndexPart>);

/// One of the indexes.
#[derive(Clone, Debug)]
pub(super) struct IndexPart {
    pub(super) index: Arc<Index>,
    /// The number of its first node.
    pub(super) start: u32,
    /// Its nodes that are no candidates whatever is asked: a newer part has the video, or it is gone.
    pub(super) dead: Option<Arc<Dead>>,
    /// For each attribute, keys of its words that are equal to those of the generation; empty for that itself.
    words: Arc<Vec<Option<Vec<u64>>>>,
}

/// Nodes that are no candidates.
#[derive(Clone, Debug)]
pub(super) struct Dead {
    pub(super) nodes: NodeSet,
    pub(super) count: usize,
}

impl Parts {
    /// A generation that nothing was written to.
    pub(super) fn whole(index: Arc<Index>) -> Self {
        Self(vec![IndexPart { index, start: 0, dead: None, words: Arc::default() }])
    }

    /// The generation.
    pub(super) fn base(&self) -> &IndexPart {
        &self.0[0]
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, IndexPart> {
        self.0.iter()
    }

    /// The generation, if that is all and every video of it can be a candidate.
    pub(super) fn as_whole(&self) -> Option<&Index> {
        match self.0.as_slice() {
            [only] if only.dead.is_none() => Some(&only.index),
            _ => None,
        }
    }

    /// The node of a video, among those of all parts; `None` if it is not there.
    pub(super) fn node_of(&self, video: VideoId) -> Option<NodeId> {
        self.0.iter().rev().find_map(|part| {
            let node = part.index.node_of(video).filter(|node| part.allows(*node))?;
            Some(NodeId(part.start + node.0))
        })
    }

    /// The part of a node, and the node in its index.
    pub(super) fn locate(&self, node: NodeId) -> (&IndexPart, NodeId) {
        let part = self.0.iter().rfind(|part| part.start <= node.0).unwrap_or(self.base());
        (part, NodeId(node.0 - part.start))
    }
}

impl IndexPart {
    /// Whether a node of its index can be a candidate.
    pub(super) fn allows(&self, node: NodeId) -> bool {
        self.dead.as_ref().is_none_or(|dead| !dead.nodes.contains(node.0))
    }

    /// The keys of a column, equal where values are over all parts; `None` for a type whose values are rarely equal.
    pub(super) fn value_keys(&self, column: usize) -> Option<ValueKeys<'_>> {
        let keys = Columns::of(&self.index).value_keys(column)?;
        Some(match self.words.get(column) {
            Some(Some(words)) => keys.with_words(words),
            _ => keys,
        })
    }
}
