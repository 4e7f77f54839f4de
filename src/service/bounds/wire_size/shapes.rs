//! The fields of every message, and how much memory its struct takes.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::service::proto;

/// The shape of every message that a request may have, and the request of every method.
pub(super) static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::read);

/// A method, as far as its requests are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestShape {
    /// The name of the method.
    pub(crate) method: &'static str,
    /// Whether a call has any number of requests.
    pub(crate) is_stream: bool,
    pub(super) message: usize,
}

impl RequestShape {
    /// Returns the shape of the requests of the method at this path, such as `/shortlist.v1.Retrieval/Search`.
    pub(crate) fn of(path: &str) -> Option<Self> {
        SHAPES.methods.get(path).copied()
    }
}

pub(super) struct Shapes {
    pub(super) methods: HashMap<String, RequestShape>,
    pub(super) messages: Vec<Shape>,
}

pub(super) struct Shape {
    /// Size of the struct.
    pub(super) size: usize,
    /// The fields by number.
    pub(super) fields: Vec<Option<FieldShape>>,
}

pub(super) struct FieldShape {
    pub(super) name: String,
    pub(super) is_repeated: bool,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
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
        CompareGenerationsRequest,
        Condition,
        DeleteRequest,
        Diversity,
        Exclude,
        ExplainRequest,
        Filter,
        Fresh,
        GetHistoryRequest,
        GetMapRequest,
        GetRequest,
        GetStatusRequest,
        Interest,
        Interests,
        KeywordCondition,
        KeywordList,
        ListAliasesRequest,
        ListChangesRequest,
        ListCondition,
        ListGenerationsRequest,
        ListIndexesRequest,
        ListValuesRequest,
        NullCondition,
        Number,
        NumberRange,
        PackedVector,
        RebuildRequest,
        Reserve,
        RestoreRequest,
        ScoreTerm,
        SampleUsersRequest,
        SearchParams,
        SearchRequest,
        Seed,
        Seeds,
        SetAliasRequest,
        SetShadowRequest,
        ShadowCandidate,
        ShadowServer,
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
