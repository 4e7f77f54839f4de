//! The encoding of a mutation in the log.
//!
//! ```text
//! version: u8 = 1 | crc32c of the remaining bytes: u32, little-endian | a protobuf `Record`
//! ```
//!
//! Floats keep their bits. Timestamps are rounded down to microseconds.

use prost::Message;

use super::mutation::{Mutation, Upsert};
use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::base::instant::Instant;

/// Version of the layout above and the messages below.
const VERSION: u8 = 1;
/// Length of version and checksum in bytes.
const HEADER: usize = 5;

/// Encodes a mutation that is written at `written_at`.
pub(crate) fn encode(mutation: &Mutation, written_at: Instant) -> Vec<u8> {
    let record = Record { kind: Some(kind_of(mutation)), written_at_us: Some(written_at.as_microsecond()) };
    let mut bytes = Vec::with_capacity(HEADER + record.encoded_len());
    bytes.push(VERSION);
    bytes.extend([0; 4]);
    record.encode_raw(&mut bytes);
    let checksum = crc32c::crc32c(&bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Decodes a mutation from untrusted bytes.
///
/// # Errors
/// The problem, with expected and found.
pub(crate) fn decode(bytes: &[u8]) -> Result<Mutation, String> {
    let Some((&[version, ref checksum @ ..], message)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(format!("expected at least {HEADER} bytes, found {}", bytes.len()));
    };
    if version != VERSION {
        return Err(format!("expected record version {VERSION}, found {version}"));
    }
    let (expected, found) = (u32::from_le_bytes(*checksum), crc32c::crc32c(message));
    if expected != found {
        return Err(format!("expected crc32c {expected:08x}, found {found:08x}"));
    }
    mutation_of(message)
}

/// When the mutation of a record was written; `None` if the record does not say, as those of earlier releases, or is
/// damaged.
pub(super) fn written_at(bytes: &[u8]) -> Option<Instant> {
    let record = Record::decode(bytes.get(HEADER..)?).ok()?;
    Instant::from_microsecond(record.written_at_us?).ok()
}

fn mutation_of(message: &[u8]) -> Result<Mutation, String> {
    let record = Record::decode(message).map_err(|error| error.to_string())?;
    Ok(match record.kind.ok_or("expected a known kind of mutation, found none")? {
        Kind::Upsert(upsert) => Mutation::Upsert(upsert_of(upsert)?),
        Kind::Delete(video) => Mutation::Delete(VideoId(video)),
        Kind::Takedown(video) => Mutation::Takedown(VideoId(video)),
        Kind::Restore(video) => Mutation::Restore(VideoId(video)),
    })
}

fn upsert_of(record: UpsertRecord) -> Result<Upsert, String> {
    let attributes = record.attributes.into_iter().map(|attribute| {
        let AttributeRecord { name, value } = attribute;
        let value = value.ok_or_else(|| format!("attribute {name:?}: expected a known type, found none"))?;
        Ok((name, value_of(value)?))
    });
    Ok(Upsert {
        video_id: VideoId(record.video_id),
        embedding: record.embedding,
        attributes: attributes.collect::<Result<_, String>>()?,
        expires_at: record.expires_at_us.map(timestamp).transpose()?,
        embedding_model: record.embedding_model,
    })
}

fn value_of(record: ValueRecord) -> Result<Value, String> {
    Ok(match record {
        ValueRecord::Keyword(word) => Value::Keyword(word),
        ValueRecord::KeywordList(list) => Value::KeywordList(list.words),
        ValueRecord::Int64(value) => Value::Int64(value),
        ValueRecord::Uint64(value) => Value::Uint64(value),
        ValueRecord::Double(value) => Value::Double(value),
        ValueRecord::Bool(value) => Value::Bool(value),
        ValueRecord::TimestampUs(us) => Value::Timestamp(timestamp(us)?),
    })
}

fn timestamp(us: i64) -> Result<Instant, String> {
    Instant::from_microsecond(us).map_err(|error| error.to_string())
}

fn kind_of(mutation: &Mutation) -> Kind {
    match mutation {
        Mutation::Upsert(upsert) => Kind::Upsert(UpsertRecord {
            video_id: upsert.video_id.0,
            embedding: upsert.embedding.clone(),
            attributes: upsert.attributes.iter().map(attribute_record).collect(),
            expires_at_us: upsert.expires_at.map(Instant::as_microsecond),
            embedding_model: upsert.embedding_model.clone(),
        }),
        Mutation::Delete(video) => Kind::Delete(video.0),
        Mutation::Takedown(video) => Kind::Takedown(video.0),
        Mutation::Restore(video) => Kind::Restore(video.0),
    }
}

fn attribute_record((name, value): &(String, Value)) -> AttributeRecord {
    let value = match value {
        Value::Keyword(word) => ValueRecord::Keyword(word.clone()),
        Value::KeywordList(words) => ValueRecord::KeywordList(WordsRecord { words: words.clone() }),
        Value::Int64(value) => ValueRecord::Int64(*value),
        Value::Uint64(value) => ValueRecord::Uint64(*value),
        Value::Double(value) => ValueRecord::Double(*value),
        Value::Bool(value) => ValueRecord::Bool(*value),
        Value::Timestamp(value) => ValueRecord::TimestampUs(value.as_microsecond()),
    };
    AttributeRecord { name: name.clone(), value: Some(value) }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    kind: Option<Kind>,
    #[prost(sint64, optional, tag = "5")]
    written_at_us: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Upsert(UpsertRecord),
    #[prost(fixed64, tag = "2")]
    Delete(u64),
    #[prost(fixed64, tag = "3")]
    Takedown(u64),
    #[prost(fixed64, tag = "4")]
    Restore(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpsertRecord {
    #[prost(fixed64, tag = "1")]
    video_id: u64,
    #[prost(float, repeated, tag = "2")]
    embedding: Vec<f32>,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<AttributeRecord>,
    #[prost(sint64, optional, tag = "4")]
    expires_at_us: Option<i64>,
    #[prost(string, optional, tag = "5")]
    embedding_model: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AttributeRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "ValueRecord", tags = "2, 3, 4, 5, 6, 7, 8")]
    value: Option<ValueRecord>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ValueRecord {
    #[prost(string, tag = "2")]
    Keyword(String),
    #[prost(message, tag = "3")]
    KeywordList(WordsRecord),
    #[prost(sint64, tag = "4")]
    Int64(i64),
    #[prost(uint64, tag = "5")]
    Uint64(u64),
    #[prost(double, tag = "6")]
    Double(f64),
    #[prost(bool, tag = "7")]
    Bool(bool),
    #[prost(sint64, tag = "8")]
    TimestampUs(i64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WordsRecord {
    #[prost(string, repeated, tag = "1")]
    words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::MAX;

    fn moments() -> impl Strategy<Value = Instant> {
        let range = Instant::MIN.as_microsecond()..=Instant::MAX.as_microsecond();
        range.prop_map(|us| Instant::from_microsecond(us).unwrap())
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            ".{0,9}".prop_map(Value::Keyword),
            vec(".{0,5}", 0..4).prop_map(Value::KeywordList),
            any::<i64>().prop_map(Value::Int64),
            any::<u64>().prop_map(Value::Uint64),
            any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
            any::<bool>().prop_map(Value::Bool),
            moments().prop_map(Value::Timestamp),
        ]
    }

    fn upserts() -> impl Strategy<Value = Upsert> {
        let embedding = vec(any::<u32>().prop_map(f32::from_bits), 0..40);
        let attributes = vec((".{0,6}", values()), 0..6);
        (any::<u64>(), embedding, attributes, option::of(moments()), option::of(".{0,6}")).prop_map(
            |(video, embedding, attributes, expires_at, embedding_model)| Upsert {
                video_id: VideoId(video),
                embedding,
                attributes,
                expires_at,
                embedding_model,
            },
        )
    }

    fn mutations() -> impl Strategy<Value = Mutation> {
        let video = || any::<u64>().prop_map(VideoId);
        prop_oneof![
            4 => upserts().prop_map(Mutation::Upsert),
            1 => video().prop_map(Mutation::Delete),
            1 => video().prop_map(Mutation::Takedown),
            1 => video().prop_map(Mutation::Restore),
        ]
    }

    /// With the bits of floats as numbers, because NaN is not equal to itself.
    fn exactly(mutation: &Mutation) -> (String, Vec<u32>, Vec<Option<u64>>) {
        let Mutation::Upsert(upsert) = mutation else { return (format!("{mutation:?}"), vec![], vec![]) };
        let double = |(_, value): &(String, Value)| match value {
            Value::Double(value) => Some(value.to_bits()),
            _ => None,
        };
        let bits = upsert.embedding.iter().map(|value| value.to_bits()).collect();
        (format!("{mutation:?}"), bits, upsert.attributes.iter().map(double).collect())
    }

    proptest! {
        #[test]
        fn gives_back_what_was_encoded(mutation in mutations()) {
            prop_assert_eq!(exactly(&decode(&encode(&mutation, NOW)).unwrap()), exactly(&mutation));
        }

        #[test]
        fn takes_any_bytes_without_panic(
            bytes in vec(any::<u8>(), 0..200), mutation in mutations(), at in any::<prop::sample::Index>(),
        ) {
            prop_assert!(decode(&bytes).is_err());
            // Past the checksum as well: noise, and a message with noise in it.
            let _ = mutation_of(&bytes);
            let mut message = encode(&mutation, NOW).split_off(HEADER);
            let at = at.index(message.len());
            message.splice(at..at, bytes);
            let _ = mutation_of(&message);
        }

        #[test]
        fn rejects_every_changed_bit_and_every_cut(mutation in mutations(), at in any::<prop::sample::Index>()) {
            let whole = encode(&mutation, NOW);
            let bit = at.index(whole.len() * 8);
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&flipped).is_err());
            prop_assert!(decode(&whole[..at.index(whole.len())]).is_err());
        }
    }

    #[test]
    fn a_record_says_when_it_was_written_and_one_without_a_time_can_be_read() {
        let delete = Mutation::Delete(VideoId(7));
        let then = Instant::from_microsecond(1_764_460_800_123_456).unwrap();
        assert_eq!(written_at(&encode(&delete, then)), Some(then));
        // As earlier releases wrote it.
        let record = Record { kind: Some(kind_of(&delete)), written_at_us: None };
        let mut bytes = vec![VERSION];
        bytes.extend(crc32c::crc32c(&record.encode_to_vec()).to_le_bytes());
        bytes.extend(record.encode_to_vec());
        assert_eq!(exactly(&decode(&bytes).unwrap()), exactly(&delete));
        assert_eq!(written_at(&bytes), None);
        assert_eq!(written_at(&[]), None);
    }

    #[test]
    fn rejects_another_version_and_what_has_no_meaning() {
        let mut bytes = encode(&Mutation::Delete(VideoId(7)), NOW);
        bytes[0] = 2;
        assert_eq!(decode(&bytes).unwrap_err(), "expected record version 1, found 2");
        assert_eq!(decode(&bytes[..4]).unwrap_err(), "expected at least 5 bytes, found 4");
        assert_eq!(mutation_of(&[]).unwrap_err(), "expected a known kind of mutation, found none");

        let no_value = AttributeRecord { name: "length".to_owned(), value: None };
        let upsert = UpsertRecord { attributes: vec![no_value], ..UpsertRecord::default() };
        let record = Record { kind: Some(Kind::Upsert(upsert)), written_at_us: None };
        let problem = mutation_of(&record.encode_to_vec()).unwrap_err();
        assert_eq!(problem, "attribute \"length\": expected a known type, found none");

        let upsert = UpsertRecord { expires_at_us: Some(i64::MAX), ..UpsertRecord::default() };
        let record = Record { kind: Some(Kind::Upsert(upsert)), written_at_us: None };
        assert!(mutation_of(&record.encode_to_vec()).unwrap_err().contains("9223372036854775807"));
    }

    #[test]
    fn a_length_that_lies_reserves_nothing() {
        // An embedding that says it has 4 GiB, in six bytes of upsert.
        let message = [0x0a, 6, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(mutation_of(&message).is_err());
    }
}
