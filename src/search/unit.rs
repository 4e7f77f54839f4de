//! Embeddings of norm 1, by whose products and distances hits are compared with each other.

use super::quota::HitKeys;
use super::rules::NodeRules;
use crate::base::id::NodeId;
use crate::kernel::{Kernels, normalize};

/// Squared norms whose square root is exact enough to divide by.
const PLAIN_NORMS: std::ops::RangeInclusive<f32> = 1e-20..=1e20;

/// The cosine of the embeddings of two nodes; 0 for zeros.
pub fn similarity(rules: &NodeRules<'_>, one: NodeId, other: NodeId) -> f32 {
    let (mut raw, mut unit, mut of_other) = (Vec::new(), Vec::new(), Vec::new());
    read_unit(rules, one, &mut raw, &mut unit);
    read_unit(rules, other, &mut raw, &mut of_other);
    Kernels::get().dot(&unit, &of_other)
}

/// Reads the embedding of a hit into `unit`, scaled to norm 1; zeros stay zeros. `raw`: memory for it as it is stored.
pub(super) fn read_unit(keys: &impl HitKeys, node: NodeId, raw: &mut Vec<f32>, unit: &mut Vec<f32>) {
    keys.copy_embedding(node, raw);
    let squared = Kernels::get().norm_squared(raw);
    let scale = if PLAIN_NORMS.contains(&squared) {
        1.0 / squared.sqrt()
    } else {
        normalize(raw);
        1.0
    };
    unit.clear();
    unit.extend(raw.iter().map(|value| value * scale));
}
