//! Compiles `proto/` in pure Rust: no `protoc` is needed.
//!
//! Writes to `OUT_DIR`: `shortlist.v1.rs`, messages and clients; and `descriptors.bin`, their descriptor set.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message;

const ROOT: &str = "../../proto";
const PROTOS: [&str; 5] = [
    "shortlist/v1/common.proto",
    "shortlist/v1/filter.proto",
    "shortlist/v1/retrieval.proto",
    "shortlist/v1/catalog.proto",
    "shortlist/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ROOT}");
    let descriptors = protox::compile(PROTOS, [ROOT])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(cfg!(feature = "client"))
        .extern_path(".google.rpc", "::tonic_types::pb")
        .btree_map(".shortlist.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
