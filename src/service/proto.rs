//! The messages, clients and servers of `shortlist.v1`, generated from `proto/` by the build script.

#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)] // generated code

tonic::include_proto!("shortlist.v1");
include!(concat!(env!("OUT_DIR"), "/server/shortlist.v1.rs"));

/// The encoded descriptor set of the package and of its imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
