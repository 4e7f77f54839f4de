//! Flags → request.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use roaring::RoaringTreemap;

use super::values::{InterestSource, Row, cap, fresh, interest, row, seed, seed_of};
use crate::base::id::VideoId;
use crate::cli::sample;
use crate::dataset::{Ids, read_id_list};
use crate::rules::{Filter, Reserve, ScoreTerm};
use crate::service::proto::search_request::Query;
use crate::service::proto::{
    Cap, Diversity, Exclude, Fresh, Interest, Interests, SearchParams, SearchRequest, Seed, Seeds,
    search_params,
};

/// The request.
#[derive(Debug, clap::Args)]
pub(super) struct RequestArguments {
    /// The name of the index. Not needed if the server has only one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    #[command(flatten)]
    query: QuerySource,
    /// Number of candidates.
    #[arg(short, value_name = "K", default_value_t = 10)]
    k: u32,
    /// Number of candidates to skip: those of earlier pages.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u32,
    /// Size of the candidate list. A larger list finds more of the true top k and takes longer.
    #[arg(long, value_name = "N")]
    ef_search: Option<u32>,
    /// Share of the true top k to find, such as 0.95. The index must be calibrated.
    #[arg(long, value_name = "R", conflicts_with = "ef_search")]
    target_recall: Option<f32>,
    /// Score every video, which finds the true top k.
    #[arg(long, conflicts_with_all = ["ef_search", "target_recall"])]
    exact: bool,
    /// Names of the attributes to show, separated by commas. Default: title and creator, or the first three.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "*", hide_default_value = true)]
    columns: Vec<String>,
    /// The ids of --video, --seed and --explain are text, also those that are numbers. Without this flag, what is no number
    /// is text.
    #[arg(long)]
    pub(super) text_ids: bool,
    #[command(flatten)]
    rules: RuleArguments,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct QuerySource {
    /// A user embedding: a row of a .npy file. ROW counts from 0; default 0.
    #[arg(long, value_name = "FILE.npy[:ROW]", value_parser = row)]
    vector: Option<Row>,
    /// The embedding of one interest of a user. Can be repeated. WEIGHT is a factor for its scores; default 1. At least
    /// SHARE of the candidates, such as 0.2, come from this interest; default 0.
    #[arg(long, value_name = "FILE.npy[:ROW][=WEIGHT][@SHARE]", value_parser = interest)]
    interest: Vec<InterestSource>,
    /// Search for videos similar to this one.
    #[arg(long, value_name = "ID")]
    video: Option<String>,
    /// Search for videos similar to this one. Can be repeated. WEIGHT defaults to 1; a negative weight moves the query
    /// away from the video.
    #[arg(long, value_name = "ID[=WEIGHT]")]
    seed: Vec<String>,
    /// A held-out user of the sample catalog, by number.
    #[arg(long, value_name = "N")]
    sample_user: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct RuleArguments {
    /// Return only videos that match a filter, such as 'region = "US" and published_at > -7d'.
    ///
    /// Combine conditions with and, or, not, parentheses, and `at least 2 of (a, b, c)`:
    ///
    ///   region = "US"                    also !=, in ("US", "DE") and not in
    ///   views >= 1000                    also =, !=, <, <=, >, 5 < views <= 10, between 5 and 9
    ///   published_at > -7d               relative to now, in w, d, h, m or s; also 2026-11-01
    ///   is_live = true
    ///   tags contains "cats"             also any ("a", "b") and all ("a", "b")
    ///   title is null                    also is not null
    ///   video_id in (1, 2)               also ("a", "b") if the index has text ids
    ///
    /// For a video without a value, every condition on the attribute is false, so != and not are true.
    #[arg(long, value_name = "EXPR", allow_hyphen_values = true, verbatim_doc_comment)]
    filter: Option<String>,
    /// Exclude the videos of this file: ids as .npy of integers or text, or as .txt with one id per line.
    #[arg(long, value_name = "FILE")]
    exclude: Option<PathBuf>,
    /// Return at most N candidates with the same value of an attribute, such as creator=2. Can be repeated.
    #[arg(long, value_name = "ATTRIBUTE=N", value_parser = cap)]
    cap: Vec<Cap>,
    /// Keep N places for videos that are at most DURATION old, such as 10:7d. ATTRIBUTE is their timestamp; default
    /// published_at.
    #[arg(long, value_name = "N:DURATION[:ATTRIBUTE]", value_parser = fresh)]
    fresh: Option<Fresh>,
    /// Keep places for the best videos that match a filter, such as '10:language = "pt"' or '20%:impressions < 1000'. Can be
    /// repeated. With a temperature, the videos that get them are drawn, with a probability that rises with the score; the
    /// seed, 0 by default, decides which.
    #[arg(long, value_name = "N[%][/TEMPERATURE[/SEED]]:EXPR")]
    reserve: Vec<Reserve>,
    /// Leave out videos that are more similar than this to a better candidate: the cosine of their embeddings, more than 0 and
    /// at most 1. 0.98 leaves out re-uploads.
    #[arg(long, value_name = "COSINE")]
    max_similarity: Option<f32>,
    /// Choose candidates by maximal marginal relevance: with 1, only scores count; with 0, only how much candidates differ.
    #[arg(long, value_name = "SHARE")]
    lambda: Option<f32>,
    /// Add to the score of a video for an attribute. Can be repeated:
    ///
    ///   0.1*log1p(views)               ln(1 + x) of a number
    ///   2*linear(quality)              a number as it is
    ///   0.3*clamp(views, 0, 1000)      0 to 1 between two numbers
    ///   0.5*decay(published_at, 7d)    1 for now, and half as much each 7 days
    ///   0.5*window(published_at, 30d)  1 for now, falling evenly to 0 after 30 days
    ///   0.2*match(language, "en")      1 for these keywords
    #[arg(long, value_name = "TERM", allow_hyphen_values = true, verbatim_doc_comment)]
    score_term: Vec<ScoreTerm>,
    /// Return only candidates with at least this score.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    score_threshold: Option<f32>,
}

/// Creates the request from the flags.
///
/// # Errors
/// If the filter is malformed, or a file cannot be read.
pub(super) fn request(arguments: &RequestArguments) -> anyhow::Result<SearchRequest> {
    let rules = &arguments.rules;
    let filter = rules.filter.as_deref().map(str::parse::<Filter>).transpose().context("--filter")?;
    Ok(SearchRequest {
        index: arguments.index.clone(),
        query: Some(query(&arguments.query, arguments.text_ids)?),
        k: arguments.k,
        params: Some(SearchParams {
            effort: match (arguments.ef_search, arguments.target_recall) {
                (Some(ef_search), _) => Some(search_params::Effort::EfSearch(ef_search)),
                (None, Some(recall)) => Some(search_params::Effort::TargetRecall(recall)),
                (None, None) => arguments.exact.then_some(search_params::Effort::Exact(true)),
            },
            ..SearchParams::default()
        }),
        filter: filter.map(Into::into),
        exclude: rules.exclude.as_deref().map(excluded).transpose()?,
        caps: rules.cap.clone(),
        fresh: rules.fresh.clone(),
        score_threshold: rules.score_threshold,
        score_terms: rules.score_term.iter().cloned().map(Into::into).collect(),
        reserve: rules.reserve.iter().cloned().map(Into::into).collect(),
        diversity: diversity((rules.max_similarity, rules.lambda)),
        offset: arguments.offset,
        return_attributes: arguments.columns.clone(),
        return_stats: true,
        ..SearchRequest::default()
    })
}

fn diversity((max_similarity, lambda): (Option<f32>, Option<f32>)) -> Option<Diversity> {
    (max_similarity.is_some() || lambda.is_some()).then_some(Diversity { max_similarity, lambda })
}

fn query(source: &QuerySource, has_text_ids: bool) -> anyhow::Result<Query> {
    let video = source.video.iter().map(|id| Ok(seed_of(id, None, has_text_ids)));
    let seeds = source.seed.iter().map(|text| seed(text, has_text_ids));
    let seeds: Vec<Seed> = video.chain(seeds).collect::<anyhow::Result<_>>()?;
    if !seeds.is_empty() {
        return Ok(Query::Seeds(Seeds { seeds }));
    }
    if !source.interest.is_empty() {
        let interests = source.interest.iter().map(read_interest).collect::<Result<_, _>>()?;
        return Ok(Query::Interests(Interests { interests }));
    }
    let sample_user = |row| Row { path: sample::files(Path::new(sample::ROOT)).users_test, row };
    match source.vector.clone().or_else(|| source.sample_user.map(sample_user)) {
        Some(row) => Ok(Query::Vector(row.read()?)),
        None => bail!("expected --vector, --interest, --video, --seed or --sample-user"),
    }
}

fn read_interest(source: &InterestSource) -> anyhow::Result<Interest> {
    let InterestSource { row, weight, min_share } = source;
    Ok(Interest { vector: Some(row.read()?), weight: *weight, min_share: min_share.unwrap_or(0.0) })
}

/// Reads the ids to exclude. Numbers become a bitmap, which is smaller than a list of them.
fn excluded(path: &Path) -> anyhow::Result<Exclude> {
    let ids = match read_id_list(path)? {
        Ids::Numbers(ids) => ids,
        Ids::Text(ids) => {
            let text_ids = ids.iter().flatten().map(str::to_owned).collect();
            return Ok(Exclude { text_ids, ..Exclude::default() });
        }
    };
    let bitmap: RoaringTreemap = ids.into_iter().map(|VideoId(id)| id).collect();
    let mut roaring = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut roaring)?;
    Ok(Exclude { roaring, ..Exclude::default() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::dataset::write_npy;
    use crate::service::proto;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        arguments: RequestArguments,
    }

    fn parsed(arguments: &[&str]) -> Result<RequestArguments, clap::Error> {
        let line = std::iter::once("query").chain(arguments.iter().copied());
        CommandLine::try_parse_from(line).map(|line| line.arguments)
    }

    fn sent(arguments: &[&str]) -> SearchRequest {
        request(&parsed(arguments).unwrap_or_else(|error| panic!("{error}"))).unwrap()
    }

    #[test]
    fn without_rules_only_the_query_is_asked() {
        let seeds = vec![Seed { video_id: 5, ..Seed::default() }];
        let expected = SearchRequest {
            query: Some(Query::Seeds(Seeds { seeds })),
            k: 10,
            params: Some(SearchParams::default()),
            return_attributes: vec!["*".to_owned()],
            return_stats: true,
            ..SearchRequest::default()
        };
        assert_eq!(sent(&["--video", "5"]), expected);
    }

    #[test]
    fn every_rule_has_a_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.txt");
        std::fs::write(&path, "9\n18446744073709551615\n9\n").unwrap();
        let sent = sent(&[
            "--seed",
            "5=-0.5",
            "--seed",
            "6",
            "--filter",
            "-7d < published_at and views != 5",
            "--exclude",
            path.to_str().unwrap(),
            "--cap",
            "creator=2",
            "--cap",
            "tags=1",
            "--fresh",
            "3:12h:edited_at",
            "--score-threshold",
            "-0.5",
            "--offset",
            "20",
        ]);
        let seed = |video_id, weight| Seed { video_id, weight, ..Seed::default() };
        let seeds = vec![seed(5, Some(-0.5)), seed(6, None)];
        assert_eq!(sent.query, Some(Query::Seeds(Seeds { seeds })));
        let filter: Filter = "published_at > -7d and not views = 5".parse().unwrap();
        assert_eq!(sent.filter, Some(proto::Filter::from(filter)));
        let exclude = sent.exclude.unwrap();
        let ids = RoaringTreemap::deserialize_from(exclude.roaring.as_slice()).unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), [9, u64::MAX]);
        assert_eq!((exclude.video_ids, exclude.bloom), (Vec::new(), None));
        let cap = |attribute: &str, max_per_value| Cap { attribute: attribute.to_owned(), max_per_value };
        assert_eq!(sent.caps, [cap("creator", 2), cap("tags", 1)]);
        let within = Some(prost_types::Duration { seconds: 12 * 3600, nanos: 0 });
        assert_eq!(sent.fresh, Some(Fresh { attribute: "edited_at".to_owned(), within, at_least: 3 }));
        assert_eq!((sent.score_threshold, sent.offset), (Some(-0.5), 20));
    }

    #[test]
    fn nothing_is_excluded_by_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("nothing.txt"), "").unwrap();
        std::fs::write(file("newline.txt"), "\n").unwrap();
        write_npy::<u64>(&file("array.npy"), &[0], &[]).unwrap();
        for name in ["nothing.txt", "newline.txt", "array.npy"] {
            let path = file(name);
            let exclude = sent(&["--video", "5", "--exclude", path.to_str().unwrap()]).exclude.unwrap();
            let excluded = RoaringTreemap::deserialize_from(exclude.roaring.as_slice()).unwrap();
            assert!(excluded.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_file_of_no_bytes_is_no_array() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.npy");
        std::fs::write(&path, "").unwrap();
        let arguments = parsed(&["--video", "5", "--exclude", path.to_str().unwrap()]).unwrap();
        let error = request(&arguments).unwrap_err().to_string();
        assert!(error.ends_with("seen.npy: the file is empty"), "{error}");
    }

    #[test]
    fn interests_are_rows_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.npy");
        write_npy(&path, &[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let at = |rest: &str| format!("{}{rest}", path.display());
        let sent = sent(&["--interest", &at(":1=2@0.25"), "--interest", &at("")]);
        let interest = |values: &[f32], weight, min_share| {
            let vector = Some(proto::Vector { values: values.to_vec(), packed: None });
            Interest { vector, weight, min_share }
        };
        let interests = vec![interest(&[3.0, 4.0], Some(2.0), 0.25), interest(&[1.0, 2.0], None, 0.0)];
        assert_eq!(sent.query, Some(Query::Interests(Interests { interests })));
        let missing = request(&parsed(&["--interest", &at(":2")]).unwrap()).unwrap_err().to_string();
        assert!(missing.ends_with("row 2: the file has rows 0 to 1"), "{missing}");
    }

    #[test]
    fn there_is_one_kind_of_query() {
        for arguments in [&[][..], &["--video", "5", "--seed", "6"], &["--seed", "5", "--interest", "a.npy"]]
        {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_filter_is_shown_with_its_place() {
        let arguments = parsed(&["--video", "5", "--filter", "region = US"]).unwrap();
        let error = format!("{:#}", request(&arguments).unwrap_err());
        assert!(error.starts_with("--filter: line 1, column 10: expected a value: "), "{error}");
        assert!(error.ends_with("found `US`\n  region = US\n           ^"), "{error}");
    }
}
