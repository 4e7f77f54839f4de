//! The class `Index`: open, search, explain.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rayon::prelude::*;
use shortlist::{
    AttributeKind, EngineError, Loss, QuerySource, ReturnAttributes, Rule, SearchRequest, SearchResponse,
};

use crate::answers::{Answers, Found, Kept, Stats};
use crate::error::{Fault, argument};
use crate::ids::{Id, no_text};
use crate::pools::pool;
use crate::request::{Options, Queries, Requests, Searched};

/// Rows per thread that are searched before their answers are copied into the arrays.
const ROWS_PER_THREAD: usize = 64;
/// How often a batch looks for Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// One read-only index.
#[pyclass(frozen, module = "shortlist._native")]
pub(crate) struct Index {
    index: shortlist::Index,
}

impl Index {
    pub(crate) fn new(index: shortlist::Index) -> Self {
        Self { index }
    }

    /// Names and types of the attributes that a request returns.
    fn returned(&self, request: &SearchRequest) -> Vec<(String, AttributeKind)> {
        let schema = self.index.attributes().iter().map(|column| (column.name.clone(), column.kind));
        match &request.return_attributes {
            ReturnAttributes::None => Vec::new(),
            ReturnAttributes::All => schema.collect(),
            ReturnAttributes::Named(names) => schema.filter(|(name, _)| names.contains(name)).collect(),
        }
    }

    /// Answers all requests into `answers`.
    fn answer(
        &self,
        searched: &Searched<'_>,
        requests: &Requests<'_>,
        pool: Option<&rayon::ThreadPool>,
        answers: &mut Answers,
    ) -> PyResult<()> {
        let rows = searched.rows();
        let search = |request: &mut SearchRequest, row: usize| -> Result<SearchResponse, Fault> {
            requests.set(searched, row, request);
            let in_row = |error: EngineError| {
                let fault = Fault::from(error);
                if rows > 1 { fault.in_row(row) } else { fault }
            };
            self.index.search(request).map_err(in_row)
        };
        let mut request = requests.request.clone();
        let mut checked = Instant::now();
        let block = ROWS_PER_THREAD * pool.map_or(1, rayon::ThreadPool::current_num_threads);
        for start in (0..rows).step_by(block) {
            let block = start..rows.min(start + block);
            match pool {
                None => {
                    for row in block {
                        answers.push(search(&mut request, row)?);
                    }
                }
                Some(pool) => {
                    let found: Vec<_> = pool.install(|| {
                        block.into_par_iter().map_init(|| requests.request.clone(), &search).collect()
                    });
                    for response in found {
                        answers.push(response?);
                    }
                }
            }
            if checked.elapsed() >= SIGNALS_EVERY {
                Python::attach(|py| py.check_signals())?;
                checked = Instant::now();
            }
        }
        Ok(())
    }
}

impl Index {
    /// Checks that an argument with text ids suits the index.
    fn check_ids(&self, text_argument: Option<&str>) -> Result<(), Fault> {
        match text_argument {
            Some(argument) if !self.index.has_text_ids() => Err(no_text(argument)),
            _ => Ok(()),
        }
    }
}

#[pymethods]
impl Index {
    /// Opens the newest sound generation of a folder.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let pool = pool(py, 0)?;
        let index = py.detach(|| pool.install(|| shortlist::Index::open(path))).map_err(Fault::from)?;
        Ok(Self { index })
    }

    /// Copies what searches read into the memory of this process.
    fn make_resident(&self, py: Python<'_>) -> PyResult<()> {
        let pool = pool(py, 0)?;
        Ok(py.detach(|| pool.install(|| self.index.make_resident())).map_err(Fault::from)?)
    }

    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: Queries<'py>,
        options: Options<'py>,
        stats: bool,
        threads: usize,
    ) -> PyResult<Found<'py>> {
        self.check_ids(queries.text_argument().or(options.text_argument()))?;
        let searched = queries.read()?;
        let requests = options.read()?;
        let kept = Kept {
            vectors: requests.request.return_vectors.then_some(self.index.dim()),
            interests: matches!(queries, Queries::Interests(..)),
            terms: requests.request.rules.score_terms.len(),
            reserves: requests.request.rules.reserves.len(),
            attributes: self.returned(&requests.request),
            stats,
        };
        let mut answers = Answers::new(searched.rows(), requests.request.k, kept)?;
        let pool = if threads == 1 || searched.rows() < 2 { None } else { Some(pool(py, threads)?) };
        py.detach(|| self.answer(&searched, &requests, pool.as_deref(), &mut answers))?;
        answers.finish(py)
    }

    fn explain<'py>(
        &self,
        py: Python<'py>,
        queries: Queries<'py>,
        video_id: Id,
        options: Options<'py>,
    ) -> PyResult<Explained> {
        self.check_ids(video_id.is_text().then_some("video_id"))?;
        self.check_ids(queries.text_argument().or(options.text_argument()))?;
        let searched = queries.read()?;
        let requests = options.read()?;
        let mut request = requests.request.clone();
        requests.set(&searched, 0, &mut request);
        let explained = py.detach(|| self.index.explain(&request, video_id.number()).map_err(Fault::from))?;
        Ok(Explained {
            score: explained.score,
            terms: explained.terms,
            interest: explained.interest,
            exact_rank: explained.exact_rank,
            in_exact_answer: explained.in_exact_answer,
            rank: explained.rank,
            removal: explained.removal.map(|removal| {
                let field = argument(&removal.field);
                (rule_name(removal.rule), field, removal.reason)
            }),
            loss: explained.loss.map(loss_name),
            stats: Stats::from(&explained.stats),
        })
    }

    fn __len__(&self) -> usize {
        self.index.len()
    }

    #[getter]
    fn dim(&self) -> usize {
        self.index.dim()
    }

    #[getter]
    fn metric(&self) -> &'static str {
        self.index.metric().name()
    }

    #[getter]
    fn generation(&self) -> u64 {
        self.index.generation()
    }

    #[getter]
    fn embedding_model(&self) -> Option<&str> {
        self.index.embedding_model()
    }

    /// Names and types.
    #[getter]
    fn attributes(&self) -> Vec<(&str, &'static str)> {
        self.index.attributes().iter().map(|column| (column.name.as_str(), column.kind.name())).collect()
    }

    /// Source and number of the queries, and by k the efforts with their recall.
    #[getter]
    fn calibration(&self) -> Option<Calibrated> {
        let curves = self.index.calibration()?;
        let points = |curve: &shortlist::RecallCurve| {
            let all = f64::from(curves.queries) * f64::from(curve.k);
            curve.points.iter().map(|point| (point.ef_search, point.found as f64 / all)).collect()
        };
        let by_k = curves.curves.iter().map(|curve| (curve.k, points(curve))).collect();
        Some((source_name(curves.source), curves.queries, by_k))
    }
}

type Calibrated = (&'static str, u32, Vec<(u32, Vec<(u32, f64)>)>);

/// A `shortlist.Explanation` as a dict.
#[derive(IntoPyObject)]
pub(crate) struct Explained {
    pub(crate) score: f32,
    pub(crate) terms: Vec<f32>,
    pub(crate) interest: Option<usize>,
    pub(crate) exact_rank: Option<usize>,
    pub(crate) in_exact_answer: bool,
    pub(crate) rank: Option<usize>,
    /// Rule, argument and reason.
    pub(crate) removal: Option<(&'static str, String, String)>,
    pub(crate) loss: Option<&'static str>,
    pub(crate) stats: Stats,
}

fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Seed => "seed",
        Rule::Filter => "filter",
        Rule::Exclude => "exclude",
        Rule::ScoreThreshold => "score_threshold",
        Rule::Cap => "cap",
        Rule::KeptPlace => "kept_place",
        Rule::Diversity => "diversity",
    }
}

fn loss_name(loss: Loss) -> &'static str {
    match loss {
        Loss::NotReached => "not_reached",
        Loss::NotRescored => "not_rescored",
        Loss::Displaced => "displaced",
        Loss::EarlierPage => "earlier_page",
    }
}

fn source_name(source: QuerySource) -> &'static str {
    match source {
        QuerySource::HeldOut => "held_out",
        QuerySource::Queries => "queries",
        QuerySource::Sampled => "sampled",
        QuerySource::Guessed => "guessed",
    }
}
