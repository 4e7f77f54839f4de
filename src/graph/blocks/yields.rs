//! When enough was scanned: as soon as the best hardly change any more.

use std::collections::VecDeque;

use super::super::candidates::Candidate;

/// Looks per doubling of what was scored.
const LOOKS_PER_DOUBLING: usize = 2;
/// What grows so much from look to look doubles that often, nearly.
const GROWTH: f32 = 1.414;
/// A doubling brings a share of the best that the doubling before brought: half, as far as is known before they are
/// counted, which is worth as much as so many that were.
const PRIOR: f32 = 4.0;
/// However slowly it goes down: where nothing gets better any more, all of the rest would have to be scored.
const MAX_DECAY: f32 = 0.65;

/// Looks now and then how many of the best were found when a half, and a quarter, of what was scored had been: what
/// the next doublings would bring goes on as those went.
#[derive(Debug, Default)]
pub(super) struct Yields {
    k: usize,
    missed: f32,
    pub(super) scored: usize,
    due: usize,
    /// The scores of the best k at the last looks, the latest last.
    looks: VecDeque<Vec<f32>>,
}

impl Yields {
    /// Begins again: of the best `k` a share may be `missed`, and the first look is due when so many were scored.
    pub(super) fn reset(&mut self, k: usize, missed: f32, due: usize) {
        (self.k, self.missed, self.due) = (k, missed, due);
        self.scored = 0;
        self.looks.clear();
    }

    /// Whether it is time for another look.
    pub(super) fn is_due(&self) -> bool {
        self.scored >= self.due
    }

    /// Takes another look: whether so few of `best`, the best k so far and the worst of them at the end, came lately that
    /// others would hardly bring any.
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

    /// How many were scored when it was enough, where of the best 100 each doubling brings `decay` of what the one before
    /// brought.
    fn scored_until_done(decay: f32, missed: f32) -> usize {
        let mut yields = Yields::default();
        yields.reset(100, missed, 512);
        // What is found by the time that so much was scored: all but a share that gets less with every doubling.
        let found = |scored: usize| 1.0 - decay.powf((scored as f32 / 512.0).log2());
        while yields.scored < 1 << 30 {
            yields.scored += 64;
            if !yields.is_due() {
                continue;
            }
            // The best that there are score 2 and more; those that still stand for them score less, and better every time.
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
            // It looks twice per doubling, and what it expects is a guess of a few.
            assert!(left <= 2.0 * missed + 0.02, "{decay}, {missed}: {left} left at {scored}");
            assert!(scored <= 1 << 18, "{decay}, {missed}: {scored} scored");
        }
        assert!(scored_until_done(0.5, 0.02) > scored_until_done(0.5, 0.1));
        assert!(scored_until_done(0.6, 0.05) > scored_until_done(0.3, 0.05));
    }
}
