//! Builds, which Ctrl-C cancels.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use shortlist::{AttributeColumn, Dataset, Embeddings, Metric, Progress, VideoId};

use crate::arrays::Rows;
use crate::columns::Column;
use crate::error::{Fault, of_dataset};
use crate::ids::Ids;
use crate::index::Index;
use crate::pools::pool;

/// How often a build looks for Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Builds an index in memory, or publishes it to the folder `out` and opens it from there.
#[pyfunction]
#[pyo3(signature = (x, training_queries, ids, attributes, metric, out, m, ef_construction, seed, threads, embedding_model))]
#[allow(clippy::too_many_arguments, reason = "the package passes each by position")]
pub(crate) fn build(
    py: Python<'_>,
    x: Rows<'_>,
    training_queries: Option<Rows<'_>>,
    ids: Option<Ids<'_>>,
    attributes: Vec<Column<'_>>,
    metric: &str,
    out: Option<PathBuf>,
    m: Option<usize>,
    ef_construction: Option<usize>,
    seed: Option<u64>,
    threads: usize,
    embedding_model: Option<String>,
) -> PyResult<Index> {
    let metric: Metric = metric.parse().map_err(|problem: String| Fault::invalid("metric", problem))?;
    let job = Job {
        x: x.embeddings("x")?,
        training_queries: training_queries.map(|users| users.embeddings("training_queries")).transpose()?,
        ids: ids.map(Known::of).transpose()?,
        attributes: attributes.into_iter().map(Column::read).collect::<PyResult<_>>()?,
        metric,
        out,
        m,
        ef_construction,
        seed,
        threads,
        embedding_model,
    };
    let pool = pool(py, threads)?;
    let cancel = Cancel::default();
    let (built, interrupt) = py.detach(|| {
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let cancel = &cancel;
            scope.spawn(move || sender.send(pool.install(|| job.run(cancel))));
            let mut interrupt = None;
            loop {
                match receiver.recv_timeout(SIGNALS_EVERY) {
                    Ok(built) => return (Some(built), interrupt),
                    // The build panicked: the scope resumes the panic.
                    Err(RecvTimeoutError::Disconnected) => return (None, interrupt),
                    Err(RecvTimeoutError::Timeout) if interrupt.is_none() => {
                        interrupt = Python::attach(|py| py.check_signals()).err();
                        cancel.0.store(interrupt.is_some(), Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    });
    match (interrupt, built) {
        (Some(interrupt), _) => Err(interrupt),
        (None, Some(built)) => Ok(Index::new(built?)),
        (None, None) => unreachable!("a scope returns only if no thread panicked"),
    }
}

#[derive(Default)]
struct Cancel(AtomicBool);

impl Progress for Cancel {
    fn begin(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Job {
    x: Embeddings,
    training_queries: Option<Embeddings>,
    ids: Option<Known>,
    attributes: Vec<AttributeColumn>,
    metric: Metric,
    out: Option<PathBuf>,
    m: Option<usize>,
    ef_construction: Option<usize>,
    seed: Option<u64>,
    threads: usize,
    embedding_model: Option<String>,
}

/// The ids of a build, apart from Python.
enum Known {
    Numbers(Vec<VideoId>),
    Texts(Vec<String>),
}

impl Known {
    fn of(ids: Ids<'_>) -> PyResult<Self> {
        Ok(match ids {
            Ids::Texts(ids) => Self::Texts(ids),
            numbers => Self::Numbers(numbers.numbers()?),
        })
    }
}

impl Job {
    fn run(self, progress: &dyn Progress) -> Result<shortlist::Index, Fault> {
        let mut dataset = Dataset::from_embeddings(self.x).map_err(|error| of_dataset("x", &error))?;
        if let Some(ids) = self.ids {
            let named = match ids {
                Known::Numbers(ids) => dataset.with_ids(ids),
                Known::Texts(ids) => dataset.with_text_ids(&ids),
            };
            dataset = named.map_err(|error| of_dataset("ids", &error))?;
        }
        for column in self.attributes {
            let argument = format!("attributes[{:?}]", column.name);
            dataset = dataset.with_attribute(column).map_err(|error| of_dataset(&argument, &error))?;
        }
        let mut builder = shortlist::Index::builder(self.metric).threads(self.threads).progress(progress);
        if let Some(users) = &self.training_queries {
            builder = builder.training_queries(users);
        }
        if let Some(m) = self.m {
            builder = builder.m(m);
        }
        if let Some(ef_construction) = self.ef_construction {
            builder = builder.ef_construction(ef_construction);
        }
        if let Some(seed) = self.seed {
            builder = builder.seed(seed);
        }
        if let Some(model) = self.embedding_model {
            builder = builder.embedding_model(model);
        }
        Ok(match self.out {
            Some(dir) => builder.publish(&dataset, dir)?,
            None => builder.build(&dataset)?,
        })
    }
}
