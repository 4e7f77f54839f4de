//! Entries superseded by a later entry of the same video; no replay needs them.
//!
//! A replay may start anywhere and on any generation. Its result depends on the order of the entries of one video only, of
//! two kinds that do not depend on each other:
//!
//! - Takedowns and restores: the last one decides.
//! - Upserts and deletes: a later one decides if it fits every generation that the earlier one fits. Where it does not
//!   fit, it is parked, and the earlier one stays what is searched.

use rustc_hash::FxHashMap;

use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::base::interrupt::Interrupt;
use crate::dataset::EXPIRES_AT;
use crate::index::AttributeKind;
use crate::kernel::is_bounded;
use crate::live::delta::rows::fits;
use crate::live::log::error::LogError;
use crate::live::log::mutation::{Mutation, Upsert};
use crate::live::log::mutation_log::MutationLog;

/// Entries read from the log at a time.
const READ_AT_ONCE: usize = 1_024;
/// Shapes that are compared with all others. A log has few: writers set the same attributes in every upsert.
const COMPARED_SHAPES: usize = 64;

/// Returns the sequence numbers of the superseded entries of a log, in no particular order; `None` if interrupted.
///
/// # Errors
/// If the log cannot be read.
pub(crate) fn superseded(
    log: &dyn MutationLog,
    interrupt: &mut Interrupt<'_>,
) -> Result<Option<Vec<u64>>, LogError> {
    let (mut found, mut after) = (Vec::new(), 0);
    let mut shapes = Shapes::default();
    let mut states: FxHashMap<(VideoId, u32), u64> = FxHashMap::default();
    let mut takedowns: FxHashMap<VideoId, u64> = FxHashMap::default();
    loop {
        let entries = log.read(after, READ_AT_ONCE)?;
        let Some(last) = entries.last() else { return Ok(Some(found)) };
        after = last.sequence;
        for entry in entries {
            let video = entry.mutation.video_id();
            let Some(shape) = Shape::of(&entry.mutation) else {
                found.extend(takedowns.insert(video, entry.sequence));
                continue;
            };
            let shape = shapes.number(shape);
            found.extend(
                shapes.replaced[shape as usize].iter().filter_map(|older| states.remove(&(video, *older))),
            );
            found.extend(states.insert((video, shape), entry.sequence));
        }
        if interrupt.should_stop() {
            return Ok(None);
        }
    }
}

/// All that decides which generations an upsert or delete fits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shape {
    Delete,
    /// An upsert with two values of one attribute, or two expiries.
    FitsNone,
    Upsert {
        model: Option<String>,
        dim: usize,
        /// Whether the embedding can be stored as halves, and as singles.
        is_finite: [bool; 2],
        /// Whether it is zero as halves, and as singles.
        is_zero: [bool; 2],
        /// Sorted by name; the second is one bit for each kind of column that the value fits.
        attributes: Vec<(String, u8)>,
    },
}

impl Shape {
    /// Returns the shape of an upsert or a delete.
    fn of(mutation: &Mutation) -> Option<Self> {
        match mutation {
            Mutation::Upsert(upsert) => Some(Self::of_upsert(upsert)),
            Mutation::Delete(_) => Some(Shape::Delete),
            Mutation::Takedown(_) | Mutation::Restore(_) => None,
        }
    }

    fn of_upsert(upsert: &Upsert) -> Self {
        let mut attributes: Vec<(String, u8)> =
            upsert.attributes.iter().map(|(name, value)| (name.clone(), kinds_of(value))).collect();
        attributes.sort_unstable();
        let has_twice = attributes.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let other_expiry = upsert.attributes.iter().any(|(name, value)| match (value, upsert.expires_at) {
            (Value::Timestamp(time), Some(expiry)) => {
                name == EXPIRES_AT && time.as_microsecond() != expiry.as_microsecond()
            }
            _ => false,
        });
        if has_twice || other_expiry {
            return Shape::FitsNone;
        }
        let stored = |value: &f32| half::f16::from_f32(*value).to_f32();
        let embedding = &upsert.embedding;
        let is_finite = is_bounded(embedding);
        Shape::Upsert {
            model: upsert.embedding_model.clone(),
            dim: embedding.len(),
            is_finite: [is_finite && embedding.iter().all(|value| stored(value).is_finite()), is_finite],
            is_zero: [
                embedding.iter().all(|value| stored(value) == 0.0),
                embedding.iter().all(|value| *value == 0.0),
            ],
            attributes,
        }
    }

    /// Returns whether this fits every generation that `other` fits.
    fn fits_wherever(&self, other: &Shape) -> bool {
        match (self, other) {
            (Shape::Delete, _) | (_, Shape::FitsNone) => true,
            (_, Shape::Delete) | (Shape::FitsNone, _) => false,
            (
                Shape::Upsert { model, dim, is_finite, is_zero, attributes },
                Shape::Upsert {
                    model: other_model,
                    dim: other_dim,
                    is_finite: other_finite,
                    is_zero: other_zero,
                    attributes: others,
                },
            ) => {
                let fits_too = |(name, kinds): &(String, u8)| {
                    let other = others.binary_search_by(|(other, _)| other.cmp(name));
                    other.is_ok_and(|at| others[at].1 & !kinds == 0)
                };
                (model.is_none() || model == other_model)
                    && dim == other_dim
                    && (0..2).all(|dtype| is_finite[dtype] >= other_finite[dtype])
                    && (0..2).all(|dtype| is_zero[dtype] <= other_zero[dtype])
                    && attributes.iter().all(fits_too)
            }
        }
    }
}

/// Returns one bit for each kind of column that a value fits.
fn kinds_of(value: &Value) -> u8 {
    let bits = AttributeKind::ALL.iter().enumerate().map(|(at, kind)| u8::from(fits(value, *kind)) << at);
    bits.fold(0, |kinds, bit| kinds | bit)
}

/// The shapes of a log, numbered.
#[derive(Default)]
struct Shapes {
    numbers: FxHashMap<Shape, u32>,
    /// `[shapes]`: the numbers of the other shapes that it fits wherever they fit.
    replaced: Vec<Vec<u32>>,
}

impl Shapes {
    fn number(&mut self, shape: Shape) -> u32 {
        if let Some(number) = self.numbers.get(&shape) {
            return *number;
        }
        let number = self.replaced.len() as u32;
        let compared = || self.numbers.iter().filter(|(_, other)| (**other as usize) < COMPARED_SHAPES);
        let mut replaced = Vec::new();
        if (number as usize) < COMPARED_SHAPES {
            let fits = |(other, _): &(&Shape, &u32)| shape.fits_wherever(other);
            replaced = compared().filter(fits).map(|(_, other)| *other).collect();
            let replacing = compared().filter(|(other, _)| other.fits_wherever(&shape));
            let replacing: Vec<u32> = replacing.map(|(_, other)| *other).collect();
            replacing.into_iter().for_each(|other| self.replaced[other as usize].push(number));
        }
        self.replaced.push(replaced);
        self.numbers.insert(shape, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use crate::base::instant::Instant;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::base::element::Dtype;
    use crate::base::metric::Metric;
    use crate::build::{BuildParams, Silent, build_in_memory};
    use crate::index::{AttributeSchema, Index};
    use crate::live::delta::rows::dataset_of;
    use crate::live::delta::state::LiveState;
    use crate::live::log::mutation::Entry;
    use crate::live::log::mutation_log::LogSize;

    const VIDEOS: u64 = 4;

    /// A log in memory that may lack entries.
    #[derive(Clone, Debug, Default)]
    struct Entries {
        entries: Vec<Entry>,
        takedowns: BTreeMap<VideoId, u64>,
        last: u64,
        trimmed: u64,
    }

    impl Entries {
        fn of(mutations: &[Mutation]) -> Self {
            let mut log = Self::default();
            mutations.iter().for_each(|mutation| log.push(mutation.clone()));
            log
        }

        fn push(&mut self, mutation: Mutation) {
            self.last += 1;
            match mutation {
                Mutation::Takedown(video) => _ = self.takedowns.insert(video, self.last),
                Mutation::Restore(video) => _ = self.takedowns.remove(&video),
                _ => {}
            }
            self.entries.push(Entry { sequence: self.last, mutation });
        }
    }

    impl MutationLog for Entries {
        fn append(&self, _: &[Mutation]) -> Result<u64, LogError> {
            unreachable!("written by push")
        }

        fn last_sequence(&self) -> u64 {
            self.last
        }

        fn trimmed_to(&self) -> u64 {
            self.trimmed
        }

        fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
            let later = self.entries.iter().filter(|entry| entry.sequence > after);
            Ok(later.take(limit.min(3)).cloned().collect())
        }

        fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError> {
            Ok(self.takedowns.iter().map(|(video, sequence)| (*video, *sequence)).collect())
        }

        fn trim_except(&self, _: u64, _: &[u64]) -> Result<(), LogError> {
            unreachable!("trimmed by the test")
        }

        fn remove(&self, _: &[u64]) -> Result<(), LogError> {
            unreachable!("removed by the test")
        }

        fn size(&self) -> LogSize {
            LogSize::default()
        }

        fn bytes(&self) -> Result<u64, LogError> {
            Ok(0)
        }
    }

    fn upserts() -> impl Strategy<Value = Upsert> {
        let embeddings = [
            vec![1.0, 2.0],
            vec![3.0, -1.0],
            vec![0.0, 0.0],
            // Infinite as halves, zero as halves, too long, of another dimension.
            vec![1e5, 1.0],
            vec![1e-9, 0.0],
            vec![1e20, 0.0],
            vec![1.0, 2.0, 3.0],
        ];
        let values = [
            Value::Int64(5),
            Value::Int64(-5),
            Value::Int64((1 << 53) + 1),
            Value::Double(0.5),
            Value::Keyword("x".to_owned()),
            Value::Timestamp(Instant::from_microsecond(9_000_000_000_000_000).unwrap()),
        ];
        let names = prop::sample::select(vec!["a", "b", "expires_at"]);
        let attributes = vec((names, prop::sample::select(values.to_vec())), 0..3);
        let model = option::of(prop::sample::select(vec!["A", "B"]));
        (0..VIDEOS, prop::sample::select(embeddings.to_vec()), attributes, model, any::<bool>()).prop_map(
            |(video, embedding, attributes, model, expires)| Upsert {
                video_id: VideoId(video),
                embedding,
                attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                expires_at: expires.then(|| Instant::from_microsecond(10_000_000_000_000_000).unwrap()),
                embedding_model: model.map(str::to_owned),
            },
        )
    }

    fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
        let video = || (0..VIDEOS).prop_map(VideoId);
        let mutation = prop_oneof![
            5 => upserts().prop_map(Mutation::Upsert),
            2 => video().prop_map(Mutation::Delete),
            1 => video().prop_map(Mutation::Takedown),
            1 => video().prop_map(Mutation::Restore),
        ];
        vec(mutation, 1..40)
    }

    /// Generations of every model, type, metric and a few schemas, at a position and with one after which upserts may have
    /// been parked.
    fn generations(last: u64) -> impl Strategy<Value = Index> {
        let schema = |columns: &[(&str, AttributeKind)]| -> Vec<AttributeSchema> {
            columns
                .iter()
                .map(|(name, kind)| AttributeSchema { name: (*name).to_owned(), kind: *kind })
                .collect()
        };
        let schemas = vec![
            schema(&[]),
            schema(&[("a", AttributeKind::Int64), ("expires_at", AttributeKind::Timestamp)]),
            schema(&[("a", AttributeKind::Uint64), ("b", AttributeKind::Double)]),
            schema(&[("a", AttributeKind::Double), ("b", AttributeKind::Keyword)]),
        ];
        let model = option::of(prop::sample::select(vec!["A", "B"]));
        let metric = prop::sample::select(vec![Metric::InnerProduct, Metric::Cosine]);
        let dtype = prop::sample::select(vec![Dtype::F32, Dtype::F16]);
        (prop::sample::select(schemas), model, metric, dtype, 0..=last, 0..=last).prop_map(
            |(schema, model, metric, dtype, position, held)| {
                let rows: Vec<Upsert> =
                    (0..3).map(|video| Upsert::new(VideoId(video), vec![9.0, video as f32])).collect();
                let dataset = dataset_of(&rows.iter().collect::<Vec<_>>(), &schema, 2, dtype).unwrap();
                let params = BuildParams::new(metric, 8, 16).unwrap();
                let params = params.with_embedding_model(model.map(str::to_owned));
                let held = held.min(position);
                let params = params.with_log_sequence(position).with_held_after(held);
                build_in_memory(&dataset, &params, &Silent).unwrap()
            },
        )
    }

    /// Mutations, and a generation that contains some of them.
    fn histories() -> impl Strategy<Value = (Vec<Mutation>, Index)> {
        mutations().prop_flat_map(|mutations| {
            let last = mutations.len() as u64;
            (Just(mutations), generations(last))
        })
    }

    fn replayed(base: &Arc<Index>, log: &Entries) -> LiveState {
        let mut live = LiveState::before(Arc::clone(base), log).unwrap();
        loop {
            let entries = log.read(live.sequence, usize::MAX).unwrap();
            if entries.is_empty() {
                return live;
            }
            live.apply(&entries).unwrap();
        }
    }

    /// Takedowns, parked upserts, and the embedding of each video that can be found.
    type Seen = (Vec<u64>, Vec<u64>, Vec<Option<Vec<f32>>>);

    fn seen(live: &LiveState) -> Seen {
        let mut takedowns: Vec<u64> = live.takedowns.iter().map(|video| video.0).collect();
        takedowns.sort_unstable();
        let vector = |video: u64| {
            let node = live.segments.node_of(VideoId(video))?;
            let (segment, node) = live.segments.locate(node);
            let mut row = Vec::new();
            segment.index.vectors().copy_row(node.index(), &mut row);
            Some(row)
        };
        (takedowns, live.parked_sequences(), (0..VIDEOS).map(vector).collect())
    }

    /// What is seen after a replay, and after all videos are restored.
    fn states(base: &Arc<Index>, log: &Entries) -> (Seen, Seen) {
        let mut restored = log.clone();
        (0..VIDEOS).for_each(|video| restored.push(Mutation::Restore(VideoId(video))));
        (seen(&replayed(base, log)), seen(&replayed(base, &restored)))
    }

    fn compacted(log: &Entries) -> Entries {
        let removed = superseded(log, &mut Interrupt::never()).unwrap().unwrap();
        let mut compacted = log.clone();
        compacted.entries.retain(|entry| !removed.contains(&entry.sequence));
        assert_eq!(compacted.entries.len() + removed.len(), log.entries.len(), "an entry is removed once");
        assert_eq!(compacted.entries.last(), log.entries.last());
        compacted
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_replay_of_the_compacted_log_gives_the_state_of_the_full_one(
            (mutations, base) in histories(), more in mutations(),
        ) {
            let full = Entries::of(&mutations);
            let base = Arc::new(base);
            let mut small = compacted(&full);
            prop_assert_eq!(states(&base, &small), states(&base, &full));
            // Compacted again after more writes.
            let mut full = full;
            for mutation in more {
                full.push(mutation.clone());
                small.push(mutation);
            }
            prop_assert_eq!(states(&base, &compacted(&small)), states(&base, &full));
            prop_assert_eq!(compacted(&small).entries.len(), compacted(&full).entries.len());
        }

        #[test]
        fn a_generation_needs_only_parked_upserts_and_takedowns_of_what_it_contains(
            (mutations, base) in histories(), is_compacted in any::<bool>(),
        ) {
            let full = Entries::of(&mutations);
            let base = Arc::new(base);
            let live = replayed(&base, &full);
            let mut trimmed = if is_compacted { compacted(&full) } else { full.clone() };
            trimmed.trimmed = live.unneeded_to();
            let parked = live.parked_sequences();
            trimmed.entries.retain(|entry| entry.sequence > trimmed.trimmed || parked.contains(&entry.sequence));
            prop_assert_eq!(states(&base, &trimmed), states(&base, &full));
        }
    }

    #[test]
    fn a_hot_set_shrinks_to_one_entry_a_video() {
        let upsert = |video: u64, value: f32| {
            Mutation::Upsert(Upsert {
                attributes: vec![("a".to_owned(), Value::Int64(value as i64))],
                ..Upsert::new(VideoId(video), vec![value, 1.0])
            })
        };
        let rounds = (0..50u64).flat_map(|round| (0..20).map(move |video| upsert(video, round as f32 + 1.0)));
        let mut mutations: Vec<Mutation> = rounds.collect();
        mutations
            .extend((0..50).flat_map(|_| [Mutation::Takedown(VideoId(1)), Mutation::Restore(VideoId(1))]));
        assert_eq!(compacted(&Entries::of(&mutations)).entries.len(), 21);
        // A delete supersedes all upserts, and none supersedes a delete.
        mutations.extend((0..20).map(|video| Mutation::Delete(VideoId(video))));
        mutations.extend((0..20).map(|video| upsert(video, 1.0)));
        assert_eq!(compacted(&Entries::of(&mutations)).entries.len(), 41);
    }
}
