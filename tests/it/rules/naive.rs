//! The answer to a request as the proto defines it, by scanning every video. Uses nothing of the library but the request
//! types.

use std::collections::{HashMap, HashSet};
use std::ops::{Bound, RangeBounds};

use jiff::Timestamp;
use shortlist::base::instant::Instant;
use shortlist::base::metric::Metric;
use shortlist::engine::{Completeness, Query, SearchRequest, Shortfall};
use shortlist::rules::{Condition, Filter, Number, Places, Reserve, Sample, ScoreTerm, TermForm, Time};

use crate::rules::dataset::{RuledDataset, Video};

/// The score of a video, and its interest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub row: usize,
    pub score: f32,
    pub interest: usize,
}

/// One request with the score of every video.
pub struct Naive<'a> {
    dataset: &'a RuledDataset,
    request: &'a SearchRequest,
    now: Timestamp,
    excluded: HashSet<u64>,
    seeds: HashSet<u64>,
    /// Indexed by row.
    pub scored: Vec<Scored>,
    matching: Vec<bool>,
    /// By reserve and row.
    of_reserves: Vec<Vec<bool>>,
}

/// A page: its rows, and the reserves whose places each holds.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub rows: Vec<usize>,
    pub held: Vec<Vec<usize>>,
}

impl<'a> Naive<'a> {
    pub fn new(dataset: &'a RuledDataset, request: &'a SearchRequest) -> Self {
        let now = Timestamp::now();
        let excluded = request.rules.exclude.video_ids.iter().map(|id| id.0).collect();
        let seeds = match &request.query {
            Query::Seeds(seeds) => seeds.iter().map(|seed| seed.video_id.0).collect(),
            Query::Vector(_) | Query::Interests(_) => HashSet::new(),
        };
        let filter = request.rules.filter.as_ref();
        let matching = dataset
            .videos
            .iter()
            .map(|video| filter.is_none_or(|filter| holds(filter, video, now)))
            .collect();
        let mut scored = score(dataset, &request.query);
        for (scored, video) in scored.iter_mut().zip(&dataset.videos) {
            let added: Vec<f64> =
                request.rules.score_terms.iter().map(|term| added(term, video, now)).collect();
            scored.score += added.iter().sum::<f64>() as f32;
        }
        let matches = |reserve: &Reserve| {
            dataset.videos.iter().map(|video| holds(&reserve.filter, video, now)).collect()
        };
        let of_reserves = request.rules.reserves.iter().map(matches).collect();
        Self { dataset, request, now, excluded, seeds, scored, matching, of_reserves }
    }

    /// What each term adds to the score of a video.
    pub fn added(&self, row: usize) -> Vec<f64> {
        let terms = self.request.rules.score_terms.iter();
        terms.map(|term| added(term, self.video(row), self.now)).collect()
    }

    fn video(&self, row: usize) -> &'a Video {
        &self.dataset.videos[row]
    }

    pub fn matches(&self, row: usize) -> bool {
        self.matching[row]
    }

    pub fn count_matches(&self) -> usize {
        self.matching.iter().filter(|matches| **matches).count()
    }

    pub fn is_seed(&self, row: usize) -> bool {
        self.seeds.contains(&self.video(row).id)
    }

    pub fn is_excluded(&self, row: usize) -> bool {
        self.excluded.contains(&self.video(row).id)
    }

    pub fn is_below(&self, row: usize) -> bool {
        self.request.rules.score_threshold.is_some_and(|threshold| self.scored[row].score < threshold)
    }

    /// Whether the video passes all rules on single videos: filter, exclusion, seeds, threshold.
    pub fn passes(&self, row: usize) -> bool {
        self.matches(row) && !self.is_seed(row) && !self.is_excluded(row) && !self.is_below(row)
    }

    pub fn is_fresh(&self, row: usize) -> bool {
        let Some(fresh) = &self.request.rules.fresh else { return false };
        assert_eq!(fresh.attribute, "published_at");
        self.video(row)
            .published_at
            .is_some_and(|time| time >= self.now.saturating_sub(fresh.within).unwrap())
    }

    /// The number of places kept on a page for fresh videos and for each interest.
    pub fn kept(&self) -> (usize, Vec<usize>) {
        let fresh = self.request.rules.fresh.as_ref().map_or(0, |fresh| fresh.at_least);
        let share = |share: f32| (f64::from(share) * self.request.k as f64 + 1e-4).floor() as usize;
        match &self.request.query {
            Query::Interests(interests) => {
                (fresh, interests.iter().map(|interest| share(interest.min_share)).collect())
            }
            Query::Vector(_) | Query::Seeds(_) => (fresh, vec![0]),
        }
    }

    /// Sorts by descending score, ties by video id.
    pub fn sort(&self, rows: &mut [usize]) {
        rows.sort_by(|a, b| {
            let by_score = self.scored[*b].score.partial_cmp(&self.scored[*a].score).expect("a number");
            by_score.then(self.video(*a).id.cmp(&self.video(*b).id))
        });
    }

    /// Whether a video matches a reserve.
    pub fn is_of_reserve(&self, reserve: usize, row: usize) -> bool {
        self.of_reserves[reserve][row]
    }

    /// The number of places kept on a page for each reserve.
    pub fn kept_for_reserves(&self) -> Vec<usize> {
        let k = self.request.k;
        let places = |reserve: &Reserve| match reserve.places {
            Places::AtLeast(count) => count,
            Places::Share(share) => (f64::from(share) * k as f64 + 1e-4).floor() as usize,
        };
        self.request.rules.reserves.iter().map(places).collect()
    }

    /// Returns the first `count` pages of k.
    pub fn pages(&self, count: usize) -> Vec<Vec<usize>> {
        self.held_pages(count).into_iter().map(|page| page.rows).collect()
    }

    /// Returns the first `count` pages of k, and whose places their videos hold.
    pub fn held_pages(&self, count: usize) -> Vec<Page> {
        let mut left: Vec<usize> = (0..self.scored.len()).filter(|row| self.passes(*row)).collect();
        self.sort(&mut left);
        let mut counters = CapCounters::new(self.request);
        let mut pages = Vec::new();
        for _ in 0..count {
            let mut held = HashMap::new();
            let mut rows = self.page(&left, &mut counters, &mut held);
            self.sort(&mut rows);
            left.retain(|row| !rows.contains(row));
            let held =
                rows.iter().map(|row| held.remove(row).unwrap_or_default()).map(|mut of: Vec<usize>| {
                    of.sort_unstable();
                    of
                });
            pages.push(Page { held: held.collect(), rows });
        }
        pages
    }

    /// The place of a video among all that pass, without kept places; `None` if a cap excludes it.
    pub fn place(&self, row: usize) -> Option<usize> {
        let mut order: Vec<usize> = (0..self.scored.len()).filter(|row| self.passes(*row)).collect();
        self.sort(&mut order);
        let mut counters = CapCounters { max_similarity: None, ..CapCounters::new(self.request) };
        order.retain(|row| counters.take(self.video(*row)));
        order.iter().position(|other| *other == row).map(|at| at + 1)
    }

    /// Draws the videos of sampled reserves. Then fills places in order of score while enough remain for kept places. Places that
    /// turn out not to be needed go to the best of the videos skipped for them.
    fn page(
        &self,
        order: &[usize],
        counters: &mut CapCounters,
        held: &mut HashMap<usize, Vec<usize>>,
    ) -> Vec<usize> {
        let reserves = &self.request.rules.reserves;
        let (mut fresh, mut interests) = self.kept();
        let mut kept_for = self.kept_for_reserves();
        let mut taken: Vec<usize> = Vec::new();
        for (at, sample) in reserves.iter().enumerate().filter_map(|(at, of)| Some((at, of.sample?))) {
            let mut drawn: Vec<usize> =
                order.iter().copied().filter(|row| self.is_of_reserve(at, *row)).collect();
            let key = |row: usize| draw_key(sample, self.scored[row].score, self.video(row).id);
            drawn.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(self.video(*a).id.cmp(&self.video(*b).id)));
            for row in drawn {
                if kept_for[at] == 0 {
                    break;
                }
                let is_taken = taken.contains(&row);
                if is_taken || counters.take(self.video(row)) {
                    taken.extend((!is_taken).then_some(row));
                    held.entry(row).or_default().push(at);
                    kept_for[at] -= 1;
                }
            }
            kept_for[at] = 0;
        }
        let drawn = taken.clone();
        // What a video fills: whether it is fresh, reserves, and whether it is of an interest that has places left.
        let fill = |row: usize,
                    fresh: &mut usize,
                    kept_for: &mut Vec<usize>,
                    interests: &mut Vec<usize>,
                    held: &mut HashMap<usize, Vec<usize>>| {
            if *fresh > 0 && self.is_fresh(row) {
                *fresh -= 1;
            }
            for (at, kept) in kept_for.iter_mut().enumerate() {
                if *kept > 0 && self.is_of_reserve(at, row) {
                    *kept -= 1;
                    held.entry(row).or_default().push(at);
                }
            }
            let interest = self.scored[row].interest;
            interests[interest] = interests[interest].saturating_sub(1);
        };
        drawn.iter().for_each(|row| fill(*row, &mut fresh, &mut kept_for, &mut interests, held));
        let mut passed_over = Vec::new();
        for row in order.iter().filter(|row| !drawn.contains(row)) {
            let free = self.request.k - taken.len();
            let of_reserves =
                (0..kept_for.len()).filter(|at| kept_for[*at] > 0 && self.is_of_reserve(*at, *row)).count();
            let fills = usize::from(fresh > 0 && self.is_fresh(*row))
                + usize::from(interests[self.scored[*row].interest] > 0)
                + of_reserves;
            let kept = fresh + interests.iter().sum::<usize>() + kept_for.iter().sum::<usize>();
            if free == 0 {
                break;
            }
            if free - 1 < kept - fills {
                passed_over.push(*row);
            } else if counters.take(self.video(*row)) {
                taken.push(*row);
                fill(*row, &mut fresh, &mut kept_for, &mut interests, held);
            }
            // A video that fills two kept places frees one.
            let kept = fresh + interests.iter().sum::<usize>() + kept_for.iter().sum::<usize>();
            passed_over.retain(|row| {
                let has_place = self.request.k - taken.len() > kept;
                let is_taken = has_place && counters.take(self.video(*row));
                taken.extend(is_taken.then_some(*row));
                !is_taken
            });
        }
        for row in passed_over {
            if taken.len() < self.request.k && counters.take(self.video(row)) {
                taken.push(row);
            }
        }
        taken
    }

    /// The valid reasons for a short answer, by their definitions in the proto, given the candidates of all pages so far.
    pub fn reasons(&self, returned: &[usize]) -> Vec<Completeness> {
        let mut counters = CapCounters::new(self.request);
        returned.iter().for_each(|row| counters.count(self.video(*row)));
        let returned: HashSet<usize> = returned.iter().copied().collect();
        let has = |which: &dyn Fn(usize) -> bool| {
            (0..self.scored.len()).any(|row| !returned.contains(&row) && !self.is_seed(row) && which(row))
        };
        let mut reasons = Vec::new();
        let mut add = |is_so, reason| {
            if is_so {
                reasons.push(Completeness::Short(reason));
            }
        };
        add(!has(&|_| true), Shortfall::IndexExhausted);
        add(self.request.rules.filter.is_some() && !has(&|row| self.matches(row)), Shortfall::TooFewMatches);
        add(has(&|row| self.matches(row) && self.is_excluded(row)), Shortfall::Excluded);
        add(has(&|row| self.matches(row) && self.is_below(row)), Shortfall::ScoreThreshold);
        let is_similar = |row| self.passes(row) && counters.is_similar(self.video(row));
        add(has(&is_similar), Shortfall::TooSimilar);
        let is_capped = |row| self.passes(row) && !counters.caps_have_room(self.video(row));
        add(has(&is_capped), Shortfall::CapsExhausted);
        reasons
    }

    /// The first such video that passes every rule and would fit the caps in addition to these.
    pub fn left_out(&self, returned: &[usize], which: &dyn Fn(&usize) -> bool) -> Option<usize> {
        let mut counters = CapCounters::new(self.request);
        returned.iter().for_each(|row| counters.count(self.video(*row)));
        let returned: HashSet<usize> = returned.iter().copied().collect();
        let is_left_out =
            |row: &usize| self.passes(*row) && !returned.contains(row) && counters.has_room(self.video(*row));
        (0..self.scored.len()).filter(is_left_out).find(which)
    }

    /// Whether the caps have room for a video beside these.
    pub fn fits_caps(&self, row: usize, others: &[usize]) -> bool {
        let mut counters = CapCounters::new(self.request);
        others.iter().for_each(|row| counters.count(self.video(*row)));
        counters.caps_have_room(self.video(row))
    }

    /// Whether a video has room beside these.
    pub fn fits(&self, row: usize, others: &[usize]) -> bool {
        let mut counters = CapCounters::new(self.request);
        others.iter().for_each(|row| counters.count(self.video(*row)));
        counters.has_room(self.video(row))
    }

    /// Whether a video is too similar to one of these.
    pub fn is_similar(&self, row: usize, to: &[usize]) -> bool {
        let mut counters = CapCounters::new(self.request);
        to.iter().for_each(|row| counters.count(self.video(*row)));
        counters.is_similar(self.video(row))
    }

    /// The first cap that these videos exceed, or the first that is too similar to another one.
    pub fn overrun(&self, returned: &[usize]) -> Option<String> {
        if let Some(most) = self.request.rules.diversity.and_then(|diversity| diversity.max_similarity) {
            for (at, one) in returned.iter().enumerate() {
                let is_above = |other: &&usize| {
                    similarity(self.video(*one), self.video(**other)) > f64::from(most) + 1e-6
                };
                if let Some(other) = returned[..at].iter().find(is_above) {
                    return Some(format!("rows {other} and {one} are too similar"));
                }
            }
        }
        let mut counters = CapCounters::new(self.request);
        returned.iter().for_each(|row| counters.count(self.video(*row)));
        let over = |((cap, _), count): &(&(usize, String), &usize)| **count > counters.caps[*cap].1;
        counters.counts.iter().find(over).map(|(value, count)| format!("{count} of {value:?}"))
    }
}

/// Counters of the caps.
struct CapCounters {
    caps: Vec<(String, usize)>,
    counts: HashMap<(usize, String), usize>,
    max_similarity: Option<f32>,
    taken: Vec<Video>,
}

/// The cosine of two embeddings; 0 for zeros.
pub fn similarity(one: &Video, other: &Video) -> f64 {
    let product =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let norms = product(&one.vector, &one.vector) * product(&other.vector, &other.vector);
    if norms > 0.0 { product(&one.vector, &other.vector) / norms.sqrt() } else { 0.0 }
}

impl CapCounters {
    fn new(request: &SearchRequest) -> Self {
        let caps = request.rules.caps.iter().map(|cap| (cap.attribute.clone(), cap.max_per_value));
        let max_similarity = request.rules.diversity.and_then(|diversity| diversity.max_similarity);
        Self { caps: caps.collect(), counts: HashMap::new(), max_similarity, taken: Vec::new() }
    }

    fn values(&self, video: &Video) -> HashSet<(usize, String)> {
        let of_cap = |(at, (attribute, _)): (usize, &(String, usize))| -> Vec<(usize, String)> {
            let values = match attribute.as_str() {
                "creator" => video.creator.iter().cloned().collect(),
                "region" => vec![video.region.clone()],
                "topics" => video.topics.clone().unwrap_or_default(),
                "views" => vec![video.views.to_string()],
                "safe" => vec![video.safe.to_string()],
                other => panic!("no cap on {other}"),
            };
            values.into_iter().map(|value| (at, value)).collect()
        };
        self.caps.iter().enumerate().flat_map(of_cap).collect()
    }

    fn has_room(&self, video: &Video) -> bool {
        self.caps_have_room(video) && !self.is_similar(video)
    }

    fn caps_have_room(&self, video: &Video) -> bool {
        let count = |value: &(usize, String)| self.counts.get(value).copied().unwrap_or_default();
        self.values(video).iter().all(|value| count(value) < self.caps[value.0].1)
    }

    fn is_similar(&self, video: &Video) -> bool {
        let is_above = |most: f32| self.taken.iter().any(|other| similarity(video, other) > f64::from(most));
        self.max_similarity.is_some_and(is_above)
    }

    fn count(&mut self, video: &Video) {
        if self.max_similarity.is_some() {
            self.taken.push(video.clone());
        }
        for value in self.values(video) {
            *self.counts.entry(value).or_default() += 1;
        }
    }

    fn take(&mut self, video: &Video) -> bool {
        let has_room = self.has_room(video);
        if has_room {
            self.count(video);
        }
        has_room
    }
}

fn score(dataset: &RuledDataset, query: &Query) -> Vec<Scored> {
    let metric = dataset.shape.metric;
    let queries: Vec<(Vec<f32>, f32)> = match query {
        Query::Vector(vector) => vec![(vector.clone(), 1.0)],
        Query::Interests(interests) => {
            interests.iter().map(|interest| (interest.vector.clone(), interest.weight)).collect()
        }
        Query::Seeds(seeds) => {
            let mut sum = vec![0f32; dataset.shape.dim];
            for seed in seeds {
                let known = dataset.videos.iter().find(|video| video.id == seed.video_id.0);
                for (sum, value) in sum.iter_mut().zip(known.iter().flat_map(|video| &video.vector)) {
                    *sum += seed.weight * value;
                }
            }
            vec![(sum, 1.0)]
        }
    };
    let score_for = |(query, weight): &(Vec<f32>, f32), row: &[f32]| {
        let product = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let score = match metric {
            Metric::InnerProduct => product(query, row),
            Metric::Cosine if query.iter().all(|value| *value == 0.0) => 0.0,
            Metric::Cosine => product(query, row) / product(query, query).sqrt(),
            Metric::L2 => {
                -query.iter().zip(row).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
            }
        };
        weight * score as f32
    };
    let best = |(row, video): (usize, &Video)| {
        let mut best = Scored { row, score: f32::NEG_INFINITY, interest: 0 };
        for (interest, query) in queries.iter().enumerate() {
            let score = score_for(query, &video.vector);
            if score > best.score {
                best = Scored { row, score, interest };
            }
        }
        best
    };
    dataset.videos.iter().enumerate().map(best).collect()
}

/// What a term adds to the score of a video.
fn added(term: &ScoreTerm, video: &Video, now: Timestamp) -> f64 {
    let ScoreTerm { attribute, weight, form } = term;
    let number = || match attribute.as_str() {
        "views" => video.views as f64,
        "score" => video.score,
        other => panic!("{other} is no number"),
    };
    let age = || video.published_at.map(|time| now.duration_since(time).as_secs_f64().max(0.0));
    let has_any = |any_of: &[String]| match attribute.as_str() {
        "creator" => video.creator.as_ref().is_some_and(|creator| any_of.contains(creator)),
        "region" => any_of.contains(&video.region),
        "topics" => video.topics.iter().flatten().any(|topic| any_of.contains(topic)),
        other => panic!("{other} is no keyword"),
    };
    let part = match form {
        TermForm::Linear => number(),
        TermForm::Log1p => number().ln_1p(),
        TermForm::Clamp { from, to } => ((number() - from) / (to - from)).clamp(0.0, 1.0),
        TermForm::HalfLife(half_life) => age().map_or(0.0, |age| 0.5f64.powf(age / half_life.as_secs_f64())),
        TermForm::Window(window) => age().map_or(0.0, |age| (1.0 - age / window.as_secs_f64()).max(0.0)),
        TermForm::Match { any_of } => f64::from(u8::from(has_any(any_of))),
    };
    weight * part
}

fn holds(filter: &Filter, video: &Video, now: Timestamp) -> bool {
    let one = |condition: &&Condition| condition_holds(condition, video, now);
    let least = filter.min_should.unwrap_or(usize::from(!filter.should.is_empty()));
    filter.must.iter().all(|condition| one(&condition))
        && filter.should.iter().filter(one).count() >= least
        && !filter.must_not.iter().any(|condition| one(&condition))
}

fn condition_holds(condition: &Condition, video: &Video, now: Timestamp) -> bool {
    match condition {
        Condition::Filter(filter) => holds(filter, video, now),
        Condition::Keyword { attribute, any_of } => match attribute.as_str() {
            "creator" => video.creator.as_ref().is_some_and(|creator| any_of.contains(creator)),
            "region" => any_of.contains(&video.region),
            other => panic!("{other} is no keyword"),
        },
        Condition::List { any_of, all_of, .. } => video.topics.as_ref().is_some_and(|topics| {
            (any_of.is_empty() || any_of.iter().any(|word| topics.contains(word)))
                && all_of.iter().all(|word| topics.contains(word))
        }),
        Condition::Number { attribute, lower, upper } => {
            let value = if attribute == "views" { video.views as f64 } else { video.score };
            let number = |number: Number| match number {
                Number::Int64(number) => number as f64,
                Number::Uint64(number) => number as f64,
                Number::Double(number) => number,
            };
            (lower.map(number), upper.map(number)).contains(&value)
        }
        Condition::Time { lower, upper, .. } => video.published_at.is_some_and(|published| {
            let time = |time: Time| match time {
                Time::At(time) => time,
                Time::Ago(ago) => Instant::from(now - ago),
            };
            let within: (Bound<Instant>, Bound<Instant>) = (lower.map(time), upper.map(time));
            within.contains(&published.into())
        }),
        Condition::Bool { value, .. } => video.safe == *value,
        Condition::IsNull { attribute } => match attribute.as_str() {
            "creator" => video.creator.is_none(),
            "topics" => video.topics.is_none(),
            "published_at" => video.published_at.is_none(),
            _ => false,
        },
        Condition::VideoId { any_of } => any_of.iter().any(|id| id.0 == video.id),
    }
}

/// By which a video is drawn: its score over the temperature, and noise from the Gumbel distribution.
pub fn draw_key(sample: Sample, score: f32, video: u64) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let bits = mix(mix(video ^ mix(sample.seed))) >> 12;
    let uniform = (bits as f64 + 0.5) / 2f64.powi(52);
    f64::from(score) / f64::from(sample.temperature) - (-uniform.ln()).ln()
}
