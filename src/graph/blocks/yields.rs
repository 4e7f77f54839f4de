//! When enough was scanned: as soon as the best nodes hardly change.

use std::collections::VecDeque;

use super::super::candidates::Candidate;

/// Checks per doubling of the number of scored nodes.
const LOOKS_PER_DOUBLING: usize = 2;
/// Growth of the number of scored nodes between two checks: nearly 2^(1 / [`LOOKS_PER_DOUBLING`]).
const GROWTH: f32 = 1.414;
/// Weight of the prior assumption that each doubling brings half as many of the best as the one before: it counts like this
/// many observed nodes.
const PRIOR: f32 = 4.0;
/// Upper bound of the estimated ratio between two doublings. With a ratio near 1, all remaining nodes would have to be
/// scored.
const MAX_DECAY: f32 = 0.65;

/// Decides when a scan ends. Compares how many of the best had been found when half, and when a quarter, of the nodes had
/// been scored, and extrapolates what further doublings would bring.
#[derive(Debug, Default)]
pub(super) struct Yields {
    k: usize,
    missed: f32,
    pub(super) scored: usize,
    due: usize,
    /// The scores of the best k at the last checks, latest last.
    looks: VecDeque<Vec<f32>>,
}

impl Yields {
    /// Starts a scan that may miss the share `missed` of the best `k`. The first check is due after `due` scored nodes.
    pub(super) fn reset(&mut self, k: usize, missed: f32, due: usize) {
        (self.k, self.missed, self.due) = (k, missed, due);
        self.scored = 0;
        self.looks.clear();
    }

    /// Whether the next check is due.
    pub(super) fn is_due(&self) -> bool {
        self.scored >= self.due
    }

    /// Checks whether the scan may end. `best`: the best k so far, the worst of them last.
    pub(super) fn are_done(&mut self, best: &[Candidate]) -> bool {
        self.due = (self.scored as f32 * GROWTH) as usize;
        let least = best[self.k - 1].score();
        let known_at = |look: &Vec<f32>| look.iter().filter(|score| **score >= least).count();
        let mut is_done = false;
        if is_full(&self.looks) {
            let (quarter, half) = (known_at(&self.looks[0]), known_at(&self.looks[LOOKS_PER_DOUBLING]));
            let last = self.k.saturating_sub(half) as f32;
            let before = half.saturating_sub(quarter) as f32;
            let decay = ((last + PRIOR / 2.0) / (before + PRIOR)).min(MAX_DECAY);
            is_done = last * decay / (1.0 - decay) <= self.missed * self.k as f32;
        }
        let mut look =
            if is_full(&self.looks) { self.looks.pop_front().unwrap_or_default() } else { Vec::new() };
        look.clear();
        look.extend(best.iter().map(Candidate::score));
        self.looks.push_back(look);
        is_done
    }
}

fn is_full(looks: &VecDeque<Vec<f32>>) -> bool {
    looks.len() == 2 * LOOKS_PER_DOUBLING
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of scored nodes at which a scan for the best 100 ends, if each doubling brings `decay` times as many of
    /// them as the one before.
    fn scored_until_done(decay: f32, missed: f32) -> usize {
        let mut yields = Yields::default();
        yields.reset(100, missed, 512);
        // The share that is found after `scored` nodes: what is missing shrinks with every doubling.
        let found = |scored: usize| 1.0 - decay.powf((scored as f32 / 512.0).log2());
        while yields.scored < 1 << 30 {
            yields.scored += 64;
            if !yields.is_due() {
                continue;
            }
            // The true best score at least 2. The others in the list score less, and more at every check.
            let right = (100.0 * found(yields.scored)) as u32;
            let best = |node: u32| {
                Candidate::new(
                    node,
                    if node < right { 2.0 + node as f32 } else { 1.0 - 1.0 / yields.scored as f32 },
                )
            };
            let mut best: Vec<Candidate> = (0..100).map(best).collect();
            best.sort_unstable();
            if yields.are_done(&best) {
                break;
            }
        }
        yields.scored
    }

    #[test]
    fn goes_on_as_long_as_more_come_than_may_be_missed() {
        for (decay, missed) in [(0.3, 0.02), (0.5, 0.02), (0.5, 0.1), (0.6, 0.05)] {
            let scored = scored_until_done(decay, missed);
            let left = decay.powf((scored as f32 / 512.0).log2());
            // It checks twice per doubling, and its estimate is off by a few.
            assert!(left <= 2.0 * missed + 0.02, "{decay}, {missed}: {left} left at {scored}");
            assert!(scored <= 1 << 18, "{decay}, {missed}: {scored} scored");
        }
        assert!(scored_until_done(0.5, 0.02) > scored_until_done(0.5, 0.1));
        assert!(scored_until_done(0.6, 0.05) > scored_until_done(0.3, 0.05));
    }
}
