//! When the generations of an engine are copied into memory, and when the copies are given back.
//!
//! ```text
//! available ≥ 2 × copy + total / 8 ─► copied
//! available < total / 16           ─► given back; not copied again before WAIT has passed
//! ```
//!
//! What flows in: the size of a copy, and how much memory there is. What flows out: whether the rules above hold. A copy
//! that was just made leaves at least twice the memory below which it is given back, so copies do not come and go.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::base::available_memory::AvailableMemory;

/// A copy needs room for this many of its size: for itself, and for the next generation while this one is in use.
const COPIES: u64 = 2;
/// One in this many bytes of all memory stays available in addition.
const SPARE_SHARE: u64 = 8;
/// Memory is short if less than one in this many bytes of it is available.
const SHORT_SHARE: u64 = 16;
/// How long nothing is copied after a copy was given back or could not be made.
const WAIT: Duration = Duration::from_secs(60);

/// The memory that generations are searched in, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPolicy {
    /// A copy on huge pages while there is enough memory, else the mapped file.
    Auto,
    /// The mapped file. The default of the library: an engine in another program takes no memory that it was not given.
    #[default]
    Mapped,
    /// A copy on huge pages, whether or not there is enough memory.
    Resident,
}

impl MemoryPolicy {
    /// The name of the policy on the command line and in settings.
    pub fn name(self) -> &'static str {
        match self {
            MemoryPolicy::Auto => "auto",
            MemoryPolicy::Mapped => "mapped",
            MemoryPolicy::Resident => "resident",
        }
    }
}

impl std::str::FromStr for MemoryPolicy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [MemoryPolicy::Auto, MemoryPolicy::Mapped, MemoryPolicy::Resident]
            .into_iter()
            .find(|policy| policy.name() == word)
            .ok_or_else(|| format!("unknown memory mode {word:?}: expected auto, mapped or resident"))
    }
}

/// Where an engine with [`MemoryPolicy::Auto`] reads how much memory there is. Not a setting: tests take the place of
/// the operating system.
#[derive(Clone)]
pub struct MemoryGauge {
    read: Arc<dyn Fn() -> Option<AvailableMemory> + Send + Sync>,
    wait: Duration,
}

impl MemoryGauge {
    /// Reads with `read`, and waits for `wait` after a copy was given back or could not be made.
    pub fn new(read: impl Fn() -> Option<AvailableMemory> + Send + Sync + 'static, wait: Duration) -> Self {
        Self { read: Arc::new(read), wait }
    }

    /// How long nothing is copied after a copy was given back or could not be made.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Checks that there is enough memory for a copy of `bytes` bytes.
    ///
    /// # Errors
    /// [`Shortage`].
    pub fn check_room(&self, bytes: u64) -> Result<(), Shortage> {
        let memory = (self.read)();
        match memory {
            Some(AvailableMemory { total, available }) if available >= needed(bytes, total) => Ok(()),
            _ => Err(Shortage { bytes, memory }),
        }
    }

    /// Returns how much memory there is if it is so little that copies must be given back.
    pub fn shortage(&self) -> Option<AvailableMemory> {
        (self.read)().filter(|memory| memory.available < memory.total / SHORT_SHARE)
    }
}

/// Reads the memory of this process.
impl Default for MemoryGauge {
    fn default() -> Self {
        Self::new(AvailableMemory::of_this_process, WAIT)
    }
}

impl fmt::Debug for MemoryGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryGauge").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// Returns the bytes that must be available for a copy of `bytes` bytes.
fn needed(bytes: u64, total: u64) -> u64 {
    bytes.saturating_mul(COPIES).saturating_add(total / SPARE_SHARE)
}

/// Why there is no room for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes of the copy.
    pub bytes: u64,
    /// How much memory there is; `None` if the operating system does not say it.
    pub memory: Option<AvailableMemory>,
}

impl Shortage {
    /// Bytes of available memory that the copy needs; `None` if it is not known how much memory there is.
    pub fn needed_bytes(&self) -> Option<u64> {
        self.memory.map(|memory| needed(self.bytes, memory.total))
    }
}

impl Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(AvailableMemory { total, available }) = self.memory else {
            return f.write_str("the system does not say how much memory is available");
        };
        write!(
            f,
            "a copy of {} needs {} of available memory: {} of {} are available",
            Size(self.bytes),
            Size(needed(self.bytes, total)),
            Size(available),
            Size(total)
        )
    }
}

/// A number of bytes, shown in the unit that suits it.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, "bytes");
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        if unit == "bytes" { write!(f, "{} bytes", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gauge(memory: Option<AvailableMemory>) -> MemoryGauge {
        MemoryGauge::new(move || memory, Duration::ZERO)
    }

    #[test]
    fn the_rules_hold_at_their_bounds() {
        let of = |available| gauge(Some(AvailableMemory { total: 1600, available }));
        assert!(of(399).check_room(100).is_err() && of(400).check_room(100).is_ok());
        assert!(of(99).shortage().is_some() && of(100).shortage().is_none());
        // Nothing is known: nothing is copied, and nothing is given back.
        assert!(gauge(None).check_room(0).is_err() && gauge(None).shortage().is_none());
    }

    #[test]
    fn a_shortage_is_said_in_plain_words() {
        let memory = Some(AvailableMemory { total: 16 << 30, available: 3 << 29 });
        let error = gauge(memory).check_room(700 << 20).unwrap_err().to_string();
        let expected =
            "a copy of 700.0 MiB needs 3.4 GiB of available memory: 1.5 GiB of 16.0 GiB are available";
        assert_eq!(error, expected);
        let error = gauge(None).check_room(5).unwrap_err().to_string();
        assert_eq!(error, "the system does not say how much memory is available");
        assert_eq!(Size(1023).to_string(), "1023 bytes");
        assert_eq!(Size(u64::MAX).to_string(), "16777216.0 TiB");
    }

    #[test]
    fn policies_have_names() {
        for policy in [MemoryPolicy::Auto, MemoryPolicy::Mapped, MemoryPolicy::Resident] {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        let error = "Auto".parse::<MemoryPolicy>().unwrap_err();
        assert_eq!(error, "unknown memory mode \"Auto\": expected auto, mapped or resident");
    }

    proptest! {
        /// A copy takes its bytes from what is available, and only those.
        #[test]
        fn a_copy_that_was_just_made_is_not_given_back(bytes: u64, total: u64, available: u64) {
            if gauge(Some(AvailableMemory { total, available })).check_room(bytes).is_ok() {
                let after = Some(AvailableMemory { total, available: available - bytes });
                prop_assert!(gauge(after).shortage().is_none());
            }
        }
    }
}
