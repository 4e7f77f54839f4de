//! proto ↔ domain.
//!
//! What flows in: messages that any client may have sent, and answers of the engine. What flows out: requests in domain
//! types, or the path of the invalid field; and answers as messages. This folder rejects only what the domain types
//! cannot express. The engine checks ranges, dimensions and names.
//!
//! | file | duty |
//! |---|---|
//! | `request.rs`  | search requests |
//! | `rules.rs`    | the rules of a search request: filter, exclusions, caps, kept places, threshold |
//! | `reserves.rs` | reserves, both ways |
//! | `score_terms.rs` | score terms, both ways |
//! | `filter.rs`   | filters, both ways |
//! | `ids.rs`      | ids, numbers or text |
//! | `bound.rs`    | numbers, times and durations of filters, both ways |
//! | `plan.rs`     | search plans, both ways |
//! | `response.rs` | answers to searches, and explanations |
//! | `inspect.rs`  | what people look at |
//! | `catalog.rs`  | writes and their answers |
//! | `lookups.rs`  | lookups of videos and their answers |
//! | `embeddings.rs` | which embedding of a video each index takes |
//! | `status.rs`   | the state of an index |
//! | `scalar.rs`   | times, durations and counts, to the wire |
//! | `path.rs`     | the path of a field |

mod bound;
mod catalog;
mod embeddings;
mod filter;
mod ids;
pub(crate) mod inspect;
mod lookups;
mod path;
mod plan;
mod request;
mod reserves;
mod response;
mod rules;
mod scalar;
mod score_terms;
mod status;

pub(crate) use catalog::{Batch, Outcome, Upserts, batch_of_ids, upserts};
#[cfg(feature = "cluster")]
pub(crate) use embeddings::{Single, divide};
pub(crate) use ids::{explained_id, text_field};
pub(crate) use lookups::{Lookups, get_response, lookups};
#[cfg(feature = "cli")]
pub(crate) use plan::plan_from_proto;
pub(crate) use request::search_request;
#[cfg(feature = "cluster")]
pub(crate) use request::vector_of_answer as vector_values;
pub(crate) use response::explanation;
pub(crate) use response::search_response;
pub(crate) use scalar::duration;
#[cfg(feature = "cluster")]
pub(crate) use scalar::timestamp;
pub(crate) use status::{closed_index, index_status, rebuild_status};
