//! Explains in a few lines why a video is, or is not, in the answer.

use std::fmt::Write;

use super::render::cost;
use crate::base::text::visible_text;
use crate::service::proto::ExplainResponse;
use crate::service::proto::explain_response::{Loss, Rule};

/// Renders the verdict, the scores and ranks of the video, and the cost of the search.
pub(super) fn render(video: &str, response: &ExplainResponse) -> String {
    let mut text = format!("video {} is {}\n", visible_text(video), verdict(response));
    if !response.removed_at.is_empty() || !response.reason.is_empty() {
        let said = [response.removed_at.as_str(), response.reason.as_str()];
        let said: Vec<&str> = said.into_iter().filter(|said| !said.is_empty()).collect();
        let _ = writeln!(text, "  {}", said.join(": "));
    }
    let _ = write!(text, "exact score {:.4}", response.exact_score);
    if !response.terms.is_empty() {
        // What the embedding scores, then what each score term adds, in the order of the request.
        let of_embedding = response.exact_score - response.terms.iter().sum::<f32>();
        let _ = write!(text, " = {of_embedding:.4}");
        for term in &response.terms {
            let _ = write!(text, " + {term:.4}");
        }
    }
    if let Some(rank) = response.exact_rank {
        let _ = write!(text, " · exact rank {rank}");
    }
    if let Some(interest) = response.interest {
        let _ = write!(text, " · interest {interest}");
    }
    text.push('\n');
    text + &cost(response.generation, response.stats.as_ref())
}

fn verdict(response: &ExplainResponse) -> String {
    if response.found {
        let rank = response.rank.map(|rank| format!(", at rank {rank}")).unwrap_or_default();
        let exact = if response.in_exact_answer { "" } else { "; the exact answer does not have it" };
        return format!("in the answer{rank}{exact}");
    }
    let rule = match response.removed_by() {
        Rule::Unspecified => None,
        Rule::Seed => Some("it is a seed of the query"),
        Rule::Filter => Some("it does not match the filter"),
        Rule::Exclude => Some("it is excluded"),
        Rule::ScoreThreshold => Some("it scores below the threshold"),
        Rule::Cap => Some("videos with a better score and the same attribute value fill a cap"),
        Rule::KeptPlace => {
            return "not in the answer: its place is kept for other videos, which score no more".to_owned();
        }
        Rule::Diversity => {
            return "not in the answer: it is too similar to candidates before it".to_owned();
        }
    };
    if let Some(rule) = rule {
        return format!("in no answer: {rule}");
    }
    if !response.in_exact_answer {
        let is_before = response.lost() == Loss::EarlierPage;
        let why = if is_before { "it is on an earlier page" } else { "other videos score better" };
        return format!("not in the answer: {why}");
    }
    let loss = match response.lost() {
        Loss::Unspecified => "the search lost it",
        Loss::NotReached => "the traversal did not reach it; a larger --ef-search may",
        Loss::NotRescored => "its 8-bit code did not score well enough to be rescored",
        Loss::Displaced => "videos that the exact answer does not have took its place",
        Loss::EarlierPage => "the search returns it on an earlier page",
    };
    format!("missing from the answer, but in the exact answer: {loss}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::proto::SearchStats;

    fn of(response: ExplainResponse) -> Vec<String> {
        let response = ExplainResponse { exact_score: 0.81234, generation: 3, ..response };
        render("42", &response).lines().map(str::to_owned).collect()
    }

    #[test]
    fn says_where_a_candidate_stands() {
        let found = ExplainResponse {
            exact_rank: Some(17),
            in_exact_answer: true,
            found: true,
            rank: Some(16),
            interest: Some(1),
            stats: Some(SearchStats { ef_search: 30, matches: Some(5), ..SearchStats::default() }),
            ..ExplainResponse::default()
        };
        let lines = of(found.clone());
        assert_eq!(lines[0], "video 42 is in the answer, at rank 16");
        assert_eq!(lines[1], "exact score 0.8123 · exact rank 17 · interest 1");
        assert_eq!(
            lines[2],
            "generation 3 · plan unknown · ef_search 30 · matches 5 · distances 0 · elapsed 0.0ns"
        );
        let lucky = of(ExplainResponse { in_exact_answer: false, ..found });
        assert_eq!(lucky[0], "video 42 is in the answer, at rank 16; the exact answer does not have it");
    }

    #[test]
    fn names_the_rule_that_keeps_a_video_out() {
        let lines = of(ExplainResponse {
            removed_by: Rule::Filter.into(),
            removed_at: "filter.must[1].keyword".to_owned(),
            reason: "region is \"DE\"".to_owned(),
            ..ExplainResponse::default()
        });
        let expected = [
            "video 42 is in no answer: it does not match the filter",
            "  filter.must[1].keyword: region is \"DE\"",
            "exact score 0.8123",
            "generation 3",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn tells_a_kept_place_from_what_is_in_no_answer() {
        let lines = of(ExplainResponse {
            exact_rank: Some(9),
            removed_by: Rule::KeptPlace.into(),
            removed_at: "fresh".to_owned(),
            reason: "places are kept for fresh videos, which score no more".to_owned(),
            ..ExplainResponse::default()
        });
        let expected = [
            "video 42 is not in the answer: its place is kept for other videos, which score no more",
            "  fresh: places are kept for fresh videos, which score no more",
            "exact score 0.8123 · exact rank 9",
            "generation 3",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn tells_what_was_lost_from_what_is_not_good_enough() {
        let missing = |in_exact_answer, lost: Loss| {
            let lost = lost.into();
            of(ExplainResponse { in_exact_answer, lost, ..ExplainResponse::default() }).swap_remove(0)
        };
        assert_eq!(
            missing(false, Loss::Unspecified),
            "video 42 is not in the answer: other videos score better"
        );
        let earlier = missing(false, Loss::EarlierPage);
        assert_eq!(earlier, "video 42 is not in the answer: it is on an earlier page");
        assert_eq!(
            missing(true, Loss::NotReached),
            "video 42 is missing from the answer, but in the exact answer: the traversal did not reach it; a larger \
             --ef-search may"
        );
    }
}
