//! Integration tests: one binary, one folder per family.
//!
//! | folder | what it tests |
//! |---|---|
//! | `data/`    | embedding files, attributes, synthetic catalogs |
//! | `index/`   | builds, generation files, the folder of generations |
//! | `search/`  | one query against one index; the engine without a server |
//! | `rules/`   | filters, exclusions, caps, kept places, against a naive oracle |
//! | `live/`    | writes, the log, rebuilds, the quality gate, swaps |
//! | `architecture/` | imports in the source, and no circles |
//! | `bucket/`  | indexes in buckets |
//! | `docs.rs`   | the documents |
//! | `service/` | a real server and generated clients |
//! | `router/`  | a real router over real servers of shards |
//! | `access/`  | credentials, rights, browsers, encryption, audit |
//! | `cli/`     | the real binary |
//! | `harness/` | shared servers, processes, disks and small indexes; no tests |

mod access;
mod architecture;
#[cfg(feature = "cluster")]
mod bucket;
mod cli;
mod data;
mod docs;
mod harness;
mod index;
mod live;
#[cfg(feature = "cluster")]
mod router;
mod rules;
mod search;
mod service;
