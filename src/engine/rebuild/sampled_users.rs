//! The query vectors of recent searches, fairly divided between callers.
//!
//! What flows in: query vectors with the caller and the time. What flows out: the vectors that are kept. One caller that
//! sends many searches, or strange ones, cannot replace the users of the others: while several callers ask, each keeps an
//! equal share.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// A user of this age is dropped before newer ones: its caller may be gone.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// A bounded number of query vectors.
#[derive(Debug, Default)]
pub(super) struct SampledUsers {
    /// Oldest first. No queue is empty.
    of_callers: BTreeMap<Option<Caller>, VecDeque<(Instant, Vec<f32>)>>,
    count: usize,
}

/// The network that a search came from: an IPv4 address, or the 64 bits of an IPv6 network, whose owner has every
/// address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Caller(IpAddr);

impl From<IpAddr> for Caller {
    fn from(peer: IpAddr) -> Self {
        Self(match peer.to_canonical() {
            IpAddr::V6(peer) => {
                let [a, b, c, d, ..] = peer.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            peer => peer,
        })
    }
}

impl SampledUsers {
    /// Adds a user, and drops others until at most `most` are kept: an old one, or else the oldest of the caller that has
    /// the most.
    pub(super) fn push(&mut self, peer: Option<IpAddr>, now: Instant, user: Vec<f32>, most: usize) {
        self.of_callers.entry(peer.map(Caller::from)).or_default().push_back((now, user));
        self.count += 1;
        while self.count > most
            && let Some(caller) = self.dropped_first(now)
            && let Some(users) = self.of_callers.get_mut(&caller)
        {
            users.pop_front();
            self.count -= 1;
            if users.is_empty() {
                self.of_callers.remove(&caller);
            }
        }
    }

    /// Returns the caller whose oldest user is dropped first.
    fn dropped_first(&self, now: Instant) -> Option<Option<Caller>> {
        let oldest = |users: &VecDeque<(Instant, Vec<f32>)>| users.front().map(|(since, _)| *since);
        let is_old = |since: Instant| now.saturating_duration_since(since) >= OLD;
        let with_old = self.of_callers.iter().min_by_key(|(_, users)| oldest(users));
        let with_old = with_old.filter(|(_, users)| oldest(users).is_some_and(is_old));
        let with_most = || self.of_callers.iter().max_by_key(|(_, users)| users.len());
        with_old.or_else(with_most).map(|(caller, _)| *caller)
    }

    /// Returns the users that are kept, those of a caller in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.of_callers.values().flatten().map(|(_, user)| user.as_slice())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MOST: usize = 100;

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn count(users: &SampledUsers, of: f32) -> usize {
        users.iter().filter(|user| user[0] == of).count()
    }

    #[test]
    fn one_caller_keeps_its_newest_users() {
        let (mut users, now) = (SampledUsers::default(), Instant::now());
        (0..250u16).for_each(|user| users.push(None, now, vec![f32::from(user)], MOST));
        let kept: Vec<f32> = users.iter().map(|user| user[0]).collect();
        assert_eq!(kept, (150..250u16).map(f32::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_caller_that_floods_the_sample_keeps_only_an_equal_share() {
        let (mut users, now) = (SampledUsers::default(), Instant::now());
        (0..3 * MOST).for_each(|_| users.push(peer(1), now, vec![1.0], MOST));
        (0..3 * MOST).for_each(|_| users.push(peer(2), now, vec![2.0], MOST));
        assert!(count(&users, 1.0).abs_diff(MOST / 2) <= 1, "{}", count(&users, 1.0));
        (0..100 * MOST).for_each(|_| users.push(peer(3), now, vec![3.0], MOST));
        assert_eq!(users.iter().count(), MOST);
        for caller in [1.0, 2.0, 3.0] {
            assert!(count(&users, caller).abs_diff(MOST / 3) <= 1, "{}", count(&users, caller));
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller() {
        let (mut users, now) = (SampledUsers::default(), Instant::now());
        (0..MOST).for_each(|_| users.push(peer(1), now, vec![1.0], MOST));
        for host in 0..10 * MOST as u16 {
            let peer = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, host);
            users.push(Some(peer.into()), now, vec![2.0], MOST);
        }
        assert!(count(&users, 1.0).abs_diff(MOST / 2) <= 1, "{}", count(&users, 1.0));
        // An IPv4 address in IPv6 notation.
        let mapped = |last| Caller::from(IpAddr::V6(Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped()));
        assert_ne!(mapped(1), mapped(2));
    }

    #[test]
    fn users_of_a_caller_that_is_gone_are_dropped_after_a_day() {
        let (mut users, now) = (SampledUsers::default(), Instant::now());
        (0..MOST).for_each(|_| users.push(peer(1), now, vec![1.0], MOST));
        (0..10 * MOST).for_each(|_| users.push(peer(2), now + OLD, vec![2.0], MOST));
        assert_eq!((count(&users, 1.0), count(&users, 2.0)), (0, MOST));
    }
}
