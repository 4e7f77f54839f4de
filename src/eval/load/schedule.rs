//! When searches are due.

use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

/// How searches are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Each independent of the others, as those of many users: gaps are exponentially distributed.
    Poisson,
    /// At equal distances.
    Fixed,
}

impl std::str::FromStr for Arrivals {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "poisson" => Ok(Self::Poisson),
            "fixed" => Ok(Self::Fixed),
            _ => Err(format!("expected poisson or fixed, found {word:?}")),
        }
    }
}

/// Returns when each search is due, ascending, from 0 to `length`. `rate`: searches per second, positive and finite. The same
/// seed gives the same schedule.
pub fn schedule(rate: f64, length: Duration, arrivals: Arrivals, seed: u64) -> Vec<Duration> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // In gaps between searches of a rate of 1.
    let mut last = 0.0;
    let due = (0u32..).map(|number| match arrivals {
        Arrivals::Fixed => f64::from(number) / rate,
        Arrivals::Poisson => {
            let gap: f64 = Exp1.sample(&mut random);
            last += gap;
            last / rate
        }
    });
    due.take_while(|due| *due < length.as_secs_f64()).map(Duration::from_secs_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_searches_are_due_as_the_rate_says() {
        let length = Duration::from_secs(10);
        let fixed = schedule(500.0, length, Arrivals::Fixed, 1);
        assert_eq!(fixed.len(), 5000);
        assert!(
            fixed
                .windows(2)
                .all(|pair| (pair[1] - pair[0]).abs_diff(Duration::from_millis(2)).as_nanos() < 10)
        );
        let poisson = schedule(500.0, length, Arrivals::Poisson, 1);
        // Five standard deviations.
        assert!(poisson.len().abs_diff(5000) < 354, "{}", poisson.len());
        assert!(poisson.is_sorted() && poisson.last() < Some(&length));
        assert_eq!(poisson, schedule(500.0, length, Arrivals::Poisson, 1));
        assert_ne!(poisson, schedule(500.0, length, Arrivals::Poisson, 2));
        // Of exponential gaps, 1 in e is longer than the mean.
        let long = poisson.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(2)).count();
        let share = long as f64 / poisson.len() as f64;
        assert!((share - (-1.0f64).exp()).abs() < 0.04, "{share}");
    }
}
