//! proto ↔ domain.
//!
//! What flows in: messages that any client may have put together. What flows out: requests in domain
//! words, or the path of the field that cannot be used. Only what the domain types cannot express is
//! refused here; ranges, dimensions and names are the engine's to check.
//!
//! | file | duty |
//! |---|---|
//! | `request.rs`  | what is searched for |
//! | `rules.rs`    | what is asked of the candidates besides |
//! | `filter.rs` `bound.rs` | filters, both ways |
//! | `response.rs` | what was found |
//! | `catalog.rs`  | what is written, and what came of it |
//! | `status.rs`   | the state of an index |
//! | `path.rs`     | the path of a field |

mod bound;
mod catalog;
mod filter;
mod path;
mod request;
mod response;
mod rules;
mod status;

use jiff::Timestamp;

pub(super) use catalog::{Batch, Lookups, Outcome, batch_of_ids, get_response, lookups, upsert_batch};
pub(super) use request::search_request;
pub(super) use response::{explanation, search_response};
pub(super) use status::{index_status, rebuild_status};

/// The proto wants nanoseconds that count forward, also before 1970.
fn timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    const NANOS_PER_SECOND: i128 = 1_000_000_000;
    let nanos = timestamp.as_nanosecond();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(NANOS_PER_SECOND) as i64,
        nanos: nanos.rem_euclid(NANOS_PER_SECOND) as i32,
    }
}

fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_forward() {
        let just_before = Timestamp::from_microsecond(-1).unwrap();
        assert_eq!(timestamp(just_before), prost_types::Timestamp { seconds: -1, nanos: 999_999_000 });
        let after = Timestamp::from_microsecond(1_500_000).unwrap();
        assert_eq!(timestamp(after), prost_types::Timestamp { seconds: 1, nanos: 500_000_000 });
    }
}
