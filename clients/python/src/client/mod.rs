//! The classes `Client` and `Stream`: calls to servers, blocking or as futures of asyncio.
//!
//! What flows in: arguments as for `Index`. What flows out: the same answers. Balance, health, retries and deadlines are
//! those of `shortlist-client`.
//!
//! | file | duty |
//! |---|---|
//! | `connection.rs` | the runtime of the process; waiting for a call, and futures of asyncio |
//! | `request.rs`    | arguments become messages |
//! | `batch.rs`      | many searches or videos, in calls of bounded size |
//! | `answers.rs`    | messages become answers |
//! | `videos.rs`     | arrays and columns become videos |
//! | `messages.rs`   | other messages become dicts |
//! | `stream.rs`     | one long-lived stream of searches |
//! | `error.rs`      | errors of servers become exceptions |

mod answers;
mod batch;
mod connection;
mod error;
mod messages;
mod request;
mod stream;
mod videos;

use std::collections::BTreeMap;
use std::time::Duration;

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use shortlist_client::proto::{
    ActivateRequest, CancelRebuildRequest, ExplainRequest, GetRequest, GetStatusRequest, ListAliasesRequest,
    RebuildRequest, SetAliasRequest,
};
use shortlist_client::{Client as Servers, Tls};

pub(crate) use self::stream::Stream;

use self::connection::{Connection, Reply};
use self::error::fault;
use crate::columns::Column;
use crate::error::Fault;
use crate::ids::{Id, Ids};
use crate::request::{Options, Queries};

/// A client of one or more servers. Every method takes the timeout in seconds, and whether to return a future of asyncio in
/// place of the answer.
#[pyclass(frozen, module = "shortlist._native")]
pub(crate) struct Client {
    connection: Connection,
}

/// Certificates: authorities, certificate and key of the client, and the name of the server.
type Certificates = (Option<Vec<u8>>, Option<(Vec<u8>, Vec<u8>)>, Option<String>);

#[pymethods]
impl Client {
    #[new]
    fn new(
        addresses: &str,
        token: Option<String>,
        insecure: bool,
        tls: Option<Certificates>,
        timeout: f64,
    ) -> PyResult<Self> {
        let mut builder = Servers::builder(addresses).timeout(duration(timeout)?);
        if let Some(token) = token {
            builder = builder.token(token);
        }
        if insecure {
            builder = builder.insecure();
        }
        if let Some((ca, identity, domain)) = tls {
            let mut tls = Tls::system();
            if let Some(ca) = ca {
                tls = tls.authority(ca);
            }
            if let Some((certificate, key)) = identity {
                tls = tls.identity(certificate, key);
            }
            if let Some(domain) = domain {
                tls = tls.domain(domain);
            }
            builder = builder.tls(tls);
        }
        Ok(Self { connection: Connection::new(builder)? })
    }

    #[allow(clippy::too_many_arguments)]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: Queries<'py>,
        options: Options<'py>,
        stats: bool,
        index: &str,
        min_sequence: u64,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let requests = request::requests(&queries, &options, stats, index, min_sequence)?;
        let kept = answers::Wanted::of(&queries, &options, stats);
        self.call(py, timeout, asyncio, move |servers| async move {
            let found = batch::search(&servers, requests).await?;
            Ok(Reply::new(move |py| answers::found(py, found, &kept)))
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        queries: Queries<'py>,
        video_id: Id,
        options: Options<'py>,
        index: &str,
        min_sequence: u64,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = request::requests(&queries, &options, false, index, min_sequence)?.into_iter().next();
        let (video_id, text_id) = video_id.into_parts();
        let request = ExplainRequest { request, video_id, text_id };
        self.call(py, timeout, asyncio, move |servers| async move {
            let explained = servers.explain(request).await.map_err(|error| fault(error, None))?;
            Ok(Reply::new(move |py| answers::explained(py, explained)))
        })
    }

    /// Opens a stream of searches.
    fn stream(&self, py: Python<'_>) -> PyResult<Stream> {
        let (runtime, servers) = self.connection.get(py)?;
        Ok(Stream::open(runtime, servers))
    }

    #[allow(clippy::too_many_arguments)]
    fn upsert<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        vectors: Vec<videos::Embeddings<'py>>,
        columns: Vec<Column<'py>>,
        expires_at: Option<PyReadonlyArray1<'py, i64>>,
        embedding_model: Option<String>,
        partial: bool,
        index: String,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let videos = videos::videos(&ids, &vectors, columns, expires_at.as_ref(), embedding_model)?;
        self.call(py, timeout, asyncio, move |servers| async move {
            let written = batch::upsert(servers, videos, index, partial).await?;
            Ok(Reply::new(move |py| Ok(written.into_pyobject(py)?.into_any())))
        })
    }

    fn write<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        ids: Ids<'py>,
        index: String,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (ids, kind) = (ids.parts(0..ids.len())?, kind.to_owned());
        self.call(py, timeout, asyncio, move |servers| async move {
            let written = batch::write(servers, kind, ids, index).await?;
            Ok(Reply::new(move |py| Ok(written.into_pyobject(py)?.into_any())))
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn get<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        attributes: Option<Vec<String>>,
        vectors: bool,
        embedding_model: Option<String>,
        index: String,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (video_ids, text_ids) = ids.parts(0..ids.len())?;
        let request = GetRequest {
            index,
            video_ids,
            text_ids,
            return_attributes: attributes.unwrap_or_else(|| vec!["*".to_owned()]),
            return_vectors: vectors,
            embedding_model: embedding_model.unwrap_or_default(),
        };
        self.call(py, timeout, asyncio, move |servers| async move {
            let answer = servers.get(request).await.map_err(|error| fault(error, None))?;
            Ok(Reply::new(move |py| videos::looked_up(py, answer)))
        })
    }

    fn status<'py>(
        &self,
        py: Python<'py>,
        index: String,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, timeout, asyncio, move |servers| async move {
            let answer = servers.get_status(GetStatusRequest { index }).await;
            let answer = answer.map_err(|error| fault(error, None))?;
            Ok(Reply::new(move |py| messages::dict(py, "GetStatusResponse", &answer)))
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn activate<'py>(
        &self,
        py: Python<'py>,
        generation: u64,
        force: bool,
        index: String,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, timeout, asyncio, move |servers| async move {
            let answer = servers.activate(ActivateRequest { index, generation, force }).await;
            let answer = answer.map_err(|error| fault(error, None))?;
            Ok(Reply::new(move |py| messages::dict(py, "ActivateResponse", &answer)))
        })
    }

    fn set_alias<'py>(
        &self,
        py: Python<'py>,
        alias: String,
        indexes: Vec<String>,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, timeout, asyncio, move |servers| async move {
            let answer = servers.set_alias(SetAliasRequest { alias, indexes }).await;
            let before = answer.map_err(|error| fault(error, None))?.before.unwrap_or_default().indexes;
            Ok(Reply::new(move |py| Ok(before.into_pyobject(py)?.into_any())))
        })
    }

    fn aliases<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, timeout, asyncio, move |servers| async move {
            let answer = servers.list_aliases(ListAliasesRequest {}).await;
            let aliases = answer.map_err(|error| fault(error, None))?.aliases;
            let pairs: BTreeMap<String, Vec<String>> =
                aliases.into_iter().map(|alias| (alias.alias, alias.indexes)).collect();
            Ok(Reply::new(move |py| Ok(pairs.into_pyobject(py)?.into_any())))
        })
    }

    fn rebuild<'py>(
        &self,
        py: Python<'py>,
        cancel: bool,
        index: String,
        timeout: Option<f64>,
        asyncio: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, timeout, asyncio, move |servers| async move {
            let rebuild = match cancel {
                true => {
                    servers.cancel_rebuild(CancelRebuildRequest { index }).await.map(|answer| answer.rebuild)
                }
                false => servers.rebuild(RebuildRequest { index }).await.map(|answer| answer.rebuild),
            };
            let rebuild = rebuild.map_err(|error| fault(error, None))?.unwrap_or_default();
            Ok(Reply::new(move |py| messages::dict(py, "RebuildStatus", &rebuild)))
        })
    }
}

impl Client {
    /// Makes a call, and waits for it, or returns a future of asyncio.
    fn call<'py, F>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
        asyncio: bool,
        call: impl FnOnce(Servers) -> F,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let (runtime, mut servers) = self.connection.get(py)?;
        if let Some(timeout) = timeout {
            servers = servers.with_timeout(duration(timeout)?);
        }
        let call = call(servers);
        if asyncio {
            return connection::promise(py, &runtime, call);
        }
        py.detach(|| connection::wait(&runtime, call))?.into_object(py)
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    let invalid = || Fault::invalid("timeout", format!("expected seconds above 0, found {seconds}"));
    if seconds.is_nan() || seconds <= 0.0 {
        return Err(invalid().into());
    }
    // More than a duration can have is no timeout.
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
