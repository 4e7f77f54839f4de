//! The requests of a sample catalog: a file for `bench --requests`, with filters that match known shares.
//!
//! What flows in: topic, `experiment` and embedding of each video, and held-out users. What flows out: a line per
//! label and user.
//!
//! | label | filter |
//! |---|---|
//! | `no rules` | none |
//! | `1 % random` | a range of `experiment`, which is independent of the embedding |
//! | `1 % near`, `1 % far` | the topics whose videos score best, or worst, for the user on average |
//! | `four interests` | none; the request has four users as interests |
//! | `10,000 excluded` | none; 10,000 ids are excluded, the same for all users |

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use rand::seq::index::sample;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use serde::Serialize;

use super::model::{Draw, Model};
use super::words;
use crate::base::output::Output;
use crate::base::parallel;

/// The file of excluded ids, as lines name it: relative to the file of requests.
pub(super) const EXCLUDED_FILE: &str = "excluded.npy";
/// Most lines per label. This number measures recall to half a percentage point.
const MAX_USERS: usize = 300;
/// The share of videos that a filter matches: one in n, and its label.
const SHARES: [(usize, &str); 5] =
    [(2, "50 %"), (10, "10 %"), (100, "1 %"), (1_000, "0.1 %"), (10_000, "0.01 %")];
/// A set of topics may exceed its share by at most one in this many.
const TOLERANCE: usize = 5;
/// Most excluded ids; a small catalog excludes a fifth of its videos.
const MAX_EXCLUDED: usize = 10_000;

/// The properties of the videos that filters use.
pub(super) struct Population {
    /// The topic of each video.
    topic_of: Vec<u32>,
    /// `experiment` of all videos, ascending.
    experiments: Vec<f64>,
    topics: Vec<Topic>,
}

/// The videos of one topic.
#[derive(Clone)]
struct Topic {
    experiments: Vec<f64>,
    /// `[dim]`: the sum of their embeddings, in f64 and in the order of the videos.
    sum: Vec<f64>,
}

#[derive(Serialize)]
struct Line {
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interests: Option<[Interest; 4]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude_file: Option<&'static str>,
}

#[derive(Serialize)]
struct Interest {
    query: usize,
}

impl Population {
    /// Starts with the topic and `experiment` of each video; [`Self::add`] adds the embeddings.
    pub(super) fn new(topic_of: Vec<u32>, mut experiments: Vec<f64>, dim: usize) -> Self {
        let count = topic_of.iter().max().map_or(0, |last| *last as usize + 1);
        let mut topics = vec![Topic { experiments: Vec::new(), sum: vec![0.0; dim] }; count];
        for (topic, experiment) in topic_of.iter().zip(&experiments) {
            topics[*topic as usize].experiments.push(*experiment);
        }
        experiments.par_sort_unstable_by(f64::total_cmp);
        Self { topic_of, experiments, topics }
    }

    /// Adds the embedding of a video. The order of calls affects the rounding of the sums.
    pub(super) fn add(&mut self, video: usize, embedding: &[f32]) {
        let sum = &mut self.topics[self.topic_of[video] as usize].sum;
        sum.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += f64::from(*value));
    }

    fn videos(&self) -> usize {
        self.experiments.len()
    }

    /// Returns the topics that have videos, by descending mean score for the user.
    fn nearest_topics(&self, user: &[f32]) -> Vec<usize> {
        let mean_score = |topic: &Topic| {
            let sum: f64 = topic.sum.iter().zip(user).map(|(sum, value)| sum * f64::from(*value)).sum();
            sum / topic.experiments.len() as f64
        };
        let topics = self.topics.iter().enumerate().filter(|(_, topic)| !topic.experiments.is_empty());
        let mut scored: Vec<(usize, f64)> =
            topics.map(|(number, topic)| (number, mean_score(topic))).collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        scored.into_iter().map(|(number, _)| number).collect()
    }

    /// Returns a filter for a random range of `experiment` that matches `count` videos, `1..=videos`.
    fn random(&self, count: usize, random: &mut impl Rng) -> String {
        let first = random.random_range(0..=self.videos() - count);
        range(self.experiments[first], self.experiments.get(first + count))
    }

    /// Returns a filter for the first of `topics` that have `count` videos together. If they exceed `count` by more
    /// than one in [`TOLERANCE`], the filter also has a range of `experiment`.
    fn of_topics(&self, topics: impl Iterator<Item = usize>, count: usize, random: &mut impl Rng) -> String {
        let (mut taken, mut names, mut found) = (Vec::new(), Vec::new(), 0);
        for topic in topics {
            taken.push(topic);
            names.push(format!("'{}'", words::topic(topic)));
            found += self.topics[topic].experiments.len();
            if found >= count {
                break;
            }
        }
        let filter = format!("topic in ({})", names.join(", "));
        if found <= count + count / TOLERANCE {
            return filter;
        }
        let mut experiments: Vec<f64> =
            taken.iter().flat_map(|topic| &self.topics[*topic].experiments).copied().collect();
        let first = random.random_range(0..=found - count);
        let (_, lower, above) = experiments.select_nth_unstable_by(first, f64::total_cmp);
        let lower = *lower;
        let upper =
            (first + count < found).then(|| *above.select_nth_unstable_by(count - 1, f64::total_cmp).1);
        format!("{filter} and {}", range(lower, upper.as_ref()))
    }
}

/// Returns a filter for `lower..upper`. `None` is 1, which is above every value.
fn range(lower: f64, upper: Option<&f64>) -> String {
    format!("experiment >= {lower} and experiment < {}", upper.unwrap_or(&1.0))
}

/// Returns the rows of the excluded videos, ascending.
pub(super) fn excluded_rows(model: &Model, videos: usize) -> Vec<usize> {
    let mut rows = sample(&mut model.draw(Draw::Excluded, 0), videos, excluded_count(videos)).into_vec();
    rows.sort_unstable();
    rows
}

fn excluded_count(videos: usize) -> usize {
    (videos / 5).min(MAX_EXCLUDED)
}

/// Writes one line per label and user, for the first [`MAX_USERS`] of the held-out `users`.
///
/// # Errors
/// The error of the operating system.
pub(super) fn write_requests(
    path: &Path,
    model: &Model,
    population: &Population,
    users: Range<usize>,
) -> io::Result<()> {
    let count = users.len().min(MAX_USERS);
    let lines_of = |row: usize| lines(model, population, users.start + row, row, count);
    // By user, then by label: all users have the same labels.
    let lines: Vec<Vec<Line>> = parallel::map(count, 1, lines_of);
    let mut file = BufWriter::new(Output::open(path)?.create()?);
    for label in 0..lines.first().map_or(0, Vec::len) {
        for lines in &lines {
            serde_json::to_writer(&mut file, &lines[label])?;
            file.write_all(b"\n")?;
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
}

/// Returns all lines of user `number`, whose query is row `row` of `rows`.
fn lines(model: &Model, population: &Population, number: usize, row: usize, rows: usize) -> Vec<Line> {
    let line = |label: String, filter| {
        let query = Some(row);
        Line { label, query, interests: None, filter, exclude_file: None }
    };
    let mut random = model.draw(Draw::Request, number);
    let mut user = Vec::new();
    model.user_embedding(number, &mut user);
    let nearest = population.nearest_topics(&user);
    let videos = population.videos();
    let mut lines = vec![line("no rules".to_owned(), None)];
    for (one_in, share) in SHARES.into_iter().filter(|(one_in, _)| *one_in <= videos) {
        let count = (videos + one_in / 2) / one_in;
        let filters = [
            ("random", population.random(count, &mut random)),
            ("near", population.of_topics(nearest.iter().copied(), count, &mut random)),
            ("far", population.of_topics(nearest.iter().rev().copied(), count, &mut random)),
        ];
        lines.extend(filters.map(|(kind, filter)| line(format!("{share} {kind}"), Some(filter))));
    }
    let interests = [0, 1, 2, 3].map(|next| Interest { query: (row + next) % rows });
    lines.push(Line { query: None, interests: Some(interests), ..line("four interests".to_owned(), None) });
    let excluded = excluded_count(videos);
    if excluded > 0 {
        let label = format!("{} excluded", thousands(excluded));
        lines.push(Line { exclude_file: Some(EXCLUDED_FILE), ..line(label, None) });
    }
    lines
}

/// Formats a count below a million with a thousands separator: 10,000.
fn thousands(count: usize) -> String {
    if count < 1_000 { count.to_string() } else { format!("{},{:03}", count / 1_000, count % 1_000) }
}
