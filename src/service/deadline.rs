//! The `grpc-timeout` header: how long the caller waits.
//!
//! What flows in: requests with their headers. What flows out: the same requests with a [`Deadline`] in their
//! extensions, and `DEADLINE_EXCEEDED` for a call without an answer by then, unless it has [`Begun`] a write. A stream
//! that has sent its headers watches its deadline itself.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use tonic::Status;

/// When the caller of a call stops waiting; never if `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Option<Instant>);

impl Deadline {
    /// Returns the deadline of a call that passed [`enforce`].
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or(Deadline(None))
    }

    /// Returns whether the deadline has passed.
    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits until the deadline has passed.
    pub(crate) async fn passed(self) {
        match self.0 {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Returns the output of `work`, or `None` if the deadline passes first.
    pub(crate) async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.passed() => None,
        }
    }
}

/// Whether a call has begun a write. Once begun, it is finished and answered, even after the deadline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Begun(Arc<AtomicBool>);

impl Begun {
    /// Returns the flag of a call that passed [`enforce`].
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Sets the flag and returns whether the write may begin, that is, whether the deadline has not passed. [`enforce`]
    /// reads the flag only after the deadline. So either it sees that the call has begun, or the call does not begin.
    pub(crate) fn before(&self, deadline: Deadline) -> bool {
        self.0.store(true, Ordering::SeqCst);
        !deadline.is_over()
    }

    fn has(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Returns the status of a call whose deadline passed.
pub(crate) fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the request was done")
}

/// Adds the deadline to the extensions of a call, and answers in its place when the deadline has passed.
pub(crate) async fn enforce<F: Future<Output = Response>>(
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let deadline =
        Deadline(timeout(request.headers()).and_then(|timeout| Instant::now().checked_add(timeout)));
    let begun = Begun::default();
    request.extensions_mut().insert(deadline);
    request.extensions_mut().insert(begun.clone());
    let mut answer = pin!(next(request));
    match deadline.bound(&mut answer).await {
        Some(response) => response,
        None if begun.has() => answer.await,
        None => exceeded().into_http(),
    }
}

/// Parses `grpc-timeout`: up to 8 digits and a unit. A malformed header sets no deadline.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), value.parse().unwrap())]))
    }

    #[test]
    fn reads_every_unit() {
        assert_eq!(parsed("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parsed("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parsed("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parsed("4m"), Some(Duration::from_millis(4)));
        assert_eq!(parsed("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parsed("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(parsed("0m"), Some(Duration::ZERO));
    }

    #[test]
    fn what_has_begun_is_seen_and_nothing_begins_after_the_deadline() {
        let begun = Begun::default();
        assert!(!begun.has());
        assert!(begun.before(Deadline(None)) && begun.has());
        assert!(!Begun::default().before(Deadline(Some(Instant::now()))));
    }

    #[test]
    fn ignores_what_is_not_a_timeout() {
        for value in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "1.5S", "5 S"] {
            assert_eq!(parsed(value), None, "{value:?}");
        }
    }
}
