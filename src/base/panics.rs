//! Panics as values: one failing piece of work must not end the thread that runs it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A panic that was caught. The panic hook has reported where it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    /// Returns the panic that has this payload.
    pub fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "without a message".to_owned()))
    }
}

/// Runs `work`. What it shares with others must be sound even if it stops in the middle.
///
/// # Errors
/// If it panics.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::of(&*payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("number {}", 7)), Err::<(), _>(Panicked("number 7".to_owned())));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>(Panicked("plain".to_owned())));
        let odd = caught(|| std::panic::panic_any(7));
        assert_eq!(odd, Err::<(), _>(Panicked("without a message".to_owned())));
    }
}
