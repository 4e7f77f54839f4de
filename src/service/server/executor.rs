//! The tasks of the calls of HTTP/2, each of which ends if its client does not take the answer.

use std::future::Future;

use hyper::rt::Executor;

use crate::service::bounds::{Stall, Watched};

/// Runs each call of HTTP/2 on a task of its own.
#[derive(Clone, Debug)]
pub(super) struct CallExecutor {
    stall: Stall,
}

impl CallExecutor {
    pub(super) fn new(stall: Stall) -> Self {
        Self { stall }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for CallExecutor {
    fn execute(&self, call: F) {
        // The end of the task resets the stream.
        tokio::spawn(Watched::new(call, self.stall.clone()));
    }
}
