//! How many candidates to ask each shard for.
//!
//! Videos are spread over N shards by a hash, so the number of the best `k` that one shard has is binomial with k trials and
//! probability 1/N. A shard that is asked for fewer than it has of them is asked again, so a bound costs a second round and
//! never a candidate.

/// The expected share of k beyond what the shards are asked for.
const LOSS: f64 = 1e-4;

/// The least number that each of `shards` is asked for so that less than [`LOSS`] of the best `k` are expected beyond it.
pub(super) fn share(k: usize, shards: usize) -> usize {
    if shards <= 1 || k <= 1 {
        return k;
    }
    let (trials, p) = (k as f64, 1.0 / shards as f64);
    let ratio = p / (1.0 - p);
    // P(X = x) relative to the mode, from the mode outwards, so that nothing underflows.
    let mode = ((trials + 1.0) * p) as usize;
    let mut upper = vec![1.0f64];
    for x in mode..k {
        let last = upper[x - mode];
        upper.push(last * (trials - x as f64) / (x as f64 + 1.0) * ratio);
    }
    let (mut total, mut lower) = (upper.iter().sum::<f64>(), 1.0f64);
    for x in (1..=mode).rev() {
        lower *= x as f64 / (trials - x as f64 + 1.0) / ratio;
        total += lower;
    }
    // E(X - bound)+ grows by P(X > bound) with each step down.
    let (mut beyond, mut excess) = (0.0f64, 0.0f64);
    for bound in (mode..k).rev() {
        beyond += upper[bound + 1 - mode] / total;
        excess += beyond;
        if excess * shards as f64 > LOSS * trials {
            return bound + 1;
        }
    }
    mode.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_design() {
        assert_eq!([share(100, 4), share(100, 8), share(500, 4), share(500, 8)], [39, 24, 152, 84]);
        assert_eq!([share(1, 4), share(10, 1), share(0, 4)], [1, 10, 0]);
        for k in [2, 3, 10, 1000, 10_000] {
            for shards in [2, 4, 16, 64] {
                let found = share(k, shards);
                assert!(found <= k && found * shards >= k, "{k} of {shards}: {found}");
            }
        }
    }
}
