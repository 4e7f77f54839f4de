//! One long-lived stream of searches, answered in their order.

use std::sync::Arc;

use pyo3::prelude::*;
use shortlist_client::proto::search_stream_item::Item;
use shortlist_client::{Client, Error, SearchRequest};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::answers::{Wanted, found};
use super::connection::{Reply, promise, wait};
use super::error::fault;
use super::request::requests;
use crate::error::{Code, Fault};
use crate::request::{Options, Queries};

/// A stream. The package bounds the requests in flight.
#[pyclass(frozen, module = "shortlist._native")]
pub(crate) struct Stream {
    runtime: Arc<Runtime>,
    requests: std::sync::Mutex<Option<mpsc::UnboundedSender<SearchRequest>>>,
    answers: Arc<Mutex<Answers>>,
}

/// The answers, which come once the stream is open.
enum Answers {
    Closed(Client, Option<mpsc::UnboundedReceiver<SearchRequest>>),
    Open(tonic::Streaming<shortlist_client::proto::SearchStreamItem>),
}

impl Answers {
    async fn next(&mut self) -> Result<shortlist_client::SearchResponse, Fault> {
        if let Self::Closed(servers, requests) = self {
            let Some(requests) = requests.take() else { return Err(ended()) };
            let opened = servers.stream_search(UnboundedReceiverStream::new(requests)).await;
            *self = Self::Open(opened.map_err(|error| fault(error, None))?);
        }
        let Self::Open(answers) = self else { return Err(ended()) };
        let item = answers.message().await.map_err(|status| fault(Error::from(&status), None))?;
        match item.and_then(|item| item.item) {
            Some(Item::Response(response)) => Ok(response),
            Some(Item::Error(status)) => Err(fault(Error::of_item(&status), None)),
            None => Err(ended()),
        }
    }
}

fn ended() -> Fault {
    Fault::new(Code::Unavailable, None, "the server ended the stream")
}

impl Stream {
    pub(super) fn open(runtime: Arc<Runtime>, servers: Client) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(Answers::Closed(servers, Some(received))));
        Self { runtime, requests: std::sync::Mutex::new(Some(requests)), answers }
    }
}

#[pymethods]
impl Stream {
    /// Sends one search.
    fn send(
        &self,
        queries: Queries<'_>,
        options: Options<'_>,
        stats: bool,
        index: &str,
        min_sequence: u64,
    ) -> PyResult<()> {
        let sender = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for request in requests(&queries, &options, stats, index, min_sequence)? {
            // Fails if the stream has ended, which the next answer says.
            if let Some(sender) = &*sender {
                let _ = sender.send(request);
            }
        }
        Ok(())
    }

    /// Waits for the next answer: `queries` and `options` of its search say what it has.
    fn next<'py>(
        &self,
        py: Python<'py>,
        queries: Queries<'py>,
        options: Options<'py>,
        stats: bool,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted::of(&queries, &options, stats);
        let answers = Arc::clone(&self.answers);
        let call = async move {
            let response = answers.lock().await.next().await?;
            Ok(Reply::new(move |py| found(py, vec![response], &wanted)))
        };
        if asyncio {
            return promise(py, &self.runtime, call);
        }
        py.detach(|| wait(&self.runtime, call))?.into_object(py)
    }

    /// Sends no more.
    fn close(&self) {
        self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}
