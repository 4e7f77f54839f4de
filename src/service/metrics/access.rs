//! Calls that are refused for what their caller is, and files of credentials and settings that are read again.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{CauseLabels, register};
use crate::service::access::Denial;
use crate::service::reloaded::Reloads;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    what: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabels {
    what: &'static str,
}

/// The metrics of access.
#[derive(Clone, Debug)]
pub(crate) struct AccessMetrics {
    authentication: Family<CauseLabels, Counter>,
    authorization: Family<CauseLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    reload_failed: Family<WhatLabels, Gauge>,
}

impl AccessMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            authentication: register(
                registry,
                "authentication_failures",
                "Calls without a valid key or token, by reason: missing, malformed, unknown_key, invalid_token, or changed \
                 during a stream",
                Family::default(),
            ),
            authorization: register(
                registry,
                "authorization_failures",
                "Calls whose caller may not make them, by reason: role, index, or web_page (what a page may have made a \
                 browser send)",
                Family::default(),
            ),
            reloads: register(
                registry,
                "reloads",
                "Times that changed files of credentials and settings were read again, by outcome",
                Family::default(),
            ),
            reload_failed: register(
                registry,
                "reload_failed",
                "1 while changed files cannot be used and the old ones stay in force, else 0",
                Family::default(),
            ),
        };
        // From the start, so that the first failure is an increase.
        for denial in Denial::ALL {
            drop(metrics.family(denial).get_or_create(&CauseLabels { reason: denial.name() }));
        }
        metrics
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self) {
        self.reloads(&[Reloads { what: "the keys", succeeded: 0, failed: 0, is_failing: false }]);
    }

    fn family(&self, denial: Denial) -> &Family<CauseLabels, Counter> {
        if denial.is_authentication() { &self.authentication } else { &self.authorization }
    }

    /// Counts a call that is refused.
    pub(crate) fn denied(&self, denial: Denial) {
        self.family(denial).get_or_create(&CauseLabels { reason: denial.name() }).inc();
    }

    /// Updates the state of the files that are read again.
    pub(crate) fn reloads(&self, all: &[Reloads]) {
        for Reloads { what, succeeded, failed, is_failing } in all {
            for (outcome, count) in [("ok", *succeeded), ("failed", *failed)] {
                let counter = self.reloads.get_or_create(&ReloadLabels { what, outcome });
                counter.inc_by(count.saturating_sub(counter.get()));
            }
            self.reload_failed.get_or_create(&WhatLabels { what }).set((*is_failing).into());
        }
    }
}
