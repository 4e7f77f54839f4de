//! JSON over HTTP: the methods of gRPC without streams, as proto3 maps messages to JSON.
//!
//! What flows in: requests for the routes of JSON, and answers of the services. What flows out: requests of gRPC, which
//! pass the same guard, bounds, admission and services as any other, and answers in JSON. Does not know what a method
//! does.
//!
//! ```text
//!  request ─► route ─► guard ─► bounds ─► body: text ─► size ─► decode ─► frame of gRPC ─► services
//!                                                                                             │
//!  answer ◄── errors as HTTP ◄── text ◄── encode ◄──────────────── frame of gRPC or a status ◄┘
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `routes.rs`      | the routes, and the method that each calls |
//! | `descriptors.rs` | the messages of the services and of details of errors |
//! | `request.rs`     | the body of a request, from JSON to gRPC |
//! | `size.rs`        | how much memory a text takes once it is a message |
//! | `decode.rs`      | a text → a message |
//! | `exact.rs`       | numbers that are exact, or refused |
//! | `answer.rs`      | the answer to a call, from gRPC to JSON |
//! | `encode.rs`      | a message → a text |
//! | `buffer.rs`      | bytes that are charged to a call while they are written |
//! | `error.rs`       | a status → an answer of HTTP |
//! | `openapi.rs`     | describes the routes |

mod answer;
mod buffer;
mod decode;
mod descriptors;
mod encode;
mod error;
mod exact;
mod openapi;
mod request;
mod routes;
mod size;

pub(super) use self::answer::answer;
#[cfg(feature = "cli")]
pub(crate) use self::descriptors::message_of_proto;
pub(super) use self::error::{no_call, refusal};
pub(super) use self::openapi::page;
pub(super) use self::request::body;
pub(super) use self::routes::{Call, OPENAPI, is_json};
