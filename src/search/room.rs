//! Whether a hit has room among those that were taken.

use super::caps::CapCounters;
use super::distinct::Distinct;
use super::hit::Hit;
use super::quota::HitKeys;
use crate::base::id::NodeId;

/// How many hits ahead embeddings are prefetched.
const READ_AHEAD: usize = 4;

/// The hits that were taken, as far as they keep others out.
#[derive(Debug, Default)]
pub(super) struct Room {
    caps: CapCounters,
    /// `None` if hits may be as similar as they are.
    distinct: Option<Distinct>,
}

/// Why a hit has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Cap,
    Similar,
}

impl Room {
    /// All room. `max_similarity`: of two hits; `None` for any.
    pub(super) fn new(max_similarity: Option<f32>) -> Self {
        Self { caps: CapCounters::default(), distinct: max_similarity.map(Distinct::new) }
    }

    /// Takes the room of a hit.
    ///
    /// # Errors
    /// Why it has none. Then nothing is taken. A hit without room never has any again, unless others give theirs back.
    pub(super) fn take(&mut self, keys: &impl HitKeys, node: NodeId) -> Result<(), Full> {
        let Some(distinct) = &mut self.distinct else {
            return if self.caps.take(keys, node) { Ok(()) } else { Err(Full::Cap) };
        };
        if self.caps.full_cap(keys, node).is_some() {
            return Err(Full::Cap);
        }
        if distinct.is_similar(keys, node) {
            return Err(Full::Similar);
        }
        distinct.push(keys, node);
        self.caps.take(keys, node);
        Ok(())
    }

    /// Whether the caps have room for a hit.
    pub(super) fn fits_caps(&mut self, keys: &impl HitKeys, node: NodeId) -> bool {
        keys.max_per_key().len() == 0 || self.caps.full_cap(keys, node).is_none()
    }

    /// Whether there is room for a hit.
    pub(super) fn fits(&mut self, keys: &impl HitKeys, node: NodeId) -> bool {
        self.fits_caps(keys, node)
            && self.distinct.as_mut().is_none_or(|distinct| !distinct.is_similar(keys, node))
    }

    /// Gives back the room of a hit that took it.
    pub(super) fn release(&mut self, keys: &impl HitKeys, node: NodeId) {
        self.caps.release(keys, node);
        self.distinct.iter_mut().for_each(|distinct| distinct.remove(node));
    }

    /// Reads ahead what is compared of the hits that come next.
    pub(super) fn read_ahead(&self, keys: &impl HitKeys, next: &[Hit]) {
        if self.distinct.is_some()
            && let Some(hit) = next.get(READ_AHEAD)
        {
            keys.prefetch_embedding(hit.node);
        }
    }
}
