//! Integration tests: one binary, one folder per family.
//!
//! | folder | what its tests use |
//! |---|---|
//! | `data/`    | embedding files, attributes, made-up catalogs |
//! | `index/`   | builds, generations, the folder that holds them |
//! | `search/`  | one query against one index; the engine without a server |
//! | `rules/`   | filters, exclusions, caps, kept places, against a naive oracle |
//! | `live/`    | writes, the log, rebuilds, the quality gate, swaps |
//! | `service/` | a real server and generated clients |
//! | `cli/`     | the real binary |
//! | `harness/` | servers, processes, disks and small indexes that the tests share; no tests |

mod architecture;
mod cli;
mod data;
mod harness;
mod index;
mod live;
mod rules;
mod search;
mod service;
