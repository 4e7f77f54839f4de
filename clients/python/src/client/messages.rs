//! Other messages become dicts: fields by their names, enums by theirs, times as text.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use pyo3::prelude::*;
use pythonize::Pythonizer;
use shortlist_client::proto::{self, FILE_DESCRIPTOR_SET};

use crate::error::{Code, Fault};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default());

/// The dict of a message of `shortlist.v1`.
///
/// # Errors
/// If the message does not have this name.
pub(super) fn dict<'py>(py: Python<'py>, name: &str, message: &impl Message) -> PyResult<Bound<'py, PyAny>> {
    let internal = |problem: String| Fault::new(Code::Internal, None, format!("{name}: {problem}"));
    let described = POOL.get_message_by_name(&format!("shortlist.v1.{name}"));
    let described = described.ok_or_else(|| internal("no such message".to_owned()))?;
    let dynamic = DynamicMessage::decode(described, message.encode_to_vec().as_slice());
    let dynamic = dynamic.map_err(|error| internal(error.to_string()))?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    Ok(dynamic.serialize_with_options(Pythonizer::new(py), &options)?)
}

/// The components of an embedding.
pub(super) fn vector(vector: proto::Vector) -> Vec<f32> {
    match vector.packed {
        None => vector.values,
        Some(packed) => packed.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    }
}

pub(super) fn number(number: u32) -> usize {
    number as usize
}
