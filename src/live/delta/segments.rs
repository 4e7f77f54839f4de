//! What a request is searched in: the generation, and the parts of what was written since.

use std::ops::Range;
use std::sync::Arc;

use crate::attributes::{Columns, ValueKeys, keys_of_words};
use crate::base::id::{NodeId, VideoId};
use crate::index::Index;
use crate::node_set::NodeSet;

/// Indexes that are searched together, their nodes numbered one after another: the generation, and small ones of
/// videos that were written since, newest last. Never changes; a write makes others.
#[derive(Clone, Debug)]
pub(crate) struct Segments(Vec<IndexSegment>);

/// One of the indexes.
#[derive(Clone, Debug)]
pub(crate) struct IndexSegment {
    pub(crate) index: Arc<Index>,
    /// The number of its first node.
    pub(crate) start: u32,
    /// Its nodes that are no candidates whatever is asked: a newer part has the video, or it is gone.
    pub(crate) dead: Option<Arc<Dead>>,
    /// For each attribute, keys of its words that are equal to those of the generation; empty for that itself.
    words: Arc<Vec<Option<Vec<u64>>>>,
}

/// Nodes that are no candidates.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) nodes: NodeSet,
    pub(crate) count: usize,
}

impl Segments {
    /// A generation that nothing was written to.
    pub(crate) fn whole(index: Arc<Index>) -> Self {
        Self(vec![IndexSegment { index, start: 0, dead: None, words: Arc::default() }])
    }

    /// The generation.
    pub(crate) fn base(&self) -> &IndexSegment {
        &self.0[0]
    }

    /// How many indexes there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, IndexSegment> {
        self.0.iter()
    }

    /// The generation, if that is all and every video of it can be a candidate.
    pub(crate) fn as_whole(&self) -> Option<&Index> {
        match self.0.as_slice() {
            [only] if only.dead.is_none() => Some(&only.index),
            _ => None,
        }
    }

    /// The node of a video, among those of all parts; `None` if it is not there.
    pub(crate) fn node_of(&self, video: VideoId) -> Option<NodeId> {
        self.0.iter().rev().find_map(|part| {
            let node = part.index.node_of(video).filter(|node| part.allows(*node))?;
            Some(NodeId(part.start + node.0))
        })
    }

    /// The newest part that has a video, whether it can be a candidate or not, and its node there.
    pub(crate) fn newest(&self, video: VideoId) -> Option<(usize, NodeId)> {
        self.0.iter().enumerate().rev().find_map(|(at, part)| Some((at, part.index.node_of(video)?)))
    }

    /// # Panics
    /// If there is no such part.
    pub(crate) fn part(&self, at: usize) -> &IndexSegment {
        &self.0[at]
    }

    /// Adds the newest part, all of whose nodes can be candidates.
    pub(crate) fn push(&mut self, index: Arc<Index>) {
        self.replace(self.0.len()..self.0.len(), Some(index));
    }

    /// Puts one part, all of whose nodes can be candidates, or none in the place of some.
    pub(crate) fn replace(&mut self, parts: Range<usize>, by: Option<Arc<Index>>) {
        let base = Columns::of(&self.base().index);
        let part = by.map(|index| {
            let columns = Columns::of(&index);
            let words = (0..columns.schema().len())
                .map(|column| Some(keys_of_words(&columns.words(column)?, &base.words(column)?)));
            let words = Arc::new(words.collect());
            IndexSegment { index, start: 0, dead: None, words }
        });
        self.0.splice(parts, part);
        let mut start = 0;
        for part in &mut self.0 {
            part.start = start;
            start += part.index.len() as u32;
        }
    }

    /// Lets no node of a video be a candidate.
    pub(crate) fn hide(&mut self, video: VideoId) {
        for part in &mut self.0 {
            if let Some(node) = part.index.node_of(video) {
                part.kill(node);
            }
        }
    }

    /// Lets a node of a part be no candidate.
    pub(crate) fn kill(&mut self, at: usize, node: NodeId) {
        self.0[at].kill(node);
    }

    /// Lets a node of a part be a candidate again.
    pub(crate) fn revive(&mut self, at: usize, node: NodeId) {
        let part = &mut self.0[at];
        if let Some(dead) = part.dead.as_mut().filter(|dead| dead.nodes.contains(node.0)) {
            let dead = Arc::make_mut(dead);
            dead.nodes.remove(node.0);
            dead.count -= 1;
            if dead.count == 0 {
                part.dead = None;
            }
        }
    }

    /// The part of a node, and the node in its index.
    pub(crate) fn locate(&self, node: NodeId) -> (&IndexSegment, NodeId) {
        let part = &self.0[self.at(node)];
        (part, NodeId(node.0 - part.start))
    }

    /// Which part a node is of.
    fn at(&self, node: NodeId) -> usize {
        self.0.iter().rposition(|part| part.start <= node.0).unwrap_or_default()
    }
}

impl IndexSegment {
    /// Whether a node of its index can be a candidate.
    pub(crate) fn allows(&self, node: NodeId) -> bool {
        self.dead.as_ref().is_none_or(|dead| !dead.nodes.contains(node.0))
    }

    /// How many of its nodes can be candidates.
    pub(crate) fn living(&self) -> usize {
        self.index.len() - self.dead.as_ref().map_or(0, |dead| dead.count)
    }

    fn kill(&mut self, node: NodeId) {
        let none = || Arc::new(Dead { nodes: NodeSet::none(self.index.len()), count: 0 });
        let dead = self.dead.get_or_insert_with(none);
        if !dead.nodes.contains(node.0) {
            let dead = Arc::make_mut(dead);
            dead.nodes.insert(node.0);
            dead.count += 1;
        }
    }

    /// The keys of a column, equal where values are over all parts; `None` for a type whose values are rarely equal.
    pub(crate) fn value_keys(&self, column: usize) -> Option<ValueKeys<'_>> {
        let keys = Columns::of(&self.index).value_keys(column)?;
        Some(match self.words.get(column) {
            Some(Some(words)) => keys.with_words(words),
            _ => keys,
        })
    }
}
