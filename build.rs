//! Compiles `proto/` for feature `server`, in pure Rust: no `protoc` is needed.
//!
//! Writes to `OUT_DIR`: `shortlist.v1.rs`, messages and clients; `server/shortlist.v1.rs`, servers; and `descriptors.bin`, the
//! descriptor set that server reflection returns.

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

    /// Messages with answers to searches, and their types in `src/service/answer.rs`.
    const ENCODED: [(&str, &str); 3] = [
        ("SearchResponse", "EncodedSearch"),
        ("BatchSearchResponse", "EncodedBatch"),
        ("SearchStreamItem", "EncodedStreamItem"),
    ];

    pub fn compile_protos() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-changed=proto");
        let descriptors = protox::compile(PROTOS, ["proto"])?;
        let out_dir = PathBuf::from(env::var("OUT_DIR")?);
        fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
        tonic_prost_build::configure()
            .build_server(false)
            .extern_path(".google.rpc", "::tonic_types::pb")
            .btree_map(".shortlist.v1")
            .compile_fds(descriptors.clone())?;
        // Servers answer searches with messages that are encoded already.
        let server = out_dir.join("server");
        fs::create_dir_all(&server)?;
        let mut servers = tonic_prost_build::configure()
            .build_client(false)
            .out_dir(server)
            .extern_path(".shortlist.v1", "crate::service::proto");
        for (message, encoded) in ENCODED {
            let path = format!("crate::service::answer::{encoded}");
            servers = servers.extern_path(format!(".shortlist.v1.{message}"), path);
        }
        servers.compile_fds(descriptors)?;
        Ok(())
    }
}
