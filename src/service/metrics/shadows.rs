//! Searches that are repeated on candidates.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::families::{SECONDS, register};
use crate::service::proto;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowLabels {
    index: String,
    /// The largest k of the answers, or `+Inf`.
    k: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecallLabels {
    index: String,
    k: String,
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabels {
    index: String,
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    index: String,
    outcome: &'static str,
}

type F64Gauge = Gauge<f64, AtomicU64>;

/// The two sides of a comparison.
const SIDES: [&str; 2] = ["index", "candidate"];

/// The metrics of shadows.
pub(crate) struct ShadowMetrics {
    searches: Family<OutcomeLabels, Counter>,
    seconds: Family<SideLabels, Histogram>,
    overlap: Family<ShadowLabels, F64Gauge>,
    score_gap: Family<ShadowLabels, F64Gauge>,
    recall: Family<RecallLabels, F64Gauge>,
    /// Indexes and buckets of k that have series.
    shown: Mutex<HashSet<ShadowLabels>>,
}

impl ShadowMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            searches: register(
                registry,
                "shadow_searches",
                "Searches that a shadow repeats, by outcome: compared, failed, or skipped for lack of CPU time",
                Family::default(),
            ),
            seconds: register(
                registry,
                "shadow_search_seconds",
                "Time of a repeated search, by side: index or candidate; comparable with each other only",
                Family::new_with_constructor(|| Histogram::new(SECONDS)),
            ),
            overlap: register(
                registry,
                "shadow_overlap_at_k",
                "Share of the candidates of the index that the candidate of its shadow returns, too, by the largest k of the \
                 answers",
                Family::default(),
            ),
            score_gap: register(
                registry,
                "shadow_score_gap_at_k",
                "Mean difference of the scores at the same rank: positive if those of the index are better than those of the \
                 candidate of its shadow",
                Family::default(),
            ),
            recall: register(
                registry,
                "shadow_recall_at_k",
                "Share of its own exact candidates that a side of a shadow finds, by side: index or candidate",
                Family::default(),
            ),
            shown: Mutex::default(),
        }
    }

    /// Gives every metric a value.
    pub(crate) fn set_example(&self, index: &str) {
        self.skipped(index);
        self.compared(index, [Duration::ZERO; 2]);
        let comparison = proto::ShadowComparison {
            k: 10,
            recall: Some(0.0),
            candidate_recall: Some(0.0),
            ..proto::ShadowComparison::default()
        };
        self.report(index, &proto::Shadow { comparisons: vec![comparison], ..proto::Shadow::default() });
    }

    fn count(&self, index: &str, outcome: &'static str) {
        self.searches.get_or_create(&OutcomeLabels { index: index.to_owned(), outcome }).inc();
    }

    /// Counts a search that was left out.
    pub(crate) fn skipped(&self, index: &str) {
        self.count(index, "skipped");
    }

    /// Counts a search that was not answered.
    pub(crate) fn failed(&self, index: &str) {
        self.count(index, "failed");
    }

    /// Counts a comparison, in which index and candidate took this long.
    pub(crate) fn compared(&self, index: &str, times: [Duration; 2]) {
        self.count(index, "compared");
        for (side, time) in SIDES.into_iter().zip(times) {
            let labels = SideLabels { index: index.to_owned(), side };
            self.seconds.get_or_create(&labels).observe(time.as_secs_f64());
        }
    }

    /// Shows the report of a shadow.
    pub(crate) fn report(&self, index: &str, report: &proto::Shadow) {
        let mut shown = self.shown.lock();
        for of in &report.comparisons {
            let k = if of.k == 0 { "+Inf".to_owned() } else { of.k.to_string() };
            let labels = ShadowLabels { index: index.to_owned(), k };
            self.overlap.get_or_create(&labels).set(of.overlap);
            self.score_gap.get_or_create(&labels).set(of.score_gap);
            for (side, recall) in SIDES.into_iter().zip([of.recall, of.candidate_recall]) {
                if let Some(recall) = recall {
                    self.recall.get_or_create(&recall_labels(&labels, side)).set(recall);
                }
            }
            shown.insert(labels);
        }
    }

    /// Removes what the report of the shadow of an index showed.
    pub(crate) fn forget(&self, index: &str) {
        self.shown.lock().retain(|labels| {
            if labels.index != index {
                return true;
            }
            self.overlap.remove(labels);
            self.score_gap.remove(labels);
            SIDES.iter().for_each(|side| _ = self.recall.remove(&recall_labels(labels, side)));
            false
        });
    }
}

fn recall_labels(labels: &ShadowLabels, side: &'static str) -> RecallLabels {
    RecallLabels { index: labels.index.clone(), k: labels.k.clone(), side }
}
