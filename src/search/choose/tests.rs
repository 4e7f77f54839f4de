//! Pages chosen one after another, against the rule read word for word: each page from a list without the hits before.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::room::Full;
use super::*;

/// Made-up keys of made-up hits, by node.
struct Keys {
    caps: Vec<(usize, Vec<u64>)>,
    /// The reserves of each hit.
    reserves: Vec<Groups>,
}

impl HitKeys for Keys {
    fn max_per_key(&self) -> impl ExactSizeIterator<Item = usize> {
        self.caps.iter().map(|(max, _)| *max)
    }

    fn append_keys(&self, cap: usize, node: NodeId, keys: &mut Vec<u64>) {
        keys.push(self.caps[cap].1[node.index()]);
    }

    fn reserves(&self, node: NodeId) -> Groups {
        self.reserves[node.index()]
    }

    /// One of five directions.
    fn copy_embedding(&self, node: NodeId, row: &mut Vec<f32>) {
        row.clear();
        row.extend((0..5).map(|at| f32::from(u8::from(at == node.index() % 5))));
    }

    fn prefetch_embedding(&self, _: NodeId) {}
}

/// From the best hit down, over all hits that are left.
fn naive(ranked: &[Hit], quota: &Quota, keys: &Keys, room: &mut Room) -> Choice {
    let k = quota.size;
    let mut unmet = quota.kept.clone();
    let mut kept: usize = unmet.iter().sum();
    let at_first = |unmet: &usize| if *unmet > 0 { f32::NEG_INFINITY } else { f32::INFINITY };
    let mut filled: Vec<f32> = unmet.iter().map(at_first).collect();
    let (mut held, mut lowest_plain) = (Vec::new(), f32::INFINITY);
    let mut taken: Vec<(usize, Hit)> = Vec::new();
    let mut passed_over = VecDeque::new();
    let (mut is_capped, mut is_similar, mut is_below) = (false, false, false);
    let mut take = |node| match room.take(keys, node) {
        Ok(()) => true,
        Err(Full::Cap) => {
            is_capped = true;
            false
        }
        Err(Full::Similar) => {
            is_similar = true;
            false
        }
    };
    for (at, hit) in ranked.iter().enumerate() {
        if taken.len() == k {
            break;
        }
        if quota.is_below(hit) {
            is_below = true;
            break;
        }
        let is_of = |group: &usize| match group.checked_sub(quota.reserves) {
            Some(interest) => interest == hit.interest,
            None => keys.reserves(hit.node) >> group & 1 != 0,
        };
        let fills: Vec<usize> = (0..unmet.len()).filter(|group| unmet[*group] > 0 && is_of(group)).collect();
        if k - taken.len() - 1 < kept - fills.len() {
            passed_over.push_back((at, *hit));
        } else if take(hit.node) {
            kept -= fills.len();
            for group in &fills {
                unmet[*group] -= 1;
                filled[*group] = if unmet[*group] == 0 { hit.score } else { filled[*group] };
            }
            match fills.as_slice() {
                [] => lowest_plain = hit.score,
                fills => held.push((hit.node, fills.iter().map(|group| 1 << group).sum())),
            }
            taken.push((at, *hit));
            while k - taken.len() > kept
                && let Some((at, hit)) = passed_over.pop_front()
            {
                if take(hit.node) {
                    taken.push((at, hit));
                }
            }
        }
    }
    for (at, hit) in passed_over {
        if taken.len() == k {
            break;
        }
        if take(hit.node) {
            taken.push((at, hit));
        }
    }
    taken.sort_unstable_by_key(|(at, _)| *at);
    let taken = taken.into_iter().map(|(_, hit)| hit).collect();
    Choice { taken, held, filled, lowest_plain, is_capped, is_similar, is_below }
}

#[derive(Clone, Debug)]
struct Case {
    /// Score, interest, reserves and keys of each hit.
    hits: Vec<(u8, usize, Groups, [u64; 2])>,
    max_per_key: Vec<usize>,
    quota: Quota,
    /// Before which page the list is made anew, as after a deeper search.
    renewed: usize,
    /// Whether one of each direction may be taken.
    has_similar: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let hit = (0u8..12, 0usize..3, 0u32..4, [0u64..4, 0u64..40]);
    let kept = proptest::collection::vec(0usize..3, 5);
    let quota = (1usize..6, proptest::option::of(0u8..12), kept);
    let hits = proptest::collection::vec(hit, 0..80);
    (hits, proptest::collection::vec(1usize..12, 0..3), quota, 0usize..8, any::<bool>()).prop_map(
        |(hits, max_per_key, (size, threshold, kept), renewed, has_similar)| {
            let quota = Quota { size, score_threshold: threshold.map(f32::from), kept, reserves: 2 };
            Case { hits, max_per_key, quota, renewed, has_similar }
        },
    )
}

proptest! {
    #[test]
    fn pages_are_those_of_a_list_that_is_read_from_its_start_for_each(case in case()) {
        let Case { hits: all, max_per_key, quota, renewed, has_similar } = case;
        let mut hits: Vec<Hit> = all.iter().enumerate().map(|(node, (score, interest, ..))| {
            Hit { node: NodeId(node as u32), score: f32::from(*score), interest: *interest }
        }).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.0.cmp(&b.node.0)));
        let keys = Keys {
            caps: max_per_key.iter().enumerate()
                .map(|(cap, max)| (*max, all.iter().map(|hit| hit.3[cap]).collect())).collect(),
            reserves: all.iter().map(|hit| hit.2).collect(),
        };
        let mut left = hits.clone();
        let max_similarity = has_similar.then_some(0.5);
        let (mut expected_room, mut room) = (Room::new(max_similarity), Room::new(max_similarity));
        let mut ranked = Ranked::of(&hits, |_| true, &quota, &keys);
        for page in 0..=hits.len() / quota.size + 1 {
            if page == renewed {
                ranked = Ranked::of(&hits, |hit| left.contains(hit), &quota, &keys);
                // A page that is given up and chosen again.
                let dropped = choose(&hits, &mut ranked, &quota, &keys, &mut room, &mut Interrupt::never());
                dropped.taken.iter().for_each(|hit| room.release(&keys, hit.node));
                ranked = Ranked::of(&hits, |hit| left.contains(hit), &quota, &keys);
            }
            let expected = naive(&left, &quota, &keys, &mut expected_room);
            let mut found = choose(&hits, &mut ranked, &quota, &keys, &mut room, &mut Interrupt::never());
            // What kept a hit out matters for a short page only, and may be both.
            let is_refused = |of: &Choice| of.is_capped || of.is_similar;
            if found.taken.len() == quota.size || is_refused(&found) == is_refused(&expected) {
                (found.is_capped, found.is_similar) = (expected.is_capped, expected.is_similar);
            }
            prop_assert_eq!(&found, &expected, "page {}", page);
            left.retain(|hit| !expected.taken.contains(hit));
            if max_per_key.is_empty() && !has_similar && quota.kept.iter().sum::<usize>() == 0 {
                let best = choose_best(hits.iter().filter(|hit| left.contains(hit)), &quota);
                prop_assert_eq!(best, naive(&left, &quota, &keys, &mut Room::default()));
            }
        }
    }
}

#[test]
fn a_page_of_a_long_list_takes_few_steps_however_many_hits_it_passes_over() {
    const HITS: usize = 20_000;
    let keys =
        Keys { caps: Vec::new(), reserves: (0..HITS).map(|node| u32::from(node >= HITS - 100)).collect() };
    let hit = |node| Hit { node: NodeId(node as u32), score: -(node as f32), interest: 0 };
    let hits: Vec<Hit> = (0..HITS).map(hit).collect();
    let quota = Quota { size: 1, score_threshold: None, kept: vec![1, 0], reserves: 1 };
    let mut ranked = Ranked::of(&hits, |_| true, &quota, &keys);
    let mut room = Room::default();
    let mut pages = (0..HITS).map(|_| {
        let page = choose(&hits, &mut ranked, &quota, &keys, &mut room, &mut Interrupt::never());
        page.taken[0].node.index()
    });
    // Those of the reserve at the end of the list come first.
    assert!(pages.by_ref().take(100).eq(HITS - 100..HITS));
    assert!(pages.eq(0..HITS - 100));
}
