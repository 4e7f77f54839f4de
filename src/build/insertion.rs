//! Our own HNSW (Malkov & Yashunin 2016), inserted by all threads at once: a whole graph, or only the upper layers of one.
//!
//! Adjacency lists are atomics: readers never wait. While a list is being rewritten, readers see a mix of old and new
//! neighbors, each of them a valid node. A lock per node serializes the writers of its lists. A node is linked after all
//! its searches and from layer 0 upward: a search that finds it on one layer can continue on the layer below.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::draft::Draft;
use super::error::BuildError;
use super::params::BuildParams;
use super::progress::Progress;
use super::select::{Selectable, select};
use crate::base::element::Element;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::graph::{
    Adjacency, Candidate, Cost, NONE, Score, Scorer, Scratch, UpperLayer, beam_search, greedy_search, used,
};

/// The highest layer.
const MAX_LAYERS: usize = 16;
/// Number of nodes that are inserted one by one before the threads start: parallel insertion into a tiny graph would link
/// nodes badly.
const SEQUENTIAL_START: usize = 1024;
/// Nodes that a thread claims at a time.
const CHUNK: usize = 64;

/// Builds a whole graph over `vectors`, `[n × dim]`, on the current rayon pool. The first `regular` rows have no extreme
/// components.
pub(super) fn whole<T: Element>(
    vectors: &[T],
    dim: usize,
    regular: usize,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Draft, BuildError> {
    // Choosing 2m neighbors on layer 0 rather than m gains one point of recall at every ef for the same time.
    let m0 = 2 * params.m;
    let Inserted { layer0, upper, entry_point } = insert_all(vectors, dim, regular, params, m0, progress)?;
    let layer0 = parallel::map_chunks(&layer0, m0, ROWS_PER_TASK, |_, slots| used(slots).to_vec());
    Ok(Draft::new(params.m, layer0, upper, NodeId(entry_point)))
}

/// Builds the upper layers of a graph over `vectors`, `[n × dim]`, layer 1 first, and returns them with the entry point: an
/// HNSW over one node in `m`, drawn from the seed.
pub(super) fn upper_layers<T: Element>(
    vectors: &[T],
    dim: usize,
    regular: usize,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<(Vec<UpperLayer>, NodeId), BuildError> {
    let mut random = ChaCha8Rng::seed_from_u64(params.seed);
    let drawn = |_: &u32| random.random_range(0..params.m) == 0;
    let nodes: Vec<u32> = (0..(vectors.len() / dim) as u32).filter(drawn).collect();
    if nodes.is_empty() {
        return Ok((Vec::new(), NodeId(0)));
    }
    let row = |node: &u32| &vectors[*node as usize * dim..(*node as usize + 1) * dim];
    let rows: Vec<T> = nodes.iter().flat_map(row).copied().collect();
    let regular = nodes.partition_point(|node| (*node as usize) < regular);
    let Inserted { layer0, mut upper, entry_point } =
        insert_all(&rows, dim, regular, params, params.m, progress)?;
    // The insertion numbers the drawn nodes by their position.
    for node in upper.iter_mut().flat_map(|layer| &mut layer.nodes) {
        *node = nodes[*node as usize];
    }
    let entry_point = NodeId(nodes[entry_point as usize]);
    upper.insert(0, UpperLayer { nodes, edges: layer0 });
    Ok((upper, entry_point))
}

/// The result of inserting all nodes.
struct Inserted {
    /// `[n × m0]`.
    layer0: Vec<u32>,
    /// Layer 1 first.
    upper: Vec<UpperLayer>,
    entry_point: u32,
}

/// Inserts all rows, with `m0` slots per node on layer 0.
fn insert_all<T: Element>(
    vectors: &[T],
    dim: usize,
    regular: usize,
    params: &BuildParams,
    m0: usize,
    progress: &dyn Progress,
) -> Result<Inserted, BuildError> {
    let builder = GraphBuilder::new(Selectable { metric: params.metric, vectors, dim, regular }, params, m0);
    let nodes = builder.nodes();
    progress.begin("inserting videos", nodes as u64);
    // In random order. Near nodes have near numbers: if one cluster came after the other, hardly an edge would lead from the
    // earlier to the later ones. On real factors, recall@10 0.95 takes a third fewer distances this way.
    let mut order: Vec<u32> = (0..nodes as u32).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(params.seed));
    let insert_chunk = |chunk: std::ops::Range<usize>, scratch: &mut Scratch| {
        let inserted = chunk.len() as u64;
        for node in &order[chunk] {
            builder.insert(*node, scratch);
        }
        progress.advance(inserted);
    };
    let head = nodes.min(SEQUENTIAL_START);
    let mut scratch = Scratch::default();
    for start in (0..head).step_by(CHUNK) {
        insert_chunk(start..head.min(start + CHUNK), &mut scratch);
    }
    let next = AtomicUsize::new(head);
    rayon::broadcast(|_| {
        let mut scratch = Scratch::default();
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= nodes || progress.is_cancelled() {
                return;
            }
            insert_chunk(start..nodes.min(start + CHUNK), &mut scratch);
        }
    });
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    Ok(builder.into_inserted())
}

struct GraphBuilder<'a, T> {
    rows: Selectable<'a, T>,
    vectors: &'a [T],
    dim: usize,
    metric: Metric,
    m: usize,
    m0: usize,
    ef_construction: usize,
    /// The topmost layer of each node.
    levels: Vec<u8>,
    /// `[n × m0]`.
    layer0: Vec<AtomicU32>,
    /// By node: the position of its first list in `upper`, counted in lists; layer 1 first.
    upper_start: Vec<u32>,
    /// `[sum of levels × m]`.
    upper: Vec<AtomicU32>,
    locks: Vec<Mutex<()>>,
    /// A node of the highest level so far, [`NONE`] before the first.
    entry: AtomicU32,
    /// Locked while a node with a higher level than the entry point is inserted.
    rising: Mutex<()>,
}

impl<'a, T: Element> GraphBuilder<'a, T> {
    fn new(rows: Selectable<'a, T>, params: &BuildParams, m0: usize) -> Self {
        let Selectable { vectors, dim, .. } = rows;
        let nodes = vectors.len() / dim;
        let levels = draw_levels(nodes, params.m, params.seed);
        let mut lists = 0u32;
        let upper_start = levels.iter().map(|level| {
            let start = lists;
            lists += u32::from(*level);
            start
        });
        let upper_start = upper_start.collect();
        let unused = |slots: usize| (0..slots).map(|_| AtomicU32::new(NONE)).collect();
        Self {
            rows,
            vectors,
            dim,
            metric: params.metric,
            m: params.m,
            m0,
            ef_construction: params.ef_construction,
            levels,
            layer0: unused(nodes * m0),
            upper_start,
            upper: unused(lists as usize * params.m),
            locks: (0..nodes).map(|_| Mutex::new(())).collect(),
            entry: AtomicU32::new(NONE),
            rising: Mutex::new(()),
        }
    }

    fn nodes(&self) -> usize {
        self.levels.len()
    }

    fn level(&self, node: u32) -> usize {
        self.levels[node as usize] as usize
    }

    fn row(&self, node: u32) -> &'a [T] {
        let start = node as usize * self.dim;
        &self.vectors[start..start + self.dim]
    }

    /// Returns the slots of `node` on `layer`, which must not be above its level.
    fn list(&self, node: u32, layer: usize) -> &[AtomicU32] {
        if layer == 0 {
            let start = node as usize * self.m0;
            return &self.layer0[start..start + self.m0];
        }
        let start = (self.upper_start[node as usize] as usize + layer - 1) * self.m;
        &self.upper[start..start + self.m]
    }

    fn insert(&self, node: u32, scratch: &mut Scratch) {
        let level = self.level(node);
        let entry = self.entry.load(Ordering::Acquire);
        if entry != NONE && level <= self.level(entry) {
            self.connect(node, entry, scratch);
            return;
        }
        // The first node, or one with a higher level than all before: such nodes are inserted one at a time.
        let _rising = self.rising.lock();
        let entry = self.entry.load(Ordering::Acquire);
        if entry != NONE {
            self.connect(node, entry, scratch);
        }
        if entry == NONE || level > self.level(entry) {
            self.entry.store(node, Ordering::Release);
        }
    }

    fn connect(&self, node: u32, entry: u32, scratch: &mut Scratch) {
        let query = T::widen(self.row(node));
        let scorer = Scorer::new(self.metric, &query, self.vectors);
        let mut cost = Cost::default();
        let top = self.level(entry);
        let level = self.level(node).min(top);
        let mut nearest = Candidate::new(entry, scorer.score(entry));
        for layer in (level + 1..=top).rev() {
            nearest =
                greedy_search(&Layer { builder: self, layer }, &scorer, Some, nearest, scratch, &mut cost);
        }
        let mut selected: Vec<Vec<Candidate>> = Vec::with_capacity(level + 1);
        for layer in (0..=level).rev() {
            scratch.reset(self.nodes(), self.ef_construction);
            scratch.seed(&scorer, nearest.node(), &mut cost);
            beam_search(
                &Layer { builder: self, layer },
                &scorer,
                scratch,
                &mut cost,
                &mut Interrupt::never(),
            );
            let found = scratch.candidates.as_slice();
            nearest = found.first().copied().unwrap_or(nearest);
            let limit = if layer == 0 { self.m0 } else { self.m };
            selected.push(select(self.rows, found, limit));
        }
        for (layer, neighbors) in selected.into_iter().rev().enumerate() {
            for neighbor in &neighbors {
                self.add_edge(node, *neighbor, layer);
            }
            for neighbor in &neighbors {
                self.add_edge(neighbor.node(), Candidate::new(node, neighbor.score()), layer);
            }
        }
    }

    /// Adds an edge in a free slot; without one, selects among `to` and the present neighbors.
    fn add_edge(&self, from: u32, to: Candidate, layer: usize) {
        if from == to.node() {
            return;
        }
        let list = self.list(from, layer);
        let _writing = self.locks[from as usize].lock();
        let mut neighbors: Vec<u32> = Vec::with_capacity(list.len() + 1);
        for slot in list {
            let neighbor = slot.load(Ordering::Relaxed);
            if neighbor == NONE {
                slot.store(to.node(), Ordering::Release);
                return;
            }
            if neighbor == to.node() {
                return;
            }
            neighbors.push(neighbor);
        }
        let query = T::widen(self.row(from));
        let scorer = Scorer::new(self.metric, &query, self.vectors);
        let mut scores = vec![0.0; neighbors.len()];
        scorer.score_rows(&neighbors, &mut scores);
        let mut competing: Vec<Candidate> =
            neighbors.iter().zip(&scores).map(|(node, score)| Candidate::new(*node, *score)).collect();
        competing.push(to);
        competing.sort_unstable();
        let kept = select(self.rows, &competing, list.len());
        for (position, slot) in list.iter().enumerate() {
            slot.store(kept.get(position).map_or(NONE, Candidate::node), Ordering::Release);
        }
    }

    fn into_inserted(self) -> Inserted {
        let entry_point = self.entry.load(Ordering::Acquire);
        let upper = (1..=self.level(entry_point)).map(|layer| self.upper_layer(layer)).collect();
        let layer0 = self.layer0.into_iter().map(AtomicU32::into_inner).collect();
        Inserted { layer0, upper, entry_point }
    }

    fn upper_layer(&self, layer: usize) -> UpperLayer {
        let nodes: Vec<u32> = (0..self.nodes() as u32).filter(|node| self.level(*node) >= layer).collect();
        let slot_of = |edge: &AtomicU32| {
            let node = edge.load(Ordering::Relaxed);
            nodes.binary_search(&node).map_or(NONE, |slot| slot as u32)
        };
        let edges = nodes.iter().flat_map(|node| self.list(*node, layer)).map(slot_of).collect();
        UpperLayer { nodes, edges }
    }
}

/// One layer of a graph under construction.
struct Layer<'b, 'a, T> {
    builder: &'b GraphBuilder<'a, T>,
    layer: usize,
}

impl<T: Element> Adjacency for Layer<'_, '_, T> {
    #[inline]
    fn for_each_neighbor(&self, node: u32, mut each: impl FnMut(u32)) {
        for slot in self.builder.list(node, self.layer) {
            let neighbor = slot.load(Ordering::Relaxed);
            if neighbor == NONE {
                break;
            }
            each(neighbor);
        }
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        crate::kernel::prefetch(self.builder.list(node, self.layer));
    }
}

/// Draws the topmost layer of each node from a geometric distribution with ratio 1/m.
fn draw_levels(nodes: usize, m: usize, seed: u64) -> Vec<u8> {
    let scale = 1.0 / (m as f64).ln();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..nodes)
        .map(|_| {
            let uniform = 1.0 - random.random::<f64>();
            ((-uniform.ln() * scale) as usize).min(MAX_LAYERS) as u8
        })
        .collect()
}
