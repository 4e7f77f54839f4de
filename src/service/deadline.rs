//! The `grpc-timeout` header: until when the caller waits.
//!
//! What flows in: requests with their headers. What flows out: the same requests with a [`Deadline`]
//! among their extensions, and `DEADLINE_EXCEEDED` for a call that has no answer by then, unless what it does
//! has [`Begun`] and cannot be undone. A stream that has begun to answer watches its deadline itself.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

/// Until when the caller of a call waits; for ever if `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Option<Instant>);

impl Deadline {
    /// The deadline of a call that came through [`enforce`].
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or(Deadline(None))
    }

    /// Whether it has passed.
    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits for it.
    pub(super) async fn passed(self) {
        match self.0 {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    /// What `work` gives, or `None` if the deadline comes first.
    pub(super) async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.passed() => None,
        }
    }
}

/// Whether a call has begun what is finished and answered, however long that takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Begun(Arc<AtomicBool>);

impl Begun {
    /// That of a call that came through [`enforce`].
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Begins, unless the deadline has passed: whoever enforces it looks here only after that, and so either sees
    /// that the call has begun, or it does not begin.
    pub(super) fn before(&self, deadline: Deadline) -> bool {
        self.0.store(true, Ordering::SeqCst);
        !deadline.is_over()
    }

    fn has(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The answer after the deadline.
pub(super) fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the request was done")
}

/// Notes the deadline of a call, and answers in its place when it has passed.
pub(super) async fn enforce(mut request: Request, next: Next) -> Response {
    let deadline =
        Deadline(timeout(request.headers()).and_then(|timeout| Instant::now().checked_add(timeout)));
    let begun = Begun::default();
    request.extensions_mut().insert(deadline);
    request.extensions_mut().insert(begun.clone());
    let mut answer = pin!(next.run(request));
    match deadline.bound(&mut answer).await {
        Some(response) => response,
        None if begun.has() => answer.await,
        None => exceeded().into_http(),
    }
}

/// The value of `grpc-timeout`: up to 8 digits and a unit. A header that is not that sets no deadline.
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
