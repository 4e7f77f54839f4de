//! Tests of several processes: real brokers of NATS and a real object store.
//!
//! They need `nats-server` and `weed`, in the folder that SHORTLIST_CLUSTER_TOOLS names or where `.ci/cluster` installs
//! them. Without them, each test says loudly that it was skipped.
//!
//! | file | what it tests |
//! |---|---|
//! | `stream.rs` | engines on one stream, against a ledger |
//! | `faults.rs` | engines on a stream that was lost, replaced, cut or damaged |
//! | `routed.rs` | a router while the index changes |
//! | `chaos.rs`  | a router while processes are killed, against an oracle |
//! | `days.rs`   | a clock that is wrong, a full disk, a replica that does not answer |
//! | `shards.rs` | shards and replicas as processes |
//! | `engines.rs` | engines and logs on one stream; no tests |
//! | `place.rs`  | an index with its servers; no tests |
//! | `oracle.rs` | what an index must answer; no tests |
//! | `nats.rs`   | brokers of NATS; no tests |
//! | `tools.rs`  | programs of others; no tests |

mod chaos;
mod days;
mod engines;
mod faults;
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../it/harness/mod.rs"]
mod harness;
mod nats;
mod oracle;
mod place;
mod routed;
mod shards;
mod stream;
mod tools;
