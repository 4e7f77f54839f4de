//! Checks one answer to a request with rules against a scan of every video.

use std::collections::{HashMap, HashSet};

use shortlist::base::element::Dtype;
use shortlist::base::metric::Metric;
use shortlist::engine::{Completeness, Effort, Loss, Plan, Query, Rule, SearchRequest, SearchResponse};

use crate::rules::dataset::{Components, RuledDataset, Shape};
use crate::rules::naive::Naive;

/// One request, its naive evaluation, and the tolerance within which rounding may reorder scores.
pub struct Case<'a> {
    dataset: &'a RuledDataset,
    request: &'a SearchRequest,
    pub naive: Naive<'a>,
    pub rows: HashMap<u64, usize>,
    pub tolerance: f32,
}

impl<'a> Case<'a> {
    pub fn new(dataset: &'a RuledDataset, request: &'a SearchRequest) -> Self {
        let Shape { components, metric, dtype, .. } = dataset.shape;
        let tolerance = match (components, metric, dtype) {
            (Components::Grid | Components::Signs, _, _) => 0.0,
            // Normalizing in another order may round to an adjacent f16.
            (Components::Normal, Metric::Cosine, Dtype::F16) => 1e-3,
            (Components::Normal | Components::Real, _, _) => 1e-4,
        };
        let naive = Naive::new(dataset, request);
        let rows = dataset.videos.iter().enumerate().map(|(row, video)| (video.id, row)).collect();
        Self { dataset, request, naive, rows, tolerance }
    }

    fn near(&self, one: f32, other: f32) -> bool {
        (one - other).abs() <= self.tolerance * one.abs().max(1.0)
    }

    pub fn score(&self, row: usize) -> f32 {
        self.naive.scored[row].score
    }

    /// Returns the rows of an answer, or an error if they break a rule. `before` are the rows of earlier pages.
    pub fn rows(&self, answer: &SearchResponse, before: &[usize]) -> Result<Vec<usize>, String> {
        let in_order = answer
            .candidates
            .is_sorted_by(|a, b| a.score > b.score || a.score == b.score && a.video_id <= b.video_id);
        if !in_order {
            return Err("candidates are not sorted by score and id".to_owned());
        }
        self.diverse_rows(answer, before)
    }

    /// The same of an answer in any order.
    pub fn diverse_rows(&self, answer: &SearchResponse, before: &[usize]) -> Result<Vec<usize>, String> {
        let mut rows = Vec::new();
        for candidate in &answer.candidates {
            let id = candidate.video_id.0;
            let row = *self.rows.get(&id).ok_or(format!("{id} is no video"))?;
            let scored = self.naive.scored[row];
            let wrong = |what: &str| Err(format!("video {id}, which scores {}, {what}", scored.score));
            if !self.near(scored.score, candidate.score) {
                return wrong(&format!("has score {} in the answer", candidate.score));
            }
            if !self.naive.matches(row) {
                return wrong("does not match the filter");
            }
            if self.naive.is_seed(row) {
                return wrong("is a seed");
            }
            if self.naive.is_excluded(row) {
                return wrong("is excluded");
            }
            if self.naive.is_below(row) {
                return wrong("is below the threshold");
            }
            let expected = matches!(self.request.query, Query::Interests(_)).then_some(scored.interest);
            if candidate.interest != expected && self.tolerance == 0.0 {
                return wrong(&format!("is of interest {expected:?}, not of {:?}", candidate.interest));
            }
            rows.push(row);
        }
        let all: Vec<usize> = before.iter().chain(&rows).copied().collect();
        if all.iter().collect::<HashSet<_>>().len() < all.len() {
            return Err("a video occurs twice".to_owned());
        }
        if let Some(overrun) = self.naive.overrun(&all) {
            return Err(format!("caps are exceeded: {overrun}"));
        }
        if rows.len() < self.request.k
            && answer.completeness != Completeness::Deadline
            && let Some(row) = self.naive.left_out(&all, &|_| true)
        {
            let rest = (self.dataset.videos[row].id, self.score(row));
            return Err(format!(
                "only {} candidates, {:?}, and {rest:?} qualifies",
                rows.len(),
                answer.completeness
            ));
        }
        if answer.requested != self.request.k || rows.len() > self.request.k {
            return Err(format!("{} for k = {}", rows.len(), self.request.k));
        }
        let is_true = match answer.completeness {
            Completeness::Complete => rows.len() == self.request.k,
            Completeness::Deadline => true,
            short => rows.len() < self.request.k && self.naive.reasons(&all).contains(&short),
        };
        if !is_true {
            let expected = self.naive.reasons(&all);
            let found = answer.completeness;
            return Err(format!("{} candidates: {found:?}, expected one of {expected:?}", rows.len()));
        }
        Ok(rows)
    }

    /// Checks kept places: a page may have fewer fresh videos, or fewer of an interest, than places kept for them only if
    /// no other such video would fit.
    pub fn keeps_places(&self, rows: &[usize]) -> Result<(), String> {
        let (fresh, interests) = self.naive.kept();
        let enough = |what: String, kept: usize, is_one: &dyn Fn(&usize) -> bool| {
            let found = rows.iter().filter(|row| is_one(row)).count();
            match self.naive.left_out(rows, is_one) {
                Some(row) if found < kept => {
                    let rest = (self.dataset.videos[row].id, self.score(row));
                    Err(format!("{found} {what}, expected {kept}, and {rest:?} qualifies"))
                }
                _ => Ok(()),
            }
        };
        enough("fresh videos".to_owned(), fresh, &|row| self.naive.is_fresh(*row))?;
        for (at, kept) in self.naive.kept_for_reserves().into_iter().enumerate() {
            enough(format!("of reserve {at}"), kept, &|row| self.naive.is_of_reserve(at, *row))?;
        }
        for (at, kept) in interests.into_iter().enumerate() {
            enough(format!("of interest {at}"), kept, &|row| self.naive.scored[*row].interest == at)?;
        }
        Ok(())
    }

    /// Checks that the rows are the expected ones in the expected order.
    pub fn equals(&self, rows: &[usize], expected: &[usize]) -> Result<(), String> {
        let differ = |at: &usize| {
            let (found, expected) = (rows.get(*at), expected.get(*at));
            found != expected
                && !found
                    .zip(expected)
                    .is_some_and(|(a, b)| self.tolerance > 0.0 && self.near(self.score(*a), self.score(*b)))
        };
        match (0..rows.len().max(expected.len())).find(differ) {
            None => Ok(()),
            Some(at) => {
                let show = |rows: &[usize]| {
                    rows.get(at).map(|row| (self.dataset.videos[*row].id, self.naive.scored[*row]))
                };
                let lengths = (rows.len(), expected.len());
                Err(format!(
                    "at {at}: found {:?}, expected {:?}; lengths {lengths:?}",
                    show(rows),
                    show(expected)
                ))
            }
        }
    }

    /// Checks that the answer names the reserves whose places videos hold.
    pub fn marks(&self, answer: &SearchResponse, expected: &[Vec<usize>]) -> Result<(), String> {
        let wrong =
            answer.candidates.iter().zip(expected).find(|(found, expected)| found.reserved != **expected);
        match wrong {
            Some((found, expected)) if self.tolerance == 0.0 => {
                Err(format!("video {} holds {:?}, expected {expected:?}", found.video_id, found.reserved))
            }
            _ => Ok(()),
        }
    }

    /// Explains the absence of a video from the last of `pages`: the rule, its overall place, its rank on that page, and
    /// whether it is on an earlier page.
    pub fn explanation(
        &self,
        row: usize,
        pages: &[Vec<usize>],
    ) -> (Option<Rule>, Option<usize>, Option<usize>, Option<Loss>) {
        let (last, before) = pages.split_last().expect("there are pages");
        let rank = last.iter().position(|other| *other == row).map(|at| at + 1);
        let is_before = before.iter().any(|page| page.contains(&row));
        let place = self.naive.place(row);
        let is_due = place.is_some_and(|place| place <= pages.len() * self.request.k);
        let rule = if self.naive.is_seed(row) {
            Some(Rule::Seed)
        } else if !self.naive.matches(row) {
            Some(Rule::Filter)
        } else if self.naive.is_excluded(row) {
            Some(Rule::Exclude)
        } else if self.naive.is_below(row) {
            Some(Rule::ScoreThreshold)
        } else if rank.is_some() || is_before {
            None
        } else if place.is_none() {
            Some(Rule::Cap)
        } else if self.naive.is_similar(row, last) {
            Some(Rule::Diversity)
        } else {
            let (fresh, interests) = self.naive.kept();
            let kept = interests.into_iter().chain(self.naive.kept_for_reserves()).sum::<usize>() + fresh;
            let is_diverse = self.request.rules.diversity.is_some() && kept == 0;
            is_due.then_some(if is_diverse { Rule::Diversity } else { Rule::KeptPlace })
        };
        (rule, place, rank, is_before.then_some(Loss::EarlierPage))
    }

    /// The share of the expected scores that were found.
    pub fn recall(&self, rows: &[usize], expected: &[usize]) -> f64 {
        let mut left: Vec<f32> = rows.iter().map(|row| self.score(*row)).collect();
        let mut found = 0;
        for row in expected {
            if let Some(at) = left.iter().position(|score| self.near(*score, self.score(*row))) {
                left.swap_remove(at);
                found += 1;
            }
        }
        if expected.is_empty() { 1.0 } else { found as f64 / expected.len() as f64 }
    }

    pub fn with(&self, effort: Effort, plan: Option<Plan>, offset: usize) -> SearchRequest {
        SearchRequest { effort, plan, offset, ..self.request.clone() }
    }
}

/// Collected failures, with everything needed to reproduce them.
#[derive(Default)]
pub struct Failures(Vec<String>);

impl Failures {
    pub fn add(&mut self, result: Result<(), String>, request: &SearchRequest, context: &str) {
        if let Err(problem) = result {
            let mut request = request.clone();
            if let Query::Vector(vector) = &mut request.query {
                vector.truncate(1);
            } else if let Query::Interests(interests) = &mut request.query {
                interests.iter_mut().for_each(|interest| interest.vector.truncate(1));
            }
            let excluded = request.rules.exclude.video_ids.len();
            request.rules.exclude.video_ids.truncate(3);
            self.0.push(format!("{problem}\n  {context}, {excluded} excluded: {request:?}"));
        }
    }

    pub fn check(&self) {
        if std::env::var_os("ORACLE_ALL_FAILURES").is_some() {
            self.0.iter().for_each(|failure| println!("FAIL {failure}"));
        }
        let some = self.0.iter().take(5).map(|failure| format!("{failure}\n")).collect::<String>();
        assert!(self.0.is_empty(), "{} wrong answers; the first of them:\n{some}", self.0.len());
    }
}
