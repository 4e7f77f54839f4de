//! The messages and clients of `shortlist.v1`, generated from `proto/` by the build script.

#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)] // generated code

tonic::include_proto!("shortlist.v1");

/// The encoded descriptor set of the package and of its imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
