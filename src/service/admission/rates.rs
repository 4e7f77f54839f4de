//! How many searches and how much of the compute pool each client may use per second.
//!
//! The generic cell rate algorithm: per client the time at which all that it used is paid off. A client may be ahead of
//! its rate by the work of one second.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::service::caller::Client;

const SECOND: u64 = 1_000_000_000;
/// Clients that owe nothing are forgotten once there are this many.
const CLIENTS: usize = 4096;

/// What clients used of a rate.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When the use of each client is paid off, in nanoseconds.
    paid_at: Mutex<HashMap<Client, u64>>,
}

impl Rate {
    /// Uses `units` at `now`, in nanoseconds, of a client that may use `per_second`; 0 for any number.
    ///
    /// # Errors
    /// The nanoseconds after which the client may use `units`. Nothing is used.
    pub(super) fn take(&self, client: &Client, per_second: u64, units: u64, now: u64) -> Result<(), u64> {
        if per_second == 0 {
            return Ok(());
        }
        let mut all = self.paid_at.lock();
        if all.len() >= CLIENTS {
            all.retain(|_, paid_at| *paid_at > now);
        }
        let paid_at = all.get(client).map_or(now, |paid_at| now.max(*paid_at));
        let price = u128::from(units) * u128::from(SECOND) / u128::from(per_second);
        let price = u64::try_from(price).unwrap_or(u64::MAX);
        // One call that costs more than a second of the rate may pass if nothing else is owed.
        let most = now + SECOND;
        if paid_at > now && paid_at.saturating_add(price) > most {
            return Err(paid_at.saturating_add(price).saturating_sub(most).min(paid_at - now));
        }
        all.insert(client.clone(), paid_at.saturating_add(price));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> Client {
        Client::Address(Ipv4Addr::from([10, 0, 0, number]).into())
    }

    proptest! {
        #[test]
        fn no_client_gets_more_than_its_rate_and_nobody_pays_for_another(
            calls in proptest::collection::vec((0u8..3, 1u64..20, 0u64..SECOND / 10), 1..300),
        ) {
            const PER_SECOND: u64 = 20;
            let rate = Rate::default();
            let mut now = 0;
            let mut used = [0; 3];
            for (of, units, pause) in calls {
                now += pause;
                match rate.take(&client(of), PER_SECOND, units, now) {
                    Ok(()) => used[usize::from(of)] += units,
                    Err(delay) => prop_assert!(rate.take(&client(of), PER_SECOND, units, now + delay).is_ok()),
                }
                // A retry in the future was taken, too, so that only the sum of what was taken now is compared.
                let most = u128::from(PER_SECOND) * u128::from(now + 2 * SECOND) / u128::from(SECOND) + 20;
                prop_assert!(used.iter().all(|used| u128::from(*used) <= most));
            }
            prop_assert!(rate.take(&client(9), PER_SECOND, PER_SECOND, now).is_ok());
        }
    }

    #[test]
    fn no_rate_is_any_rate() {
        let rate = Rate::default();
        assert!((0..100).all(|_| rate.take(&client(1), 0, u64::MAX, 0).is_ok()));
    }
}
