use std::collections::BTreeSet;

use proptest::prelude::*;
use roaring::{RoaringBitmap, RoaringTreemap};

use super::*;
use crate::serialized_bitmap::BitmapError;

/// Bitmaps with buckets of hashes, of consecutive ids and of runs.
fn treemaps() -> impl Strategy<Value = RoaringTreemap> {
    let upper = prop_oneof![0u32..4, any::<u32>(), (u32::MAX - 3)..=u32::MAX];
    let lower = prop_oneof![
        any::<u32>().prop_map(|value| RoaringBitmap::from_iter([value])),
        prop::collection::vec(any::<u32>(), 0..50).prop_map(RoaringBitmap::from_iter),
        (any::<u32>(), 1u32..9_000).prop_map(|(start, len)| {
            let mut bitmap = RoaringBitmap::new();
            bitmap.insert_range(start..=start.saturating_add(len));
            bitmap.optimize();
            bitmap
        }),
        (0u32..1 << 31).prop_map(|start| (0..5_000).map(|value| start + 2 * value).collect()),
    ];
    prop::collection::btree_map(upper, lower, 0..8).prop_map(RoaringTreemap::from_bitmaps)
}

fn written(ids: &RoaringTreemap) -> Vec<u8> {
    let mut bytes = Vec::new();
    ids.serialize_into(&mut bytes).unwrap();
    bytes
}

fn exclude(video_ids: impl IntoIterator<Item = u64>, roaring: Vec<u8>) -> Exclude {
    Exclude { video_ids: video_ids.into_iter().map(VideoId).collect(), roaring, ..Exclude::default() }
}

fn error(video_ids: impl IntoIterator<Item = u64>, roaring: Vec<u8>) -> ExclusionError {
    Exclusion::of(&exclude(video_ids, roaring)).unwrap_err()
}

/// A bitmap that claims `buckets` buckets, followed by `rest`.
fn framed(buckets: u64, rest: &[u8]) -> Vec<u8> {
    [&buckets.to_le_bytes(), rest].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn contains_all_that_was_given_and_nothing_else(
        video_ids in prop::collection::vec(any::<u64>(), 0..50),
        text_ids in prop::collection::vec("[a-z0-9]{1,12}", 0..20),
        treemap in treemaps(),
        absent in prop::collection::vec(any::<u64>(), 0..50),
    ) {
        let hashed = text_ids.iter().map(|text| VideoId::of_text(text).0);
        let expected: BTreeSet<u64> = video_ids.iter().copied().chain(treemap.iter()).chain(hashed).collect();
        let exclude =
            Exclude { text_ids: text_ids.clone(), ..exclude(video_ids.iter().copied(), written(&treemap)) };
        let alone = Exclude { text_ids: text_ids.clone(), ..Exclude::default() };
        prop_assert_eq!(alone.is_empty(), text_ids.is_empty());
        let of_bitmap: BTreeSet<u64> = exclude.roaring_ids().unwrap().into_iter().map(|id| id.0).collect();
        prop_assert_eq!(of_bitmap, treemap.iter().collect::<BTreeSet<u64>>());
        let exclusion = Exclusion::of(&exclude).unwrap();
        prop_assert_eq!(exclusion.len(), video_ids.len() + text_ids.len() + treemap.len() as usize);
        prop_assert_eq!(exclusion.is_empty(), expected.is_empty());
        let near = expected.iter().flat_map(|id| [*id, id ^ 1, id ^ (1 << 32), id.wrapping_add(1)]);
        for id in near.chain(absent) {
            prop_assert_eq!(exclusion.contains(VideoId(id)), expected.contains(&id), "{}", id);
        }
    }

    #[test]
    fn reads_damaged_bytes_as_everybody_does_or_not_at_all(
        treemap in treemaps(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..3),
    ) {
        let mut bytes = written(&treemap);
        for (at, byte, in_front) in damage {
            let at = at.index(if in_front { bytes.len().min(40) } else { bytes.len() });
            bytes[at] = byte;
        }
        if let (Ok(ids), Ok(expected)) = (decode(&bytes, Exclude::MAX_IDS), RoaringTreemap::deserialize_from(&bytes[..])) {
            let (serialized, others) = ids;
            prop_assert_eq!(expected.len(), (serialized.len() + others.len()) as u64);
            prop_assert!(expected.iter().all(|id| serialized.contains(id) || others.binary_search(&id).is_ok()));
        }
    }

    #[test]
    fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60), buckets in 0u64..4) {
        let _ = decode(&bytes, Exclude::MAX_IDS);
        let _ = decode(&framed(buckets, &bytes), Exclude::MAX_IDS);
    }

    #[test]
    fn refuses_what_ends_early(treemap in treemaps(), cut in any::<prop::sample::Index>()) {
        let bytes = written(&treemap);
        // Zero bytes are valid: no bitmap was given.
        let cut = 1 + cut.index(bytes.len() - 1);
        prop_assert_eq!(error([], bytes[..cut].to_vec()).field(), ExcludeField::Roaring);
    }
}

#[test]
fn nothing_given_excludes_nothing() {
    for roaring in [Vec::new(), framed(0, &[])] {
        let exclude = exclude([], roaring);
        let exclusion = Exclusion::of(&exclude).unwrap();
        assert!(exclusion.is_empty());
        assert_eq!(exclusion.len(), 0);
        assert!(![0, 1, u64::MAX].into_iter().any(|id| exclusion.contains(VideoId(id))));
    }
}

#[test]
fn a_bloom_filter_excludes_in_addition_to_the_ids() {
    let bits = vec![0x02, 0x10, 0x00, 0x20, 0x00, 0x00, 0x04, 0x40, 0x00, 0x80, 0x00, 0x90, 0x00];
    let bloom = Some(Bloom { bits, hashes: 4, seed: 7 });
    let both = Exclude { bloom: bloom.clone(), ..exclude([42], Vec::new()) };
    let exclusion = Exclusion::of(&both).unwrap();
    assert!([1, 42, 0xfedc_ba98_7654_3210].into_iter().all(|id| exclusion.contains(VideoId(id))));
    assert!(!exclusion.contains(VideoId(2)));
    assert_eq!(exclusion.len(), 1);
    let bloom_alone = Exclude { bloom, ..Exclude::default() };
    let bloom_alone = Exclusion::of(&bloom_alone).unwrap();
    assert!(!bloom_alone.is_empty());
    assert_eq!(bloom_alone.len(), 0);
}

#[test]
fn names_the_field_of_the_bloom_filter() {
    let field =
        |bloom| Exclusion::of(&Exclude { bloom: Some(bloom), ..Exclude::default() }).unwrap_err().field();
    assert_eq!(field(Bloom { hashes: 1, ..Bloom::default() }), ExcludeField::BloomBits);
    assert_eq!(field(Bloom { bits: vec![0], ..Bloom::default() }), ExcludeField::BloomHashes);
}

#[test]
fn takes_as_many_ids_as_it_says_and_no_more() {
    let most = Exclude::MAX_IDS as u64;
    assert_eq!(Exclusion::of(&exclude(0..most, Vec::new())).unwrap().len(), Exclude::MAX_IDS);
    let found = error(0..most + 1, Vec::new());
    assert_eq!(
        found,
        ExclusionError::TooManyIds { field: ExcludeField::VideoIds, most: Exclude::MAX_IDS, found: most + 1 }
    );

    let bitmap: RoaringTreemap = (0..40_000).chain([1 << 40]).collect();
    assert_eq!(Exclusion::of(&exclude(0..59_999, written(&bitmap))).unwrap().len(), Exclude::MAX_IDS);
    let found = error(0..60_000, written(&bitmap));
    assert_eq!(
        found,
        ExclusionError::TooManyIds { field: ExcludeField::Roaring, most: Exclude::MAX_IDS, found: most + 1 }
    );
}

#[test]
fn refuses_billions_of_ids_before_it_writes_them_down() {
    let everything = RoaringTreemap::from_bitmaps([(0, RoaringBitmap::full()), (1, RoaringBitmap::full())]);
    let found = error([], written(&everything));
    assert_eq!(
        found,
        ExclusionError::TooManyIds { field: ExcludeField::Roaring, most: Exclude::MAX_IDS, found: 1 << 32 }
    );
}

#[test]
fn refuses_buckets_that_are_claimed_and_not_there() {
    let expected = ExclusionError::Truncated { at: 8, expected: 4, found: 0 };
    assert_eq!(error([], framed(1 << 60, &[])), expected);
    let mut bytes = written(&[5, 1 << 40].into_iter().collect());
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(error([], bytes), ExclusionError::Truncated { at: 52, expected: 4, found: 0 });
    assert_eq!(error([], vec![1, 0, 0]), ExclusionError::Truncated { at: 0, expected: 8, found: 3 });
}

#[test]
fn refuses_buckets_out_of_order() {
    let mut bytes = written(&[1 << 32, 2 << 32].into_iter().collect());
    bytes[30] = 1;
    assert_eq!(error([], bytes), ExclusionError::BucketsNotAscending { at: 30, expected: 2, found: 1 });
}

#[test]
fn says_where_the_bitmap_of_a_bucket_is_damaged() {
    let mut bytes = written(&[1 << 32, 2 << 32].into_iter().collect());
    bytes[34] = 0;
    let source = BitmapError::ForeignCookie { found: 0x3000 };
    let found = error([], bytes);
    assert_eq!(found, ExclusionError::Bucket { at: 34, source });
    assert_eq!(
        found.to_string(),
        "in the bitmap at byte 34: byte 0: not a Roaring bitmap: expected cookie 12346 or 12347, found 12288"
    );
}

#[test]
fn refuses_what_follows_the_bitmap() {
    let mut bytes = written(&[1].into_iter().collect());
    bytes.push(0);
    assert_eq!(error([], bytes), ExclusionError::TrailingBytes { expected: 30, found: 31 });
}
