use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roaring::RoaringBitmap;

use super::*;

/// Bitmaps with containers of every kind, adjacent and far apart.
fn bitmaps() -> impl Strategy<Value = RoaringBitmap> {
    let container = (prop_oneof![0u32..6, 0u32..65_536], 0..5, any::<u64>());
    (prop::collection::vec(container, 0..7), any::<bool>()).prop_map(|(containers, optimize)| {
        let mut bitmap = RoaringBitmap::new();
        for (key, kind, seed) in containers {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (ranges, longest) = match kind {
                0 => (1, 1),
                1 => (random.random_range(1..4_500), 1),
                2 => (random.random_range(5_000..60_000), 1),
                3 => (random.random_range(1..60), 3_000),
                _ => (1, 1 << 17),
            };
            for _ in 0..ranges {
                let start = if longest > 1 << 16 { 0 } else { random.random_range(0..1 << 16) };
                let end = (start + random.random_range(0..longest)).min((1 << 16) - 1);
                bitmap.insert_range(key << 16 | start..=key << 16 | end);
            }
        }
        if optimize {
            bitmap.optimize();
        }
        bitmap
    })
}

fn written(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::new();
    bitmap.serialize_into(&mut bytes).unwrap();
    bytes
}

fn values(bitmap: &SerializedBitmap) -> Vec<u32> {
    let mut values = Vec::new();
    bitmap.for_each(|value| values.push(value));
    values
}

/// Checks that `bytes` are either refused or read as the same set that the `roaring` crate reads.
fn check_any(bytes: &[u8]) {
    if let Ok(unchecked) = SerializedBitmap::skim(bytes) {
        unchecked.add_to(&mut vec![0; 70_000]);
        values(&unchecked);
    }
    let singleton = SerializedBitmap::singleton_value(bytes);
    let Ok((bitmap, rest)) = SerializedBitmap::parse(bytes) else { return assert_eq!(singleton, None) };
    let found = values(&bitmap);
    assert!(singleton.is_none_or(|(value, after)| found == [value] && after == rest));
    assert_eq!(found.len() as u64, bitmap.len());
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
    if let Ok(read) = RoaringBitmap::deserialize_from(&bytes[..bytes.len() - rest.len()]) {
        assert!(read.iter().eq(found), "expected the set that the roaring crate reads");
    }
    bitmap.add_to(&mut [0; 3_000]);
}

fn error(bytes: &[u8]) -> BitmapError {
    SerializedBitmap::parse(bytes).unwrap_err()
}

/// The serialized `bitmap` with `bytes` in place of those at `at`.
fn with(bitmap: &RoaringBitmap, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = written(bitmap);
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

fn runs() -> RoaringBitmap {
    let mut bitmap: RoaringBitmap = (10..20).chain(30..50).chain(65_000..65_530).collect();
    bitmap.optimize();
    bitmap
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn holds_what_was_written(bitmap in bitmaps(), after in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = written(&bitmap);
        bytes.extend_from_slice(&after);
        let (found, rest) = SerializedBitmap::parse(&bytes).unwrap();
        prop_assert_eq!(rest, &after[..]);
        prop_assert_eq!(found.len(), bitmap.len());
        prop_assert_eq!(found.is_empty(), bitmap.is_empty());
        prop_assert!(bitmap.iter().eq(values(&found)));
        let skimmed = SerializedBitmap::skim(&bytes).unwrap();
        prop_assert_eq!(skimmed.len(), bitmap.len());
        prop_assert!(bitmap.iter().eq(values(&skimmed)));
    }

    #[test]
    fn sets_the_bits_that_fit_and_leaves_the_others(
        bitmap in bitmaps(),
        words in prop::collection::vec(any::<u32>(), 0..15_000),
    ) {
        let mut expected = words.clone();
        for value in bitmap.range(..(32 * words.len()) as u32) {
            expected[value as usize / 32] |= 1 << (value % 32);
        }
        let bytes = written(&bitmap);
        let mut found = words;
        SerializedBitmap::parse(&bytes).unwrap().0.add_to(&mut found);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn refuses_what_ends_early(bitmap in bitmaps(), cut in any::<prop::sample::Index>()) {
        let bytes = written(&bitmap);
        let cut = cut.index(bytes.len());
        match error(&bytes[..cut]) {
            BitmapError::Truncated { at, expected, found } => prop_assert!(at + found == cut && found < expected),
            other => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn reads_damaged_bytes_as_everybody_does_or_not_at_all(
        bitmap in bitmaps(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let mut bytes = written(&bitmap);
        for (at, byte, in_front) in damage {
            let at = at.index(if in_front { bytes.len().min(40) } else { bytes.len() });
            bytes[at] = byte;
        }
        check_any(&bytes);
    }

    #[test]
    fn survives_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 4..80), runs in any::<bool>(), few in 0u8..4) {
        let cookie = if runs { [0x3b, 0x30, few, 0] } else { [0x3a, 0x30, 0, 0] };
        bytes[..4].copy_from_slice(&cookie);
        if let (Some(count), false) = (bytes.get_mut(4..8), runs) {
            count.copy_from_slice(&[few, 0, 0, 0]);
        }
        check_any(&bytes);
    }
}

#[test]
fn refuses_every_truncation_of_every_kind_of_container() {
    let mut bitmap = runs();
    bitmap.extend((70_000..80_000).filter(|value| value % 3 > 0).chain([1 << 20, 1 << 25, 1 << 30]));
    let bytes = written(&bitmap);
    assert!((0..bytes.len()).all(|cut| SerializedBitmap::parse(&bytes[..cut]).is_err()));
    assert!(SerializedBitmap::parse(&bytes).is_ok());
}

#[test]
fn finds_the_value_of_a_singleton_as_parsing_does() {
    for value in [0, 1, 0xffff, 0x1_0000, 0x1234_5678, u32::MAX] {
        let mut bytes = written(&RoaringBitmap::from_iter([value]));
        bytes.extend_from_slice(b"rest");
        assert_eq!(SerializedBitmap::singleton_value(&bytes), Some((value, &b"rest"[..])));
        assert_eq!(SerializedBitmap::singleton_value(&bytes[..17]), None);
        for (at, byte) in (0..bytes.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            let mut changed = bytes.clone();
            changed[at] = byte;
            check_any(&changed);
        }
    }
    assert_eq!(SerializedBitmap::singleton_value(&written(&RoaringBitmap::from_iter([1, 2]))), None);
    assert_eq!(SerializedBitmap::singleton_value(&written(&RoaringBitmap::new())), None);
}

#[test]
fn refuses_foreign_bytes() {
    assert_eq!(error(b"RIFF"), BitmapError::ForeignCookie { found: u32::from_le_bytes(*b"RIFF") });
    assert_eq!(
        error(&[0x3a, 0x30, 1, 0, 0, 0, 0, 0]),
        BitmapError::ForeignCookie { found: 12_346 + (1 << 16) }
    );
}

#[test]
fn refuses_more_containers_than_there_can_be() {
    let bytes = [0x3a, 0x30, 0, 0, 1, 0, 1, 0];
    assert_eq!(error(&bytes), BitmapError::TooManyContainers { found: 65_537 });
    assert_eq!(error(&bytes[..6]), BitmapError::Truncated { at: 4, expected: 4, found: 2 });
}

#[test]
fn refuses_containers_out_of_order() {
    let bitmap: RoaringBitmap = [1 << 16, 2 << 16].into_iter().collect();
    let expected = BitmapError::NotAscending { at: 12, what: "key", expected: 2, found: 1 };
    assert_eq!(error(&with(&bitmap, 12, &[1, 0])), expected);
}

#[test]
fn refuses_offsets_that_miss_their_containers() {
    let bitmap: RoaringBitmap = [1, 2 << 16].into_iter().collect();
    let expected = BitmapError::WrongOffset { at: 20, expected: 26, found: 24 };
    assert_eq!(error(&with(&bitmap, 20, &[24])), expected);
}

#[test]
fn refuses_values_out_of_order() {
    let bitmap: RoaringBitmap = [5, 6, 7].into_iter().collect();
    let expected = BitmapError::NotAscending { at: 18, what: "value", expected: 6, found: 5 };
    assert_eq!(error(&with(&bitmap, 18, &[5, 0])), expected);
}

#[test]
fn refuses_runs_that_overlap_and_takes_those_that_touch() {
    // The runs start at byte 11, after cookie, flags, description and number of runs.
    let expected = BitmapError::NotAscending { at: 15, what: "run", expected: 20, found: 19 };
    assert_eq!(error(&with(&runs(), 15, &[19, 0])), expected);
    let bytes = with(&runs(), 15, &[20, 0]);
    let (touching, _) = SerializedBitmap::parse(&bytes).unwrap();
    assert!(values(&touching).into_iter().eq((10..40).chain(65_000..65_530)));
}

#[test]
fn refuses_runs_that_pass_the_end() {
    let expected = BitmapError::RunTooLong { at: 19, found: 65_000 + 536 };
    assert_eq!(error(&with(&runs(), 21, &536u16.to_le_bytes())), expected);
}

#[test]
fn refuses_another_number_of_values_than_stated() {
    let expected = BitmapError::WrongCount { at: 9, expected: 561, found: 560 };
    assert_eq!(error(&with(&runs(), 7, &560u16.to_le_bytes())), expected);
    let bits: RoaringBitmap = (0..10_000).step_by(2).collect();
    let expected = BitmapError::WrongCount { at: 16, expected: 5_000, found: 5_001 };
    assert_eq!(error(&with(&bits, 16, &[0x57])), expected);
}
