//! Compiles `proto/` for feature `server`, in pure Rust: no `protoc` is needed.
//!
//! Writes to `OUT_DIR`: `shortlist.v1.rs`, and `descriptors.bin`, the descriptor set that server reflection returns.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "server")]
    server::compile_protos()?;
    Ok(())
}

#[cfg(feature = "server")]
mod server {
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

    pub fn compile_protos() -> Result<(), Box<dyn Error>> {
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
}
