//! Generates the servers of `proto/` for feature `server`, in pure Rust: no `protoc` is needed. The messages are those of
//! `clients/rust`.
//!
//! Writes to `OUT_DIR`: `shortlist.v1.rs`.

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
        let mut servers = tonic_prost_build::configure()
            .build_client(false)
            .extern_path(".shortlist.v1", "::shortlist_client::proto");
        // Servers answer searches with messages that are encoded already.
        for (message, encoded) in ENCODED {
            let path = format!("crate::service::answer::{encoded}");
            servers = servers.extern_path(format!(".shortlist.v1.{message}"), path);
        }
        servers.compile_fds(descriptors)?;
        Ok(())
    }
}
