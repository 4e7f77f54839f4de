//! Answers to searches, encoded by the threads that compute them.
//!
//! What flows in: encoded answers, and errors. What flows out: the messages of `Retrieval` that servers send in place of the
//! generated ones. They have the same bytes, and cost the threads of the connections nothing but a copy.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message, Oneof};

/// An encoded `SearchResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedSearch(Bytes);

impl EncodedSearch {
    /// A message of these bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Message for EncodedSearch {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    /// Servers do not decode answers.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A `BatchSearchResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct EncodedBatch {
    #[prost(message, repeated, tag = "1")]
    pub(crate) results: Vec<EncodedResult>,
}

/// A `BatchSearchResult`.
#[derive(Clone, PartialEq, Message)]
pub struct EncodedResult {
    #[prost(oneof = "Answer", tags = "1, 2")]
    pub(crate) result: Option<Answer>,
}

/// A `SearchStreamItem`.
#[derive(Clone, PartialEq, Message)]
pub struct EncodedStreamItem {
    #[prost(oneof = "Answer", tags = "1, 2")]
    pub(crate) item: Option<Answer>,
}

/// The answer to one search of several.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Answer {
    #[prost(message, tag = "1")]
    Response(EncodedSearch),
    #[prost(message, tag = "2")]
    Error(tonic_types::Status),
}
