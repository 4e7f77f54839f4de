//! What each alias stands for.

use std::collections::HashSet;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::register;
use crate::service::aliases::AliasMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AliasLabels {
    alias: String,
    index: String,
    /// Its place among the indexes of the alias, from 0.
    position: usize,
}

/// The metrics of aliases.
pub(crate) struct AliasMetrics {
    info: Family<AliasLabels, Gauge>,
    /// The labels that have a series.
    shown: Mutex<HashSet<AliasLabels>>,
}

impl AliasMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "1 for each index that an alias stands for, at its place among them, from 0; join it with the metrics of \
                    the index on its label";
        Self { info: register(registry, "alias_info", help, Family::default()), shown: Mutex::default() }
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self) {
        let labels = AliasLabels { alias: "videos".to_owned(), index: "videos@v41".to_owned(), position: 0 };
        self.info.get_or_create(&labels).set(1);
    }

    /// Shows the aliases as they are now.
    pub(crate) fn observe(&self, aliases: &AliasMap) {
        let labels = |(alias, indexes): (&str, &[String])| -> Vec<AliasLabels> {
            let label = |(position, index): (usize, &String)| AliasLabels {
                alias: alias.to_owned(),
                index: index.clone(),
                position,
            };
            indexes.iter().enumerate().map(label).collect()
        };
        let now: HashSet<AliasLabels> = aliases.iter().flat_map(labels).collect();
        let mut shown = self.shown.lock();
        for labels in now.difference(&shown) {
            self.info.get_or_create(labels).set(1);
        }
        for labels in shown.difference(&now) {
            self.info.remove(labels);
        }
        *shown = now;
    }
}
