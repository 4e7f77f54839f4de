//! JSON → a message of gRPC.
//!
//! What flows in: the text of a request, and the name of the index in its path. What flows out: the encoded message, or
//! `INVALID_ARGUMENT` with the path, line and column of what is wrong. The messages in a list of the request, such as the
//! videos of an upsert, become dynamic messages one after another, so they take little memory.

use std::borrow::Cow;
use std::fmt;

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use tonic::Status;

use super::buffer::{Buffer, Full};
use super::exact::Exact;
use super::routes::IndexField;
use crate::service::bounds;
use crate::service::error::InvalidField;
use crate::service::status;

/// The field of a request with the name of its index.
const INDEX: &str = "index";
/// The field of an explanation with its search.
const REQUEST: &str = "request";
/// How an error of the parser begins that is about a field, and not about a value.
const UNKNOWN_FIELD: &str = "unrecognized field name '";

/// Appends the encoded message of `text` to `buffer`, with the name of the index.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field that is wrong, or that there is no room for the message.
pub(super) fn decode(
    text: &[u8],
    message: &MessageDescriptor,
    index: &str,
    place: IndexField,
    buffer: &mut Buffer,
) -> Result<(), Status> {
    let mut sink = Sink {
        list: message.fields().find(|field| field.is_list() && matches!(field.kind(), Kind::Message(_))),
        index: (place == IndexField::Requests).then_some(index),
        count: None,
        refused: None,
        buffer,
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let rest = DynamicMessage::deserialize(message.clone(), Split { inner: tracked, sink: &mut sink });
    let refused = sink.refused.take();
    let mut rest = match (rest, refused) {
        (_, Some(refused)) => return Err(refused),
        (Ok(rest), None) => rest,
        (Err(error), None) => return Err(invalid(&track.path().to_string(), &error)),
    };
    json.end().map_err(|error| invalid(".", &error))?;
    match place {
        IndexField::Own => set_index(&mut rest, index, "")?,
        IndexField::Request => {
            let field = message.get_field_by_name(REQUEST).ok_or_else(status::internal)?;
            if let Value::Message(request) = rest.get_field_mut(&field) {
                set_index(request, index, "request.")?;
            }
        }
        IndexField::Requests | IndexField::None => {}
    }
    buffer.reserve(rest.encoded_len()).map_err(|full| no_room(full, buffer.max_bytes()))?;
    rest.encode(buffer.bytes()).map_err(|_| status::internal())
}

/// Returns the status of a message for which there is no room.
pub(super) fn no_room(full: Full, max_bytes: usize) -> Status {
    match full {
        Full::TooLarge => too_large(max_bytes),
        Full::NoMemory => bounds::refusal(),
    }
}

/// Returns the status of a request that is too large, as text or as a message.
pub(super) fn too_large(max_bytes: usize) -> Status {
    Status::out_of_range(format!("expected a request of at most {max_bytes} bytes, found more"))
}

/// Returns the status of a text that is no such message.
fn invalid(path: &str, error: &serde_json::Error) -> Status {
    let problem = error.to_string();
    let unknown = problem.strip_prefix(UNKNOWN_FIELD).and_then(|rest| rest.split('\'').next());
    // A question mark is a key that was not read to its end.
    let path = match (path.trim_end_matches(['.', '?']), unknown) {
        ("", None) => REQUEST.to_owned(),
        ("", Some(name)) => name.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
    };
    status::of(&InvalidField::new(path, problem).into(), "")
}

/// Sets the name of the index in a message at `path`.
///
/// # Errors
/// If the message names another one.
fn set_index(message: &mut DynamicMessage, index: &str, path: &str) -> Result<(), Status> {
    let found = message.get_field_by_name(INDEX).and_then(|found| found.as_str().map(str::to_owned));
    let found = found.unwrap_or_default();
    if !index.is_empty() && !found.is_empty() && found != index {
        let problem = format!("expected the index of the path, {index:?}, or none, found {found:?}");
        return Err(status::of(&InvalidField::new(INDEX, problem).into(), path));
    }
    if !index.is_empty() {
        message.set_field_by_name(INDEX, Value::String(index.to_owned()));
    }
    Ok(())
}

/// Where the messages of a list go.
struct Sink<'a> {
    /// The list of messages in the request, if it has one.
    list: Option<FieldDescriptor>,
    /// The name to set in each of them.
    index: Option<&'a str>,
    /// How many came; `None` before the list.
    count: Option<usize>,
    /// Why the last one was refused, if that was not for its text.
    refused: Option<Status>,
    buffer: &'a mut Buffer,
}

impl Sink<'_> {
    fn is_list(&self, key: &str) -> bool {
        self.list.as_ref().is_some_and(|list| list.json_name() == key || list.name() == key)
    }

    /// Encodes the next message of the list.
    fn take(&mut self, mut message: DynamicMessage, number: u32) -> Result<(), Status> {
        let position = self.count.unwrap_or_default();
        self.count = Some(position + 1);
        if let (Some(index), Some(list)) = (self.index, &self.list) {
            set_index(&mut message, index, &format!("{}[{position}].", list.name()))?;
        }
        let length = message.encoded_len();
        let key = encoded_len_varint(u64::from(number) << 3) + encoded_len_varint(length as u64);
        let room = self.buffer.reserve(key + length);
        room.map_err(|full| no_room(full, self.buffer.max_bytes()))?;
        encode_key(number, WireType::LengthDelimited, self.buffer.bytes());
        encode_varint(length as u64, self.buffer.bytes());
        message.encode(self.buffer.bytes()).map_err(|_| status::internal())
    }
}

/// A deserializer of a message without its list of messages, which goes to the sink.
struct Split<'a, 'b, T> {
    inner: T,
    sink: &'a mut Sink<'b>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Split<'_, '_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Split { inner: visitor, sink: self.sink })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any option
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Split<'_, '_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Split { inner: map, sink: self.sink })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Split<'_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(key) = self.inner.next_key::<Cow<'de, str>>()? {
            if !self.sink.is_list(&key) {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.inner.next_value_seed(Elements(self.sink))?;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Exact(seed))
    }
}

/// The list of messages.
struct Elements<'a, 'b>(&'a mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for Elements<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.0.count.replace(0).is_some() {
            return Err(A::Error::custom("expected the field once, found it again"));
        }
        while list.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}

/// One message of the list.
struct Element<'a, 'b>(&'a mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Some((number, Kind::Message(of))) = self.0.list.as_ref().map(|list| (list.number(), list.kind()))
        else {
            return Ok(());
        };
        let message = DynamicMessage::deserialize(of, Exact(deserializer))?;
        self.0.take(message, number).map_err(|refused| {
            self.0.refused = Some(refused);
            D::Error::custom("refused")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::metrics::counter::Counter;
    use rand::seq::IndexedRandom as _;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use tonic::Code;

    use super::super::descriptors;
    use super::super::encode::encode;
    use super::super::routes::{OPENAPI, ROUTES};
    use super::super::size::dynamic_bytes;
    use super::*;
    use crate::service::bounds::{Charge, ConnectionMemory, ServerMemory};

    const SEARCH: &str = r#"{"index":"a","vector":{"values":[1,-0.5,"NaN",1e3]},"k":10,
        "params":{"efSearch":50,"plan":"PLAN_GRAPH"},"filter":{"must":[{"keyword":{"attribute":"é\"\n","anyOf":["x","y"]}},
        {"time":{"attribute":"t","gte":{"ago":"1.5s"},"lt":{"at":"2026-01-02T03:04:05.000006Z"}}},
        {"filter":{"should":[{"bool":{"attribute":"s","value":true}}],"minShould":0}},
        {"number":{"attribute":"n","gt":{"int64":"-5"},"lt":{"double":"Infinity"}}}]},
        "exclude":{"videoIds":["18446744073709551615",7],"roaring":"AAAA","bloom":{"bits":"-_8=","hashes":3,"seed":9}},
        "caps":[{"attribute":"c","maxPerValue":2}],"scoreThreshold":null}"#;
    const UPSERT: &str = r#"{"videos":[{"videoId":1,"vector":{"packed":{"data":"AACAPw==","dtype":1}},"attributes":{
        "a":{"keywordList":{"values":["x"]}},"b":{"timestamp":"1970-01-01T00:00:00Z"}},
        "expiresAt":"9999-12-31T23:59:59Z"}],"partial":true}"#;
    const TOKENS: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "1e999",
        "-",
        "\0",
        "é",
        "{}",
        "[]",
        "9999999999999999999999",
    ];

    /// A charge of a connection of its own.
    fn charge() -> Charge {
        let memory = ServerMemory::new(64 << 20, 48 << 20, Counter::default(), Counter::default());
        Charge::new(&ConnectionMemory::new(&memory, Arc::default()))
    }

    #[test]
    fn mutated_texts_become_messages_or_are_refused() {
        let seeds = [
            ("/shortlist.v1.Retrieval/Search", SEARCH.to_owned()),
            ("/shortlist.v1.Retrieval/BatchSearch", format!("{{\"requests\":[{SEARCH},{{}},{SEARCH}]}}")),
            ("/shortlist.v1.Retrieval/Explain", format!("{{\"request\":{SEARCH},\"videoId\":\"3\"}}")),
            ("/shortlist.v1.Catalog/Upsert", UPSERT.to_owned()),
            ("/shortlist.v1.Catalog/Get", "{\"videoIds\":[1,\"2\"],\"returnAttributes\":[\"*\"]}".to_owned()),
        ];
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let (mut read, mut refused) = (0, 0);
        for round in 0..20_000 {
            let (path, text) = &seeds[round % seeds.len()];
            let mut text = text.clone().into_bytes();
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..text.len());
                match random.random_range(0..4) {
                    0 => text[at] = random.random(),
                    1 => drop(text.drain(at..(at + random.random_range(0..20)).min(text.len()))),
                    2 => drop(text.splice(at..at, TOKENS.choose(&mut random).unwrap().bytes())),
                    _ => text.truncate(at),
                }
                text.push(b' ');
            }
            if dynamic_bytes(&text).is_err() {
                continue;
            }
            let route = ROUTES.iter().find(|route| route.grpc == *path).unwrap();
            let of = descriptors::method(path).unwrap().input();
            let mut buffer = Buffer::new(charge(), 1 << 20);
            match decode(&text, &of, "a", route.index, &mut buffer) {
                Ok(()) => {
                    // What was read can be written, and read again as the same.
                    let mut again = Buffer::new(charge(), usize::MAX);
                    if encode(&of, buffer.bytes(), &mut again).is_ok() {
                        let mut second = Buffer::new(charge(), 1 << 20);
                        decode(again.bytes(), &of, "a", route.index, &mut second).unwrap();
                        let value = |bytes: &[u8]| {
                            serde_json::to_value(DynamicMessage::decode(of.clone(), bytes).unwrap()).unwrap()
                        };
                        assert_eq!(value(buffer.bytes()), value(second.bytes()));
                    }
                    read += 1;
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
                    refused += 1;
                }
            }
        }
        assert!(read > 3_000 && refused > 3_000, "{read} read, {refused} refused");
    }

    #[test]
    fn any_bytes_are_written_or_refused() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        for route in ROUTES.iter().filter(|route| route.path != OPENAPI) {
            let of = descriptors::method(route.grpc).unwrap().output();
            for _ in 0..2_000 {
                let length = random.random_range(0..40);
                let bytes: Vec<u8> = (0..length).map(|_| random.random_range(0..60)).collect();
                let mut text = Buffer::new(charge(), usize::MAX);
                if encode(&of, &bytes, &mut text).is_ok() {
                    serde_json::from_slice::<serde_json::Value>(text.bytes()).unwrap();
                }
            }
        }
    }
}
