//! Requests to an engine as messages, and answers as those of an engine, for tests of either.

use std::time::Duration;

use shortlist::base::id::VideoId;
use shortlist::engine::{
    Candidate, Completeness, Effort, Plan, Query, ReturnAttributes, SearchRequest, SearchResponse,
    SearchStats, Shortfall,
};
use shortlist::service::proto;
use shortlist::service::proto::completeness::Reason;
use shortlist::service::proto::search_params::Effort as WireEffort;
use shortlist::service::proto::search_request::Query as WireQuery;

/// A request as a message. Text ids are left out.
pub fn message(request: &SearchRequest) -> proto::SearchRequest {
    let vector = |values: &[f32]| Some(proto::Vector { values: values.to_vec(), packed: None });
    let query = match &request.query {
        Query::Vector(values) => WireQuery::Vector(vector(values).unwrap()),
        Query::Interests(interests) => WireQuery::Interests(proto::Interests {
            interests: interests
                .iter()
                .map(|interest| proto::Interest {
                    vector: vector(&interest.vector),
                    weight: Some(interest.weight),
                    min_share: interest.min_share,
                })
                .collect(),
        }),
        Query::Seeds(seeds) => WireQuery::Seeds(proto::Seeds {
            seeds: seeds
                .iter()
                .map(|seed| proto::Seed {
                    video_id: seed.video_id.0,
                    weight: Some(seed.weight),
                    text_id: String::new(),
                })
                .collect(),
        }),
    };
    let effort = match request.effort {
        Effort::Default => None,
        Effort::EfSearch(ef_search) => Some(WireEffort::EfSearch(ef_search as u32)),
        Effort::TargetRecall(recall) => Some(WireEffort::TargetRecall(recall)),
        Effort::Exact => Some(WireEffort::Exact(true)),
    };
    let plan = match request.plan {
        None => proto::Plan::Unspecified,
        Some(Plan::Graph) => proto::Plan::Graph,
        Some(Plan::ExactScan) => proto::Plan::ExactScan,
        Some(Plan::CodeScan) => proto::Plan::CodeScan,
        Some(Plan::FilteredGraph) => proto::Plan::FilteredGraph,
        Some(Plan::MatchScan) => proto::Plan::MatchScan,
        Some(Plan::BlockScan) => proto::Plan::BlockScan,
    };
    let rules = &request.rules;
    proto::SearchRequest {
        index: request.index.clone(),
        query: Some(query),
        k: request.k as u32,
        params: Some(proto::SearchParams {
            effort,
            plan: plan.into(),
            effort_k: request.effort_k as u32,
            mark_matches: request.marks_matches,
        }),
        filter: rules.filter.clone().map(Into::into),
        exclude: Some(proto::Exclude {
            video_ids: rules.exclude.video_ids.iter().map(|id| id.0).collect(),
            roaring: rules.exclude.roaring.clone(),
            bloom: rules.exclude.bloom.as_ref().map(|bloom| proto::Bloom {
                bits: bloom.bits.clone(),
                hashes: bloom.hashes,
                seed: bloom.seed,
            }),
            ..proto::Exclude::default()
        }),
        caps: rules
            .caps
            .iter()
            .map(|cap| proto::Cap {
                attribute: cap.attribute.clone(),
                max_per_value: cap.max_per_value as u32,
            })
            .collect(),
        fresh: rules.fresh.as_ref().map(|fresh| proto::Fresh {
            attribute: fresh.attribute.clone(),
            // The longest duration that a message can have is longer than any age.
            within: Some(prost_types::Duration {
                seconds: fresh.within.as_secs().min(315_576_000_000 - 1),
                nanos: fresh.within.subsec_nanos(),
            }),
            at_least: fresh.at_least as u32,
        }),
        score_terms: rules.score_terms.iter().cloned().map(Into::into).collect(),
        diversity: rules.diversity.map(Into::into),
        reserve: rules.reserves.iter().cloned().map(Into::into).collect(),
        score_threshold: rules.score_threshold,
        offset: request.offset as u32,
        return_attributes: match &request.return_attributes {
            ReturnAttributes::None => Vec::new(),
            ReturnAttributes::All => vec!["*".to_owned()],
            ReturnAttributes::Named(names) => names.clone(),
        },
        return_vectors: request.return_vectors,
        return_stats: true,
        min_sequence: request.min_sequence,
        ..proto::SearchRequest::default()
    }
}

/// An answer as one of an engine, without attributes and vectors.
pub fn answer(response: &proto::SearchResponse) -> SearchResponse {
    let completeness = response.completeness.unwrap();
    let stats = response.stats.unwrap();
    SearchResponse {
        candidates: response
            .candidates
            .iter()
            .map(|candidate| Candidate {
                video_id: VideoId(candidate.video_id),
                text_id: None,
                score: candidate.score,
                interest: candidate.interest.map(|interest| interest as usize),
                attributes: Vec::new(),
                vector: None,
                terms: candidate.terms.clone(),
                reserved: candidate.reserved.iter().map(|at| *at as usize).collect(),
            })
            .collect(),
        requested: completeness.requested as usize,
        completeness: match completeness.reason() {
            Reason::Unspecified => panic!("no reason"),
            Reason::Complete => Completeness::Complete,
            Reason::Deadline => Completeness::Deadline,
            Reason::IndexExhausted => Completeness::Short(Shortfall::IndexExhausted),
            Reason::TooFewMatches => Completeness::Short(Shortfall::TooFewMatches),
            Reason::Excluded => Completeness::Short(Shortfall::Excluded),
            Reason::CapsExhausted => Completeness::Short(Shortfall::CapsExhausted),
            Reason::ScoreThreshold => Completeness::Short(Shortfall::ScoreThreshold),
            Reason::TooSimilar => Completeness::Short(Shortfall::TooSimilar),
        },
        unknown_seeds: response.unknown_video_ids.iter().copied().map(VideoId).collect(),
        generation: response.generation,
        sequence: response.sequence,
        videos: response.coverage.unwrap().videos_searched,
        stats: SearchStats {
            plan: match stats.plan() {
                proto::Plan::Unspecified => panic!("no plan"),
                proto::Plan::Graph => Plan::Graph,
                proto::Plan::ExactScan => Plan::ExactScan,
                proto::Plan::CodeScan => Plan::CodeScan,
                proto::Plan::FilteredGraph => Plan::FilteredGraph,
                proto::Plan::MatchScan => Plan::MatchScan,
                proto::Plan::BlockScan => Plan::BlockScan,
            },
            ef_search: stats.ef_search as usize,
            measured_recall: stats.measured_recall.map(f64::from),
            expanded: stats.expanded,
            distances: stats.distances,
            elapsed: Duration::ZERO,
            matches: stats.matches.map(|matches| matches as usize),
            stages: None,
        },
    }
}
