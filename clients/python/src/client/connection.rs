//! The runtime of the process, and the connections of a client.
//!
//! Threads and connections do not outlive a fork: a child process makes its own when it first needs them.

use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use shortlist_client::{Builder, Client};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::error::{Code, Fault};

/// How often a call that waits looks for Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// The runtime of the process with this id. The one of a parent process is never dropped: its threads do not exist here.
static RUNTIME: Mutex<Option<(u32, Arc<Runtime>)>> = Mutex::new(None);

/// Takes the lock only while the interpreter is locked, too, so that no fork by Python happens in between.
fn runtime(_py: Python<'_>) -> Result<Arc<Runtime>, Fault> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    match &*runtime {
        Some((process, runtime)) if *process == process::id() => return Ok(Arc::clone(runtime)),
        Some(_) => std::mem::forget(runtime.take()),
        None => {}
    }
    let made = tokio::runtime::Builder::new_multi_thread()
        // Two threads wake each other for every call, which costs more than they save.
        .worker_threads(1)
        .thread_name("shortlist-client")
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Internal, None, format!("cannot start threads: {error}")))?;
    let made = Arc::new(made);
    *runtime = Some((process::id(), Arc::clone(&made)));
    Ok(made)
}

/// The connections of a client, made again after a fork.
pub(super) struct Connection {
    builder: Builder,
    made: Mutex<Option<(u32, Client)>>,
}

impl Connection {
    /// # Errors
    /// If an address, the token or a certificate cannot be used.
    pub(super) fn new(builder: Builder) -> PyResult<Self> {
        let connection = Self { builder, made: Mutex::new(None) };
        Python::attach(|py| connection.get(py))?;
        Ok(connection)
    }

    /// The runtime, and the client of this process.
    pub(super) fn get(&self, py: Python<'_>) -> PyResult<(Arc<Runtime>, Client)> {
        let runtime = runtime(py)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((process, client)) if *process == process::id() => return Ok((runtime, client.clone())),
            Some(_) => std::mem::forget(made.take()),
            None => {}
        }
        let _entered = runtime.enter();
        let client = self.builder.build();
        let client = client.map_err(|error| Fault::new(Code::InvalidArgument, None, error.to_string()))?;
        *made = Some((process::id(), client.clone()));
        drop(_entered);
        Ok((runtime, client))
    }
}

/// The answer to a call, which becomes a Python object where the interpreter is locked.
pub(super) struct Reply(Convert);

type Convert = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;

impl Reply {
    pub(super) fn new(
        convert: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) -> Self {
        Self(Box::new(convert))
    }

    pub(super) fn into_object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        (self.0)(py)
    }
}

/// Waits for a call, until Ctrl-C. The call runs on the thread of the runtime, which has the connections: this thread
/// would have to wake it for each step.
pub(super) fn wait<T: Send + 'static>(
    runtime: &Runtime,
    call: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> PyResult<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    let task = runtime.spawn(async move {
        // Fails if nobody waits any more.
        let _ = answer.send(call.await);
    });
    loop {
        match answered.recv_timeout(SIGNALS_EVERY) {
            Ok(answer) => return Ok(answer?),
            Err(RecvTimeoutError::Timeout) => {
                Python::attach(|py| py.check_signals()).inspect_err(|_| task.abort())?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::new(Code::Internal, None, "the call panicked").into());
            }
        }
    }
}

/// Starts a call, and returns a future of the running loop of asyncio. Cancelling the future cancels the call.
pub(super) fn promise<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    call: impl Future<Output = Result<Reply, Fault>> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    static SETTLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = py.import("asyncio")?.call_method0("get_running_loop")?;
    let future = event_loop.call_method0("create_future")?;
    let (event_loop, settled) = (event_loop.unbind(), future.clone().unbind());
    let task = runtime.spawn(async move {
        let answer = call.await;
        // Nobody waits any more if the interpreter ends.
        Python::try_attach(|py| {
            let answer = answer.map_err(PyErr::from).and_then(|reply| reply.into_object(py));
            let (value, error) = match answer {
                Ok(value) => (value, py.None().into_bound(py)),
                Err(error) => (py.None().into_bound(py), error.into_value(py).into_bound(py).into_any()),
            };
            let settle = SETTLE.import(py, "shortlist._asyncio", "settle")?;
            // Fails if the loop was closed.
            event_loop
                .bind(py)
                .call_method1("call_soon_threadsafe", (settle, settled, value, error))
                .map(drop)
        });
    });
    future.call_method1("add_done_callback", (Abort(task.abort_handle()),))?;
    Ok(future)
}

/// Ends a call whose future was cancelled.
#[pyclass(frozen)]
struct Abort(AbortHandle);

#[pymethods]
impl Abort {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        self.0.abort();
    }
}
