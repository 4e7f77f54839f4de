//! Mutants of encoded messages, and the fields that a message sets.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_varint, skip_field};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use shortlist::service::proto::FILE_DESCRIPTOR_SET;

/// A mutant of more bytes is cut.
const MOST_BYTES: usize = 1 << 16;
const LENGTHS: [u64; 9] = [0, 1, 127, 128, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, u64::MAX];
const NUMBERS: [u64; 8] = [0, 1, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 63, u64::MAX];
const FLOATS: [f32; 7] = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-42];
const DOUBLES: [f64; 5] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324];

/// A field of an encoded message.
struct Field {
    number: u32,
    kind: WireType,
    /// Without its length, if it has one.
    value: Vec<u8>,
}

impl Field {
    /// The fields of a message, in their order. `None` if these bytes are no message.
    fn of(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let (number, kind) = decode_key(&mut bytes).ok()?;
            let before = bytes;
            let value = if kind == WireType::LengthDelimited {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                value
            } else {
                skip_field(kind, number, &mut bytes, DecodeContext::default()).ok()?;
                &before[..before.len() - bytes.len()]
            };
            fields.push(Self { number, kind, value: value.to_vec() });
        }
        Some(fields)
    }

    fn encode(&self, into: &mut Vec<u8>) {
        self.encode_as(self.value.len() as u64, into);
    }

    fn encode_as(&self, length: u64, into: &mut Vec<u8>) {
        encode_varint(u64::from(self.number) << 3 | self.kind as u64, into);
        if self.kind == WireType::LengthDelimited {
            encode_varint(length, into);
        }
        into.extend(&self.value);
    }
}

/// Returns `message` with a change or a few, with parts of `other` in some of them. Most are refused after two.
pub fn mutant(message: &[u8], other: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..*[1, 1, 1, 2, 4].choose(random).unwrap() {
        bytes = if random.random_ratio(1, 3) {
            changed_bytes(bytes, other, random)
        } else {
            changed_field(bytes, other, random)
        };
        bytes.truncate(MOST_BYTES);
    }
    bytes
}

/// Changes bytes wherever they are.
fn changed_bytes(mut bytes: Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let at = random.random_range(0..=bytes.len());
    match random.random_range(0..5) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.random()),
        2 => {
            bytes.truncate(at);
            bytes.extend(&other[random.random_range(0..=other.len())..]);
        }
        3 => {
            let end = (at + random.random_range(0..8)).min(bytes.len());
            bytes[at..end].fill_with(|| random.random());
        }
        _ if bytes.is_empty() => {}
        _ => {
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
    }
    bytes
}

/// Changes a field of the message or of one inside of it, so that the messages around it can still be decoded.
fn changed_field(bytes: Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let Some(fields) = Field::of(&bytes).filter(|fields| !fields.is_empty()) else {
        return changed_bytes(bytes, other, random);
    };
    let chosen = random.random_range(0..fields.len());
    let mut changed = Vec::new();
    for (at, mut field) in fields.into_iter().enumerate() {
        if at != chosen {
            field.encode(&mut changed);
        } else if field.kind == WireType::LengthDelimited && random.random_ratio(3, 4) {
            field.value = changed_field(field.value, other, random);
            field.encode(&mut changed);
        } else {
            encode_changed(field, random, &mut changed);
        }
    }
    changed
}

fn encode_changed(mut field: Field, random: &mut ChaCha8Rng, into: &mut Vec<u8>) {
    const KINDS: [WireType; 6] = [
        WireType::Varint,
        WireType::SixtyFourBit,
        WireType::LengthDelimited,
        WireType::StartGroup,
        WireType::EndGroup,
        WireType::ThirtyTwoBit,
    ];
    match random.random_range(0..6) {
        0 => {}
        1 => {
            let most = if random.random_ratio(1, 10) { 2_000 } else { 20 };
            for _ in 0..random.random_range(2..=most) {
                if into.len() < MOST_BYTES {
                    field.encode(into);
                }
            }
        }
        2 => {
            field.number = random.random_range(1..25);
            field.encode(into);
        }
        3 => {
            field.kind = *KINDS.choose(random).unwrap();
            field.encode(into);
        }
        4 => {
            let length = field.value.len() as u64;
            let near = [length.wrapping_sub(1), length + 1];
            let length = if random.random() { near.choose(random) } else { LENGTHS.choose(random) };
            field.encode_as(*length.unwrap(), into);
        }
        _ => {
            match field.kind {
                WireType::Varint => {
                    field.value.clear();
                    encode_varint(*NUMBERS.choose(random).unwrap(), &mut field.value);
                }
                WireType::SixtyFourBit if random.random() => {
                    field.value = DOUBLES.choose(random).unwrap().to_le_bytes().to_vec();
                }
                WireType::SixtyFourBit => {
                    field.value = NUMBERS.choose(random).unwrap().to_le_bytes().to_vec()
                }
                WireType::ThirtyTwoBit => field.value = FLOATS.choose(random).unwrap().to_le_bytes().to_vec(),
                // Packed floats, or a text that is not UTF-8.
                _ => {
                    for float in field.value.chunks_exact_mut(4) {
                        if random.random_ratio(1, 4) {
                            float.copy_from_slice(&FLOATS.choose(random).unwrap().to_le_bytes());
                        }
                    }
                }
            }
            field.encode(into);
        }
    }
}

/// The messages of the services, from the descriptors in the binary.
pub struct Descriptors {
    messages: BTreeMap<String, DescriptorProto>,
    /// `Service/Method`, and the name of its request.
    pub methods: Vec<(String, String)>,
}

impl Descriptors {
    pub fn new() -> Self {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let (mut messages, mut methods) = (BTreeMap::new(), Vec::new());
        for file in files {
            for service in &file.service {
                let method = |method: &prost_types::MethodDescriptorProto| {
                    (format!("{}/{}", service.name(), method.name()), method.input_type().to_owned())
                };
                methods.extend(service.method.iter().map(method));
            }
            let package = format!(".{}", file.package());
            file.message_type.into_iter().for_each(|message| Self::add(&mut messages, &package, message));
        }
        Self { messages, methods }
    }

    fn add(messages: &mut BTreeMap<String, DescriptorProto>, scope: &str, message: DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            Self::add(messages, &name, nested.clone());
        }
        messages.insert(name, message);
    }

    /// Every field of a message and of those inside of it, as `.package.Message.field`.
    pub fn fields(&self, message: &str, into: &mut BTreeSet<String>) {
        for field in &self.messages[message].field {
            if into.insert(format!("{message}.{}", field.name())) && field.r#type() == Type::Message {
                self.fields(field.type_name(), into);
            }
        }
    }

    /// Those that an encoded message sets.
    pub fn set_fields(&self, message: &str, bytes: &[u8], into: &mut BTreeSet<String>) {
        for set in Field::of(bytes).unwrap() {
            let fields = &self.messages[message].field;
            let field = fields.iter().find(|field| field.number() == set.number as i32).unwrap();
            into.insert(format!("{message}.{}", field.name()));
            if field.r#type() == Type::Message {
                self.set_fields(field.type_name(), &set.value, into);
            }
        }
    }
}
