//! Exact comparison of numbers of different types.

use std::cmp::Ordering;

use super::conditions::Number;

/// Compares the exact values, without rounding either. A NaN is greater than every number.
pub(super) fn compare(one: Number, other: Number) -> Ordering {
    match (integer(one), integer(other)) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        (Ok(one), Err(other)) => compare_with_double(one, other),
        (Err(one), Ok(other)) => compare_with_double(other, one).reverse(),
        (Err(one), Err(other)) => {
            one.partial_cmp(&other).unwrap_or_else(|| one.is_nan().cmp(&other.is_nan()))
        }
    }
}

/// Returns the integer, or the double as the error.
fn integer(number: Number) -> Result<i128, f64> {
    match number {
        Number::Int64(value) => Ok(value.into()),
        Number::Uint64(value) => Ok(value.into()),
        Number::Double(value) => Err(value),
    }
}

fn compare_with_double(integer: i128, double: f64) -> Ordering {
    if double.is_nan() {
        return Ordering::Less;
    }
    // The cast truncates the fraction and saturates at the range of i128, far beyond every 64-bit integer.
    let whole = integer.cmp(&(double as i128));
    whole.then_with(|| 0f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers at the limits of types, where doubles stop representing every integer, and of equal value in several types.
    fn numbers() -> impl Strategy<Value = Number> {
        let near = prop_oneof![
            Just(0i128),
            Just(1 << 53),
            Just(i128::from(i64::MIN)),
            Just(i128::from(i64::MAX)),
            Just(i128::from(u64::MAX)),
            any::<i64>().prop_map(i128::from),
        ];
        let doubles = [0.5, -0.5, -0.0, 1e300, -1e300, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY];
        prop_oneof![
            4 => (near, -3i128..=3, 0..3).prop_map(|(near, step, kind)| {
                let value = near + step;
                match (kind, i64::try_from(value), u64::try_from(value)) {
                    (0, Ok(value), _) => Number::Int64(value),
                    (1, _, Ok(value)) => Number::Uint64(value),
                    _ => Number::Double(value as f64),
                }
            }),
            1 => prop::sample::select(doubles.to_vec()).prop_map(Number::Double),
            1 => any::<f64>().prop_filter("not a number", |value| !value.is_nan()).prop_map(Number::Double),
            1 => (-1e20f64..1e20).prop_map(Number::Double),
        ]
    }

    /// Sign and magnitude in binary: 1,100 digits before the point and 1,100 after it.
    fn digits(number: Number) -> (i8, Vec<u8>) {
        let (negative, mantissa, exponent) = match number {
            Number::Int64(value) => (value < 0, value.unsigned_abs(), 0),
            Number::Uint64(value) => (false, value, 0),
            Number::Double(value) if value.is_infinite() => (value < 0.0, 1, 1030),
            Number::Double(value) => {
                let bits = value.to_bits();
                let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
                let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
                (value < 0.0, mantissa, exponent.max(1) - 1075)
            }
        };
        let mut digits = vec![0; 2 * 1100];
        for bit in (0..64).filter(|bit| mantissa >> bit & 1 != 0) {
            digits[(1100 - 1 - (bit + exponent)) as usize] = 1;
        }
        (
            if mantissa == 0 {
                0
            } else if negative {
                -1
            } else {
                1
            },
            digits,
        )
    }

    fn oracle(one: Number, other: Number) -> Ordering {
        let ((sign, one), (other_sign, other)) = (digits(one), digits(other));
        let by_size = if sign < 0 { other.cmp(&one) } else { one.cmp(&other) };
        sign.cmp(&other_sign).then(by_size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn compares_as_if_written_out(one in numbers(), other in numbers()) {
            prop_assert_eq!(compare(one, other), oracle(one, other));
            prop_assert_eq!(compare(other, one), oracle(one, other).reverse());
            prop_assert_eq!(compare(one, one), Ordering::Equal);
        }
    }

    #[test]
    fn bounds_outside_the_range_of_integers_compare_by_value() {
        use Number::{Double, Int64, Uint64};
        assert_eq!(compare(Int64(i64::MAX), Double(i64::MAX as f64)), Ordering::Less);
        assert_eq!(compare(Uint64(u64::MAX), Double(u64::MAX as f64)), Ordering::Less);
        assert_eq!(compare(Int64(i64::MIN), Double(i64::MIN as f64)), Ordering::Equal);
        assert_eq!(compare(Int64(i64::MAX), Uint64(1 << 63)), Ordering::Less);
        assert_eq!(compare(Uint64(0), Int64(-1)), Ordering::Greater);
        assert_eq!(compare(Int64(0), Double(-0.0)), Ordering::Equal);
        assert_eq!(compare(Int64(0), Double(f64::MIN_POSITIVE)), Ordering::Less);
        assert_eq!(compare(Uint64(7), Double(f64::NAN)), Ordering::Less);
        assert_eq!(compare(Double(f64::NAN), Double(f64::INFINITY)), Ordering::Greater);
    }
}
