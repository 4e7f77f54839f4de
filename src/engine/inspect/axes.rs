//! The directions in which vectors vary most: their first two principal components, by power iteration.

/// Rounds of the power iteration. For a picture, the last digits do not matter.
const ROUNDS: usize = 40;

/// A plane in the space of the embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct Axes {
    /// The mean of the vectors, `[dim]`: the origin.
    pub mean: Vec<f32>,
    /// The direction in which they vary most, `[dim]`, of norm 1; zeros if they do not vary.
    pub first: Vec<f32>,
    /// The one orthogonal to it in which they vary most, of norm 1; zeros if they vary in one direction only.
    pub second: Vec<f32>,
}

impl Axes {
    /// Finds the axes of `vectors`, `[n][dim]`.
    pub(super) fn of(vectors: &[Vec<f32>], dim: usize) -> Self {
        let mut mean = vec![0.0f64; dim];
        for vector in vectors {
            mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= vectors.len().max(1) as f64);
        let first = direction(vectors, &mean, None);
        let second = direction(vectors, &mean, Some(&first));
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Self { mean: narrow(mean), first: narrow(first), second: narrow(second) }
    }

    /// Where a vector is on the plane.
    pub fn place(&self, vector: &[f32]) -> (f32, f32) {
        let along = |axis: &[f32]| -> f32 {
            axis.iter().zip(vector).zip(&self.mean).map(|((axis, value), mean)| axis * (value - mean)).sum()
        };
        (along(&self.first), along(&self.second))
    }
}

/// The direction in which `vectors` vary most, orthogonal to `other`.
fn direction(vectors: &[Vec<f32>], mean: &[f64], other: Option<&[f64]>) -> Vec<f64> {
    // A start that is orthogonal to no likely answer, and the same each time.
    let mut axis: Vec<f64> = (0..mean.len()).map(|at| 1.0 + (at as f64 * 0.618_034).fract()).collect();
    for _ in 0..ROUNDS {
        let mut next = vec![0.0f64; mean.len()];
        for vector in vectors {
            let differences = || vector.iter().zip(mean).map(|(value, mean)| f64::from(*value) - mean);
            let along: f64 = differences().zip(&axis).map(|(difference, axis)| difference * axis).sum();
            next.iter_mut().zip(differences()).for_each(|(sum, difference)| *sum += along * difference);
        }
        if let Some(other) = other {
            let along: f64 = next.iter().zip(other).map(|(value, other)| value * other).sum();
            next.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
        }
        let norm = next.iter().map(|value| value * value).sum::<f64>().sqrt();
        // What is left is rounding.
        let scale: f64 = mean.iter().map(|value| value * value).sum::<f64>().sqrt() + 1.0;
        if norm.is_nan() || norm <= 1e-12 * scale * vectors.len() as f64 {
            return vec![0.0; mean.len()];
        }
        axis = next.into_iter().map(|value| value / norm).collect();
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_laid_out_in_the_directions_in_which_they_vary() {
        // Far in one direction, less in another, nothing in the third.
        let vectors: Vec<Vec<f32>> = (0..40)
            .map(|at| {
                let (far, near) = ((at % 8) as f32 - 3.5, (at / 8) as f32 - 2.0);
                vec![10.0 * far + 1.0, 5.0, near - 3.0]
            })
            .collect();
        let axes = Axes::of(&vectors, 3);
        assert!(axes.first[0].abs() > 0.999 && axes.second[2].abs() > 0.999, "{axes:?}");
        let (x, y) = axes.place(&[11.0, 5.0, -2.0]);
        assert!((x.abs() - 10.0).abs() < 0.01 && (y.abs() - 1.0).abs() < 0.01, "{x} {y}");
    }

    #[test]
    fn vectors_that_do_not_vary_have_no_axes() {
        let axes = Axes::of(&vec![vec![1.0, 2.0]; 9], 2);
        assert_eq!((axes.first.as_slice(), axes.place(&[1.0, 2.0])), ([0.0, 0.0].as_slice(), (0.0, 0.0)));
        let line: Vec<Vec<f32>> = (0..9).map(|at| vec![at as f32, 2.0]).collect();
        let axes = Axes::of(&line, 2);
        assert_eq!(axes.second, [0.0, 0.0]);
        assert_eq!(Axes::of(&[], 2).mean, [0.0, 0.0]);
    }
}
