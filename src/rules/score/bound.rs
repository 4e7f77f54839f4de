//! Terms bound to the columns of an index.

use jiff::Timestamp;

use super::error::{BindError, TermError, TermField, TermProblem};
use super::nearly::Nearly;
use super::term::{ScoreTerm, TermForm};
use crate::attributes::{Columns, Numbers};
use crate::base::interrupt::Interrupt;
use crate::index::AttributeKind;
use crate::node_set::NodeSet;
use crate::rules::{Condition, Filter, FilterProblem, MatchError, matching};

const NUMBERS: [AttributeKind; 3] = [AttributeKind::Int64, AttributeKind::Uint64, AttributeKind::Double];
const TIMES: [AttributeKind; 1] = [AttributeKind::Timestamp];
const WORDS: [AttributeKind; 2] = [AttributeKind::Keyword, AttributeKind::KeywordList];

/// The terms of a request, bound to one index.
#[derive(Debug)]
pub struct BoundTerms<'a> {
    terms: Vec<Bound<'a>>,
    /// In microseconds since 1970.
    now: f64,
    /// `[keyword terms]`: the nodes that have one of the keywords, and what is added to their scores.
    keywords: Vec<(NodeSet, f32)>,
    /// The terms of numbers and times, approximately; `None` for a generation of an older format.
    nearly: Option<Nearly<'a>>,
}

/// One term.
#[derive(Debug)]
struct Bound<'a> {
    term: &'a ScoreTerm,
    source: Source<'a>,
}

/// What a term reads.
#[derive(Debug)]
enum Source<'a> {
    /// The numbers or times of a column, and its position.
    Numbers(Numbers<'a>, usize),
    /// The nodes that have one of the keywords, by position.
    Keywords(usize),
}

impl<'a> BoundTerms<'a> {
    /// Binds the terms of a request at `now`. The time of a keyword term grows with the nodes that have its keywords.
    ///
    /// # Errors
    /// [`BindError::Invalid`] for the first problem; otherwise why the nodes of keywords cannot be found.
    pub fn of(
        terms: &'a [ScoreTerm],
        columns: Columns<'a>,
        now: Timestamp,
        interrupt: &mut Interrupt<'_>,
    ) -> Result<Self, BindError> {
        if terms.len() > ScoreTerm::MAX_TERMS {
            let problem = TermProblem::TooMany { expected: ScoreTerm::MAX_TERMS, found: terms.len() };
            return Err(TermError { position: 0, field: TermField::All, problem }.into());
        }
        let (mut bound, mut keywords) = (Vec::with_capacity(terms.len()), Vec::new());
        for (position, term) in terms.iter().enumerate() {
            let column =
                check(term, &columns).map_err(|(field, problem)| TermError { position, field, problem })?;
            let source = match &term.form {
                TermForm::Match { any_of } => {
                    let is_list = columns.schema()[column].kind == AttributeKind::KeywordList;
                    let filter = any(&term.attribute, any_of, is_list);
                    keywords.push((matching(&filter, &columns, now, interrupt)?, term.of_match() as f32));
                    Source::Keywords(keywords.len() - 1)
                }
                _ => Source::Numbers(columns.numbers(column).expect("the type was checked"), column),
            };
            bound.push(Bound { term, source });
        }
        let now = now.as_microsecond() as f64;
        let of_numbers = bound.iter().filter_map(|bound| match bound.source {
            Source::Numbers(_, column) => Some((bound.term, column)),
            Source::Keywords(_) => None,
        });
        let nearly = Nearly::of(of_numbers, &columns, now);
        Ok(Self { terms: bound, now, keywords, nearly })
    }

    /// Returns what the terms add to the score of a node, together.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn added(&self, node: u32) -> f32 {
        self.terms.iter().map(|bound| self.of_term(bound, node)).sum::<f64>() as f32
    }

    /// Prefetches what [`Self::added`] reads. Values are far apart in memory: all cache misses at once instead of one after another.
    pub fn prefetch(&self, nodes: &[u32]) {
        for bound in &self.terms {
            if let Source::Numbers(numbers, _) = &bound.source {
                nodes.iter().for_each(|node| numbers.prefetch(*node));
            }
        }
    }

    /// Returns what each term adds to the score of a node, in the order of the request.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn each(&self, node: u32) -> Vec<f32> {
        self.terms.iter().map(|bound| self.of_term(bound, node) as f32).collect()
    }

    /// What the terms add to the score of a node, approximately, and fast enough for every node that a traversal meets: numbers and times
    /// are rounded to the levels of their columns.
    ///
    /// # Panics
    /// If there is no such node.
    #[inline]
    pub fn added_nearly(&self, node: u32) -> f32 {
        let Some(nearly) = &self.nearly else { return self.added(node) };
        let of_keywords =
            self.keywords.iter().map(|(nodes, added)| if nodes.contains(node) { *added } else { 0.0 });
        nearly.added(node) + of_keywords.sum::<f32>()
    }

    /// What the terms add to any score at most, by [`Self::added_nearly`]; infinite if it is not known.
    pub fn most(&self) -> f32 {
        let of_keywords = self.keywords.iter().map(|(_, added)| added.max(0.0)).sum::<f32>();
        self.nearly.as_ref().map_or(f32::INFINITY, |nearly| nearly.most() + of_keywords)
    }

    fn of_term(&self, bound: &Bound<'_>, node: u32) -> f64 {
        match bound.source {
            Source::Numbers(numbers, _) => {
                numbers.get(node).map_or(0.0, |value| bound.term.of_value(value, self.now))
            }
            Source::Keywords(at) if self.keywords[at].0.contains(node) => bound.term.of_match(),
            Source::Keywords(_) => 0.0,
        }
    }
}

fn any(attribute: &str, any_of: &[String], is_list: bool) -> Filter {
    let (attribute, any_of) = (attribute.to_owned(), any_of.to_vec());
    let condition = match is_list {
        true => Condition::List { attribute, any_of, all_of: Vec::new() },
        false => Condition::Keyword { attribute, any_of },
    };
    Filter { must: vec![condition], ..Filter::default() }
}

/// Returns the column of a valid term.
fn check(term: &ScoreTerm, columns: &Columns<'_>) -> Result<usize, (TermField, TermProblem)> {
    let (expected, found) = (ScoreTerm::MAX_WEIGHT, term.weight);
    if !(-expected..=expected).contains(&found) {
        return Err((TermField::Weight, TermProblem::Weight { expected, found }));
    }
    let of_form = |problem| Err((TermField::Form, problem));
    let kinds = match &term.form {
        TermForm::Linear | TermForm::Log1p => &NUMBERS[..],
        TermForm::Clamp { from, to } => {
            let (from, to) = (*from, *to);
            if !(from.is_finite() && to.is_finite() && from < to && (to - from).is_finite()) {
                return of_form(TermProblem::Clamp { from, to });
            }
            &NUMBERS
        }
        TermForm::HalfLife(found) | TermForm::Window(found) => {
            if !found.is_positive() {
                return of_form(TermProblem::Duration { found: *found });
            }
            &TIMES
        }
        TermForm::Match { any_of } => {
            let (most, found) = (ScoreTerm::MAX_KEYWORDS, any_of.len());
            if !(1..=most).contains(&found) {
                return of_form(TermProblem::Keywords { most, found });
            }
            &WORDS
        }
    };
    let of_attribute = |problem| (TermField::Attribute, TermProblem::Attribute(problem));
    let column = columns.find(&term.attribute).ok_or_else(|| {
        let known = columns.schema().iter().map(|column| column.name.as_str());
        of_attribute(FilterProblem::unknown_attribute(&term.attribute, known))
    })?;
    let found = columns.schema()[column].kind;
    if !kinds.contains(&found) {
        return Err(of_attribute(FilterProblem::wrong_type(&term.attribute, kinds, found)));
    }
    Ok(column)
}

impl From<MatchError> for BindError {
    fn from(error: MatchError) -> Self {
        Self::Keywords(error)
    }
}
