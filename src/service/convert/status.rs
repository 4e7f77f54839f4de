//! The state of an index, to the wire.

use std::path::Path;
use std::time::Duration;

use super::scalar::{duration, saturate, timestamp};
use crate::base::element::Dtype;
use crate::base::metric::Metric;
use crate::engine;
use crate::index::{AttributeKind, AttributeSchema, GateReport, MemoryMode};
use crate::service::proto;

/// Returns the state of an index whose folder cannot be opened, for this reason.
pub(crate) fn closed_index(name: String, dir: &Path, problem: String) -> proto::IndexStatus {
    let dir = dir.display().to_string();
    proto::IndexStatus {
        name,
        dir,
        refused: problem.clone(),
        read_only_reason: problem,
        ..Default::default()
    }
}

pub(super) fn wire_dtype(dtype: Dtype) -> proto::Dtype {
    match dtype {
        Dtype::F32 => proto::Dtype::F32,
        Dtype::F16 => proto::Dtype::F16,
    }
}

pub(super) fn wire_metric(metric: Metric) -> proto::Metric {
    match metric {
        Metric::InnerProduct => proto::Metric::Ip,
        Metric::Cosine => proto::Metric::Cosine,
        Metric::L2 => proto::Metric::L2,
    }
}

/// Converts the state of an index.
// Fills the deprecated field as well, for clients that still read it.
#[allow(deprecated)]
pub(crate) fn index_status(status: engine::IndexStatus) -> proto::IndexStatus {
    let (dtype, metric) = (wire_dtype(status.dtype), wire_metric(status.metric));
    let memory = match status.memory {
        MemoryMode::Mapped => proto::MemoryMode::Mapped,
        MemoryMode::Resident => proto::MemoryMode::Resident,
    };
    let live = status.live;
    proto::IndexStatus {
        name: status.name,
        dir: status.dir.display().to_string(),
        generation: status.generation,
        manifest: status.manifest,
        published_at: Some(timestamp(status.published_at)),
        available_generations: status.available_generations,
        vectors: status.vectors,
        dim: status.dim,
        dtype: dtype.into(),
        metric: metric.into(),
        builder: status.builder,
        m: status.m,
        ef_construction: status.ef_construction,
        bytes: status.bytes,
        build_time: Some(duration(status.build_time)),
        embedding_model: status.embedding_model.unwrap_or_default(),
        attributes: status.attributes.into_iter().map(attribute_schema).collect(),
        has_text_ids: status.has_text_ids,
        refused: status.refused.unwrap_or_default(),
        memory: memory.into(),
        serving: status.serving,
        calibration: status.calibration.into_iter().map(calibration).collect(),
        sequence: live.sequence,
        generation_sequence: live.generation_sequence,
        rebuild: Some(rebuild_status(live.rebuild)),
        gate: status.gate.map(gate_report),
        recall: status.recall.into_iter().map(live_recall).collect(),
        shadow: None,
        resident_bytes: status.resident_bytes,
        log_bytes: live.log_bytes,
        log_entries: live.log_entries,
        sections: sections(status.sections),
        delta_vectors: live.delta_vectors,
        deleted: live.deleted,
        held_entries: live.parked_entries,
        parked_entries: live.parked_entries,
        takedowns: live.takedowns,
        writable: live.writable,
        read_only_reason: live.read_only_reason.unwrap_or_default(),
    }
}

/// Converts the state of a rebuild.
pub(crate) fn rebuild_status(status: engine::RebuildStatus) -> proto::RebuildStatus {
    use proto::rebuild_status::State;
    let state = match status.state {
        engine::RebuildState::Idle => State::Idle,
        engine::RebuildState::Running => State::Running,
        engine::RebuildState::Gating => State::Gating,
        engine::RebuildState::Done => State::Done,
        engine::RebuildState::Failed => State::Failed,
        engine::RebuildState::Cancelled => State::Cancelled,
    };
    proto::RebuildStatus {
        state: state.into(),
        phase: status.phase,
        progress: status.progress,
        rows_per_second: status.rows_per_second,
        bad_records: status.bad_records,
        started_at: status.started_at.map(timestamp),
        problem: status.problem.unwrap_or_default(),
    }
}

pub(super) fn gate_report(report: GateReport) -> proto::GateReport {
    let GateReport { generation, created_at, found, problems, reasons, .. } = report;
    let share = |ppm: u32| f64::from(ppm) / 1e6;
    let time = |ns: u64| duration(Duration::from_nanos(ns));
    proto::GateReport {
        generation,
        created_at: Some(timestamp(created_at)),
        passed: problems.is_empty(),
        problems,
        current: found.current,
        unreachable: found.unreachable,
        queries: found.queries,
        source: found.source,
        k: found.k,
        ef_search: found.ef_search,
        recall: share(found.recall_ppm),
        current_recall: found.current_recall_ppm.map(share),
        overlap: found.overlap_ppm.map(share),
        p99: Some(time(found.p99_ns)),
        current_p99: found.current_p99_ns.map(time),
        reasons: reasons.into_iter().map(|reason| reason.name().to_owned()).collect(),
    }
}

fn sections(sections: Vec<(&'static str, u64)>) -> Vec<proto::FileSection> {
    let section = |(name, bytes): (&str, u64)| proto::FileSection { name: name.to_owned(), bytes };
    sections.into_iter().map(section).collect()
}

fn live_recall(recall: engine::LiveRecall) -> proto::LiveRecall {
    let engine::LiveRecall { k, recall, answers, target } = recall;
    proto::LiveRecall {
        k: k.map_or(0, saturate),
        recall,
        answers: saturate(answers),
        target: target.as_ref().map(|of| of.target),
        targeted_recall: target.as_ref().map(|of| of.recall),
    }
}

fn calibration((k, max_recall): (usize, f64)) -> proto::Calibration {
    proto::Calibration { k: saturate(k), max_recall: max_recall as f32 }
}

fn attribute_schema(schema: AttributeSchema) -> proto::AttributeSchema {
    let kind = match schema.kind {
        AttributeKind::Keyword => proto::AttributeKind::Keyword,
        AttributeKind::KeywordList => proto::AttributeKind::KeywordList,
        AttributeKind::Int64 => proto::AttributeKind::Int64,
        AttributeKind::Uint64 => proto::AttributeKind::Uint64,
        AttributeKind::Double => proto::AttributeKind::Double,
        AttributeKind::Bool => proto::AttributeKind::Bool,
        AttributeKind::Timestamp => proto::AttributeKind::Timestamp,
    };
    proto::AttributeSchema { name: schema.name, kind: kind.into() }
}
