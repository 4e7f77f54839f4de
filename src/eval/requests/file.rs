//! Reads a file of requests, with the embeddings and the files of excluded ids that its lines name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use roaring::RoaringTreemap;

use super::line::{InterestLine, Line, SeedLine};
use crate::base::id::VideoId;
use crate::base::instant::Instant;
use crate::base::local_path::check_local;
use crate::dataset::{EmbeddingsView, read_id_list};
use crate::engine::{Effort, Interest, Query, ReturnAttributes, SearchRequest, Seed};
use crate::eval::report::is_printable;
use crate::rules::{Condition, Exclude, Filter, Fresh, Rules, Time};
use crate::search::Plan;

/// Maximum bytes of a line, newline included: twice what 100,000 ids take.
const MAX_LINE_BYTES: u64 = 4 << 20;
const MAX_LINES: usize = 100_000;
/// Bounds the file, since all requests are in memory at once.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The requests of a file, in the order of their lines.
#[derive(Clone, Debug)]
pub struct Requests {
    all: Vec<Request>,
    /// Positions of the requests of each label, in order of first appearance.
    labels: Vec<(Option<String>, Vec<usize>)>,
    read_at: Timestamp,
}

/// One request, for any k and effort.
#[derive(Clone, Debug)]
pub struct Request {
    /// The line of the file, from 1.
    pub line: usize,
    pub(super) query: Query,
    /// All rules except the excluded ids of a file. Relative times are resolved to points in time, so that answers do not
    /// depend on the time of the search.
    pub(super) rules: Rules,
    pub(super) excluded: Excluded,
    pub(super) offset: usize,
    pub(super) plan: Option<Plan>,
}

/// Excluded videos, for the check of answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Excluded {
    /// Ids listed in the line, ascending.
    listed: Vec<u64>,
    /// Ids of a file, which several lines may share.
    of_file: Option<Arc<ExcludedFile>>,
}

#[derive(Debug)]
struct ExcludedFile {
    /// Ascending.
    ids: Vec<u64>,
    /// The same ids as a serialized Roaring bitmap, as in the request.
    roaring: Vec<u8>,
}

/// Why a file of requests was refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        r#source: std::io::Error,
    },
    /// The file is too large.
    #[error("{}: expected at most {expected} {what}, found more", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// `bytes` or `lines`.
        what: &'static str,
        /// The maximum.
        expected: u64,
    },
    /// The file has no requests.
    #[error("{}: expected a request per line, found none", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is not a valid request.
    #[error("{}: line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What was expected and what was found.
        problem: String,
    },
}

impl Requests {
    /// Reads the requests of a file, at most `limit` per label. They refer to rows of `queries`, which are finite, and
    /// relative times in filters are resolved at `now`.
    ///
    /// # Errors
    /// [`RequestsError`], which names file and line.
    pub fn read(
        path: &Path,
        queries: Option<EmbeddingsView<'_>>,
        now: Timestamp,
        limit: Option<usize>,
    ) -> Result<Self, RequestsError> {
        let io = |source| RequestsError::Io { path: path.to_owned(), source };
        let too_large = |what, expected| RequestsError::TooLarge { path: path.to_owned(), what, expected };
        let file = check_local(path).and_then(|()| File::open(path)).map_err(io)?;
        if file.metadata().map_err(io)?.len() > MAX_FILE_BYTES {
            return Err(too_large("bytes", MAX_FILE_BYTES));
        }
        let mut reader = BufReader::new(file);
        let mut context = Context { path, queries, now, files: HashMap::new() };
        let mut requests = Self { all: Vec::new(), labels: Vec::new(), read_at: now };
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let read = reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut text);
            let wrong = |problem| RequestsError::Line { path: path.to_owned(), line, problem };
            match read.map_err(io)? as u64 {
                0 => break,
                _ if line > MAX_LINES => return Err(too_large("lines", MAX_LINES as u64)),
                bytes if bytes > MAX_LINE_BYTES => {
                    return Err(wrong(format!("expected at most {MAX_LINE_BYTES} bytes, found more")));
                }
                _ if text.trim_ascii().is_empty() => continue,
                _ => {}
            }
            let (label, request) = context.request(line, text.trim_ascii_end()).map_err(wrong)?;
            requests.push(label, request, limit);
        }
        if requests.all.is_empty() {
            Err(RequestsError::Empty { path: path.to_owned() })
        } else {
            Ok(requests)
        }
    }

    fn push(&mut self, label: Option<String>, request: Request, limit: Option<usize>) {
        let position = self.labels.iter().position(|(other, _)| *other == label).unwrap_or_else(|| {
            self.labels.push((label, Vec::new()));
            self.labels.len() - 1
        });
        let of_label = &mut self.labels[position].1;
        if limit.is_none_or(|limit| of_label.len() < limit) {
            of_label.push(self.all.len());
            self.all.push(request);
        }
    }

    /// All requests in the order of their lines, at least one.
    pub fn all(&self) -> &[Request] {
        &self.all
    }

    /// The time at which relative times in filters were resolved.
    pub fn read_at(&self) -> Timestamp {
        self.read_at
    }

    /// Every label with the positions of its requests, in order of first appearance.
    pub fn labels(&self) -> &[(Option<String>, Vec<usize>)] {
        &self.labels
    }
}

impl Request {
    /// Returns the request for the engine. The plan of the line takes precedence over `plan`.
    pub(super) fn search(&self, index: &str, k: usize, effort: Effort, plan: Option<Plan>) -> SearchRequest {
        let mut rules = self.rules.clone();
        if let Some(file) = &self.excluded.of_file {
            rules.exclude.roaring.clone_from(&file.roaring);
        }
        SearchRequest {
            index: index.to_owned(),
            query: self.query.clone(),
            k,
            effort,
            effort_k: 0,
            marks_matches: false,
            plan: if effort == Effort::Exact { None } else { self.plan.or(plan) },
            rules,
            offset: self.offset,
            return_attributes: ReturnAttributes::None,
            return_vectors: false,
            embedding_model: None,
            min_sequence: 0,
            generation: None,
        }
    }

    /// Whether videos are left out because they resemble better ones: another answer may then leave out more.
    pub(super) fn leaves_out_similar(&self) -> bool {
        self.rules.diversity.is_some_and(|diversity| diversity.max_similarity.is_some())
    }

    /// Whether the request keeps places. If so, its answer is not a prefix of the answer for a larger k.
    pub(super) fn keeps_places(&self) -> bool {
        let of_interests = match &self.query {
            Query::Interests(interests) => interests.iter().any(|interest| interest.min_share > 0.0),
            Query::Vector(_) | Query::Seeds(_) => false,
        };
        let is_diverse = self.rules.diversity.is_some_and(|diversity| diversity.lambda.is_some());
        of_interests || is_diverse || self.rules.fresh.is_some() || !self.rules.reserves.is_empty()
    }
}

impl Excluded {
    pub(super) fn contains(&self, video: VideoId) -> bool {
        let of_file = self.of_file.as_ref().map(|file| file.ids.as_slice()).unwrap_or_default();
        [self.listed.as_slice(), of_file].iter().any(|ids| ids.binary_search(&video.0).is_ok())
    }
}

/// What the lines of one file refer to.
struct Context<'a> {
    path: &'a Path,
    queries: Option<EmbeddingsView<'a>>,
    now: Timestamp,
    /// Files of excluded ids read so far.
    files: HashMap<PathBuf, Arc<ExcludedFile>>,
}

impl Context<'_> {
    fn request(&mut self, number: usize, text: &[u8]) -> Result<(Option<String>, Request), String> {
        let line = Line::parse(text)?;
        if let Some(label) = line.label.as_ref().filter(|label| !is_printable(label)) {
            let start: String = label.chars().take(100).collect();
            return Err(format!("label: expected 1 to 100 printable characters, found {start:?}"));
        }
        if let Some(found) = line.score_threshold.filter(|threshold| !threshold.is_finite()) {
            return Err(format!("score_threshold: expected a finite number, found {found}"));
        }
        let query = self.query(number, line.query, line.interests, line.seeds)?;
        let of_file = line.exclude_file.map(|file| self.excluded_file(&file)).transpose()?;
        let mut listed = line.exclude.clone();
        listed.sort_unstable();
        let filter = line.filter.map(|filter| at(filter, self.now));
        let of_line = line.reserve.into_iter().enumerate();
        let mut reserves = of_line.map(|(at, reserve)| reserve.read(at)).collect::<Result<Vec<_>, _>>()?;
        for reserve in &mut reserves {
            reserve.filter = at(std::mem::take(&mut reserve.filter), self.now);
        }
        let video_ids = line.exclude.into_iter().map(VideoId).collect();
        let rules = Rules {
            filter,
            exclude: Exclude { video_ids, ..Exclude::default() },
            caps: line.caps,
            fresh: line.fresh.map(Fresh::from),
            score_threshold: line.score_threshold,
            score_terms: line.score_terms,
            reserves,
            diversity: line.diversity.map(Into::into),
        };
        let (offset, plan) = (line.offset, line.plan);
        let excluded = Excluded { listed, of_file };
        Ok((line.label, Request { line: number, query, rules, excluded, offset, plan }))
    }

    fn query(
        &self,
        number: usize,
        row: Option<usize>,
        interests: Option<Vec<InterestLine>>,
        seeds: Option<Vec<SeedLine>>,
    ) -> Result<Query, String> {
        match (row, interests, seeds) {
            (row, None, None) => {
                let rows = self.queries.map_or(1, |queries| queries.len());
                self.row("query", row.unwrap_or((number - 1) % rows)).map(Query::Vector)
            }
            (None, Some(interests), None) => {
                let interest = |(position, interest): (usize, InterestLine)| {
                    let InterestLine { query, weight, min_share } = interest;
                    let vector = self.row(&format!("interests[{position}].query"), query)?;
                    Ok(Interest { vector, weight, min_share })
                };
                let interests = interests.into_iter().enumerate().map(interest);
                interests.collect::<Result<_, String>>().map(Query::Interests)
            }
            (None, None, Some(seeds)) => {
                let seed =
                    |SeedLine { video_id, weight }: SeedLine| Seed { video_id: VideoId(video_id), weight };
                Ok(Query::Seeds(seeds.into_iter().map(seed).collect()))
            }
            _ => Err("expected one of query, interests and seeds, found several".to_owned()),
        }
    }

    fn row(&self, field: &str, row: usize) -> Result<Vec<f32>, String> {
        let Some(queries) = self.queries else {
            return Err(format!("{field}: expected --queries to take row {row} from, or seeds instead"));
        };
        if row >= queries.len() {
            return Err(format!("{field}: expected a row of --queries below {}, found {row}", queries.len()));
        }
        let mut vector = Vec::new();
        queries.copy_row(row, &mut vector);
        Ok(vector)
    }

    fn excluded_file(&mut self, file: &Path) -> Result<Arc<ExcludedFile>, String> {
        let path = self.path.parent().unwrap_or(Path::new("")).join(file);
        if let Some(known) = self.files.get(&path) {
            return Ok(Arc::clone(known));
        }
        let ids = read_id_list(&path)
            .and_then(|ids| ids.into_numbers(&path))
            .map_err(|error| format!("exclude_file: {error}"))?;
        let bitmap: RoaringTreemap = ids.into_iter().map(|VideoId(id)| id).collect();
        let mut roaring = Vec::with_capacity(bitmap.serialized_size());
        bitmap.serialize_into(&mut roaring).map_err(|error| format!("exclude_file: {error}"))?;
        let read = Arc::new(ExcludedFile { ids: bitmap.iter().collect(), roaring });
        self.files.insert(path, Arc::clone(&read));
        Ok(read)
    }
}

/// The filter with relative times resolved at `now`.
fn at(filter: Filter, now: Timestamp) -> Filter {
    let time = |time: Time| match time {
        Time::At(_) => time,
        Time::Ago(ago) => Time::At(Instant::from(now).saturating_sub(ago)),
    };
    let bound = |bound: Bound<Time>| bound.map(time);
    let condition = |condition: Condition| match condition {
        Condition::Filter(filter) => Condition::Filter(at(filter, now)),
        Condition::Time { attribute, lower, upper } => {
            Condition::Time { attribute, lower: bound(lower), upper: bound(upper) }
        }
        other => other,
    };
    let conditions = |conditions: Vec<Condition>| conditions.into_iter().map(condition).collect();
    Filter {
        must: conditions(filter.must),
        should: conditions(filter.should),
        must_not: conditions(filter.must_not),
        min_should: filter.min_should,
    }
}
