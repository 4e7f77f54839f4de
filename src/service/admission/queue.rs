//! Calls that wait for the compute pool, and whose turn it is.
//!
//! What flows in: calls with their client, connection, deadline and expected cost. What flows out: one call after another.
//! Clients share the pool evenly by cost, and so do the connections of one client. The calls of one connection are served
//! by their deadlines. Knows neither threads nor clocks: times are nanoseconds that the caller gives.

use std::collections::BTreeMap;

use super::flows::Flows;
use crate::service::caller::Client;

/// Whose call it is, and until when it is of use.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) connection: u16,
    /// In nanoseconds of any clock.
    pub(crate) deadline: u64,
    /// The most calls of the client that may wait.
    pub(crate) max_waiting: usize,
}

/// Calls of one connection, by deadline and order of arrival, with their costs.
type Calls<C> = BTreeMap<(u64, u64), (u64, C)>;

/// The calls that wait.
#[derive(Debug)]
pub(super) struct Queue<C> {
    clients: Flows<Client, Flows<u16, Calls<C>>>,
    /// Cost of all calls that wait.
    cost: u64,
    calls: usize,
    arrived: u64,
}

/// A call that left the queue.
#[derive(Debug)]
pub(super) struct Taken<C> {
    pub(super) client: Client,
    pub(super) connection: u16,
    pub(super) cost: u64,
    pub(super) call: C,
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self { clients: Flows::default(), cost: 0, calls: 0, arrived: 0 }
    }
}

impl<C> Queue<C> {
    /// Cost of all calls that wait.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Number of calls of a client that wait.
    pub(super) fn calls_of(&self, client: &Client) -> usize {
        self.clients.calls(client)
    }

    /// Adds a call.
    pub(super) fn push(&mut self, place: &Place, cost: u64, call: C) {
        self.arrived += 1;
        let connections = self.clients.enter(&place.client, cost);
        connections.enter(&place.connection, cost).insert((place.deadline, self.arrived), (cost, call));
        self.cost += cost;
        self.calls += 1;
    }

    /// Takes the call whose turn it is, of those that cost at most `max_cost`.
    pub(super) fn pop(&mut self, max_cost: u64) -> Option<Taken<C>> {
        let (client, connection, key) = self.clients.by_turn().find_map(|(client, connections)| {
            connections.by_turn().find_map(|(connection, calls)| {
                let (key, _) = calls.iter().find(|(_, (cost, _))| *cost <= max_cost)?;
                Some((client.clone(), *connection, *key))
            })
        })?;
        self.take(client, connection, key, true)
    }

    /// Drops a call to make room for one at `place`: of the connection with the most calls, of the client with the most
    /// calls, the one with the latest deadline. `None` if no other has more calls than that of `place`.
    pub(super) fn make_room(&mut self, place: &Place) -> Option<Taken<C>> {
        let client = self.clients.longest()?;
        if client != place.client && self.clients.calls(&client) <= self.clients.calls(&place.client) {
            return None;
        }
        let connections = self.clients.queue(&client)?;
        let connection = connections.longest()?;
        let is_own = client == place.client;
        if is_own && connections.calls(&connection) <= connections.calls(&place.connection) {
            return None;
        }
        let latest = *connections.queue(&connection)?.last_key_value()?.0;
        self.take(client, connection, latest, false)
    }

    /// Takes a call of a connection to serve it, or else to drop it.
    fn take(
        &mut self,
        client: Client,
        connection: u16,
        key: (u64, u64),
        is_served: bool,
    ) -> Option<Taken<C>> {
        let connections = self.clients.queue(&client)?;
        let (cost, call) = connections.queue(&connection)?.remove(&key)?;
        connections.leave(&connection, cost, is_served);
        self.clients.leave(&client, cost, is_served);
        self.cost -= cost;
        self.calls -= 1;
        Some(Taken { client, connection, cost, call })
    }

    /// Corrects the share of a client by what a call of it has cost.
    pub(super) fn correct(&mut self, client: &Client, connection: u16, expected: u64, found: u64) {
        if let Some(connections) = self.clients.queue(client) {
            connections.correct(&connection, expected, found);
        }
        self.clients.correct(client, expected, found);
    }

    /// The cost of what is served before a call at `place` that is added now.
    pub(super) fn ahead(&mut self, place: &Place, cost: u64) -> u64 {
        let earlier = |calls: &mut Calls<C>| match calls.last_key_value() {
            Some((&(latest, _), _)) if latest > place.deadline => {
                calls.range(..=(place.deadline, u64::MAX)).map(|(_, (cost, _))| cost).sum()
            }
            _ => calls.values().map(|(cost, _)| cost).sum(),
        };
        let of_client = self.clients.queue(&place.client).map_or(cost, |connections| {
            let own: u64 = connections.queue(&place.connection).map_or(0, earlier);
            connections.ahead(&place.connection, own + cost)
        });
        self.clients.ahead(&place.client, of_client) - cost
    }

    /// Whether no call waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> Client {
        Client::Address(Ipv4Addr::from([10, 0, 0, number]).into())
    }

    fn place(number: u8, connection: u16, deadline: u64) -> Place {
        Place { client: client(number), connection, deadline, max_waiting: usize::MAX }
    }

    /// Client, connection, deadline and cost.
    fn calls() -> impl Strategy<Value = Vec<(u8, u16, u64, u64)>> {
        proptest::collection::vec((0u8..4, 0u16..3, 0u64..1000, 1u64..1000), 1..200)
    }

    proptest! {
        #[test]
        fn every_call_leaves_once_and_those_of_a_connection_by_their_deadlines(
            calls in calls(), popped in 0usize..100, dropped in 0usize..100,
        ) {
            let mut queue = Queue::default();
            for (number, (of, connection, deadline, cost)) in calls.iter().enumerate() {
                queue.push(&place(*of, *connection, *deadline), *cost, number);
            }
            prop_assert_eq!(queue.cost(), calls.iter().map(|call| call.3).sum::<u64>());
            let mut left = Vec::new();
            left.extend((0..popped).map_while(|_| queue.pop(u64::MAX)).map(|taken| taken.call));
            // A client without calls takes the place of a client that has some.
            left.extend((0..dropped).map_while(|_| queue.make_room(&place(9, 9, 0))).map(|taken| taken.call));
            let mut last = HashMap::new();
            while let Some(taken) = queue.pop(u64::MAX) {
                let (of, connection, deadline, cost) = calls[taken.call];
                prop_assert_eq!((&taken.client, taken.connection, taken.cost), (&client(of), connection, cost));
                let before = last.insert((of, connection), deadline);
                prop_assert!(before.is_none_or(|before| before <= deadline));
                left.push(taken.call);
            }
            left.sort_unstable();
            prop_assert!(left.into_iter().eq(0..calls.len()));
            prop_assert!(queue.is_empty() && queue.cost() == 0);
        }

        #[test]
        fn while_two_clients_wait_neither_is_served_more_than_the_other_by_over_two_calls(calls in calls()) {
            let mut queue = Queue::default();
            let mut waiting = [0u64; 4];
            for (number, (of, connection, deadline, cost)) in calls.iter().enumerate() {
                queue.push(&place(*of, *connection, *deadline), *cost, number);
                waiting[usize::from(*of)] += 1;
            }
            let dearest = calls.iter().map(|call| call.3).max().unwrap_or_default();
            let all_wait: Vec<u8> = (0..4).filter(|of| waiting[usize::from(*of)] > 0).collect();
            let mut served = [0u64; 4];
            while all_wait.iter().all(|of| queue.calls_of(&client(*of)) > 0) {
                let taken = queue.pop(u64::MAX).unwrap();
                served[usize::from(calls[taken.call].0)] += taken.cost;
                let all = all_wait.iter().map(|of| served[usize::from(*of)]);
                prop_assert!(all.clone().max().unwrap() - all.min().unwrap() <= 2 * dearest);
            }
        }

        #[test]
        fn a_call_of_a_quiet_client_waits_for_one_call_of_each_other_at_most(
            calls in calls(), before in 0usize..50, cost in 1u64..1000,
        ) {
            let mut queue = Queue::default();
            for (number, (of, connection, deadline, cost)) in calls.iter().enumerate() {
                queue.push(&place(*of, *connection, *deadline), *cost, number);
            }
            (0..before).for_each(|_| _ = queue.pop(u64::MAX));
            let mine = place(9, 0, u64::MAX);
            let expected = queue.ahead(&mine, cost);
            let all: u64 = queue.cost();
            queue.push(&mine, cost, usize::MAX);
            let others: Vec<Taken<usize>> =
                std::iter::from_fn(|| queue.pop(u64::MAX)).take_while(|taken| taken.call != usize::MAX).collect();
            let mut of_each = HashMap::new();
            others.iter().for_each(|taken| *of_each.entry(taken.client.clone()).or_insert(0) += 1);
            prop_assert!(of_each.values().all(|calls| *calls <= 1), "{of_each:?}");
            prop_assert!(expected <= all && expected <= 4 * cost);
        }
    }

    #[test]
    fn a_key_gets_one_share_however_many_connections_it_has() {
        let mut queue = Queue::default();
        let place = |name: &str, connection| {
            let client = Client::Key(name.into());
            Place { client, connection, deadline: 0, max_waiting: usize::MAX }
        };
        for (name, connection) in [("many", 1), ("many", 2), ("many", 3), ("one", 4)] {
            (0..20).for_each(|_| queue.push(&place(name, connection), 5, name));
        }
        let first: Vec<&str> =
            std::iter::from_fn(|| queue.pop(u64::MAX)).map(|taken| taken.call).take(40).collect();
        assert_eq!(first.iter().filter(|name| **name == "one").count(), 20, "{first:?}");
    }

    #[test]
    fn dear_calls_are_left_out_and_stay_where_they_were() {
        let mut queue = Queue::default();
        for (at, cost) in [(0, 9), (1, 9), (2, 1), (3, 2)] {
            queue.push(&place(1, 7, at), cost, at);
        }
        queue.push(&place(1, 8, 0), 3, 4);
        queue.push(&place(2, 7, 0), 9, 5);
        let mut cheap: Vec<u64> =
            std::iter::from_fn(|| queue.pop(3)).map(|taken| taken.call).take(4).collect();
        cheap.sort_unstable();
        assert_eq!(cheap, [2, 3, 4]);
        assert_eq!(queue.cost(), 27);
        let mut dear: Vec<u64> = std::iter::from_fn(|| queue.pop(9)).map(|taken| taken.call).collect();
        dear.sort_unstable();
        assert_eq!(dear, [0, 1, 5]);
    }

    #[test]
    fn a_client_that_was_idle_saves_nothing_up_and_owes_what_it_has_cost() {
        let mut queue = Queue::default();
        for at in 0..100 {
            queue.push(&place(1, 0, at), 10, 1);
        }
        (0..50).for_each(|_| _ = queue.pop(u64::MAX));
        // It comes late, and gets every second turn from then on.
        for at in 0..20 {
            queue.push(&place(2, 0, at), 10, 2);
        }
        let order: Vec<i32> =
            std::iter::from_fn(|| queue.pop(u64::MAX)).map(|taken| taken.call).take(20).collect();
        assert_eq!(order.iter().filter(|call| **call == 2).count(), 10, "{order:?}");
        // Its calls cost ten times what was expected.
        queue.correct(&client(2), 0, 10, 100);
        let order: Vec<i32> =
            std::iter::from_fn(|| queue.pop(u64::MAX)).map(|taken| taken.call).take(9).collect();
        assert!(order.iter().filter(|call| **call == 2).count() <= 1, "{order:?}");
    }

    #[test]
    fn a_full_queue_takes_places_from_the_client_with_the_most() {
        let mut queue = Queue::default();
        (0..10).for_each(|at| queue.push(&place(1, 7, at), 1, at));
        (0..3).for_each(|at| queue.push(&place(1, 8, at), 1, 100 + at));
        (0..5).for_each(|at| queue.push(&place(2, 7, at), 1, 200 + at));
        // The latest call of the connection with most calls of the client with most.
        assert_eq!(queue.make_room(&place(2, 7, 0)).unwrap().call, 9);
        // Another connection of that client also has a right to places.
        assert_eq!(queue.make_room(&place(1, 8, 0)).unwrap().call, 8);
        // Not the one with most of all.
        assert!(queue.make_room(&place(1, 7, 0)).is_none());
    }
}
