//! The answer as a table.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use unicode_width::UnicodeWidthStr as _;

use crate::base::text::visible_text;
use crate::cli::ids::shown;
use crate::cli::terminal::{self, cut, wrapped};
use crate::cli::value;
use crate::dataset::ID_COLUMN;
use crate::search::Plan;
use crate::service::plan_from_proto;
use crate::service::proto::completeness::Reason;
use crate::service::proto::search_request::Query;
use crate::service::proto::{Candidate, Completeness, SearchRequest, SearchResponse, SearchStats};

/// The attributes that are shown if the videos have one of them and no others were asked for.
const USUAL: [&str; 2] = ["title", "creator"];
/// Otherwise, at most this many attributes are shown.
const MAX_COLUMNS: usize = 3;
/// Longer values are cut, so that a row stays on one line.
const MAX_CELL: usize = 40;
/// Values are not cut below this to fit a terminal.
const LEAST_CELL: usize = 5;

/// The layout of the table, as determined by the request.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Number of candidates on earlier pages.
    offset: u32,
    /// Whether the query has interests.
    by_interest: bool,
    /// The attributes to show; `*` for some of them.
    columns: Vec<String>,
    /// The width of the table; any if `None`.
    width: Option<usize>,
}

impl Layout {
    pub(super) fn of(request: &SearchRequest) -> Self {
        let by_interest = matches!(request.query, Some(Query::Interests(_)));
        let width = terminal::columns();
        Self { offset: request.offset, by_interest, columns: request.return_attributes.clone(), width }
    }

    /// Returns the names of the attributes to show.
    fn columns<'a>(&'a self, candidates: &'a [Candidate]) -> Vec<&'a str> {
        if self.columns.iter().any(|name| name != "*") {
            return self.columns.iter().map(String::as_str).collect();
        }
        let names = candidates.iter().flat_map(|candidate| candidate.attributes.keys().map(String::as_str));
        // Ids that are text are in a column of their own.
        let has_text_ids = candidates.iter().any(|candidate| !candidate.text_id.is_empty());
        let names: BTreeSet<&str> = names.filter(|name| !has_text_ids || *name != ID_COLUMN).collect();
        match USUAL.iter().any(|name| names.contains(name)) {
            true => USUAL.to_vec(),
            false => names.into_iter().take(MAX_COLUMNS).collect(),
        }
    }
}

/// Renders one row per candidate, the reason if there are too few, and the cost.
pub(super) fn render(response: &SearchResponse, layout: &Layout) -> String {
    let columns = layout.columns(&response.candidates);
    let mut header = vec!["rank".to_owned(), "video id".to_owned()];
    header.extend(columns.iter().map(|name| cell(name)));
    let score = header.len();
    header.push("score".to_owned());
    header.extend(layout.by_interest.then(|| "interest".to_owned()));
    let mut rows = vec![header];
    for (rank, candidate) in (u64::from(layout.offset) + 1..).zip(&response.candidates) {
        let mut row = vec![rank.to_string(), shown(candidate.video_id, &candidate.text_id)];
        row.extend(columns.iter().map(|name| cell(&attribute(candidate, name))));
        row.push(format!("{:.4}", candidate.score));
        if layout.by_interest {
            row.push(candidate.interest.map_or_else(|| "-".to_owned(), |interest| interest.to_string()));
        }
        rows.push(row);
    }
    if let Some(width) = layout.width {
        fit(&mut rows, 2..score, width);
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(rows.remove(0)).add_rows(rows);
    for column in [0, 1, score, score + 1] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{table}\n");
    if let Some(shortfall) = response.completeness.as_ref().and_then(shortfall) {
        let _ = writeln!(text, "{shortfall}");
    }
    if !response.unknown_video_ids.is_empty() {
        let ids: Vec<String> = response.unknown_video_ids.iter().map(u64::to_string).collect();
        let _ = writeln!(text, "seeds that are not in the index: {}", ids.join(", "));
    }
    let cost = cost(response.generation, response.stats.as_ref());
    match layout.width {
        Some(width) => text + &wrapped(cost.trim_end(), width).join("\n") + "\n",
        None => text + &cost,
    }
}

/// Cuts the cells of some columns, the widest first, so that the table fits.
fn fit(rows: &mut [Vec<String>], columns: Range<usize>, width: usize) {
    let mut widths = vec![0; rows[0].len()];
    for row in &*rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.width().max(*width));
    }
    // A border, and one with two spaces after each cell.
    let borders = 1 + 3 * widths.len();
    while widths.iter().sum::<usize>() + borders > width {
        let widest = widths[columns.clone()].iter_mut().max().filter(|width| **width > LEAST_CELL);
        let Some(widest) = widest else { break };
        *widest -= 1;
    }
    for row in rows {
        columns.clone().for_each(|column| row[column] = cut(&row[column], widths[column]));
    }
}

/// Renders one line with the generation, the plan, the effort and the cost.
pub(super) fn cost(generation: u64, stats: Option<&SearchStats>) -> String {
    let mut text = format!("generation {generation}");
    if let Some(stats) = stats {
        let plan = plan_from_proto(stats.plan()).map_or("unknown", Plan::name);
        let elapsed = stats.elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok()).unwrap_or_default();
        let _ = write!(text, " · plan {plan} · ef_search {}", stats.ef_search);
        if let Some(recall) = stats.measured_recall {
            let _ = write!(text, " · measured recall {recall:.4}");
        }
        if let Some(matches) = stats.matches {
            let _ = write!(text, " · matches {matches}");
        }
        let _ = write!(text, " · distances {} · elapsed {elapsed:.1?}", stats.distances);
    }
    text.push('\n');
    text
}

/// Renders the number of candidates and the reason why it is too small; `None` if the answer is complete.
fn shortfall(completeness: &Completeness) -> Option<String> {
    let Completeness { requested, returned, .. } = *completeness;
    let reason = match completeness.reason() {
        Reason::Complete | Reason::Unspecified if returned >= requested => return None,
        Reason::Complete | Reason::Unspecified => return Some(format!("{returned} of {requested}")),
        Reason::IndexExhausted => "the index has no more videos",
        Reason::TooFewMatches => "too few videos match the filter",
        Reason::Excluded => "all other videos are excluded",
        Reason::CapsExhausted => "all other videos exceed a cap",
        Reason::ScoreThreshold => "all other videos score below the threshold",
        Reason::TooSimilar => "all other videos are too similar to candidates",
        Reason::Deadline => "the deadline was near, so better videos may be missing",
    };
    Some(format!("{returned} of {requested}: {reason}"))
}

/// Escapes a text and cuts it, so that it stays in its cell.
fn cell(text: &str) -> String {
    cut(&visible_text(text), MAX_CELL).replace('|', "\\|")
}

/// Renders the value of an attribute, or `-` without one.
fn attribute(candidate: &Candidate, name: &str) -> String {
    let value = candidate.attributes.get(name).and_then(|value| value.value.as_ref());
    value.map_or_else(|| "-".to_owned(), value::value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::text::visible;
    use crate::service::proto::{AttributeValue, KeywordList, attribute_value};

    fn response() -> SearchResponse {
        let title = Some(attribute_value::Value::Keyword("night cats".to_owned()));
        let attributes = [("title".to_owned(), AttributeValue { value: title })].into();
        let candidate =
            Candidate { video_id: 42, score: 0.5, interest: Some(1), attributes, ..Candidate::default() };
        SearchResponse { candidates: vec![candidate], generation: 3, ..SearchResponse::default() }
    }

    fn row(text: &str) -> Vec<&str> {
        text.lines().find(|line| line.contains("42")).unwrap().split_whitespace().collect()
    }

    #[test]
    fn shows_a_dash_for_what_a_video_has_not() {
        let text = render(&response(), &Layout::default());
        assert_eq!(row(&text), ["|", "1", "|", "42", "|", "night", "cats", "|", "-", "|", "0.5000", "|"]);
        assert!(text.ends_with("|\ngeneration 3\n"), "{text}");
    }

    #[test]
    fn a_value_stays_in_its_cell_and_does_nothing_to_the_terminal() {
        let mut response = response();
        let said =
            |text: &str| AttributeValue { value: Some(attribute_value::Value::Keyword(text.to_owned())) };
        let list = KeywordList { values: vec!["a\u{7}".to_owned(), "\u{202e}b".to_owned()] };
        let list = AttributeValue { value: Some(attribute_value::Value::KeywordList(list)) };
        let attributes = [("title", said("cats\n| 1 | 2\r\u{1b}[2J")), ("creator", list)];
        response.candidates[0].attributes =
            attributes.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let text = render(&response, &Layout::default());
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            !text.replace('\n', "").contains(|character: char| character != visible(character)),
            "{text:?}"
        );
        assert!(text.contains("| cats \\| 1 \\| 2  [2J | a ,  b"), "{text}");
    }

    #[test]
    fn other_attributes_are_shown_if_asked_for_or_if_there_is_no_title() {
        let mut response = response();
        let said =
            |text: &str| AttributeValue { value: Some(attribute_value::Value::Keyword(text.to_owned())) };
        let names = ["likes", "language", "region", "tags"];
        response.candidates[0].attributes = names.map(|name| (name.to_owned(), said("x"))).into();
        let header = |layout: &Layout| render(&response, layout).lines().next().unwrap().to_owned();
        let cells = |text: String| -> Vec<String> {
            text.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        };
        let expected = ["rank", "video id", "language", "likes", "region", "score"];
        assert_eq!(cells(header(&Layout::default())), expected);
        let columns = vec!["tags".to_owned(), "none".to_owned()];
        let layout = Layout { columns, ..Layout::default() };
        assert_eq!(cells(header(&layout)), ["rank", "video id", "tags", "none", "score"]);
        response.candidates[0].attributes = [("title".to_owned(), said(&"ö".repeat(100)))].into();
        let text = render(&response, &Layout::default());
        assert!(text.contains(&format!("| {}… |", "ö".repeat(39))), "{text}");
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let mut response = response();
        let said =
            |text: &str| AttributeValue { value: Some(attribute_value::Value::Keyword(text.to_owned())) };
        response.candidates[0].attributes =
            [("title", "猫と犬の一日を撮影した動画です。".to_owned()), ("creator", "c".repeat(30))]
                .map(|(name, text)| (name.to_owned(), said(&text)))
                .into();
        let wide = render(&response, &Layout::default());
        assert!(wide.contains(&"c".repeat(30)), "{wide}");
        for width in [46, 60, 80] {
            let text = render(&response, &Layout { width: Some(width), ..Layout::default() });
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
            assert!(text.contains("猫と"), "{text}");
            assert!(text.contains(" 0.5000 |"), "{text}");
        }
    }

    #[test]
    fn ranks_go_on_over_pages_and_interests_are_shown_where_they_were_asked_for() {
        let query = Some(Query::Interests(Default::default()));
        let layout = Layout::of(&SearchRequest { query, offset: 40, ..SearchRequest::default() });
        let text = render(&response(), &layout);
        let cells = ["|", "41", "|", "42", "|", "night", "cats", "|", "-", "|", "0.5000", "|", "1", "|"];
        assert_eq!(row(&text), cells);
        assert!(text.lines().next().unwrap().contains("interest"), "{text}");
    }

    #[test]
    fn says_why_an_answer_is_short_or_cut() {
        let said = |requested, returned, reason: Reason| {
            let completeness = Some(Completeness { requested, returned, reason: reason.into() });
            let text = render(&SearchResponse { completeness, ..response() }, &Layout::default());
            text.lines().rev().nth(1).map(str::to_owned).unwrap()
        };
        assert_eq!(said(100, 37, Reason::TooFewMatches), "37 of 100: too few videos match the filter");
        assert_eq!(said(100, 37, Reason::CapsExhausted), "37 of 100: all other videos exceed a cap");
        assert_eq!(
            said(37, 37, Reason::Deadline),
            "37 of 37: the deadline was near, so better videos may be missing"
        );
        assert_eq!(said(100, 37, Reason::Unspecified), "37 of 100");
        assert!(said(37, 37, Reason::Complete).starts_with('|'));
    }

    #[test]
    fn names_seeds_that_are_not_in_the_index() {
        let text =
            render(&SearchResponse { unknown_video_ids: vec![5, 9], ..response() }, &Layout::default());
        assert!(text.contains("|\nseeds that are not in the index: 5, 9\ngeneration 3\n"), "{text}");
    }
}
