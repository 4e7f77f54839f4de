//! The messages and clients of `shortlist.v1`, and its servers, generated from `proto/` by the build script.

#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)] // generated code

pub use shortlist_client::proto::*;

include!(concat!(env!("OUT_DIR"), "/shortlist.v1.rs"));
