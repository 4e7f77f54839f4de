//! Search plans, both ways.

use crate::engine::Plan;
use crate::service::proto;

/// Converts a plan to the wire.
pub(super) fn plan_to_proto(plan: Plan) -> proto::Plan {
    match plan {
        Plan::Graph => proto::Plan::Graph,
        Plan::CodeScan => proto::Plan::CodeScan,
        Plan::ExactScan => proto::Plan::ExactScan,
        Plan::FilteredGraph => proto::Plan::FilteredGraph,
        Plan::MatchScan => proto::Plan::MatchScan,
        Plan::BlockScan => proto::Plan::BlockScan,
    }
}

/// Converts a plan from the wire; `None` if it is unspecified.
pub(crate) fn plan_from_proto(plan: proto::Plan) -> Option<Plan> {
    match plan {
        proto::Plan::Unspecified => None,
        proto::Plan::Graph => Some(Plan::Graph),
        proto::Plan::CodeScan => Some(Plan::CodeScan),
        proto::Plan::ExactScan => Some(Plan::ExactScan),
        proto::Plan::FilteredGraph => Some(Plan::FilteredGraph),
        proto::Plan::MatchScan => Some(Plan::MatchScan),
        proto::Plan::BlockScan => Some(Plan::BlockScan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_wire_and_has_the_same_name_there() {
        for number in 0.. {
            let Ok(wire) = proto::Plan::try_from(number) else { break };
            let Some(plan) = plan_from_proto(wire) else { continue };
            assert_eq!(plan_to_proto(plan), wire);
            assert_eq!(format!("PLAN_{}", plan.name().to_uppercase()), wire.as_str_name());
        }
    }
}
