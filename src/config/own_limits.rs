//! Checks the limits of keys and roles.

use super::{ConfigError, ServeConfig};
use crate::service::{OwnLimits, Role};

impl ServeConfig {
    /// Checks the limits of keys and roles.
    ///
    /// # Errors
    /// The first that is out of range, or above what the server can do for anybody.
    pub(super) fn check_own_limits(&self) -> Result<(), ConfigError> {
        let of_role = |(role, own): (&Role, &OwnLimits)| (format!("the role {}", role.name()), *own);
        let of_roles = self.limits.roles.iter().map(of_role);
        let of_keys = self.keys.iter().map(|key| (format!("the key {:?}", key.name), key.limits));
        let wrong = |key, expected, found| Err(ConfigError::Value { key, expected, found });
        for (whose, own) in of_roles.chain(of_keys) {
            for (key, own, most) in [
                ("max_k", own.max_k, self.limits.engine.max_k),
                ("max_ef_search", own.max_ef_search, self.limits.engine.max_ef_search),
                ("max_batch", own.max_batch, self.limits.service.max_in_flight),
                ("max_interests", own.max_interests, usize::MAX),
                ("max_queued_per_client", own.max_queued_per_client, usize::MAX),
            ] {
                let Some(found) = own.filter(|own| !(1..=most).contains(own)) else { continue };
                let expected = match most {
                    usize::MAX => "at least 1".to_owned(),
                    // What holds for all: limits.max_k, limits.max_ef_search, limits.max_in_flight.
                    most => format!("1 to {most}, which holds for all"),
                };
                return wrong(key, expected, format!("{found} for {whose}"));
            }
            if own.max_deadline.is_some_and(|own| own.is_zero()) {
                return wrong("max_deadline", "more than 0s".to_owned(), format!("0s for {whose}"));
            }
        }
        Ok(())
    }
}
