//! What requests to a generation used, which the next generation must not lack.
//!
//! What flows in: requests that were answered. What flows out: which attributes they named, and whether they rely on the
//! calibration or on the embedding model. A flag is written once and then only read, so that searches do not contend.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::query::request::{Effort, SearchRequest};
use crate::index::AttributeSchema;

/// What requests used since the start of the engine.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// By ordinal: the attribute, and whether a request named it to filter, score, cap, keep places or return it.
    attributes: Vec<(String, AtomicBool)>,
    target_recall: AtomicBool,
    embedding_model: AtomicBool,
}

impl Usage {
    /// Nothing is used yet.
    pub(crate) fn of(schema: &[AttributeSchema]) -> Self {
        let attributes = schema.iter().map(|column| (column.name.clone(), AtomicBool::new(false)));
        Self { attributes: attributes.collect(), ..Self::default() }
    }

    /// Records what a request used, except for returned attributes.
    pub(crate) fn record(&self, request: &SearchRequest) {
        if matches!(request.effort, Effort::TargetRecall(_)) {
            set(&self.target_recall);
        }
        if request.embedding_model.is_some() {
            set(&self.embedding_model);
        }
        let rules = &request.rules;
        if let Some(filter) = &rules.filter {
            filter.each_attribute(&mut |name| self.record_attribute(name));
        }
        rules.caps.iter().for_each(|cap| self.record_attribute(&cap.attribute));
        rules.fresh.iter().for_each(|fresh| self.record_attribute(&fresh.attribute));
        for reserve in &rules.reserves {
            reserve.filter.each_attribute(&mut |name| self.record_attribute(name));
        }
        rules.score_terms.iter().for_each(|term| self.record_attribute(&term.attribute));
    }

    /// Records attributes that were returned, by ordinal.
    pub(crate) fn record_returned(&self, columns: &[usize]) {
        columns.iter().filter_map(|column| self.attributes.get(*column)).for_each(|(_, flag)| set(flag));
    }

    /// Adds what requests to the generation before used, as far as this one has it.
    pub(crate) fn inherit(&self, before: &Usage) {
        before.used_attributes().for_each(|name| self.record_attribute(name));
        for (flag, before) in
            [(&self.target_recall, &before.target_recall), (&self.embedding_model, &before.embedding_model)]
        {
            if before.load(Ordering::Relaxed) {
                set(flag);
            }
        }
    }

    /// Returns the names of the attributes that requests used.
    pub(crate) fn used_attributes(&self) -> impl Iterator<Item = &str> {
        let used = self.attributes.iter().filter(|(_, flag)| flag.load(Ordering::Relaxed));
        used.map(|(name, _)| name.as_str())
    }

    /// Returns whether a request had a target recall.
    pub(crate) fn has_target_recall(&self) -> bool {
        self.target_recall.load(Ordering::Relaxed)
    }

    /// Returns whether a request named the embedding model.
    pub(crate) fn names_model(&self) -> bool {
        self.embedding_model.load(Ordering::Relaxed)
    }

    fn record_attribute(&self, name: &str) {
        if let Some((_, flag)) = self.attributes.iter().find(|(other, _)| other == name) {
            set(flag);
        }
    }
}

fn set(flag: &AtomicBool) {
    // Mostly set already: reading leaves the cache line shared between cores.
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Relaxed);
    }
}
