//! Searches by client and class: who uses the compute pool, and who waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::families::register;
use crate::service::caller::Client;

/// Most keys with series of their own. The others share one.
const MAX_KEYS: usize = 200;

/// The cost class of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Every thread of the pool takes it.
    Short,
    /// One thread is kept free of it while short ones arrive.
    Long,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Short => "short",
            Class::Long => "long",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    client: String,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    client: String,
    reason: &'static str,
}

type Seconds = Counter<f64, AtomicU64>;

/// The counters of one client and class.
#[derive(Debug)]
struct ClassCounters {
    searches: Counter,
    computed: Seconds,
    queued: Seconds,
}

/// The counters of one client.
#[derive(Debug)]
struct ClientCounters {
    label: String,
    short: ClassCounters,
    long: ClassCounters,
}

/// The metrics of clients.
#[derive(Clone, Debug)]
pub(crate) struct ClientMetrics {
    searches: Family<ClassLabels, Counter>,
    computed: Family<ClassLabels, Seconds>,
    queued: Family<ClassLabels, Seconds>,
    refused: Family<ReasonLabels, Counter>,
    /// The counters by name of the key, and of all other clients by what they have instead.
    known: Arc<RwLock<HashMap<Arc<str>, Arc<ClientCounters>>>>,
}

impl ClientMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            searches: register(
                registry,
                "client_searches",
                "Searches and lookups computed, by client and class; a client is a key, or all tokens, or all \
                 callers without either",
                Family::default(),
            ),
            computed: register(
                registry,
                "client_cost_seconds",
                "Seconds that searches and lookups took on the threads of the compute pool, by client and class",
                Family::default(),
            ),
            queued: register(
                registry,
                "client_queue_seconds",
                "Seconds that searches and lookups waited for the compute pool, by client and class",
                Family::default(),
            ),
            refused: register(
                registry,
                "client_refused_searches",
                "Searches and lookups refused before they were computed, by client and reason",
                Family::default(),
            ),
            known: Arc::default(),
        }
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self) {
        let client = Client::Key("ranking".into());
        self.computed(&client, Class::Short, Duration::ZERO, Duration::ZERO);
        self.refused(&client, "deadline");
    }

    /// Counts a search that waited and was computed for these times.
    pub(crate) fn computed(&self, client: &Client, class: Class, queued: Duration, took: Duration) {
        let counters = self.counters(client);
        let counters = match class {
            Class::Short => &counters.short,
            Class::Long => &counters.long,
        };
        counters.searches.inc();
        counters.computed.inc_by(took.as_secs_f64());
        counters.queued.inc_by(queued.as_secs_f64());
    }

    /// Counts a search that is refused before it is computed.
    pub(crate) fn refused(&self, client: &Client, reason: &'static str) {
        let client = self.counters(client).label.clone();
        self.refused.get_or_create(&ReasonLabels { client, reason }).inc();
    }

    fn counters(&self, client: &Client) -> Arc<ClientCounters> {
        let label: &str = match client {
            Client::Key(name) => name,
            // Their names are not in the configuration, and could be many.
            Client::Subject(_) => "token",
            Client::Address(_) => "anonymous",
        };
        if let Some(known) = self.known.read().get(label) {
            return Arc::clone(known);
        }
        let mut known = self.known.write();
        let label = if known.len() < MAX_KEYS { label } else { "other" };
        if let Some(known) = known.get(label) {
            return Arc::clone(known);
        }
        let of_class = |class: Class| {
            let labels = ClassLabels { client: label.to_owned(), class: class.name() };
            ClassCounters {
                searches: self.searches.get_or_create(&labels).clone(),
                computed: self.computed.get_or_create(&labels).clone(),
                queued: self.queued.get_or_create(&labels).clone(),
            }
        };
        let (short, long) = (of_class(Class::Short), of_class(Class::Long));
        let counters = Arc::new(ClientCounters { label: label.to_owned(), short, long });
        known.insert(label.into(), Arc::clone(&counters));
        counters
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_number_of_series_is_bounded_whatever_callers_are_named() {
        let metrics = ClientMetrics::new(&mut Registry::default());
        let all = (0..2 * MAX_KEYS as u32).flat_map(|number| {
            let name: Arc<str> = number.to_string().into();
            [
                Client::Key(Arc::clone(&name)),
                Client::Subject(name),
                Client::Address(Ipv4Addr::from(number).into()),
            ]
        });
        for client in all {
            metrics.computed(&client, Class::Long, Duration::ZERO, Duration::ZERO);
            metrics.refused(&client, "deadline");
        }
        assert!(metrics.known.read().len() <= MAX_KEYS + 1);
        let of = |client: &str, class| {
            metrics.searches.get_or_create(&ClassLabels { client: client.to_owned(), class }).get()
        };
        let most = 2 * MAX_KEYS as u64;
        assert_eq!((of("token", "long"), of("anonymous", "long"), of("0", "long")), (most, most, 1));
        assert_eq!(of("other", "long"), most - (MAX_KEYS as u64 - 2));
        assert_eq!(of("token", "short"), 0);
    }
}
