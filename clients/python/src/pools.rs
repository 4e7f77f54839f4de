//! Thread pools that outlive a call, but not a fork.
//!
//! The library runs its loops on the current rayon pool. The global pool of rayon must not be used: after a fork, its
//! threads are missing in the child, which would wait for them forever.

use std::collections::HashMap;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Code, Fault};

/// More threads than any machine has cores for.
const MAX_THREADS: usize = 1024;

type Pools = HashMap<(u32, usize), Arc<ThreadPool>>;

/// By process and number of threads. Entries of a parent process are never dropped: their threads do not exist here.
static POOLS: Mutex<Option<Pools>> = Mutex::new(None);

/// The pool of `threads` threads of this process; 0 for one per core.
///
/// Takes the lock only while the interpreter is locked, too, so that no fork by Python happens in between.
///
/// # Errors
/// If there are too many threads, or they cannot be started.
pub(crate) fn pool(_py: Python<'_>, threads: usize) -> Result<Arc<ThreadPool>, Fault> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        1..=MAX_THREADS => threads,
        _ => {
            return Err(Fault::invalid(
                "threads",
                format!("expected at most {MAX_THREADS}, found {threads}"),
            ));
        }
    };
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let pools = pools.get_or_insert_default();
    let key = (process::id(), threads);
    if let Some(pool) = pools.get(&key) {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("shortlist-{thread}"))
        .build()
        .map_err(|error| {
            Fault::new(Code::Internal, None, format!("cannot start {threads} threads: {error}"))
        })?;
    let pool = Arc::new(pool);
    pools.insert(key, Arc::clone(&pool));
    Ok(pool)
}
