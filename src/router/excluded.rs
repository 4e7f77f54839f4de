//! The excluded videos of a search, by shard.
//!
//! What flows in: what a request excludes. What flows out: the same for each shard, with the ids of its own videos only, so that a long
//! list is sent once and not once for each shard. Nobody can say which ids are in a Bloom filter, so all shards get it.

use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::rules::{self, ExclusionError};
use crate::service::proto::Exclude;

/// The excluded videos of a search.
#[derive(Clone, Debug)]
pub(super) struct Excluded {
    /// By shard.
    by_shard: Vec<Exclude>,
    /// Whether the caller excludes videos, other than by seeds.
    is_asked_for: bool,
    seeds: Vec<u64>,
}

impl Excluded {
    /// Divides what a request excludes, `wire` and `checked`, and the videos that its query was made of between `shards` shards.
    ///
    /// # Errors
    /// If a list is too long or damaged.
    pub(super) fn divide(
        wire: Option<Exclude>,
        checked: &rules::Exclude,
        seeds: Vec<u64>,
        shards: usize,
    ) -> Result<Self, ExclusionError> {
        let Exclude { video_ids, text_ids, roaring: _, bloom } = wire.unwrap_or_default();
        let of_bitmap = checked.roaring_ids()?;
        let mut by_shard = vec![Exclude { bloom, ..Exclude::default() }; shards];
        let owner = |video| Shard::of_video(video, shards as u32) as usize;
        for id in
            video_ids.into_iter().chain(of_bitmap.into_iter().map(|id| id.0)).chain(seeds.iter().copied())
        {
            by_shard[owner(VideoId(id))].video_ids.push(id);
        }
        // As text, so that an index whose ids are numbers refuses it.
        for text in text_ids {
            by_shard[owner(VideoId::of_text(&text))].text_ids.push(text);
        }
        Ok(Self { by_shard, is_asked_for: !checked.is_empty(), seeds })
    }

    /// Whether the caller excludes videos, other than by seeds.
    pub(super) fn is_asked_for(&self) -> bool {
        self.is_asked_for
    }

    /// The videos that are excluded because the query was made of them.
    pub(super) fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// What a shard is to leave out.
    pub(super) fn of(&self, shard: usize) -> Exclude {
        self.by_shard[shard].clone()
    }

    /// The same without the seeds.
    pub(super) fn without_seeds(&self, shard: usize) -> Exclude {
        let mut exclude = self.of(shard);
        exclude.video_ids.retain(|id| !self.seeds.contains(id));
        exclude
    }

    /// The same and `known`.
    pub(super) fn with(&self, shard: usize, known: &[u64]) -> Exclude {
        let mut exclude = self.of(shard);
        exclude.video_ids.extend(known);
        exclude
    }

    /// Whether a shard can be told of this many further videos.
    pub(super) fn has_room(&self, shard: usize, known: usize) -> bool {
        let own = &self.by_shard[shard];
        own.video_ids.len() + own.text_ids.len() + known <= rules::Exclude::MAX_IDS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use roaring::RoaringTreemap;

    use super::*;
    use crate::rules::Exclusion;
    use crate::service::parts::search_request;
    use crate::service::proto::{Bloom, SearchRequest};

    fn checked(exclude: &Exclude) -> rules::Exclude {
        let query = crate::service::proto::Vector { values: vec![1.0], ..Default::default() };
        let query = Some(crate::service::proto::search_request::Query::Vector(query));
        let request =
            SearchRequest { k: 1, query, exclude: Some(exclude.clone()), ..SearchRequest::default() };
        search_request(request).unwrap().rules.exclude
    }

    proptest! {
        #[test]
        fn each_shard_leaves_out_its_videos_as_one_server_would(
            video_ids in prop::collection::vec(any::<u64>(), 0..50),
            text_ids in prop::collection::vec("[a-z]{1,3}", 0..20),
            treemap in prop::collection::btree_set(prop_oneof![0u64..60, any::<u64>()], 0..60),
            seeds in prop::collection::vec(any::<u64>(), 0..4),
            bloom in prop::option::of(prop::collection::vec(any::<u8>(), 1..20)),
            others in prop::collection::vec(any::<u64>(), 0..50),
            shards in prop_oneof![Just(2u32), Just(4), Just(1024)],
        ) {
            let mut roaring = Vec::new();
            treemap.iter().copied().collect::<RoaringTreemap>().serialize_into(&mut roaring).unwrap();
            let bloom = bloom.map(|bits| Bloom { bits, hashes: 2, seed: 3 });
            let whole = Exclude { video_ids, text_ids, roaring, bloom };
            let of_one = checked(&whole);
            let of_one = Exclusion::of(&of_one).unwrap();
            let excluded =
                Excluded::divide(Some(whole.clone()), &checked(&whole), seeds.clone(), shards as usize).unwrap();
            let sent: Vec<rules::Exclude> = (0..shards as usize).map(|shard| checked(&excluded.of(shard))).collect();
            let sent: Vec<Exclusion<'_>> = sent.iter().map(|sent| Exclusion::of(sent).unwrap()).collect();
            let texts = whole.text_ids.iter().map(|text| VideoId::of_text(text).0);
            for id in whole.video_ids.iter().copied().chain(texts).chain(treemap).chain(seeds.clone()).chain(others) {
                let owner = Shard::of_video(VideoId(id), shards) as usize;
                let is_excluded = of_one.contains(VideoId(id)) || seeds.contains(&id);
                prop_assert_eq!(sent[owner].contains(VideoId(id)), is_excluded);
            }
            // Each id goes to one shard.
            let sent: usize = sent.iter().map(Exclusion::len).sum();
            prop_assert_eq!(sent, of_one.len() + seeds.len());
            prop_assert_eq!(excluded.is_asked_for(), !checked(&whole).is_empty());
            let left: BTreeSet<u64> =
                (0..shards as usize).flat_map(|shard| excluded.without_seeds(shard).video_ids).collect();
            prop_assert!(seeds.iter().all(|seed| !left.contains(seed)));
        }
    }

    #[test]
    fn as_many_are_left_out_as_a_request_may_exclude() {
        let most = rules::Exclude::MAX_IDS as u64;
        let exclude = Exclude { video_ids: (0..most).collect(), ..Exclude::default() };
        let excluded = Excluded::divide(Some(exclude.clone()), &checked(&exclude), vec![1], 2).unwrap();
        let room = most as usize - excluded.of(0).video_ids.len();
        assert_eq!([excluded.has_room(0, room), excluded.has_room(0, room + 1)], [true, false]);

        let exclude = Exclude { video_ids: (0..=most).collect(), ..Exclude::default() };
        let found = Excluded::divide(Some(exclude.clone()), &checked(&exclude), Vec::new(), 2);
        assert!(
            matches!(found, Err(ExclusionError::TooManyIds { found, .. }) if found == most + 1),
            "{found:?}"
        );
    }
}
