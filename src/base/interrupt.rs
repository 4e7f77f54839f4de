//! Whether long work should stop before it is done.

/// The one way in which long work is interrupted: a condition that the work checks between its steps, such as a deadline
/// that passed or a caller that went away.
///
/// Once the condition was true, the work stays interrupted, and the condition is not evaluated again.
pub struct Interrupt<'a> {
    condition: Option<&'a mut dyn FnMut() -> bool>,
    has_stopped: bool,
}

impl<'a> Interrupt<'a> {
    /// Lets the work run to its end.
    pub const fn never() -> Self {
        Self { condition: None, has_stopped: false }
    }

    /// Stops the work as soon as `condition` returns true. It is called often: keep it cheap.
    pub fn when(condition: &'a mut dyn FnMut() -> bool) -> Self {
        Self { condition: Some(condition), has_stopped: false }
    }

    /// Evaluates the condition and returns whether to stop.
    #[inline]
    pub fn should_stop(&mut self) -> bool {
        if let Some(condition) = &mut self.condition
            && !self.has_stopped
        {
            self.has_stopped = condition();
        }
        self.has_stopped
    }

    /// Returns whether an earlier [`Self::should_stop`] returned true. Does not evaluate the condition.
    #[inline]
    pub fn has_stopped(&self) -> bool {
        self.has_stopped
    }
}

impl std::fmt::Debug for Interrupt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupt").field("has_stopped", &self.has_stopped).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_stopped_and_is_not_evaluated_again() {
        let mut calls = 0;
        let mut condition = || {
            calls += 1;
            calls == 2
        };
        let mut interrupt = Interrupt::when(&mut condition);
        assert_eq!([(); 4].map(|()| interrupt.should_stop()), [false, true, true, true]);
        assert!(interrupt.has_stopped());
        assert_eq!(calls, 2);
        let mut never = Interrupt::never();
        assert!(!never.should_stop() && !never.has_stopped());
    }
}
