//! How much memory a message takes once it is decoded: known before it is decoded.
//!
//! What flows in: the bytes of a request and its method. What flows out: an upper bound of the memory of the decoded
//! message, or the field that takes too much. An empty message in a list takes two bytes on the wire and hundreds in
//! memory, so the size of the bytes limits nothing. Bytes that cannot be decoded are not judged beyond the fault, where the
//! decoder stops, too.
//!
//! | file | duty |
//! |---|---|
//! | `shapes.rs` | the fields of every message, and how much memory its struct takes |
//! | `wire.rs`   | the values of a message on the wire |

mod shapes;
mod wire;

use self::shapes::{FieldShape, Kind, SHAPES, Shapes};
use self::wire::{MAX_DEPTH, Malformed, Wire, varint};

pub(super) use self::shapes::RequestShape;

/// A list grows by doubling, so its numbers take up to twice their size.
const GROWTH: usize = 2;
/// A list has room for at least four elements, so each of its elements takes up to four times its size.
const FIRST_ROOM: usize = 4;
/// Memory of a text or byte string in addition to its bytes.
const ALLOCATION: usize = 16;

impl RequestShape {
    /// Returns an upper bound of the memory of the decoded message.
    ///
    /// # Errors
    /// If it is above `limit`, with the field that exceeds it.
    pub(crate) fn decoded_bytes(&self, bytes: &[u8], limit: usize) -> Result<usize, TooLarge> {
        let mut walk = Walk { shapes: &SHAPES, bytes: SHAPES.messages[self.message].size, limit };
        match walk.message(bytes, self.message, 0) {
            Ok(()) | Err(Stop::Malformed) => Ok(walk.bytes),
            Err(Stop::TooLarge(mut path)) => {
                path.reverse();
                Err(TooLarge { field: path.join(".") })
            }
        }
    }
}

/// A field takes too much memory once it is decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The path of the field, without positions.
    pub(crate) field: String,
}

/// Why a walk ends before the end of the message.
enum Stop {
    /// The decoder stops here, too.
    Malformed,
    /// The path of the field, from the innermost message.
    TooLarge(Vec<&'static str>),
}

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Self {
        Stop::Malformed
    }
}

struct Walk {
    shapes: &'static Shapes,
    bytes: usize,
    limit: usize,
}

impl Walk {
    fn message(&mut self, mut bytes: &[u8], message: usize, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Malformed);
        }
        let shape = &self.shapes.messages[message];
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let number = usize::try_from(key >> 3).unwrap_or(usize::MAX);
            let field = shape.fields.get(number).and_then(Option::as_ref);
            let value = Wire::read(&mut bytes, key)?;
            let Some(field) = field else { continue };
            self.field(field, value, depth).map_err(|stop| match stop {
                Stop::TooLarge(mut path) => {
                    path.push(field.name.as_str());
                    Stop::TooLarge(path)
                }
                Stop::Malformed => Stop::Malformed,
            })?;
        }
        Ok(())
    }

    fn field(&mut self, field: &'static FieldShape, value: Wire<'_>, depth: usize) -> Result<(), Stop> {
        match (field.kind, value) {
            (Kind::Bytes, Wire::Bytes(bytes)) => {
                let list = if field.is_repeated { FIRST_ROOM * size_of::<String>() } else { 0 };
                self.add(list + ALLOCATION + bytes.len())
            }
            (Kind::Message(inner), Wire::Bytes(bytes)) => {
                // A message that is not in a list is part of the struct around it.
                let list = if field.is_repeated { FIRST_ROOM * self.shapes.messages[inner].size } else { 0 };
                self.add(list)?;
                self.message(bytes, inner, depth + 1)
            }
            (Kind::Entry(inner, size), Wire::Bytes(bytes)) => {
                self.add(size)?;
                self.message(bytes, inner, depth + 1)
            }
            (Kind::Varint, Wire::Bytes(bytes)) if field.is_repeated => {
                let values = bytes.iter().filter(|byte| **byte < 0x80).count();
                self.add(ALLOCATION + GROWTH * size_of::<u64>() * values)
            }
            (Kind::Fixed32 | Kind::Fixed64, Wire::Bytes(bytes)) if field.is_repeated => {
                self.add(ALLOCATION + GROWTH * bytes.len())
            }
            (Kind::Varint, Wire::Varint)
            | (Kind::Fixed32, Wire::Fixed32)
            | (Kind::Fixed64, Wire::Fixed64) => {
                self.add(if field.is_repeated { FIRST_ROOM * size_of::<u64>() } else { 0 })
            }
            _ => Err(Stop::Malformed),
        }
    }

    fn add(&mut self, bytes: usize) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limit { Err(Stop::TooLarge(Vec::new())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::service::proto;

    const LIMIT: usize = 32 << 20;

    fn shape(path: &str) -> RequestShape {
        RequestShape::of(path).unwrap()
    }

    #[test]
    fn every_request_and_every_message_in_it_has_its_own_size() {
        let reached = |start: usize| {
            let (mut seen, mut next) = (vec![false; SHAPES.messages.len()], vec![start]);
            while let Some(at) = next.pop() {
                if !std::mem::replace(&mut seen[at], true) {
                    next.extend(SHAPES.messages[at].fields.iter().flatten().filter_map(|f| match f.kind {
                        Kind::Message(inner) | Kind::Entry(inner, _) => Some(inner),
                        _ => None,
                    }));
                }
            }
            seen
        };
        assert_eq!(SHAPES.methods.len(), 25);
        for method in SHAPES.methods.values() {
            let sizes = reached(method.message).into_iter().zip(&SHAPES.messages);
            // A struct has at least the size of an empty message with that many fields.
            for (_, shape) in sizes.filter(|(seen, _)| *seen) {
                assert!(shape.size >= shape.fields.iter().flatten().count(), "{}", method.method);
            }
        }
        assert!(shape("/shortlist.v1.Retrieval/StreamSearch").is_stream);
        assert!(!shape("/shortlist.v1.Catalog/Upsert").is_stream);
    }

    /// Two bytes each on the wire: an empty element of a list.
    #[test]
    fn lists_of_empty_elements_are_refused_with_their_field() {
        let wrap = |number: u8, inner: Vec<u8>| {
            let mut bytes = vec![number << 3 | 2];
            prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend(inner);
            bytes
        };
        let empty = |number: u8| [number << 3 | 2, 0].repeat(2_000_000);
        let (search, batch) = ("/shortlist.v1.Retrieval/Search", "/shortlist.v1.Retrieval/BatchSearch");
        for (path, bytes, field) in [
            (batch, empty(1), "requests"),
            ("/shortlist.v1.Catalog/Upsert", empty(2), "videos"),
            ("/shortlist.v1.Catalog/StreamUpsert", wrap(1, empty(2)), "upsert.videos"),
            ("/shortlist.v1.Catalog/Get", empty(3), "return_attributes"),
            (search, wrap(3, empty(1)), "interests.interests"),
            (search, wrap(4, empty(1)), "seeds.seeds"),
            (search, wrap(7, empty(1)), "filter.must"),
            (search, wrap(7, wrap(3, wrap(1, empty(2)))), "filter.must_not.filter.should"),
            (search, empty(9), "caps"),
            (search, empty(13), "return_attributes"),
            (batch, wrap(1, empty(9)), "requests.caps"),
        ] {
            let refused = shape(path).decoded_bytes(&bytes, LIMIT);
            assert_eq!(refused, Err(TooLarge { field: field.to_owned() }), "{path}");
        }
        let video = wrap(2, empty(3));
        let refused = shape("/shortlist.v1.Catalog/Upsert").decoded_bytes(&video, LIMIT);
        assert_eq!(refused, Err(TooLarge { field: "videos.attributes".to_owned() }));
    }

    #[test]
    fn full_requests_within_the_documented_limits_are_accepted() {
        let vector = proto::Vector { values: vec![0.5; 1_000_000], packed: None };
        let search = proto::SearchRequest {
            query: Some(proto::search_request::Query::Vector(vector)),
            ..Default::default()
        };
        let words = (0..100_000).map(|word| word.to_string()).collect();
        let keyword = proto::KeywordCondition { attribute: "a".into(), any_of: words };
        let condition = proto::Condition { condition: Some(proto::condition::Condition::Keyword(keyword)) };
        let filtered = proto::SearchRequest {
            filter: Some(proto::Filter { must: vec![condition], ..Default::default() }),
            exclude: Some(proto::Exclude { video_ids: vec![7; 300_000], ..Default::default() }),
            ..Default::default()
        };
        let ids = proto::VideoIdCondition { any_of: vec![9; 100_000] };
        let condition = proto::Condition { condition: Some(proto::condition::Condition::VideoId(ids)) };
        let by_id = proto::SearchRequest {
            filter: Some(proto::Filter { should: vec![condition; 5], ..Default::default() }),
            ..Default::default()
        };
        for request in [search, filtered, by_id] {
            let bytes = request.encode_to_vec();
            assert!(bytes.len() < 5 << 20);
            shape("/shortlist.v1.Retrieval/Search").decoded_bytes(&bytes, LIMIT).unwrap();
        }
        let value =
            |number| proto::AttributeValue { value: Some(proto::attribute_value::Value::Int64(number)) };
        let attributes = (0..60).map(|name| (format!("attribute-{name}"), value(name))).collect();
        let vector = proto::Vector { values: vec![0.5; 256], packed: None };
        let video = proto::Video { vector: Some(vector), attributes, ..Default::default() };
        let upsert = proto::UpsertRequest { videos: vec![video; 1000], ..Default::default() };
        shape("/shortlist.v1.Catalog/Upsert").decoded_bytes(&upsert.encode_to_vec(), LIMIT).unwrap();
    }

    /// The heap of a filter, as allocated.
    fn heap(filter: &proto::Filter) -> usize {
        let text = |text: &String| text.capacity();
        let list = |words: &Vec<String>| {
            words.capacity() * size_of::<String>() + words.iter().map(text).sum::<usize>()
        };
        let condition = |condition: &proto::Condition| match &condition.condition {
            Some(proto::condition::Condition::Filter(inner)) => heap(inner),
            Some(proto::condition::Condition::Keyword(inner)) => text(&inner.attribute) + list(&inner.any_of),
            Some(proto::condition::Condition::VideoId(inner)) => inner.any_of.capacity() * 8,
            _ => 0,
        };
        [&filter.must, &filter.should, &filter.must_not]
            .into_iter()
            .map(|list| {
                list.capacity() * size_of::<proto::Condition>() + list.iter().map(condition).sum::<usize>()
            })
            .sum()
    }

    fn filter() -> impl Strategy<Value = proto::Filter> {
        use proto::condition::Condition;
        let leaf = prop_oneof![
            ("[a-z]{0,40}", prop::collection::vec("[a-z]{0,30}", 0..40)).prop_map(|(attribute, any_of)| {
                Condition::Keyword(proto::KeywordCondition { attribute, any_of })
            }),
            prop::collection::vec(any::<u64>(), 0..60)
                .prop_map(|any_of| Condition::VideoId(proto::VideoIdCondition { any_of })),
            any::<bool>()
                .prop_map(|value| Condition::Bool(proto::BoolCondition { value, ..Default::default() })),
        ];
        let wrap = |condition| proto::Condition { condition: Some(condition) };
        let list = move |leaf: BoxedStrategy<Condition>| prop::collection::vec(leaf.prop_map(wrap), 0..12);
        leaf.boxed()
            .prop_recursive(6, 200, 12, move |inner| {
                (list(inner.clone()), list(inner)).prop_map(|(must, must_not)| {
                    Condition::Filter(proto::Filter { must, must_not, ..Default::default() })
                })
            })
            .prop_map(move |condition| proto::Filter { must: vec![wrap(condition)], ..Default::default() })
    }

    proptest! {
        #[test]
        fn what_is_accepted_decodes_within_the_bound(filter in filter(), cuts in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4)) {
            let request = proto::SearchRequest { filter: Some(filter), ..Default::default() };
            let mut bytes = request.encode_to_vec();
            let search = shape("/shortlist.v1.Retrieval/Search");
            prop_assert!(search.decoded_bytes(&bytes, LIMIT).is_ok());
            for (at, byte) in cuts {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let bound = search.decoded_bytes(&bytes, LIMIT).unwrap();
            if let Ok(decoded) = proto::SearchRequest::decode(&bytes[..]) {
                let found = decoded.filter.as_ref().map_or(0, heap);
                prop_assert!(found <= bound, "{found} bytes, at most {bound} expected");
                prop_assert_eq!(search.decoded_bytes(&bytes, bound), Ok(bound));
            }
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), limit in 0usize..2000) {
            for method in SHAPES.methods.values() {
                if let Ok(bound) = method.decoded_bytes(&bytes, limit) {
                    prop_assert!(bound <= limit.max(SHAPES.messages[method.message].size));
                }
            }
        }
    }
}
