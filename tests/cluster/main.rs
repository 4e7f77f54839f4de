//! Tests of several processes: real brokers of NATS and a real object store.
//!
//! They need `nats-server` and `weed`, in the folder that SHORTLIST_CLUSTER_TOOLS names or where `.ci/cluster` installs
//! them. Without them, each test says loudly that it was skipped.
//!
//! | file | what it tests |
//! |---|---|
//! | `stream.rs` | engines on one stream, against a ledger |
//! | `shards.rs` | shards and replicas as processes |
//! | `place.rs`  | an index with its servers; no tests |
//! | `nats.rs`   | brokers of NATS; no tests |
//! | `tools.rs`  | programs of others; no tests |

#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../it/harness/mod.rs"]
mod harness;
mod nats;
mod place;
mod shards;
mod stream;
mod tools;
