//! Checks that an answer keeps the rules of its request, using the attribute values of its videos.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::exact::ExactAnswer;
use super::file::Request;
use super::holds::holds;
use crate::attributes::{Columns, Value};
use crate::base::id::NodeId;
use crate::base::instant::Instant;
use crate::engine::{Candidate, Query};
use crate::index::Index;

/// A checker that reads values from the index under test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check<'a> {
    pub(super) index: &'a Index,
    /// The time at which the requests were read, before any search.
    pub(super) started: Timestamp,
}

impl Check<'_> {
    /// Describes the first rule that the answer to a request for `k` breaks; `None` if it keeps all.
    pub(super) fn violation(
        &self,
        request: &Request,
        k: usize,
        answer: &[Candidate],
        exact: &ExactAnswer,
    ) -> Option<String> {
        let found = answer.len();
        let is_short = found < exact.ids.len() && !request.leaves_out_similar();
        if found > k || is_short {
            return Some(format!("expected {} candidates, found {found}", exact.ids.len()));
        }
        let are_in_order =
            |a: &Candidate, b: &Candidate| a.score > b.score || a.score == b.score && a.video_id < b.video_id;
        let is_chosen = request.rules.diversity.is_some_and(|diversity| diversity.lambda.is_some());
        if !is_chosen && !answer.is_sorted_by(are_in_order) {
            return Some("candidates are not sorted by score and id".to_owned());
        }
        let mut seen = HashSet::new();
        let mut nodes = Vec::with_capacity(found);
        for candidate in answer {
            let video = candidate.video_id;
            let node = self.index.node_of(video);
            match node {
                Some(node) if seen.insert(node) => nodes.push(node),
                Some(_) => return Some(format!("video {video} occurs twice")),
                None => return Some(format!("video {video} is not in the index")),
            }
            if let Some(problem) = node.and_then(|node| self.of_one(request, candidate, node)) {
                return Some(format!("video {video} {problem}"));
            }
        }
        let similar = || self.too_similar(request, &nodes);
        self.caps(request, &nodes)
            .or_else(similar)
            .or_else(|| self.kept_places(request, k, answer, &nodes, exact))
    }

    /// The rule that one candidate breaks by itself, independently of the others.
    fn of_one(&self, request: &Request, candidate: &Candidate, node: NodeId) -> Option<&'static str> {
        let Candidate { video_id, score, .. } = candidate;
        let rules = &request.rules;
        if let Query::Seeds(seeds) = &request.query
            && seeds.iter().any(|seed| seed.video_id == *video_id)
        {
            return Some("is a seed");
        }
        if rules.filter.as_ref().is_some_and(|filter| !holds(filter, &Columns::of(self.index), node)) {
            return Some("does not match the filter");
        }
        if request.excluded.contains(*video_id) {
            return Some("is excluded");
        }
        rules.score_threshold.is_some_and(|least| *score < least).then_some("scores less than the threshold")
    }

    fn too_similar(&self, request: &Request, nodes: &[NodeId]) -> Option<String> {
        let most = f64::from(request.rules.diversity?.max_similarity?);
        let unit = |node: &NodeId| -> Vec<f64> {
            let mut row = Vec::new();
            self.index.vectors().copy_row(node.index(), &mut row);
            let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            row.iter().map(|value| f64::from(*value) / norm.max(f64::MIN_POSITIVE)).collect()
        };
        let units: Vec<Vec<f64>> = nodes.iter().map(unit).collect();
        let similarity = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
        // Rounding of single precision.
        let is_above = |(one, other): &(usize, usize)| similarity(&units[*one], &units[*other]) > most + 1e-5;
        let pairs = (0..nodes.len()).flat_map(|one| (one + 1..nodes.len()).map(move |other| (one, other)));
        let (one, other) = pairs.into_iter().find(is_above)?;
        let ids = self.index.video_ids();
        let (one, other) = (ids[nodes[one].index()], ids[nodes[other].index()]);
        Some(format!("videos {one} and {other} are more similar than {most}"))
    }

    fn caps(&self, request: &Request, nodes: &[NodeId]) -> Option<String> {
        let columns = Columns::of(self.index);
        for cap in &request.rules.caps {
            let column = columns.find(&cap.attribute)?;
            let mut counts: HashMap<String, usize> = HashMap::new();
            for value in nodes.iter().filter_map(|node| columns.value(column, *node)) {
                let words = match value {
                    Value::KeywordList(words) => words.into_iter().collect::<HashSet<_>>(),
                    other => HashSet::from([other.to_string()]),
                };
                words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
            }
            if let Some((word, found)) = counts.iter().find(|(_, count)| **count > cap.max_per_value) {
                let (attribute, most) = (&cap.attribute, cap.max_per_value);
                return Some(format!("expected at most {most} with {attribute} {word:?}, found {found}"));
            }
        }
        None
    }

    /// Checks kept places: an answer must fill at least as many as the exact answer. Not checked if caps compete for the
    /// places or earlier pages took some of them, since then the exact answer is no bound for another answer.
    fn kept_places(
        &self,
        request: &Request,
        k: usize,
        answer: &[Candidate],
        nodes: &[NodeId],
        exact: &ExactAnswer,
    ) -> Option<String> {
        if !request.rules.caps.is_empty() || request.offset > 0 {
            return None;
        }
        if let Some(fresh) = &request.rules.fresh {
            // Videos age during a run. Count the exact answer at its end, when fewer are fresh, and the answer at its
            // start, when more are, so that aging is no violation.
            let exact = exact.ids.iter().filter_map(|id| self.index.node_of(*id));
            let exact =
                exact.filter(|node| self.is_since(&fresh.attribute, Timestamp::now(), fresh.within, *node));
            let expected = fresh.at_least.min(exact.count());
            let found = nodes
                .iter()
                .filter(|node| self.is_since(&fresh.attribute, self.started, fresh.within, **node));
            let found = found.count();
            if found < expected {
                return Some(format!("expected {expected} fresh candidates, found {found}"));
            }
        }
        for (position, reserve) in request.rules.reserves.iter().enumerate() {
            let matches = |node: &NodeId| holds(&reserve.filter, &Columns::of(self.index), *node);
            let of_exact = exact.ids.iter().filter_map(|id| self.index.node_of(*id)).filter(matches);
            let expected = reserve.at_least(k).min(of_exact.count());
            let found = nodes.iter().filter(|node| matches(node)).count();
            if found < expected {
                return Some(format!("expected {expected} candidates of reserve {position}, found {found}"));
            }
        }
        let Query::Interests(interests) = &request.query else { return None };
        for (at, interest) in interests.iter().enumerate() {
            let expected = interest.at_least(k).min(exact.by_interest[at]);
            let found = answer.iter().filter(|candidate| candidate.interest == Some(at)).count();
            if found < expected {
                return Some(format!("expected {expected} candidates of interest {at}, found {found}"));
            }
        }
        None
    }

    fn is_since(&self, attribute: &str, now: Timestamp, within: SignedDuration, node: NodeId) -> bool {
        let columns = Columns::of(self.index);
        let value = columns.find(attribute).and_then(|column| columns.value(column, node));
        let earliest = Instant::from(now).saturating_sub(within);
        matches!(value, Some(Value::Timestamp(time)) if time >= earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::VideoId;
    use crate::base::metric::Metric;
    use crate::build::{BuildParams, Silent, build};
    use crate::dataset::{Dataset, DatasetFiles};
    use crate::eval::Requests;
    use crate::index::IndexStore;
    use crate::synth::{SynthParams, synth};

    /// An index of 100 synthetic videos.
    fn index(dir: &std::path::Path) -> Index {
        let params = SynthParams { videos: 100, dim: 4, users: 10, seed: 1, duplicates: 0 };
        let files = synth(params, dir, |_| {}).unwrap();
        let dataset = DatasetFiles {
            embeddings: vec![files.videos],
            ids: Some(files.video_ids),
            attributes: vec![files.attributes],
        };
        let dataset = Dataset::open(&dataset, Metric::InnerProduct).unwrap();
        let params = BuildParams::new(Metric::InnerProduct, 4, 16).unwrap();
        let store = IndexStore::new(dir.join("index"));
        build(&dataset, None, &params, &store, &Silent, std::time::Instant::now()).unwrap();
        store.open_current().unwrap().1
    }

    fn candidate(video_id: VideoId, score: f32) -> Candidate {
        Candidate {
            video_id,
            text_id: None,
            score,
            interest: None,
            attributes: Vec::new(),
            vector: None,
            terms: Vec::new(),
            reserved: Vec::new(),
        }
    }

    fn exact(ids: &[VideoId], by_interest: &[usize]) -> ExactAnswer {
        let scores = vec![0.0; ids.len()];
        ExactAnswer { ids: ids.to_vec(), scores, by_interest: by_interest.to_vec() }
    }

    #[test]
    fn every_rule_that_an_answer_breaks_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path());
        let columns = Columns::of(&index);
        let word = |name: &str, node: u32| {
            columns.value(columns.find(name).unwrap(), NodeId(node)).unwrap().to_string()
        };
        let ids = index.video_ids();
        // Two videos of one region and one of another.
        let (one, same) = (0..100)
            .flat_map(|one| (one + 1..100).map(move |same| (one, same)))
            .find(|(one, same)| word("region", *one) == word("region", *same))
            .unwrap();
        let other = (0..100).find(|other| word("region", *other) != word("region", one)).unwrap();
        let (region, one, same, other) =
            (word("region", one), ids[one as usize], ids[same as usize], ids[other as usize]);
        let mut answer = vec![candidate(one, 3.0), candidate(same, 2.0), candidate(other, 1.0)];
        let whole = exact(&[one, same, other], &[0, 0]);
        let file = folder.path().join("requests.jsonl");
        let queries = crate::dataset::Embeddings::open(&folder.path().join("users_test.npy")).unwrap();
        let parsed = |line: &str| {
            std::fs::write(&file, line).unwrap();
            let requests = Requests::read(&file, Some(queries.view()), Timestamp::now(), None).unwrap();
            requests.all()[0].clone()
        };
        let check = Check { index: &index, started: Timestamp::now() };
        let of = |line: &str, answer: &[Candidate]| check.violation(&parsed(line), 3, answer, &whole);

        assert_eq!(of("{}", &answer), None);
        assert_eq!(of("{}", &answer[..2]), Some("expected 3 candidates, found 2".to_owned()));
        for (line, video, problem) in [
            (format!("{{\"filter\": \"region = '{region}'\"}}"), other, "does not match the filter"),
            (format!("{{\"exclude\": [{same}]}}"), same, "is excluded"),
            (format!("{{\"seeds\": [{{\"video_id\": {one}}}]}}"), one, "is a seed"),
            ("{\"score_threshold\": 1.5}".to_owned(), other, "scores less than the threshold"),
        ] {
            assert_eq!(of(&line, &answer), Some(format!("video {video} {problem}")), "{line}");
        }
        let capped = format!("expected at most 1 with region {region:?}, found 2");
        assert_eq!(of("{\"caps\": {\"region\": 1}}", &answer), Some(capped));
        assert_eq!(of("{\"caps\": {\"region\": 2}}", &answer), None);

        let interests = "{\"interests\": [{\"query\": 0}, {\"query\": 1, \"min_share\": 0.34}]}";
        let attributed = exact(&[one, same, other], &[2, 1]);
        answer.iter_mut().for_each(|candidate| candidate.interest = Some(0));
        let found = |answer: &[Candidate]| check.violation(&parsed(interests), 3, answer, &attributed);
        assert_eq!(found(&answer), Some("expected 1 candidates of interest 1, found 0".to_owned()));
        answer[2].interest = Some(1);
        assert_eq!(found(&answer), None);

        // With a window of 100 years all videos are fresh, so the answer must keep three.
        let fresh = "{\"fresh\": {\"within\": \"36500d\", \"at_least\": 3}}";
        assert_eq!(of(fresh, &answer), None);
        let late = Check { started: Timestamp::MAX, ..check };
        let found = late.violation(&parsed(fresh), 3, &answer, &whole);
        assert_eq!(found, Some("expected 3 fresh candidates, found 0".to_owned()));

        answer.swap(0, 1);
        assert_eq!(of("{}", &answer), Some("candidates are not sorted by score and id".to_owned()));
        let twice = [candidate(one, 3.0), candidate(one, 2.0), candidate(other, 1.0)];
        assert_eq!(of("{}", &twice), Some(format!("video {one} occurs twice")));
        let unknown = [candidate(VideoId(0), 3.0), candidate(one, 2.0), candidate(other, 1.0)];
        assert_eq!(of("{}", &unknown), Some("video 0 is not in the index".to_owned()));
    }
}
