//! Compiles `proto/` in pure Rust, so that a fresh machine needs no protoc.
//!
//! What flows out, into `OUT_DIR`: `shortlist.v1.rs`, and the descriptors that reflection answers with.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message;

const PROTOS: [&str; 5] = [
    "shortlist/v1/common.proto",
    "shortlist/v1/filter.proto",
    "shortlist/v1/retrieval.proto",
    "shortlist/v1/catalog.proto",
    "shortlist/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .btree_map(".shortlist.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
