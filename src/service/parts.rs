//! What the services of a router share with those of an engine.
//!
//! What flows out: the parts of this module that a server is made of, whatever answers its calls.

pub(crate) use super::access::{Change, Event, Standing, check_index, check_named, may_list};
pub(crate) use super::admission::{Admission, Permit, Quota, Work, quota};
pub(crate) use super::alias;
pub(crate) use super::aliases::{AliasMap, Named, Target, merged};
pub(crate) use super::answer::{Answer, EncodedBatch, EncodedResult, EncodedSearch, EncodedStreamItem};
pub(crate) use super::bounds::{AnswerCharge, CallMemory, Charge, without_blocking_others};
pub(crate) use super::caller::{Caller, Client};
pub(crate) use super::convert::inspect::descriptions;
pub(crate) use super::convert::{Single, divide, explained_id, search_request, timestamp, vector_values};
pub(crate) use super::deadline::{self, Begun, Deadline};
pub(crate) use super::error::{CallError, InvalidField};
pub(crate) use super::filter_texts::FilterTexts;
pub(crate) use super::incoming::{Incoming, Slot};
pub(crate) use super::indexes::Indexes;
pub(crate) use super::inspect;
pub(crate) use super::metrics::{IndexLabels, Metrics, Observation, register};
pub(crate) use super::page_token::PageToken;
pub(crate) use super::run::{Server, Services};
pub(crate) use super::shell::Shell;
pub(crate) use super::status;
