//! Filters, exclusions, caps, kept places and score terms, against oracles that scan every video.

pub(crate) mod case;
pub(crate) mod dataset;
mod diversity;
mod exclusion;
mod filters;
pub(crate) mod naive;
pub(crate) mod oracle;
mod recall;
pub(crate) mod requests;
mod terms;
mod viewers;
