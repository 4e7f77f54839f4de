//! Whether the caller of a stream still has the rights with which it began.
//!
//! What flows in: the credential of a stream, and the changes of keys and tokens meanwhile. What flows out: why the stream
//! must end. A credential is looked at again when a file of credentials was read again, and when it expires. Otherwise a
//! request of a stream costs one comparison.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use tonic::{Request, Status};

use super::denial::{Denial, Unidentified};
use super::rights::Identity;
use crate::service::caller::Caller;
use crate::service::shell::Shell;

/// The credential of a stream.
pub(crate) struct Standing {
    shell: Arc<Shell>,
    caller: Caller,
    /// The header with the credential.
    headers: HeaderMap,
    /// The number of changes when the credential was valid, and until when it is; `None` before the first look. A change
    /// between the check of the call and the first request would be missed otherwise.
    valid: Option<(u64, u64)>,
}

impl Standing {
    /// Returns the credential of a call that passed the guard.
    pub(crate) fn of<T>(shell: &Arc<Shell>, caller: &Caller, request: &Request<T>) -> Self {
        let headers: &HeaderMap = request.metadata().as_ref();
        let values = headers.get_all(header::AUTHORIZATION).iter().cloned();
        let headers = values.map(|value| (header::AUTHORIZATION, value)).collect();
        Self { shell: Arc::clone(shell), caller: caller.clone(), headers, valid: None }
    }

    /// Checks that the credential still gives the same rights. Records the refusal.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if it is no longer valid, or its rights changed.
    pub(crate) fn check(&mut self, method: &'static str) -> Result<(), Status> {
        self.look().map_err(|Unidentified { denial, status }| {
            self.shell.denied(&self.caller, method, denial, &status);
            status
        })
    }

    fn look(&mut self) -> Result<(), Unidentified> {
        let access = &self.shell.access;
        if access.is_open() {
            return Ok(());
        }
        let changes = access.changes();
        if self.valid.is_some_and(|(seen, until)| seen == changes && is_before(until)) {
            return Ok(());
        }
        let Identity { name, is_token, rights, until } = access.identify(&self.headers)?;
        if self.caller.name.as_ref() != Some(&name)
            || self.caller.has_token != is_token
            || self.caller.rights != rights
        {
            let text = "the rights of the credential have changed: call again";
            return Err(Unidentified::new(Denial::Changed, text));
        }
        self.valid = Some((changes, until));
        Ok(())
    }
}

/// Returns whether a time, in seconds since 1970, is not over. Keys have no end, and need no clock.
fn is_before(until: u64) -> bool {
    until == u64::MAX || SystemTime::now().duration_since(UNIX_EPOCH).is_ok_and(|now| now.as_secs() <= until)
}
