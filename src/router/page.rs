//! The rows of a page.

use super::row::Found;
use crate::service::proto::completeness::Reason;

/// The rows of a page, and why there are no more.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Best first.
    pub(super) found: Vec<Found>,
    /// Whether a cap had no room for a row.
    pub(super) is_capped: bool,
    /// Whether a row was too similar to another one.
    pub(super) is_similar: bool,
    /// Why shards have no more rows of the caller's request.
    pub(super) shorts: Vec<Reason>,
    /// Shards of which it is not known, and the number of their rows.
    pub(super) unclear: Vec<(usize, usize)>,
}
