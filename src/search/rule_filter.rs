//! The sieve: which candidates of one segment pass the rules that can be checked for a single node.

use std::cmp::Ordering;

use rustc_hash::FxHashSet;

use super::caps::CapCounters;
use super::rules::{NodeRules, Segment};
use super::scorers::prefetch_ids;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::graph::Candidate;
use crate::node_set::NodeSet;

/// Candidates that are looked up between two checks of the interrupt.
const LOOKED_UP_AT_ONCE: usize = 1024;

/// How many of some candidates pass the rules.
pub(super) enum Passing {
    /// As many as wanted, after `failed` that did not.
    Enough { failed: usize },
    /// Fewer than wanted.
    TooFew { passed: usize },
    /// Interrupted.
    Unknown,
}

/// The rules of a request that are checked for one candidate after another, best first.
pub(super) struct RuleFilter<'a> {
    rules: &'a NodeRules<'a>,
    segment: &'a Segment<'a>,
    matches: Option<&'a NodeSet>,
    known: Known,
}

/// What was found when candidates were counted last. Only kept with an exclusion, where a second look-up of a node costs
/// more than a look-up here.
#[derive(Default)]
struct Known {
    /// How many of the looked-up candidates score more than this.
    above: Option<(f32, usize)>,
    /// Those of them, and perhaps others, that are not allowed.
    failed: FxHashSet<u32>,
}

impl Known {
    /// The score above which all of `found`, the best of all visited nodes, are known.
    ///
    /// The looked-up candidates are among the visited nodes: if as many score more, they are the same.
    fn above(&self, found: &[Candidate]) -> Option<f32> {
        let (score, known) = self.above?;
        let above = found.iter().filter(|candidate| scores_more(candidate, score)).count();
        (above == known && above < found.len()).then_some(score)
    }
}

/// In the order of candidates, where NaN has a place, too.
fn scores_more(candidate: &Candidate, score: f32) -> bool {
    candidate.score().total_cmp(&score).is_gt()
}

impl<'a> RuleFilter<'a> {
    pub(super) fn new(
        rules: &'a NodeRules<'a>,
        segment: &'a Segment<'a>,
        matches: Option<&'a NodeSet>,
    ) -> Self {
        Self { rules, segment, matches, known: Known::default() }
    }

    /// The segment of the nodes.
    pub(super) fn segment(&self) -> &'a Segment<'a> {
        self.segment
    }

    pub(super) fn has_caps(&self) -> bool {
        !self.rules.caps.is_empty()
    }

    /// Whether the rules may remove many of the candidates.
    pub(super) fn may_fail_many(&self) -> bool {
        self.has_caps() || self.rules.exclusion.is_some()
    }

    /// Whether a node passes every rule but the score threshold, caps and kept places.
    pub(super) fn allows(&self, node: u32) -> bool {
        self.matches.is_none_or(|matches| matches.contains(node))
            && self.segment.is_live(NodeId(node))
            && self
                .rules
                .exclusion
                .is_none_or(|excluded| !excluded.contains(self.segment.video_ids[node as usize]))
            && !self.rules.seeds.contains(&self.global(node))
    }

    /// Prefetches what [`Self::allows`] reads of the exclusion.
    pub(super) fn prefetch<'c>(&self, found: impl Iterator<Item = &'c Candidate> + Clone) {
        let Some(exclusion) = self.rules.exclusion else { return };
        prefetch_ids(self.segment.video_ids, found.clone());
        found.for_each(|candidate| exclusion.prefetch(self.segment.video_ids[candidate.node() as usize]));
    }

    /// A node of the segment, numbered over all segments.
    fn global(&self, node: u32) -> NodeId {
        NodeId(self.segment.start + node)
    }

    /// Forgets what was found when candidates were counted: they get other scores.
    pub(super) fn forget(&mut self) {
        self.known = Known::default();
    }

    /// Whether the last of all candidates scores the same as the last wanted one.
    pub(super) fn is_tied(&mut self, ranked: &[Candidate], wanted: usize) -> bool {
        match (self.count_passing(ranked, wanted, &mut Interrupt::never()), ranked.last()) {
            (Passing::Enough { failed }, Some(last)) => ranked[wanted + failed - 1].score() == last.score(),
            _ => false,
        }
    }

    /// Counts, best first, until `wanted` of the `ranked` candidates pass.
    pub(super) fn count_passing(
        &mut self,
        ranked: &[Candidate],
        wanted: usize,
        interrupt: &mut Interrupt<'_>,
    ) -> Passing {
        let remembers = self.rules.exclusion.is_some();
        self.known.failed.clear();
        let mut counters = CapCounters::default();
        let (mut passed, mut looked_up) = (0, 0);
        while passed < wanted && looked_up < ranked.len() {
            let node = ranked[looked_up].node();
            looked_up += 1;
            if looked_up.is_multiple_of(LOOKED_UP_AT_ONCE) && interrupt.should_stop() {
                self.known = Known::default();
                return Passing::Unknown;
            }
            if self.allows(node) {
                passed += usize::from(counters.take(self.rules, self.global(node)));
            } else if remembers {
                self.known.failed.insert(node);
            }
        }
        let last = ranked[..looked_up].last().filter(|_| remembers).map(Candidate::score);
        self.known.above = last.map(|last| (last, ranked.partition_point(|known| scores_more(known, last))));
        if passed == wanted {
            Passing::Enough { failed: looked_up - passed }
        } else {
            Passing::TooFew { passed }
        }
    }

    /// Leaves the allowed candidates, up to the `wanted`th for which the caps have room and those with the same score.
    /// Candidates for which the caps have no room stay: rescored, they may be better. Returns whether all
    /// allowed ones stay. `wanted`: at least 1. An interrupt leaves fewer.
    pub(super) fn retain_passing(
        &self,
        found: &mut Vec<Candidate>,
        wanted: usize,
        interrupt: &mut Interrupt<'_>,
    ) -> bool {
        let known_above = self.known.above(found);
        let is_known = |candidate: &Candidate| known_above.is_some_and(|score| scores_more(candidate, score));
        self.prefetch(found.iter().filter(|candidate| !is_known(candidate)));
        found.retain(|candidate| match is_known(candidate) {
            true => !self.known.failed.contains(&candidate.node()),
            false => self.allows(candidate.node()),
        });
        let Some(last) = self.last_passing(found, wanted, interrupt) else { return true };
        let allowed = found.len();
        // NaN, which a damaged file may contain, is not less than anything.
        found.retain(|candidate| candidate.score().partial_cmp(&last) != Some(Ordering::Less));
        found.len() == allowed
    }

    /// The score of the `wanted`th allowed candidate for which the caps have room, or of the last one before an interrupt;
    /// `None` if there are fewer.
    fn last_passing(
        &self,
        allowed: &mut [Candidate],
        wanted: usize,
        interrupt: &mut Interrupt<'_>,
    ) -> Option<f32> {
        let last = if self.rules.caps.is_empty() {
            // Selects instead of sorting, which would take longer than everything else here.
            let at = (wanted - 1 < allowed.len()).then_some(wanted - 1)?;
            *allowed.select_nth_unstable(at).1
        } else {
            allowed.sort_unstable();
            let (mut counters, mut passed) = (CapCounters::default(), 0);
            *allowed.iter().zip(1usize..).find_map(|(candidate, looked_up)| {
                passed += usize::from(counters.take(self.rules, self.global(candidate.node())));
                let is_last = passed == wanted
                    || looked_up.is_multiple_of(LOOKED_UP_AT_ONCE) && interrupt.should_stop();
                is_last.then_some(candidate)
            })?
        };
        Some(last.score())
    }
}
