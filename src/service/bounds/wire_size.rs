//! How much memory a message takes once it is decoded: known before it is decoded.
//!
//! What flows in: the bytes of a request and its method. What flows out: an upper bound of the memory of the decoded
//! message, or the field that takes too much. An empty message in a list takes two bytes on the wire and hundreds in
//! memory, so the size of the bytes limits nothing. Bytes that cannot be decoded are not judged beyond the fault, where the
//! decoder stops, too.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::service::proto;

/// The number of nested messages at which the decoder stops.
const MAX_DEPTH: usize = 100;
/// A list grows by doubling, so its numbers take up to twice their size.
const GROWTH: usize = 2;
/// A list has room for at least four elements, so each of its elements takes up to four times its size.
const FIRST_ROOM: usize = 4;
/// Memory of a text or byte string in addition to its bytes.
const ALLOCATION: usize = 16;

/// The shape of every message that a request may have, and the request of every method.
static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::read);

/// A method, as far as its requests are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestShape {
    /// The name of the method.
    pub(super) method: &'static str,
    /// Whether a call has any number of requests.
    pub(super) is_stream: bool,
    message: usize,
}

impl RequestShape {
    /// Returns the shape of the requests of the method at this path, such as `/shortlist.v1.Retrieval/Search`.
    pub(super) fn of(path: &str) -> Option<Self> {
        SHAPES.methods.get(path).copied()
    }

    /// Returns an upper bound of the memory of the decoded message.
    ///
    /// # Errors
    /// If it is above `limit`, with the field that exceeds it.
    pub(super) fn decoded_bytes(&self, bytes: &[u8], limit: usize) -> Result<usize, TooLarge> {
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
pub(super) struct TooLarge {
    /// The path of the field, without positions.
    pub(super) field: String,
}

struct Shapes {
    methods: HashMap<String, RequestShape>,
    messages: Vec<Shape>,
}

struct Shape {
    /// Size of the struct.
    size: usize,
    /// The fields by number.
    fields: Vec<Option<FieldShape>>,
}

struct FieldShape {
    name: String,
    is_repeated: bool,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
    /// A message, by its position among all.
    Message(usize),
    /// An entry of a map, which takes this much memory in addition to its contents.
    Entry(usize, usize),
}

impl Shapes {
    fn read() -> Self {
        let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap_or_default().file;
        let mut all = Vec::new();
        for file in &files {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut all);
            }
        }
        let position: HashMap<&str, usize> =
            all.iter().enumerate().map(|(position, (name, _))| (name.as_str(), position)).collect();
        let field = |field: &FieldDescriptorProto| {
            let kind = match field.r#type() {
                Type::String | Type::Bytes => Kind::Bytes,
                Type::Float | Type::Fixed32 | Type::Sfixed32 => Kind::Fixed32,
                Type::Double | Type::Fixed64 | Type::Sfixed64 => Kind::Fixed64,
                Type::Message => {
                    let at = *position.get(field.type_name())?;
                    let message = all[at].1;
                    match message.options.as_ref().is_some_and(|options| options.map_entry()) {
                        true => Kind::Entry(at, entry_size(message)),
                        false => Kind::Message(at),
                    }
                }
                _ => Kind::Varint,
            };
            let is_repeated = field.label() == Label::Repeated;
            Some(FieldShape { name: field.name().to_owned(), is_repeated, kind })
        };
        let shape = |(name, message): &(String, &DescriptorProto)| {
            let mut fields = Vec::new();
            for described in &message.field {
                let number = usize::try_from(described.number()).unwrap_or_default();
                if fields.len() <= number {
                    fields.resize_with(number + 1, || None);
                }
                fields[number] = field(described);
            }
            Shape { size: struct_size(name), fields }
        };
        let messages = all.iter().map(shape).collect();
        let mut methods = HashMap::new();
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let shape = position.get(method.input_type()).map(|message| RequestShape {
                        method: String::leak(method.name().to_owned()),
                        is_stream: method.client_streaming(),
                        message: *message,
                    });
                    methods.extend(shape.map(|shape| (path, shape)));
                }
            }
        }
        Self { methods, messages }
    }
}

/// Adds a message and those within it, by their full names.
fn collect<'a>(scope: &str, message: &'a DescriptorProto, all: &mut Vec<(String, &'a DescriptorProto)>) {
    let name = format!("{scope}.{}", message.name());
    for inner in &message.nested_type {
        collect(&name, inner, all);
    }
    all.push((name, message));
}

/// Memory of an entry of a map in addition to the contents of key and value: its place in a node, and its share of nodes
/// that are not full.
fn entry_size(entry: &DescriptorProto) -> usize {
    let value = entry.field.iter().find(|field| field.number() == 2);
    let value = value.map_or(size_of::<u64>(), |field| match field.r#type() {
        Type::Message => struct_size(field.type_name()),
        Type::String | Type::Bytes => size_of::<String>(),
        _ => size_of::<u64>(),
    });
    3 * (size_of::<String>() + value)
}

/// The size of the struct of a message.
fn struct_size(name: &str) -> usize {
    macro_rules! sizes {
        ($($message:ident),*) => {
            match name.strip_prefix(".shortlist.v1.") {
                $(Some(stringify!($message)) => size_of::<proto::$message>(),)*
                // A message of answers only, or a well-known one, which is small.
                _ => 64,
            }
        };
    }
    sizes!(
        ActivateRequest,
        AttributeValue,
        BatchSearchRequest,
        Bloom,
        BoolCondition,
        CancelRebuildRequest,
        Cap,
        Condition,
        DeleteRequest,
        Exclude,
        ExplainRequest,
        Filter,
        Fresh,
        GetRequest,
        GetStatusRequest,
        Interest,
        Interests,
        KeywordCondition,
        KeywordList,
        ListCondition,
        NullCondition,
        Number,
        NumberRange,
        PackedVector,
        RebuildRequest,
        RestoreRequest,
        SearchParams,
        SearchRequest,
        Seed,
        Seeds,
        StreamUpsertRequest,
        TakedownRequest,
        Time,
        TimeRange,
        UpsertRequest,
        Vector,
        Video,
        VideoIdCondition
    )
}

/// Why a walk ends before the end of the message.
enum Stop {
    /// The decoder stops here, too.
    Malformed,
    /// The path of the field, from the innermost message.
    TooLarge(Vec<&'static str>),
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

/// A value on the wire.
enum Wire<'a> {
    Varint,
    Fixed32,
    Fixed64,
    Bytes(&'a [u8]),
    Group,
}

impl<'a> Wire<'a> {
    /// Takes a value from the front of `bytes`.
    fn read(bytes: &mut &'a [u8], key: u64) -> Result<Self, Stop> {
        Ok(match key & 7 {
            0 => {
                varint(bytes)?;
                Wire::Varint
            }
            1 => {
                take(bytes, 8)?;
                Wire::Fixed64
            }
            2 => {
                let length = usize::try_from(varint(bytes)?).map_err(|_| Stop::Malformed)?;
                Wire::Bytes(take(bytes, length)?)
            }
            3 => {
                skip_group(bytes)?;
                Wire::Group
            }
            5 => {
                take(bytes, 4)?;
                Wire::Fixed32
            }
            _ => return Err(Stop::Malformed),
        })
    }
}

/// Skips the rest of a group, which no message has, and the groups within it.
fn skip_group(bytes: &mut &[u8]) -> Result<(), Stop> {
    let mut depth = 1;
    while depth > 0 {
        let key = varint(bytes)?;
        match key & 7 {
            3 => depth += 1,
            4 => depth -= 1,
            _ => _ = Wire::read(bytes, key)?,
        }
        if depth > MAX_DEPTH {
            return Err(Stop::Malformed);
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Stop> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Stop::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Stop> {
    prost::encoding::decode_varint(bytes).map_err(|_| Stop::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(SHAPES.methods.len(), 14);
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
