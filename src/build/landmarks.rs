//! Landmarks: vectors near which users and rows are, with their nearly exact answers.
//!
//! In: rows in groups, and users. Out: the means of clusters of both (k-means), each with its best nodes. Users and rows count
//! equally: searches come from users, and for videos similar to others.

use super::answers::Answers;
use super::clusters::{direction, k_means};
use super::coded::CodedRows;
use super::groups::Groups;
use super::progress::{Progress, Silent};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::graph::{LandmarkTable, NODES_PER_LANDMARK};
use crate::quantize::{Bounds, Codes};

/// Landmarks per square root of the number of rows. Few lead to worse starts, and a search scores all of them.
const PER_ROOT: f64 = 3.0;
/// The most bytes that the codes of all landmarks take, since every search reads them.
const MAX_BYTES: usize = 1 << 20;
/// The least number of rows per landmark.
const LEAST_ROWS: usize = 16;
/// Users and rows per landmark in the sample for k-means.
const SAMPLE_PER_LANDMARK: usize = 16;
const ITERATIONS: usize = 3;

/// Places landmarks among `rows` and `users`, `[count × dim]`. `None` for too few rows.
pub(super) fn place<T: Element>(
    rows: &CodedRows<T>,
    groups: &Groups,
    users: &[f32],
    metric: Metric,
    progress: &dyn Progress,
) -> Option<LandmarkTable> {
    let dim = rows.dim;
    let count = (PER_ROOT * (rows.len() as f64).sqrt()) as usize;
    let count = count.min(MAX_BYTES / Codes::Sq8.stride(dim)).min(rows.len() / LEAST_ROWS);
    if count == 0 {
        return None;
    }
    progress.begin("placing landmarks", (ITERATIONS * SAMPLE_PER_LANDMARK * count) as u64);
    let sample = sample(rows, users, SAMPLE_PER_LANDMARK * count);
    let sample: Vec<&[f32]> = sample.chunks(dim).collect();
    let means = k_means(&sample, count, ITERATIONS, dim, metric, progress);
    if progress.is_cancelled() {
        return None;
    }
    let landmarks: Vec<f32> = match metric {
        Metric::L2 => means,
        Metric::InnerProduct | Metric::Cosine => means.chunks(dim).flat_map(direction).collect(),
    };
    let answers = Answers::new(rows, groups, metric, NODES_PER_LANDMARK);
    let nodes = answers.find(&landmarks, answers.groups_needed(&landmarks), &Silent).data;
    let quantizer = Codes::Sq8.train(&Bounds::of(&landmarks, dim), metric)?;
    let codes = quantizer.encode_all(&landmarks);
    let half_norms = quantizer.half_norms(&codes);
    Some(LandmarkTable { quantizer, codes, half_norms, nodes })
}

/// Returns about `count` users and rows, `[count × dim]`, half of each as far as there are enough users.
fn sample<T: Element>(rows: &CodedRows<T>, users: &[f32], count: usize) -> Vec<f32> {
    let dim = rows.dim;
    let known = users.len() / dim;
    let wanted = (count / 2).min(known);
    let of_users = (0..wanted).map(|at| at * known / wanted);
    let mut sample: Vec<f32> =
        of_users.flat_map(|user| &users[user * dim..(user + 1) * dim]).copied().collect();
    let wanted = (count - wanted).min(rows.len());
    for node in (0..wanted).map(|at| at * rows.len() / wanted) {
        sample.extend_from_slice(&T::widen(rows.row(node as u32)));
    }
    sample
}
