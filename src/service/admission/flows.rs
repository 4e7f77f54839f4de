//! Start-time fair queueing: flows that share one server evenly.
//!
//! Each flow has a tag, the cost that it was served, and the flow with the least tag is next. A flow that was idle enters
//! at the tag that is served now: it neither saves up what it did not use, nor waits for what others used before.
//!
//! P. Goyal, H. Vin, H. Cheng: Start-time fair queueing, SIGCOMM 1996. Here a tag is set when a call is served, and not when
//! it arrives, since the queue within a flow is in another order.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Idle flows are forgotten once there are this many more flows than busy ones.
const IDLE_FLOWS: usize = 1024;

/// Flows by key, each with its own queue.
#[derive(Debug)]
pub(super) struct Flows<K, Q> {
    flows: HashMap<K, Flow<Q>>,
    /// The busy flows, the next one first.
    turns: BTreeSet<(u64, K)>,
    /// The tag of the flow that was served last.
    now: u64,
}

#[derive(Debug, Default)]
struct Flow<Q> {
    tag: u64,
    /// Cost and number of the calls in its queue.
    cost: u64,
    calls: usize,
    queue: Q,
}

impl<K, Q> Default for Flows<K, Q> {
    fn default() -> Self {
        Self { flows: HashMap::new(), turns: BTreeSet::new(), now: 0 }
    }
}

impl<K: Clone + Ord + Hash, Q: Default> Flows<K, Q> {
    /// Counts one more call of a flow and returns the queue to put it in.
    pub(super) fn enter(&mut self, key: &K, cost: u64) -> &mut Q {
        let flow = self.flows.entry(key.clone()).or_default();
        if flow.calls == 0 {
            flow.tag = flow.tag.max(self.now);
            self.turns.insert((flow.tag, key.clone()));
        }
        flow.cost += cost;
        flow.calls += 1;
        &mut flow.queue
    }

    /// The flows that have calls with their queues, the one whose turn it is first.
    pub(super) fn by_turn(&self) -> impl Iterator<Item = (&K, &Q)> {
        self.turns.iter().filter_map(|(_, key)| Some((key, &self.flows.get(key)?.queue)))
    }

    /// The queue of a flow that has calls.
    pub(super) fn queue(&mut self, key: &K) -> Option<&mut Q> {
        self.flows.get_mut(key).map(|flow| &mut flow.queue)
    }

    /// Counts one call less in the queue of a flow, which was taken to be served, or dropped.
    pub(super) fn leave(&mut self, key: &K, cost: u64, is_served: bool) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        self.turns.remove(&(flow.tag, key.clone()));
        flow.cost = flow.cost.saturating_sub(cost);
        flow.calls -= 1;
        if is_served {
            self.now = self.now.max(flow.tag);
            flow.tag += cost;
        }
        if flow.calls > 0 {
            self.turns.insert((flow.tag, key.clone()));
        } else if self.flows.len() > IDLE_FLOWS + 2 * self.turns.len() {
            let now = self.now;
            self.flows.retain(|_, flow| flow.calls > 0 || flow.tag > now);
        }
    }

    /// Corrects the cost of a call that was served, once it is known.
    pub(super) fn correct(&mut self, key: &K, expected: u64, found: u64) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let tag = flow.tag.saturating_add(found).saturating_sub(expected);
        if flow.calls > 0 {
            self.turns.remove(&(flow.tag, key.clone()));
            self.turns.insert((tag, key.clone()));
        }
        flow.tag = tag;
    }

    /// The number of calls in the queue of a flow.
    pub(super) fn calls(&self, key: &K) -> usize {
        self.flows.get(key).map_or(0, |flow| flow.calls)
    }

    /// The flow with the most calls.
    pub(super) fn longest(&self) -> Option<K> {
        let longest = self.turns.iter().max_by_key(|(_, key)| self.calls(key));
        longest.map(|(_, key)| key.clone())
    }

    /// What is served before a flow has got `own`: that, and up to as much of each other flow.
    pub(super) fn ahead(&self, key: &K, own: u64) -> u64 {
        let others = self.turns.iter().filter(|(_, other)| other != key);
        others.map(|(_, other)| self.flows[other].cost.min(own)).sum::<u64>() + own
    }
}
