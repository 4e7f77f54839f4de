//! What this program was built from.

/// The commit, if the environment of the compiler had it as `SHORTLIST_COMMIT`.
pub(crate) const COMMIT: Option<&str> = option_env!("SHORTLIST_COMMIT");
